/* SPDX-License-Identifier: BSD-2-Clause */
#include "readable.h"

#include <ferry/error.h>

typedef struct {
	int told; /* atomic; the others are stored before */
	guint32 key;
	guint64 address;
} Chunk;

struct FerryRdmaReadable {
	const FerryRam *ram;
	guint64 chunk_size;
	guint32 *first; /* of each block its first chunk, and behind the last the end */
	Chunk *chunks;
	int told; /* atomic */
};

FerryRdmaReadable *ferry_rdma_readable_new(const FerryRam *ram, guint64 chunk_size)
{
	FerryRdmaReadable *r = g_new0(FerryRdmaReadable, 1);

	r->ram = ram;
	r->chunk_size = chunk_size;
	r->first = g_new0(guint32, ram->n_blocks + 1);
	for (guint i = 0; i < ram->n_blocks; i++) {
		guint64 size = ram->blocks[i].size;

		r->first[i + 1] = r->first[i] +
				  (guint32)(size / chunk_size + (size % chunk_size != 0));
	}
	r->chunks = g_new0(Chunk, r->first[ram->n_blocks]);
	return r;
}

void ferry_rdma_readable_free(FerryRdmaReadable *readable)
{
	if (!readable)
		return;
	g_free(readable->chunks);
	g_free(readable->first);
	g_free(readable);
}

gboolean ferry_rdma_readable_hear(FerryRdmaReadable *readable, const FerryRdmaRegion *region,
				  GError **error)
{
	const FerryRam *ram = readable->ram;
	Chunk *chunk = NULL;
	guint64 size = 0;

	if (region->block < ram->n_blocks &&
	    region->chunk < readable->first[region->block + 1] - readable->first[region->block]) {
		chunk = &readable->chunks[readable->first[region->block] + region->chunk];
		size = MIN(readable->chunk_size,
			   ram->blocks[region->block].size - region->chunk * readable->chunk_size);
	}
	if (!chunk || g_atomic_int_get(&chunk->told) || region->address > G_MAXUINT64 - size) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "the source tells chunk %u of block %u at 0x%" G_GINT64_MODIFIER
			    "x to be read, which %s",
			    region->chunk, region->block, region->address,
			    !chunk                           ? "there is not"
			    : g_atomic_int_get(&chunk->told) ? "it told before"
							     : "does not fit there");
		return FALSE;
	}
	chunk->address = region->address;
	chunk->key = region->key;
	g_atomic_int_set(&chunk->told, TRUE);
	g_atomic_int_inc(&readable->told);
	return TRUE;
}

gboolean ferry_rdma_readable_find(const FerryRdmaReadable *readable, guint32 block, guint32 chunk,
				  guint64 *address, guint32 *key)
{
	const Chunk *entry = &readable->chunks[readable->first[block] + chunk];

	if (!g_atomic_int_get(&entry->told))
		return FALSE;
	*address = entry->address;
	*key = entry->key;
	return TRUE;
}

guint32 ferry_rdma_readable_count(const FerryRdmaReadable *readable)
{
	return (guint32)g_atomic_int_get(&readable->told);
}
