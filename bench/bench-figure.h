/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>
#include <json-glib/json-glib.h>

/* Sorted sets of numbers with a median: one of each turn. */
typedef struct {
	guint n;
	double median; /* 0 where there are none */
	double spread; /* (largest - smallest) / median */
} FerryBenchFigure;

/* Of an array of double, which it sorts. */
FerryBenchFigure ferry_bench_figure_of(GArray *numbers);

/* As the member @name of @object: {"runs", "median", "spread"}. */
void ferry_bench_figure_put(JsonObject *object, const char *name, const FerryBenchFigure *figure);
