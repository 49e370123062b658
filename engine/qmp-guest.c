/* SPDX-License-Identifier: BSD-2-Clause */
#include "qmp-commands.h"

#include <stdlib.h>
#include <ferry/version.h>

/* The commands about the guest and the connection; those about moving it are in qmp-migration.c. */

const FerryQmpArgument ferry_qmp_no_arguments[] = { { NULL } };

static const FerryQmpArgument announce_arguments[] = {
	{ "initial", FERRY_QMP_INTEGER, .optional = TRUE },
	{ "max", FERRY_QMP_INTEGER, .optional = TRUE },
	{ "rounds", FERRY_QMP_INTEGER, .optional = TRUE },
	{ "step", FERRY_QMP_INTEGER, .optional = TRUE },
	{ NULL },
};

static const FerryQmpArgument fd_arguments[] = {
	{ "fdname", FERRY_QMP_STRING },
	{ NULL },
};

JsonNode *ferry_qmp_version(void)
{
	JsonObject *numbers = json_object_new(), *version = json_object_new();
	g_auto(GStrv) parts = g_strsplit(FERRY_VERSION, ".", 3);
	static const char *const names[] = { "major", "minor", "micro" };

	for (guint i = 0; i < G_N_ELEMENTS(names) && parts[i]; i++)
		json_object_set_int_member(numbers, names[i], atoi(parts[i]));
	json_object_set_object_member(version, "qemu", numbers);
	json_object_set_string_member(version, "package", "ferry-" FERRY_VERSION);
	return ferry_qmp_object_node(version);
}

static JsonNode *query_version(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	return ferry_qmp_version();
}

static JsonNode *query_status(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	JsonObject *status = json_object_new();

	json_object_set_string_member(status, "status",
				      ferry_run_state_name(ferry_vm_run_state(call->vm)));
	json_object_set_boolean_member(status, "singlestep", FALSE);
	json_object_set_boolean_member(status, "running", ferry_vm_is_running(call->vm));
	return ferry_qmp_object_node(status);
}

static JsonNode *stop(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	ferry_vm_stop(call->vm, error);
	return NULL;
}

static JsonNode *cont(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	ferry_vm_start(call->vm, error);
	return NULL;
}

static JsonNode *query_events(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	static const char *const names[] = { "FERRY_FALLBACK", "MIGRATION", "MIGRATION_PASS",
					     "RESUME", "STOP" };
	JsonArray *events = json_array_new();

	for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
		JsonObject *event = json_object_new();

		json_object_set_string_member(event, "name", names[i]);
		json_array_add_object_element(events, event);
	}
	return ferry_qmp_array_node(events);
}

/* @name's value, or the parameter's where the client gave none. */
static guint64 announce_number(const FerryQmpCall *call, JsonObject *arguments, const char *name,
			       FerryParameter parameter)
{
	if (!arguments || !json_object_has_member(arguments, name))
		return ferry_settings_get_parameter(ferry_vm_settings(call->vm), parameter);
	/* A negative one is refused as too large. */
	return (guint64)json_object_get_int_member(arguments, name);
}

static JsonNode *announce_self(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	const FerryAnnouncement times = {
		announce_number(call, arguments, "initial", FERRY_PARAMETER_ANNOUNCE_INITIAL),
		announce_number(call, arguments, "max", FERRY_PARAMETER_ANNOUNCE_MAX),
		announce_number(call, arguments, "rounds", FERRY_PARAMETER_ANNOUNCE_ROUNDS),
		announce_number(call, arguments, "step", FERRY_PARAMETER_ANNOUNCE_STEP),
	};

	if (call->destination)
		ferry_destination_announce(call->destination, &times, error);
	else
		g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
				    "this monitor never takes a guest in, and announces none");
	return NULL;
}

static JsonNode *getfd(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	ferry_qmp_fds_name(call->fds, ferry_qmp_get_string(arguments, "fdname"), error);
	return NULL;
}

static JsonNode *closefd(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	ferry_qmp_fds_close(call->fds, ferry_qmp_get_string(arguments, "fdname"), error);
	return NULL;
}

const FerryQmpCommand ferry_qmp_guest_commands[] = {
	{ "query-version", query_version, ferry_qmp_no_arguments },
	{ "query-status", query_status, ferry_qmp_no_arguments },
	{ "stop", stop, ferry_qmp_no_arguments },
	{ "cont", cont, ferry_qmp_no_arguments },
	{ "query-events", query_events, ferry_qmp_no_arguments },
	{ "announce-self", announce_self, announce_arguments },
	{ "getfd", getfd, fd_arguments },
	{ "closefd", closefd, fd_arguments },
	{ NULL },
};
