/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "record.h"

/*
 * What a network can do, and what a migration makes of it, measured in one run and in turns: raw
 * RDMA writes and perftest's ib_write_bw where it is wanted, what registering memory costs, plain
 * sockets, and whole migrations. One process listens, the other one measures. With tcp: in the
 * place of rdma:, as in a build without RDMA, sockets alone.
 */
#define FERRY_BENCH_LIST_MAX 8u

typedef struct {
	guint n;
	guint64 at[FERRY_BENCH_LIST_MAX];
} FerryBenchList;

typedef struct {
	guint64 ram;                /* bytes of a migration */
	guint repeat;               /* turns that count; one that does not goes before */
	double seconds;             /* of each raw measurement */
	FerryBenchList sizes;       /* of a raw write, bytes */
	FerryBenchList queue_pairs; /* of raw writes, and of migrations */
	FerryBenchList depths; /* raw writes in flight on a queue pair; none: FERRY_BENCH_DEPTH */
	FerryBenchList connections; /* of sockets, and of migrations; more than one by multifd */
	gboolean pin_all;
	gboolean perftest; /* ib_write_bw too */
} FerryBenchLinkPlan;

/* As many as make 1 MiB, 4 to 64. */
#define FERRY_BENCH_DEPTH(size) ((guint)CLAMP((1u << 20) / (size), 4, 64))

#define FERRY_BENCH_QUEUE_PAIRS_MAX 16u
#define FERRY_BENCH_CONNECTIONS_MAX 16u
#define FERRY_BENCH_SIZE_MAX (16u << 20)
#define FERRY_BENCH_DEPTH_MAX 1024u

/* rdma:ADDRESS:0 of the first RDMA port of this host that has an address; FERRY_ERROR_NOSUPP says
 * what is missing and what mends it. Free with g_free(). */
char *ferry_bench_link_own_uri(GError **error);

/* Serves one peer after the other on rdma:HOST:PORT or tcp:HOST:PORT until the process ends.
 * @ready is told the URI with the real port. @ram_max: the most RAM that a peer may ask for.
 * Returns on an error only. */
void ferry_bench_link_listen(const char *uri, guint64 ram_max, void (*ready)(const char *uri),
			     GError **error);

/* Measures against the listener at @uri. @tell gets a line for each measurement; may be NULL. */
FerryBenchRecord *ferry_bench_link_measure(const char *uri, const FerryBenchLinkPlan *plan,
					   void (*tell)(const char *line), GError **error);
