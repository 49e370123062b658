/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench-figure.h"

static int compare(gconstpointer a, gconstpointer b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

GArray *ferry_bench_numbers_new(void)
{
	return g_array_new(FALSE, FALSE, sizeof(double));
}

FerryBenchFigure ferry_bench_figure_of(GArray *numbers)
{
	FerryBenchFigure figure = { .n = numbers->len, .samples = g_array_ref(numbers) };
	g_autoptr(GArray) sorted = g_array_copy(numbers);
	const double *at = (const double *)sorted->data;

	if (!numbers->len)
		return figure;
	g_array_sort(sorted, compare);
	figure.median = (at[(sorted->len - 1) / 2] + at[sorted->len / 2]) / 2;
	figure.min = at[0];
	figure.max = at[sorted->len - 1];
	if (figure.median > 0)
		figure.spread = (figure.max - figure.min) / figure.median;
	return figure;
}

void ferry_bench_figure_clear(FerryBenchFigure *figure)
{
	g_clear_pointer(&figure->samples, g_array_unref);
}

JsonArray *ferry_bench_figure_samples(const FerryBenchFigure *figure)
{
	JsonArray *list = json_array_new();

	for (guint i = 0; i < figure->n; i++)
		json_array_add_double_element(list, g_array_index(figure->samples, double, i));
	return list;
}

void ferry_bench_figure_put(JsonObject *object, const char *name, const FerryBenchFigure *figure)
{
	JsonObject *member = json_object_new();

	json_object_set_int_member(member, "runs", figure->n);
	json_object_set_double_member(member, "median", figure->median);
	json_object_set_double_member(member, "min", figure->min);
	json_object_set_double_member(member, "max", figure->max);
	json_object_set_double_member(member, "spread", figure->spread);
	json_object_set_array_member(member, "samples", ferry_bench_figure_samples(figure));
	json_object_set_object_member(object, name, member);
}
