/* SPDX-License-Identifier: BSD-2-Clause */
#include "raw-floor.h"
#include "raw-link.h"
#include "raw-register.h"

#include <ferry/error.h>

/* raw-floor.h, raw-link.h and raw-register.h in a build without RDMA. */

static gboolean none(GError **error)
{
	g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "this build has no RDMA: install libibverbs-dev and "
			    "librdmacm-dev, and build again with -Drdma=enabled");
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

FerryBenchRawServer *ferry_bench_raw_server_new(const struct sockaddr *local,
						const FerryBenchRawShape *shape, guint16 *port,
						GError **error)
{
	none(error);
	return NULL;
}

gboolean ferry_bench_raw_server_run(FerryBenchRawServer *server, int until, GError **error)
{
	return none(error);
}

void ferry_bench_raw_server_free(FerryBenchRawServer *server)
{
}

gboolean ferry_bench_raw_measure(const struct sockaddr *local, const struct sockaddr *peer,
				 const FerryBenchRawShape *shape, double seconds, double *rate,
				 GError **error)
{
	return none(error);
}

FerryBenchRegistrar *ferry_bench_registrar_new(const struct sockaddr *local, GError **error)
{
	none(error);
	return NULL;
}

void ferry_bench_registrar_free(FerryBenchRegistrar *registrar)
{
}

gboolean ferry_bench_registrar_measure(FerryBenchRegistrar *registrar, FerryBenchPages pages,
				       guint64 bytes, double *register_us, double *deregister_us,
				       GError **error)
{
	return none(error);
}
