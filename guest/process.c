/* SPDX-License-Identifier: BSD-2-Clause */
#include "machine.h"

/*
 * The process machine: vCPUs are threads of this process that run the program of program.h in C. All that a
 * vCPU knows is in this struct, so that it can be handed over. A vCPU stops between pages.
 */
typedef struct {
	FerryMachine *machine;
	guint index;
	FerryRegisters registers;
	guint32 left; /* pages granted and not yet written */
} ProcessVcpu;

typedef struct {
	FerryMachine machine;
	ProcessVcpu vcpu[FERRY_VCPUS_MAX];
} ProcessMachine;

/* The slice comes from the plan, never from RAM: RAM is the peer's word, and this is no sandbox. */
FERRY_PAGE_RACY static void write_page(ProcessVcpu *vcpu, const FerrySlice *slice)
{
	guint8 *ram = vcpu->machine->ram.host;
	FerryRegisters *regs = &vcpu->registers;
	const guint64 sequence = regs->progress / slice->pages;
	const guint64 address =
		ferry_slice_address(slice, sequence, regs->progress % slice->pages);
	uint64_t *page = (uint64_t *)(ram + address);
	FerryPageText text = ferry_slice_text(slice, address, sequence);

	if (ferry_page_match(page, &text) != FERRY_PAGE_WORDS) {
		volatile FerryMailbox *box = ferry_machine_mailbox(ram, vcpu->index);

		box->fault_address = address;
		box->fault_sequence = sequence;
		regs->faults++;
	}
	text = ferry_slice_text(slice, address, sequence + 1);
	ferry_page_write(page, &text);
	regs->progress++;
}

FERRY_PAGE_RACY static void ring_doorbell(ProcessVcpu *vcpu)
{
	FerryMachine *machine = vcpu->machine;
	volatile FerryMailbox *box = ferry_machine_mailbox(machine->ram.host, vcpu->index);
	FerryRegisters *regs = &vcpu->registers;
	guint32 answer = ferry_machine_doorbell(machine, vcpu->index);

	regs->bursts++;
	if (regs->cookie != box->cookie || regs->bursts != box->device_bursts ||
	    regs->beat != box->beat)
		regs->faults++;
	if (answer & FERRY_DOORBELL_BEAT) {
		box->beat = ++regs->beat;
		ferry_machine_beat(machine, vcpu->index, (guint32)regs->beat);
	}
	vcpu->left = answer & FERRY_DOORBELL_PAGES;
}

static void process_run(gpointer opaque, guint index)
{
	FerryMachine *machine = opaque;
	ProcessVcpu *vcpu = &((ProcessMachine *)machine)->vcpu[index];
	const FerrySlice slice = ferry_plan_slice(&machine->plan, machine->ram.size, index);

	while (!ferry_vcpus_stopping(machine->vcpus)) {
		if (!vcpu->left || !slice.pages) {
			ring_doorbell(vcpu);
			continue;
		}
		write_page(vcpu, &slice);
		vcpu->left--;
	}
}

static gpointer process_vcpu_opaque(FerryMachine *machine, guint index)
{
	return &((ProcessMachine *)machine)->vcpu[index];
}

static gboolean process_vcpu_prepare(FerryMachine *machine, guint index, GError **error)
{
	return TRUE;
}

static gboolean process_vcpu_boot(FerryMachine *machine, guint index,
				  const FerryRegisters *registers, GError **error)
{
	ProcessVcpu *vcpu = process_vcpu_opaque(machine, index);

	vcpu->registers = *registers;
	vcpu->left = 0;
	return TRUE;
}

static gboolean process_vcpu_registers(FerryMachine *machine, guint index,
				       FerryRegisters *registers, GError **error)
{
	*registers = ((ProcessMachine *)machine)->vcpu[index].registers;
	return TRUE;
}

static void process_free(FerryMachine *machine)
{
	g_free(machine);
}

/* ---- device state ---- */

static const FerryVmstate registers_vmstate = {
	.name = "ferry-process-vcpu/registers",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = (const FerryVmstateField[]){
		FERRY_VMSTATE_UINT64(FerryRegisters, progress),
		FERRY_VMSTATE_UINT64(FerryRegisters, beat),
		FERRY_VMSTATE_UINT64(FerryRegisters, bursts),
		FERRY_VMSTATE_UINT64(FerryRegisters, cookie),
		FERRY_VMSTATE_END,
	},
};

static gboolean has_faults(gconstpointer opaque)
{
	return ((const ProcessVcpu *)opaque)->registers.faults != 0;
}

static const FerryVmstate faults_vmstate = {
	.name = "ferry-process-vcpu/faults",
	.version_id = 1,
	.minimum_version_id = 1,
	.needed = has_faults,
	.fields = (const FerryVmstateField[]){
		FERRY_VMSTATE_UINT64(ProcessVcpu, registers.faults),
		FERRY_VMSTATE_END,
	},
};

static gboolean vcpu_exists(gconstpointer opaque)
{
	const ProcessVcpu *vcpu = opaque;

	return vcpu->index < vcpu->machine->plan.vcpus;
}

static gboolean clear_vcpu(gpointer opaque, GError **error)
{
	ProcessVcpu *vcpu = opaque;

	vcpu->registers.faults = 0;
	vcpu->left = 0;
	return TRUE;
}

static gboolean take_vcpu(gpointer opaque, guint32 version_id, GError **error)
{
	ProcessVcpu *vcpu = opaque;

	vcpu->machine->arrived |= 1u << vcpu->index;
	return TRUE;
}

/* Version 2 added @left: a guest of version 1 finished its burst before it stopped. */
static const FerryVmstate process_vcpu_vmstate = {
	.name = "ferry-process-vcpu",
	.version_id = 2,
	.minimum_version_id = 1,
	.needed = vcpu_exists,
	.pre_load = clear_vcpu,
	.post_load = take_vcpu,
	.fields = (const FerryVmstateField[]){
		FERRY_VMSTATE_NESTED(ProcessVcpu, registers, FerryRegisters, &registers_vmstate),
		FERRY_VMSTATE_UINT32_V(ProcessVcpu, left, 2),
		FERRY_VMSTATE_END,
	},
	.subsections = (const FerryVmstate *const[]){ &faults_vmstate, NULL },
};

static const FerryMachineOps process_ops = {
	.name = "ferry-process",
	.vcpus = { .run = process_run },
	.vcpu_vmstate = &process_vcpu_vmstate,
	.vcpu_opaque = process_vcpu_opaque,
	.vcpu_prepare = process_vcpu_prepare,
	.vcpu_boot = process_vcpu_boot,
	.vcpu_registers = process_vcpu_registers,
	.free = process_free,
};

FerryMachine *ferry_machine_new_process(const FerryBacking *ram, const FerryPlan *plan)
{
	ProcessMachine *process = g_new0(ProcessMachine, 1);

	for (guint i = 0; i < FERRY_VCPUS_MAX; i++) {
		process->vcpu[i].machine = &process->machine;
		process->vcpu[i].index = i;
	}
	ferry_machine_init(&process->machine, &process_ops, ram, plan);
	return &process->machine;
}
