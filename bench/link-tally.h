/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/status.h>
#include "bench-link.h"
#include "raw-link.h"

/* Collects what the turns measured, and makes figures of it. */
typedef struct FerryBenchTally FerryBenchTally;

FerryBenchTally *ferry_bench_tally_new(const FerryBenchLinkPlan *plan);
void ferry_bench_tally_free(FerryBenchTally *tally);

/* Rates are bytes a second. */
void ferry_bench_tally_raw(FerryBenchTally *tally, const FerryBenchRawShape *shape, double rate);
void ferry_bench_tally_perftest(FerryBenchTally *tally, const FerryBenchRawShape *shape,
				double rate);
void ferry_bench_tally_migration(FerryBenchTally *tally, guint queue_pairs,
				 const FerryMigrationStatus *status);

/* Bytes of round 1 on the wire over its time, bytes a second. */
double ferry_bench_bulk_rate(const FerryMigrationStatus *status);

/* @peer is the URI that was measured. */
FerryBenchLinkReport *ferry_bench_tally_report(FerryBenchTally *tally, const char *peer);
