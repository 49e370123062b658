/* SPDX-License-Identifier: BSD-2-Clause */
#include "destination-private.h"

#include <ferry/page-codec.h>
#include "page-workers.h"

/* be32 block, be64 page, be32 form, be32 length. */
#define ENCODED_PAYLOAD 20u

static void landed(FerryIncoming *incoming, const FerryRun *run)
{
	if (incoming->digest)
		ferry_digest_touched(incoming->digest, run);
}

/* ---- deflated pages, by threads ---- */

/* A FerryPageWork over a FerryIncoming. */
static void inflate_page(gpointer user, FerryPageJob *job)
{
	FerryIncoming *incoming = user;
	const FerryRun run = { job->block, job->page, 1 };

	if (ferry_page_inflate(job->bytes, job->len, ferry_run_host(incoming->memory, &run),
			       &job->error)) {
		landed(incoming, &run);
		return;
	}
	g_prefix_error(&job->error, "RAM block '%s', page %" G_GUINT64_FORMAT ": ",
		       incoming->memory->blocks[job->block].name, job->page);
}

/* Waits for one page to be inflated, if any is under way. */
static gboolean await_one(FerryIncoming *incoming, GError **error)
{
	FerryPageJob *job = ferry_page_workers_finished(incoming->inflaters, G_TIME_SPAN_MINUTE);

	if (!job || !job->error)
		return TRUE;
	g_propagate_error(error, g_steal_pointer(&job->error));
	return FALSE;
}

gboolean ferry_incoming_await_inflated(FerryIncoming *incoming, GError **error)
{
	while (incoming->inflaters && ferry_page_workers_under_way(incoming->inflaters))
		if (!await_one(incoming, error))
			return FALSE;
	return TRUE;
}

/* What came first must not land last. */
gboolean ferry_incoming_await_page(FerryIncoming *incoming, guint32 block, guint64 page,
				   GError **error)
{
	while (incoming->inflaters && ferry_page_workers_have(incoming->inflaters, block, page))
		if (!await_one(incoming, error))
			return FALSE;
	return TRUE;
}

static FerryPageJob *find_job(FerryIncoming *incoming, GError **error)
{
	FerrySettings *settings = ferry_vm_settings(incoming->vm);
	FerryPageJob *job;

	if (!incoming->inflaters)
		incoming->inflaters = ferry_page_workers_new(
			"ferry-inflate",
			(guint)ferry_settings_get_parameter(settings,
							    FERRY_PARAMETER_DECOMPRESS_THREADS),
			inflate_page, incoming, error);
	if (!incoming->inflaters)
		return NULL;
	while (!(job = ferry_page_workers_idle(incoming->inflaters)))
		if (!await_one(incoming, error))
			return NULL;
	return job;
}

static gboolean take_deflated(FerryIncoming *incoming, const FerryRun *run, guint32 len,
			      GError **error)
{
	FerryPageJob *job = find_job(incoming, error);

	if (!job)
		return FALSE;
	job->block = run->block;
	job->page = run->first;
	job->len = len;
	ferry_stream_reader_bytes(incoming->reader, job->bytes, len);
	if (!ferry_stream_reader_check(incoming->reader, error))
		return FALSE;
	ferry_page_workers_submit(incoming->inflaters, job);
	return TRUE;
}

/* ---- differences ---- */

/* They are made to what came before, which has to be there: also what lands behind its read. */
static gboolean take_difference(FerryIncoming *incoming, const FerryRun *run, guint32 len,
				GError **error)
{
	guint8 data[FERRY_PAGE_SIZE];

	ferry_stream_reader_bytes(incoming->reader, data, len);
	if (!ferry_stream_reader_check(incoming->reader, error) ||
	    !ferry_first_touch_settle(incoming->touch, error))
		return FALSE;
	if (!ferry_xbzrle_decode(data, len, ferry_run_host(incoming->memory, run), error)) {
		g_prefix_error(error, "RAM block '%s', page %" G_GUINT64_FORMAT ": ",
			       incoming->memory->blocks[run->block].name, run->first);
		return FALSE;
	}
	landed(incoming, run);
	return TRUE;
}

gboolean ferry_incoming_take_encoded(FerryIncoming *incoming, const FerryRun *run,
				     FerryPageForm form, guint32 len, GError **error)
{
	return form == FERRY_PAGE_FORM_XBZRLE ? take_difference(incoming, run, len, error)
					      : take_deflated(incoming, run, len, error);
}

/* ---- the record of Ferry peers ---- */

static gboolean refuse(const FerryIncoming *incoming, GError **error, const char *format, ...)
	G_GNUC_PRINTF(3, 4);

static gboolean refuse(const FerryIncoming *incoming, GError **error, const char *format, ...)
{
	g_autofree char *what = NULL;
	va_list args;

	va_start(args, format);
	what = g_strdup_vprintf(format, args);
	va_end(args);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "offset %" G_GUINT64_FORMAT ": record ENCODED_PAGE: %s",
		    ferry_stream_reader_offset(incoming->reader), what);
	return FALSE;
}

static gboolean check_page(const FerryIncoming *incoming, const FerryRun *run, GError **error)
{
	const FerryRam *ram = incoming->memory;

	if (run->block >= ram->n_blocks)
		return refuse(incoming, error, "block %u of %u", run->block, ram->n_blocks);
	if (run->first >= ferry_ram_block_pages(&ram->blocks[run->block]))
		return refuse(incoming, error,
			      "page %" G_GUINT64_FORMAT ", but block '%s' has %" G_GUINT64_FORMAT,
			      run->first, ram->blocks[run->block].name,
			      ferry_ram_block_pages(&ram->blocks[run->block]));
	return TRUE;
}

static gboolean check_length(const FerryIncoming *incoming, guint32 form, guint32 len,
			     GError **error)
{
	guint32 least = form == FERRY_PAGE_FORM_PLAIN ? FERRY_PAGE_SIZE : 1;
	guint32 most = form == FERRY_PAGE_FORM_ZLIB ? FERRY_PAGE_DEFLATED_MAX : FERRY_PAGE_SIZE;

	if (form > FERRY_PAGE_FORM_ZLIB)
		return refuse(incoming, error, "form %u is not known here", form);
	return (len >= least && len <= most) ||
	       refuse(incoming, error, "%u bytes in form %u, not %u to %u", len, form, least, most);
}

gboolean ferry_incoming_encoded_page(FerryIncoming *incoming, const FerryIncomingRecord *record,
				     FerryReadExactly read, FerryRun *run, GError **error)
{
	FerryRun in = { .pages = 1 };
	guint32 form, len;

	if (!incoming->may_encode || ferry_incoming_is_beside(incoming) || incoming->postcopy)
		return refuse(incoming, error,
			      "it was not agreed on, or does not belong here any more");
	if (record->length != ENCODED_PAYLOAD)
		return refuse(incoming, error, "%u bytes instead of %u", record->length,
			      ENCODED_PAYLOAD);
	in.block = ferry_load_be32(record->payload);
	in.first = ferry_load_be64(record->payload + 4);
	form = ferry_load_be32(record->payload + 12);
	len = ferry_load_be32(record->payload + 16);
	if (!check_page(incoming, &in, error) || !check_length(incoming, form, len, error) ||
	    !ferry_incoming_await_page(incoming, in.block, in.first, error) ||
	    !(form == FERRY_PAGE_FORM_PLAIN
		      ? read(incoming, ferry_run_host(incoming->memory, &in), len, error)
		      : ferry_incoming_take_encoded(incoming, &in, form, len, error)))
		return FALSE;
	*run = in;
	return TRUE;
}
