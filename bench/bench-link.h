/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <gio/gio.h>
#include <json-glib/json-glib.h>
#include "bench-figure.h"

/*
 * What an RDMA fabric can do, and what a migration makes of it, measured in one run and in turns:
 * raw RDMA writes, perftest's ib_write_bw where it is wanted, and whole migrations. One process
 * listens, the other one measures. In a build without RDMA everything fails with
 * FERRY_ERROR_NOSUPP.
 */
#define FERRY_BENCH_LIST_MAX 8u

typedef struct {
	guint64 ram;    /* bytes of a migration */
	guint repeat;   /* turns that count; one that does not goes before */
	double seconds; /* of each raw measurement */
	guint n_sizes;
	guint64 sizes[FERRY_BENCH_LIST_MAX]; /* of a raw write, bytes */
	guint n_queue_pairs;
	guint queue_pairs[FERRY_BENCH_LIST_MAX];
	guint depth; /* raw writes in flight on a queue pair; 0: as many as make 1 MiB, 4 to 64 */
	gboolean pin_all;
	gboolean perftest; /* ib_write_bw too */
} FerryBenchLinkPlan;

#define FERRY_BENCH_QUEUE_PAIRS_MAX 16u
#define FERRY_BENCH_SIZE_MAX (16u << 20)
#define FERRY_BENCH_DEPTH_MAX 1024u

/* Bytes a second, all of them. */
typedef struct {
	guint queue_pairs;
	guint64 size;
	guint depth;
	FerryBenchFigure raw;
	FerryBenchFigure perftest;
} FerryBenchRawRow;

typedef struct {
	guint queue_pairs;
	FerryBenchFigure bulk;  /* bytes of round 1 / its time */
	FerryBenchFigure whole; /* RAM / total-time */
	FerryBenchFigure setup_ms;
	FerryBenchFigure downtime_ms;
	FerryBenchFigure source_cpu;      /* seconds */
	FerryBenchFigure destination_cpu; /* seconds */
} FerryBenchFerryRow;

typedef struct {
	FerryBenchLinkPlan plan;
	char *peer;         /* the URI that was measured */
	GArray *raw;        /* FerryBenchRawRow */
	GArray *migrations; /* FerryBenchFerryRow */
} FerryBenchLinkReport;

void ferry_bench_link_report_free(FerryBenchLinkReport *report);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryBenchLinkReport, ferry_bench_link_report_free)

/* rdma:ADDRESS:0 of the first RDMA port of this host that has an address; FERRY_ERROR_NOSUPP says
 * what is missing and what mends it. Free with g_free(). */
char *ferry_bench_link_own_uri(GError **error);

/* Serves one peer after the other on rdma:HOST:PORT until the process ends. @ready is told the URI
 * with the real port. @ram_max: the most RAM that a peer may ask for. Returns on an error only. */
void ferry_bench_link_listen(const char *uri, guint64 ram_max, void (*ready)(const char *uri),
			     GError **error);

/* Measures against the listener at @uri. @tell gets a line for each measurement; may be NULL. */
FerryBenchLinkReport *ferry_bench_link_measure(const char *uri, const FerryBenchLinkPlan *plan,
					       void (*tell)(const char *line), GError **error);

/* A table for people; free with g_free(). */
char *ferry_bench_link_report_text(const FerryBenchLinkReport *report);
/* The same figures and those that the table has no room for. */
JsonNode *ferry_bench_link_report_json(const FerryBenchLinkReport *report);
