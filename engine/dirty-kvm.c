/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/dirty.h>

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

typedef struct {
	FerryDirtySource base;
	const FerryRam *ram; /* NULL when not started */
	int vm_fd;           /* borrowed */
	guint n_slots;
	FerryKvmSlot *slots;
	guint64 *log; /* room for the largest slot */
} KvmLog;

static int set_flags(const KvmLog *s, const FerryKvmSlot *slot, const FerryRam *ram, guint32 flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot->slot,
		.flags = flags,
		.guest_phys_addr = slot->guest_addr,
		.memory_size = slot->size,
		.userspace_addr = (guintptr)ram->blocks[slot->block].host + slot->offset,
	};

	return ioctl(s->vm_fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static gboolean fits(const FerryKvmSlot *slot, const FerryRam *ram)
{
	const guint64 size = slot->block < ram->n_blocks ? ram->blocks[slot->block].size : 0;

	return slot->size && slot->offset <= size && slot->size <= size - slot->offset;
}

static gboolean start_slot(const KvmLog *s, const FerryKvmSlot *slot, const FerryRam *ram,
			   GError **error)
{
	if (!fits(slot, ram)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "KVM slot %u: offset 0x%" G_GINT64_MODIFIER
			    "x, size 0x%" G_GINT64_MODIFIER
			    "x is not within RAM block number %u; describe the slot as KVM has it",
			    slot->slot, slot->offset, slot->size, slot->block);
		return FALSE;
	}
	if (set_flags(s, slot, ram, KVM_MEM_LOG_DIRTY_PAGES) == 0)
		return TRUE;
	g_set_error(error, FERRY_ERROR, errno == EINVAL ? FERRY_ERROR_INVALID : FERRY_ERROR_IO,
		    "KVM slot %u at guest address 0x%" G_GINT64_MODIFIER
		    "x: cannot turn the dirty log on: %s; describe the slot as KVM has it",
		    slot->slot, slot->guest_addr, g_strerror(errno));
	return FALSE;
}

static void stop_slots(const KvmLog *s, const FerryRam *ram, guint n)
{
	for (guint i = 0; i < n; i++)
		set_flags(s, &s->slots[i], ram, 0);
}

static gboolean kvm_log_start(FerryDirtySource *source, const FerryRam *ram, GError **error)
{
	KvmLog *s = (KvmLog *)source;

	for (guint i = 0; i < s->n_slots; i++)
		if (!start_slot(s, &s->slots[i], ram, error)) {
			stop_slots(s, ram, i);
			return FALSE;
		}
	s->ram = ram;
	return TRUE;
}

/* ORs the first @pages bits of @log into @bitmap from bit @first on. */
static void or_bits(guint64 *bitmap, guint64 first, const guint64 *log, guint64 pages)
{
	guint shift = first % 64;

	bitmap += first / 64;
	for (guint64 w = 0; w * 64 < pages; w++) {
		if (!log[w])
			continue;
		bitmap[w] |= log[w] << shift;
		if (shift && log[w] >> (64 - shift))
			bitmap[w + 1] |= log[w] >> (64 - shift);
	}
}

static gboolean collect_slot(const KvmLog *s, const FerryKvmSlot *slot, guint64 *bitmap,
			     GError **error)
{
	guint64 pages = slot->size >> FERRY_PAGE_SHIFT;
	struct kvm_dirty_log arg = { .slot = slot->slot, .dirty_bitmap = s->log };

	memset(s->log, 0, (pages + 63) / 64 * sizeof(guint64));
	if (ioctl(s->vm_fd, KVM_GET_DIRTY_LOG, &arg) < 0) {
		g_set_error(
			error, FERRY_ERROR, FERRY_ERROR_IO,
			"KVM_GET_DIRTY_LOG of slot %u: %s; leave the slot and its flags alone while "
			"it is tracked, and use no dirty ring beside it",
			slot->slot, g_strerror(errno));
		return FALSE;
	}
	or_bits(bitmap, slot->offset >> FERRY_PAGE_SHIFT, s->log, pages);
	return TRUE;
}

static gboolean kvm_log_collect(FerryDirtySource *source, guint block, guint64 *bitmap,
				GError **error)
{
	const KvmLog *s = (const KvmLog *)source;

	for (guint i = 0; i < s->n_slots; i++)
		if (s->slots[i].block == block && !collect_slot(s, &s->slots[i], bitmap, error))
			return FALSE;
	return TRUE;
}

static void kvm_log_stop(FerryDirtySource *source)
{
	KvmLog *s = (KvmLog *)source;

	if (s->ram)
		stop_slots(s, s->ram, s->n_slots);
	s->ram = NULL;
}

static void kvm_log_free(FerryDirtySource *source)
{
	KvmLog *s = (KvmLog *)source;

	g_free(s->log);
	g_free(s->slots);
	g_free(s);
}

static const FerryDirtySourceOps kvm_log_ops = {
	.name = "kvm-log",
	.start = kvm_log_start,
	.collect = kvm_log_collect,
	.stop = kvm_log_stop,
	.free = kvm_log_free,
};

FerryDirtySource *ferry_dirty_source_kvm_log(int vm_fd, const FerryKvmSlot *slots, guint n_slots,
					     GError **error)
{
	guint64 largest = 0;
	KvmLog *s;

	for (guint i = 0; i < n_slots; i++) {
		if ((slots[i].guest_addr | slots[i].offset | slots[i].size) % FERRY_PAGE_SIZE) {
			g_set_error(
				error, FERRY_ERROR, FERRY_ERROR_INVALID,
				"KVM slot %u: guest address, offset and size must be multiples of %u",
				slots[i].slot, FERRY_PAGE_SIZE);
			return NULL;
		}
		largest = MAX(largest, slots[i].size);
	}
	s = g_new0(KvmLog, 1);
	s->base.ops = &kvm_log_ops;
	s->vm_fd = vm_fd;
	s->n_slots = n_slots;
	s->slots = g_memdup2(slots, n_slots * sizeof(*slots));
	s->log = g_new(guint64, (largest / FERRY_PAGE_SIZE + 63) / 64);
	return &s->base;
}
