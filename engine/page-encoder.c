/* SPDX-License-Identifier: BSD-2-Clause */
#include "page-encoder.h"

#include <string.h>
#include "page-workers.h"
#include "xbzrle-cache.h"

/* Of one round, for its rates. */
typedef struct {
	guint64 pages;   /* offered */
	guint64 missed;  /* xbzrle: not in the cache; compress: no thread free */
	guint64 encoded; /* pages */
	guint64 bytes;   /* that they became */
	guint64 unchanged;
} Counts;

struct FerryPageEncoder {
	const FerryRam *ram;       /* borrowed */
	FerrySettings *settings;   /* borrowed */
	FerryXbzrleCache *cache;   /* NULL: no xbzrle */
	guint64 refused_size;      /* of a cache for which there was no memory */
	FerryPageWorkers *workers; /* NULL: no compress */
	guint round;
	gboolean stopped;
	Counts counts;
	FerryXbzrleStatus xbzrle;
	FerryCompressionStatus compression;
	guint8 copy[FERRY_PAGE_SIZE];
	guint8 difference[FERRY_PAGE_SIZE];
};

/* A FerryPageWork over a FerryPageEncoder. What does not become smaller goes plain. */
static void deflate_page(gpointer user, FerryPageJob *job)
{
	FerryPageEncoder *encoder = user;
	const FerryRun run = { job->block, job->page, 1 };

	memcpy(job->plain, ferry_run_host(encoder->ram, &run), FERRY_PAGE_SIZE);
	job->len = ferry_page_deflate(job->plain, job->level, job->bytes);
	job->form = FERRY_PAGE_FORM_ZLIB;
	if (!job->len || job->len >= FERRY_PAGE_SIZE) {
		job->len = FERRY_PAGE_SIZE;
		job->form = FERRY_PAGE_FORM_PLAIN;
	}
}

FerryPageEncoder *ferry_page_encoder_new(const FerryRam *ram, FerrySettings *settings,
					 GError **error)
{
	g_autoptr(FerryPageEncoder) encoder = g_new0(FerryPageEncoder, 1);

	encoder->ram = ram;
	encoder->settings = settings;
	encoder->xbzrle.on = ferry_settings_get_capability(settings, FERRY_CAPABILITY_XBZRLE);
	encoder->compression.on = ferry_settings_get_capability(settings,
								FERRY_CAPABILITY_COMPRESS);
	if (encoder->xbzrle.on) {
		encoder->xbzrle.cache_size = ferry_settings_get_parameter(
			settings, FERRY_PARAMETER_XBZRLE_CACHE_SIZE);
		encoder->cache = ferry_xbzrle_cache_new(ram, encoder->xbzrle.cache_size, error);
		if (!encoder->cache)
			return NULL;
	}
	if (encoder->compression.on) {
		encoder->workers = ferry_page_workers_new(
			"ferry-deflate",
			(guint)ferry_settings_get_parameter(settings,
							    FERRY_PARAMETER_COMPRESS_THREADS),
			deflate_page, encoder, error);
		if (!encoder->workers)
			return NULL;
	}
	return encoder->cache || encoder->workers ? g_steal_pointer(&encoder) : NULL;
}

void ferry_page_encoder_free(FerryPageEncoder *encoder)
{
	if (!encoder)
		return;
	ferry_page_workers_free(encoder->workers);
	ferry_xbzrle_cache_free(encoder->cache);
	g_free(encoder);
}

void ferry_page_encoder_begin_round(FerryPageEncoder *encoder, guint round, gboolean stopped)
{
	encoder->round = round;
	encoder->stopped = stopped;
	encoder->counts = (Counts){ 0 };
}

/* The first round's pages do not come again soon: remembering them would cost a copy of each. */
static gboolean uses_cache(const FerryPageEncoder *encoder)
{
	return encoder->cache && encoder->round > 1;
}

gboolean ferry_page_encoder_is_active(const FerryPageEncoder *encoder)
{
	return encoder->cache ? encoder->round > 1 || encoder->workers : TRUE;
}

void ferry_page_encoder_end_round(FerryPageEncoder *encoder)
{
	const Counts *counts = &encoder->counts;
	double missed = counts->pages ? (double)counts->missed / (double)counts->pages : 0;

	if (!uses_cache(encoder)) {
		encoder->compression.busy_rate = missed;
		return;
	}
	encoder->xbzrle.cache_miss_rate = missed;
	encoder->xbzrle.encoding_rate = counts->bytes
						? (double)(counts->encoded << FERRY_PAGE_SHIFT) /
							  counts->bytes
						: 0;
}

/* ---- xbzrle ---- */

/* The cache has the size that is set, or, where there is no memory for it, the one before. */
static void follow_size(FerryPageEncoder *encoder)
{
	guint64 size = ferry_settings_get_parameter(encoder->settings,
						    FERRY_PARAMETER_XBZRLE_CACHE_SIZE);

	if (size == ferry_xbzrle_cache_size(encoder->cache) || size == encoder->refused_size)
		return;
	if (!ferry_xbzrle_cache_resize(encoder->cache, size, NULL))
		encoder->refused_size = size;
	encoder->xbzrle.cache_size = ferry_xbzrle_cache_size(encoder->cache);
}

/* Whole, from the cache, where it stands now. */
static FerryEncoding give_cached(const guint8 *cached, FerryEncodedPage *encoded)
{
	encoded->form = FERRY_PAGE_FORM_PLAIN;
	encoded->data = cached;
	encoded->len = FERRY_PAGE_SIZE;
	return FERRY_ENCODE_NOW;
}

static FerryEncoding remember(FerryPageEncoder *encoder, const FerryRun *run,
			      FerryEncodedPage *encoded)
{
	/* What goes with the guest stopped does not go again. */
	guint8 *cached = encoder->stopped ? NULL
					  : ferry_xbzrle_cache_put(encoder->cache, run->block,
								   run->first, encoder->round);

	encoder->xbzrle.cache_miss++;
	encoder->counts.missed++;
	if (!cached)
		return FERRY_ENCODE_AS_IS;
	memcpy(cached, ferry_run_host(encoder->ram, run), FERRY_PAGE_SIZE);
	return give_cached(cached, encoded);
}

static FerryEncoding find_difference(FerryPageEncoder *encoder, const FerryRun *run,
				     FerryEncodedPage *encoded)
{
	guint8 *cached = ferry_xbzrle_cache_find(encoder->cache, run->block, run->first,
						 encoder->round);
	gssize len;

	encoder->counts.pages++;
	if (!cached)
		return remember(encoder, run, encoded);
	memcpy(encoder->copy, ferry_run_host(encoder->ram, run), FERRY_PAGE_SIZE);
	len = ferry_xbzrle_encode(cached, encoder->copy, encoder->difference, FERRY_PAGE_SIZE);
	if (len == 0) {
		encoder->counts.unchanged++;
		return FERRY_ENCODE_UNCHANGED;
	}
	if (len < 0) {
		encoder->xbzrle.overflow++;
		memcpy(cached, encoder->copy, FERRY_PAGE_SIZE);
		return give_cached(cached, encoded);
	}
	/* As the destination does it: cheaper than a copy, and the same by construction. */
	if (!ferry_xbzrle_decode(encoder->difference, (size_t)len, cached, NULL))
		g_assert_not_reached();
	encoder->xbzrle.pages++;
	encoder->xbzrle.bytes += (guint64)len;
	encoder->counts.encoded++;
	encoder->counts.bytes += (guint64)len;
	encoded->form = FERRY_PAGE_FORM_XBZRLE;
	encoded->data = encoder->difference;
	encoded->len = (size_t)len;
	return FERRY_ENCODE_NOW;
}

void ferry_page_encoder_zero(FerryPageEncoder *encoder, const FerryRun *run)
{
	for (guint64 i = 0; uses_cache(encoder) && i < run->pages; i++) {
		guint8 *cached = ferry_xbzrle_cache_find(encoder->cache, run->block, run->first + i,
							 encoder->round);

		if (cached)
			memset(cached, 0, FERRY_PAGE_SIZE);
	}
}

/* ---- compress ---- */

static FerryEncoding hand_in(FerryPageEncoder *encoder, const FerryRun *run)
{
	FerryPageJob *job = ferry_page_workers_idle(encoder->workers);

	if (!job &&
	    ferry_settings_get_parameter(encoder->settings, FERRY_PARAMETER_COMPRESS_WAIT_THREAD))
		return FERRY_ENCODE_WAIT;
	encoder->counts.pages++;
	if (!job) {
		encoder->compression.busy++;
		encoder->counts.missed++;
		return FERRY_ENCODE_AS_IS;
	}
	job->block = run->block;
	job->page = run->first;
	job->level = (int)ferry_settings_get_parameter(encoder->settings,
						       FERRY_PARAMETER_COMPRESS_LEVEL);
	ferry_page_workers_submit(encoder->workers, job);
	return FERRY_ENCODE_LATER;
}

gboolean ferry_page_encoder_is_busy(const FerryPageEncoder *encoder)
{
	return encoder->workers && ferry_page_workers_under_way(encoder->workers) > 0;
}

gboolean ferry_page_encoder_finished(FerryPageEncoder *encoder, gint64 timeout_us,
				     FerryEncodedPage *encoded)
{
	FerryCompressionStatus *status = &encoder->compression;
	FerryPageJob *job = encoder->workers
				    ? ferry_page_workers_finished(encoder->workers, timeout_us)
				    : NULL;

	if (!job)
		return FALSE;
	*encoded = (FerryEncodedPage){ job->block, job->page, job->form,
				       job->form == FERRY_PAGE_FORM_PLAIN ? job->plain : job->bytes,
				       job->len };
	status->pages++;
	status->compressed_size += job->len;
	status->compression_rate = (double)(status->pages << FERRY_PAGE_SHIFT) /
				   (double)status->compressed_size;
	return TRUE;
}

/* ---- */

FerryEncoding ferry_page_encoder_offer(FerryPageEncoder *encoder, guint32 block, guint64 page,
				       FerryEncodedPage *encoded)
{
	const FerryRun run = { block, page, 1 };

	if (!uses_cache(encoder))
		return hand_in(encoder, &run);
	follow_size(encoder);
	encoded->block = block;
	encoded->page = page;
	return find_difference(encoder, &run, encoded);
}

guint64 ferry_page_encoder_unchanged(const FerryPageEncoder *encoder)
{
	return encoder->counts.unchanged;
}

const FerryXbzrleStatus *ferry_page_encoder_xbzrle(const FerryPageEncoder *encoder)
{
	return &encoder->xbzrle;
}

const FerryCompressionStatus *ferry_page_encoder_compression(const FerryPageEncoder *encoder)
{
	return &encoder->compression;
}
