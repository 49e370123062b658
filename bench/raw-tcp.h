/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>
#include <sys/socket.h>

/*
 * The raw ceiling of sockets: a thread for each TCP connection that sends one hot buffer, and one
 * that receives into another, and nothing else. It knows nothing of the carriers in tcp-fallback/,
 * on purpose: what both would get wrong in common no comparison would show.
 */

/* ---- raw-tcp-serve.c: the side that receives ---- */

typedef struct FerryBenchTcpServer FerryBenchTcpServer;

/* Listens on the address of @local, and serves @connections in threads of its own; *@port is the
 * one that was free. */
FerryBenchTcpServer *ferry_bench_tcp_server_new(const struct sockaddr *local, guint connections,
						guint16 *port, GError **error);
/* Ends what is under way. */
void ferry_bench_tcp_server_free(FerryBenchTcpServer *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryBenchTcpServer, ferry_bench_tcp_server_free)

/* ---- raw-tcp.c: the side that sends ---- */

/* Connects to @peer, and sends for @seconds; *@rate is bytes a second, until the other side has
 * said of each connection that it received all of it. */
gboolean ferry_bench_tcp_measure(const struct sockaddr *peer, guint connections, double seconds,
				 double *rate, GError **error);

/* Fails with what @call said in errno; always FALSE. */
gboolean ferry_bench_tcp_failed(GError **error, const char *call);

static inline socklen_t ferry_bench_tcp_address_len(const struct sockaddr *address)
{
	return address->sa_family == AF_INET6 ? 28 : 16;
}

#define FERRY_BENCH_TCP_BUFFER (256u << 10) /* bytes of a send, and of a receive at most */
#define FERRY_BENCH_TCP_CONNECTIONS 16u
#define FERRY_BENCH_TCP_COUNT                                                                      \
	8u /* bytes: what was received, big-endian, when the other side ends */
