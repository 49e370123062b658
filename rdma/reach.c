/* SPDX-License-Identifier: BSD-2-Clause */
#include "reach.h"

#include <ferry/error.h>

/* How far ahead of the pages chunks are asked for: enough to hide the registering and the way to
 * the peer and back, and little to wait for when a migration ends early. */
#define AHEAD_BYTES (128ull << 20)
#define AHEAD_CHUNKS 8u

/* Of a chunk at the peer. */
enum {
	NOWHERE,
	ASKED, /* REGISTER was said */
	THERE, /* REGION was heard; the chunk's address and key hold */
};

typedef struct {
	/* atomic: hear() takes it from ASKED to THERE, the putting thread does the rest. Who wants
	 * to use a chunk counts up @busy, then looks whether it is THERE; who lets it go makes it
	 * NOWHERE, then looks whether it is busy: they cannot miss each other. */
	int state;
	guint32 key; /* this and @address are stored before THERE */
	guint64 address;
	guint64 used; /* when last, by the clock that counts steps from chunk to chunk */
	guint busy;   /* atomic */
} Chunk;

struct FerryRdmaReach {
	const FerryFabricSession *session;
	FerryRdmaRegions *regions;
	const FerryRam *ram;
	guint64 chunk_size;
	guint64 pin_limit;

	guint32 n;      /* chunks of all blocks, which are numbered through */
	guint32 *first; /* of each block */
	Chunk *chunks;
	guint64 pinned; /* bytes asked for and not released */

	guint32 current; /* the chunk that was last looked for */
	guint64 clock;
	guint ahead;  /* chunks asked for behind the current one */
	guint most;   /* of them */
	guint streak; /* of late, steps to the next chunk: under a pin limit no more than this is
		       * asked for ahead, since what is not used then costs a release, too */
	gboolean owes;
	guint32 reached; /* all(): the chunks before this one are reached */
	guint held;      /* atomic; 1 + the chunk that hold() missed last, 0: none */
};

static guint64 chunk_bytes(const FerryRdmaReach *r, const FerryRdmaChunks *chunk)
{
	return MIN(r->chunk_size, r->ram->blocks[chunk->block].size - chunk->first * r->chunk_size);
}

/* Chunk @index in the terms of the wire. */
static FerryRdmaChunks locate(const FerryRdmaReach *r, guint32 index)
{
	guint32 block = r->ram->n_blocks - 1;

	while (r->first[block] > index)
		block--;
	return (FerryRdmaChunks){ block, index - r->first[block], 1 };
}

static gboolean say(FerryRdmaReach *r, FerryRdmaRecordType type, const FerryRdmaChunks *chunks)
{
	guint8 payload[FERRY_RDMA_CHUNKS_SIZE];

	ferry_rdma_put_chunks(payload, chunks);
	if (r->session->say(r->session->user, (guint16)type, payload, sizeof(payload)))
		return TRUE;
	r->owes = TRUE;
	return FALSE;
}

static gboolean is_here(const FerryRdmaReach *r, const FerryRdmaChunks *chunk)
{
	return ferry_rdma_regions_get(r->regions, chunk->block, chunk->first) != NULL;
}

/* ---- room under a pin limit ---- */

/* Only a chunk that is there at both ends may go: one that was released while the peer's REGION is
 * on its way, and asked for again, could not tell which of two keys it hears. */
static gboolean may_go(const FerryRdmaReach *r, guint32 index)
{
	const Chunk *chunk = &r->chunks[index];
	FerryRdmaChunks at;

	if (index >= r->current && index - r->current <= r->ahead)
		return FALSE;
	if (__atomic_load_n(&chunk->busy, __ATOMIC_SEQ_CST) ||
	    g_atomic_int_get(&chunk->state) != THERE)
		return FALSE;
	at = locate(r, index);
	return is_here(r, &at);
}

/* FALSE: it is used again, or there is no room to say so. */
static gboolean let_go(FerryRdmaReach *r, Chunk *chunk, const FerryRdmaChunks *at)
{
	g_atomic_int_set(&chunk->state, NOWHERE);
	if (!__atomic_load_n(&chunk->busy, __ATOMIC_SEQ_CST) &&
	    say(r, FERRY_RECORD_RDMA_RELEASE, at))
		return TRUE;
	g_atomic_int_set(&chunk->state, THERE);
	return FALSE;
}

static gboolean release_oldest(FerryRdmaReach *r)
{
	guint32 oldest = r->n;
	FerryRdmaChunks at;

	for (guint32 i = 0; i < r->n; i++)
		if ((oldest == r->n || r->chunks[i].used < r->chunks[oldest].used) && may_go(r, i))
			oldest = i;
	if (oldest == r->n)
		return FALSE;
	at = locate(r, oldest);
	if (!let_go(r, &r->chunks[oldest], &at))
		return FALSE;
	r->pinned -= chunk_bytes(r, &at);
	return ferry_rdma_regions_release(r->regions, &at, NULL);
}

static gboolean make_room(FerryRdmaReach *r, guint64 bytes)
{
	while (r->pin_limit && r->pinned + bytes > r->pin_limit)
		if (!release_oldest(r))
			return FALSE;
	return TRUE;
}

/* ---- asking ---- */

/* Asks for @chunks, none of which was, and for which there is room. They are marked before: the
 * answer may be heard at once. */
static gboolean ask(FerryRdmaReach *r, const FerryRdmaChunks *chunks)
{
	Chunk *from = &r->chunks[r->first[chunks->block] + chunks->first];

	for (guint32 i = 0; i < chunks->chunks; i++) {
		from[i].used = r->clock;
		g_atomic_int_set(&from[i].state, ASKED);
	}
	if (say(r, FERRY_RECORD_RDMA_REGISTER, chunks))
		return ferry_rdma_regions_request(r->regions, chunks, NULL);
	for (guint32 i = 0; i < chunks->chunks; i++) {
		const FerryRdmaChunks at = { chunks->block, chunks->first + i, 1 };

		g_atomic_int_set(&from[i].state, NOWHERE);
		r->pinned -= chunk_bytes(r, &at);
	}
	return FALSE;
}

/* Takes chunk @index into @chunks if they then still are neighbours in one block. */
static gboolean join(FerryRdmaChunks *chunks, const FerryRdmaChunks *at)
{
	if (!chunks->chunks)
		*chunks = *at;
	else if (at->block == chunks->block && at->first == chunks->first + chunks->chunks)
		chunks->chunks++;
	else
		return FALSE;
	return TRUE;
}

/* Asks for what is not there of @n chunks from @index on, as far as there is room. */
static void ask_from(FerryRdmaReach *r, guint32 index, guint32 n)
{
	FerryRdmaChunks chunks = { 0 };
	guint32 end = index + MIN(n, r->n - index);

	r->owes = FALSE;
	for (; index < end; index++) {
		FerryRdmaChunks at = locate(r, index);
		guint64 bytes = chunk_bytes(r, &at);

		if (g_atomic_int_get(&r->chunks[index].state) != NOWHERE)
			continue;
		if (!make_room(r, bytes))
			break;
		if (!join(&chunks, &at)) {
			if (!ask(r, &chunks))
				return;
			chunks = at;
		}
		r->pinned += bytes;
	}
	if (chunks.chunks)
		ask(r, &chunks);
}

/* ---- the way to a chunk ---- */

static void step(FerryRdmaReach *r, guint32 index)
{
	r->streak = index == r->current + 1 ? MIN(r->streak + 1, r->most) : r->streak / 2;
	r->ahead = r->pin_limit ? r->streak : r->most;
	r->current = index;
	r->chunks[index].used = ++r->clock;
	ask_from(r, index, r->ahead + 1);
}

gboolean ferry_rdma_reach_find(FerryRdmaReach *reach, guint32 block, guint32 chunk,
			       FerryRdmaWay *way)
{
	guint32 index = reach->first[block] + chunk;
	Chunk *entry = &reach->chunks[index];
	const struct ibv_mr *mr;

	if (index != reach->current)
		step(reach, index);
	else if (reach->owes || g_atomic_int_get(&entry->state) == NOWHERE)
		ask_from(reach, index, reach->ahead + 1);
	if (g_atomic_int_get(&entry->state) != THERE)
		return FALSE;
	mr = ferry_rdma_regions_get(reach->regions, block, chunk);
	if (!mr)
		return FALSE;
	*way = (FerryRdmaWay){ entry->address, entry->key, mr->lkey, &entry->busy };
	return TRUE;
}

gboolean ferry_rdma_reach_hold(FerryRdmaReach *reach, guint32 block, guint32 chunk,
			       FerryRdmaWay *way, gboolean *asks)
{
	guint32 index = reach->first[block] + chunk;
	Chunk *entry = &reach->chunks[index];
	const struct ibv_mr *mr = NULL;
	int state;

	__atomic_add_fetch(&entry->busy, 1, __ATOMIC_SEQ_CST);
	state = g_atomic_int_get(&entry->state);
	if (state == THERE)
		mr = ferry_rdma_regions_get(reach->regions, block, chunk);
	if (mr) {
		*way = (FerryRdmaWay){ entry->address, entry->key, mr->lkey, &entry->busy };
		return TRUE;
	}
	__atomic_sub_fetch(&entry->busy, 1, __ATOMIC_SEQ_CST);
	*asks = state == NOWHERE &&
		__atomic_exchange_n(&reach->held, index + 1, __ATOMIC_RELAXED) != index + 1;
	return FALSE;
}

void ferry_rdma_reach_drop(const FerryRdmaWay *way)
{
	__atomic_sub_fetch(way->busy, 1, __ATOMIC_SEQ_CST);
}

void ferry_rdma_reach_ask_held(FerryRdmaReach *reach)
{
	guint held = __atomic_load_n(&reach->held, __ATOMIC_RELAXED);

	if (!held)
		return;
	if (g_atomic_int_get(&reach->chunks[held - 1].state) == NOWHERE)
		ask_from(reach, held - 1, 1);
	/* Where there is no room yet it is tried again; where another came meanwhile, too. */
	if (g_atomic_int_get(&reach->chunks[held - 1].state) != NOWHERE)
		__atomic_compare_exchange_n(&reach->held, &held, 0, FALSE, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED);
}

gboolean ferry_rdma_reach_all(FerryRdmaReach *reach)
{
	for (; reach->reached < reach->n; reach->reached++) {
		const Chunk *chunk = &reach->chunks[reach->reached];
		FerryRdmaChunks at = locate(reach, reach->reached);

		if (reach->owes || g_atomic_int_get(&chunk->state) == NOWHERE)
			ask_from(reach, reach->reached, reach->n);
		if (g_atomic_int_get(&chunk->state) != THERE || !is_here(reach, &at))
			return FALSE;
	}
	return TRUE;
}

gboolean ferry_rdma_reach_owes(const FerryRdmaReach *reach)
{
	return reach->owes;
}

gboolean ferry_rdma_reach_hear(FerryRdmaReach *reach, const FerryRdmaRegion *region, GError **error)
{
	Chunk *chunk = NULL;

	if (region->block < reach->ram->n_blocks &&
	    region->chunk < ferry_rdma_regions_chunks(reach->regions, region->block))
		chunk = &reach->chunks[reach->first[region->block] + region->chunk];
	if (!chunk || g_atomic_int_get(&chunk->state) != ASKED) {
		g_set_error(
			error, FERRY_ERROR, FERRY_ERROR_PEER,
			"the destination tells a memory region of chunk %u of block %u, which it was "
			"not asked for",
			region->chunk, region->block);
		return FALSE;
	}
	chunk->address = region->address;
	chunk->key = region->key;
	g_atomic_int_set(&chunk->state, THERE);
	return TRUE;
}

/* ---- lifetime ---- */

FerryRdmaReach *ferry_rdma_reach_new(const FerryFabricSession *session, FerryRdmaRegions *regions,
				     const FerryRam *ram, guint64 chunk_size, guint64 pin_limit)
{
	FerryRdmaReach *r = g_new0(FerryRdmaReach, 1);

	r->session = session;
	r->regions = regions;
	r->ram = ram;
	r->chunk_size = chunk_size;
	r->pin_limit = pin_limit;
	r->first = g_new0(guint32, ram->n_blocks);
	for (guint i = 0; i < ram->n_blocks; i++) {
		r->first[i] = r->n;
		r->n += ferry_rdma_regions_chunks(regions, i);
	}
	r->chunks = g_new0(Chunk, r->n);
	r->most = (guint)CLAMP(AHEAD_BYTES / chunk_size, 1, AHEAD_CHUNKS);
	/* At least half of the limit is for chunks with writes in flight. */
	if (pin_limit)
		r->most = (guint)CLAMP(pin_limit / chunk_size / 2, 1, r->most);
	r->streak = r->most;
	r->current = G_MAXUINT32; /* the first chunk is the one behind it */
	return r;
}

void ferry_rdma_reach_free(FerryRdmaReach *reach)
{
	if (!reach)
		return;
	g_free(reach->chunks);
	g_free(reach->first);
	g_free(reach);
}
