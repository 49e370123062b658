/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/destination.h>
#include <ferry/source.h>
#include "bench-ram.h"

/*
 * Whole migrations through the public interface, of a guest that has one block of RAM, no devices,
 * and nobody who writes.
 */

/* A guest over @ram, which is borrowed; made anew for each migration. */
FerryVm *ferry_bench_guest_new(const FerryBenchRam *ram, guint queue_pairs, gboolean pin_all,
			       GError **error);

/* Migrates a guest of @ram to @uri and fills @status, which is then completed. */
gboolean ferry_bench_guest_send(const FerryBenchRam *ram, const char *uri, guint queue_pairs,
				gboolean pin_all, FerryMigrationStatus *status, GError **error);

/* A guest that takes one in. */
typedef struct FerryBenchTaker FerryBenchTaker;
/* Listens on @uri. */
FerryBenchTaker *ferry_bench_taker_new(const char *uri, guint64 ram, gboolean pin_all,
				       GError **error);
/* What a source must be given; free with g_free(). */
char *ferry_bench_taker_uri(FerryBenchTaker *taker);
void ferry_bench_taker_free(FerryBenchTaker *taker);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryBenchTaker, ferry_bench_taker_free)
