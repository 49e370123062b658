/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/fabric.h>
#include "regions.h"

/*
 * The source's view of which chunks a write can reach: those registered at both ends. Chunks are
 * asked for ahead of the pages, at the peer and here, and under a pin limit the ones used longest
 * ago make room for new ones. One thread, the one that puts pages, but for hear(), hold() and
 * drop().
 */
typedef struct FerryRdmaReach FerryRdmaReach;

/* The two regions of a chunk. Holds until the next find(), or as long as @busy is not 0. */
typedef struct {
	guint64 address; /* of the chunk's first byte, at the peer */
	guint32 rkey;
	guint32 lkey;
	guint *busy; /* atomic; writes in flight: while it is not 0 the chunk stays */
} FerryRdmaWay;

/* All but the numbers is borrowed until free. @pin_limit: bytes that may be registered at a time,
 * at either end; 0: no limit. It holds two chunks at least. */
FerryRdmaReach *ferry_rdma_reach_new(const FerryFabricSession *session, FerryRdmaRegions *regions,
				     const FerryRam *ram, guint64 chunk_size, guint64 pin_limit);
void ferry_rdma_reach_free(FerryRdmaReach *reach); /* NULL is allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryRdmaReach, ferry_rdma_reach_free)

/* The way to a chunk. FALSE: there is none yet; it is being asked for, with those behind it. */
gboolean ferry_rdma_reach_find(FerryRdmaReach *reach, guint32 block, guint32 chunk,
			       FerryRdmaWay *way);

/* Another thread's find(): the way to a chunk, which holds until drop(). FALSE: there is none yet;
 * *@asks: nor was it asked for, which the putting thread is now to do by ask_held(). */
gboolean ferry_rdma_reach_hold(FerryRdmaReach *reach, guint32 block, guint32 chunk,
			       FerryRdmaWay *way, gboolean *asks);
void ferry_rdma_reach_drop(const FerryRdmaWay *way);
void ferry_rdma_reach_ask_held(FerryRdmaReach *reach);

/* Asks for all chunks; TRUE once every one can be reached. Call again until then. */
gboolean ferry_rdma_reach_all(FerryRdmaReach *reach);

/* Something is to be told to the peer, and there was no room for it: call find() again soon. */
gboolean ferry_rdma_reach_owes(const FerryRdmaReach *reach);

/* The peer has registered a chunk. Any thread. FERRY_ERROR_PEER where it was not asked for. */
gboolean ferry_rdma_reach_hear(FerryRdmaReach *reach, const FerryRdmaRegion *region,
			       GError **error);
