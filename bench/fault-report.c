/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench-fault.h"
#include "fault-wire.h"

#define P50 G_STRUCT_OFFSET(FerryBenchFaultTurn, felt.p50)
#define P90 G_STRUCT_OFFSET(FerryBenchFaultTurn, felt.p90)
#define P99 G_STRUCT_OFFSET(FerryBenchFaultTurn, felt.p99)
#define FAULTS_FEW 100u
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
	g_auto(FerryBenchFigure) base = figure_at(of, offset), figure = figure_at(row, offset);

	return base.median > 0 ? figure.median / base.median : 0;
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

/* ---- every turn ---- */

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
	struct {
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
	if (row->skipped)
		json_object_set_string_member(object, "skipped", row->skipped);
	for (guint i = 0; i < G_N_ELEMENTS(figures); i++) {
		if (!row->skipped)
			ferry_bench_figure_put(object, figures[i].name, &figures[i].figure);
		ferry_bench_figure_clear(&figures[i].figure);
	}
	if (row->skipped)
		return object;
	put_ratio(object, "p50-over-floor", ratios.p50_of_floor);
	put_ratio(object, "p50-over-idle", ratios.p50_of_idle);
	put_ratio(object, "p99-over-idle", ratios.p99_of_idle);
	json_object_set_array_member(object, "turns", turns_json(row));
	return object;
}

/* ---- the table ---- */

static void put_figure(FerryBenchRecord *record, const char *key, FerryBenchFigure figure)
{
	ferry_bench_record_figure(record, key, &figure);
	ferry_bench_figure_clear(&figure);
}

static void put_share(FerryBenchRecord *record, const char *key, double value)
{
	if (value > 0)
		ferry_bench_record_number(record, key, value);
}

static char *row_name(const FerryBenchFaultRow *row)
{
	return g_strdup_printf("%s, %s", ferry_bench_fault_mode_name(row->mode),
			       row->background ? "background" : "idle");
}

static void add_columns(FerryBenchRecord *record)
{
	ferry_bench_record_column(record, "faults", "faults", 0, FALSE);
	ferry_bench_record_column(record, "p50", "p50 us", 1, TRUE);
	ferry_bench_record_column(record, "p90", "p90 us", 1, FALSE);
	ferry_bench_record_column(record, "p99", "p99 us", 1, TRUE);
	ferry_bench_record_column(record, "max", "max us", 1, FALSE);
	ferry_bench_record_column(record, "p50-over-floor", "p50 over floor's", 2, FALSE);
	ferry_bench_record_column(record, "p50-over-idle", "over idle's", 2, FALSE);
	ferry_bench_record_column(record, "p99-over-idle", "p99 over idle's", 2, FALSE);
}

/* Below a hundred the 99th percentile is the largest. */
static void doubt_few(const FerryBenchFaultRow *row, const char *name, FerryBenchRecord *record)
{
	g_auto(FerryBenchFigure) faults = faults_of(row);
	g_autofree char *text = NULL;

	if (!faults.n || faults.min >= FAULTS_FEW)
		return;
	text = g_strdup_printf("Waiting for a page, %s: a turn had only %.0f faults, whose p99 is "
			       "the largest: more --ram would make more",
			       name, faults.min);
	ferry_bench_record_warn(record, text);
}

static void add_to_table(const FerryBenchFaultReport *report, const FerryBenchFaultRow *row,
			 FerryBenchRecord *record)
{
	g_autofree char *name = row_name(row);
	Ratios ratios = ratios_of(report, row);

	if (row->skipped) {
		ferry_bench_record_skip(record, name, row->skipped);
		return;
	}
	ferry_bench_record_row(record, name, row->mode == FERRY_BENCH_FLOOR ? "ceiling" : "ferry");
	put_figure(record, "faults", faults_of(row));
	doubt_few(row, name, record);
	put_figure(record, "p50", figure_at(row, P50));
	put_figure(record, "p90", figure_at(row, P90));
	put_figure(record, "p99", figure_at(row, P99));
	put_figure(record, "max", figure_at(row, MOST));
	put_share(record, "p50-over-floor", ratios.p50_of_floor);
	put_share(record, "p50-over-idle", ratios.p50_of_idle);
	put_share(record, "p99-over-idle", ratios.p99_of_idle);
}

/* ---- the charts ---- */

static int compare(gconstpointer a, gconstpointer b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* All turns as one, each with the same weight: they have as many quantiles, but for one that had
 * fewer faults than that. */
static void draw_row(const FerryBenchFaultRow *row, FerryBenchRecord *record)
{
	g_autoptr(GArray) all = ferry_bench_numbers_new();
	guint step;

	for (guint i = 0; i < row->turns->len; i++) {
		const FerryBenchLatency *felt =
			&g_array_index(row->turns, FerryBenchFaultTurn, i).felt;

		g_array_append_vals(all, felt->quantiles, felt->n_quantiles);
	}
	g_array_sort(all, compare);
	step = MAX(all->len / FERRY_BENCH_QUANTILES_MAX, 1);
	for (guint i = step; i <= all->len; i += step)
		ferry_bench_record_point(record, g_array_index(all, double, i - 1),
					 (double)i / all->len);
}

static void draw(const FerryBenchFaultReport *report, gboolean background, FerryBenchRecord *record)
{
	const FerryBenchChart chart = {
		.title = background ? "Waiting for a page while the others come"
				    : "Waiting for a page when no other comes",
		.kind = "cdf",
		.x = "us",
		.y = "share of the faults that took no longer",
		.x_log = TRUE,
	};

	ferry_bench_record_chart(record, &chart);
	for (guint i = 0; i < report->rows->len; i++) {
		const FerryBenchFaultRow *row = report->rows->pdata[i];

		if (row->skipped || row->background != background)
			continue;
		ferry_bench_record_series(record, ferry_bench_fault_mode_name(row->mode),
					  row->mode == FERRY_BENCH_FLOOR ? "ceiling" : "ferry");
		draw_row(row, record);
	}
}

static void add_notes(const FerryBenchFaultReport *report, FerryBenchRecord *record)
{
	const FerryBenchFaultPlan *plan = &report->plan;
	g_autofree char *turns = g_strdup_printf(
		"%s; medians (min-max) of %u turns behind one that does not count", report->peer,
		plan->repeat);
	g_autofree char *idle = g_strdup_printf("idle: no page comes that nobody waits for; a "
						"measurement ends after %u faults",
						plan->faults);
	g_autofree char *background = g_strdup_printf(
		"background: the rest of %" G_GUINT64_FORMAT
		" MiB comes meanwhile, as fast as it can, until all is there",
		plan->ram >> 20);

	ferry_bench_record_note(record, turns);
	ferry_bench_record_note(record, "floor: an RDMA READ of the page and UFFDIO_CONTINUE, "
					"event driven, and nothing else");
	ferry_bench_record_note(record, idle);
	ferry_bench_record_note(record, background);
}

void ferry_bench_fault_report_record(const FerryBenchFaultReport *report, FerryBenchRecord *record)
{
	const FerryBenchFaultPlan *of = &report->plan;
	JsonObject *plan = ferry_bench_record_plan(record);
	JsonArray *rows = json_array_new();
	json_object_set_string_member(plan, "peer", report->peer);
	json_object_set_int_member(plan, "ram", of->ram);
	json_object_set_int_member(plan, "faults", of->faults);
	json_object_set_int_member(plan, "repeat", of->repeat);
	ferry_bench_record_table(record, "Waiting for a page", NULL);
	add_columns(record);
	for (guint i = 0; i < report->rows->len; i++) {
		json_array_add_object_element(rows, row_json(report, report->rows->pdata[i]));
		add_to_table(report, report->rows->pdata[i], record);
	}
	json_object_set_array_member(ferry_bench_record_root(record), "rows", rows);
	draw(report, FALSE, record);
	draw(report, TRUE, record);
	add_notes(report, record);
}
