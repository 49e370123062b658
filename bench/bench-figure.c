/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench-figure.h"

static int compare(gconstpointer a, gconstpointer b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

FerryBenchFigure ferry_bench_figure_of(GArray *numbers)
{
	FerryBenchFigure figure = { .n = numbers->len };
	double *sorted = (double *)numbers->data;

	if (!numbers->len)
		return figure;
	g_array_sort(numbers, compare);
	figure.median = (sorted[(numbers->len - 1) / 2] + sorted[numbers->len / 2]) / 2;
	if (figure.median > 0)
		figure.spread = (sorted[numbers->len - 1] - sorted[0]) / figure.median;
	return figure;
}

void ferry_bench_figure_put(JsonObject *object, const char *name, const FerryBenchFigure *figure)
{
	JsonObject *member = json_object_new();

	json_object_set_int_member(member, "runs", figure->n);
	json_object_set_double_member(member, "median", figure->median);
	json_object_set_double_member(member, "spread", figure->spread);
	json_object_set_object_member(object, name, member);
}
