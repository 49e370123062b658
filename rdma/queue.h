/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>
#include "link.h"

/*
 * The posting side of a link's queue pairs, of all those that share a completion queue: what is in
 * flight on which, in which order, and how much more may be. A write gets a slot of a table, whose
 * index is its work request's id: what a completion means was written down when the work was
 * posted. One thread, but for get_stats().
 */
typedef struct FerryRdmaQueues FerryRdmaQueues;

/* One RDMA write, within one memory region at both ends. */
typedef struct {
	guint64 from; /* address here, in the region @lkey */
	guint32 lkey;
	guint64 to; /* address at the peer, in the region @rkey */
	guint32 rkey;
	guint32 len;   /* bytes */
	guint32 block; /* what it is, for errors */
	guint64 page;
	guint *busy; /* counted up now, and down when the write has completed; atomic */
} FerryRdmaWrite;

typedef struct {
	guint64 bytes;  /* of completed writes */
	guint64 writes; /* posted; this and the rest are counts */
	guint64 posts;  /* calls of ibv_post_send(3) */
	guint64 signalled;
	guint64 polls;
	guint64 empty_polls;
	guint64 fences;
} FerryRdmaQueueStats;

typedef struct {
	guint depth;        /* slots of each queue pair: entries of its send queue */
	guint64 window;     /* bytes that may be in flight on each */
	guint64 chain_size; /* bytes gathered before a post; a post has one completion */
} FerryRdmaQueueLimits;

/* For @n connected queue pairs of @link from @first on; @link, and @ram for names and numbers, are
 * borrowed. */
FerryRdmaQueues *ferry_rdma_queues_new(FerryRdmaLink *link, guint first, guint n,
				       const FerryRam *ram, const FerryRdmaQueueLimits *limits);

/* After the queue pairs were stopped. NULL is allowed. */
void ferry_rdma_queues_free(FerryRdmaQueues *queues);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryRdmaQueues, ferry_rdma_queues_free)

/* While nothing is in flight: from now on the peer is told of each write, by the number of its page
 * counted through all blocks, and gives back what it took. All go on the first queue pair: devices
 * serve queue pairs in turn, so that an urgent one has its share of the wire the sooner the fewer
 * there are beside it. @window and @chain_size are the new limits. What cannot be posted fails the
 * link. */
void ferry_rdma_queues_tell(FerryRdmaQueues *queues, guint64 window, guint64 chain_size);

/* Whether one queue pair has room for @writes of @bytes together. */
gboolean ferry_rdma_queues_has_room(const FerryRdmaQueues *queues, guint writes, guint64 bytes);

/* Takes a write for the queue pair with the most room. It may wait for others to be posted with:
 * flush() at the latest posts it. FALSE: no room; poll() makes some. What cannot be posted fails
 * the link. */
gboolean ferry_rdma_queues_write(FerryRdmaQueues *queues, const FerryRdmaWrite *write);

/* Posts what was taken. */
void ferry_rdma_queues_flush(FerryRdmaQueues *queues);

/* Posts a fence behind everything taken, on each queue pair: a write without data whose immediate
 * is @round. FALSE: not yet on all; again, after poll(), with nothing written between. */
gboolean ferry_rdma_queues_fence(FerryRdmaQueues *queues, guint32 round);

/* Takes what has completed, and returns how many completions that were. A failed one fails the link
 * by name. */
guint ferry_rdma_queues_poll(FerryRdmaQueues *queues);

/* Nothing is taken that has not completed. */
gboolean ferry_rdma_queues_is_idle(const FerryRdmaQueues *queues);

void ferry_rdma_queues_get_stats(const FerryRdmaQueues *queues, FerryRdmaQueueStats *stats);
