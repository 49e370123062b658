/* SPDX-License-Identifier: BSD-2-Clause */
#include "source-private.h"

#include "digest.h"

/* How long the destination may take to acknowledge a round that has left. */
#define ROUND_US (60 * G_TIME_SPAN_SECOND)
/* Rounds after which the speed of verify-ram is looked at. */
#define DIGEST_SAMPLES 3u

FerryRoundSender ferry_outgoing_sender(FerryOutgoing *outgoing)
{
	return (FerryRoundSender){
		.ram = ferry_vm_ram(outgoing->vm),
		.carrier = ferry_outgoing_bulk(outgoing),
		.zeros = ferry_outgoing_bulk(outgoing)->ops->put_zero
				 ? ferry_outgoing_bulk(outgoing)
				 : outgoing->carrier,
		.holes = outgoing->round == 1 || outgoing->rehearses ? outgoing->holes : NULL,
		.encoder = outgoing->encoder && ferry_page_encoder_is_active(outgoing->encoder)
				   ? outgoing->encoder
				   : NULL,
		.pace = &outgoing->pace,
		/* Once the guest stands still nothing is gained by going slowly. */
		.settings = outgoing->stopped ? NULL : ferry_vm_settings(outgoing->vm),
		.group = outgoing->group,
		.progress = outgoing->progress,
		.cancel = &outgoing->source->cancel,
		.leave = outgoing->postcopy && !outgoing->stopped ? &outgoing->source->switch_over
								  : NULL,
		.leave_us = outgoing->leave_us,
		.path = outgoing->ferry_peer ? outgoing->path : NULL,
		.carrier_died = &outgoing->carrier_died,
		.accounted = &outgoing->accounted,
		.bookkeeping_us = &outgoing->bookkeeping_us,
	};
}

gboolean ferry_outgoing_send_mark(FerryOutgoing *outgoing, guint16 type, guint64 pages,
				  GError **error)
{
	g_autoptr(GByteArray) record = g_byte_array_new();

	ferry_record_put_round(record, type, &(FerryRoundMark){ outgoing->round, pages });
	ferry_stream_put_command(outgoing->out, FERRY_COMMAND_FERRY, record->data, record->len);
	return ferry_outgoing_flush(outgoing, error);
}

gboolean ferry_outgoing_end_round(FerryOutgoing *outgoing, guint64 pages, GError **error)
{
	FerryReply reply;

	if (!ferry_outgoing_send_mark(outgoing, FERRY_RECORD_ROUND_END, pages, error) ||
	    !ferry_return_path_wait(outgoing->path, FERRY_REPLY_ROUND_DONE, ROUND_US, &reply,
				    error))
		return FALSE;
	if (reply.round.round != outgoing->round || reply.round.pages != pages) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "round %u of %" G_GUINT64_FORMAT
			    " pages left here, the destination took round %u "
			    "of %" G_GUINT64_FORMAT,
			    outgoing->round, pages, reply.round.round, reply.round.pages);
		return FALSE;
	}
	return TRUE;
}

/* Pages of the round that the destination had already. */
static guint64 count_unchanged(FerryOutgoing *outgoing)
{
	return outgoing->encoder ? ferry_page_encoder_unchanged(outgoing->encoder) : 0;
}

/* The encoder's rates are of the round that is over. */
static void end_encoded(FerryOutgoing *outgoing)
{
	FerryProgressEncoded encoded = { 0 };

	if (!outgoing->encoder)
		return;
	ferry_page_encoder_end_round(outgoing->encoder);
	encoded.xbzrle = ferry_page_encoder_xbzrle(outgoing->encoder);
	encoded.compression = ferry_page_encoder_compression(outgoing->encoder);
	ferry_progress_encoded(outgoing->progress, &encoded);
}

/* A round between Ferry peers: marks around PAGES records, and the destination's word that it has
 * them. One that is left in the middle ends with the pages that went. */
static gboolean ferry_round(FerryOutgoing *outgoing, guint64 pages, GError **error)
{
	FerryRoundSender sender = ferry_outgoing_sender(outgoing);

	return ferry_outgoing_send_mark(outgoing, FERRY_RECORD_ROUND_BEGIN, pages, error) &&
	       ferry_round_send(&sender, outgoing->pending, error) &&
	       ferry_round_settle(&sender, outgoing->round, error) &&
	       ferry_outgoing_end_round(outgoing,
					pages - ferry_bitmap_count(outgoing->pending) -
						count_unchanged(outgoing),
					error);
}

/* A round as one section of QEMU's format. */
static gboolean section_round(FerryOutgoing *outgoing, GError **error)
{
	FerryRoundSender sender = ferry_outgoing_sender(outgoing);

	ferry_stream_put_section(outgoing->out, FERRY_SECTION_PART, FERRY_RAM_SECTION_ID, NULL, 0,
				 0);
	if (!ferry_outgoing_flush(outgoing, error) ||
	    !ferry_round_send(&sender, outgoing->pending, error) ||
	    !ferry_round_settle(&sender, outgoing->round, error))
		return FALSE;
	ferry_put_be64(outgoing->out, FERRY_RAM_EOS);
	ferry_stream_put_footer(outgoing->out, FERRY_RAM_SECTION_ID);
	return ferry_outgoing_flush(outgoing, error);
}

/* What the round that began at @begin_us, and at @wait, with @pages, @again of them as in
 * outgoing->again, has shown of the link. One that was held back shows it with its last pages;
 * where it was left before them, it does not. What it waited for vCPUs is not the link's. */
static void note_round(FerryOutgoing *outgoing, guint64 pages, guint64 again, gboolean left,
		       gint64 begin_us, const FerryCpuWait *wait)
{
	const FerryPace *pace = &outgoing->pace;
	gint64 now = g_get_monotonic_time();

	if (pace->held_us >= (now - begin_us) / 10 && left)
		return;
	if (pace->held_us >= (now - begin_us) / 10 && pace->tail_data) {
		again = again > pages / 2 ? pace->tail_data : 0;
		pages = pace->tail_data;
		begin_us = pace->tail_us;
		wait = &pace->tail_wait;
	} else if (outgoing->round == 1) {
		/* It has holes and zeros that later ones hardly have. */
		pages = pace->data;
	}
	ferry_forecast_sent(&outgoing->forecast, outgoing->round == 1, pages, again,
			    now - begin_us - ferry_cpu_wait_us(wait));
}

/* What may be put off, pages: as much as goes in half of what the limit leaves for the last round,
 * so that the other half is for what is written once. Nothing while there is a kind of round to be
 * known: it might have no page. */
static guint64 most_put_off(FerryOutgoing *outgoing)
{
	FerrySettings *settings = ferry_vm_settings(outgoing->vm);
	guint64 limit = ferry_settings_get_parameter(settings, FERRY_PARAMETER_DOWNTIME_LIMIT);
	double budget = ferry_forecast_budget_us(&outgoing->downtime, (double)limit * 1e3);
	guint64 pending = ferry_bitmap_count(outgoing->pending);

	if (outgoing->stopped || outgoing->rehearses || !outgoing->downtime.known ||
	    outgoing->downtime.pages_us <= 0)
		return 0;
	return (guint64)(budget / 2 / outgoing->downtime.pages_us * (double)pending);
}

/* What verify-ram adds to the downtime: the best of a few samples, one a round. */
static void measure_digest(FerryOutgoing *outgoing)
{
	FerryForecast *forecast = &outgoing->forecast;
	gint64 took_us;

	if (outgoing->round > DIGEST_SAMPLES || outgoing->stopped || !outgoing->ferry_peer ||
	    !ferry_settings_get_capability(ferry_vm_settings(outgoing->vm),
					   FERRY_CAPABILITY_VERIFY_RAM))
		return;
	took_us = ferry_digest_estimate(ferry_vm_ram(outgoing->vm));
	forecast->digest_us = forecast->digest_us ? MIN(forecast->digest_us, took_us) : took_us;
}

/* The time since @since went into bookkeeping. */
static void count_bookkeeping(FerryOutgoing *outgoing, gint64 since)
{
	outgoing->bookkeeping_us += g_get_monotonic_time() - since;
}

/* The destination has the round's pages. What is done from here on is counted for the next. */
static void end_round(FerryOutgoing *outgoing)
{
	end_encoded(outgoing);
	ferry_progress_round_end(outgoing->progress, outgoing->bookkeeping_us);
	outgoing->bookkeeping_us = 0;
}

gboolean ferry_outgoing_run_round(FerryOutgoing *outgoing, gint64 collect_us, GError **error)
{
	gint64 since = g_get_monotonic_time(), begin;
	guint64 put_off, pages, again, left;
	FerryCpuWait wait;
	gboolean ok;

	put_off = ferry_put_off_take(outgoing->put_off, outgoing->pending, most_put_off(outgoing));
	pages = ferry_bitmap_count(outgoing->pending);
	again = ferry_bitmap_count_both(outgoing->pending, outgoing->again);
	begin = g_get_monotonic_time();
	ferry_cpu_wait_begin(&wait);
	if (outgoing->round++)
		ferry_bitmap_add(outgoing->again, outgoing->pending);
	ferry_progress_round_begin(outgoing->progress, pages, put_off, collect_us);
	ferry_vm_emit(outgoing->vm,
		      &(FerryEvent){ .type = FERRY_EVENT_MIGRATION_PASS, .pass = outgoing->round });
	if (outgoing->encoder)
		ferry_page_encoder_begin_round(outgoing->encoder, outgoing->round,
					       outgoing->stopped);
	count_bookkeeping(outgoing, since);
	ok = outgoing->ferry_peer ? ferry_round(outgoing, pages, error)
				  : section_round(outgoing, error);
	since = g_get_monotonic_time();
	left = ferry_bitmap_count(outgoing->pending);
	ferry_put_off_give_back(outgoing->put_off, outgoing->pending);
	if (ok) {
		end_round(outgoing);
		note_round(outgoing, pages - left, again * (pages - left) / MAX(pages, 1), left,
			   begin, &wait);
		measure_digest(outgoing);
	}
	count_bookkeeping(outgoing, since);
	return ok;
}

/* What stopping now would come to, by all that is known since the collect that found @dirtied. */
static void forecast(FerryOutgoing *outgoing, gint64 took_us, guint64 dirtied)
{
	guint64 pending = ferry_bitmap_count(outgoing->pending);
	gint64 now = g_get_monotonic_time();

	ferry_forecast_collected(&outgoing->forecast, took_us, dirtied,
				 outgoing->collected_us ? now - outgoing->collected_us : 0);
	outgoing->collected_us = now;
	outgoing->downtime = ferry_forecast_downtime(
		&outgoing->forecast, pending,
		ferry_bitmap_count_both(outgoing->pending, outgoing->again),
		ferry_settings_get_parameter(ferry_vm_settings(outgoing->vm),
					     FERRY_PARAMETER_AVAIL_SWITCHOVER_BANDWIDTH));
	ferry_progress_collected(outgoing->progress, dirtied, pending,
				 ferry_forecast_total_us(&outgoing->downtime));
}

gboolean ferry_outgoing_collect(FerryOutgoing *outgoing, gint64 *took_us, GError **error)
{
	FerryDirtySource *dirty = ferry_vm_dirty_source(outgoing->vm);
	gint64 begin = g_get_monotonic_time();
	guint64 dirtied, kept;

	for (guint i = 0; dirty && i < ferry_vm_ram(outgoing->vm)->n_blocks; i++)
		if (!ferry_vm_leaves_out(outgoing->vm, i) &&
		    !dirty->ops->collect(dirty, i, ferry_bitmap_block(outgoing->collected, i),
					 error))
			return FALSE;
	ferry_vm_take_marked(outgoing->vm, outgoing->collected);
	ferry_outgoing_leave_out(outgoing, outgoing->collected);
	dirtied = ferry_bitmap_count(outgoing->collected);
	ferry_put_off_collected(outgoing->put_off, outgoing->collected);
	kept = ferry_bitmap_count(outgoing->pending);
	ferry_bitmap_move(outgoing->pending, outgoing->collected);
	*took_us = g_get_monotonic_time() - begin;
	forecast(outgoing, *took_us, dirtied);
	ferry_throttle_collected(outgoing->source->throttle, kept,
				 ferry_bitmap_count(outgoing->pending));
	count_bookkeeping(outgoing, begin);
	return TRUE;
}

/* Whether what is pending can be sent within the downtime limit. */
static gboolean converged(FerryOutgoing *outgoing)
{
	FerrySettings *settings = ferry_vm_settings(outgoing->vm);
	double limit_us = ferry_settings_get_parameter(settings, FERRY_PARAMETER_DOWNTIME_LIMIT) *
			  1e3;

	return ferry_forecast_fits(&outgoing->downtime, limit_us);
}

/* Precopy is over: what its end is taken to cost. After an early switch no page is waited for, and
 * none is digested. */
static void predict(FerryOutgoing *outgoing)
{
	const FerryForecastDowntime *downtime = &outgoing->downtime;

	ferry_progress_predicted(outgoing->progress,
				 ferry_outgoing_is_switching(outgoing)
					 ? downtime->rest_us - outgoing->forecast.digest_us
					 : ferry_forecast_total_us(downtime));
}

static gpointer start_tracking(gpointer data)
{
	FerryOutgoing *outgoing = data;
	FerryDirtySource *dirty = ferry_vm_dirty_source(outgoing->vm);

	outgoing->tracking = dirty->ops->start(dirty, ferry_vm_ram(outgoing->vm),
					       &outgoing->tracker_error);
	return NULL;
}

void ferry_outgoing_track(FerryOutgoing *outgoing)
{
	if (ferry_vm_dirty_source(outgoing->vm))
		outgoing->tracker = g_thread_new("ferry-track", start_tracking, outgoing);
}

static void join_tracker(FerryOutgoing *outgoing)
{
	if (outgoing->tracker)
		g_thread_join(g_steal_pointer(&outgoing->tracker));
}

gboolean ferry_outgoing_await_tracking(FerryOutgoing *outgoing, GError **error)
{
	/* Without a dirty source the guest must stand still from the beginning. */
	if (!outgoing->tracker) {
		ferry_progress_stopped(outgoing->progress);
		return ferry_vm_outgoing_stop(outgoing->vm, error);
	}
	join_tracker(outgoing);
	if (outgoing->tracker_error)
		g_propagate_error(error, g_steal_pointer(&outgoing->tracker_error));
	return outgoing->tracking;
}

void ferry_outgoing_untrack(FerryOutgoing *outgoing)
{
	FerryDirtySource *dirty = ferry_vm_dirty_source(outgoing->vm);

	join_tracker(outgoing);
	g_clear_error(&outgoing->tracker_error);
	if (outgoing->tracking)
		dirty->ops->stop(dirty);
	outgoing->tracking = FALSE;
}

gboolean ferry_outgoing_is_switching(FerryOutgoing *outgoing)
{
	return outgoing->postcopy && g_atomic_int_get(&outgoing->source->switch_over);
}

gboolean ferry_outgoing_precopy(FerryOutgoing *outgoing, GError **error)
{
	gint64 collect_us = 0;

	if (!ferry_outgoing_await_tracking(outgoing, error))
		return FALSE;
	ferry_bitmap_set_all(outgoing->pending);
	ferry_outgoing_leave_out(outgoing, outgoing->pending);
	ferry_throttle_begin(outgoing->source->throttle);
	do {
		if (!ferry_outgoing_run_round(outgoing, collect_us, error) ||
		    !ferry_outgoing_collect(outgoing, &collect_us, error))
			return FALSE;
	} while (!ferry_outgoing_is_switching(outgoing) && !converged(outgoing));
	predict(outgoing);
	return TRUE;
}

gboolean ferry_outgoing_last_pages(FerryOutgoing *outgoing, GError **error)
{
	gint64 collect_us;

	outgoing->stopped = TRUE;
	if (!ferry_outgoing_collect(outgoing, &collect_us, error))
		return FALSE;
	return !ferry_bitmap_count(outgoing->pending) ||
	       ferry_outgoing_run_round(outgoing, collect_us, error);
}
