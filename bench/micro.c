/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>
#include "micro.h"

#define RUNS 9
#define RUN_MS 20
#define QUICK_SIZE (1u << 20)

typedef struct {
	gboolean json, quick;
	int runs;
	int memory_mib;
	char *only;
} Options;

static GPtrArray *choose(const char *only)
{
	static const FerryMicroCase *const tables[] = {
		ferry_micro_scan_cases,
		ferry_micro_zero_cases,
		ferry_micro_codec_cases,
		ferry_micro_frame_cases,
	};
	GPtrArray *cases = g_ptr_array_new();

	for (guint i = 0; i < G_N_ELEMENTS(tables); i++)
		for (const FerryMicroCase *one = tables[i]; one->name; one++)
			if (!only || strstr(one->name, only))
				g_ptr_array_add(cases, (gpointer)one);
	return cases;
}

static void print_table(const GArray *results, const char *why_uncounted)
{
	g_print("%-26s %12s %12s %12s %9s\n", "", "GB/s of RAM", "ns/page", "instr/page", "spread");
	for (guint i = 0; i < results->len; i++) {
		const FerryMicroResult *r = &g_array_index(results, FerryMicroResult, i);
		g_autofree char *instructions = r->instructions.n
							? g_strdup_printf("%.2f",
									  r->instructions.median)
							: g_strdup("skipped");

		g_print("%-26s %12.2f %12.3f %12s %7.0f %%\n", r->of->name, r->bytes.median / 1e9,
			r->ns.median, instructions, r->ns.spread * 100);
	}
	if (why_uncounted)
		g_print("instructions skipped: %s\n", why_uncounted);
}

static void print_json(const GArray *results, const FerryMicroMemory *memory,
		       const char *why_uncounted)
{
	g_autoptr(JsonObject) root = json_object_new();
	g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
	JsonArray *cases = json_array_new();
	g_autofree char *text = NULL;

	for (guint i = 0; i < results->len; i++) {
		const FerryMicroResult *r = &g_array_index(results, FerryMicroResult, i);
		JsonObject *one = json_object_new();

		json_object_set_string_member(one, "name", r->of->name);
		ferry_bench_figure_put(one, "bytes-per-second", &r->bytes);
		ferry_bench_figure_put(one, "ns-per-page", &r->ns);
		if (r->instructions.n)
			ferry_bench_figure_put(one, "instructions-per-page", &r->instructions);
		json_array_add_object_element(cases, one);
	}
	json_object_set_int_member(root, "memory", (gint64)memory->size);
	if (why_uncounted)
		json_object_set_string_member(root, "instructions-skipped", why_uncounted);
	json_object_set_array_member(root, "cases", cases);
	json_node_set_object(node, root);
	text = json_to_string(node, TRUE);
	puts(text);
}

static int measure(const Options *options)
{
	gsize size = options->quick ? QUICK_SIZE : (gsize)options->memory_mib << 20;
	g_autoptr(FerryMicroMemory) memory = ferry_micro_memory_new(size);
	g_autoptr(GPtrArray) cases = choose(options->only);
	const FerryMicroPlan plan = {
		.runs = options->quick ? 1 : (guint)options->runs,
		.run_us = options->quick ? 1 : RUN_MS * 1000,
	};
	g_autofree char *why_uncounted = NULL;
	g_autoptr(GArray) results = NULL;

	if (!memory) {
		g_printerr("micro: no memory for three times %zu bytes: say --memory\n", size);
		return 1;
	}
	if (!cases->len) {
		g_printerr("micro: no case has \"%s\" in its name\n", options->only);
		return 2;
	}
	results = ferry_micro_measure(cases, memory, &plan, &why_uncounted);
	if (options->json)
		print_json(results, memory, why_uncounted);
	else
		print_table(results, why_uncounted);
	return 0;
}

int main(int argc, char **argv)
{
	Options options = { .runs = RUNS };
	const GOptionEntry entries[] = {
		{ "json", 0, 0, G_OPTION_ARG_NONE, &options.json, "Print one JSON object", NULL },
		{ "runs", 0, 0, G_OPTION_ARG_INT, &options.runs, "Of each case (9)", "N" },
		{ "memory", 0, 0, G_OPTION_ARG_INT, &options.memory_mib,
		  "MiB to read, three times (128)", "N" },
		{ "only", 0, 0, G_OPTION_ARG_STRING, &options.only,
		  "Only cases with this in their name", "TEXT" },
		{ "quick", 0, 0, G_OPTION_ARG_NONE, &options.quick,
		  "Once each, on little memory: the figures mean nothing", NULL },
		{ NULL },
	};
	g_autoptr(GOptionContext) context = g_option_context_new(NULL);
	g_autoptr(GError) error = NULL;
	int status;

	g_option_context_set_summary(context, "Measures Ferry's hot paths one by one.");
	g_option_context_add_main_entries(context, entries, NULL);
	if (!g_option_context_parse(context, &argc, &argv, &error) || argc > 1 ||
	    options.runs < 1 || options.memory_mib < 0 || options.memory_mib > 65536) {
		g_printerr("micro: %s; try --help\n",
			   error ? error->message : "no operand, 1 run or more, 1 to 65536 MiB");
		return 2;
	}
	status = measure(&options);
	g_free(options.only);
	return status;
}
