/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "record.h"

/*
 * How long a guest waits for a page after a postcopy switch: a thread at the destination touches
 * missing pages at random and times each touch, in whole migrations by every way that pages can
 * go, idle and while the other pages come. Beside them the floor: an RDMA READ of one page and
 * UFFDIO_CONTINUE, and nothing else. All in one run, in turns. The listening process is the
 * destination, the measuring one the source.
 */
typedef struct {
	guint64 ram;  /* bytes of a migration, a multiple of 1 MiB */
	guint faults; /* of an idle measurement; with background there are as many as there are */
	guint repeat; /* turns that count; one that does not goes before */
} FerryBenchFaultPlan;

#define FERRY_BENCH_FAULTS_MAX 10000000u

typedef enum {
	FERRY_BENCH_FLOOR,
	FERRY_BENCH_PULL, /* the destination fetches by RDMA */
	FERRY_BENCH_PUSH, /* the source writes by RDMA what it is asked for */
	FERRY_BENCH_TCP,
	FERRY_BENCH_FAULT_MODE__N
} FerryBenchFaultMode;

/* "floor", "pull", ...; static. */
const char *ferry_bench_fault_mode_name(FerryBenchFaultMode mode);

#define FERRY_BENCH_QUANTILES_MAX 200u

/* Latencies in us, of all faults of one measurement; the ranks nearest to the percentiles. */
typedef struct {
	guint64 faults;
	double p50, p90, p99, max;
	/* Of the i-th of n, from 0, (i + 1) / n of all faults took no longer; with few faults each
	 * is there. None of what the engine says. */
	guint n_quantiles;
	double quantiles[FERRY_BENCH_QUANTILES_MAX];
} FerryBenchLatency;

/* One measurement. What the engine says is zero for the floor. */
typedef struct {
	FerryBenchLatency felt; /* by the touching thread */
	const char *way;        /* "pull", "push", "stream": query-migrate's; static */
	guint64 missing;        /* pages, at the switch */
	guint64 requests;       /* faults that the destination took */
	guint64 urgent_pages;
	guint64 background_pages;
	guint64 repeated_pages;
	FerryBenchLatency engine; /* by query-migrate's histogram */
} FerryBenchFaultTurn;

typedef struct {
	FerryBenchFaultMode mode;
	gboolean background;
	char *skipped; /* why nothing was measured; NULL */
	GArray *turns; /* FerryBenchFaultTurn, those that count */
} FerryBenchFaultRow;

typedef struct {
	FerryBenchFaultPlan plan;
	char *peer;      /* the URI that was measured */
	GPtrArray *rows; /* FerryBenchFaultRow, in the order of the modes, idle first */
} FerryBenchFaultReport;

/* With all rows, and no turns yet. @no_rdma: why those of RDMA are skipped; NULL: they are not. */
FerryBenchFaultReport *ferry_bench_fault_report_new(const FerryBenchFaultPlan *plan,
						    const char *peer, const char *no_rdma);
void ferry_bench_fault_report_free(FerryBenchFaultReport *report);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryBenchFaultReport, ferry_bench_fault_report_free)

/* Table, charts and plan of it, and as the member "rows" all figures of every turn. */
void ferry_bench_fault_report_record(const FerryBenchFaultReport *report, FerryBenchRecord *record);

/* Serves one peer after the other on rdma:HOST:PORT or tcp:HOST:PORT until the process ends.
 * @ready is told the URI with the real port. @ram_max: the most RAM that a peer may ask for.
 * Returns on an error only. */
void ferry_bench_fault_listen(const char *uri, guint64 ram_max, void (*ready)(const char *uri),
			      GError **error);

/* Measures against the listener at @uri. @tell gets a line for each measurement; may be NULL. With
 * tcp:, or where a side has no RDMA, the rows of RDMA say why they are skipped. */
FerryBenchRecord *ferry_bench_fault_measure(const char *uri, const FerryBenchFaultPlan *plan,
					    void (*tell)(const char *line), GError **error);
