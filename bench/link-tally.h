/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/status.h>
#include "bench-link.h"
#include "link-guest.h"
#include "raw-link.h"
#include "raw-register.h"

/* Collects what the turns measured: rows in the order in which they were first measured, whose
 * numbers are in that of the turns. Its fields are there to be read. */
typedef struct {
	FerryBenchRawShape shape;
	GArray *rate;     /* of double, as all of these; bytes a second */
	GArray *perftest; /* the same of ib_write_bw */
} FerryBenchRawRow;

typedef struct {
	guint connections;
	GArray *rate; /* bytes a second */
} FerryBenchTcpRow;

enum {
	FERRY_BENCH_BULK,       /* bytes a second: round 1's bytes over its time */
	FERRY_BENCH_WHOLE,      /* bytes a second: RAM over total-time */
	FERRY_BENCH_SETUP,      /* ms */
	FERRY_BENCH_DOWNTIME,   /* ms */
	FERRY_BENCH_SOURCE_CPU, /* seconds a GiB of RAM */
	FERRY_BENCH_DESTINATION_CPU,
	FERRY_BENCH_MIGRATION__N
};

typedef struct {
	FerryBenchLane lane;
	GArray *of[FERRY_BENCH_MIGRATION__N];
} FerryBenchMigrationRow;

typedef struct {
	FerryBenchPages pages;
	char *skipped;      /* why; NULL */
	GArray *registered; /* ms a GiB */
	GArray *deregistered;
} FerryBenchPagesRow;

typedef struct {
	FerryBenchLinkPlan plan;
	GArray *raw;        /* FerryBenchRawRow */
	GArray *tcp;        /* FerryBenchTcpRow */
	GArray *migrations; /* FerryBenchMigrationRow */
	GArray *pages;      /* FerryBenchPagesRow */
} FerryBenchTally;

FerryBenchTally *ferry_bench_tally_new(const FerryBenchLinkPlan *plan);
void ferry_bench_tally_free(FerryBenchTally *tally);

/* Rates are bytes a second. */
void ferry_bench_tally_raw(FerryBenchTally *tally, const FerryBenchRawShape *shape, double rate);
void ferry_bench_tally_perftest(FerryBenchTally *tally, const FerryBenchRawShape *shape,
				double rate);
void ferry_bench_tally_tcp(FerryBenchTally *tally, guint connections, double rate);
void ferry_bench_tally_migration(FerryBenchTally *tally, const FerryBenchLane *lane,
				 const FerryMigrationStatus *status);
/* Of @bytes. */
void ferry_bench_tally_pages(FerryBenchTally *tally, FerryBenchPages pages, guint64 bytes,
			     double register_us, double deregister_us);
void ferry_bench_tally_pages_skipped(FerryBenchTally *tally, FerryBenchPages pages,
				     const char *why);

/* Bytes of round 1 on the wire over its time, bytes a second. */
double ferry_bench_bulk_rate(const FerryMigrationStatus *status);

/* ---- link-record.c ---- */

/* "anonymous, untouched", ...; static. */
const char *ferry_bench_pages_name(FerryBenchPages pages);

/* Tables, charts and plan of it all. @peer is the URI that was measured. */
void ferry_bench_tally_record(const FerryBenchTally *tally, const char *peer,
			      FerryBenchRecord *record);
