/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>
#include <sys/socket.h>

/*
 * The raw ceiling: RDMA writes from a buffer of one process into one of another, over reliable
 * connections made by rdma_cm, event driven, and nothing else. It knows nothing of the carrier in
 * rdma/, on purpose: what both would get wrong in common no comparison would show.
 */
typedef struct {
	guint queue_pairs;
	guint64 size; /* bytes of a write */
	guint depth;  /* writes in flight on each queue pair */
} FerryBenchRawShape;

/* Bytes of the buffer on each side. */
static inline guint64 ferry_bench_raw_bytes(const FerryBenchRawShape *shape)
{
	return shape->queue_pairs * shape->size * shape->depth;
}

/* ---- raw-serve.c: the side that is written to ---- */

typedef struct FerryBenchRawServer FerryBenchRawServer;

/* Listens on the address of @local; *@port is the one that was free. */
FerryBenchRawServer *ferry_bench_raw_server_new(const struct sockaddr *local,
						const FerryBenchRawShape *shape, guint16 *port,
						GError **error);
/* Accepts what connects, until @until is readable. */
gboolean ferry_bench_raw_server_run(FerryBenchRawServer *server, int until, GError **error);
void ferry_bench_raw_server_free(FerryBenchRawServer *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryBenchRawServer, ferry_bench_raw_server_free)

/* ---- raw-link.c: the side that writes ---- */

/* Connects from @local to @peer, writes for @seconds and disconnects; *@rate is bytes a second. */
gboolean ferry_bench_raw_measure(const struct sockaddr *local, const struct sockaddr *peer,
				 const FerryBenchRawShape *shape, double seconds, double *rate,
				 GError **error);
