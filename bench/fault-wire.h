/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "bench-fault.h"
#include "fault-guest.h"

/* The figures of a measurement, and what it is of, as members of the conversation's objects. */

void ferry_bench_latency_put(JsonObject *object, const FerryBenchLatency *latency);
/* FERRY_ERROR_PEER where a figure is missing or negative. */
gboolean ferry_bench_latency_get(JsonObject *object, FerryBenchLatency *latency, GError **error);

void ferry_bench_fault_shape_put(JsonObject *object, const FerryBenchFaultShape *shape);
gboolean ferry_bench_fault_shape_get(JsonObject *object, guint64 ram_max,
				     FerryBenchFaultShape *shape, GError **error);

/* What the destination's engine counted. */
void ferry_bench_counts_put(JsonObject *object, const FerryPostcopyStatus *status);
/* Everything of @turn but what was felt. FERRY_ERROR_PEER where the pages went another way than
 * @mode, or one came twice. */
gboolean ferry_bench_counts_get(JsonObject *object, FerryBenchFaultMode mode,
				FerryBenchFaultTurn *turn, GError **error);
