/* SPDX-License-Identifier: BSD-2-Clause */
#include "regions.h"

#include <errno.h>
#include <sys/mman.h>
#include <ferry/error.h>

/* ibv_advise_mr(3) has a 32-bit length, and a shorter piece lets others have the device between. */
#define PREFETCH_BYTES (1ull << 30)

/*
 * The queue is a list through the chunks themselves: a peer that asks for the same ones over and
 * over cannot make it longer than the RAM has chunks. A chunk can be in it to be released and,
 * behind that, to be registered: it then gets a new key, and its asker hears of it again. The two
 * are places of their own since an asker that keeps to a limit counts on the order among all
 * chunks.
 */
typedef struct {
	struct ibv_mr *mr; /* atomic; stored by the helper */
	GList release; /* data is the chunk while it is in the queue, else NULL; under the lock */
	GList want;    /* the same; never before @release */
} Chunk;

struct FerryRdmaRegions {
	const FerryVerbs *verbs;
	struct ibv_pd *pd;
	const FerryRam *ram;
	guint64 chunk_size;
	int access;
	FerryRdmaRegistered registered;
	gpointer user;

	Chunk *chunks;  /* of all blocks, one after the other */
	guint32 *first; /* of each block its first chunk, and behind the last the end */

	GMutex lock; /* guards what follows, and the queue; never held over a verb or a callback */
	GCond more;
	GQueue queue;
	gboolean stop;
	gboolean rest;     /* all chunks are wanted */
	guint32 rest_next; /* those before were looked at for that */
	FerryRdmaRegionStats stats;

	GThread *helper;
};

static guint32 block_of(const FerryRdmaRegions *r, guint32 index)
{
	guint32 block = 0;

	while (r->first[block + 1] <= index)
		block++;
	return block;
}

/* Where chunk @index lies, and how long it is. */
static size_t place(const FerryRdmaRegions *r, guint32 index, guint8 **host)
{
	guint32 block = block_of(r, index);
	guint64 offset = (guint64)(index - r->first[block]) * r->chunk_size;

	*host = r->ram->blocks[block].host + offset;
	return MIN(r->chunk_size, r->ram->blocks[block].size - offset);
}

/* Only makes the first accesses faster: a refusal costs nothing but that. */
static void prefetch(const FerryRdmaRegions *r, const struct ibv_mr *mr)
{
	enum ibv_advise_mr_advice advice = r->access & IBV_ACCESS_LOCAL_WRITE
						   ? IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE
						   : IBV_ADVISE_MR_ADVICE_PREFETCH;

	for (size_t at = 0; at < mr->length; at += PREFETCH_BYTES) {
		struct ibv_sge piece = {
			.addr = (uintptr_t)mr->addr + at,
			.length = (uint32_t)MIN(PREFETCH_BYTES, mr->length - at),
			.lkey = mr->lkey,
		};

		if (r->verbs->advise_mr(r->pd, advice, 0, &piece, 1))
			return;
	}
}

static void count_registered(FerryRdmaRegions *r, guint64 bytes, gint64 time_us)
{
	g_mutex_lock(&r->lock);
	r->stats.bytes += bytes;
	r->stats.peak_bytes = MAX(r->stats.peak_bytes, r->stats.bytes);
	r->stats.total_bytes += bytes;
	r->stats.time_us += time_us;
	r->stats.registrations++;
	g_mutex_unlock(&r->lock);
}

static void fail(FerryRdmaRegions *r, guint32 index, int error_number)
{
	guint32 block = block_of(r, index), chunk = index - r->first[block];
	g_autoptr(GError) error = NULL;

	ferry_verbs_failed(&error, "ibv_reg_mr", error_number);
	g_prefix_error(&error,
		       "registering %" G_GUINT64_FORMAT " bytes at offset %" G_GUINT64_FORMAT
		       " of block '%s': ",
		       MIN(r->chunk_size, r->ram->blocks[block].size - chunk * r->chunk_size),
		       chunk * r->chunk_size, r->ram->blocks[block].name);
	r->registered(r->user, block, chunk, NULL, error);
}

/* FALSE: the owner was told why not. */
static gboolean register_chunk(FerryRdmaRegions *r, guint32 index)
{
	gint64 start = g_get_monotonic_time();
	guint32 block = block_of(r, index);
	struct ibv_mr *mr;
	guint8 *host;
	size_t len = place(r, index, &host);

	errno = 0;
	mr = r->verbs->reg_mr(r->pd, host, len, r->access);
	if (!mr) {
		fail(r, index, errno);
		return FALSE;
	}
	if (r->access & IBV_ACCESS_ON_DEMAND)
		prefetch(r, mr);
	count_registered(r, len, g_get_monotonic_time() - start);
	g_atomic_pointer_set(&r->chunks[index].mr, mr);
	r->registered(r->user, block, index - r->first[block], mr, NULL);
	return TRUE;
}

static void deregister_chunk(FerryRdmaRegions *r, guint32 index)
{
	struct ibv_mr *mr = r->chunks[index].mr;
	guint8 *host;
	size_t len = place(r, index, &host);

	g_atomic_pointer_set(&r->chunks[index].mr, NULL);
	r->verbs->dereg_mr(mr);
	g_mutex_lock(&r->lock);
	r->stats.bytes -= len;
	r->stats.releases++;
	g_mutex_unlock(&r->lock);
}

static gboolean has_rest(const FerryRdmaRegions *r)
{
	return r->rest && r->rest_next < r->first[r->ram->n_blocks];
}

/* Takes the next chunk off the queue, or of the rest, and what is to be done with it. FALSE: the
 * helper shall end. */
static gboolean next_chunk(FerryRdmaRegions *r, guint32 *index, gboolean *release)
{
	GList *link = NULL;
	gboolean stop;

	g_mutex_lock(&r->lock);
	while (!r->stop && !(link = g_queue_pop_head_link(&r->queue)) && !has_rest(r))
		g_cond_wait(&r->more, &r->lock);
	stop = r->stop;
	if (!stop && !link) {
		*index = r->rest_next++;
		*release = FALSE;
	} else if (link) {
		Chunk *chunk = g_steal_pointer(&link->data);

		*index = (guint32)(chunk - r->chunks);
		*release = link == &chunk->release;
	}
	g_mutex_unlock(&r->lock);
	return !stop;
}

static gpointer help(gpointer user)
{
	FerryRdmaRegions *r = user;
	gboolean release = FALSE, failed = FALSE;
	guint32 index = 0;

	while (next_chunk(r, &index, &release)) {
		gboolean registered = r->chunks[index].mr != NULL;

		if (release && registered)
			deregister_chunk(r, index);
		else if (!release && !registered && !failed)
			failed = !register_chunk(r, index);
	}
	return NULL;
}

static void append(FerryRdmaRegions *r, GList *link, Chunk *chunk)
{
	if (link->data)
		return;
	link->data = chunk;
	g_queue_push_tail_link(&r->queue, link);
}

static void append_release(FerryRdmaRegions *r, Chunk *chunk)
{
	if (chunk->want.data) {
		g_queue_unlink(&r->queue, &chunk->want);
		chunk->want.data = NULL;
	}
	append(r, &chunk->release, chunk);
}

static gboolean check(const FerryRdmaRegions *r, const FerryRdmaChunks *chunks, GError **error)
{
	guint32 n;

	if (chunks->block >= r->ram->n_blocks) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "the peer speaks of chunks of block %u, of %u blocks", chunks->block,
			    r->ram->n_blocks);
		return FALSE;
	}
	n = ferry_rdma_regions_chunks(r, chunks->block);
	if (chunks->chunks > n || chunks->first > n - chunks->chunks) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "the peer speaks of %u chunks from %u on of block '%s', which has %u",
			    chunks->chunks, chunks->first, r->ram->blocks[chunks->block].name, n);
		return FALSE;
	}
	return TRUE;
}

static gboolean ask(FerryRdmaRegions *r, const FerryRdmaChunks *chunks, gboolean release,
		    GError **error)
{
	guint32 from;

	if (!check(r, chunks, error))
		return FALSE;
	from = r->first[chunks->block] + chunks->first;
	g_mutex_lock(&r->lock);
	for (Chunk *chunk = r->chunks + from; chunk < r->chunks + from + chunks->chunks; chunk++) {
		if (release)
			append_release(r, chunk);
		else
			append(r, &chunk->want, chunk);
	}
	g_cond_signal(&r->more);
	g_mutex_unlock(&r->lock);
	return TRUE;
}

gboolean ferry_rdma_regions_request(FerryRdmaRegions *regions, const FerryRdmaChunks *chunks,
				    GError **error)
{
	return ask(regions, chunks, FALSE, error);
}

gboolean ferry_rdma_regions_release(FerryRdmaRegions *regions, const FerryRdmaChunks *chunks,
				    GError **error)
{
	return ask(regions, chunks, TRUE, error);
}

void ferry_rdma_regions_request_rest(FerryRdmaRegions *regions)
{
	g_mutex_lock(&regions->lock);
	regions->rest = TRUE;
	g_cond_signal(&regions->more);
	g_mutex_unlock(&regions->lock);
}

guint32 ferry_rdma_regions_chunks(const FerryRdmaRegions *regions, guint32 block)
{
	return regions->first[block + 1] - regions->first[block];
}

const struct ibv_mr *ferry_rdma_regions_get(const FerryRdmaRegions *regions, guint32 block,
					    guint32 chunk)
{
	return g_atomic_pointer_get(&regions->chunks[regions->first[block] + chunk].mr);
}

void ferry_rdma_regions_get_stats(FerryRdmaRegions *regions, FerryRdmaRegionStats *stats)
{
	g_mutex_lock(&regions->lock);
	*stats = regions->stats;
	g_mutex_unlock(&regions->lock);
}

/* Fills the table of first chunks. */
static void number_chunks(FerryRdmaRegions *r)
{
	r->first = g_new0(guint32, r->ram->n_blocks + 1);
	for (guint i = 0; i < r->ram->n_blocks; i++) {
		guint64 n = (r->ram->blocks[i].size + r->chunk_size - 1) / r->chunk_size;

		r->first[i + 1] = r->first[i] + (guint32)n;
	}
}

/* Where the host gives huge pages to those who ask, clearing the memory of a chunk takes a tenth of
 * the time (docs/rdma.md has the figures). Only for memory that will be written whole: at the
 * source it would do no more than make dirty tracking split them. A host that gives none loses
 * nothing. */
static void ask_for_huge_pages(const FerryRam *ram)
{
	for (guint i = 0; i < ram->n_blocks; i++)
		if (ram->blocks[i].page_size == FERRY_PAGE_SIZE)
			(void)madvise(ram->blocks[i].host, ram->blocks[i].size, MADV_HUGEPAGE);
}

FerryRdmaRegions *ferry_rdma_regions_new(const FerryVerbs *verbs, struct ibv_pd *pd,
					 const FerryRam *ram, guint64 chunk_size, int access,
					 FerryRdmaRegistered registered, gpointer user)
{
	FerryRdmaRegions *r = g_new0(FerryRdmaRegions, 1);

	r->verbs = verbs;
	r->pd = pd;
	r->ram = ram;
	r->chunk_size = chunk_size;
	r->access = access;
	r->registered = registered;
	r->user = user;
	g_queue_init(&r->queue);
	number_chunks(r);
	r->chunks = g_new0(Chunk, r->first[ram->n_blocks]);
	g_mutex_init(&r->lock);
	g_cond_init(&r->more);
	if (access & IBV_ACCESS_REMOTE_WRITE)
		ask_for_huge_pages(ram);
	r->helper = g_thread_new("ferry-regions", help, r);
	return r;
}

void ferry_rdma_regions_free(FerryRdmaRegions *regions)
{
	if (!regions)
		return;
	g_mutex_lock(&regions->lock);
	regions->stop = TRUE;
	g_cond_signal(&regions->more);
	g_mutex_unlock(&regions->lock);
	g_thread_join(regions->helper);
	for (guint32 i = 0; i < regions->first[regions->ram->n_blocks]; i++)
		if (regions->chunks[i].mr)
			regions->verbs->dereg_mr(regions->chunks[i].mr);
	g_cond_clear(&regions->more);
	g_mutex_clear(&regions->lock);
	g_free(regions->chunks);
	g_free(regions->first);
	g_free(regions);
}
