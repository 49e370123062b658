/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/destination.h>
#include <ferry/source.h>
#include "bench-ram.h"

/*
 * Whole migrations through the public interface, of a guest that has one block of RAM, no devices,
 * and nobody who writes.
 */

/* How the pages go: the same on both sides. */
typedef struct {
	gboolean rdma;
	guint n; /* queue pairs; or connections, of which more than one are multifd's */
	gboolean pin_all;
} FerryBenchLane;

/* "4 queue pairs", "1 connection"; free with g_free(). */
char *ferry_bench_lane_name(const FerryBenchLane *lane);

/* Migrates a guest of @ram to @uri and fills @status, which is then completed. */
gboolean ferry_bench_guest_send(const FerryBenchRam *ram, const char *uri,
				const FerryBenchLane *lane, FerryMigrationStatus *status,
				GError **error);

/* A guest that takes one in. */
typedef struct FerryBenchTaker FerryBenchTaker;
/* Listens on @uri. */
FerryBenchTaker *ferry_bench_taker_new(const char *uri, guint64 ram, const FerryBenchLane *lane,
				       GError **error);
/* What a source must be given; free with g_free(). */
char *ferry_bench_taker_uri(FerryBenchTaker *taker);
void ferry_bench_taker_free(FerryBenchTaker *taker);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryBenchTaker, ferry_bench_taker_free)
