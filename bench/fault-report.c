/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench-fault.h"
#include "fault-wire.h"

#define P50 G_STRUCT_OFFSET(FerryBenchFaultTurn, felt.p50)
#define P90 G_STRUCT_OFFSET(FerryBenchFaultTurn, felt.p90)
#define P99 G_STRUCT_OFFSET(FerryBenchFaultTurn, felt.p99)
#define MOST G_STRUCT_OFFSET(FerryBenchFaultTurn, felt.max)

static void row_free(gpointer data)
{
	FerryBenchFaultRow *row = data;

	g_array_unref(row->turns);
	g_free(row->skipped);
	g_free(row);
}

static void add_row(FerryBenchFaultReport *report, FerryBenchFaultMode mode, gboolean background,
		    const char *skipped)
{
	FerryBenchFaultRow *row = g_new0(FerryBenchFaultRow, 1);

	row->mode = mode;
	row->background = background;
	row->skipped = g_strdup(skipped);
	row->turns = g_array_new(FALSE, FALSE, sizeof(FerryBenchFaultTurn));
	g_ptr_array_add(report->rows, row);
}

FerryBenchFaultReport *ferry_bench_fault_report_new(const FerryBenchFaultPlan *plan,
						    const char *peer, const char *no_rdma)
{
	FerryBenchFaultReport *report = g_new0(FerryBenchFaultReport, 1);

	report->plan = *plan;
	report->peer = g_strdup(peer);
	report->rows = g_ptr_array_new_with_free_func(row_free);
	for (FerryBenchFaultMode mode = 0; mode < FERRY_BENCH_FAULT_MODE__N; mode++) {
		gboolean rdma = mode != FERRY_BENCH_TCP;

		add_row(report, mode, FALSE, rdma ? no_rdma : NULL);
		if (mode != FERRY_BENCH_FLOOR)
			add_row(report, mode, TRUE, rdma ? no_rdma : NULL);
	}
	return report;
}

void ferry_bench_fault_report_free(FerryBenchFaultReport *report)
{
	if (!report)
		return;
	g_ptr_array_unref(report->rows);
	g_free(report->peer);
	g_free(report);
}

/* Of the turns' double at @offset. */
static FerryBenchFigure figure_at(const FerryBenchFaultRow *row, size_t offset)
{
	g_autoptr(GArray) values = g_array_new(FALSE, FALSE, sizeof(double));

	for (guint i = 0; i < row->turns->len; i++) {
		const FerryBenchFaultTurn *turn = &g_array_index(row->turns, FerryBenchFaultTurn,
								 i);
		double value = G_STRUCT_MEMBER(double, turn, offset);

		g_array_append_val(values, value);
	}
	return ferry_bench_figure_of(values);
}

static FerryBenchFigure faults_of(const FerryBenchFaultRow *row)
{
	g_autoptr(GArray) values = g_array_new(FALSE, FALSE, sizeof(double));

	for (guint i = 0; i < row->turns->len; i++) {
		double faults = g_array_index(row->turns, FerryBenchFaultTurn, i).felt.faults;

		g_array_append_val(values, faults);
	}
	return ferry_bench_figure_of(values);
}

static const FerryBenchFaultRow *find_row(const FerryBenchFaultReport *report,
					  FerryBenchFaultMode mode, gboolean background)
{
	for (guint i = 0; i < report->rows->len; i++) {
		const FerryBenchFaultRow *row = report->rows->pdata[i];

		if (row->mode == mode && row->background == background)
			return row;
	}
	return NULL;
}

/* The median at @offset over that of @of; 0 where either has none. */
static double ratio(const FerryBenchFaultRow *row, const FerryBenchFaultRow *of, size_t offset)
{
	double base = figure_at(of, offset).median;

	return base > 0 ? figure_at(row, offset).median / base : 0;
}

/* What a row is compared with. */
typedef struct {
	double p50_of_floor;
	double p50_of_idle; /* rows with background alone, as the next */
	double p99_of_idle;
} Ratios;

static Ratios ratios_of(const FerryBenchFaultReport *report, const FerryBenchFaultRow *row)
{
	const FerryBenchFaultRow *idle = find_row(report, row->mode, FALSE);
	Ratios ratios = { 0 };

	if (row->mode != FERRY_BENCH_FLOOR)
		ratios.p50_of_floor = ratio(row, find_row(report, FERRY_BENCH_FLOOR, FALSE), P50);
	if (row->background) {
		ratios.p50_of_idle = ratio(row, idle, P50);
		ratios.p99_of_idle = ratio(row, idle, P99);
	}
	return ratios;
}

/* ---- for people ---- */

static void add_ratio(GString *text, double value)
{
	if (value > 0)
		g_string_append_printf(text, "%9.2f", value);
	else
		g_string_append_printf(text, "%9s", "-");
}

static void add_figures(GString *text, const FerryBenchFaultReport *report,
			const FerryBenchFaultRow *row)
{
	FerryBenchFigure p50 = figure_at(row, P50);
	Ratios ratios = ratios_of(report, row);

	g_string_append_printf(text, "%8.0f %9.1f %5.0f%% %9.1f %9.1f %9.1f", faults_of(row).median,
			       p50.median, p50.spread * 100, figure_at(row, P90).median,
			       figure_at(row, P99).median, figure_at(row, MOST).median);
	add_ratio(text, ratios.p50_of_floor);
	add_ratio(text, ratios.p50_of_idle);
	add_ratio(text, ratios.p99_of_idle);
}

char *ferry_bench_fault_report_text(const FerryBenchFaultReport *report)
{
	const FerryBenchFaultPlan *plan = &report->plan;
	GString *text = g_string_new(NULL);

	g_string_append_printf(text, "%8s %-10s %8s %9s %6s %9s %9s %9s%9s%9s%9s\n", "", "other",
			       "", "", "", "", "", "", "p50 over", "p50 over", "p99 over");
	g_string_append_printf(text, "%-8s %-10s %8s %9s %6s %9s %9s %9s%9s%9s%9s\n", "mode",
			       "pages", "faults", "p50 us", "spread", "p90 us", "p99 us", "max us",
			       "floor's", "idle's", "idle's");
	for (guint i = 0; i < report->rows->len; i++) {
		const FerryBenchFaultRow *row = report->rows->pdata[i];

		g_string_append_printf(text, "%-8s %-10s ", ferry_bench_fault_mode_name(row->mode),
				       row->background ? "background" : "idle");
		if (row->skipped)
			g_string_append_printf(text, "skipped: %s", row->skipped);
		else
			add_figures(text, report, row);
		g_string_append_c(text, '\n');
	}
	g_string_append_printf(
		text,
		"\n%s; each figure is the median of %u turns behind one that does not count, spread "
		"is (largest - smallest) / median\n"
		"floor       an RDMA READ of the page and UFFDIO_CONTINUE, event driven, and nothing "
		"else\n"
		"idle        no page comes that nobody waits for; a measurement ends after %u faults\n"
		"background  the rest of %" G_GUINT64_FORMAT
		" MiB comes meanwhile, as fast as it can, until all is there\n",
		report->peer, plan->repeat, plan->faults, plan->ram >> 20);
	return g_string_free(text, FALSE);
}

/* ---- for programs ---- */

static JsonArray *turns_json(const FerryBenchFaultRow *row)
{
	JsonArray *list = json_array_new();

	for (guint i = 0; i < row->turns->len; i++) {
		const FerryBenchFaultTurn *turn = &g_array_index(row->turns, FerryBenchFaultTurn,
								 i);
		JsonObject *object = json_object_new();

		ferry_bench_latency_put(object, &turn->felt);
		if (row->mode != FERRY_BENCH_FLOOR) {
			JsonObject *engine = json_object_new();

			ferry_bench_latency_put(engine, &turn->engine);
			json_object_set_object_member(object, "engine", engine);
			json_object_set_string_member(object, "way", turn->way);
			json_object_set_int_member(object, "missing", turn->missing);
			json_object_set_int_member(object, "requests", turn->requests);
			json_object_set_int_member(object, "urgent-pages", turn->urgent_pages);
			json_object_set_int_member(object, "background-pages",
						   turn->background_pages);
			json_object_set_int_member(object, "repeated-pages", turn->repeated_pages);
		}
		json_array_add_object_element(list, object);
	}
	return list;
}

static void put_ratio(JsonObject *object, const char *name, double value)
{
	if (value > 0)
		json_object_set_double_member(object, name, value);
}

static JsonObject *row_json(const FerryBenchFaultReport *report, const FerryBenchFaultRow *row)
{
	const struct {
		const char *name;
		FerryBenchFigure figure;
	} figures[] = {
		{ "faults", faults_of(row) },       { "p50-us", figure_at(row, P50) },
		{ "p90-us", figure_at(row, P90) },  { "p99-us", figure_at(row, P99) },
		{ "max-us", figure_at(row, MOST) },
	};
	Ratios ratios = ratios_of(report, row);
	JsonObject *object = json_object_new();

	json_object_set_string_member(object, "mode", ferry_bench_fault_mode_name(row->mode));
	json_object_set_boolean_member(object, "background", row->background);
	if (row->skipped) {
		json_object_set_string_member(object, "skipped", row->skipped);
		return object;
	}
	for (guint i = 0; i < G_N_ELEMENTS(figures); i++)
		ferry_bench_figure_put(object, figures[i].name, &figures[i].figure);
	put_ratio(object, "p50-over-floor", ratios.p50_of_floor);
	put_ratio(object, "p50-over-idle", ratios.p50_of_idle);
	put_ratio(object, "p99-over-idle", ratios.p99_of_idle);
	json_object_set_array_member(object, "turns", turns_json(row));
	return object;
}

JsonNode *ferry_bench_fault_report_json(const FerryBenchFaultReport *report)
{
	JsonObject *object = json_object_new();
	JsonNode *node = json_node_new(JSON_NODE_OBJECT);
	JsonArray *rows = json_array_new();

	for (guint i = 0; i < report->rows->len; i++)
		json_array_add_object_element(rows, row_json(report, report->rows->pdata[i]));
	json_object_set_string_member(object, "peer", report->peer);
	json_object_set_int_member(object, "ram", report->plan.ram);
	json_object_set_int_member(object, "faults", report->plan.faults);
	json_object_set_int_member(object, "repeat", report->plan.repeat);
	json_object_set_array_member(object, "rows", rows);
	json_node_take_object(node, object);
	return node;
}
