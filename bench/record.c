/* SPDX-License-Identifier: BSD-2-Clause */
#include "record.h"

#define VERSION 1 /* of the shape */

struct FerryBenchRecord {
	JsonObject *root;
	gint64 began_us; /* monotonic */
	/* of the root, and of what was added last; borrowed */
	JsonObject *table, *row, *chart, *series;
};

static JsonArray *list_of(JsonObject *object, const char *name)
{
	return json_object_get_array_member(object, name);
}

static void add_lists(JsonObject *object, const char *const *names)
{
	for (; *names; names++)
		json_object_set_array_member(object, *names, json_array_new());
}

static void put_text(JsonObject *object, const char *name, const char *text)
{
	if (text)
		json_object_set_string_member(object, name, text);
}

/* Adds it to the list @name of @of; the caller's to fill. */
static JsonObject *append(JsonObject *of, const char *name)
{
	JsonObject *object = json_object_new();

	json_array_add_object_element(list_of(of, name), object);
	return object;
}

static JsonArray *command_line(void)
{
	g_autofree char *all = NULL;
	JsonArray *words = json_array_new();
	gsize len = 0;

	if (g_file_get_contents("/proc/self/cmdline", &all, &len, NULL))
		for (gsize at = 0; at < len; at += strlen(all + at) + 1)
			json_array_add_string_element(words, all + at);
	return words;
}

FerryBenchRecord *ferry_bench_record_new(const char *bench, const char *title)
{
	static const char *const lists[] = { "hosts",  "notes",  "warnings",  "failures", "skipped",
					     "tables", "charts", "timelines", NULL };
	FerryBenchRecord *record = g_new0(FerryBenchRecord, 1);
	g_autoptr(GDateTime) now = g_date_time_new_now_utc();
	g_autofree char *begun = g_date_time_format(now, "%Y-%m-%dT%H:%M:%SZ");

	record->began_us = g_get_monotonic_time();
	record->root = json_object_new();
	json_object_set_int_member(record->root, "ferry-bench", VERSION);
	json_object_set_string_member(record->root, "bench", bench);
	json_object_set_string_member(record->root, "title", title);
	json_object_set_array_member(record->root, "command", command_line());
	json_object_set_string_member(record->root, "begun", begun);
	json_object_set_object_member(record->root, "plan", json_object_new());
	add_lists(record->root, lists);
	return record;
}

void ferry_bench_record_free(FerryBenchRecord *record)
{
	json_object_unref(record->root);
	g_free(record);
}

static void add_host(FerryBenchRecord *record, const char *role, JsonObject *host)
{
	json_object_set_string_member(host, "role", role);
	json_array_add_object_element(list_of(record->root, "hosts"), host);
}

/* Two that name no boot are two. */
static gboolean is_same(JsonObject *a, JsonObject *b)
{
	return g_str_equal(json_object_get_string_member_with_default(a, "boot", "here"),
			   json_object_get_string_member_with_default(b, "boot", "there"));
}

void ferry_bench_record_hosts(FerryBenchRecord *record, JsonObject *destination)
{
	JsonObject *here = ferry_bench_host();
	gboolean both = is_same(here, destination);

	add_host(record, both ? "both" : "source", here);
	if (both)
		json_object_unref(destination);
	else
		add_host(record, "destination", destination);
}

JsonObject *ferry_bench_record_plan(FerryBenchRecord *record)
{
	return json_object_get_object_member(record->root, "plan");
}

JsonObject *ferry_bench_record_root(FerryBenchRecord *record)
{
	return record->root;
}

void ferry_bench_record_note(FerryBenchRecord *record, const char *text)
{
	json_array_add_string_element(list_of(record->root, "notes"), text);
}

void ferry_bench_record_warn(FerryBenchRecord *record, const char *text)
{
	json_array_add_string_element(list_of(record->root, "warnings"), text);
}

void ferry_bench_record_skip(FerryBenchRecord *record, const char *what, const char *why)
{
	JsonObject *one = append(record->root, "skipped");

	json_object_set_string_member(one, "what", what);
	json_object_set_string_member(one, "why", why);
}

/* ---- tables ---- */

void ferry_bench_record_table(FerryBenchRecord *record, const char *title, const char *note)
{
	static const char *const lists[] = { "columns", "rows", NULL };

	record->table = append(record->root, "tables");
	json_object_set_string_member(record->table, "title", title);
	put_text(record->table, "note", note);
	add_lists(record->table, lists);
}

void ferry_bench_record_column(FerryBenchRecord *record, const char *key, const char *title,
			       guint digits, gboolean spread)
{
	JsonObject *column = append(record->table, "columns");

	json_object_set_string_member(column, "key", key);
	json_object_set_string_member(column, "title", title);
	json_object_set_int_member(column, "digits", digits);
	json_object_set_boolean_member(column, "spread", spread);
}

void ferry_bench_record_row(FerryBenchRecord *record, const char *name, const char *mark)
{
	record->row = append(record->table, "rows");
	json_object_set_string_member(record->row, "name", name);
	put_text(record->row, "mark", mark);
	json_object_set_object_member(record->row, "cells", json_object_new());
}

static JsonObject *cells(FerryBenchRecord *record)
{
	return json_object_get_object_member(record->row, "cells");
}

static JsonObject *find_column(const JsonObject *table, const char *key)
{
	JsonArray *columns = list_of((JsonObject *)table, "columns");

	for (guint i = 0; i < json_array_get_length(columns); i++) {
		JsonObject *column = json_array_get_object_element(columns, i);

		if (g_str_equal(json_object_get_string_member(column, "key"), key))
			return column;
	}
	return NULL;
}

static void doubt(FerryBenchRecord *record, const char *key, const FerryBenchFigure *figure)
{
	JsonObject *column = find_column(record->table, key);
	g_autofree char *text = NULL;

	if (figure->spread <= FERRY_BENCH_SPREAD_MAX || !column ||
	    !json_object_get_boolean_member(column, "spread"))
		return;
	text = g_strdup_printf("%s, %s, %s: from %.6g to %.6g, %.0f %% of the median: too far "
			       "apart to rely on it",
			       json_object_get_string_member(record->table, "title"),
			       json_object_get_string_member(record->row, "name"),
			       json_object_get_string_member(column, "title"), figure->min,
			       figure->max, figure->spread * 100);
	ferry_bench_record_warn(record, text);
}

void ferry_bench_record_figure(FerryBenchRecord *record, const char *key,
			       const FerryBenchFigure *figure)
{
	JsonObject *cell;

	if (!figure->n) {
		json_object_set_null_member(cells(record), key);
		return;
	}
	cell = json_object_new();
	json_object_set_array_member(cell, "samples", ferry_bench_figure_samples(figure));
	json_object_set_double_member(cell, "median", figure->median);
	json_object_set_double_member(cell, "min", figure->min);
	json_object_set_double_member(cell, "max", figure->max);
	json_object_set_int_member(cell, "n", figure->n);
	json_object_set_object_member(cells(record), key, cell);
	doubt(record, key, figure);
}

void ferry_bench_record_number(FerryBenchRecord *record, const char *key, double number)
{
	json_object_set_double_member(cells(record), key, number);
}

void ferry_bench_record_text(FerryBenchRecord *record, const char *key, const char *text)
{
	json_object_set_string_member(cells(record), key, text);
}

/* ---- charts ---- */

static void add_axis(JsonObject *chart, const char *name, const char *label, gboolean is_log)
{
	JsonObject *axis = json_object_new();

	json_object_set_string_member(axis, "label", label);
	json_object_set_boolean_member(axis, "log", is_log);
	json_object_set_object_member(chart, name, axis);
}

void ferry_bench_record_chart(FerryBenchRecord *record, const FerryBenchChart *chart)
{
	record->chart = append(record->root, "charts");
	json_object_set_string_member(record->chart, "title", chart->title);
	json_object_set_string_member(record->chart, "kind", chart->kind);
	add_axis(record->chart, "x", chart->x, chart->x_log);
	add_axis(record->chart, "y", chart->y, chart->y_log);
	json_object_set_array_member(record->chart, "series", json_array_new());
}

void ferry_bench_record_series(FerryBenchRecord *record, const char *name, const char *mark)
{
	record->series = append(record->chart, "series");
	json_object_set_string_member(record->series, "name", name);
	put_text(record->series, "mark", mark);
	json_object_set_array_member(record->series, "points", json_array_new());
}

static void add_point(FerryBenchRecord *record, const double *numbers, guint n)
{
	JsonArray *point = json_array_new();

	for (guint i = 0; i < n; i++)
		json_array_add_double_element(point, numbers[i]);
	json_array_add_array_element(list_of(record->series, "points"), point);
}

void ferry_bench_record_point(FerryBenchRecord *record, double x, double y)
{
	add_point(record, (const double[]){ x, y }, 2);
}

void ferry_bench_record_spread(FerryBenchRecord *record, double x, const FerryBenchFigure *figure)
{
	if (figure->n)
		add_point(record, (const double[]){ x, figure->median, figure->min, figure->max },
			  4);
}

JsonNode *ferry_bench_record_json(FerryBenchRecord *record)
{
	JsonNode *node = json_node_new(JSON_NODE_OBJECT);

	json_object_set_double_member(record->root, "seconds",
				      (g_get_monotonic_time() - record->began_us) / 1e6);
	json_node_set_object(node, record->root);
	return node;
}
