/* SPDX-License-Identifier: BSD-2-Clause */
#include "digest.h"
#include "holes.h"

#include <ferry/bytes.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define CHUNK (2u << 20)
#define THREADS_MAX 4

typedef struct {
	guint block;
	guint64 first; /* page */
	guint64 pages;
} Chunk;

typedef struct {
	const FerryRam *ram;
	const gint *cancel;
	guint64 n_chunks;
	Chunk *chunks;
	guint64 *digests;
	guint64 zero_digest; /* of a whole chunk of zeros */
	_Atomic guint64 next; /* the first chunk that no thread has taken */
	_Atomic gboolean cancelled;
} Work;

static guint64 chunks_of(const FerryRamBlock *block)
{
	return (block->size + CHUNK - 1) / CHUNK;
}

static void list_chunks(Work *work)
{
	const guint64 step = CHUNK >> FERRY_PAGE_SHIFT;

	for (guint i = 0; i < work->ram->n_blocks; i++)
		work->n_chunks += chunks_of(&work->ram->blocks[i]);
	work->chunks = g_new(Chunk, work->n_chunks);
	work->digests = g_new0(guint64, work->n_chunks);
	work->n_chunks = 0;
	for (guint i = 0; i < work->ram->n_blocks; i++) {
		guint64 pages = ferry_ram_block_pages(&work->ram->blocks[i]);

		for (guint64 first = 0; first < pages; first += step)
			work->chunks[work->n_chunks++] = (Chunk){
				.block = i, .first = first, .pages = MIN(step, pages - first)
			};
	}
}

/* A chunk with holes in part: the bytes are hashed as a stream, with zeros in place of the holes.
 */
static guint64 digest_mixed(const Work *work, FerryHoles *holes, const Chunk *chunk)
{
	static const guint8 zeros[FERRY_PAGE_SIZE];
	const guint8 *host = work->ram->blocks[chunk->block].host;
	XXH3_state_t *state = XXH3_createState();
	guint64 at = chunk->first, end = at + chunk->pages, digest;

	XXH3_64bits_reset(state);
	while (at < end) {
		gboolean hole;
		guint64 pages = ferry_holes_split(holes, chunk->block, at, end - at, &hole);

		if (hole)
			pages = 1;
		XXH3_64bits_update(state, hole ? zeros : host + (at << FERRY_PAGE_SHIFT),
				   pages << FERRY_PAGE_SHIFT);
		at += pages;
	}
	digest = XXH3_64bits_digest(state);
	XXH3_freeState(state);
	return digest;
}

static guint64 digest_chunk(const Work *work, FerryHoles *holes, const Chunk *chunk)
{
	gboolean hole;
	guint64 pages = ferry_holes_split(holes, chunk->block, chunk->first, chunk->pages, &hole);

	if (pages < chunk->pages || (hole && pages << FERRY_PAGE_SHIFT < CHUNK))
		return digest_mixed(work, holes, chunk);
	if (hole)
		return work->zero_digest;
	return XXH3_64bits(work->ram->blocks[chunk->block].host +
				   (chunk->first << FERRY_PAGE_SHIFT),
			   chunk->pages << FERRY_PAGE_SHIFT);
}

static gpointer work_thread(gpointer data)
{
	Work *work = data;
	g_autoptr(FerryHoles) holes = ferry_holes_new(work->ram);
	guint64 i;

	while ((i = atomic_fetch_add(&work->next, 1)) < work->n_chunks) {
		if (work->cancel && g_atomic_int_get(work->cancel)) {
			work->cancelled = TRUE;
			break;
		}
		work->digests[i] = digest_chunk(work, holes, &work->chunks[i]);
	}
	return NULL;
}

static void put_u64(XXH3_state_t *state, guint64 value)
{
	guint8 bytes[8];

	ferry_store_be64(bytes, value);
	XXH3_64bits_update(state, bytes, sizeof(bytes));
}

/* Big-endian numbers and length before name: two lists of blocks never give the same bytes. */
static guint64 combine(const Work *work)
{
	XXH3_state_t *state = XXH3_createState();
	const guint64 *next = work->digests;
	guint64 digest;

	XXH3_64bits_reset(state);
	for (guint i = 0; i < work->ram->n_blocks; i++) {
		const FerryRamBlock *block = &work->ram->blocks[i];

		put_u64(state, strlen(block->name));
		XXH3_64bits_update(state, block->name, strlen(block->name));
		put_u64(state, block->size);
		for (guint64 n = chunks_of(block); n; n--)
			put_u64(state, *next++);
	}
	digest = XXH3_64bits_digest(state);
	XXH3_freeState(state);
	return digest;
}

static guint64 digest_zeros(void)
{
	g_autofree void *zeros = g_malloc0(CHUNK);

	return XXH3_64bits(zeros, CHUNK);
}

gboolean ferry_digest_ram(const FerryRam *ram, const gint *cancel, guint64 *digest)
{
	Work work = { .ram = ram, .cancel = cancel };
	GThread *threads[THREADS_MAX - 1];
	guint n = CLAMP(g_get_num_processors(), 1, THREADS_MAX) - 1;

	work.zero_digest = digest_zeros();
	list_chunks(&work);
	for (guint i = 0; i < n; i++)
		threads[i] = g_thread_new("ferry-digest", work_thread, &work);
	work_thread(&work);
	for (guint i = 0; i < n; i++)
		g_thread_join(threads[i]);
	if (!work.cancelled)
		*digest = combine(&work);
	g_free(work.chunks);
	g_free(work.digests);
	return !work.cancelled;
}
