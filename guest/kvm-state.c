/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm.h"

#include <string.h>
#include <sys/ioctl.h>

G_STATIC_ASSERT(sizeof(FerryKvmRegs) == sizeof(struct kvm_regs));
G_STATIC_ASSERT(sizeof(((FerryKvmState *)0)->xsave) == sizeof(struct kvm_xsave));
G_STATIC_ASSERT(sizeof(((FerryKvmState *)0)->events) == sizeof(struct kvm_vcpu_events));

/* One ioctl of the vCPU that must work. */
static gboolean call(FerryKvmVcpu *vcpu, gulong request, const char *name, void *argument,
		     GError **error)
{
	if (ioctl(vcpu->fd, request, argument) < 0)
		return ferry_kvm_failed(error, FERRY_ERROR_DEVICE, name);
	return TRUE;
}
#define CALL(vcpu, request, argument, error) call(vcpu, request, #request, argument, error)

/* ---- segments ---- */

static FerryKvmSegment segment_from_kvm(const struct kvm_segment *s)
{
	return (FerryKvmSegment){ .base = s->base,
				  .limit = s->limit,
				  .selector = s->selector,
				  .type = s->type,
				  .present = s->present,
				  .dpl = s->dpl,
				  .db = s->db,
				  .s = s->s,
				  .l = s->l,
				  .g = s->g,
				  .avl = s->avl,
				  .unusable = s->unusable };
}

static struct kvm_segment segment_to_kvm(const FerryKvmSegment *s)
{
	return (struct kvm_segment){ .base = s->base,
				     .limit = s->limit,
				     .selector = s->selector,
				     .type = s->type,
				     .present = s->present,
				     .dpl = s->dpl,
				     .db = s->db,
				     .s = s->s,
				     .l = s->l,
				     .g = s->g,
				     .avl = s->avl,
				     .unusable = s->unusable };
}

/* The segments in the order of FerryKvmSregs.segments. */
static void list_segments(struct kvm_sregs *k, struct kvm_segment *list[FERRY_KVM_SEGMENTS])
{
	struct kvm_segment *all[] = { &k->cs, &k->ds, &k->es, &k->fs,
				      &k->gs, &k->ss, &k->tr, &k->ldt };

	memcpy(list, all, sizeof(all));
}

static gboolean get_sregs(FerryKvmVcpu *vcpu, GError **error)
{
	FerryKvmSregs *s = &vcpu->state.sregs;
	struct kvm_segment *list[FERRY_KVM_SEGMENTS];
	struct kvm_sregs k;

	if (!CALL(vcpu, KVM_GET_SREGS, &k, error))
		return FALSE;
	list_segments(&k, list);
	for (guint i = 0; i < FERRY_KVM_SEGMENTS; i++)
		s->segments[i] = segment_from_kvm(list[i]);
	s->gdt = (FerryKvmTable){ k.gdt.base, k.gdt.limit };
	s->idt = (FerryKvmTable){ k.idt.base, k.idt.limit };
	s->cr0 = k.cr0;
	s->cr2 = k.cr2;
	s->cr3 = k.cr3;
	s->cr4 = k.cr4;
	s->cr8 = k.cr8;
	s->efer = k.efer;
	s->apic_base = k.apic_base;
	memcpy(s->interrupts, k.interrupt_bitmap, sizeof(s->interrupts));
	return TRUE;
}

static gboolean set_sregs(FerryKvmVcpu *vcpu, GError **error)
{
	const FerryKvmSregs *s = &vcpu->state.sregs;
	struct kvm_segment *list[FERRY_KVM_SEGMENTS];
	struct kvm_sregs k = { 0 };

	list_segments(&k, list);
	for (guint i = 0; i < FERRY_KVM_SEGMENTS; i++)
		*list[i] = segment_to_kvm(&s->segments[i]);
	k.gdt = (struct kvm_dtable){ .base = s->gdt.base, .limit = s->gdt.limit };
	k.idt = (struct kvm_dtable){ .base = s->idt.base, .limit = s->idt.limit };
	k.cr0 = s->cr0;
	k.cr2 = s->cr2;
	k.cr3 = s->cr3;
	k.cr4 = s->cr4;
	k.cr8 = s->cr8;
	k.efer = s->efer;
	k.apic_base = s->apic_base;
	memcpy(k.interrupt_bitmap, s->interrupts, sizeof(s->interrupts));
	return CALL(vcpu, KVM_SET_SREGS, &k, error);
}

/* ---- model-specific registers: one by one, since a batch ends at the first refusal ---- */

typedef struct {
	struct kvm_msrs head;
	struct kvm_msr_entry entry;
} OneMsr;

static gboolean get_msrs(FerryKvmVcpu *vcpu, GError **error)
{
	FerryKvmState *state = &vcpu->state;
	g_autofree struct kvm_msr_list *list = g_malloc0(
		sizeof(*list) + FERRY_KVM_MSRS_MAX * sizeof(list->indices[0]));

	list->nmsrs = FERRY_KVM_MSRS_MAX;
	if (ioctl(vcpu->kvm->kvm_fd, KVM_GET_MSR_INDEX_LIST, list) < 0)
		return ferry_kvm_failed(error, FERRY_ERROR_DEVICE, "KVM_GET_MSR_INDEX_LIST");
	state->n_msrs = 0;
	for (guint i = 0; i < list->nmsrs; i++) {
		OneMsr one = { .head.nmsrs = 1, .entry.index = list->indices[i] };

		if (ioctl(vcpu->fd, KVM_GET_MSRS, &one) == 1)
			state->msrs[state->n_msrs++] = (FerryKvmMsr){ one.entry.index,
								      one.entry.data };
	}
	return TRUE;
}

/* Some are refused even with the value that was read: those of features that the vCPU does not
 * have. */
static void set_msrs(FerryKvmVcpu *vcpu)
{
	for (guint i = 0; i < vcpu->state.n_msrs; i++) {
		const FerryKvmMsr *msr = &vcpu->state.msrs[i];
		OneMsr one = { .head.nmsrs = 1,
			       .entry = { .index = msr->index, .data = msr->value } };

		ioctl(vcpu->fd, KVM_SET_MSRS, &one);
	}
}

/* ---- the rest ---- */

static gboolean uses_xcrs(const FerryKvmVcpu *vcpu)
{
	return ioctl(vcpu->kvm->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XCRS) > 0;
}

static gboolean get_xcr0(FerryKvmVcpu *vcpu, GError **error)
{
	struct kvm_xcrs xcrs = { 0 };

	vcpu->state.has_xcr0 = FALSE;
	if (!uses_xcrs(vcpu))
		return TRUE;
	if (!CALL(vcpu, KVM_GET_XCRS, &xcrs, error))
		return FALSE;
	vcpu->state.has_xcr0 = xcrs.nr_xcrs > 0;
	vcpu->state.xcr0 = xcrs.xcrs[0].value;
	return TRUE;
}

/* A host without it runs the guest all the same as long as only x87 and SSE are on, as they always
 * are. */
static gboolean set_xcr0(FerryKvmVcpu *vcpu, GError **error)
{
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0].value = vcpu->state.xcr0 };

	if (!vcpu->state.has_xcr0 || (!uses_xcrs(vcpu) && vcpu->state.xcr0 <= 3))
		return TRUE;
	return CALL(vcpu, KVM_SET_XCRS, &xcrs, error);
}

static gboolean get_debug(FerryKvmVcpu *vcpu, GError **error)
{
	struct kvm_debugregs k = { 0 };

	if (!CALL(vcpu, KVM_GET_DEBUGREGS, &k, error))
		return FALSE;
	vcpu->state.debug = (FerryKvmDebug){ .dr6 = k.dr6, .dr7 = k.dr7, .flags = k.flags };
	memcpy(vcpu->state.debug.db, k.db, sizeof(k.db));
	return TRUE;
}

static gboolean set_debug(FerryKvmVcpu *vcpu, GError **error)
{
	const FerryKvmDebug *d = &vcpu->state.debug;
	struct kvm_debugregs k = { .dr6 = d->dr6, .dr7 = d->dr7, .flags = d->flags };

	memcpy(k.db, d->db, sizeof(k.db));
	return CALL(vcpu, KVM_SET_DEBUGREGS, &k, error);
}

static gboolean save_state(gpointer opaque, GError **error)
{
	FerryKvmVcpu *vcpu = opaque;
	FerryKvmState *state = &vcpu->state;
	struct kvm_mp_state mp = { 0 };
	int khz;

	if (!CALL(vcpu, KVM_GET_REGS, &state->regs, error) || !get_sregs(vcpu, error) ||
	    !get_xcr0(vcpu, error) || !CALL(vcpu, KVM_GET_XSAVE, state->xsave, error) ||
	    !get_msrs(vcpu, error) || !get_debug(vcpu, error) ||
	    !CALL(vcpu, KVM_GET_VCPU_EVENTS, state->events, error) ||
	    !CALL(vcpu, KVM_GET_MP_STATE, &mp, error))
		return FALSE;
	state->mp_state = mp.mp_state;
	khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
	state->tsc_khz = khz > 0 ? (guint32)khz : 0;
	return TRUE;
}

static gboolean prepare_load(gpointer opaque, GError **error)
{
	FerryKvmVcpu *vcpu = opaque;

	vcpu->state.has_xcr0 = FALSE;
	vcpu->state.tsc_khz = 0;
	return ferry_kvm_vcpu_prepare(&vcpu->kvm->machine, vcpu->index, error);
}

static gboolean load_state(gpointer opaque, guint32 version_id, GError **error)
{
	FerryKvmVcpu *vcpu = opaque;
	FerryKvmState *state = &vcpu->state;
	struct kvm_mp_state mp = { .mp_state = state->mp_state };

	/* Scaling of the time stamp counter is not everywhere to be had; the guest does not use it.
	 */
	if (state->tsc_khz)
		ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (gulong)state->tsc_khz);
	if (!set_sregs(vcpu, error) || !CALL(vcpu, KVM_SET_REGS, &state->regs, error) ||
	    !set_xcr0(vcpu, error) || !CALL(vcpu, KVM_SET_XSAVE, state->xsave, error))
		return FALSE;
	set_msrs(vcpu);
	if (!set_debug(vcpu, error) || !CALL(vcpu, KVM_SET_VCPU_EVENTS, state->events, error) ||
	    !CALL(vcpu, KVM_SET_MP_STATE, &mp, error))
		return FALSE;
	vcpu->kvm->machine.arrived |= 1u << vcpu->index;
	return TRUE;
}

/* ---- descriptions ---- */

#define REG(name) FERRY_VMSTATE_UINT64(FerryKvmRegs, name)
static const FerryVmstate regs_vmstate = {
	.name = "ferry-kvm-vcpu/regs",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields =
		(const FerryVmstateField[]){
			REG(rax), REG(rbx), REG(rcx),    REG(rdx),          REG(rsi),
			REG(rdi), REG(rsp), REG(rbp),    REG(r8),           REG(r9),
			REG(r10), REG(r11), REG(r12),    REG(r13),          REG(r14),
			REG(r15), REG(rip), REG(rflags), FERRY_VMSTATE_END,
		},
};

#define BYTE(name) FERRY_VMSTATE_UINT8(FerryKvmSegment, name)
static const FerryVmstate segment_vmstate = {
	.name = "ferry-kvm-vcpu/segment",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields =
		(const FerryVmstateField[]){
			FERRY_VMSTATE_UINT64(FerryKvmSegment, base),
			FERRY_VMSTATE_UINT32(FerryKvmSegment, limit),
			FERRY_VMSTATE_UINT16(FerryKvmSegment, selector),
			BYTE(type),
			BYTE(present),
			BYTE(dpl),
			BYTE(db),
			BYTE(s),
			BYTE(l),
			BYTE(g),
			BYTE(avl),
			BYTE(unusable),
			FERRY_VMSTATE_END,
		},
};

static const FerryVmstate table_vmstate = {
	.name = "ferry-kvm-vcpu/table",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields =
		(const FerryVmstateField[]){
			FERRY_VMSTATE_UINT64(FerryKvmTable, base),
			FERRY_VMSTATE_UINT16(FerryKvmTable, limit),
			FERRY_VMSTATE_END,
		},
};

#define SREG(name) FERRY_VMSTATE_UINT64(FerryKvmSregs, name)
static const FerryVmstate sregs_vmstate = {
	.name = "ferry-kvm-vcpu/sregs",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields =
		(const FerryVmstateField[]){
			FERRY_VMSTATE_NESTED_ARRAY(FerryKvmSregs, segments, FERRY_KVM_SEGMENTS,
						   FerryKvmSegment, &segment_vmstate),
			FERRY_VMSTATE_NESTED(FerryKvmSregs, gdt, FerryKvmTable, &table_vmstate),
			FERRY_VMSTATE_NESTED(FerryKvmSregs, idt, FerryKvmTable, &table_vmstate),
			SREG(cr0),
			SREG(cr2),
			SREG(cr3),
			SREG(cr4),
			SREG(cr8),
			SREG(efer),
			SREG(apic_base),
			FERRY_VMSTATE_ARRAY_OF(FERRY_VMSTATE_U64, guint64, FerryKvmSregs,
					       interrupts, 4),
			FERRY_VMSTATE_END,
		},
};

static const FerryVmstate debug_vmstate = {
	.name = "ferry-kvm-vcpu/debug",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields =
		(const FerryVmstateField[]){
			FERRY_VMSTATE_ARRAY_OF(FERRY_VMSTATE_U64, guint64, FerryKvmDebug, db, 4),
			FERRY_VMSTATE_UINT64(FerryKvmDebug, dr6),
			FERRY_VMSTATE_UINT64(FerryKvmDebug, dr7),
			FERRY_VMSTATE_UINT64(FerryKvmDebug, flags),
			FERRY_VMSTATE_END,
		},
};

static const FerryVmstate msr_vmstate = {
	.name = "ferry-kvm-vcpu/msr",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields =
		(const FerryVmstateField[]){
			FERRY_VMSTATE_UINT32(FerryKvmMsr, index),
			FERRY_VMSTATE_UINT64(FerryKvmMsr, value),
			FERRY_VMSTATE_END,
		},
};

static gboolean has_xcr0(gconstpointer opaque)
{
	return ((const FerryKvmVcpu *)opaque)->state.has_xcr0;
}

static gboolean take_xcr0(gpointer opaque, guint32 version_id, GError **error)
{
	((FerryKvmVcpu *)opaque)->state.has_xcr0 = TRUE;
	return TRUE;
}

static const FerryVmstate xcr0_vmstate = {
	.name = "ferry-kvm-vcpu/xcr0",
	.version_id = 1,
	.minimum_version_id = 1,
	.needed = has_xcr0,
	.post_load = take_xcr0,
	.fields =
		(const FerryVmstateField[]){
			FERRY_VMSTATE_UINT64(FerryKvmVcpu, state.xcr0),
			FERRY_VMSTATE_END,
		},
};

static gboolean vcpu_exists(gconstpointer opaque)
{
	const FerryKvmVcpu *vcpu = opaque;

	return vcpu->index < vcpu->kvm->machine.plan.vcpus;
}

/* Version 2 added @tsc_khz. */
const FerryVmstate ferry_kvm_vcpu_vmstate = {
	.name = "ferry-kvm-vcpu",
	.version_id = 2,
	.minimum_version_id = 1,
	.needed = vcpu_exists,
	.pre_save = save_state,
	.pre_load = prepare_load,
	.post_load = load_state,
	.fields =
		(const FerryVmstateField[]){
			FERRY_VMSTATE_NESTED(FerryKvmVcpu, state.regs, FerryKvmRegs, &regs_vmstate),
			FERRY_VMSTATE_NESTED(FerryKvmVcpu, state.sregs, FerryKvmSregs,
					     &sregs_vmstate),
			FERRY_VMSTATE_NESTED(FerryKvmVcpu, state.debug, FerryKvmDebug,
					     &debug_vmstate),
			FERRY_VMSTATE_BYTES(FerryKvmVcpu, state.xsave),
			FERRY_VMSTATE_BYTES(FerryKvmVcpu, state.events),
			FERRY_VMSTATE_UINT32(FerryKvmVcpu, state.mp_state),
			FERRY_VMSTATE_UINT32(FerryKvmVcpu, state.n_msrs),
			{ .name = "msrs",
			  .kind = FERRY_VMSTATE_STRUCT,
			  .shape = FERRY_VMSTATE_VARRAY,
			  .offset = offsetof(FerryKvmVcpu, state.msrs),
			  .size = sizeof(FerryKvmMsr),
			  .count = FERRY_KVM_MSRS_MAX,
			  .count_offset = offsetof(FerryKvmVcpu, state.n_msrs),
			  .count_size = sizeof(guint32),
			  .vmstate = &msr_vmstate },
			FERRY_VMSTATE_UINT32_V(FerryKvmVcpu, state.tsc_khz, 2),
			FERRY_VMSTATE_END,
		},
	.subsections = (const FerryVmstate *const[]){ &xcr0_vmstate, NULL },
};
