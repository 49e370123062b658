/* SPDX-License-Identifier: BSD-2-Clause */
#include "quota.h"

struct FerryRdmaQuota {
	const FerryRam *ram;
	guint64 chunk_size;
	guint64 limit;
	guint64 bytes;
	guint8 **asked; /* a bit a chunk, for each block */
};

static guint64 chunks_of(const FerryRam *ram, guint32 block, guint64 chunk_size)
{
	guint64 size = ram->blocks[block].size;

	return size / chunk_size + (size % chunk_size != 0);
}

guint64 ferry_rdma_count_chunks(const FerryRam *ram, guint64 chunk_size)
{
	guint64 n = 0;

	for (guint i = 0; i < ram->n_blocks; i++)
		n += chunks_of(ram, i, chunk_size);
	return n;
}

FerryRdmaQuota *ferry_rdma_quota_new(const FerryRam *ram, guint64 chunk_size, guint64 limit)
{
	FerryRdmaQuota *quota = g_new0(FerryRdmaQuota, 1);

	quota->ram = ram;
	quota->chunk_size = chunk_size;
	quota->limit = limit;
	quota->asked = g_new0(guint8 *, ram->n_blocks);
	for (guint i = 0; i < ram->n_blocks; i++)
		quota->asked[i] = g_new0(guint8, chunks_of(ram, i, chunk_size) / 8 + 1);
	return quota;
}

void ferry_rdma_quota_free(FerryRdmaQuota *quota)
{
	if (!quota)
		return;
	for (guint i = 0; i < quota->ram->n_blocks; i++)
		g_free(quota->asked[i]);
	g_free(quota->asked);
	g_free(quota);
}

static gboolean check(const FerryRdmaQuota *quota, const FerryRdmaChunks *chunks, GError **error)
{
	guint64 n;

	if (chunks->block >= quota->ram->n_blocks) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "RDMA: chunks of block %u are asked for; the last block is %u",
			    chunks->block, quota->ram->n_blocks - 1);
		return FALSE;
	}
	n = chunks_of(quota->ram, chunks->block, quota->chunk_size);
	if (chunks->first >= n || chunks->chunks > n - chunks->first) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "RDMA: chunks %u and %u more of block '%s' are asked for, which has "
			    "%" G_GUINT64_FORMAT,
			    chunks->first, chunks->chunks - 1,
			    quota->ram->blocks[chunks->block].name, n);
		return FALSE;
	}
	return TRUE;
}

static gboolean is_asked(const FerryRdmaQuota *quota, guint32 block, guint32 chunk)
{
	return quota->asked[block][chunk / 8] >> chunk % 8 & 1;
}

static guint64 chunk_bytes(const FerryRdmaQuota *quota, guint32 block, guint32 chunk)
{
	return MIN(quota->chunk_size, quota->ram->blocks[block].size - chunk * quota->chunk_size);
}

gboolean ferry_rdma_quota_ask(FerryRdmaQuota *quota, const FerryRdmaChunks *chunks, GError **error)
{
	guint32 block = chunks->block, end = chunks->first + chunks->chunks;
	guint64 more = 0;

	if (!check(quota, chunks, error))
		return FALSE;
	for (guint32 i = chunks->first; i < end; i++)
		if (!is_asked(quota, block, i))
			more += chunk_bytes(quota, block, i);
	if (quota->limit && more > quota->limit - MIN(quota->bytes, quota->limit)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "RDMA: the peer asks for %" G_GUINT64_FORMAT " more bytes to be "
			    "registered beside %" G_GUINT64_FORMAT "; agreed are %" G_GUINT64_FORMAT
			    " at a time",
			    more, quota->bytes, quota->limit);
		return FALSE;
	}
	for (guint32 i = chunks->first; i < end; i++)
		quota->asked[block][i / 8] |= 1u << i % 8;
	quota->bytes += more;
	return TRUE;
}

gboolean ferry_rdma_quota_release(FerryRdmaQuota *quota, const FerryRdmaChunks *chunks,
				  GError **error)
{
	guint32 block = chunks->block;

	if (!check(quota, chunks, error))
		return FALSE;
	for (guint32 i = chunks->first; i < chunks->first + chunks->chunks; i++) {
		if (!is_asked(quota, block, i))
			continue;
		quota->asked[block][i / 8] &= ~(1u << i % 8);
		quota->bytes -= chunk_bytes(quota, block, i);
	}
	return TRUE;
}

guint64 ferry_rdma_quota_bytes(const FerryRdmaQuota *quota)
{
	return quota->bytes;
}
