/* SPDX-License-Identifier: BSD-2-Clause */
#include "link-tally.h"

#define GIB ((double)(1u << 30))

static void raw_row_clear(gpointer data)
{
	FerryBenchRawRow *row = data;

	g_array_unref(row->rate);
	g_array_unref(row->perftest);
}

static void tcp_row_clear(gpointer data)
{
	g_array_unref(((FerryBenchTcpRow *)data)->rate);
}

static void migration_row_clear(gpointer data)
{
	FerryBenchMigrationRow *row = data;

	for (guint i = 0; i < FERRY_BENCH_MIGRATION__N; i++)
		g_array_unref(row->of[i]);
}

static void pages_row_clear(gpointer data)
{
	FerryBenchPagesRow *row = data;

	g_free(row->skipped);
	g_array_unref(row->registered);
	g_array_unref(row->deregistered);
}

static GArray *rows_new(guint size, GDestroyNotify clear)
{
	GArray *rows = g_array_new(FALSE, FALSE, size);

	g_array_set_clear_func(rows, clear);
	return rows;
}

FerryBenchTally *ferry_bench_tally_new(const FerryBenchLinkPlan *plan)
{
	FerryBenchTally *tally = g_new0(FerryBenchTally, 1);

	tally->plan = *plan;
	tally->raw = rows_new(sizeof(FerryBenchRawRow), raw_row_clear);
	tally->tcp = rows_new(sizeof(FerryBenchTcpRow), tcp_row_clear);
	tally->migrations = rows_new(sizeof(FerryBenchMigrationRow), migration_row_clear);
	tally->pages = rows_new(sizeof(FerryBenchPagesRow), pages_row_clear);
	return tally;
}

void ferry_bench_tally_free(FerryBenchTally *tally)
{
	g_array_unref(tally->raw);
	g_array_unref(tally->tcp);
	g_array_unref(tally->migrations);
	g_array_unref(tally->pages);
	g_free(tally);
}

static FerryBenchRawRow *raw_row(FerryBenchTally *tally, const FerryBenchRawShape *shape)
{
	FerryBenchRawRow fresh = { .shape = *shape };

	for (guint i = 0; i < tally->raw->len; i++) {
		FerryBenchRawRow *row = &g_array_index(tally->raw, FerryBenchRawRow, i);

		if (row->shape.queue_pairs == shape->queue_pairs &&
		    row->shape.size == shape->size && row->shape.depth == shape->depth)
			return row;
	}
	fresh.rate = ferry_bench_numbers_new();
	fresh.perftest = ferry_bench_numbers_new();
	g_array_append_val(tally->raw, fresh);
	return &g_array_index(tally->raw, FerryBenchRawRow, tally->raw->len - 1);
}

void ferry_bench_tally_raw(FerryBenchTally *tally, const FerryBenchRawShape *shape, double rate)
{
	g_array_append_val(raw_row(tally, shape)->rate, rate);
}

void ferry_bench_tally_perftest(FerryBenchTally *tally, const FerryBenchRawShape *shape,
				double rate)
{
	g_array_append_val(raw_row(tally, shape)->perftest, rate);
}

void ferry_bench_tally_tcp(FerryBenchTally *tally, guint connections, double rate)
{
	FerryBenchTcpRow fresh = { connections, NULL }, *row = NULL;

	for (guint i = 0; i < tally->tcp->len && !row; i++)
		if (g_array_index(tally->tcp, FerryBenchTcpRow, i).connections == connections)
			row = &g_array_index(tally->tcp, FerryBenchTcpRow, i);
	if (!row) {
		fresh.rate = ferry_bench_numbers_new();
		g_array_append_val(tally->tcp, fresh);
		row = &g_array_index(tally->tcp, FerryBenchTcpRow, tally->tcp->len - 1);
	}
	g_array_append_val(row->rate, rate);
}

double ferry_bench_bulk_rate(const FerryMigrationStatus *status)
{
	const FerryRound *first = status->rounds;

	return first->time_us > 0 ? (double)first->bytes * G_TIME_SPAN_SECOND / first->time_us : 0;
}

static FerryBenchMigrationRow *migration_row(FerryBenchTally *tally, const FerryBenchLane *lane)
{
	FerryBenchMigrationRow fresh = { .lane = *lane };

	for (guint i = 0; i < tally->migrations->len; i++) {
		FerryBenchMigrationRow *row = &g_array_index(tally->migrations,
							     FerryBenchMigrationRow, i);

		if (row->lane.rdma == lane->rdma && row->lane.n == lane->n)
			return row;
	}
	for (guint i = 0; i < FERRY_BENCH_MIGRATION__N; i++)
		fresh.of[i] = ferry_bench_numbers_new();
	g_array_append_val(tally->migrations, fresh);
	return &g_array_index(tally->migrations, FerryBenchMigrationRow,
			      tally->migrations->len - 1);
}

void ferry_bench_tally_migration(FerryBenchTally *tally, const FerryBenchLane *lane,
				 const FerryMigrationStatus *status)
{
	FerryBenchMigrationRow *row = migration_row(tally, lane);
	const FerryCpuTime *source = &status->source_cpu, *destination = &status->destination_cpu;
	const double gib = tally->plan.ram / GIB;
	const double numbers[FERRY_BENCH_MIGRATION__N] = {
		[FERRY_BENCH_BULK] = ferry_bench_bulk_rate(status),
		[FERRY_BENCH_WHOLE] = tally->plan.ram * 1e3 / MAX(status->total_time_ms, 1),
		[FERRY_BENCH_SETUP] = status->setup_time_ms,
		[FERRY_BENCH_DOWNTIME] = status->downtime_ms,
		[FERRY_BENCH_SOURCE_CPU] = (source->user + source->system) / gib,
		[FERRY_BENCH_DESTINATION_CPU] = (destination->user + destination->system) / gib,
	};

	for (guint i = 0; i < FERRY_BENCH_MIGRATION__N; i++)
		g_array_append_val(row->of[i], numbers[i]);
}

static FerryBenchPagesRow *pages_row(FerryBenchTally *tally, FerryBenchPages pages)
{
	FerryBenchPagesRow fresh = { .pages = pages };

	for (guint i = 0; i < tally->pages->len; i++)
		if (g_array_index(tally->pages, FerryBenchPagesRow, i).pages == pages)
			return &g_array_index(tally->pages, FerryBenchPagesRow, i);
	fresh.registered = ferry_bench_numbers_new();
	fresh.deregistered = ferry_bench_numbers_new();
	g_array_append_val(tally->pages, fresh);
	return &g_array_index(tally->pages, FerryBenchPagesRow, tally->pages->len - 1);
}

void ferry_bench_tally_pages(FerryBenchTally *tally, FerryBenchPages pages, guint64 bytes,
			     double register_us, double deregister_us)
{
	const double ms_a_gib = GIB / (double)bytes / 1e3;
	FerryBenchPagesRow *row = pages_row(tally, pages);

	register_us *= ms_a_gib;
	deregister_us *= ms_a_gib;
	g_array_append_val(row->registered, register_us);
	g_array_append_val(row->deregistered, deregister_us);
}

void ferry_bench_tally_pages_skipped(FerryBenchTally *tally, FerryBenchPages pages, const char *why)
{
	FerryBenchPagesRow *row = pages_row(tally, pages);

	g_free(row->skipped);
	row->skipped = g_strdup(why);
}
