/* SPDX-License-Identifier: BSD-2-Clause */
#include "postcopy-option.h"

#include <string.h>
#include <ferry/error.h>

/* A day: whoever wants to wait longer wants precopy. */
#define AFTER_MAX_MS (24 * 60 * 60 * 1000)
#define ROUNDS_MAX 1000

static gboolean parse_number(const char *text, size_t len, gint64 max, gint64 *number)
{
	g_autofree char *digits = g_strndup(text, len);
	guint64 value;

	if (!g_ascii_string_to_unsigned(digits, 10, 0, max, &value, NULL))
		return FALSE;
	*number = value;
	return TRUE;
}

static gboolean parse_time(const char *after, gint64 *ms)
{
	size_t len = strlen(after);
	gint64 seconds;

	if (g_str_has_suffix(after, "ms"))
		return parse_number(after, len - 2, AFTER_MAX_MS, ms);
	if (!g_str_has_suffix(after, "s") ||
	    !parse_number(after, len - 1, AFTER_MAX_MS / 1000, &seconds))
		return FALSE;
	*ms = seconds * 1000;
	return TRUE;
}

gboolean ferry_cli_postcopy_parse(const char *after, FerryCliPostcopy *postcopy, GError **error)
{
	FerryCliPostcopy in = { .wanted = after != NULL };
	gboolean ok;

	if (!after || g_str_equal(after, "now"))
		ok = TRUE;
	else if (g_str_has_prefix(after, "round:"))
		ok = parse_number(after + strlen("round:"), strlen(after) - strlen("round:"),
				  ROUNDS_MAX, &in.rounds) &&
		     in.rounds > 0;
	else
		ok = parse_time(after, &in.after_ms);
	if (ok)
		*postcopy = in;
	else
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "--postcopy=%s: expected a time as 2s or 500ms, or a round as round:3",
			    after);
	return ok;
}

gboolean ferry_cli_postcopy_enable(const FerryCliPostcopy *postcopy, FerryQmpClient *client,
				   GError **error)
{
	g_autoptr(JsonNode) answer = NULL;
	JsonObject *arguments, *capability;
	JsonArray *capabilities;

	if (!postcopy->wanted)
		return TRUE;
	capability = json_object_new();
	json_object_set_string_member(capability, "capability", "postcopy-ram");
	json_object_set_boolean_member(capability, "state", TRUE);
	capabilities = json_array_new();
	json_array_add_object_element(capabilities, capability);
	arguments = json_object_new();
	json_object_set_array_member(arguments, "capabilities", capabilities);
	answer = ferry_qmp_client_call(client, "migrate-set-capabilities", arguments, error);
	return answer != NULL;
}

/* Rounds that are over: one is once the next began. */
static gint64 rounds_over(const FerryCliMigration *migration)
{
	guint n = ferry_cli_migration_n_rounds(migration);

	return n ? n - 1 : 0;
}

gboolean ferry_cli_postcopy_step(FerryCliPostcopy *postcopy, FerryQmpClient *client,
				 const FerryCliMigration *migration, gint64 running_ms,
				 GError **error)
{
	g_autoptr(JsonNode) answer = NULL;

	if (!postcopy->wanted || postcopy->started || running_ms < postcopy->after_ms ||
	    rounds_over(migration) < postcopy->rounds)
		return TRUE;
	postcopy->started = TRUE;
	answer = ferry_qmp_client_call(client, "migrate-start-postcopy", NULL, error);
	return answer != NULL;
}

guint ferry_cli_postcopy_wait_ms(const FerryCliPostcopy *postcopy, gint64 running_ms, guint poll_ms)
{
	gint64 left = postcopy->after_ms - running_ms;

	if (!postcopy->wanted || postcopy->started || left <= 0)
		return poll_ms;
	return MIN(left, poll_ms);
}
