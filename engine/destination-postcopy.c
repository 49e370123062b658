/* SPDX-License-Identifier: BSD-2-Clause */
#include "destination-private.h"

/* A destination whose guest runs, or was to run, before its pages have come. */

gboolean ferry_destination_begin_recovery(FerryDestination *destination)
{
	FerryState from;
	gboolean ok;

	g_mutex_lock(&destination->lock);
	from = destination->state;
	ok = (from == FERRY_STATE_POSTCOPY_PAUSED ||
	      destination->answer == FERRY_HANDOVER_WAITING) &&
	     ferry_destination_enter_locked(destination, from, FERRY_STATE_POSTCOPY_RECOVER);
	g_mutex_unlock(&destination->lock);
	return ok;
}

void ferry_destination_paused(FerryDestination *destination, const GError *cause)
{
	gboolean runs;

	g_mutex_lock(&destination->lock);
	runs = destination->answer == FERRY_HANDOVER_RUNS;
	g_free(destination->error_desc);
	destination->error_desc = g_strdup(destination->pausing ? "paused by hand (migrate-pause)"
								: cause->message);
	destination->pausing = FALSE;
	destination->pauses++;
	ferry_destination_enter_locked(destination, destination->state,
				       runs ? FERRY_STATE_POSTCOPY_PAUSED
					    : FERRY_STATE_HANDOVER_LOST);
	g_mutex_unlock(&destination->lock);
}

gboolean ferry_destination_is_incomplete(FerryDestination *destination)
{
	gboolean incomplete;

	g_mutex_lock(&destination->lock);
	incomplete = destination->postcopy && ferry_postcopy_ram_missing(destination->postcopy);
	g_mutex_unlock(&destination->lock);
	return incomplete;
}

/* ---- pause and recovery ---- */

gboolean ferry_destination_pause(FerryDestination *destination, GError **error)
{
	FerryState state;

	g_mutex_lock(&destination->lock);
	state = destination->state;
	if (state == FERRY_STATE_POSTCOPY_ACTIVE) {
		destination->pausing = TRUE;
		if (destination->channel)
			ferry_channel_shutdown(destination->channel);
	}
	g_mutex_unlock(&destination->lock);
	if (state == FERRY_STATE_POSTCOPY_ACTIVE)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
		    "only a migration in postcopy-active can be paused; this one is in state %s",
		    ferry_state_name(state));
	return FALSE;
}

/* Whether a source may come again. */
static gboolean may_recover(FerryDestination *destination, GError **error)
{
	FerryState state;
	gboolean may;

	g_mutex_lock(&destination->lock);
	state = destination->state;
	may = state == FERRY_STATE_POSTCOPY_PAUSED ||
	      (state == FERRY_STATE_HANDOVER_LOST && destination->postcopy);
	g_mutex_unlock(&destination->lock);
	if (!may)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
			    "only a migration in postcopy-paused can be recovered; this one is in "
			    "state %s",
			    ferry_state_name(state));
	return may;
}

gboolean ferry_destination_recover(FerryDestination *destination, const char *uri, GError **error)
{
	const FerryTransport *transport = ferry_transport_find(destination->transports, uri, error);
	FerryListener *listener;

	if (!transport || !may_recover(destination, error))
		return FALSE;
	/* It may be the very same address; and a source that has just come there, comes again. */
	ferry_destination_stop_thread(destination);
	listener = may_recover(destination, error) ? transport->listen(uri, NULL, error) : NULL;
	if (!listener)
		return FALSE;
	g_mutex_lock(&destination->lock);
	ferry_destination_listen_locked(destination, listener);
	g_mutex_unlock(&destination->lock);
	return TRUE;
}

/* ---- numbers ---- */

void ferry_destination_fill_postcopy(FerryDestination *destination, FerryPostcopyStatus *status)
{
	if (destination->postcopy)
		ferry_postcopy_ram_get_status(destination->postcopy, status);
	else
		*status = destination->postcopied;
	status->pauses = destination->pauses;
	status->switched = destination->mode != NULL;
	status->mode = destination->mode;
}

void ferry_destination_block(FerryDestination *destination)
{
	if (!destination->blocker)
		destination->blocker = ferry_vm_add_blocker(
			destination->vm,
			"not all of this guest's memory has come from where it ran before", NULL);
}

void ferry_destination_unblock(FerryDestination *destination)
{
	if (destination->blocker)
		ferry_vm_remove_blocker(destination->vm, destination->blocker);
	destination->blocker = 0;
}

void ferry_destination_drop_postcopy(FerryDestination *destination)
{
	FerryPostcopyStatus last = { 0 };
	FerryPostcopyRam *postcopy;

	g_mutex_lock(&destination->lock);
	ferry_destination_fill_postcopy(destination, &last);
	destination->postcopied = last;
	postcopy = g_steal_pointer(&destination->postcopy);
	g_mutex_unlock(&destination->lock);
	ferry_postcopy_ram_free(postcopy);
	ferry_destination_unblock(destination);
}
