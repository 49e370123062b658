/* SPDX-License-Identifier: BSD-2-Clause */
#include "mapped-file.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include "wake.h"

/* A power of two: the positions run on and wrap. */
#define SLOTS 32u
/* Largest write: more gains nothing, and a cancel waits for one. */
#define PIECE_PAGES 256u

typedef struct Writer Writer;

/*
 * A thread that writes what the engine's thread hands it through a ring without locks: positions
 * only grow, and each is stored by one side. A slot without pages is the bitmap of its block.
 */
typedef struct {
	guint32 head; /* next slot to fill; the engine's thread stores */
	FerryRun slots[SLOTS];
	guint32 tail;  /* all before it are in the file; this thread stores */
	guint64 bytes; /* written; this thread stores: relaxed */
	Writer *writer;
	FerryWake work;
	GThread *thread;
} Worker;

struct Writer {
	FerryCarrier base;
	FerryMappedFile file;
	const FerryRam *ram; /* borrowed; NULL before share_ram() */
	/* One bit a page, as in the file: the engine's thread writes them, and no thread writes
	 * them to the file but between two settle()s that answer AGAIN. */
	guint64 **bitmaps;
	gboolean bitmaps_old; /* they are not in the file as they are */
	guint next_bitmap;    /* of the settle() under way */
	FerryRun rest;        /* of the last run that was taken; pages 0: nothing */
	Worker *workers;
	guint n_workers;         /* that have a thread */
	FerryWake wake;          /* of the engine's thread */
	gint stopping;           /* atomic */
	GError *error;           /* atomic: the first one; owned until it is taken */
	gint dead;               /* atomic; behind @error */
	FerryCarrierStats stats; /* @bytes apart; the engine's thread stores: relaxed */
};

/* ---- the workers ---- */

static void die(Writer *w, GError *error)
{
	GError *none = NULL;

	if (!__atomic_compare_exchange_n(&w->error, &none, error, FALSE, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST))
		g_error_free(error);
	__atomic_store_n(&w->dead, 1, __ATOMIC_SEQ_CST);
	ferry_wake_signal(&w->wake);
}

static guint32 filled(Worker *k)
{
	return __atomic_load_n(&k->head, __ATOMIC_SEQ_CST) -
	       __atomic_load_n(&k->tail, __ATOMIC_SEQ_CST);
}

static gboolean write_slot(Worker *k, const FerryRun *slot, GError **error)
{
	Writer *w = k->writer;
	const FerryMappedPlace *place = &w->file.places[slot->block];
	const guint64 bitmap_bytes = ferry_mapped_bitmap_bytes(w->ram->blocks[slot->block].size);
	guint64 bytes = slot->pages ? ferry_run_bytes(slot) : bitmap_bytes;
	gboolean ok;

	if (slot->pages)
		ok = ferry_mapped_file_write(
			&w->file, w->file.fd, ferry_run_host(w->ram, slot), bytes,
			place->pages + (slot->first << FERRY_PAGE_SHIFT), error);
	else
		ok = ferry_mapped_file_write(&w->file, ferry_mapped_file_stream(&w->file),
					     w->bitmaps[slot->block], bytes, place->bitmap, error);
	if (ok)
		__atomic_store_n(&k->bytes, k->bytes + bytes, __ATOMIC_RELAXED);
	return ok;
}

static void sleep_for_work(Worker *k)
{
	ferry_wake_begin(&k->work);
	if (!filled(k) && !__atomic_load_n(&k->writer->stopping, __ATOMIC_SEQ_CST))
		ferry_fd_channel_wait(k->writer->file.channel, k->work.fd, POLLIN, -1);
	ferry_wake_end(&k->work);
}

static gpointer work(gpointer data)
{
	Worker *k = data;
	Writer *w = k->writer;
	GError *error = NULL;

	ferry_mapped_file_block_signal();
	while (!__atomic_load_n(&w->stopping, __ATOMIC_SEQ_CST) &&
	       !ferry_fd_channel_is_shut(w->file.channel, &error)) {
		if (!filled(k)) {
			sleep_for_work(k);
			continue;
		}
		if (!write_slot(k, &k->slots[k->tail % SLOTS], &error))
			break;
		__atomic_store_n(&k->tail, k->tail + 1, __ATOMIC_SEQ_CST);
		ferry_wake_signal(&w->wake);
	}
	if (error)
		die(w, error);
	return NULL;
}

/* ---- the engine's thread ---- */

static void push(Worker *k, const FerryRun *slot)
{
	k->slots[k->head % SLOTS] = *slot;
	__atomic_store_n(&k->head, k->head + 1, __ATOMIC_SEQ_CST);
	ferry_wake_signal(&k->work);
}

/* The one with the least to do; NULL where none has room. */
static Worker *find_room(Writer *w)
{
	Worker *best = &w->workers[0];

	for (guint i = 1; i < w->n_workers; i++)
		if (filled(&w->workers[i]) < filled(best))
			best = &w->workers[i];
	return filled(best) < SLOTS ? best : NULL;
}

static gboolean all_written(Writer *w)
{
	for (guint i = 0; i < w->n_workers; i++)
		if (filled(&w->workers[i]))
			return FALSE;
	return !w->rest.pages;
}

static gboolean is_dead(Writer *w)
{
	return __atomic_load_n(&w->dead, __ATOMIC_SEQ_CST);
}

/* OK: there is room for another run. */
static FerryIo hand_out(Writer *w)
{
	Worker *k;

	if (is_dead(w))
		return FERRY_IO_DEAD;
	while ((k = find_room(w)) && w->rest.pages) {
		FerryRun piece = w->rest;

		piece.pages = MIN(piece.pages, PIECE_PAGES);
		push(k, &piece);
		w->rest.first += piece.pages;
		w->rest.pages -= piece.pages;
	}
	return w->rest.pages || !k ? FERRY_IO_AGAIN : FERRY_IO_OK;
}

static void count(guint64 *counter, guint64 n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static guint64 mask_of(guint64 first, guint64 end, guint64 word)
{
	guint64 from = MAX(first, word * 64) - word * 64, to = MIN(end, word * 64 + 64) - word * 64;
	guint64 mask = to - from == 64 ? G_MAXUINT64 : (((guint64)1 << (to - from)) - 1) << from;

	return GUINT64_TO_LE(mask);
}

static void mark(Writer *w, const FerryRun *run, gboolean there)
{
	guint64 *words = w->bitmaps[run->block], end = run->first + run->pages;

	for (guint64 i = run->first / 64; i * 64 < end; i++) {
		guint64 mask = mask_of(run->first, end, i);

		words[i] = there ? words[i] | mask : words[i] & ~mask;
	}
	w->bitmaps_old = TRUE;
}

static FerryIo writer_put(FerryCarrier *carrier, const FerryRun *runs, size_t n, size_t *taken)
{
	Writer *w = (Writer *)carrier;
	FerryIo io = is_dead(w) ? FERRY_IO_DEAD : FERRY_IO_OK;

	*taken = 0;
	while (io == FERRY_IO_OK && *taken < n) {
		io = hand_out(w);
		if (io != FERRY_IO_OK)
			break;
		w->rest = runs[(*taken)++];
		mark(w, &w->rest, TRUE);
		count(&w->stats.pages, w->rest.pages);
	}
	return io;
}

/* A page of zeros is not there. What an earlier round wrote stays, and nobody reads it. */
static FerryIo writer_put_zero(FerryCarrier *carrier, const FerryRun *runs, size_t n, size_t *taken)
{
	Writer *w = (Writer *)carrier;

	*taken = 0;
	if (is_dead(w))
		return FERRY_IO_DEAD;
	for (; *taken < n; (*taken)++) {
		mark(w, &runs[*taken], FALSE);
		count(&w->stats.zero_pages, runs[*taken].pages);
	}
	return FERRY_IO_OK;
}

static FerryIo writer_progress(FerryCarrier *carrier)
{
	Writer *w = (Writer *)carrier;

	if (hand_out(w) == FERRY_IO_DEAD)
		return FERRY_IO_DEAD;
	return all_written(w) ? FERRY_IO_OK : FERRY_IO_AGAIN;
}

static void writer_wait(FerryCarrier *carrier, gint64 timeout_us)
{
	Writer *w = (Writer *)carrier;
	Worker *k;

	ferry_wake_begin(&w->wake);
	k = find_room(w);
	if (!is_dead(w) && !(k && w->rest.pages) && !all_written(w))
		ferry_fd_channel_wait(w->file.channel, w->wake.fd, POLLIN, timeout_us);
	ferry_wake_end(&w->wake);
}

/* A fence is where the file is whole: the bitmaps follow the pages. */
static FerryIo writer_settle(FerryCarrier *carrier, guint32 fence)
{
	Writer *w = (Writer *)carrier;
	FerryIo io = writer_progress(carrier);

	if (io != FERRY_IO_OK || !w->bitmaps_old)
		return io;
	while (w->next_bitmap < w->ram->n_blocks) {
		Worker *k = find_room(w);

		if (!k)
			return FERRY_IO_AGAIN;
		if (w->file.places[w->next_bitmap].pages)
			push(k, &(FerryRun){ .block = w->next_bitmap });
		w->next_bitmap++;
	}
	w->bitmaps_old = FALSE;
	w->next_bitmap = 0;
	return writer_progress(carrier);
}

static gboolean start_worker(Writer *w, Worker *k, GError **error)
{
	g_autoptr(GError) cause = NULL;

	k->writer = w;
	if (!ferry_wake_open(&k->work)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO,
			    "%s: no descriptor for a thread: %s", w->file.channel->peer,
			    g_strerror(errno));
		return FALSE;
	}
	w->n_workers++;
	k->thread = g_thread_try_new("ferry-mapped", work, k, &cause);
	if (k->thread)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO, "%s: no thread: %s", w->file.channel->peer,
		    cause->message);
	return FALSE;
}

static gboolean writer_share_ram(FerryCarrier *carrier, const FerryRam *ram, GError **error)
{
	Writer *w = (Writer *)carrier;

	w->ram = ram;
	w->bitmaps = g_new0(guint64 *, w->file.n_places);
	for (guint i = 0; i < ram->n_blocks; i++)
		w->bitmaps[i] = g_malloc0(ferry_mapped_bitmap_bytes(ram->blocks[i].size));
	w->bitmaps_old = TRUE;
	w->workers = g_new0(Worker, w->file.threads);
	for (guint i = 0; i < w->file.threads; i++)
		if (!start_worker(w, &w->workers[i], error))
			return FALSE;
	return TRUE;
}

static void writer_quiesce(FerryCarrier *carrier)
{
}

static void writer_get_stats(FerryCarrier *carrier, FerryCarrierStats *stats)
{
	Writer *w = (Writer *)carrier;

	*stats = (FerryCarrierStats){
		.pages = __atomic_load_n(&w->stats.pages, __ATOMIC_RELAXED),
		.zero_pages = __atomic_load_n(&w->stats.zero_pages, __ATOMIC_RELAXED),
	};
	for (guint i = 0; i < w->n_workers; i++)
		stats->bytes += __atomic_load_n(&w->workers[i].bytes, __ATOMIC_RELAXED);
}

static GError *writer_take_error(FerryCarrier *carrier)
{
	return __atomic_exchange_n(&((Writer *)carrier)->error, NULL, __ATOMIC_SEQ_CST);
}

static void writer_close(FerryCarrier *carrier)
{
	Writer *w = (Writer *)carrier;

	__atomic_store_n(&w->stopping, 1, __ATOMIC_SEQ_CST);
	for (guint i = 0; i < w->n_workers; i++) {
		ferry_wake_signal(&w->workers[i].work);
		if (w->workers[i].thread)
			g_thread_join(w->workers[i].thread);
		ferry_wake_close(&w->workers[i].work);
	}
	for (guint i = 0; w->bitmaps && i < w->file.n_places; i++)
		g_free(w->bitmaps[i]);
	g_free(w->bitmaps);
	g_free(w->workers);
	ferry_wake_close(&w->wake);
	g_clear_error(&w->error);
	ferry_mapped_file_clear(&w->file);
	g_free(w);
}

static const FerryCarrierOps writer_ops = {
	.name = "file",
	.share_ram = writer_share_ram,
	.put = writer_put,
	.put_zero = writer_put_zero,
	.progress = writer_progress,
	.wait = writer_wait,
	.settle = writer_settle,
	.quiesce = writer_quiesce,
	.get_stats = writer_get_stats,
	.take_error = writer_take_error,
	.close = writer_close,
};

FerryCarrier *ferry_mapped_writer_new(FerryMappedFile *file, GError **error)
{
	Writer *w = g_new0(Writer, 1);

	w->base.ops = &writer_ops;
	w->file = *file;
	if (ferry_wake_open(&w->wake))
		return &w->base;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO, "%s: no descriptor left: %s",
		    file->channel->peer, g_strerror(errno));
	writer_close(&w->base);
	return NULL;
}
