/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>
#include "messages.h"
#include "verbs.h"

/*
 * Guest RAM as memory regions: each block is cut into chunks of one size (the last may be shorter),
 * each chunk registered by itself, by a helper thread, in the order in which it was asked for, so
 * that registration overlaps the transfer. Registering populates and pins a chunk. Both sides have
 * one: the source without rights, the destination with local and remote write.
 */
typedef struct FerryRdmaRegions FerryRdmaRegions;

typedef struct {
	guint64 bytes;       /* registered now */
	guint64 peak_bytes;  /* the most at a time */
	guint64 total_bytes; /* ever, chunks that came again counted again */
	gint64 time_us;      /* spent registering */
	guint64 registrations;
	guint64 releases;
} FerryRdmaRegionStats;

/* On the helper thread: a chunk is registered (@mr; borrowed), or could not be (@mr NULL, @error
 * says why, borrowed; nothing more is registered then). */
typedef void (*FerryRdmaRegistered)(gpointer user, guint32 block, guint32 chunk,
				    const struct ibv_mr *mr, const GError *error);

/* @chunk_size: a power of two, of at least every block's page size. @access: of ibv_reg_mr(3);
 * with IBV_ACCESS_ON_DEMAND nothing is pinned, and ibv_advise_mr(3) prefetches. All but @registered
 * and @user are borrowed until free. */
FerryRdmaRegions *ferry_rdma_regions_new(const FerryVerbs *verbs, struct ibv_pd *pd,
					 const FerryRam *ram, guint64 chunk_size, int access,
					 FerryRdmaRegistered registered, gpointer user);

/* Ends the helper thread after the chunk that it is at, and deregisters everything: slow. */
void ferry_rdma_regions_free(FerryRdmaRegions *regions);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryRdmaRegions, ferry_rdma_regions_free)

/* Chunks of block @block. */
guint32 ferry_rdma_regions_chunks(const FerryRdmaRegions *regions, guint32 block);

/* Asks for chunks to be registered, or to be deregistered; what is so already is passed over, and
 * later requests for a chunk are served after earlier ones. FALSE with FERRY_ERROR_PEER where the
 * numbers are outside of the RAM. Any thread; does not block on the registering. */
gboolean ferry_rdma_regions_request(FerryRdmaRegions *regions, const FerryRdmaChunks *chunks,
				    GError **error);
gboolean ferry_rdma_regions_release(FerryRdmaRegions *regions, const FerryRdmaChunks *chunks,
				    GError **error);

/* Has every other chunk registered too, in order, whenever nothing that was asked for is left to
 * do. Any thread. */
void ferry_rdma_regions_request_rest(FerryRdmaRegions *regions);

/* The region of a chunk, NULL while it is not registered. Any thread, without a lock. */
const struct ibv_mr *ferry_rdma_regions_get(const FerryRdmaRegions *regions, guint32 block,
					    guint32 chunk);

void ferry_rdma_regions_get_stats(FerryRdmaRegions *regions, FerryRdmaRegionStats *stats);

/* What may be pinned: @wanted bytes (0: all of @ram) against RLIMIT_MEMLOCK, unless the process has
 * CAP_IPC_LOCK. With @all the limit must hold all of it; otherwise *@limit is what fits (0: no
 * limit), and it fails only where that is less than two chunks. FERRY_ERROR_NOSUPP says both
 * numbers and how to raise the limit. */
gboolean ferry_rdma_pin_preflight(const FerryRam *ram, guint64 chunk_size, guint64 wanted,
				  gboolean all, guint64 *limit, GError **error);

/* The same with chunks as small as need be, down to 1 MiB or the largest page of @ram: a low limit
 * shall hold some. *@chunk_size and *@limit are set on success. */
gboolean ferry_rdma_fit_pinning(const FerryRam *ram, guint64 *chunk_size, guint64 wanted,
				gboolean all, guint64 *limit, GError **error);
