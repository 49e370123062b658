/* SPDX-License-Identifier: BSD-2-Clause */
#include "mapped-file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "page-landing.h"
#include "zero.h"

/* What a thread takes at a time, pages, a multiple of 64: 2 MiB. */
#define CHUNK_PAGES 512u
/* A thread's buffer: what is read at a time stays in the cache until it is written. */
#define BOUNCE_PAGES 64u

typedef struct {
	FerryCarrier base;
	FerryMappedFile file;
	const FerryRam *ram; /* borrowed; NULL before share_ram() */
	FerryZeroer zeroer;
	guint64 **bitmaps;    /* one a block, in the CPU's order; NULL: none of it is there */
	FerryLanding landing; /* of @ram */
	FerryTakeRun take;    /* of the load under way; or NULL */
	gpointer user;
	guint64 next;  /* the chunk that no thread has yet, counted through all blocks */
	gint failed;   /* atomic: of the load under way */
	GError *error; /* its first; under @lock */
	GMutex lock;   /* of @error */
	guint64 bytes, pages, zero_pages; /* relaxed */
} Loader;

/* ---- one run ---- */

static gboolean read_run(Loader *l, const FerryRun *run, guint8 *to, GError **error)
{
	guint64 offset = l->file.places[run->block].pages + (run->first << FERRY_PAGE_SHIFT);

	return ferry_mapped_file_read(&l->file, l->file.fd, to, ferry_run_bytes(run), offset,
				      error);
}

static gboolean write_run(Loader *l, const FerryRun *run, const guint8 *data, GError **error)
{
	return ferry_landing_write(&l->landing, run->block, run->first << FERRY_PAGE_SHIFT, data,
				   ferry_run_bytes(run), error);
}

/* By way of a buffer of BOUNCE_PAGES. */
static gboolean bounce_run(Loader *l, const FerryRun *run, guint8 *bounce, GError **error)
{
	for (guint64 done = 0; done < run->pages; done += BOUNCE_PAGES) {
		FerryRun part = { run->block, run->first + done,
				  MIN(run->pages - done, BOUNCE_PAGES) };

		if (!read_run(l, &part, bounce, error) ||
		    !(l->take ? l->take(l->user, &part, bounce, error)
			      : write_run(l, &part, bounce, error)))
			return FALSE;
	}
	return TRUE;
}

static gboolean load_run(Loader *l, const FerryRun *run, guint8 *bounce, GError **error)
{
	if (l->take || ferry_landing_is_by_file(&l->landing, run->block))
		return bounce_run(l, run, bounce, error);
	madvise(ferry_run_host(l->ram, run), ferry_run_bytes(run), MADV_POPULATE_WRITE);
	return read_run(l, run, ferry_run_host(l->ram, run), error);
}

static gboolean clear_run(Loader *l, const FerryRun *run, GError **error)
{
	if (l->take)
		return l->take(l->user, run, NULL, error);
	ferry_zeroer_clear(&l->zeroer, l->ram, run);
	return TRUE;
}

/* ---- all of them ---- */

static gboolean is_there(const guint64 *bitmap, guint64 page)
{
	return bitmap[page / 64] >> page % 64 & 1;
}

/* The first page from @page on that is not as it is, at most @end. */
static guint64 find_change(const guint64 *bitmap, guint64 page, guint64 end)
{
	const guint64 same = is_there(bitmap, page) ? G_MAXUINT64 : 0;

	while (page < end) {
		guint64 differs = (bitmap[page / 64] ^ same) >> page % 64;

		if (differs)
			return MIN(page + (guint64)__builtin_ctzll(differs), end);
		page += 64 - page % 64;
	}
	return end;
}

static gboolean load_chunk(Loader *l, guint block, guint64 first, guint8 *bounce, GError **error)
{
	const guint64 *bitmap = l->bitmaps[block];
	guint64 end = MIN(first + CHUNK_PAGES, ferry_ram_block_pages(&l->ram->blocks[block]));

	for (guint64 page = first; page < end;) {
		guint64 next = find_change(bitmap, page, end);
		FerryRun run = { block, page, next - page };
		gboolean there = is_there(bitmap, page);

		if (!(there ? load_run(l, &run, bounce, error) : clear_run(l, &run, error)))
			return FALSE;
		__atomic_fetch_add(there ? &l->pages : &l->zero_pages, run.pages, __ATOMIC_RELAXED);
		if (there)
			__atomic_fetch_add(&l->bytes, ferry_run_bytes(&run), __ATOMIC_RELAXED);
		page = next;
	}
	return TRUE;
}

/* The chunk of that number; FALSE behind the last. */
static gboolean find_chunk(const Loader *l, guint64 number, guint *block, guint64 *first)
{
	for (guint i = 0; i < l->ram->n_blocks; i++) {
		guint64 pages = ferry_ram_block_pages(&l->ram->blocks[i]);
		guint64 chunks = (pages + CHUNK_PAGES - 1) / CHUNK_PAGES;

		if (number < chunks) {
			*block = i;
			*first = number * CHUNK_PAGES;
			return TRUE;
		}
		number -= chunks;
	}
	return FALSE;
}

static void fail(Loader *l, GError *error)
{
	g_mutex_lock(&l->lock);
	if (l->error)
		g_error_free(error);
	else
		l->error = error;
	g_mutex_unlock(&l->lock);
	g_atomic_int_set(&l->failed, 1);
}

static gpointer load_thread(gpointer data)
{
	Loader *l = data;
	guint8 *bounce = g_aligned_alloc(BOUNCE_PAGES, FERRY_PAGE_SIZE, FERRY_PAGE_SIZE);
	GError *error = NULL;
	guint64 first;
	guint block;

	ferry_mapped_file_block_signal();
	while (!error && !g_atomic_int_get(&l->failed) &&
	       find_chunk(l, __atomic_fetch_add(&l->next, 1, __ATOMIC_RELAXED), &block, &first))
		if (l->bitmaps[block])
			load_chunk(l, block, first, bounce, &error);
	if (error)
		fail(l, error);
	g_aligned_free(bounce);
	return NULL;
}

/* A bitmap's padding says nothing of a page: whoever read the list has refused it. */
static gboolean read_bitmaps(Loader *l, GError **error)
{
	for (guint i = 0; i < l->ram->n_blocks; i++) {
		guint64 bytes = ferry_mapped_bitmap_bytes(l->ram->blocks[i].size);

		if (l->bitmaps[i] || !l->file.places[i].pages)
			continue;
		l->bitmaps[i] = g_malloc(bytes);
		if (!ferry_mapped_file_read(&l->file, ferry_mapped_file_stream(&l->file),
					    l->bitmaps[i], bytes, l->file.places[i].bitmap, error))
			return FALSE;
		for (guint64 word = 0; word < bytes / 8; word++)
			l->bitmaps[i][word] = GUINT64_FROM_LE(l->bitmaps[i][word]);
	}
	return TRUE;
}

/* The threads end with it. Where one cannot be had the others do its part. */
static gboolean loader_load(FerryCarrier *carrier, FerryTakeRun take, gpointer user, GError **error)
{
	Loader *l = (Loader *)carrier;
	g_autofree GThread **threads = g_new0(GThread *, l->file.threads);

	if (!read_bitmaps(l, error))
		return FALSE;
	l->take = take;
	l->user = user;
	l->next = 0;
	for (guint i = 0; i < l->file.threads; i++)
		threads[i] = g_thread_try_new("ferry-mapped", load_thread, l, NULL);
	if (!threads[0])
		load_thread(l);
	for (guint i = 0; i < l->file.threads; i++)
		if (threads[i])
			g_thread_join(threads[i]);
	if (!l->error)
		return TRUE;
	g_propagate_error(error, g_steal_pointer(&l->error));
	return FALSE;
}

static gboolean loader_share_ram(FerryCarrier *carrier, const FerryRam *ram, GError **error)
{
	Loader *l = (Loader *)carrier;

	l->ram = ram;
	l->bitmaps = g_new0(guint64 *, l->file.n_places);
	ferry_landing_init(&l->landing, ram);
	return TRUE;
}

static void loader_quiesce(FerryCarrier *carrier)
{
}

static void loader_get_stats(FerryCarrier *carrier, FerryCarrierStats *stats)
{
	Loader *l = (Loader *)carrier;

	stats->bytes = __atomic_load_n(&l->bytes, __ATOMIC_RELAXED);
	stats->pages = __atomic_load_n(&l->pages, __ATOMIC_RELAXED);
	stats->zero_pages = __atomic_load_n(&l->zero_pages, __ATOMIC_RELAXED);
}

static void loader_close(FerryCarrier *carrier)
{
	Loader *l = (Loader *)carrier;

	for (guint i = 0; l->bitmaps && i < l->file.n_places; i++)
		g_free(l->bitmaps[i]);
	g_free(l->bitmaps);
	ferry_landing_clear(&l->landing);
	ferry_zeroer_close(&l->zeroer);
	g_clear_error(&l->error);
	g_mutex_clear(&l->lock);
	ferry_mapped_file_clear(&l->file);
	g_free(l);
}

static const FerryCarrierOps loader_ops = {
	.name = "file",
	.share_ram = loader_share_ram,
	.load = loader_load,
	.quiesce = loader_quiesce,
	.get_stats = loader_get_stats,
	.close = loader_close,
};

FerryCarrier *ferry_mapped_loader_new(FerryMappedFile *file)
{
	Loader *l = g_new0(Loader, 1);

	l->base.ops = &loader_ops;
	l->file = *file;
	l->zeroer = ferry_zeroer_open();
	g_mutex_init(&l->lock);
	return &l->base;
}
