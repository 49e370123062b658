/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>
#include "messages.h"

/*
 * What of the source's RAM may be read: the regions that it told, by chunk. One thread hears, any
 * may find.
 */
typedef struct FerryRdmaReadable FerryRdmaReadable;

/* @ram is borrowed. There must be at most FERRY_RDMA_CHUNKS_MAX chunks. */
FerryRdmaReadable *ferry_rdma_readable_new(const FerryRam *ram, guint64 chunk_size);
void ferry_rdma_readable_free(FerryRdmaReadable *readable); /* NULL is allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryRdmaReadable, ferry_rdma_readable_free)

/* FERRY_ERROR_PEER for a chunk outside of the RAM or told before, and for an address at which it
 * cannot lie. */
gboolean ferry_rdma_readable_hear(FerryRdmaReadable *readable, const FerryRdmaRegion *region,
				  GError **error);

/* Where a chunk lies in the source's terms, and its key. FALSE: it was not told yet. */
gboolean ferry_rdma_readable_find(const FerryRdmaReadable *readable, guint32 block, guint32 chunk,
				  guint64 *address, guint32 *key);

/* Chunks that were told. */
guint32 ferry_rdma_readable_count(const FerryRdmaReadable *readable);
