/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <linux/kvm.h>
#include <signal.h>

#include "machine.h"

/*
 * The KVM machine: one slot of RAM from guest-physical 0, vCPUs in 64-bit long mode at CPL 3 from
 * the first instruction on: the one mode that every kind of KVM runs natively. No interrupts, no
 * in-kernel irqchip.
 *
 * To stop a vCPU its thread is sent SIGUSR1, which the thread blocks but for the time inside
 * KVM_RUN: it is never delivered, no handler is installed, and the embedder's own use of the signal
 * is not disturbed.
 */
#define FERRY_KVM_SIGNAL SIGUSR1
#define FERRY_KVM_MSRS_MAX 256u

typedef struct {
	guint32 index;
	guint64 value;
} FerryKvmMsr;

typedef struct {
	guint64 base;
	guint32 limit;
	guint16 selector;
	guint8 type, present, dpl, db, s, l, g, avl, unusable;
} FerryKvmSegment;

typedef struct {
	guint64 base;
	guint16 limit;
} FerryKvmTable;

/* In the order of struct kvm_regs, which it is copied to and from. */
typedef struct {
	guint64 rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
	guint64 r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags;
} FerryKvmRegs;

/* cs ds es fs gs ss tr ldt */
#define FERRY_KVM_SEGMENTS 8u

typedef struct {
	FerryKvmSegment segments[FERRY_KVM_SEGMENTS];
	FerryKvmTable gdt, idt;
	guint64 cr0, cr2, cr3, cr4, cr8, efer, apic_base;
	guint64 interrupts[4];
} FerryKvmSregs;

typedef struct {
	guint64 db[4];
	guint64 dr6, dr7, flags;
} FerryKvmDebug;

/* A vCPU's state as it travels; valid between a save or load and the callback around it. */
typedef struct {
	FerryKvmRegs regs;
	FerryKvmSregs sregs;
	FerryKvmDebug debug;
	guint8 xsave[4096]; /* struct kvm_xsave: the layout of the XSAVE instruction */
	guint8 events[64];  /* struct kvm_vcpu_events: fixed by KVM's ABI */
	guint32 mp_state;
	guint32 n_msrs;
	FerryKvmMsr *msrs; /* FERRY_KVM_MSRS_MAX of them */
	gboolean has_xcr0;
	guint64 xcr0;
	guint32 tsc_khz; /* 0: not known */
} FerryKvmState;

typedef struct FerryKvm FerryKvm;

typedef struct {
	FerryKvm *kvm;
	guint index;
	int fd; /* -1 until it is prepared */
	struct kvm_run *run;
	gboolean prepared;
	FerryKvmState state;
} FerryKvmVcpu;

struct FerryKvm {
	FerryMachine machine;
	int kvm_fd, vm_fd;
	gsize run_size;           /* bytes of the mapping behind FerryKvmVcpu.run */
	struct kvm_cpuid2 *cpuid; /* what the host's KVM supports */
	FerryKvmVcpu vcpu[FERRY_VCPUS_MAX];
};

extern const FerryVmstate ferry_kvm_vcpu_vmstate;

static inline FerryKvm *ferry_kvm_of(FerryMachine *machine)
{
	return (FerryKvm *)machine;
}

/* Sets @error from errno: "KVM: @call: ..."; returns FALSE. */
gboolean ferry_kvm_failed(GError **error, FerryErrorCode code, const char *call);

/* The vCPU ops of FerryMachineOps. */
gboolean ferry_kvm_vcpu_prepare(FerryMachine *machine, guint index, GError **error);
gboolean ferry_kvm_vcpu_boot(FerryMachine *machine, guint index, const FerryRegisters *registers,
			     GError **error);
gboolean ferry_kvm_vcpu_registers(FerryMachine *machine, guint index, FerryRegisters *registers,
				  GError **error);
void ferry_kvm_vcpu_run(gpointer machine, guint index);
void ferry_kvm_vcpu_free(FerryKvmVcpu *vcpu);
