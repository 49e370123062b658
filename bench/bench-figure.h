/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>
#include <json-glib/json-glib.h>

/* Above it a median says little: (largest - smallest) / median. */
#define FERRY_BENCH_SPREAD_MAX 0.3

/* Numbers with a median: one of each turn. */
typedef struct {
	guint n;
	double median; /* 0 where there are none, as the next */
	double min, max;
	double spread;   /* (max - min) / median */
	GArray *samples; /* of double, in the order of the turns; a reference */
} FerryBenchFigure;

/* Of an array of double, which nobody changes any more. Clear it in the end. */
FerryBenchFigure ferry_bench_figure_of(GArray *numbers);
void ferry_bench_figure_clear(FerryBenchFigure *figure);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(FerryBenchFigure, ferry_bench_figure_clear)

/* Empty, for doubles. */
GArray *ferry_bench_numbers_new(void);

/* As the member @name of @object: {"runs", "median", "min", "max", "spread", "samples"}. */
void ferry_bench_figure_put(JsonObject *object, const char *name, const FerryBenchFigure *figure);

/* Its samples; the caller's. */
JsonArray *ferry_bench_figure_samples(const FerryBenchFigure *figure);
