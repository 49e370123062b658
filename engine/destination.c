/* SPDX-License-Identifier: BSD-2-Clause */
#include "destination-private.h"

#include "observe.h"
#include "multifd-rules.h"
#include "state-table.h"

FerryDestination *ferry_destination_new(FerryVm *vm, const FerryTransport *const *transports)
{
	FerryDestination *destination = g_new0(FerryDestination, 1);

	destination->vm = vm;
	destination->transports = transports;
	destination->announcer = ferry_announcer_new(vm);
	destination->autostart = TRUE;
	g_mutex_init(&destination->lock);
	g_cond_init(&destination->changed);
	return destination;
}

void ferry_destination_stop_thread(FerryDestination *destination)
{
	GThread *thread;

	g_mutex_lock(&destination->lock);
	thread = g_steal_pointer(&destination->thread);
	if (destination->cancellable)
		g_cancellable_cancel(destination->cancellable);
	g_cond_broadcast(&destination->changed);
	if (destination->channel)
		ferry_channel_shutdown(destination->channel);
	g_mutex_unlock(&destination->lock);
	if (thread)
		g_thread_join(thread);
	g_clear_object(&destination->cancellable);
}

void ferry_destination_free(FerryDestination *destination)
{
	if (!destination)
		return;
	ferry_destination_stop_thread(destination);
	ferry_announcer_free(destination->announcer);
	ferry_destination_drop_postcopy(destination);
	g_free(destination->error_desc);
	g_free(destination->uri);
	g_free(destination->transport);
	g_clear_pointer(&destination->carrier, g_variant_unref);
	g_cond_clear(&destination->changed);
	g_mutex_clear(&destination->lock);
	g_free(destination);
}

/* ---- states ---- */

gboolean ferry_destination_enter_locked(FerryDestination *destination, FerryState from,
					FerryState to)
{
	if (destination->state != from || !ferry_state_allows(FERRY_SIDE_DESTINATION, from, to))
		return FALSE;
	destination->state = to;
	if (to == FERRY_STATE_COMPLETED || to == FERRY_STATE_FAILED)
		destination->end_us = g_get_monotonic_time();
	g_cond_broadcast(&destination->changed);
	ferry_observe_state(FERRY_SIDE_DESTINATION, from, to, destination->uri,
			    destination->error_desc);
	ferry_vm_emit(
		destination->vm,
		&(FerryEvent){ .type = FERRY_EVENT_MIGRATION, .state = to, .incoming = TRUE });
	return TRUE;
}

gboolean ferry_destination_enter(FerryDestination *destination, FerryState from, FerryState to)
{
	gboolean ok;

	g_mutex_lock(&destination->lock);
	ok = ferry_destination_enter_locked(destination, from, to);
	g_mutex_unlock(&destination->lock);
	return ok;
}

void ferry_destination_set_error(FerryDestination *destination, const char *text)
{
	g_mutex_lock(&destination->lock);
	g_free(destination->error_desc);
	destination->error_desc = g_strdup(text);
	g_mutex_unlock(&destination->lock);
}

gboolean ferry_destination_decide(FerryDestination *destination, FerryHandoverAnswer answer)
{
	gboolean ok;

	g_mutex_lock(&destination->lock);
	ok = destination->answer == FERRY_HANDOVER_WAITING;
	if (ok)
		destination->answer = answer;
	g_mutex_unlock(&destination->lock);
	return ok;
}

FerryState ferry_destination_state(FerryDestination *destination)
{
	FerryState state;

	g_mutex_lock(&destination->lock);
	state = destination->state;
	g_mutex_unlock(&destination->lock);
	return state;
}

FerryState ferry_destination_wait(FerryDestination *destination)
{
	FerryState state;

	g_mutex_lock(&destination->lock);
	while (destination->state == FERRY_STATE_SETUP ||
	       destination->state == FERRY_STATE_ACTIVE ||
	       destination->state == FERRY_STATE_HANDOVER ||
	       destination->state == FERRY_STATE_POSTCOPY_ACTIVE ||
	       destination->state == FERRY_STATE_POSTCOPY_RECOVER)
		g_cond_wait(&destination->changed, &destination->lock);
	state = destination->state;
	g_mutex_unlock(&destination->lock);
	return state;
}

/* ---- listening ---- */

static void fail(FerryDestination *destination, const GError *error)
{
	ferry_destination_set_error(destination, error->message);
	ferry_destination_enter(destination, ferry_destination_state(destination),
				FERRY_STATE_FAILED);
}

static void publish(FerryDestination *destination, FerryChannel *channel)
{
	g_mutex_lock(&destination->lock);
	destination->channel = channel;
	if (channel && g_cancellable_is_cancelled(destination->cancellable))
		ferry_channel_shutdown(channel);
	g_mutex_unlock(&destination->lock);
}

/* A connection that has touched nothing. A guest that waits for its source goes on waiting. */
static void refused(FerryDestination *destination, const char *uri, gboolean again,
		    const GError *error)
{
	FerryState state = ferry_destination_state(destination);

	if (state == FERRY_STATE_SETUP && !again)
		fail(destination, error);
	else if (state == FERRY_STATE_SETUP)
		ferry_destination_set_error(destination, error->message);
	if (state != FERRY_STATE_SETUP || again)
		ferry_observe_refused(uri, error->message);
}

/* Serves one connection; whether to take another. */
static gboolean serve(FerryDestination *destination, FerryListener *listener, FerryChannel *channel)
{
	g_autoptr(GError) error = NULL;
	FerryHeartbeat *heartbeat = NULL;
	FerryFabric *fabric = ferry_multifd_listener_fabric(ferry_vm_settings(destination->vm),
							    listener);
	FerryIncomingResult result;

	if (fabric) {
		heartbeat = ferry_heartbeat_new(channel, FERRY_HEARTBEAT_BACK);
		channel = ferry_heartbeat_channel(heartbeat);
	}
	ferry_observe_connected(FERRY_SIDE_DESTINATION, listener->uri);
	publish(destination, channel);
	result = ferry_incoming_run(destination, listener, fabric, channel, heartbeat, &error);
	publish(destination, NULL);
	ferry_channel_close(channel);
	switch (result) {
	case FERRY_INCOMING_REFUSED:
		refused(destination, listener->uri, listener->again, error);
		return TRUE;
	case FERRY_INCOMING_FAILED:
		fail(destination, error);
		return FALSE;
	case FERRY_INCOMING_IN_DOUBT:
		ferry_destination_set_error(destination, error->message);
		ferry_destination_enter(destination, FERRY_STATE_HANDOVER,
					FERRY_STATE_HANDOVER_LOST);
		return TRUE;
	case FERRY_INCOMING_REHEARSED:
		ferry_destination_rehearsed(destination);
		ferry_observe_rehearsed(listener->uri);
		return TRUE;
	case FERRY_INCOMING_PAUSED:
		ferry_destination_paused(destination, error);
		return TRUE;
	case FERRY_INCOMING_CLOSED:
		return FALSE;
	case FERRY_INCOMING_COMPLETED:
	case FERRY_INCOMING_ANSWERED:
		return TRUE;
	}
	return FALSE;
}

static gpointer listen_thread(gpointer data)
{
	g_autofree gpointer *arguments = data;
	FerryDestination *destination = arguments[0];
	g_autoptr(FerryListener) listener = arguments[1];
	g_autoptr(GCancellable) cancellable = arguments[2];

	for (;;) {
		g_autoptr(GError) error = NULL;
		FerryChannel *channel = listener->ops->accept(listener, cancellable, &error);

		if (!channel) {
			if (ferry_destination_state(destination) == FERRY_STATE_SETUP)
				fail(destination, error);
			break;
		}
		if (!serve(destination, listener, channel) || !listener->again)
			break;
	}
	return NULL;
}

static gboolean may_start(FerryDestination *destination, GError **error)
{
	FerryState state = ferry_destination_state(destination);

	if (!ferry_state_is_busy(state))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
		    "an incoming migration has begun already (state %s)", ferry_state_name(state));
	return FALSE;
}

gboolean ferry_destination_defer(FerryDestination *destination, GError **error)
{
	gboolean ok = may_start(destination, error);

	g_mutex_lock(&destination->lock);
	if (ok && destination->deferred) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
			    "the guest waits for migrate-incoming already");
		ok = FALSE;
	}
	if (ok)
		ok = destination->deferred = ferry_vm_incoming_begin(destination->vm, error);
	g_mutex_unlock(&destination->lock);
	return ok;
}

void ferry_destination_listen_locked(FerryDestination *destination, FerryListener *listener)
{
	gpointer *arguments = g_new(gpointer, 3);

	g_free(destination->uri);
	destination->uri = g_strdup(listener->uri);
	destination->cancellable = g_cancellable_new();
	arguments[0] = destination;
	arguments[1] = listener;
	arguments[2] = g_object_ref(destination->cancellable);
	destination->thread = g_thread_new("ferry-incoming", listen_thread, arguments);
}

/* Forgets what came before. The lock is held; no thread runs. */
static void reset_locked(FerryDestination *destination)
{
	g_clear_pointer(&destination->error_desc, g_free);
	g_clear_pointer(&destination->transport, g_free);
	g_clear_pointer(&destination->carrier, g_variant_unref);
	destination->deferred = FALSE;
	destination->mode = NULL;
	memset(&destination->postcopied, 0, sizeof(destination->postcopied));
	destination->pausing = FALSE;
	destination->pauses = 0;
	destination->has_session = FALSE;
	destination->answer = FERRY_HANDOVER_UNKNOWN;
	destination->begin_us = g_get_monotonic_time();
	destination->end_us = 0;
	destination->received = 0;
	destination->state = FERRY_STATE_SETUP;
}

gboolean ferry_destination_start(FerryDestination *destination, const char *uri, GError **error)
{
	const FerryTransport *transport = ferry_transport_find(destination->transports, uri, error);
	g_autoptr(FerryListener) listener = NULL;

	if (!transport || !ferry_vm_fits_transport(destination->vm, uri, transport, error) ||
	    !may_start(destination, error))
		return FALSE;
	/* A finished one may still answer questions, on the very same address. */
	ferry_destination_stop_thread(destination);
	ferry_destination_drop_postcopy(destination);
	listener = transport->listen(uri, NULL, error);
	if (!listener ||
	    !ferry_multifd_check_incoming(ferry_vm_settings(destination->vm), listener, error) ||
	    !ferry_vm_incoming_begin(destination->vm, error))
		return FALSE;
	g_mutex_lock(&destination->lock);
	reset_locked(destination);
	ferry_observe_state(FERRY_SIDE_DESTINATION, FERRY_STATE_NONE, FERRY_STATE_SETUP,
			    listener->uri, NULL);
	ferry_vm_emit(destination->vm, &(FerryEvent){ .type = FERRY_EVENT_MIGRATION,
						      .state = FERRY_STATE_SETUP,
						      .incoming = TRUE });
	ferry_destination_listen_locked(destination, g_steal_pointer(&listener));
	g_mutex_unlock(&destination->lock);
	return TRUE;
}

char *ferry_destination_uri(FerryDestination *destination)
{
	char *uri;

	g_mutex_lock(&destination->lock);
	uri = g_strdup(destination->uri);
	g_mutex_unlock(&destination->lock);
	return uri;
}

void ferry_destination_set_autostart(FerryDestination *destination, gboolean autostart)
{
	g_mutex_lock(&destination->lock);
	destination->autostart = autostart;
	g_mutex_unlock(&destination->lock);
}

/* ---- the operator ---- */

/* In one step: a source that comes again, or commits, finds it decided. */
static gboolean discard(FerryDestination *destination)
{
	gboolean ok;

	g_mutex_lock(&destination->lock);
	ok = destination->answer == FERRY_HANDOVER_WAITING &&
	     ferry_destination_enter_locked(destination, FERRY_STATE_HANDOVER_LOST,
					    FERRY_STATE_FAILED);
	if (ok) {
		destination->answer = FERRY_HANDOVER_DISCARDED;
		g_free(destination->error_desc);
		destination->error_desc = g_strdup("discarded by the operator");
	}
	g_mutex_unlock(&destination->lock);
	if (ok)
		ferry_destination_drop_postcopy(destination);
	return ok;
}

static gboolean run_here(FerryDestination *destination, GError **error)
{
	return ferry_incoming_take_over(destination, error) &&
	       ferry_destination_enter(destination, FERRY_STATE_HANDOVER_LOST,
				       FERRY_STATE_COMPLETED);
}

gboolean ferry_destination_resolve(FerryDestination *destination, FerryResolve how, GError **error)
{
	FerryState state = ferry_destination_state(destination);

	if (state != FERRY_STATE_HANDOVER_LOST) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
			    "no hand-over is in doubt here: the incoming migration is in state %s",
			    ferry_state_name(state));
		return FALSE;
	}
	if (how == FERRY_RESOLVE_RETRY) {
		g_set_error(
			error, FERRY_ERROR, FERRY_ERROR_INVALID,
			"a destination cannot ask: retry at the source, or run or discard the guest here");
		return FALSE;
	}
	if (how == FERRY_RESOLVE_RUN_HERE && ferry_destination_is_incomplete(destination)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
			    "pages of this guest are still at the source: only the source can let "
			    "it run here, when it comes again; or discard it");
		return FALSE;
	}
	if (how == FERRY_RESOLVE_DISCARD
		    ? discard(destination)
		    : ferry_destination_decide(destination, FERRY_HANDOVER_RUNS))
		return how == FERRY_RESOLVE_DISCARD || run_here(destination, error);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
		    "the source has just decided: look at the state again");
	return FALSE;
}

/* ---- announcing ---- */

void ferry_destination_arrived(FerryDestination *destination)
{
	FerrySettings *settings = ferry_vm_settings(destination->vm);
	const FerryAnnouncement times = {
		.initial = ferry_settings_get_parameter(settings, FERRY_PARAMETER_ANNOUNCE_INITIAL),
		.max = ferry_settings_get_parameter(settings, FERRY_PARAMETER_ANNOUNCE_MAX),
		.rounds = ferry_settings_get_parameter(settings, FERRY_PARAMETER_ANNOUNCE_ROUNDS),
		.step = ferry_settings_get_parameter(settings, FERRY_PARAMETER_ANNOUNCE_STEP),
	};

	ferry_announcer_start(destination->announcer, &times);
}

static gboolean check_times(const FerryAnnouncement *times, GError **error)
{
	const struct {
		FerryParameter parameter;
		guint64 value;
	} given[] = {
		{ FERRY_PARAMETER_ANNOUNCE_INITIAL, times->initial },
		{ FERRY_PARAMETER_ANNOUNCE_MAX, times->max },
		{ FERRY_PARAMETER_ANNOUNCE_ROUNDS, times->rounds },
		{ FERRY_PARAMETER_ANNOUNCE_STEP, times->step },
	};

	for (guint i = 0; i < G_N_ELEMENTS(given); i++) {
		const FerrySettingInfo *info = ferry_parameter_info(given[i].parameter);

		if (given[i].value < info->minimum || given[i].value > info->maximum) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
				    "'%s' expects a number from %" G_GUINT64_FORMAT
				    " to %" G_GUINT64_FORMAT ", not %" G_GUINT64_FORMAT,
				    info->name, info->minimum, info->maximum, given[i].value);
			return FALSE;
		}
	}
	return TRUE;
}

gboolean ferry_destination_announce(FerryDestination *destination, const FerryAnnouncement *times,
				    GError **error)
{
	FerryRunState state = ferry_vm_run_state(destination->vm);

	if (times && !check_times(times, error))
		return FALSE;
	if (state == FERRY_RUN_STATE_INMIGRATE || state == FERRY_RUN_STATE_POSTMIGRATE) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
			    "there is no guest here to be announced (run state %s)",
			    ferry_run_state_name(state));
		return FALSE;
	}
	if (times)
		ferry_announcer_start(destination->announcer, times);
	else
		ferry_destination_arrived(destination);
	return TRUE;
}

/* ---- numbers ---- */

void ferry_destination_get_status(FerryDestination *destination, FerryMigrationStatus *status)
{
	gint64 end;

	memset(status, 0, sizeof(*status));
	status->ram.total = ferry_vm_ram(destination->vm)->total;
	status->source_cpu = status->destination_cpu = (FerryCpuTime){ -1, -1 };
	g_mutex_lock(&destination->lock);
	status->state = destination->state;
	status->error_desc = g_strdup(destination->error_desc);
	status->transport = g_strdup(destination->transport);
	if (destination->described && destination->described->ops->describe)
		status->carrier = g_variant_ref_sink(
			destination->described->ops->describe(destination->described));
	else if (destination->carrier)
		status->carrier = g_variant_ref(destination->carrier);
	status->ram.transferred = status->wire_bytes = destination->received;
	ferry_destination_fill_postcopy(destination, &status->postcopy);
	end = destination->end_us ? destination->end_us : g_get_monotonic_time();
	if (destination->begin_us)
		status->total_time_ms = (end - destination->begin_us) / G_TIME_SPAN_MILLISECOND;
	g_mutex_unlock(&destination->lock);
}
