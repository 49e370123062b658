/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench-link.h"

#define MIB 1048576.0

static double best_raw(const FerryBenchLinkReport *report, guint queue_pairs)
{
	double best = 0;

	for (guint i = 0; i < report->raw->len; i++) {
		const FerryBenchRawRow *row = &g_array_index(report->raw, FerryBenchRawRow, i);

		if (!queue_pairs || row->queue_pairs == queue_pairs)
			best = MAX(best, row->raw.median);
	}
	return best;
}

static char *format_size(guint64 size)
{
	return size % 1024         ? g_strdup_printf("%u", (guint)size)
	       : size % (1u << 20) ? g_strdup_printf("%uK", (guint)size >> 10)
				   : g_strdup_printf("%uM", (guint)size >> 20);
}

static void add_rate(GString *text, const FerryBenchFigure *figure)
{
	if (figure->n)
		g_string_append_printf(text, "%10.1f %4.0f%%", figure->median / MIB,
				       figure->spread * 100);
	else
		g_string_append_printf(text, "%10s %5s", "-", "");
}

static void add_ratio(GString *text, double value, double of)
{
	if (of > 0)
		g_string_append_printf(text, "%7.0f%%", value / of * 100);
	else
		g_string_append_printf(text, "%8s", "-");
}

static void add_raw(GString *text, const FerryBenchLinkReport *report, guint queue_pairs)
{
	for (guint i = 0; i < report->raw->len; i++) {
		const FerryBenchRawRow *row = &g_array_index(report->raw, FerryBenchRawRow, i);
		g_autofree char *size = format_size(row->size);

		if (row->queue_pairs != queue_pairs)
			continue;
		g_string_append_printf(text, "%6u  %7s %6u ", row->queue_pairs, size, row->depth);
		add_rate(text, &row->raw);
		add_ratio(text, row->raw.median, best_raw(report, queue_pairs));
		add_ratio(text, row->raw.median, best_raw(report, 0));
		if (report->plan.perftest)
			add_rate(text, &row->perftest);
		g_string_append_c(text, '\n');
	}
}

static void add_migration(GString *text, const FerryBenchLinkReport *report,
			  const FerryBenchFerryRow *row)
{
	static const char *const names[] = { "bulk", "whole" };
	const FerryBenchFigure *figures[] = { &row->bulk, &row->whole };

	for (guint i = 0; i < G_N_ELEMENTS(figures); i++) {
		g_string_append_printf(text, "%6u  %7s %6s ", row->queue_pairs, "Ferry", names[i]);
		add_rate(text, figures[i]);
		add_ratio(text, figures[i]->median, best_raw(report, row->queue_pairs));
		add_ratio(text, figures[i]->median, best_raw(report, 0));
		g_string_append_c(text, '\n');
	}
}

static void add_explanation(GString *text, const FerryBenchLinkReport *report)
{
	const FerryBenchLinkPlan *plan = &report->plan;

	g_string_append_printf(
		text,
		"\n%s; medians of %u turns behind one that does not count, spread is (largest - "
		"smallest) / median\n"
		"a size    raw RDMA writes of that size from one hot buffer to another for %.3g s, so "
		"many in flight on each queue pair\n",
		report->peer, plan->repeat, plan->seconds);
	if (plan->perftest)
		g_string_append(text, "ib_write_bw  perftest's, as many writes as the raw ones, "
				      "busy polling\n");
	g_string_append_printf(
		text,
		"Ferry     a migration of %" G_GUINT64_FORMAT
		" MiB of incompressible RAM that nobody writes%s: bulk is round 1, its bytes over its "
		"time;\n          whole is RAM over total-time, with connecting, registering and the "
		"hand-over\n",
		plan->ram >> 20, plan->pin_all ? ", all of it registered before" : "");
}

char *ferry_bench_link_report_text(const FerryBenchLinkReport *report)
{
	GString *text = g_string_new(NULL);

	g_string_append_printf(text, " queue    write     in  %17s  of the best raw  %s\n", "",
			       report->plan.perftest ? "  ib_write_bw" : "");
	g_string_append_printf(text, " pairs     size flight      MiB/s spread    here  of all%s\n",
			       report->plan.perftest ? "     MiB/s spread" : "");
	for (guint i = 0; i < report->migrations->len; i++) {
		const FerryBenchFerryRow *row = &g_array_index(report->migrations,
							       FerryBenchFerryRow, i);

		add_raw(text, report, row->queue_pairs);
		add_migration(text, report, row);
	}
	add_explanation(text, report);
	return g_string_free(text, FALSE);
}

static JsonArray *raw_json(const FerryBenchLinkReport *report)
{
	JsonArray *list = json_array_new();

	for (guint i = 0; i < report->raw->len; i++) {
		const FerryBenchRawRow *row = &g_array_index(report->raw, FerryBenchRawRow, i);
		JsonObject *object = json_object_new();

		json_object_set_int_member(object, "queue-pairs", row->queue_pairs);
		json_object_set_int_member(object, "size", row->size);
		json_object_set_int_member(object, "depth", row->depth);
		ferry_bench_figure_put(object, "bytes-per-second", &row->raw);
		if (row->perftest.n)
			ferry_bench_figure_put(object, "ib-write-bw-bytes-per-second",
					       &row->perftest);
		json_array_add_object_element(list, object);
	}
	return list;
}

static JsonArray *migrations_json(const FerryBenchLinkReport *report)
{
	JsonArray *list = json_array_new();

	for (guint i = 0; i < report->migrations->len; i++) {
		const FerryBenchFerryRow *row = &g_array_index(report->migrations,
							       FerryBenchFerryRow, i);
		JsonObject *object = json_object_new();
		double best = best_raw(report, row->queue_pairs);

		json_object_set_int_member(object, "queue-pairs", row->queue_pairs);
		ferry_bench_figure_put(object, "bulk-bytes-per-second", &row->bulk);
		ferry_bench_figure_put(object, "whole-bytes-per-second", &row->whole);
		ferry_bench_figure_put(object, "setup-time-ms", &row->setup_ms);
		ferry_bench_figure_put(object, "downtime-ms", &row->downtime_ms);
		ferry_bench_figure_put(object, "source-cpu-seconds", &row->source_cpu);
		ferry_bench_figure_put(object, "destination-cpu-seconds", &row->destination_cpu);
		json_object_set_double_member(object, "bulk-of-best-raw",
					      best > 0 ? row->bulk.median / best : 0);
		json_array_add_object_element(list, object);
	}
	return list;
}

JsonNode *ferry_bench_link_report_json(const FerryBenchLinkReport *report)
{
	JsonObject *object = json_object_new();
	JsonNode *node = json_node_new(JSON_NODE_OBJECT);

	json_object_set_string_member(object, "peer", report->peer);
	json_object_set_int_member(object, "ram", report->plan.ram);
	json_object_set_int_member(object, "repeat", report->plan.repeat);
	json_object_set_double_member(object, "seconds", report->plan.seconds);
	json_object_set_boolean_member(object, "pin-all", report->plan.pin_all);
	json_object_set_array_member(object, "raw", raw_json(report));
	json_object_set_array_member(object, "ferry", migrations_json(report));
	json_object_set_double_member(object, "best-raw-bytes-per-second", best_raw(report, 0));
	json_node_take_object(node, object);
	return node;
}
