/* SPDX-License-Identifier: BSD-2-Clause */
#include "raw-floor.h"

#include <ferry/error.h>

/* raw-floor.h in a build without RDMA. */

static gboolean none(GError **error)
{
	g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "this build has no RDMA");
	return FALSE;
}

FerryBenchFloor *ferry_bench_floor_new(const struct sockaddr *local, guint64 ram, guint64 faults,
				       guint16 *port, GError **error)
{
	none(error);
	return NULL;
}

gboolean ferry_bench_floor_accept(FerryBenchFloor *floor, int until, GError **error)
{
	return none(error);
}

gboolean ferry_bench_floor_measure(FerryBenchFloor *floor, FerryBenchLatency *felt, GError **error)
{
	return none(error);
}

void ferry_bench_floor_free(FerryBenchFloor *floor)
{
}

FerryBenchMemory *ferry_bench_memory_new(const struct sockaddr *local, const struct sockaddr *peer,
					 const FerryBenchRam *ram, GError **error)
{
	none(error);
	return NULL;
}

void ferry_bench_memory_free(FerryBenchMemory *memory)
{
}
