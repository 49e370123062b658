/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define RFLAGS_INITIAL 0x3202u /* IOPL 3, interrupts on, bit 1 */
#define KERNEL_SIGSET_BYTES 8u /* not sizeof(sigset_t), which is the C library's */

/* In KVM_RUN the thread has all signals blocked that it has outside of it, but ours. */
static gboolean set_run_signals(FerryKvmVcpu *vcpu, GError **error)
{
	guint8 buffer[sizeof(struct kvm_signal_mask) + KERNEL_SIGSET_BYTES] = { 0 };
	const guint64 blocked = ~(1ull << (FERRY_KVM_SIGNAL - 1));
	const guint32 len = KERNEL_SIGSET_BYTES;

	memcpy(buffer, &len, sizeof(len));
	memcpy(buffer + sizeof(struct kvm_signal_mask), &blocked, sizeof(blocked));
	if (ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, buffer) < 0)
		return ferry_kvm_failed(error, FERRY_ERROR_DEVICE, "KVM_SET_SIGNAL_MASK");
	return TRUE;
}

static gboolean create_vcpu(FerryKvmVcpu *vcpu, GError **error)
{
	FerryKvm *kvm = vcpu->kvm;
	void *run;

	vcpu->fd = ioctl(kvm->vm_fd, KVM_CREATE_VCPU, (gulong)vcpu->index);
	if (vcpu->fd < 0)
		return ferry_kvm_failed(error, FERRY_ERROR_NOSUPP, "KVM_CREATE_VCPU");
	run = mmap(NULL, kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (run == MAP_FAILED)
		return ferry_kvm_failed(error, FERRY_ERROR_NOSUPP, "mmap of the vCPU");
	vcpu->run = run;
	/* Before the registers: KVM checks CR4 and EFER against it. */
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, kvm->cpuid) < 0)
		return ferry_kvm_failed(error, FERRY_ERROR_NOSUPP, "KVM_SET_CPUID2");
	return set_run_signals(vcpu, error);
}

gboolean ferry_kvm_vcpu_prepare(FerryMachine *machine, guint index, GError **error)
{
	FerryKvmVcpu *vcpu = &ferry_kvm_of(machine)->vcpu[index];

	if (!vcpu->prepared && vcpu->fd >= 0) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_DEVICE,
			    "KVM: vCPU %u could not be set up before; make the guest anew", index);
		return FALSE;
	}
	if (!vcpu->prepared)
		vcpu->prepared = create_vcpu(vcpu, error);
	return vcpu->prepared;
}

void ferry_kvm_vcpu_free(FerryKvmVcpu *vcpu)
{
	if (vcpu->run)
		munmap(vcpu->run, vcpu->kvm->run_size);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
	g_free(vcpu->state.msrs);
}

static void set_long_mode_cpl3(struct kvm_sregs *sregs)
{
	const struct kvm_segment data = { .limit = 0xffffffff,
					  .selector = 0x2b,
					  .type = 3,
					  .present = 1,
					  .dpl = 3,
					  .db = 1,
					  .s = 1,
					  .g = 1 };

	sregs->cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
	sregs->cr3 = FERRY_AT_PML4;
	sregs->cr4 |= 0x620; /* PAE OSFXSR OSXMMEXCPT */
	sregs->efer = 0x501; /* SCE LME LMA */
	sregs->ds = sregs->es = sregs->ss = sregs->fs = sregs->gs = data;
	sregs->fs.selector = sregs->gs.selector = 0;
	sregs->cs = data;
	sregs->cs.selector = 0x33;
	sregs->cs.type = 0xb;
	sregs->cs.db = 0;
	sregs->cs.l = 1;
	sregs->tr = (struct kvm_segment){
		.base = FERRY_AT_TSS, .limit = 0x68 + 32, .selector = 0x40, .type = 11, .present = 1
	};
}

gboolean ferry_kvm_vcpu_boot(FerryMachine *machine, guint index, const FerryRegisters *registers,
			     GError **error)
{
	FerryKvmVcpu *vcpu = &ferry_kvm_of(machine)->vcpu[index];
	struct kvm_sregs sregs;
	struct kvm_regs regs = {
		.rip = FERRY_AT_PROGRAM,
		.rflags = RFLAGS_INITIAL,
		.rdi = FERRY_AT_MAILBOX + index * FERRY_PAGE_BYTES,
		.rsp = FERRY_AT_STACK + (index + 1) * FERRY_PAGE_BYTES - 8,
		.r15 = registers->progress,
		.r14 = registers->beat,
		.r13 = registers->bursts,
		.r12 = registers->faults,
		.rbx = registers->cookie,
	};

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
		return ferry_kvm_failed(error, FERRY_ERROR_DEVICE, "KVM_GET_SREGS");
	set_long_mode_cpl3(&sregs);
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0)
		return ferry_kvm_failed(error, FERRY_ERROR_NOSUPP, "KVM_SET_SREGS");
	if (ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
		return ferry_kvm_failed(error, FERRY_ERROR_NOSUPP, "KVM_SET_REGS");
	return TRUE;
}

gboolean ferry_kvm_vcpu_registers(FerryMachine *machine, guint index, FerryRegisters *registers,
				  GError **error)
{
	struct kvm_regs regs;

	if (ioctl(ferry_kvm_of(machine)->vcpu[index].fd, KVM_GET_REGS, &regs) < 0)
		return ferry_kvm_failed(error, FERRY_ERROR_DEVICE, "KVM_GET_REGS");
	*registers = (FerryRegisters){ .progress = regs.r15,
				       .beat = regs.r14,
				       .bursts = regs.r13,
				       .faults = regs.r12,
				       .cookie = regs.rbx };
	return TRUE;
}

/* ---- running ---- */

/* The signal that interrupted KVM_RUN is still pending, and would interrupt the next one too. */
static void take_signal(void)
{
	const struct timespec now = { 0 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, FERRY_KVM_SIGNAL);
	while (sigtimedwait(&set, NULL, &now) < 0 && errno == EINTR)
		;
}

static gboolean handle_port(FerryKvmVcpu *vcpu)
{
	FerryMachine *machine = &vcpu->kvm->machine;
	const struct kvm_run *run = vcpu->run;
	guint32 *data = (guint32 *)((guint8 *)vcpu->run + run->io.data_offset);
	gboolean word = run->io.size == sizeof(*data) && run->io.count == 1;

	if (word && run->io.direction == KVM_EXIT_IO_IN && run->io.port == FERRY_PORT_DOORBELL) {
		*data = ferry_machine_doorbell(machine, vcpu->index);
		return TRUE;
	}
	if (word && run->io.direction == KVM_EXIT_IO_OUT && run->io.port == FERRY_PORT_BEAT) {
		ferry_machine_beat(machine, vcpu->index, *data);
		return TRUE;
	}
	ferry_machine_break(machine, "vCPU %u used port 0x%x, which no device has", vcpu->index,
			    run->io.port);
	return FALSE;
}

static gboolean handle_exit(FerryKvmVcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;
	struct kvm_regs regs = { 0 };

	if (run->exit_reason == KVM_EXIT_IO)
		return handle_port(vcpu);
	ioctl(vcpu->fd, KVM_GET_REGS, &regs);
	ferry_machine_break(&vcpu->kvm->machine,
			    "vCPU %u left KVM_RUN with exit reason %u (%s) at 0x%llx", vcpu->index,
			    run->exit_reason,
			    run->exit_reason == KVM_EXIT_SHUTDOWN         ? "triple fault"
			    : run->exit_reason == KVM_EXIT_INTERNAL_ERROR ? "KVM's internal error"
									  : "unexpected",
			    regs.rip);
	return FALSE;
}

/* An IN that was answered completes only on the next entry; without it the destination would do it
 * again. */
static void finish_exit(FerryKvmVcpu *vcpu)
{
	vcpu->run->immediate_exit = 1;
	if (ioctl(vcpu->fd, KVM_RUN, 0) == 0 || errno != EINTR)
		ferry_machine_break(&vcpu->kvm->machine, "vCPU %u: the last KVM_RUN did not end",
				    vcpu->index);
	vcpu->run->immediate_exit = 0;
	take_signal();
}

void ferry_kvm_vcpu_run(gpointer opaque, guint index)
{
	FerryMachine *machine = opaque;
	FerryKvmVcpu *vcpu = &ferry_kvm_of(machine)->vcpu[index];
	gboolean well = TRUE;

	while (well && !ferry_vcpus_stopping(machine->vcpus)) {
		if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
			well = handle_exit(vcpu);
		} else if (errno == EINTR || errno == EAGAIN) {
			take_signal();
		} else {
			ferry_machine_break(machine, "vCPU %u: KVM_RUN: %s", index,
					    g_strerror(errno));
			well = FALSE;
		}
	}
	if (well)
		finish_exit(vcpu);
}
