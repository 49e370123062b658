/* SPDX-License-Identifier: BSD-2-Clause */
#include "rehearsal.h"
#include "common.h"

#include <stdio.h>
#include <ferry/error.h>
#include <ferry/ram.h>
#include <ferry/rehearsal.h>

gboolean ferry_cli_rehearsal_parse(const char *text, guint *seconds, GError **error)
{
	guint64 value;

	if (g_ascii_string_to_unsigned(text, 10, 1, FERRY_REHEARSAL_SECONDS_MAX, &value, NULL)) {
		*seconds = value;
		return TRUE;
	}
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
		    "--dry-run=%s: expected whole seconds, 1 to %u", text,
		    FERRY_REHEARSAL_SECONDS_MAX);
	return FALSE;
}

static JsonObject *object_of(JsonObject *object, const char *name)
{
	JsonNode *node = object ? json_object_get_member(object, name) : NULL;

	return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

static double number_of(JsonObject *object, const char *name)
{
	return object ? json_object_get_double_member_with_default(object, name, 0) : 0;
}

static gboolean is(JsonObject *object, const char *name)
{
	return object && json_object_get_boolean_member_with_default(object, name, FALSE);
}

JsonObject *ferry_cli_rehearsal_find(JsonNode *answer)
{
	JsonObject *rehearsal = JSON_NODE_HOLDS_OBJECT(answer)
					? object_of(json_node_get_object(answer), "rehearsal")
					: NULL;

	return is(rehearsal, "done") ? rehearsal : NULL;
}

int ferry_cli_rehearsal_status(JsonObject *rehearsal)
{
	return is(rehearsal, "converges") ? FERRY_EXIT_DONE : FERRY_EXIT_NOT_CONVERGING;
}

static void print_measured(JsonObject *rehearsal, const char *transport)
{
	g_autofree char *link = ferry_cli_format_bytes(number_of(rehearsal, "bandwidth"));
	g_autofree char *first = ferry_cli_format_bytes(number_of(rehearsal, "first-second-pages") *
							FERRY_PAGE_SIZE);
	g_autofree char *steady = ferry_cli_format_bytes(number_of(rehearsal, "steady-pages-rate") *
							 FERRY_PAGE_SIZE);

	printf("In %.1f s the link%s%s%s took %s/s%s; the guest wrote to %s in the first second, and "
	       "in the end to %s a second that it had not written to before.\n",
	       number_of(rehearsal, "seconds"), transport ? ", by " : "",
	       transport ? transport : "", transport ? "," : "", link,
	       number_of(rehearsal, "max-bandwidth") > 0 ? " (max-bandwidth is set)" : "", first,
	       steady);
}

/* Each by itself would do. */
static void print_advice(JsonObject *advice)
{
	g_autofree char *bandwidth = ferry_cli_format_bytes(number_of(advice, "max-bandwidth"));

	puts("What would do, each by itself:");
	if (number_of(advice, "downtime-limit") > 0)
		printf("  --set downtime-limit=%-12.0f the guest may stand still for longer (ms)\n",
		       number_of(advice, "downtime-limit"));
	if (number_of(advice, "max-bandwidth") > 0)
		printf("  --set max-bandwidth=%-13.0f %s/s, if the link has it\n",
		       number_of(advice, "max-bandwidth"), bandwidth);
	if (number_of(advice, "cpu-throttle-percentage") > 0)
		printf("  --set auto-converge=on           it slows the guest down; %.0f %% is enough\n",
		       number_of(advice, "cpu-throttle-percentage"));
	puts("  --postcopy                       the guest moves first, its memory follows");
}

void ferry_cli_rehearsal_report(JsonObject *rehearsal, const char *uri, const char *transport)
{
	gboolean converges = is(rehearsal, "converges");
	g_autofree char *total = ferry_cli_format_ms(number_of(rehearsal, "total-time"));
	g_autofree char *downtime = ferry_cli_format_ms(number_of(rehearsal, "downtime"));
	g_autofree char *limit = ferry_cli_format_ms(number_of(rehearsal, "downtime-limit"));

	if (converges)
		printf("It converges: the guest would be at %s in %s, and stand still for %s of the %s "
		       "that it may. ",
		       uri, total, downtime, limit);
	else
		printf("It does not converge: on the way to %s the guest would have to stand still for "
		       "%s, and may for %s. ",
		       uri, downtime, limit);
	print_measured(rehearsal, transport);
	if (!converges)
		print_advice(object_of(rehearsal, "advice"));
}
