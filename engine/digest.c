/* SPDX-License-Identifier: BSD-2-Clause */
#include "digest.h"
#include "cpu-wait.h"
#include "holes.h"

#include <ferry/bytes.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define CHUNK (2u << 20)
#define CHUNK_PAGES ((guint64)(CHUNK >> FERRY_PAGE_SHIFT))
#define THREADS_MAX 4
/* Of ferry_digest_estimate(). */
#define SAMPLE_CHUNKS 32u

typedef struct {
	guint block;
	guint64 first; /* page */
	guint64 pages;
} Chunk;

/* A chunk's digest is known; was never made; or is older than a write. Set after the write, taken
 * before reading. */
enum {
	FRESH,
	UNKNOWN,
	WRITTEN,
};

struct FerryDigest {
	const FerryRam *ram;
	guint64 n_chunks;
	Chunk *chunks;
	guint64 *block_chunks; /* number of the first chunk of each block */
	guint64 *digests;      /* valid where not stale, once no thread works */
	_Atomic guint8 *stale; /* one a chunk: FRESH, UNKNOWN or WRITTEN */
	gboolean only_written; /* of the present pass: leave UNKNOWN chunks alone */
	guint64 zero_digest;   /* of a whole chunk of zeros */
	const gint *cancel;    /* of the present pass */
	_Atomic guint64 next;  /* the first chunk that no thread has looked at in this pass */
	_Atomic gboolean cancelled;
	GThread *behind; /* the thread of catch_up(), while it may run */
	_Atomic gboolean behind_done;
};

static guint64 chunks_of(const FerryRamBlock *block)
{
	return (block->size + CHUNK - 1) / CHUNK;
}

static void list_chunks(FerryDigest *digest)
{
	guint64 n = 0;

	for (guint i = 0; i < digest->ram->n_blocks; i++) {
		guint64 pages = ferry_ram_block_pages(&digest->ram->blocks[i]);

		digest->block_chunks[i] = n;
		for (guint64 first = 0; first < pages; first += CHUNK_PAGES)
			digest->chunks[n++] = (Chunk){ .block = i,
						       .first = first,
						       .pages = MIN(CHUNK_PAGES, pages - first) };
	}
}

/* A chunk with holes in part: the bytes are hashed as a stream, with zeros in place of the holes.
 */
static guint64 digest_mixed(const FerryDigest *digest, FerryHoles *holes, const Chunk *chunk)
{
	static const guint8 zeros[FERRY_PAGE_SIZE];
	const guint8 *host = digest->ram->blocks[chunk->block].host;
	XXH3_state_t *state = XXH3_createState();
	guint64 at = chunk->first, end = at + chunk->pages, value;

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
	value = XXH3_64bits_digest(state);
	XXH3_freeState(state);
	return value;
}

static guint64 digest_chunk(const FerryDigest *digest, FerryHoles *holes, const Chunk *chunk)
{
	gboolean hole;
	guint64 pages = ferry_holes_split(holes, chunk->block, chunk->first, chunk->pages, &hole);

	if (pages < chunk->pages || (hole && pages << FERRY_PAGE_SHIFT < CHUNK))
		return digest_mixed(digest, holes, chunk);
	if (hole)
		return digest->zero_digest;
	return XXH3_64bits(digest->ram->blocks[chunk->block].host +
				   (chunk->first << FERRY_PAGE_SHIFT),
			   chunk->pages << FERRY_PAGE_SHIFT);
}

/* Looks at every chunk that no other thread of the pass has, and digests the stale ones. */
static gpointer pass_thread(gpointer data)
{
	FerryDigest *digest = data;
	g_autoptr(FerryHoles) holes = ferry_holes_new(digest->ram);
	guint64 i;

	while ((i = atomic_fetch_add(&digest->next, 1)) < digest->n_chunks) {
		if (digest->cancel && g_atomic_int_get(digest->cancel)) {
			digest->cancelled = TRUE;
			break;
		}
		/* Taken before the bytes are read: a write that comes later sets it again. */
		if (atomic_load(&digest->stale[i]) <= (digest->only_written ? UNKNOWN : FRESH))
			continue;
		if (atomic_exchange(&digest->stale[i], FRESH) == FRESH)
			continue;
		/* The hole that was found with an earlier chunk may have been filled since. */
		ferry_holes_forget(holes);
		digest->digests[i] = digest_chunk(digest, holes, &digest->chunks[i]);
	}
	return NULL;
}

static gpointer behind_thread(gpointer data)
{
	FerryDigest *digest = data;

	pass_thread(digest);
	atomic_store(&digest->behind_done, TRUE);
	return NULL;
}

static void begin_pass(FerryDigest *digest, const gint *cancel, gboolean only_written)
{
	digest->cancel = cancel;
	digest->only_written = only_written;
	atomic_store(&digest->next, 0);
	atomic_store(&digest->cancelled, FALSE);
}

/* Makes the thread of catch_up() end soon, and waits for it. */
static void end_behind(FerryDigest *digest)
{
	if (!digest->behind)
		return;
	atomic_store(&digest->next, digest->n_chunks);
	g_thread_join(g_steal_pointer(&digest->behind));
}

static void put_u64(XXH3_state_t *state, guint64 value)
{
	guint8 bytes[8];

	ferry_store_be64(bytes, value);
	XXH3_64bits_update(state, bytes, sizeof(bytes));
}

/* Big-endian numbers and length before name: two lists of blocks never give the same bytes. */
static guint64 combine(const FerryDigest *digest)
{
	XXH3_state_t *state = XXH3_createState();
	const guint64 *next = digest->digests;
	guint64 value;

	XXH3_64bits_reset(state);
	for (guint i = 0; i < digest->ram->n_blocks; i++) {
		const FerryRamBlock *block = &digest->ram->blocks[i];

		put_u64(state, strlen(block->name));
		XXH3_64bits_update(state, block->name, strlen(block->name));
		put_u64(state, block->size);
		for (guint64 n = chunks_of(block); n; n--)
			put_u64(state, *next++);
	}
	value = XXH3_64bits_digest(state);
	XXH3_freeState(state);
	return value;
}

static guint64 digest_zeros(void)
{
	g_autofree void *zeros = g_malloc0(CHUNK);

	return XXH3_64bits(zeros, CHUNK);
}

FerryDigest *ferry_digest_new(const FerryRam *ram)
{
	FerryDigest *digest = g_new0(FerryDigest, 1);

	digest->ram = ram;
	digest->zero_digest = digest_zeros();
	for (guint i = 0; i < ram->n_blocks; i++)
		digest->n_chunks += chunks_of(&ram->blocks[i]);
	digest->chunks = g_new(Chunk, digest->n_chunks);
	digest->block_chunks = g_new(guint64, ram->n_blocks);
	digest->digests = g_new0(guint64, digest->n_chunks);
	digest->stale = g_malloc(digest->n_chunks);
	for (guint64 i = 0; i < digest->n_chunks; i++)
		atomic_init(&digest->stale[i], UNKNOWN);
	list_chunks(digest);
	return digest;
}

void ferry_digest_leave_out(FerryDigest *digest, guint block)
{
	guint64 first = digest->block_chunks[block];

	for (guint64 i = 0; i < chunks_of(&digest->ram->blocks[block]); i++) {
		atomic_store(&digest->stale[first + i], FRESH);
		digest->digests[first + i] = 0;
	}
}

void ferry_digest_free(FerryDigest *digest)
{
	if (!digest)
		return;
	end_behind(digest);
	g_free((gpointer)digest->stale);
	g_free(digest->digests);
	g_free(digest->block_chunks);
	g_free(digest->chunks);
	g_free(digest);
}

void ferry_digest_touched(FerryDigest *digest, const FerryRun *run)
{
	guint64 first = digest->block_chunks[run->block] + run->first / CHUNK_PAGES;
	guint64 last = digest->block_chunks[run->block] +
		       (run->first + run->pages - 1) / CHUNK_PAGES;

	for (guint64 i = first; i <= last; i++)
		atomic_store(&digest->stale[i], WRITTEN);
}

void ferry_digest_catch_up(FerryDigest *digest)
{
	if (digest->behind && !atomic_load(&digest->behind_done))
		return;
	end_behind(digest);
	begin_pass(digest, NULL, TRUE);
	atomic_store(&digest->behind_done, FALSE);
	digest->behind = g_thread_new("ferry-digest", behind_thread, digest);
}

gboolean ferry_digest_finish(FerryDigest *digest, const gint *cancel, guint64 *value)
{
	guint n = CLAMP(g_get_num_processors(), 1, THREADS_MAX) - 1;
	GThread *threads[THREADS_MAX - 1];

	end_behind(digest);
	begin_pass(digest, cancel, FALSE);
	for (guint i = 0; i < n; i++)
		threads[i] = g_thread_new("ferry-digest", pass_thread, digest);
	pass_thread(digest);
	for (guint i = 0; i < n; i++)
		g_thread_join(threads[i]);
	if (digest->cancelled)
		return FALSE;
	*value = combine(digest);
	return TRUE;
}

gboolean ferry_digest_ram(const FerryRam *ram, const gint *cancel, guint64 *value)
{
	g_autoptr(FerryDigest) digest = ferry_digest_new(ram);

	return ferry_digest_finish(digest, cancel, value);
}

gint64 ferry_digest_estimate(const FerryRam *ram)
{
	g_autoptr(FerryDigest) digest = ferry_digest_new(ram);
	guint64 step = MAX(digest->n_chunks / SAMPLE_CHUNKS, 1), sampled = 0, value;
	FerryCpuWait wait;
	gint64 begin;

	for (guint64 i = 0; i < digest->n_chunks; i++) {
		if (i % step)
			atomic_init(&digest->stale[i], FRESH);
		else
			sampled++;
	}
	begin = g_get_monotonic_time();
	ferry_cpu_wait_begin(&wait);
	ferry_digest_finish(digest, NULL, &value);
	return (g_get_monotonic_time() - begin - ferry_cpu_wait_us(&wait)) *
	       (gint64)digest->n_chunks / (gint64)MAX(sampled, 1);
}
