/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>
#include "messages.h"

/*
 * Which chunks of the RAM a peer has asked to be registered, so that it cannot ask for more than
 * was agreed. One thread at a time.
 */
typedef struct FerryRdmaQuota FerryRdmaQuota;

/* More chunks than this make a session whose bookkeeping alone costs too much. */
#define FERRY_RDMA_CHUNKS_MAX (1u << 20)

/* Chunks of all of @ram; each block's last may be shorter. */
guint64 ferry_rdma_count_chunks(const FerryRam *ram, guint64 chunk_size);

/* @limit: bytes at a time; 0: no limit. @ram is borrowed. There must be at most
 * FERRY_RDMA_CHUNKS_MAX chunks. */
FerryRdmaQuota *ferry_rdma_quota_new(const FerryRam *ram, guint64 chunk_size, guint64 limit);
void ferry_rdma_quota_free(FerryRdmaQuota *quota); /* NULL is allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryRdmaQuota, ferry_rdma_quota_free)

/* FALSE with FERRY_ERROR_PEER outside of the RAM or above the limit; nothing is then counted.
 * Chunks that are asked for already are not counted again. */
gboolean ferry_rdma_quota_ask(FerryRdmaQuota *quota, const FerryRdmaChunks *chunks, GError **error);

/* FALSE with FERRY_ERROR_PEER outside of the RAM. */
gboolean ferry_rdma_quota_release(FerryRdmaQuota *quota, const FerryRdmaChunks *chunks,
				  GError **error);

guint64 ferry_rdma_quota_bytes(const FerryRdmaQuota *quota); /* asked for now */
