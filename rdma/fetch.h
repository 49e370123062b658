/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>
#include "link.h"

/*
 * The reading side of a link's queue pairs: RDMA reads of what is waited for on the last one, of
 * the rest on the first, where only little is in flight at a time so that what is waited for finds
 * the wire nearly free. Their completions come into the link's queue of fetches. One thread, but
 * for get_stats().
 */
typedef struct FerryRdmaFetches FerryRdmaFetches;

/* Work requests of a queue pair at a time; fewer where the connection allows fewer reads. */
#define FERRY_RDMA_READS 16u
/* Of one fetch. */
#define FERRY_RDMA_FETCH_READS 2u

/* One RDMA read, within one memory region at both ends. */
typedef struct {
	FerryRun run;
	guint64 from; /* address at the peer, in the region @rkey */
	guint32 rkey;
	guint64 to; /* address here, in the region @lkey */
	guint32 lkey;
} FerryRdmaRead;

typedef struct {
	guint64 urgent; /* reads that were posted; this and the next are counts */
	guint64 background;
	guint64 bytes; /* of completed reads */
} FerryRdmaFetchStats;

/* For the connected queue pairs of @link; it, and @ram for names, are borrowed. */
FerryRdmaFetches *ferry_rdma_fetches_new(FerryRdmaLink *link, const FerryRam *ram);
void ferry_rdma_fetches_free(FerryRdmaFetches *fetches); /* NULL is allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryRdmaFetches, ferry_rdma_fetches_free)

/* Posts @n reads, all or none. FALSE: no room; poll() makes some. What cannot be posted fails the
 * link. */
gboolean ferry_rdma_fetches_read(FerryRdmaFetches *fetches, const FerryRdmaRead *reads, guint n,
				 gboolean urgent);

/* Takes completions, and returns how many those were. A read that failed fails the link by name;
 * but one that was flushed, whose cause is elsewhere, is put into *@flushed if that is NULL. */
guint ferry_rdma_fetches_poll(FerryRdmaFetches *fetches, GError **flushed);

/* The next run that poll() found complete, those that are waited for first. */
gboolean ferry_rdma_fetches_take(FerryRdmaFetches *fetches, FerryRun *run);

/* take() would give one. */
gboolean ferry_rdma_fetches_has_landed(const FerryRdmaFetches *fetches);
/* Nothing is posted that was not taken. */
gboolean ferry_rdma_fetches_is_idle(const FerryRdmaFetches *fetches);

void ferry_rdma_fetches_get_stats(const FerryRdmaFetches *fetches, FerryRdmaFetchStats *stats);
