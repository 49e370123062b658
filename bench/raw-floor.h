/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <sys/socket.h>
#include "bench-fault.h"
#include "bench-ram.h"

/*
 * The floor of a fault: userfaultfd tells it, an RDMA READ of the page from the other process,
 * its completion event, UFFDIO_CONTINUE; and nothing else. It knows nothing of the carrier in
 * rdma/ nor of the engine, on purpose: what both would get wrong in common no comparison would
 * show. In a build without RDMA everything fails with FERRY_ERROR_NOSUPP.
 */

/* ---- raw-floor.c: the side that faults ---- */

typedef struct FerryBenchFloor FerryBenchFloor;

/* Listens on the address of @local; *@port is the one that was free. */
FerryBenchFloor *ferry_bench_floor_new(const struct sockaddr *local, guint64 ram, guint64 faults,
				       guint16 *port, GError **error);
/* Takes the connection, or gives it up when @until is readable first. */
gboolean ferry_bench_floor_accept(FerryBenchFloor *floor, int until, GError **error);
gboolean ferry_bench_floor_measure(FerryBenchFloor *floor, FerryBenchLatency *felt, GError **error);
void ferry_bench_floor_free(FerryBenchFloor *floor);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryBenchFloor, ferry_bench_floor_free)

/* ---- raw-memory.c: the side that is read from ---- */

typedef struct FerryBenchMemory FerryBenchMemory;

/* Connects from @local to @peer and lets it read @ram, which is borrowed. */
FerryBenchMemory *ferry_bench_memory_new(const struct sockaddr *local, const struct sockaddr *peer,
					 const FerryBenchRam *ram, GError **error);
void ferry_bench_memory_free(FerryBenchMemory *memory);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryBenchMemory, ferry_bench_memory_free)
