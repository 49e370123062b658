/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>

/*
 * The second memory of each block, beside the guest's own mapping, and how its pages get into the
 * latter: what postcopy needs of the kernel. It knows nothing of which pages came.
 */
typedef struct FerryPostcopyMemory FerryPostcopyMemory;

/* Maps it, and tries everything once, leaving nothing behind. @ram is borrowed until free.
 * FERRY_ERROR_NOSUPP names block and remedy. */
FerryPostcopyMemory *ferry_postcopy_memory_new(const FerryRam *ram, GError **error);
/* Lets waiters go on, in any state. NULL is allowed. */
void ferry_postcopy_memory_free(FerryPostcopyMemory *memory);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryPostcopyMemory, ferry_postcopy_memory_free)

/* Its own, until free. View: the second memory of blocks that have a file, the RAM of the others.
 * Target: the second memory of all. */
const FerryRam *ferry_postcopy_memory_view(const FerryPostcopyMemory *memory);
const FerryRam *ferry_postcopy_memory_target(const FerryPostcopyMemory *memory);

/* The userfaultfd, owned by @memory. */
int ferry_postcopy_memory_uffd(const FerryPostcopyMemory *memory);

/* From when it returns, every access to a page without an entry in the guest's page tables waits.
 * In blocks with a file no page has one any more. */
gboolean ferry_postcopy_memory_watch(FerryPostcopyMemory *memory, GError **error);
/* The end of that; waiters go on. */
void ferry_postcopy_memory_unwatch(FerryPostcopyMemory *memory);

/* While watched: takes the run out of the guest's page tables. */
gboolean ferry_postcopy_memory_drop(FerryPostcopyMemory *memory, const FerryRun *run,
				    GError **error);

/* ---- any thread, at the same time, also for the same pages ---- */

/* Gives the guest what the second memory has there, and wakes who waits for it. The run is whole
 * pages of the backing. Pages that are there already stay as they are; in private memory the second
 * memory's pages are freed. */
void ferry_postcopy_memory_show(FerryPostcopyMemory *memory, const FerryRun *run);

/* As much of it from the front as costs one system call and no memory; blocks with a file only. */
void ferry_postcopy_memory_show_ahead(FerryPostcopyMemory *memory, const FerryRun *run);

/* Makes the run zero in the second memory, without giving it pages where it has none. */
void ferry_postcopy_memory_make_zero(FerryPostcopyMemory *memory, const FerryRun *run);

/* Whether pages that were made zero need never be shown: untouched, they are zero also after
 * unwatch(). */
gboolean ferry_postcopy_memory_zero_keeps(const FerryPostcopyMemory *memory, guint block);

/* When all pages were shown: shows those again where the kernel failed then. FERRY_ERROR_IO if it
 * does again. Private memory only: the others lose nothing. */
gboolean ferry_postcopy_memory_settle(FerryPostcopyMemory *memory, GError **error);
