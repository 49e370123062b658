/* SPDX-License-Identifier: BSD-2-Clause */
#include "link-tally.h"

/* What a migration's row has, in the order of its fields. */
enum {
	BULK,
	WHOLE,
	SETUP,
	DOWNTIME,
	SOURCE_CPU,
	DESTINATION_CPU,
	N_MIGRATION
};

typedef struct {
	FerryBenchRawShape shape;
	GArray *raw; /* of double, as all of these */
	GArray *perftest;
} RawTally;

typedef struct {
	guint queue_pairs;
	GArray *all[N_MIGRATION];
} MigrationTally;

/* Rows in the order in which they were first measured. */
struct FerryBenchTally {
	FerryBenchLinkPlan plan;
	GArray *raw;        /* of RawTally */
	GArray *migrations; /* of MigrationTally */
};

static void raw_tally_clear(gpointer data)
{
	RawTally *row = data;

	g_array_unref(row->raw);
	g_array_unref(row->perftest);
}

static void migration_tally_clear(gpointer data)
{
	MigrationTally *row = data;

	for (guint i = 0; i < N_MIGRATION; i++)
		g_array_unref(row->all[i]);
}

static GArray *numbers_new(void)
{
	return g_array_new(FALSE, FALSE, sizeof(double));
}

FerryBenchTally *ferry_bench_tally_new(const FerryBenchLinkPlan *plan)
{
	FerryBenchTally *tally = g_new0(FerryBenchTally, 1);

	tally->plan = *plan;
	tally->raw = g_array_new(FALSE, FALSE, sizeof(RawTally));
	tally->migrations = g_array_new(FALSE, FALSE, sizeof(MigrationTally));
	g_array_set_clear_func(tally->raw, raw_tally_clear);
	g_array_set_clear_func(tally->migrations, migration_tally_clear);
	return tally;
}

void ferry_bench_tally_free(FerryBenchTally *tally)
{
	g_array_unref(tally->raw);
	g_array_unref(tally->migrations);
	g_free(tally);
}

static RawTally *raw_row(FerryBenchTally *tally, const FerryBenchRawShape *shape)
{
	RawTally fresh = { *shape, NULL, NULL };

	for (guint i = 0; i < tally->raw->len; i++) {
		RawTally *row = &g_array_index(tally->raw, RawTally, i);

		if (row->shape.queue_pairs == shape->queue_pairs &&
		    row->shape.size == shape->size && row->shape.depth == shape->depth)
			return row;
	}
	fresh.raw = numbers_new();
	fresh.perftest = numbers_new();
	g_array_append_val(tally->raw, fresh);
	return &g_array_index(tally->raw, RawTally, tally->raw->len - 1);
}

static MigrationTally *migration_row(FerryBenchTally *tally, guint queue_pairs)
{
	MigrationTally fresh = { queue_pairs, { NULL } };

	for (guint i = 0; i < tally->migrations->len; i++) {
		MigrationTally *row = &g_array_index(tally->migrations, MigrationTally, i);

		if (row->queue_pairs == queue_pairs)
			return row;
	}
	for (guint i = 0; i < N_MIGRATION; i++)
		fresh.all[i] = numbers_new();
	g_array_append_val(tally->migrations, fresh);
	return &g_array_index(tally->migrations, MigrationTally, tally->migrations->len - 1);
}

void ferry_bench_tally_raw(FerryBenchTally *tally, const FerryBenchRawShape *shape, double rate)
{
	g_array_append_val(raw_row(tally, shape)->raw, rate);
}

void ferry_bench_tally_perftest(FerryBenchTally *tally, const FerryBenchRawShape *shape,
				double rate)
{
	g_array_append_val(raw_row(tally, shape)->perftest, rate);
}

double ferry_bench_bulk_rate(const FerryMigrationStatus *status)
{
	const FerryRound *first = status->rounds;

	return first->time_us > 0 ? (double)first->bytes * G_TIME_SPAN_SECOND / first->time_us : 0;
}

void ferry_bench_tally_migration(FerryBenchTally *tally, guint queue_pairs,
				 const FerryMigrationStatus *status)
{
	MigrationTally *row = migration_row(tally, queue_pairs);
	const double numbers[N_MIGRATION] = {
		[BULK] = ferry_bench_bulk_rate(status),
		[WHOLE] = tally->plan.ram * 1e3 / MAX(status->total_time_ms, 1),
		[SETUP] = status->setup_time_ms,
		[DOWNTIME] = status->downtime_ms,
		[SOURCE_CPU] = status->source_cpu.user + status->source_cpu.system,
		[DESTINATION_CPU] = status->destination_cpu.user + status->destination_cpu.system,
	};

	for (guint i = 0; i < N_MIGRATION; i++)
		g_array_append_val(row->all[i], numbers[i]);
}

FerryBenchLinkReport *ferry_bench_tally_report(FerryBenchTally *tally, const char *peer)
{
	FerryBenchLinkReport *report = g_new0(FerryBenchLinkReport, 1);

	report->plan = tally->plan;
	report->peer = g_strdup(peer);
	report->raw = g_array_new(FALSE, FALSE, sizeof(FerryBenchRawRow));
	report->migrations = g_array_new(FALSE, FALSE, sizeof(FerryBenchFerryRow));
	for (guint i = 0; i < tally->raw->len; i++) {
		const RawTally *from = &g_array_index(tally->raw, RawTally, i);
		FerryBenchRawRow row = { .queue_pairs = from->shape.queue_pairs,
					 .size = from->shape.size,
					 .depth = from->shape.depth,
					 .raw = ferry_bench_figure_of(from->raw),
					 .perftest = ferry_bench_figure_of(from->perftest) };

		g_array_append_val(report->raw, row);
	}
	for (guint i = 0; i < tally->migrations->len; i++) {
		const MigrationTally *from = &g_array_index(tally->migrations, MigrationTally, i);
		FerryBenchFerryRow row = {
			.queue_pairs = from->queue_pairs,
			.bulk = ferry_bench_figure_of(from->all[BULK]),
			.whole = ferry_bench_figure_of(from->all[WHOLE]),
			.setup_ms = ferry_bench_figure_of(from->all[SETUP]),
			.downtime_ms = ferry_bench_figure_of(from->all[DOWNTIME]),
			.source_cpu = ferry_bench_figure_of(from->all[SOURCE_CPU]),
			.destination_cpu = ferry_bench_figure_of(from->all[DESTINATION_CPU])
		};

		g_array_append_val(report->migrations, row);
	}
	return report;
}

void ferry_bench_link_report_free(FerryBenchLinkReport *report)
{
	if (!report)
		return;
	g_array_unref(report->migrations);
	g_array_unref(report->raw);
	g_free(report->peer);
	g_free(report);
}
