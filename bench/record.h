/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "bench-figure.h"

/*
 * What a bench found, in the shape that all of them write and a report is drawn from: hosts, plan,
 * tables whose cells keep every sample, charts, and what a reader must know. Functions that add to
 * a table, row or series add to the last one.
 */
typedef struct FerryBenchRecord FerryBenchRecord;

/* Now is when the bench began; its command line is this process's. */
FerryBenchRecord *ferry_bench_record_new(const char *bench, const char *title);
void ferry_bench_record_free(FerryBenchRecord *record);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryBenchRecord, ferry_bench_record_free)

/* This host is the source, and @destination, the listener's word, the other end, which may be the
 * same; taken over. */
void ferry_bench_record_hosts(FerryBenchRecord *record, JsonObject *destination);

/* The options, and what a bench tells beside the common shape; members may be added. */
JsonObject *ferry_bench_record_plan(FerryBenchRecord *record);
JsonObject *ferry_bench_record_root(FerryBenchRecord *record);

void ferry_bench_record_note(FerryBenchRecord *record, const char *text);
/* What makes a figure doubtful. */
void ferry_bench_record_warn(FerryBenchRecord *record, const char *text);
void ferry_bench_record_skip(FerryBenchRecord *record, const char *what, const char *why);

/* @note may be NULL. */
void ferry_bench_record_table(FerryBenchRecord *record, const char *title, const char *note);
/* @spread: the text shows min and max, too, and a figure that spreads too far gets a warning. */
void ferry_bench_record_column(FerryBenchRecord *record, const char *key, const char *title,
			       guint digits, gboolean spread);
/* @mark: "ferry", "peer", "ceiling" or NULL. */
void ferry_bench_record_row(FerryBenchRecord *record, const char *name, const char *mark);
/* A cell of the row; none where the figure has no sample. */
void ferry_bench_record_figure(FerryBenchRecord *record, const char *key,
			       const FerryBenchFigure *figure);
void ferry_bench_record_number(FerryBenchRecord *record, const char *key, double number);
void ferry_bench_record_text(FerryBenchRecord *record, const char *key, const char *text);

typedef struct {
	const char *title;
	const char *kind; /* "lines", "bars", "cdf", "points" */
	const char *x, *y;
	gboolean x_log, y_log;
} FerryBenchChart;

void ferry_bench_record_chart(FerryBenchRecord *record, const FerryBenchChart *chart);
void ferry_bench_record_series(FerryBenchRecord *record, const char *name, const char *mark);
void ferry_bench_record_point(FerryBenchRecord *record, double x, double y);
/* With min and max beside the median. */
void ferry_bench_record_spread(FerryBenchRecord *record, double x, const FerryBenchFigure *figure);

/* The bench is over: now is its end. The whole as JSON. */
JsonNode *ferry_bench_record_json(FerryBenchRecord *record);

/* ---- record-print.c ---- */

/* The tables for people, with what was skipped and what to doubt; free with g_free(). */
char *ferry_bench_record_print(FerryBenchRecord *record);

/* ---- bench-host.c ---- */

/* This host as a record tells it, but for its role: name, processor, memory, kernel, devices. */
JsonObject *ferry_bench_host(void);
