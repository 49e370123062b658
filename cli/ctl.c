/* SPDX-License-Identifier: BSD-2-Clause */
#include "commands.h"
#include "common.h"
#include "qmp-client.h"

#include <stdio.h>
#include <ferry/error.h>

static const FerryCliHelp help = {
	.command = "ctl",
	.operands = "COMMAND [KEY=VALUE]...",
	.summary = "Runs one QMP command in a monitor and prints its answer as JSON.",
	.description =
		"A VALUE that is JSON (a number, true, false, null, or anything in \" [ or {) goes as it "
		"is;\nevery other one is a string. KEY may be A.B for a member of a member.\n\n"
		"Examples:\n"
		"  ferry ctl --qmp unix:/tmp/a.qmp query-migrate\n"
		"  ferry ctl --qmp unix:/tmp/a.qmp migrate-set-parameters max-bandwidth=104857600\n"
		"  ferry ctl --qmp unix:/tmp/b.qmp migrate-incoming uri=tcp:0.0.0.0:4444\n"
		"  ferry ctl --qmp unix:/tmp/a.qmp query-commands\n\n"
		"Exit status: 0 done, 1 the monitor refused or is not there, 2 wrong usage.",
};

/* json-glib takes 0123 and 'x' for JSON too; here they are strings. */
static JsonNode *parse_value(const char *text)
{
	static const char json[] =
		"^(true|false|null|-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][-+]?[0-9]+)?|"
		"[\\[{\"].*)$";
	JsonNode *node = NULL;

	if (g_regex_match_simple(json, text, G_REGEX_DOTALL, 0))
		node = json_from_string(text, NULL);
	return node ? node : json_node_init_string(json_node_alloc(), text);
}

/* The object called @name in @object, made if it is not there; NULL if something else is. */
static JsonObject *descend(JsonObject *object, const char *name)
{
	JsonNode *member = json_object_get_member(object, name);

	if (member)
		return JSON_NODE_HOLDS_OBJECT(member) ? json_node_get_object(member) : NULL;
	json_object_set_object_member(object, name, json_object_new());
	return json_object_get_object_member(object, name);
}

static gboolean add_argument(JsonObject *arguments, const char *text, GError **error)
{
	const char *equals = strchr(text, '=');
	g_autofree char *key = equals ? g_strndup(text, equals - text) : NULL;
	g_auto(GStrv) names = key && *key ? g_strsplit(key, ".", -1) : NULL;
	JsonObject *object = arguments;
	guint i = 0;

	for (; names && names[i + 1] && object; i++)
		object = descend(object, names[i]);
	if (!names || !object || json_object_has_member(object, names[i])) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    names ? "'%s' names what is there already"
				  : "expected KEY=VALUE instead of '%s'",
			    text);
		return FALSE;
	}
	json_object_set_member(object, names[i], parse_value(equals + 1));
	return TRUE;
}

static void print_answer(JsonNode *answer)
{
	g_autofree char *text = json_to_string(answer, TRUE);

	puts(text);
}

int ferry_cli_ctl(int argc, char **argv)
{
	g_autofree char *address = NULL;
	const GOptionEntry entries[] = {
		{ "qmp", 0, 0, G_OPTION_ARG_STRING, &address, "The monitor's QMP socket",
		  "unix:PATH" },
		{ NULL },
	};
	g_autoptr(JsonObject) arguments = json_object_new();
	g_autoptr(FerryQmpClient) client = NULL;
	g_autoptr(JsonNode) answer = NULL;
	g_autoptr(GError) error = NULL;

	if (!ferry_cli_parse(&help, entries, &argc, &argv, 1, G_MAXINT))
		return FERRY_EXIT_USAGE;
	if (!address)
		return ferry_cli_usage("ctl", "--qmp unix:PATH is missing");
	for (int i = 2; i < argc; i++)
		if (!add_argument(arguments, argv[i], &error))
			return ferry_cli_usage("ctl", "%s", error->message);
	client = ferry_qmp_client_new(address, &error);
	if (g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID))
		return ferry_cli_usage("ctl", "%s", error->message);
	if (client)
		answer = ferry_qmp_client_call(
			client, argv[1], argc > 2 ? json_object_ref(arguments) : NULL, &error);
	if (!answer)
		return ferry_cli_fail("ctl", "%s", error->message);
	print_answer(answer);
	return FERRY_EXIT_DONE;
}
