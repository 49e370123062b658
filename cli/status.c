/* SPDX-License-Identifier: BSD-2-Clause */
#include "status.h"
#include "commands.h"
#include "common.h"
#include "migration-info.h"
#include "qmp-client.h"

#include <stdio.h>
#include <ferry/error.h>

static const FerryCliHelp help = {
	.command = "status",
	.operands = NULL,
	.summary = "Tells how a monitor's guest and its migration are, once, on a page.",
	.description =
		"Of the migration, out or in, that changed its state last.\n\n"
		"Examples:\n"
		"  ferry status --qmp unix:/tmp/a.qmp\n"
		"  ferry status --qmp unix:/tmp/a.qmp --prometheus > /var/lib/node_exporter/a.prom\n\n"
		"Exit status: 0 it was told, 1 the monitor is not there, 2 wrong usage,\n3 a hand-over "
		"is in doubt, or memory is missing and nobody brings it: an operator must look.",
};

typedef struct {
	char *address;
	gboolean json;
	gboolean prometheus;
} Options;

static void print_line(const char *name, const char *text)
{
	printf("%-12s %s\n", name, text);
}

static void print_amounts(const FerryCliMigration *migration)
{
	g_autofree char *total = ferry_cli_format_bytes(migration->total);
	g_autofree char *left = ferry_cli_format_bytes(migration->remaining);
	g_autofree char *sent = ferry_cli_format_bytes(migration->transferred);
	g_autofree char *rate = ferry_cli_format_bytes(migration->rate);
	g_autofree char *dirty = ferry_cli_format_bytes(migration->dirty_rate);

	printf("%-12s %s of %s to send\n", "memory", left, total);
	printf("%-12s %s, %s/s\n", "sent", sent, rate);
	printf("%-12s %s/s\n", "written", dirty);
	printf("%-12s %" G_GINT64_FORMAT "\n", "round", migration->round);
	if (migration->throttle)
		printf("%-12s %" G_GINT64_FORMAT " %%\n", "throttled", migration->throttle);
}

static void print_downtime(const FerryCliMigration *migration)
{
	g_autofree char *expected = ferry_cli_format_ms(MAX(migration->expected_ms, 0));
	g_autofree char *downtime = ferry_cli_format_ms(MAX(migration->downtime_ms, 0));

	if (migration->downtime_ms >= 0)
		print_line("downtime", downtime);
	else if (migration->expected_ms >= 0)
		printf("%-12s %s, if it were stopped now\n", "downtime", expected);
}

static void print_blocked(JsonNode *answer)
{
	JsonObject *object = json_node_get_object(answer);
	JsonNode *node = json_object_get_member(object, "blocked-reasons");
	JsonArray *reasons = node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;

	for (guint i = 0; reasons && i < json_array_get_length(reasons); i++)
		print_line("blocked by", json_array_get_string_element(reasons, i));
}

static void print_migration(JsonNode *answer, const FerryCliMigration *migration)
{
	g_autofree char *time = ferry_cli_format_ms(migration->total_ms);

	printf("%-12s %s%s%s\n", "migration", migration->status, migration->total_ms ? ", " : "",
	       migration->total_ms ? time : "");
	if (migration->error_desc)
		print_line("because", migration->error_desc);
	if (migration->transport)
		print_line("transport", migration->transport);
	if (migration->fallback)
		print_line("no RDMA", migration->fallback);
	if (migration->total > 0)
		print_amounts(migration);
	print_downtime(migration);
	if (migration->verified)
		print_line("verified",
			   json_node_get_boolean(migration->verified) ? "yes" : "NO: it differs");
	print_blocked(answer);
}

static void print_page(const FerryCliStatus *status, const FerryCliMigration *migration)
{
	JsonObject *guest = JSON_NODE_HOLDS_OBJECT(status->guest)
				    ? json_node_get_object(status->guest)
				    : NULL;

	print_line("guest",
		   guest ? json_object_get_string_member_with_default(guest, "status", "?") : "?");
	print_migration(status->migration, migration);
}

static void print_json(const FerryCliStatus *status)
{
	JsonObject *object = json_object_new();
	g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), object);
	g_autofree char *text = NULL;

	json_object_set_member(object, "guest", json_node_copy(status->guest));
	json_object_set_member(object, "migration", json_node_copy(status->migration));
	if (status->rdma)
		json_object_set_member(object, "rdma", json_node_copy(status->rdma));
	json_object_unref(object);
	text = json_to_string(node, TRUE);
	puts(text);
}

static void print_prometheus(const FerryCliStatus *status)
{
	GString *text = ferry_cli_status_prometheus(status);

	fputs(text->str, stdout);
	g_string_free(text, TRUE);
}

static int show(FerryQmpClient *client, const Options *options, GError **error)
{
	g_autoptr(JsonNode) guest = ferry_qmp_client_call(client, "query-status", NULL, error);
	g_autoptr(JsonNode)
		answer = guest ? ferry_qmp_client_call(client, "query-migrate", NULL, error) : NULL;
	g_autoptr(JsonNode) rdma = NULL;
	FerryCliMigration migration;

	if (!answer)
		return FERRY_EXIT_FAILED;
	if (!ferry_cli_migration_read(answer, &migration)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "the monitor's answer to query-migrate is no object");
		return FERRY_EXIT_FAILED;
	}
	/* Refused where there is no RDMA, and not known to every monitor. */
	rdma = ferry_qmp_client_call(client, "query-rdma", NULL, NULL);
	if (options->prometheus)
		print_prometheus(&(FerryCliStatus){ guest, answer, rdma });
	else if (options->json)
		print_json(&(FerryCliStatus){ guest, answer, rdma });
	else
		print_page(&(FerryCliStatus){ guest, answer, rdma }, &migration);
	return g_str_equal(migration.status, "handover-lost") ||
			       g_str_equal(migration.status, "postcopy-paused")
		       ? FERRY_EXIT_IN_DOUBT
		       : FERRY_EXIT_DONE;
}

int ferry_cli_status(int argc, char **argv)
{
	Options options = { NULL };
	const GOptionEntry entries[] = {
		{ "qmp", 0, 0, G_OPTION_ARG_STRING, &options.address, "The monitor's QMP socket",
		  "unix:PATH" },
		{ "json", 0, 0, G_OPTION_ARG_NONE, &options.json, "Print one JSON object", NULL },
		{ "prometheus", 0, 0, G_OPTION_ARG_NONE, &options.prometheus,
		  "Print metrics in Prometheus' text format", NULL },
		{ NULL },
	};
	g_autofree char *address = NULL;
	g_autoptr(FerryQmpClient) client = NULL;
	g_autoptr(GError) error = NULL;
	int status = FERRY_EXIT_FAILED;

	if (!ferry_cli_parse(&help, entries, &argc, &argv, 0, 0))
		return FERRY_EXIT_USAGE;
	address = options.address;
	if (!address)
		return ferry_cli_usage("status", "--qmp unix:PATH is missing");
	if (options.json && options.prometheus)
		return ferry_cli_usage("status", "--json and --prometheus exclude each other");
	client = ferry_qmp_client_new(address, &error);
	if (g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID))
		return ferry_cli_usage("status", "%s", error->message);
	if (client)
		status = show(client, &options, &error);
	return error ? ferry_cli_fail("status", "%s", error->message) : status;
}
