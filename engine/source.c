/* SPDX-License-Identifier: BSD-2-Clause */
#include "multifd-rules.h"
#include "source-private.h"

#include "observe.h"
#include "state-table.h"

FerrySource *ferry_source_new(FerryVm *vm, const FerryTransport *const *transports)
{
	FerrySource *source = g_new0(FerrySource, 1);

	source->vm = vm;
	source->transports = transports;
	source->progress = ferry_progress_new();
	source->throttle = ferry_throttle_new(vm);
	g_mutex_init(&source->lock);
	g_cond_init(&source->changed);
	return source;
}

/* Whether the guest may be the destination's, so that no cancel ends the migration. */
static gboolean is_kept(FerryState state)
{
	return state == FERRY_STATE_HANDOVER_LOST || state == FERRY_STATE_POSTCOPY_ACTIVE ||
	       state == FERRY_STATE_POSTCOPY_PAUSED || state == FERRY_STATE_POSTCOPY_RECOVER;
}

void ferry_source_free(FerrySource *source)
{
	if (!source)
		return;
	g_mutex_lock(&source->lock);
	source->quit = TRUE;
	if (is_kept(source->state)) {
		g_cancellable_cancel(source->cancellable);
		if (source->channel)
			ferry_channel_shutdown(source->channel);
	}
	g_cond_broadcast(&source->changed);
	g_mutex_unlock(&source->lock);
	ferry_source_cancel(source);
	if (source->thread)
		g_thread_join(source->thread);
	g_clear_object(&source->cancellable);
	ferry_throttle_free(source->throttle);
	ferry_progress_free(source->progress);
	g_free(source->error_desc);
	g_free(source->uri);
	g_free(source->recover_uri);
	g_cond_clear(&source->changed);
	g_mutex_clear(&source->lock);
	g_free(source);
}

/* ---- states ---- */

/* Under the lock, so that the events come in the order of the changes. */
static void emit_state(FerrySource *source, FerryState from, FerryState to)
{
	ferry_observe_state(FERRY_SIDE_SOURCE, from, to, source->uri, source->error_desc);
	ferry_vm_emit(source->vm, &(FerryEvent){ .type = FERRY_EVENT_MIGRATION, .state = to });
}

gboolean ferry_source_enter(FerrySource *source, FerryState from, FerryState to)
{
	gboolean ok;

	g_mutex_lock(&source->lock);
	ok = source->state == from && ferry_state_allows(FERRY_SIDE_SOURCE, from, to) &&
	     (to == FERRY_STATE_COMPLETED || ferry_state_guest_may_run(to) ||
	      !ferry_vm_is_running(source->vm));
	if (ok) {
		source->state = to;
		g_cond_broadcast(&source->changed);
		emit_state(source, from, to);
	}
	g_mutex_unlock(&source->lock);
	return ok;
}

void ferry_source_set_error(FerrySource *source, const char *text)
{
	g_mutex_lock(&source->lock);
	g_free(source->error_desc);
	source->error_desc = g_strdup(text);
	g_mutex_unlock(&source->lock);
}

void ferry_source_fail(FerrySource *source, GError *error)
{
	FerryState from = ferry_source_state(source);

	if (from == FERRY_STATE_CANCELLING) {
		ferry_source_enter(source, from, FERRY_STATE_CANCELLED);
	} else {
		ferry_source_set_error(source, error->message);
		/* A cancel that comes just now finds nothing left to cancel. */
		if (!ferry_source_enter(source, from, FERRY_STATE_FAILED))
			ferry_source_enter(source, FERRY_STATE_CANCELLING, FERRY_STATE_CANCELLED);
	}
	g_error_free(error);
}

FerryState ferry_source_state(FerrySource *source)
{
	FerryState state;

	g_mutex_lock(&source->lock);
	state = source->state;
	g_mutex_unlock(&source->lock);
	return state;
}

FerryState ferry_source_wait(FerrySource *source)
{
	FerryState state;

	g_mutex_lock(&source->lock);
	while (ferry_state_is_busy(source->state) && source->state != FERRY_STATE_HANDOVER_LOST &&
	       source->state != FERRY_STATE_POSTCOPY_PAUSED)
		g_cond_wait(&source->changed, &source->lock);
	state = source->state;
	g_mutex_unlock(&source->lock);
	return state;
}

/* ---- starting ---- */

static FerryOutgoing *outgoing_new(FerrySource *source, const char *uri,
				   const FerryTransport *transport)
{
	FerryOutgoing *outgoing = g_new0(FerryOutgoing, 1);

	outgoing->source = source;
	outgoing->vm = source->vm;
	outgoing->progress = source->progress;
	outgoing->uri = g_strdup(uri);
	outgoing->transport = transport;
	outgoing->cancellable = g_object_ref(source->cancellable);
	outgoing->out = g_byte_array_new();
	for (guint i = 0; i < FERRY_NONCE_SIZE; i += 4)
		ferry_store_be32(outgoing->nonce + i, g_random_int());
	return outgoing;
}

/* Forgets the last migration. The lock is held; nothing runs. */
static void reset_locked(FerrySource *source)
{
	g_clear_pointer(&source->error_desc, g_free);
	g_set_object(&source->cancellable, NULL);
	source->cancellable = g_cancellable_new();
	g_atomic_int_set(&source->cancel, 0);
	g_atomic_int_set(&source->switch_over, 0);
	source->prepared = source->proceed = source->resolving = source->pausing = FALSE;
	memset(&source->rehearsal, 0, sizeof(source->rehearsal));
	source->state = FERRY_STATE_SETUP;
}

/* Claims the object for a new migration; gives the thread of the last one to join. */
static gboolean claim(FerrySource *source, GThread **last, GError **error)
{
	FerryState state;
	gboolean ok = FALSE;

	g_mutex_lock(&source->lock);
	state = source->state;
	if (ferry_state_is_busy(state))
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
			    "there is a migration in process already (state %s)",
			    ferry_state_name(state));
	else if (ferry_vm_outgoing_begin(source->vm, error))
		ok = TRUE;
	if (ok) {
		reset_locked(source);
		*last = g_steal_pointer(&source->thread);
	}
	g_mutex_unlock(&source->lock);
	return ok;
}

/* Joins the group that is set, if one is. */
static gboolean join_group(FerrySettings *settings, FerryBandwidthGroup **group, GError **error)
{
	g_autofree char *path = ferry_settings_dup_text(settings, FERRY_PARAMETER_BANDWIDTH_GROUP);

	if (*path) {
		*group = ferry_bandwidth_group_join(path, error);
		return *group != NULL;
	}
	if (!ferry_settings_get_parameter(settings, FERRY_PARAMETER_GROUP_BANDWIDTH))
		return TRUE;
	g_set_error(
		error, FERRY_ERROR, FERRY_ERROR_INVALID,
		"group-bandwidth is set, and no bandwidth-group that it is of: set that too, or "
		"use max-bandwidth");
	return FALSE;
}

/* @rehearse_us: for how long to rehearse; 0: in earnest. */
static gboolean begin(FerrySource *source, const char *uri, const FerryTransport *transport,
		      gint64 rehearse_us, GError **error)
{
	FerrySettings *settings = ferry_vm_settings(source->vm);
	g_autoptr(FerryBandwidthGroup) group = NULL;
	FerryOutgoing *outgoing;
	GThread *last = NULL;

	if (!ferry_vm_fits_transport(source->vm, uri, transport, error) ||
	    !ferry_multifd_check_outgoing(settings, transport, error) ||
	    !ferry_throttle_check(source->vm, error) || !join_group(settings, &group, error) ||
	    !claim(source, &last, error))
		return FALSE;
	if (last)
		g_thread_join(last);
	ferry_progress_begin(
		source->progress, ferry_vm_moving_bytes(source->vm),
		ferry_settings_get_parameter(settings, FERRY_PARAMETER_DOWNTIME_LIMIT));
	outgoing = outgoing_new(source, uri, transport);
	outgoing->rehearse_us = rehearse_us;
	outgoing->rehearses = rehearse_us != 0;
	outgoing->group = g_steal_pointer(&group);
	g_mutex_lock(&source->lock);
	source->rehearsal.on = outgoing->rehearses;
	g_free(source->uri);
	source->uri = g_strdup(uri);
	emit_state(source, FERRY_STATE_NONE, FERRY_STATE_SETUP);
	source->thread = g_thread_new("ferry-source", ferry_outgoing_thread, outgoing);
	g_mutex_unlock(&source->lock);
	return TRUE;
}

gboolean ferry_source_migrate(FerrySource *source, const char *uri, GError **error)
{
	const FerryTransport *transport = ferry_transport_find(source->transports, uri, error);

	return transport && begin(source, uri, transport, 0, error);
}

static gboolean may_rehearse(FerrySource *source, const FerryTransport *transport, guint seconds,
			     GError **error)
{
	if (!seconds || seconds > FERRY_REHEARSAL_SECONDS_MAX) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "a rehearsal lasts 1 to %u seconds, not %u",
			    FERRY_REHEARSAL_SECONDS_MAX, seconds);
		return FALSE;
	}
	if (!transport->names_place) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "%s: names one connection, which a rehearsal would use up: rehearse "
			    "to tcp:, unix: or rdma:",
			    transport->scheme);
		return FALSE;
	}
	if (ferry_vm_dirty_source_name(source->vm))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
		    "this guest's writes are not tracked: it stands still while it migrates, and "
		    "there is nothing to rehearse");
	return FALSE;
}

gboolean ferry_source_rehearse(FerrySource *source, const char *uri, guint seconds, GError **error)
{
	const FerryTransport *transport = ferry_transport_find(source->transports, uri, error);

	return transport && may_rehearse(source, transport, seconds, error) &&
	       begin(source, uri, transport, seconds * G_TIME_SPAN_SECOND, error);
}

gboolean ferry_source_rehearsed(FerrySource *source, const FerryRehearsal *result, GError **error)
{
	gboolean ok;

	g_mutex_lock(&source->lock);
	ok = source->state == FERRY_STATE_ACTIVE &&
	     ferry_state_allows(FERRY_SIDE_SOURCE, source->state, FERRY_STATE_CANCELLING);
	if (ok) {
		source->rehearsal = *result;
		g_free(source->error_desc);
		source->error_desc = g_strdup("it was a rehearsal, which moves nothing");
		source->state = FERRY_STATE_CANCELLING;
		emit_state(source, FERRY_STATE_ACTIVE, source->state);
	}
	g_mutex_unlock(&source->lock);
	if (!ok)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED, "cancelled");
	return ok;
}

/* ---- steering ---- */

void ferry_source_publish(FerrySource *source, FerryChannel *channel, FerryReturnPath *path)
{
	g_mutex_lock(&source->lock);
	source->channel = channel;
	source->path = path;
	if (channel &&
	    (g_atomic_int_get(&source->cancel) || (source->quit && is_kept(source->state))))
		ferry_channel_shutdown(channel);
	g_mutex_unlock(&source->lock);
}

void ferry_source_cancel(FerrySource *source)
{
	FerryState from;

	g_mutex_lock(&source->lock);
	from = source->state;
	if (ferry_state_allows(FERRY_SIDE_SOURCE, from, FERRY_STATE_CANCELLING)) {
		source->state = FERRY_STATE_CANCELLING;
		g_atomic_int_set(&source->cancel, 1);
		g_cancellable_cancel(source->cancellable);
		if (source->path)
			ferry_return_path_cancel(source->path);
		if (source->channel && !source->prepared)
			ferry_channel_shutdown(source->channel);
		g_cond_broadcast(&source->changed);
		emit_state(source, from, FERRY_STATE_CANCELLING);
	}
	g_mutex_unlock(&source->lock);
}

gboolean ferry_source_continue(FerrySource *source, GError **error)
{
	FerryState state;

	g_mutex_lock(&source->lock);
	state = source->state;
	if (state == FERRY_STATE_PRE_SWITCHOVER)
		source->proceed = TRUE;
	g_cond_broadcast(&source->changed);
	g_mutex_unlock(&source->lock);
	if (state == FERRY_STATE_PRE_SWITCHOVER)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
		    "the migration is not in pre-switchover, but in state %s",
		    ferry_state_name(state));
	return FALSE;
}

gboolean ferry_source_start_postcopy(FerrySource *source, GError **error)
{
	gboolean on = ferry_settings_get_capability(ferry_vm_settings(source->vm),
						    FERRY_CAPABILITY_POSTCOPY_RAM);
	FerryState state = ferry_source_state(source);

	if (!on) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
			    "the capability postcopy-ram is off: switch it on at the source before "
			    "the migration starts");
		return FALSE;
	}
	if (state == FERRY_STATE_NONE) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
			    "postcopy must be started after a migration has been started");
		return FALSE;
	}
	g_atomic_int_set(&source->switch_over, 1);
	return TRUE;
}

gboolean ferry_source_pause(FerrySource *source, GError **error)
{
	FerryState state;

	g_mutex_lock(&source->lock);
	state = source->state;
	if (state == FERRY_STATE_POSTCOPY_ACTIVE) {
		source->pausing = TRUE;
		if (source->channel)
			ferry_channel_shutdown(source->channel);
	}
	g_mutex_unlock(&source->lock);
	if (state == FERRY_STATE_POSTCOPY_ACTIVE)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
		    "only a migration in postcopy-active can be paused; this one is in state %s",
		    ferry_state_name(state));
	return FALSE;
}

gboolean ferry_source_recover(FerrySource *source, const char *uri, GError **error)
{
	const FerryTransport *transport = ferry_transport_find(source->transports, uri, error);
	FerryState state;

	if (!transport)
		return FALSE;
	g_mutex_lock(&source->lock);
	state = source->state;
	if (state == FERRY_STATE_POSTCOPY_PAUSED) {
		g_free(source->recover_uri);
		source->recover_uri = g_strdup(uri);
		g_free(source->uri);
		source->uri = g_strdup(uri);
		source->recover_transport = transport;
		source->state = FERRY_STATE_POSTCOPY_RECOVER;
		g_cond_broadcast(&source->changed);
		emit_state(source, state, source->state);
	}
	g_mutex_unlock(&source->lock);
	if (state == FERRY_STATE_POSTCOPY_PAUSED)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
		    "only a migration in postcopy-paused can be resumed; this one is in state %s",
		    ferry_state_name(state));
	return FALSE;
}

gboolean ferry_source_resolve(FerrySource *source, FerryResolve how, GError **error)
{
	FerryState state;

	g_mutex_lock(&source->lock);
	state = source->state;
	if (state == FERRY_STATE_HANDOVER_LOST) {
		source->resolving = TRUE;
		source->resolve = how;
		g_cond_broadcast(&source->changed);
	}
	g_mutex_unlock(&source->lock);
	if (state == FERRY_STATE_HANDOVER_LOST)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
		    "no hand-over is in doubt here: the migration is in state %s",
		    ferry_state_name(state));
	return FALSE;
}

void ferry_source_get_status(FerrySource *source, FerryMigrationStatus *status)
{
	ferry_progress_fill(source->progress, status);
	ferry_throttle_fill(source->throttle, status);
	g_mutex_lock(&source->lock);
	status->state = source->state;
	g_free(status->error_desc);
	status->error_desc = g_strdup(source->error_desc);
	status->rehearsal = source->rehearsal;
	g_mutex_unlock(&source->lock);
	g_free(status->dirty_source);
	status->dirty_source = g_strdup(ferry_vm_dirty_source_name(source->vm));
}
