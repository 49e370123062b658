/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/carrier.h>
#include <ferry/status.h>

/*
 * Guest RAM at the destination that fills while the guest already runs. It outlives connections:
 * one object from ADVISE to the last page, through every pause.
 *
 * A block with a memfd or file (shared memory or hugetlb) is mapped a second time: pages go into
 * that alias, which the guest does not see, and are published in the guest's own mapping by
 * UFFDIO_CONTINUE, without a copy (userfaultfd in modes MINOR and MISSING: a page may be a hole of
 * the file yet). Private memory has no second mapping: its pages go into staging memory, and are
 * published by UFFDIO_COPY. Not by UFFDIO_MOVE: it fails for what is registered with a NIC.
 *
 * What has landed is said by a bitmap of ours, a bit for each page of FERRY_PAGE_SIZE; the page
 * cache says nothing. The guest is shown whole host pages: one of 2 MiB once all its 512 parts have
 * landed. A page lands once: the second time is counted, and changes nothing.
 */
typedef struct FerryPostcopyRam FerryPostcopyRam;

/* At ADVISE, before any page came: opens the userfaultfd, maps the aliases, and finds out whether
 * all of it will work; nothing is registered yet. @ram is borrowed until free. FERRY_ERROR_NOSUPP
 * names the block or the permission, and the remedy: no userfaultfd for faults of the kernel, no
 * minor faults on shared memory or hugetlb, a private file mapping. */
FerryPostcopyRam *ferry_postcopy_ram_new(const FerryRam *ram, GError **error);

/* Ends it in any state: whoever waits in a fault goes on, with what is there. NULL is allowed. */
void ferry_postcopy_ram_free(FerryPostcopyRam *postcopy);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryPostcopyRam, ferry_postcopy_ram_free)

/* Where precopy's pages go: the aliases, and the RAM itself for blocks without. Its own, until
 * free. */
const FerryRam *ferry_postcopy_ram_view(FerryPostcopyRam *postcopy);

/* RAM_DISCARD: the run was never sent, or is stale: it is missing. Before listen(), any number of
 * times. Every page that no call named is there. FERRY_ERROR_PEER for what is outside of the RAM,
 * and for a part of a host page. */
gboolean ferry_postcopy_ram_discard(FerryPostcopyRam *postcopy, const FerryRun *run,
				    GError **error);

/* LISTEN: from when it returns, every access to a missing page through the guest's mapping waits
 * for it: vCPUs, threads of the monitor, system calls. Once. */
gboolean ferry_postcopy_ram_listen(FerryPostcopyRam *postcopy, GError **error);
gboolean ferry_postcopy_ram_is_listening(FerryPostcopyRam *postcopy);

/* Where pages go after listen(): the aliases, and the staging memory. */
const FerryRam *ferry_postcopy_ram_target(FerryPostcopyRam *postcopy);

/* ---- pages; any thread, at the same time ---- */

/* What a carrier's begin_postcopy() gets: landed() publishes the run and wakes who waits for it. */
FerryArrivals ferry_postcopy_ram_arrivals(FerryPostcopyRam *postcopy);

/* The run came as zero: makes it so at the target, and lands it. */
void ferry_postcopy_ram_land_zero(FerryPostcopyRam *postcopy, const FerryRun *run);

/* Whether every page of the run is missing. */
gboolean ferry_postcopy_ram_wants(FerryPostcopyRam *postcopy, const FerryRun *run);

/* Pages missing. */
guint64 ferry_postcopy_ram_missing(FerryPostcopyRam *postcopy);

/* The next run of missing pages at or after @run's first page, wrapping round the end of RAM once;
 * at most @max pages and within one block. FALSE: none is missing. A look, no claim. */
gboolean ferry_postcopy_ram_next_missing(FerryPostcopyRam *postcopy, FerryRun *run, guint64 max);

/* Bit n of word n/64 is set where page n of the block is here; words in the CPU's order. A copy;
 * free with g_free(). */
guint64 *ferry_postcopy_ram_received(FerryPostcopyRam *postcopy, guint block, gsize *words);

/* ---- faults; one thread ---- */

/* Readable when take_fault() may give one. */
int ferry_postcopy_ram_fault_fd(FerryPostcopyRam *postcopy);

/* The host page, as a run, that somebody now waits for and nobody was told of before; pages that
 * are here are published in passing. FALSE: none now. Never blocks. */
gboolean ferry_postcopy_ram_take_fault(FerryPostcopyRam *postcopy, FerryRun *run);

/* Forgets who was told: take_fault() gives every page that is still waited for again. For a new
 * connection. */
void ferry_postcopy_ram_tell_again(FerryPostcopyRam *postcopy);

/* ---- the end ---- */

/* The guest will never run on this RAM: who waits in a fault goes on, with what is there. Any
 * thread; idempotent. */
void ferry_postcopy_ram_give_up(FerryPostcopyRam *postcopy);

/* Nothing is missing: the guest's mapping is its own again, and later accesses cost nothing. */
gboolean ferry_postcopy_ram_finish(FerryPostcopyRam *postcopy, GError **error);

/* ---- counts; any thread ---- */

/* The threads whose waiting is counted as the vCPUs'. */
void ferry_postcopy_ram_set_vcpus(FerryPostcopyRam *postcopy, const gint32 *ids, guint n);

/* Everything but switched, mode and pauses. */
void ferry_postcopy_ram_get_status(FerryPostcopyRam *postcopy, FerryPostcopyStatus *status);
