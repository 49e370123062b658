/* SPDX-License-Identifier: BSD-2-Clause */
#include "fault-wire.h"
#include "control.h"

#include <math.h>
#include <ferry/error.h>

static const struct {
	const char *name;
	const char
		*engine; /* what the status calls it; NULL: TCP has two ways, and takes the best */
} modes[] = {
	[FERRY_BENCH_FLOOR] = { "floor", NULL },
	[FERRY_BENCH_PULL] = { "pull", "pull" },
	[FERRY_BENCH_PUSH] = { "push", "push" },
	[FERRY_BENCH_TCP] = { "tcp", NULL },
};
G_STATIC_ASSERT(G_N_ELEMENTS(modes) == FERRY_BENCH_FAULT_MODE__N);

const char *ferry_bench_fault_mode_name(FerryBenchFaultMode mode)
{
	return modes[mode].name;
}

static gboolean refuse(GError **error, const char *what, const char *value)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER, "the other ferry bench says %s '%s'",
		    what, value);
	return FALSE;
}

static JsonArray *quantiles_json(const FerryBenchLatency *latency)
{
	JsonArray *list = json_array_new();

	for (guint i = 0; i < latency->n_quantiles; i++)
		json_array_add_double_element(list, latency->quantiles[i]);
	return list;
}

void ferry_bench_latency_put(JsonObject *object, const FerryBenchLatency *latency)
{
	json_object_set_int_member(object, "faults", latency->faults);
	json_object_set_double_member(object, "p50-us", latency->p50);
	json_object_set_double_member(object, "p90-us", latency->p90);
	json_object_set_double_member(object, "p99-us", latency->p99);
	json_object_set_double_member(object, "max-us", latency->max);
	if (latency->n_quantiles)
		json_object_set_array_member(object, "quantiles-us", quantiles_json(latency));
}

static gboolean get_us(JsonObject *object, const char *name, double *us, GError **error)
{
	*us = json_object_get_double_member_with_default(object, name, -1);
	return (isfinite(*us) && *us >= 0) || refuse(error, name, "no number");
}

static gboolean is_number(JsonNode *node)
{
	return JSON_NODE_HOLDS_VALUE(node) && (json_node_get_value_type(node) == G_TYPE_DOUBLE ||
					       json_node_get_value_type(node) == G_TYPE_INT64);
}

/* None where there are none; else at most FERRY_BENCH_QUANTILES_MAX numbers, none smaller than the
 * one before. */
static gboolean get_quantiles(JsonObject *object, FerryBenchLatency *latency, GError **error)
{
	JsonNode *node = json_object_get_member(object, "quantiles-us");
	JsonArray *list = node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
	double before = 0;

	latency->n_quantiles = list ? json_array_get_length(list) : 0;
	if ((node && !list) || latency->n_quantiles > FERRY_BENCH_QUANTILES_MAX)
		return refuse(error, "quantiles-us", "of another shape");
	for (guint i = 0; i < latency->n_quantiles; i++) {
		JsonNode *element = json_array_get_element(list, i);
		double value = is_number(element) ? json_node_get_double(element) : -1;

		if (!isfinite(value) || value < before)
			return refuse(error, "quantiles-us", "out of order");
		latency->quantiles[i] = before = value;
	}
	return TRUE;
}

gboolean ferry_bench_latency_get(JsonObject *object, FerryBenchLatency *latency, GError **error)
{
	return ferry_bench_control_number(object, "faults", 0, G_MAXINT64, &latency->faults,
					  error) &&
	       get_us(object, "p50-us", &latency->p50, error) &&
	       get_us(object, "p90-us", &latency->p90, error) &&
	       get_us(object, "p99-us", &latency->p99, error) &&
	       get_us(object, "max-us", &latency->max, error) &&
	       get_quantiles(object, latency, error);
}

void ferry_bench_fault_shape_put(JsonObject *object, const FerryBenchFaultShape *shape)
{
	json_object_set_string_member(object, "mode", modes[shape->mode].name);
	json_object_set_boolean_member(object, "background", shape->background);
	json_object_set_int_member(object, "ram", shape->ram);
	json_object_set_int_member(object, "faults", shape->faults);
}

gboolean ferry_bench_fault_shape_get(JsonObject *object, guint64 ram_max,
				     FerryBenchFaultShape *shape, GError **error)
{
	const char *mode = json_object_get_string_member_with_default(object, "mode", "");
	FerryBenchFaultShape in = { .mode = FERRY_BENCH_FLOOR };

	while (in.mode < FERRY_BENCH_FAULT_MODE__N && !g_str_equal(modes[in.mode].name, mode))
		in.mode++;
	if (in.mode == FERRY_BENCH_FAULT_MODE__N)
		return refuse(error, "mode", mode);
	if (!ferry_bench_control_number(object, "ram", 1 << 20, ram_max, &in.ram, error) ||
	    !ferry_bench_control_number(object, "faults", 1, FERRY_BENCH_FAULTS_MAX, &in.faults,
					error))
		return FALSE;
	if (in.ram % (1 << 20))
		return refuse(error, "ram", "no multiple of 1 MiB");
	in.background = json_object_get_boolean_member_with_default(object, "background", FALSE);
	*shape = in;
	return TRUE;
}

void ferry_bench_counts_put(JsonObject *object, const FerryPostcopyStatus *status)
{
	const FerryLatency *latency = &status->latency;
	const FerryBenchLatency engine = { .faults = latency->count,
					   .p50 = latency->p50,
					   .p90 = latency->p90,
					   .p99 = latency->p99,
					   .max = latency->max };

	json_object_set_string_member(object, "mode", status->mode ? status->mode : "none");
	json_object_set_int_member(object, "missing", status->discarded);
	json_object_set_int_member(object, "requests", status->requests);
	json_object_set_int_member(object, "urgent-pages", status->urgent_pages);
	json_object_set_int_member(object, "background-pages", status->background_pages);
	json_object_set_int_member(object, "repeated-pages", status->repeated_pages);
	ferry_bench_latency_put(object, &engine);
}

static const char *known_way(const char *said)
{
	static const char *const ways[] = { "pull", "push", "stream" };

	for (guint i = 0; i < G_N_ELEMENTS(ways); i++)
		if (g_str_equal(ways[i], said))
			return ways[i];
	return NULL;
}

gboolean ferry_bench_counts_get(JsonObject *object, FerryBenchFaultMode mode,
				FerryBenchFaultTurn *turn, GError **error)
{
	const char *went = json_object_get_string_member_with_default(object, "mode", "none");
	const struct {
		const char *name;
		guint64 *value;
	} numbers[] = {
		{ "missing", &turn->missing },
		{ "requests", &turn->requests },
		{ "urgent-pages", &turn->urgent_pages },
		{ "background-pages", &turn->background_pages },
		{ "repeated-pages", &turn->repeated_pages },
	};

	turn->way = known_way(went);
	if (!turn->way || (modes[mode].engine && !g_str_equal(went, modes[mode].engine))) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "the pages of the mode %s went by '%s', which is another",
			    modes[mode].name, went);
		return FALSE;
	}
	for (guint i = 0; i < G_N_ELEMENTS(numbers); i++)
		if (!ferry_bench_control_number(object, numbers[i].name, 0, G_MAXINT64,
						numbers[i].value, error))
			return FALSE;
	if (turn->repeated_pages)
		return refuse(error, "repeated-pages", "more than none");
	return ferry_bench_latency_get(object, &turn->engine, error);
}
