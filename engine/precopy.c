/* SPDX-License-Identifier: BSD-2-Clause */
#include "source-private.h"

/* How long the destination may take to acknowledge a round that has left. */
#define ROUND_US (60 * G_TIME_SPAN_SECOND)

/* verify-ram reads all RAM inside the downtime, at about this rate. */
#define DIGEST_BYTES_PER_S 6e9

FerryRoundSender ferry_outgoing_sender(FerryOutgoing *outgoing)
{
	return (FerryRoundSender){
		.ram = ferry_vm_ram(outgoing->vm),
		.carrier = ferry_outgoing_bulk(outgoing),
		.zeros = ferry_outgoing_bulk(outgoing)->ops->put_zero
				 ? ferry_outgoing_bulk(outgoing)
				 : outgoing->carrier,
		.holes = outgoing->round == 1 || outgoing->rehearses ? outgoing->holes : NULL,
		.bucket = &outgoing->bucket,
		/* Once the guest stands still nothing is gained by going slowly. */
		.settings = outgoing->stopped ? NULL : ferry_vm_settings(outgoing->vm),
		.progress = outgoing->progress,
		.cancel = &outgoing->source->cancel,
		.leave = outgoing->postcopy && !outgoing->stopped ? &outgoing->source->switch_over
								  : NULL,
		.leave_us = outgoing->leave_us,
		.path = outgoing->ferry_peer ? outgoing->path : NULL,
		.carrier_died = &outgoing->carrier_died,
		.accounted = &outgoing->accounted,
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

/* A round between Ferry peers: marks around PAGES records, and the destination's word that it has
 * them. One that is left in the middle ends with the pages that went. */
static gboolean ferry_round(FerryOutgoing *outgoing, guint64 pages, GError **error)
{
	FerryRoundSender sender = ferry_outgoing_sender(outgoing);

	return ferry_outgoing_send_mark(outgoing, FERRY_RECORD_ROUND_BEGIN, pages, error) &&
	       ferry_round_send(&sender, outgoing->pending, error) &&
	       ferry_round_settle(&sender, outgoing->round, error) &&
	       ferry_outgoing_end_round(outgoing, pages - ferry_bitmap_count(outgoing->pending),
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

gboolean ferry_outgoing_run_round(FerryOutgoing *outgoing, gint64 collect_us, GError **error)
{
	guint64 pages = ferry_bitmap_count(outgoing->pending);
	gboolean ok;

	outgoing->round++;
	ferry_progress_round_begin(outgoing->progress, pages, collect_us);
	ferry_vm_emit(outgoing->vm,
		      &(FerryEvent){ .type = FERRY_EVENT_MIGRATION_PASS, .pass = outgoing->round });
	ok = outgoing->ferry_peer ? ferry_round(outgoing, pages, error)
				  : section_round(outgoing, error);
	if (ok)
		ferry_progress_round_end(outgoing->progress);
	return ok;
}

double ferry_outgoing_digest_time(FerryOutgoing *outgoing)
{
	FerrySettings *settings = ferry_vm_settings(outgoing->vm);

	return ferry_settings_get_capability(settings, FERRY_CAPABILITY_VERIFY_RAM)
		       ? ferry_vm_moving_bytes(outgoing->vm) / DIGEST_BYTES_PER_S
		       : 0;
}

gboolean ferry_outgoing_collect(FerryOutgoing *outgoing, gint64 *took_us, GError **error)
{
	FerryDirtySource *dirty = ferry_vm_dirty_source(outgoing->vm);
	gint64 begin = g_get_monotonic_time();
	guint64 dirtied;

	for (guint i = 0; dirty && i < ferry_vm_ram(outgoing->vm)->n_blocks; i++)
		if (!ferry_vm_leaves_out(outgoing->vm, i) &&
		    !dirty->ops->collect(dirty, i, ferry_bitmap_block(outgoing->collected, i),
					 error))
			return FALSE;
	ferry_vm_take_marked(outgoing->vm, outgoing->collected);
	ferry_outgoing_leave_out(outgoing, outgoing->collected);
	dirtied = ferry_bitmap_count(outgoing->collected);
	ferry_bitmap_move(outgoing->pending, outgoing->collected);
	*took_us = g_get_monotonic_time() - begin;
	ferry_progress_collected(outgoing->progress, dirtied, ferry_bitmap_count(outgoing->pending),
				 ferry_outgoing_digest_time(outgoing) * 1e3);
	return TRUE;
}

/* Whether what is pending can be sent within the downtime limit. */
static gboolean converged(FerryOutgoing *outgoing)
{
	FerrySettings *settings = ferry_vm_settings(outgoing->vm);
	guint64 pending = ferry_bitmap_count(outgoing->pending) << FERRY_PAGE_SHIFT;
	double limit = ferry_settings_get_parameter(settings, FERRY_PARAMETER_DOWNTIME_LIMIT) / 1e3;

	/* A guest too large to be digested within the limit must still move. */
	return pending <= ferry_progress_bandwidth(outgoing->progress) *
				  MAX(limit - ferry_outgoing_digest_time(outgoing), limit / 4);
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
	do {
		if (!ferry_outgoing_run_round(outgoing, collect_us, error) ||
		    !ferry_outgoing_collect(outgoing, &collect_us, error))
			return FALSE;
	} while (!ferry_outgoing_is_switching(outgoing) && !converged(outgoing));
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
