/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/vmstate.h>

#include "backing.h"
#include "clock.h"

/*
 * The machine below the migration engine: RAM, vCPUs and devices of one reference guest. The KVM
 * and the process machine embed it as their first member. Unless said otherwise functions are for
 * one thread at a time, and the vCPU ops for a machine that is stopped.
 */
typedef struct FerryMachine FerryMachine;

typedef struct {
	const char *name;   /* of the machine in the stream: "ferry-kvm" */
	FerryVcpuOps vcpus; /* their argument is the FerryMachine */
	const FerryVmstate *vcpu_vmstate;
	gpointer (*vcpu_opaque)(FerryMachine *machine, guint vcpu);
	/* Makes sure that the vCPU exists; touches no RAM. */
	gboolean (*vcpu_prepare)(FerryMachine *machine, guint vcpu, GError **error);
	/* Sets a prepared vCPU to the start of the program. */
	gboolean (*vcpu_boot)(FerryMachine *machine, guint vcpu, const FerryRegisters *registers,
			      GError **error);
	gboolean (*vcpu_registers)(FerryMachine *machine, guint vcpu, FerryRegisters *registers,
				   GError **error);
	/* Writes to @ram, a copy of RAM's beginning, what the machine needs there. May be NULL. */
	void (*write_system)(const FerryMachine *machine, guint8 *ram);
	void (*free)(FerryMachine *machine);
} FerryMachineOps;

struct FerryMachine {
	const FerryMachineOps *ops;
	FerryBacking ram; /* owned */
	FerryPlan plan;
	FerryClock clock;
	FerryVcpus *vcpus;
	gboolean running;
	guint arrived;  /* bit n: vCPU n has been booted or loaded */
	gboolean holes; /* RAM is new: zeros need not be written at boot */
	/* Called in a vCPU thread after a store of the monitor's own to RAM; may be NULL. */
	void (*written)(gpointer user, guint64 address, guint64 bytes);
	gpointer written_user;
	GMutex broken_lock;
	char *broken; /* why a vCPU stopped for good, else NULL; under broken_lock */
	struct {      /* the plan as it travels */
		FerryPlan plan;
		guint64 ram_size;
	} arriving;
};

/* Makes a machine without a guest; takes @ram on success. FERRY_ERROR_NOSUPP where KVM lacks. */
FerryMachine *ferry_machine_new_process(const FerryBacking *ram, const FerryPlan *plan);
FerryMachine *ferry_machine_new_kvm(const FerryBacking *ram, const FerryPlan *plan, GError **error);

/* Runs the program on a KVM machine of its own for about 10 ms; FERRY_ERROR_NOSUPP if it fails. */
gboolean ferry_kvm_probe(GError **error);

/* The VM's file descriptor of a KVM machine; borrowed. -1 of any other. */
int ferry_machine_kvm_fd(const FerryMachine *machine);

/* For the two constructors: sets the common part up and takes @ram. */
void ferry_machine_init(FerryMachine *machine, const FerryMachineOps *ops, const FerryBacking *ram,
			const FerryPlan *plan);

/* Stops, unmaps RAM, frees. NULL is allowed. */
void ferry_machine_free(FerryMachine *machine);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryMachine, ferry_machine_free)

/* Puts a fresh guest in: fills RAM, sets every vCPU to the start of the program. */
gboolean ferry_machine_boot(FerryMachine *machine, GError **error);

/* Registers the plan, the clock, and every vCPU that there may be. Loading brings a guest in. */
gboolean ferry_machine_register(FerryMachine *machine, FerryDevices *devices, GError **error);

/* FALSE while an incoming guest is not here with all its vCPUs. */
gboolean ferry_machine_has_guest(const FerryMachine *machine);

/* FERRY_ERROR_STATE without a guest, FERRY_ERROR_DEVICE if a vCPU is broken. */
gboolean ferry_machine_start(FerryMachine *machine, GError **error);
/* When it returns nothing writes RAM. */
void ferry_machine_stop(FerryMachine *machine);

/* ---- for vCPU threads ---- */

/* The clock device's two ports; the first also stores to the mailbox. */
guint32 ferry_machine_doorbell(FerryMachine *machine, guint vcpu);
void ferry_machine_beat(FerryMachine *machine, guint vcpu, guint32 value);

/* Records why the vCPU cannot go on. The first reason stays. */
void ferry_machine_break(FerryMachine *machine, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* ---- RAM ---- */

/* In RAM, or in a copy of its beginning. */
static inline FerryMailbox *ferry_machine_mailbox(guint8 *ram, guint vcpu)
{
	return (FerryMailbox *)(ram + FERRY_AT_MAILBOX + vcpu * FERRY_PAGE_BYTES);
}

/* Writes the first @size bytes that RAM of sequence 0 holds for the machine's plan to @to. */
void ferry_machine_fill(const FerryMachine *machine, guint8 *to, guint64 size);

/* Puts mailboxes and write_system() over a filled beginning of RAM: then it is a fresh guest's. */
void ferry_machine_write_system(const FerryMachine *machine, guint8 *ram);
