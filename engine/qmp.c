/* SPDX-License-Identifier: BSD-2-Clause */
#include "qmp-commands.h"
#include "qmp-listener.h"
#include "qmp-request.h"
#include "qmp-session.h"

/* A command of the embedder's. */
typedef struct {
	char *name;
	FerryQmpFunc func;
	gpointer user;
} AddedCommand;

struct FerryQmp {
	FerryVm *vm;
	FerrySource *source;
	FerryDestination *destination;
	GMainContext *context;
	FerryQmpEvents *events;
	GPtrArray *listeners; /* of FerryQmpListener */
	GPtrArray *sessions;  /* of FerryQmpSession */
	GPtrArray *added;     /* of AddedCommand, the newest last */
};

static const FerryQmpCommand *const tables[] = {
	ferry_qmp_guest_commands,
	ferry_qmp_migration_commands,
	ferry_qmp_settings_commands,
	ferry_qmp_older_commands,
};

static void added_command_free(gpointer data)
{
	AddedCommand *command = data;

	g_free(command->name);
	g_free(command);
}

static void send_event(JsonNode *event, gpointer user)
{
	FerryQmp *qmp = user;

	for (guint i = 0; i < qmp->sessions->len; i++)
		if (ferry_qmp_session_is_ready(qmp->sessions->pdata[i]))
			ferry_qmp_session_send(qmp->sessions->pdata[i], event);
}

FerryQmp *ferry_qmp_new(FerryVm *vm, FerrySource *source, FerryDestination *destination)
{
	FerryQmp *qmp = g_new0(FerryQmp, 1);

	qmp->vm = vm;
	qmp->source = source;
	qmp->destination = destination;
	qmp->context = g_main_context_ref_thread_default();
	qmp->listeners = g_ptr_array_new_with_free_func((GDestroyNotify)ferry_qmp_listener_free);
	qmp->sessions = g_ptr_array_new_with_free_func((GDestroyNotify)ferry_qmp_session_free);
	qmp->added = g_ptr_array_new_with_free_func(added_command_free);
	qmp->events = ferry_qmp_events_new(vm, qmp->context, send_event, qmp);
	return qmp;
}

void ferry_qmp_free(FerryQmp *qmp)
{
	if (!qmp)
		return;
	ferry_qmp_events_drain(qmp->events);
	ferry_qmp_events_free(qmp->events);
	g_ptr_array_unref(qmp->listeners);
	g_ptr_array_unref(qmp->sessions);
	g_ptr_array_unref(qmp->added);
	g_main_context_unref(qmp->context);
	g_free(qmp);
}

void ferry_qmp_add_command(FerryQmp *qmp, const char *name, FerryQmpFunc func, gpointer user)
{
	AddedCommand *command = g_new(AddedCommand, 1);

	*command = (AddedCommand){ g_strdup(name), func, user };
	g_ptr_array_add(qmp->added, command);
}

void ferry_qmp_send_event(FerryQmp *qmp, const char *name, JsonNode *data)
{
	ferry_qmp_events_push(qmp->events, name, data);
}

static const AddedCommand *find_added(FerryQmp *qmp, const char *name)
{
	for (guint i = qmp->added->len; i--;) {
		const AddedCommand *command = qmp->added->pdata[i];

		if (g_str_equal(command->name, name))
			return command;
	}
	return NULL;
}

static const FerryQmpCommand *find_own(const char *name)
{
	for (guint t = 0; t < G_N_ELEMENTS(tables); t++)
		for (const FerryQmpCommand *command = tables[t]; command->name; command++)
			if (g_str_equal(command->name, name))
				return command;
	return NULL;
}

static void add_name(JsonArray *list, const char *name)
{
	JsonObject *command = json_object_new();

	json_object_set_string_member(command, "name", name);
	json_array_add_object_element(list, command);
}

/* Here and not in a table, since only the server knows the embedder's commands. */
static JsonNode *query_commands(FerryQmp *qmp)
{
	JsonArray *list = json_array_new();

	add_name(list, "qmp_capabilities");
	add_name(list, "query-commands");
	for (guint t = 0; t < G_N_ELEMENTS(tables); t++)
		for (const FerryQmpCommand *command = tables[t]; command->name; command++)
			if (!find_added(qmp, command->name))
				add_name(list, command->name);
	for (guint i = 0; i < qmp->added->len; i++) {
		const AddedCommand *command = qmp->added->pdata[i];

		if (find_added(qmp, command->name) == command)
			add_name(list, command->name);
	}
	return ferry_qmp_array_node(list);
}

static JsonNode *run_own(FerryQmp *qmp, FerryQmpSession *session, const FerryQmpCommand *command,
			 JsonObject *arguments, GError **error)
{
	const FerryQmpCall call = {
		.vm = qmp->vm,
		.source = qmp->source,
		.destination = qmp->destination,
		.events = qmp->events,
		.fds = ferry_qmp_session_fds(session),
	};

	if (command->arguments &&
	    !ferry_qmp_check_arguments(arguments, command->arguments, "", error))
		return NULL;
	return command->run(&call, arguments, error);
}

static const FerryQmpArgument negotiation_arguments[] = {
	{ "enable", FERRY_QMP_ARRAY, .optional = TRUE },
	{ NULL },
};

/* We offer no protocol capability, so none can be enabled. */
static gboolean negotiate(FerryQmpSession *session, JsonObject *arguments, GError **error)
{
	JsonArray *enable;

	if (!ferry_qmp_check_arguments(arguments, negotiation_arguments, "", error))
		return FALSE;
	enable = arguments && json_object_has_member(arguments, "enable")
			 ? json_object_get_array_member(arguments, "enable")
			 : NULL;
	if (enable && json_array_get_length(enable)) {
		g_autofree char *first = json_to_string(json_array_get_element(enable, 0), FALSE);

		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "Parameter 'enable' does not accept value %s", first);
		return FALSE;
	}
	ferry_qmp_session_set_ready(session);
	return TRUE;
}

/* The answer to a command after the negotiation. */
static JsonNode *run_command(FerryQmp *qmp, FerryQmpSession *session,
			     const FerryQmpRequest *request)
{
	const AddedCommand *added = find_added(qmp, request->execute);
	const FerryQmpCommand *own = find_own(request->execute);
	g_autoptr(GError) error = NULL;
	JsonNode *result;

	if (added) {
		result = added->func(request->arguments, added->user, &error);
	} else if (own) {
		result = run_own(qmp, session, own, request->arguments, &error);
	} else if (g_str_equal(request->execute, "query-commands")) {
		ferry_qmp_check_arguments(request->arguments, ferry_qmp_no_arguments, "", &error);
		result = error ? NULL : query_commands(qmp);
	} else {
		g_autofree char *desc = g_strdup_printf("The command %s has not been found",
							request->execute);

		return ferry_qmp_error(FERRY_QMP_NOT_FOUND, desc, request->id);
	}
	if (error)
		return ferry_qmp_error(FERRY_QMP_GENERIC, error->message, request->id);
	return ferry_qmp_answer(result, request->id);
}

static JsonNode *dispatch(FerryQmp *qmp, FerryQmpSession *session, const FerryQmpRequest *request)
{
	gboolean negotiation = g_str_equal(request->execute, "qmp_capabilities");
	g_autoptr(GError) error = NULL;

	if (!negotiation && !ferry_qmp_session_is_ready(session))
		return ferry_qmp_error(FERRY_QMP_NOT_FOUND,
				       "Expecting capabilities negotiation with 'qmp_capabilities'",
				       request->id);
	if (!negotiation)
		return run_command(qmp, session, request);
	if (ferry_qmp_session_is_ready(session))
		return ferry_qmp_error(
			FERRY_QMP_NOT_FOUND,
			"Capabilities negotiation is already complete, command ignored",
			request->id);
	if (!negotiate(session, request->arguments, &error))
		return ferry_qmp_error(FERRY_QMP_GENERIC, error->message, request->id);
	return ferry_qmp_answer(NULL, request->id);
}

static void on_request(FerryQmpSession *session, JsonNode *value, const GError *bad, gpointer user)
{
	FerryQmp *qmp = user;
	FerryQmpRequest request = { NULL };
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) answer = NULL;

	if (!value)
		answer = ferry_qmp_error(FERRY_QMP_GENERIC, bad->message, NULL);
	else if (!ferry_qmp_request_parse(value, &request, &error))
		answer = ferry_qmp_error(FERRY_QMP_GENERIC, error->message, request.id);
	else
		answer = dispatch(qmp, session, &request);
	ferry_qmp_events_drain(qmp->events);
	ferry_qmp_session_send(session, answer);
}

static void on_closed(FerryQmpSession *session, gpointer user)
{
	FerryQmp *qmp = user;

	g_ptr_array_remove(qmp->sessions, session);
}

static const FerryQmpSessionFuncs session_funcs = {
	.request = on_request,
	.closed = on_closed,
};

static void on_accepted(GSocket *socket, gpointer user)
{
	FerryQmp *qmp = user;
	FerryQmpSession *session = ferry_qmp_session_new(socket, qmp->context, &session_funcs, qmp);
	g_autoptr(JsonNode) greeting = ferry_qmp_greeting();

	g_ptr_array_add(qmp->sessions, session);
	ferry_qmp_session_send(session, greeting);
}

gboolean ferry_qmp_listen(FerryQmp *qmp, const char *address, GError **error)
{
	FerryQmpListener *listener = ferry_qmp_listener_new(address, qmp->context, on_accepted, qmp,
							    error);

	if (!listener)
		return FALSE;
	g_ptr_array_add(qmp->listeners, listener);
	return TRUE;
}
