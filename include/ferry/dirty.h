/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>

G_BEGIN_DECLS

/*
 * Where dirty pages come from. One object serves one migration at a time: start, any number of
 * collects, stop; then it may start again. The engine calls from its migration thread, but for
 * start(), which a helper of that thread's makes while a connection is set up; never two at once.
 *
 * Order matters and the engine keeps it: collect (fetch and clear, atomically per page) first, then
 * read the pages. A page written while it is read is torn, and right only because it is dirty
 * again.
 *
 * Which writes are seen (measured; "mapping" is the one given to ferry_ram_add()):
 *
 *   source       guest stores  monitor stores   read(2) into  second mapping,  NIC
 *                              to the mapping   the mapping   pwrite(memfd)
 *   wp-async     yes           yes              yes           no               no
 *   wp-fault     yes           yes              yes           no               no
 *   soft-dirty   yes           yes              yes           no               no
 *   kvm-log      yes           no               no            no               no
 *   callback     whatever the embedder reports
 *
 * What a source does not see the embedder reports with ferry_vm_mark_dirty().
 */
typedef struct FerryDirtySource FerryDirtySource;

typedef struct {
	const char *name;

	/* Starts tracking all of @ram: every write after it returns is reported by a later collect.
	 * @ram is borrowed until stop(). On failure nothing is left tracked. */
	gboolean (*start)(FerryDirtySource *source, const FerryRam *ram, GError **error);

	/* ORs the pages of block number @block that were written since its last collect into
	 * @bitmap (bit n of word n/64 is page n; ferry_ram_block_pages() bits) and re-arms them.
	 * Never clears a bit. May report a page that was not written, never the reverse. The
	 * engine collects all blocks in each pass, in the order of their numbers. */
	gboolean (*collect)(FerryDirtySource *source, guint block, guint64 *bitmap, GError **error);

	/* Ends tracking; the guest runs at full speed afterwards. Safe when not started. */
	void (*stop)(FerryDirtySource *source);

	void (*free)(FerryDirtySource *source);
} FerryDirtySourceOps;

struct FerryDirtySource {
	const FerryDirtySourceOps *ops;
};

/*
 * userfaultfd write-protect, asynchronous mode, read with PAGEMAP_SCAN (Linux 6.7;
 * ioctl_userfaultfd(2), Documentation/admin-guide/mm/pagemap.rst). About 1 us for the first write
 * to a page per round. FERRY_ERROR_NOSUPP with the remedy where the kernel or the permissions do
 * not allow it.
 */
FerryDirtySource *ferry_dirty_source_wp_async(GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* userfaultfd write-protect by faults that a thread of ours resolves (Linux 5.7 for anonymous
 * memory, 5.19 for shmem). About 50 us for the first write to a page per round. */
FerryDirtySource *ferry_dirty_source_wp_fault(GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Holds the guest still for a short while, and lets it go on. Not the migration's pause: no event
 * is sent and no run state changes. Both are called from the migration thread, in pairs.
 */
typedef struct {
	/* When it returns, nothing writes guest RAM until release(): no vCPU, no device thread, no
	 * I/O that is on its way into RAM. For a VM that is paused already it only makes sure of
	 * that. On failure nothing is held, and the collect fails with this error. */
	gboolean (*hold)(gpointer user, GError **error);
	/* The guest goes on if it ran before hold(). */
	void (*release)(gpointer user);
} FerryHoldCallbacks;

/*
 * Soft-dirty bits: /proc/self/pagemap and clear_refs
 * (Documentation/admin-guide/mm/soft-dirty.rst), for kernels that are too old for wp-async.
 * Reading and clearing them are two steps, and a page first written between the two is lost: so
 * the guest is held for both. One hold serves all blocks, since the clear is for the whole
 * process: collect() of block 0 takes it, and the blocks after it, in order, are handed what it
 * found. A block that is collected out of turn takes a hold of its own.
 *
 * Each round costs the guest a hold of about 25 ms for a GiB of RAM, however little was written,
 * and about 1 us for the first write to a page. Shared memory is locked as it is touched
 * (mlock2(2)) from start() to stop(), about 150 ms for a GiB at both. Transparent huge pages of
 * private memory are reported whole; private memory that is registered with a NIC is reported in
 * every round.
 *
 * While it tracks, the embedder leaves the mappings alone and no one else clears the bits. Pages
 * that it drops from the mapping (MADV_DONTNEED of shared memory) it reports with
 * ferry_vm_mark_dirty().
 *
 * @hold is copied; @user is borrowed until ferry_dirty_source_free(). FERRY_ERROR_NOSUPP with the
 * remedy where the kernel lacks CONFIG_MEM_SOFT_DIRTY; from start() for hugetlb, shared memory with
 * transparent huge pages, memory that KSM may merge, and shared memory that cannot be locked.
 * FERRY_ERROR_STATE from start() while another one tracks this process.
 */
FerryDirtySource *ferry_dirty_source_soft_dirty(const FerryHoldCallbacks *hold, gpointer user,
						GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* One KVM memory slot that shows a part of a RAM block to the guest. */
typedef struct {
	guint32 slot;
	guint64 guest_addr; /* guest-physical, bytes, page-aligned */
	guint block;        /* index into FerryRam.blocks */
	guint64 offset;     /* in the block, bytes, page-aligned */
	guint64 size;       /* bytes */
} FerryKvmSlot;

/* KVM_GET_DIRTY_LOG (Documentation/virt/kvm/api.rst 4.8). @vm_fd is borrowed; @slots is copied.
 * Sets and clears KVM_MEM_LOG_DIRTY_PAGES on the slots at start and stop; the slots have no other
 * flag, and the VM neither KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 nor a dirty ring on. */
FerryDirtySource *ferry_dirty_source_kvm_log(int vm_fd, const FerryKvmSlot *slots, guint n_slots,
					     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The embedder's own. Each function has the contract of the op of the same name; @start and @stop
 * may be NULL. @user is borrowed until ferry_dirty_source_free(). */
typedef struct {
	gboolean (*start)(const FerryRam *ram, gpointer user, GError **error);
	gboolean (*collect)(guint block, guint64 *bitmap, gpointer user, GError **error);
	void (*stop)(gpointer user);
} FerryDirtyCallbacks;
FerryDirtySource *ferry_dirty_source_callback(const FerryDirtyCallbacks *callbacks, gpointer user);

/*
 * The best source that this kernel offers for memory of this process: wp-async, else wp-fault; or
 * the one called @name ("wp-async", "wp-fault"), with "auto" and NULL for the best. Those that
 * need more than a name (soft-dirty, kvm-log, callback) have only their own functions.
 * FERRY_ERROR_NOSUPP tells what each lacked; FERRY_ERROR_INVALID an unknown name.
 */
FerryDirtySource *ferry_dirty_source_new(const char *name,
					 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Stops if need be, and frees. NULL is allowed. */
void ferry_dirty_source_free(FerryDirtySource *source);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryDirtySource, ferry_dirty_source_free)

G_END_DECLS
