/* SPDX-License-Identifier: BSD-2-Clause */
#include "link-tally.h"

#define MIB 1048576.0

const char *ferry_bench_pages_name(FerryBenchPages pages)
{
	static const char *const names[] = {
		[FERRY_BENCH_PAGES_UNTOUCHED] = "anonymous, untouched",
		[FERRY_BENCH_PAGES_TOUCHED] = "anonymous, touched",
		[FERRY_BENCH_PAGES_MEMFD] = "memfd, touched",
		[FERRY_BENCH_PAGES_MEMFD_ALLOCATED] = "memfd, preallocated",
		[FERRY_BENCH_PAGES_HUGE] = "transparent huge pages",
		[FERRY_BENCH_PAGES_HUGETLB] = "hugetlb",
		[FERRY_BENCH_PAGES_ON_DEMAND] = "on demand",
	};
	G_STATIC_ASSERT(G_N_ELEMENTS(names) == FERRY_BENCH_PAGES__N);

	return names[pages];
}

/* Of numbers that are divided by @unit first. */
static FerryBenchFigure figure_in(const GArray *numbers, double unit)
{
	g_autoptr(GArray) scaled = ferry_bench_numbers_new();

	for (guint i = 0; i < numbers->len; i++) {
		double value = g_array_index(numbers, double, i) / unit;

		g_array_append_val(scaled, value);
	}
	return ferry_bench_figure_of(scaled);
}

static void put_figure(FerryBenchRecord *record, const char *key, const GArray *numbers,
		       double unit)
{
	g_auto(FerryBenchFigure) figure = figure_in(numbers, unit);

	ferry_bench_record_figure(record, key, &figure);
}

static double median_of(const GArray *numbers)
{
	g_auto(FerryBenchFigure) figure = figure_in(numbers, 1);

	return figure.median;
}

/* Bytes a second of the best raw row; @n: of so many queue pairs or connections alone, unless 0. */
static double best_raw(const FerryBenchTally *tally, gboolean rdma, guint n)
{
	double best = 0;

	for (guint i = 0; rdma && i < tally->raw->len; i++) {
		const FerryBenchRawRow *row = &g_array_index(tally->raw, FerryBenchRawRow, i);

		if (!n || row->shape.queue_pairs == n)
			best = MAX(best, median_of(row->rate));
	}
	for (guint i = 0; !rdma && i < tally->tcp->len; i++) {
		const FerryBenchTcpRow *row = &g_array_index(tally->tcp, FerryBenchTcpRow, i);

		if (!n || row->connections == n)
			best = MAX(best, median_of(row->rate));
	}
	return best;
}

static void put_share(FerryBenchRecord *record, const char *key, double value, double of)
{
	if (of > 0)
		ferry_bench_record_number(record, key, value / of * 100);
}

static char *size_text(guint64 size)
{
	return size % 1024         ? g_strdup_printf("%u", (guint)size)
	       : size % (1u << 20) ? g_strdup_printf("%uK", (guint)size >> 10)
				   : g_strdup_printf("%uM", (guint)size >> 20);
}

/* ---- tables ---- */

static void raw_table(const FerryBenchTally *tally, FerryBenchRecord *record)
{
	ferry_bench_record_table(record, "Raw RDMA writes, the ceiling",
				 "From one hot buffer to another, so many in flight on each queue "
				 "pair; event driven, where ib_write_bw polls.");
	ferry_bench_record_column(record, "rate", "MiB/s", 1, TRUE);
	ferry_bench_record_column(record, "of-best", "% of the best", 0, FALSE);
	if (tally->plan.perftest)
		ferry_bench_record_column(record, "ib-write-bw", "ib_write_bw, MiB/s", 1, TRUE);
	for (guint i = 0; i < tally->raw->len; i++) {
		const FerryBenchRawRow *row = &g_array_index(tally->raw, FerryBenchRawRow, i);
		const FerryBenchLane lane = { .rdma = TRUE, .n = row->shape.queue_pairs };
		g_autofree char *pairs = ferry_bench_lane_name(&lane);
		g_autofree char *size = size_text(row->shape.size);
		g_autofree char *name = g_strdup_printf("%s, %s, %u deep", pairs, size,
							row->shape.depth);

		ferry_bench_record_row(record, name, "ceiling");
		ferry_bench_record_number(record, "queue-pairs", row->shape.queue_pairs);
		ferry_bench_record_number(record, "size", row->shape.size);
		ferry_bench_record_number(record, "depth", row->shape.depth);
		put_figure(record, "rate", row->rate, MIB);
		put_share(record, "of-best", median_of(row->rate), best_raw(tally, TRUE, 0));
		if (tally->plan.perftest)
			put_figure(record, "ib-write-bw", row->perftest, MIB);
	}
}

static void tcp_table(const FerryBenchTally *tally, FerryBenchRecord *record)
{
	ferry_bench_record_table(record, "Raw TCP sockets, the ceiling",
				 "A thread for each connection on both sides, that sends one hot "
				 "buffer or receives into another.");
	ferry_bench_record_column(record, "rate", "MiB/s", 1, TRUE);
	ferry_bench_record_column(record, "of-best", "% of the best", 0, FALSE);
	for (guint i = 0; i < tally->tcp->len; i++) {
		const FerryBenchTcpRow *row = &g_array_index(tally->tcp, FerryBenchTcpRow, i);
		const FerryBenchLane lane = { .n = row->connections };
		g_autofree char *name = ferry_bench_lane_name(&lane);

		ferry_bench_record_row(record, name, "ceiling");
		ferry_bench_record_number(record, "connections", row->connections);
		put_figure(record, "rate", row->rate, MIB);
		put_share(record, "of-best", median_of(row->rate), best_raw(tally, FALSE, 0));
	}
}

static void migration_row(const FerryBenchTally *tally, const FerryBenchMigrationRow *row,
			  FerryBenchRecord *record)
{
	static const struct {
		const char *key;
		double unit;
	} cells[FERRY_BENCH_MIGRATION__N] = {
		[FERRY_BENCH_BULK] = { "bulk", MIB },
		[FERRY_BENCH_WHOLE] = { "whole", MIB },
		[FERRY_BENCH_SETUP] = { "setup", 1 },
		[FERRY_BENCH_DOWNTIME] = { "downtime", 1 },
		[FERRY_BENCH_SOURCE_CPU] = { "source-cpu", 1 },
		[FERRY_BENCH_DESTINATION_CPU] = { "destination-cpu", 1 },
	};
	const FerryBenchLane *lane = &row->lane;
	g_autofree char *lanes = ferry_bench_lane_name(lane);
	g_autofree char *name = g_strdup_printf("%s, %s",
						lane->rdma     ? "rdma"
						: lane->n == 1 ? "tcp"
							       : "multifd",
						lanes);
	double bulk = median_of(row->of[FERRY_BENCH_BULK]);

	ferry_bench_record_row(record, name, "ferry");
	ferry_bench_record_number(record, lane->rdma ? "queue-pairs" : "connections", lane->n);
	for (guint i = 0; i < FERRY_BENCH_MIGRATION__N; i++)
		put_figure(record, cells[i].key, row->of[i], cells[i].unit);
	put_share(record, "of-here", bulk, best_raw(tally, lane->rdma, lane->n));
	put_share(record, "of-best", bulk, best_raw(tally, lane->rdma, 0));
}

static void migration_table(const FerryBenchTally *tally, FerryBenchRecord *record)
{
	g_autofree char *note = g_strdup_printf(
		"Whole migrations of %" G_GUINT64_FORMAT
		" MiB that nothing compresses and nobody writes%s. Bulk is round 1, its bytes over "
		"its time; whole is RAM over total-time, with connecting, registering and the "
		"hand-over. The ceiling is the best raw row of the same network: with as many queue "
		"pairs or connections, and of all.",
		tally->plan.ram >> 20, tally->plan.pin_all ? ", all of it registered before" : "");

	ferry_bench_record_table(record, "Migrations", note);
	ferry_bench_record_column(record, "bulk", "bulk, MiB/s", 1, TRUE);
	ferry_bench_record_column(record, "of-here", "% of ceiling here", 0, FALSE);
	ferry_bench_record_column(record, "of-best", "% of all", 0, FALSE);
	ferry_bench_record_column(record, "whole", "whole, MiB/s", 1, TRUE);
	ferry_bench_record_column(record, "setup", "set-up, ms", 0, FALSE);
	ferry_bench_record_column(record, "downtime", "downtime, ms", 0, FALSE);
	ferry_bench_record_column(record, "source-cpu", "source, CPU s/GiB", 2, FALSE);
	ferry_bench_record_column(record, "destination-cpu", "destination", 2, FALSE);
	for (guint i = 0; i < tally->migrations->len; i++)
		migration_row(tally, &g_array_index(tally->migrations, FerryBenchMigrationRow, i),
			      record);
}

static void pages_table(const FerryBenchTally *tally, FerryBenchRecord *record)
{
	ferry_bench_record_table(record, "Registering memory",
				 "ibv_reg_mr and ibv_dereg_mr on the measuring host, for a peer's "
				 "writes, by what the memory is.");
	ferry_bench_record_column(record, "register", "register, ms/GiB", 1, TRUE);
	ferry_bench_record_column(record, "deregister", "deregister, ms/GiB", 1, TRUE);
	for (guint i = 0; i < tally->pages->len; i++) {
		const FerryBenchPagesRow *row = &g_array_index(tally->pages, FerryBenchPagesRow, i);
		g_autofree char *what = g_strdup_printf("registering, %s",
							ferry_bench_pages_name(row->pages));

		if (row->skipped) {
			ferry_bench_record_skip(record, what, row->skipped);
			continue;
		}
		ferry_bench_record_row(record, ferry_bench_pages_name(row->pages), NULL);
		put_figure(record, "register", row->registered, 1);
		put_figure(record, "deregister", row->deregistered, 1);
	}
}

/* ---- the chart ---- */

/* Raw and migrations, by queue pairs or connections. */
static void draw(const FerryBenchTally *tally, gboolean rdma, FerryBenchRecord *record)
{
	const FerryBenchList *list = rdma ? &tally->plan.queue_pairs : &tally->plan.connections;
	const FerryBenchChart chart = { .title = rdma ? "RDMA, by queue pairs"
						      : "TCP, by connections",
					.kind = "lines",
					.x = rdma ? "queue pairs" : "connections",
					.y = "MiB/s" };

	ferry_bench_record_chart(record, &chart);
	ferry_bench_record_series(record, rdma ? "raw writes, the best size" : "raw sockets",
				  "ceiling");
	for (guint i = 0; i < list->n; i++)
		ferry_bench_record_point(record, list->at[i],
					 best_raw(tally, rdma, list->at[i]) / MIB);
	ferry_bench_record_series(record, "migration, bulk", "ferry");
	for (guint i = 0; i < tally->migrations->len; i++) {
		const FerryBenchMigrationRow *row = &g_array_index(tally->migrations,
								   FerryBenchMigrationRow, i);
		g_auto(FerryBenchFigure) bulk = figure_in(row->of[FERRY_BENCH_BULK], MIB);

		if (row->lane.rdma == rdma)
			ferry_bench_record_spread(record, row->lane.n, &bulk);
	}
}

static void put_list(JsonObject *plan, const char *name, const FerryBenchList *list)
{
	JsonArray *array = json_array_new();

	for (guint i = 0; i < list->n; i++)
		json_array_add_int_element(array, list->at[i]);
	json_object_set_array_member(plan, name, array);
}

void ferry_bench_tally_record(const FerryBenchTally *tally, const char *peer,
			      FerryBenchRecord *record)
{
	const FerryBenchLinkPlan *of = &tally->plan;
	JsonObject *plan = ferry_bench_record_plan(record);
	g_autofree char *note = g_strdup_printf(
		"%s; medians (min-max) of %u turns behind one that does not count; raw "
		"measurements of %.3g s",
		peer, of->repeat, of->seconds);

	json_object_set_string_member(plan, "peer", peer);
	json_object_set_int_member(plan, "ram", of->ram);
	json_object_set_int_member(plan, "repeat", of->repeat);
	json_object_set_double_member(plan, "seconds", of->seconds);
	json_object_set_boolean_member(plan, "pin-all", of->pin_all);
	put_list(plan, "sizes", &of->sizes);
	put_list(plan, "depths", &of->depths);
	put_list(plan, "queue-pairs", &of->queue_pairs);
	put_list(plan, "connections", &of->connections);
	if (tally->raw->len) {
		raw_table(tally, record);
		draw(tally, TRUE, record);
	}
	tcp_table(tally, record);
	draw(tally, FALSE, record);
	migration_table(tally, record);
	if (tally->pages->len)
		pages_table(tally, record);
	ferry_bench_record_note(record, note);
}
