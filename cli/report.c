/* SPDX-License-Identifier: BSD-2-Clause */
#include "report.h"
#include "common.h"

#include <stdio.h>

static const char *text_of(JsonObject *object, const char *name)
{
	return json_object_get_string_member_with_default(object, name, "?");
}

static gint64 number_of(JsonObject *object, const char *name)
{
	return json_object_get_int_member_with_default(object, name, 0);
}

/* What the two sides agreed on, in a line. */
static void print_rdma(JsonObject *rdma)
{
	g_autofree char *write = ferry_cli_format_bytes(number_of(rdma, "write-size"));
	g_autofree char *chunk = ferry_cli_format_bytes(number_of(rdma, "chunk-size"));
	g_autofree char *peak = ferry_cli_format_bytes(number_of(rdma, "registered-peak-bytes"));

	printf("  rdma         %s port %" G_GINT64_FORMAT ", %s, %" G_GINT64_FORMAT
	       " queue pairs, writes of up to %s; memory in chunks of %s, at most %s registered%s\n",
	       text_of(rdma, "device"), number_of(rdma, "port"), text_of(rdma, "gid-type"),
	       number_of(rdma, "queue-pairs"), write, chunk, peak,
	       json_object_get_boolean_member_with_default(rdma, "on-demand", FALSE)
		       ? ", on demand there"
		       : "");
}

static void print_moved(const FerryCliMigration *migration)
{
	g_autofree char *total = ferry_cli_format_bytes(migration->total);
	g_autofree char *wire = ferry_cli_format_bytes(migration->transferred);
	g_autofree char *zero = ferry_cli_format_bytes(migration->zero_bytes);
	g_autofree char *rate = ferry_cli_format_bytes(
		migration->total_ms > 0 ? migration->transferred * 1000 / migration->total_ms : 0);

	printf("  memory       %s%s%s\n", total,
	       migration->zero_bytes > 0 ? ", zero pages worth " : "",
	       migration->zero_bytes > 0 ? zero : "");
	printf("  sent         %s, %s/s on average\n", wire, rate);
}

static void print_rounds(const FerryCliMigration *migration)
{
	guint n = ferry_cli_migration_n_rounds(migration);
	FerryCliRound last;

	if (!n) {
		printf("  rounds       %" G_GINT64_FORMAT "\n", migration->round);
		return;
	}
	ferry_cli_migration_round(migration, n - 1, &last);
	printf("  rounds       %" G_GINT64_FORMAT ", the last of %" G_GINT64_FORMAT " pages\n",
	       last.round, last.pages);
}

static void print_postcopy(const FerryCliMigration *migration)
{
	g_autofree char *followed = ferry_cli_format_bytes(migration->followed);

	if (migration->followed > 0)
		printf("  postcopy     %s followed the guest, which asked for pages %" G_GINT64_FORMAT
		       " times\n",
		       followed, migration->requests);
}

static void print_cpu(const FerryCliMigration *migration)
{
	static const char *const sides[] = { "source", "destination" };
	const char *separator = "  cpu          ";

	for (guint i = 0; i < G_N_ELEMENTS(sides); i++) {
		JsonObject *side;

		if (!migration->cpu || !json_object_has_member(migration->cpu, sides[i]))
			continue;
		side = json_object_get_object_member(migration->cpu, sides[i]);
		printf("%s%s %.2f s user, %.2f s system", separator, sides[i],
		       json_object_get_double_member_with_default(side, "user", 0),
		       json_object_get_double_member_with_default(side, "system", 0));
		separator = "; ";
	}
	if (*separator == ';')
		putchar('\n');
}

static void print_verified(const FerryCliMigration *migration)
{
	if (!migration->verified && migration->followed > 0)
		puts("  verified     no: the guest ran before its memory was there to compare");
	else if (!migration->verified)
		puts("  verified     not asked for; --set verify-ram=on compares all memory");
	else if (json_node_get_boolean(migration->verified))
		puts("  verified     yes, the memory there equals the memory here (comparing is "
		     "part of the standstill)");
	else
		puts("  verified     NO: the memory there differs");
}

/* Beside what it came to. */
static void print_predicted(const FerryCliMigration *migration)
{
	g_autofree char *predicted = ferry_cli_format_ms(migration->predicted_ms);

	if (migration->predicted_ms >= 0 && migration->downtime_ms >= 0)
		printf("  standstill   %" G_GINT64_FORMAT " ms, predicted as %s\n",
		       migration->downtime_ms, predicted);
}

void ferry_cli_report(const FerryCliMigration *migration, const char *uri)
{
	g_autofree char *total = ferry_cli_format_ms(migration->total_ms);
	g_autofree char *downtime = ferry_cli_format_ms(MAX(migration->downtime_ms, 0));

	printf("The guest moved to %s in %s and stood still for %s.\n\n", uri, total, downtime);
	if (migration->transport)
		printf("  transport    %s\n", migration->transport);
	if (migration->rdma)
		print_rdma(migration->rdma);
	print_moved(migration);
	print_rounds(migration);
	print_predicted(migration);
	print_postcopy(migration);
	print_verified(migration);
	print_cpu(migration);
}

void ferry_cli_report_json(JsonNode *answer, const char *status, const char *why)
{
	static const char *const promised[] = { "transport", "wire-bytes", "cpu", "verified" };
	JsonObject *object = answer ? json_node_get_object(answer) : json_object_new();
	g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), object);
	g_autofree char *text = NULL;

	if (!answer) {
		json_object_set_string_member(object, "status", status);
		json_object_set_string_member(object, "error-desc", why);
		json_object_unref(object);
	}
	for (guint i = 0; i < G_N_ELEMENTS(promised); i++)
		if (!json_object_has_member(object, promised[i]))
			json_object_set_null_member(object, promised[i]);
	text = json_to_string(node, TRUE);
	puts(text);
}
