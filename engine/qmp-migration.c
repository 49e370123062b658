/* SPDX-License-Identifier: BSD-2-Clause */
#include "qmp-commands.h"

/* The commands that start, steer and end a migration. */

static gboolean refuse(GError **error, FerryErrorCode code, const char *message)
{
	g_set_error_literal(error, FERRY_ERROR, code, message);
	return FALSE;
}

static gboolean check_migrate(const FerryQmpCall *call, JsonObject *arguments, gboolean resume,
			      GError **error)
{
	if (ferry_qmp_get_boolean(arguments, "blk", FALSE) ||
	    ferry_qmp_get_boolean(arguments, "inc", FALSE))
		return refuse(error, FERRY_ERROR_NOSUPP,
			      "Block migration (blk, inc) is not supported: copy the disks with "
			      "NBD mirroring, then migrate without the flag");
	/* Before a descriptor is given away. */
	if (resume && ferry_source_state(call->source) != FERRY_STATE_POSTCOPY_PAUSED)
		return refuse(error, FERRY_ERROR_STATE,
			      "Cannot resume if there is no paused migration");
	return TRUE;
}

static JsonNode *migrate(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	const char *uri = ferry_qmp_get_string(arguments, "uri");
	gboolean resume = ferry_qmp_get_boolean(arguments, "resume", FALSE);
	g_autofree char *resolved = NULL;

	if (!check_migrate(call, arguments, resume, error))
		return NULL;
	resolved = ferry_qmp_fds_resolve(call->fds, uri, error);
	if (resolved && (resume ? ferry_source_recover(call->source, resolved, error)
				: ferry_source_migrate(call->source, resolved, error)))
		ferry_qmp_fds_forget(call->fds, uri);
	return NULL;
}

/* Checked before a descriptor is given away, since a listener that was made keeps it. */
static gboolean check_incoming(const FerryQmpCall *call, GError **error)
{
	FerryRunState state = ferry_vm_run_state(call->vm);

	if (!call->destination)
		return refuse(error, FERRY_ERROR_NOSUPP, "This monitor does not take guests in");
	if (state == FERRY_RUN_STATE_PRELAUNCH || state == FERRY_RUN_STATE_INMIGRATE ||
	    state == FERRY_RUN_STATE_POSTMIGRATE)
		return TRUE;
	g_set_error(
		error, FERRY_ERROR, FERRY_ERROR_STATE,
		"A guest lives here already (run state %s): an incoming one needs a fresh monitor",
		ferry_run_state_name(state));
	return FALSE;
}

static JsonNode *migrate_incoming(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	const char *uri = ferry_qmp_get_string(arguments, "uri");
	g_autofree char *resolved = NULL;

	if (!check_incoming(call, error))
		return NULL;
	resolved = ferry_qmp_fds_resolve(call->fds, uri, error);
	if (resolved && ferry_destination_start(call->destination, resolved, error))
		ferry_qmp_fds_forget(call->fds, uri);
	return NULL;
}

static JsonNode *rehearse(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	gint64 seconds = json_object_get_int_member_with_default(arguments, "seconds",
								 FERRY_REHEARSAL_SECONDS);

	if (seconds < 1 || seconds > FERRY_REHEARSAL_SECONDS_MAX)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "Parameter 'seconds' expects a value from 1 to %u",
			    FERRY_REHEARSAL_SECONDS_MAX);
	else
		ferry_source_rehearse(call->source, ferry_qmp_get_string(arguments, "uri"), seconds,
				      error);
	return NULL;
}

static JsonNode *migrate_cancel(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	ferry_source_cancel(call->source);
	return NULL;
}

static gboolean in_state(const FerryQmpCall *call, FerryState wanted, GError **error)
{
	FerryState state = ferry_source_state(call->source);

	if (state == wanted)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE, "Migration not in expected state: %s",
		    ferry_state_name(state));
	return FALSE;
}

/* The state is an argument so that a client cannot push on a migration that is elsewhere by now. */
static JsonNode *migrate_continue(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	const char *name = ferry_qmp_get_string(arguments, "state");
	FerryState state = FERRY_STATE_NONE;

	while (state < FERRY_STATE__N && !g_str_equal(ferry_state_name(state), name))
		state++;
	if (state == FERRY_STATE__N)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "Parameter 'state' does not accept value '%s'", name);
	else if (in_state(call, state, error))
		ferry_source_continue(call->source, error);
	return NULL;
}

static JsonNode *migrate_start_postcopy(const FerryQmpCall *call, JsonObject *arguments,
					GError **error)
{
	ferry_source_start_postcopy(call->source, error);
	return NULL;
}

static gboolean is_incoming(const FerryQmpCall *call, FerryState state)
{
	return call->destination && ferry_destination_state(call->destination) == state;
}

static JsonNode *migrate_pause(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	if (ferry_source_state(call->source) == FERRY_STATE_POSTCOPY_ACTIVE)
		ferry_source_pause(call->source, error);
	else if (is_incoming(call, FERRY_STATE_POSTCOPY_ACTIVE))
		ferry_destination_pause(call->destination, error);
	else
		refuse(error, FERRY_ERROR_STATE,
		       "migrate-pause is only possible in the state postcopy-active");
	return NULL;
}

static JsonNode *migrate_recover(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	const char *uri = ferry_qmp_get_string(arguments, "uri");
	g_autofree char *resolved = NULL;

	/* Before a descriptor is given away. */
	if (!is_incoming(call, FERRY_STATE_POSTCOPY_PAUSED) &&
	    !is_incoming(call, FERRY_STATE_HANDOVER_LOST)) {
		refuse(error, FERRY_ERROR_STATE,
		       "migrate-recover is only possible when postcopy is paused");
		return NULL;
	}
	resolved = ferry_qmp_fds_resolve(call->fds, uri, error);
	if (resolved && ferry_destination_recover(call->destination, resolved, error))
		ferry_qmp_fds_forget(call->fds, uri);
	return NULL;
}

static gboolean destination_is_last(const FerryQmpCall *call)
{
	if (!call->destination || ferry_destination_state(call->destination) == FERRY_STATE_NONE)
		return FALSE;
	return ferry_source_state(call->source) == FERRY_STATE_NONE ||
	       ferry_qmp_events_last_was_incoming(call->events);
}

/* Of the migration that changed its state last; whether it is an incoming one. */
static gboolean get_status(const FerryQmpCall *call, FerryMigrationStatus *status)
{
	gboolean incoming = destination_is_last(call);

	if (incoming)
		ferry_destination_get_status(call->destination, status);
	else
		ferry_source_get_status(call->source, status);
	return incoming;
}

static JsonNode *query_migrate(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	g_auto(GStrv) blocked = ferry_vm_blocked_reasons(call->vm);
	g_auto(FerryMigrationStatus) status = { 0 };
	gboolean incoming = get_status(call, &status);

	return ferry_qmp_migration_info(&status, incoming, blocked);
}

static JsonNode *query_rdma(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	g_auto(FerryMigrationStatus) status = { 0 };

	get_status(call, &status);
	/* Streams of TCP have something to tell too. */
	if (status.carrier && g_strcmp0(status.transport, "rdma") == 0)
		return json_gvariant_serialize(status.carrier);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE, "There is no RDMA here%s%s",
		    status.fallback ? ": " : ": no migration by rdma: has connected yet",
		    status.fallback ? status.fallback : "");
	return NULL;
}

static const char *const resolve_actions[] = {
	[FERRY_RESOLVE_RETRY] = "retry",
	[FERRY_RESOLVE_RUN_HERE] = "run-here",
	[FERRY_RESOLVE_DISCARD] = "discard",
	NULL,
};

static JsonNode *resolve(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	const char *action = ferry_qmp_get_string(arguments, "action");
	FerryResolve how = FERRY_RESOLVE_RETRY;

	while (!g_str_equal(resolve_actions[how], action))
		how++;
	if (ferry_source_state(call->source) == FERRY_STATE_HANDOVER_LOST)
		ferry_source_resolve(call->source, how, error);
	else if (call->destination &&
		 ferry_destination_state(call->destination) == FERRY_STATE_HANDOVER_LOST)
		ferry_destination_resolve(call->destination, how, error);
	else
		refuse(error, FERRY_ERROR_STATE,
		       "No hand-over is in doubt here: see the status in query-migrate");
	return NULL;
}

static const FerryQmpArgument migrate_arguments[] = {
	{ "uri", FERRY_QMP_STRING },
	{ "blk", FERRY_QMP_BOOLEAN, .optional = TRUE },
	{ "inc", FERRY_QMP_BOOLEAN, .optional = TRUE },
	{ "detach", FERRY_QMP_BOOLEAN, .optional = TRUE },
	{ "resume", FERRY_QMP_BOOLEAN, .optional = TRUE },
	{ NULL },
};
static const FerryQmpArgument rehearse_arguments[] = {
	{ "uri", FERRY_QMP_STRING },
	{ "seconds", FERRY_QMP_INTEGER, .optional = TRUE },
	{ NULL },
};
static const FerryQmpArgument uri_arguments[] = { { "uri", FERRY_QMP_STRING }, { NULL } };
static const FerryQmpArgument state_arguments[] = { { "state", FERRY_QMP_STRING }, { NULL } };
static const FerryQmpArgument resolve_arguments[] = {
	{ "action", FERRY_QMP_STRING, .values = resolve_actions },
	{ NULL },
};

const FerryQmpCommand ferry_qmp_migration_commands[] = {
	{ "migrate", migrate, migrate_arguments },
	{ "migrate-incoming", migrate_incoming, uri_arguments },
	{ "migrate_cancel", migrate_cancel, ferry_qmp_no_arguments },
	{ "migrate-continue", migrate_continue, state_arguments },
	{ "migrate-start-postcopy", migrate_start_postcopy, ferry_qmp_no_arguments },
	{ "migrate-pause", migrate_pause, ferry_qmp_no_arguments },
	{ "migrate-recover", migrate_recover, uri_arguments },
	{ "query-migrate", query_migrate, ferry_qmp_no_arguments },
	{ "query-rdma", query_rdma, ferry_qmp_no_arguments },
	{ "ferry-rehearse", rehearse, rehearse_arguments },
	{ "ferry-resolve", resolve, resolve_arguments },
	{ NULL },
};
