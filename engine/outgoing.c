/* SPDX-License-Identifier: BSD-2-Clause */
#include "multifd-rules.h"
#include "source-private.h"

#define CONNECT_MS 30000u
/* How often a source that waits for its operator looks whether the destination is still there. */
#define LOOK_US (100 * G_TIME_SPAN_MILLISECOND)
/* How long the destination's reason may trail behind the cut that it made. */
#define REASON_US (200 * G_TIME_SPAN_MILLISECOND)

gboolean ferry_outgoing_flush(FerryOutgoing *outgoing, GError **error)
{
	gboolean ok = ferry_channel_write_all(outgoing->channel, outgoing->out->data,
					      outgoing->out->len, error);

	if (ok)
		ferry_progress_control(outgoing->progress, outgoing->out->len);
	g_byte_array_set_size(outgoing->out, 0);
	return ok;
}

void ferry_outgoing_leave_group(FerryOutgoing *outgoing)
{
	if (!outgoing->group)
		return;
	g_clear_pointer(&outgoing->group, ferry_bandwidth_group_leave);
	ferry_progress_group(outgoing->progress, 0, 0);
}

gboolean ferry_outgoing_wants_encoder(FerryOutgoing *outgoing)
{
	FerrySettings *settings = ferry_vm_settings(outgoing->vm);

	return ferry_settings_get_capability(settings, FERRY_CAPABILITY_XBZRLE) ||
	       ferry_settings_get_capability(settings, FERRY_CAPABILITY_COMPRESS);
}

/* What makes pages smaller, where that is asked for: it is never left out silently. */
static gboolean open_encoder(FerryOutgoing *outgoing, GError **error)
{
	FerryCarrier *bulk = ferry_outgoing_bulk(outgoing);

	if (!ferry_outgoing_wants_encoder(outgoing))
		return TRUE;
	if (!bulk->ops->put_encoded) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "%s moves pages only as they are: switch xbzrle and compress off, or "
			    "migrate over tcp:",
			    bulk->ops->name);
		return FALSE;
	}
	if (outgoing->ferry_peer && !(outgoing->features & FERRY_FEATURE_ENCODED)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "the destination takes pages only as they are: switch xbzrle and "
			    "compress off, or run the same release on both sides");
		return FALSE;
	}
	outgoing->encoder = ferry_page_encoder_new(ferry_vm_ram(outgoing->vm),
						   ferry_vm_settings(outgoing->vm), error);
	return outgoing->encoder != NULL;
}

/* Sends the block list; a Ferry peer says that it fits before the first page goes. */
static gboolean share_ram(FerryOutgoing *outgoing, GError **error)
{
	FerryRam *ram = ferry_vm_ram(outgoing->vm);

	ferry_stream_put_section(outgoing->out, FERRY_SECTION_START, FERRY_RAM_SECTION_ID, "ram", 0,
				 FERRY_RAM_SECTION_VERSION);
	if (!ferry_outgoing_put_list(outgoing, error))
		return FALSE;
	ferry_put_be64(outgoing->out, FERRY_RAM_EOS);
	ferry_stream_put_footer(outgoing->out, FERRY_RAM_SECTION_ID);
	return ferry_outgoing_flush(outgoing, error) &&
	       ferry_outgoing_await_list(outgoing, error) &&
	       ferry_outgoing_open_carrier(outgoing, error) &&
	       outgoing->carrier->ops->share_ram(outgoing->carrier, ram, error) &&
	       ferry_outgoing_choose_carrier(outgoing, error) && open_encoder(outgoing, error);
}

static gboolean moved_by_cancel(GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED, "cancelled");
	return FALSE;
}

void ferry_outgoing_open_fabric(FerryOutgoing *outgoing)
{
	const FerryTransport *transport = outgoing->transport;

	if (ferry_multifd_is_on(ferry_vm_settings(outgoing->vm)))
		outgoing->fabric = transport->multifd(outgoing->uri);
	/* Pages that a guest waits for want a way of their own, whatever the scheme; but encoded
	 * ones go on the channel. */
	else if (transport->prefers_fabric ||
		 (transport->fabric && !ferry_outgoing_wants_encoder(outgoing) &&
		  ferry_settings_get_capability(ferry_vm_settings(outgoing->vm),
						FERRY_CAPABILITY_POSTCOPY_RAM)))
		outgoing->fabric = transport->fabric(outgoing->uri);
}

static gboolean set_up(FerryOutgoing *outgoing, GError **error)
{
	FerryRam *ram = ferry_vm_ram(outgoing->vm);

	outgoing->pending = ferry_bitmap_new(ram);
	outgoing->collected = ferry_bitmap_new(ram);
	outgoing->put_off = ferry_put_off_new(ram);
	outgoing->again = ferry_bitmap_new(ram);
	outgoing->holes = ferry_holes_new(ram);
	ferry_pace_init(&outgoing->pace, g_get_monotonic_time());
	ferry_outgoing_open_fabric(outgoing);
	if (!ferry_outgoing_greet(outgoing, CONNECT_MS, error) ||
	    !ferry_outgoing_check_rehearsal(outgoing, error) ||
	    !ferry_outgoing_check_fabric(outgoing, error) ||
	    (!outgoing->rehearses && !ferry_outgoing_advise(outgoing, error)))
		return FALSE;
	ferry_outgoing_track(outgoing);
	if (!share_ram(outgoing, error))
		return FALSE;
	ferry_progress_setup_done(outgoing->progress);
	return ferry_source_enter(outgoing->source, FERRY_STATE_SETUP, FERRY_STATE_ACTIVE) ||
	       moved_by_cancel(error);
}

/* Waits in pre-switchover for migrate-continue. The guest stands still meanwhile, so it must not
 * wait for a destination that is gone. */
static gboolean pause_before_switchover(FerryOutgoing *outgoing, GError **error)
{
	FerrySource *source = outgoing->source;
	gboolean proceed, lost = FALSE;

	if (!ferry_source_enter(source, FERRY_STATE_ACTIVE, FERRY_STATE_PRE_SWITCHOVER))
		return moved_by_cancel(error);
	g_mutex_lock(&source->lock);
	while (!source->proceed && source->state == FERRY_STATE_PRE_SWITCHOVER && !lost) {
		g_cond_wait_until(&source->changed, &source->lock,
				  g_get_monotonic_time() + LOOK_US);
		lost = outgoing->path && ferry_return_path_failed(outgoing->path, NULL);
	}
	proceed = source->state == FERRY_STATE_PRE_SWITCHOVER;
	g_mutex_unlock(&source->lock);
	if (proceed && lost && ferry_return_path_failed(outgoing->path, error))
		return FALSE;
	return (proceed &&
		ferry_source_enter(source, FERRY_STATE_PRE_SWITCHOVER, FERRY_STATE_DEVICE)) ||
	       moved_by_cancel(error);
}

gboolean ferry_outgoing_stop_guest(FerryOutgoing *outgoing, GError **error)
{
	FerrySettings *settings = ferry_vm_settings(outgoing->vm);

	ferry_outgoing_leave_group(outgoing);
	/* Its vCPUs may sleep for the throttle, which the stop would wait for. */
	ferry_throttle_end(outgoing->source->throttle);
	ferry_progress_stopped(outgoing->progress);
	if (!ferry_vm_outgoing_stop(outgoing->vm, error))
		return FALSE;
	if (ferry_settings_get_capability(settings, FERRY_CAPABILITY_PAUSE_BEFORE_SWITCHOVER))
		return pause_before_switchover(outgoing, error);
	return ferry_source_enter(outgoing->source, FERRY_STATE_ACTIVE, FERRY_STATE_DEVICE) ||
	       moved_by_cancel(error);
}

/* The guest stops; the rest of RAM and all devices go. Saving a device can write RAM, hence two
 * passes. */
static gboolean switch_over(FerryOutgoing *outgoing, GError **error)
{
	g_autoptr(GByteArray) devices = g_byte_array_new();
	g_autoptr(GString) json = g_string_new(NULL);

	if (!ferry_outgoing_stop_guest(outgoing, error) ||
	    !ferry_outgoing_last_pages(outgoing, error))
		return FALSE;
	ferry_vm_save_run_state(outgoing->vm, ferry_vm_outgoing_run_state(outgoing->vm));
	if (!ferry_devices_save(ferry_vm_devices(outgoing->vm), FERRY_RAM_SECTION_ID + 1, devices,
				json, error) ||
	    !ferry_outgoing_last_pages(outgoing, error))
		return FALSE;
	/* The destination has every page: what becomes of the carrier is all the same now. */
	if (outgoing->link)
		ferry_fabric_link_ignore_death(outgoing->link);
	ferry_stream_put_section(outgoing->out, FERRY_SECTION_END, FERRY_RAM_SECTION_ID, NULL, 0,
				 0);
	ferry_put_be64(outgoing->out, FERRY_RAM_EOS);
	ferry_stream_put_footer(outgoing->out, FERRY_RAM_SECTION_ID);
	g_byte_array_append(outgoing->out, devices->data, devices->len);
	ferry_put_u8(outgoing->out, FERRY_SECTION_EOF);
	ferry_stream_put_vmdesc(outgoing->out, json->str, json->len);
	return ferry_outgoing_flush(outgoing, error);
}

/* The death of the carrier beside the channel, if that is behind @error. */
static void prefer_carrier(FerryOutgoing *outgoing, GError **error)
{
	GError *reason = outgoing->link ? ferry_fabric_link_reason(outgoing->link) : NULL;

	if (!reason)
		return;
	outgoing->carrier_died = TRUE;
	g_error_free(*error);
	*error = reason;
}

/*
 * A link that broke may have been cut by a destination that said why: that is then the reason. A
 * carrier beside the channel knows its own reason, and keeps it; the destination's words follow.
 */
void ferry_outgoing_prefer_reason(FerryOutgoing *outgoing, GError **error)
{
	g_autoptr(GError) reason = NULL;
	FerryReply reply;

	if (!g_error_matches(*error, FERRY_ERROR, FERRY_ERROR_LINK))
		return;
	prefer_carrier(outgoing, error);
	if (!outgoing->path ||
	    ferry_return_path_wait(outgoing->path, FERRY_REPLY_SHUT, REASON_US, &reply, &reason) ||
	    !g_error_matches(reason, FERRY_ERROR, FERRY_ERROR_PEER))
		return;
	if (outgoing->link && outgoing->carrier_died) {
		g_autofree char *ours = g_steal_pointer(&(*error)->message);

		(*error)->message = g_strdup_printf("%s; %s", ours, reason->message);
	} else {
		g_clear_error(error);
		*error = g_steal_pointer(&reason);
	}
}

/* Back to the guest as it was: nothing tracked, and running if it ran. Takes @error over. */
static void stay(FerryOutgoing *outgoing, GError *error)
{
	g_autoptr(GError) resume_error = NULL;
	gboolean resumed;

	ferry_outgoing_leave_group(outgoing);
	ferry_throttle_end(outgoing->source->throttle);
	ferry_outgoing_untrack(outgoing);
	resumed = ferry_vm_outgoing_end(outgoing->vm, FERRY_OUTGOING_STAYED, &resume_error);
	if (resumed)
		ferry_progress_resumed(outgoing->progress);
	ferry_outgoing_prefer_reason(outgoing, &error);
	if (!resumed) {
		g_prefix_error(&error,
			       "the guest could not be resumed (%s); the migration failed before: ",
			       resume_error->message);
		/* Also one that was cancelled has to say this. */
		ferry_source_set_error(outgoing->source, error->message);
	}
	ferry_outgoing_abort(outgoing);
	ferry_progress_describe(outgoing->progress, NULL);
	ferry_outgoing_hang_up(outgoing);
	ferry_progress_end(outgoing->progress);
	ferry_source_fail(outgoing->source, error);
}

static void complete(FerryOutgoing *outgoing, FerryOutgoingFate fate)
{
	FerryState state = ferry_source_state(outgoing->source);

	ferry_outgoing_untrack(outgoing);
	ferry_progress_describe(outgoing->progress, NULL);
	ferry_outgoing_hang_up(outgoing);
	ferry_vm_outgoing_end(outgoing->vm, fate, NULL);
	ferry_progress_end(outgoing->progress);
	/* A cancel that comes just now finds nothing left to cancel. */
	if (!ferry_source_enter(outgoing->source, state, FERRY_STATE_COMPLETED))
		ferry_source_enter(outgoing->source, FERRY_STATE_CANCELLING, FERRY_STATE_COMPLETED);
}

/* An object that is freed in postcopy never runs the guest, and its migration has no end. */
static void postcopy(FerryOutgoing *outgoing)
{
	GError *error = NULL;

	if (!ferry_outgoing_switch(outgoing, &error))
		stay(outgoing, error);
	else if (ferry_outgoing_postcopy(outgoing))
		complete(outgoing, FERRY_OUTGOING_MOVED);
	else
		ferry_vm_outgoing_end(outgoing->vm, FERRY_OUTGOING_MOVED, NULL);
}

/* The carrier beside the channel deregisters here, when nobody waits for it any more. */
static void outgoing_free(FerryOutgoing *outgoing)
{
	ferry_outgoing_leave_group(outgoing);
	ferry_fabric_link_free(outgoing->link);
	ferry_fabric_close(outgoing->fabric);
	ferry_page_encoder_free(outgoing->encoder);
	ferry_page_push_free(outgoing->push);
	ferry_page_requests_free(outgoing->requests);
	g_free(outgoing->places);
	ferry_holes_free(outgoing->holes);
	ferry_bitmap_free(outgoing->again);
	ferry_put_off_free(outgoing->put_off);
	ferry_bitmap_free(outgoing->collected);
	ferry_bitmap_free(outgoing->pending);
	g_byte_array_unref(outgoing->out);
	g_object_unref(outgoing->cancellable);
	g_free(outgoing->uri);
	g_free(outgoing);
}

gpointer ferry_outgoing_thread(gpointer data)
{
	FerryOutgoing *outgoing = data;
	FerryOutgoingFate fate = FERRY_OUTGOING_MOVED;
	GError *error = NULL;

	if (!set_up(outgoing, &error) ||
	    !(outgoing->rehearses ? ferry_outgoing_rehearse(outgoing, &error)
				  : ferry_outgoing_precopy(outgoing, &error)))
		stay(outgoing, error);
	else if (outgoing->rehearses)
		stay(outgoing, g_error_new(FERRY_ERROR, FERRY_ERROR_CANCELLED, "rehearsed"));
	else if (ferry_outgoing_is_switching(outgoing))
		postcopy(outgoing);
	else if (switch_over(outgoing, &error) &&
		 ferry_outgoing_hand_over(outgoing, &fate, &error) == FERRY_HANDED_OVER)
		complete(outgoing, fate);
	else
		stay(outgoing, error);
	outgoing_free(outgoing);
	return NULL;
}
