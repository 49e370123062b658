/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <gio/gio.h>

/* ib_write_bw of perftest, as a process of ours that ends with this one. */
typedef struct {
	guint queue_pairs;
	guint64 size;  /* bytes of a write */
	guint64 count; /* writes on each queue pair */
	guint limit_s; /* of the client, seconds */
	/* this side's address: its RDMA port is found by it */
	GSocketAddress *local;
} FerryBenchPerftest;

/* Starts the server on a free port, and returns when it listens there. */
GSubprocess *ferry_bench_perftest_serve(const FerryBenchPerftest *perftest, guint16 *port,
					GError **error);

/* Runs the client against @peer's server on @port; *@rate is bytes a second, the average. */
gboolean ferry_bench_perftest_measure(const FerryBenchPerftest *perftest, GSocketAddress *peer,
				      guint16 port, double *rate, GError **error);

/* The average of a table that ib_write_bw printed, bytes a second; 0 where there is none. */
double ferry_bench_perftest_parse(const char *output);
