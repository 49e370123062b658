/* SPDX-License-Identifier: BSD-2-Clause */
#include "raw-tcp.h"

#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>
#include <ferry/bytes.h>
#include <ferry/error.h>

struct FerryBenchTcpServer {
	guint connections;
	int listener;
	GThread *acceptor;
	GMutex lock;
	/* under the lock */
	gboolean ending;
	guint n;
	int fds[FERRY_BENCH_TCP_CONNECTIONS];
	/* the acceptor's until it is joined */
	guint n_threads;
	GThread *threads[FERRY_BENCH_TCP_CONNECTIONS];
};

gboolean ferry_bench_tcp_failed(GError **error, const char *call)
{
	int why = errno;

	g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK, "raw sockets: %s: %s", call,
		    g_strerror(why));
	return FALSE;
}

/* Until the other side ends, and then says how much came. */
static gpointer receive_all(gpointer user)
{
	int fd = GPOINTER_TO_INT(user);
	g_autofree guint8 *buffer = g_malloc(FERRY_BENCH_TCP_BUFFER);
	guint8 count[FERRY_BENCH_TCP_COUNT];
	guint64 all = 0;
	gssize n;

	do {
		n = recv(fd, buffer, FERRY_BENCH_TCP_BUFFER, 0);
		all += MAX(n, 0);
	} while (n > 0 || (n < 0 && errno == EINTR));
	ferry_store_be64(count, all);
	if (n == 0 && send(fd, count, sizeof(count), MSG_NOSIGNAL) != sizeof(count))
		g_printerr("ferry bench: raw sockets: send: %s\n", g_strerror(errno));
	return NULL;
}

/* FALSE: the server ends, and @fd is closed. */
static gboolean keep(FerryBenchTcpServer *server, int fd)
{
	gboolean ending;

	g_mutex_lock(&server->lock);
	ending = server->ending;
	if (!ending)
		server->fds[server->n++] = fd;
	g_mutex_unlock(&server->lock);
	if (ending)
		close(fd);
	return !ending;
}

static gpointer accept_all(gpointer user)
{
	FerryBenchTcpServer *server = user;

	while (server->n_threads < server->connections) {
		int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0 || !keep(server, fd))
			return NULL;
		server->threads[server->n_threads++] = g_thread_new("bench-receive", receive_all,
								    GINT_TO_POINTER(fd));
	}
	return NULL;
}

FerryBenchTcpServer *ferry_bench_tcp_server_new(const struct sockaddr *local, guint connections,
						guint16 *port, GError **error)
{
	g_autoptr(FerryBenchTcpServer) server = g_new0(FerryBenchTcpServer, 1);
	socklen_t len = ferry_bench_tcp_address_len(local);
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} at;

	g_mutex_init(&server->lock);
	server->connections = MIN(connections, FERRY_BENCH_TCP_CONNECTIONS);
	server->listener = socket(local->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (server->listener < 0)
		return ferry_bench_tcp_failed(error, "socket"), NULL;
	memcpy(&at, local, len);
	at.v4.sin_port = 0; /* where that of IPv6 is, too */
	if (bind(server->listener, &at.any, len))
		return ferry_bench_tcp_failed(error, "bind"), NULL;
	if (listen(server->listener, (int)connections))
		return ferry_bench_tcp_failed(error, "listen"), NULL;
	if (getsockname(server->listener, &at.any, &len))
		return ferry_bench_tcp_failed(error, "getsockname"), NULL;
	*port = g_ntohs(at.v4.sin_port);
	server->acceptor = g_thread_new("bench-accept", accept_all, server);
	return g_steal_pointer(&server);
}

void ferry_bench_tcp_server_free(FerryBenchTcpServer *server)
{
	g_mutex_lock(&server->lock);
	server->ending = TRUE;
	if (server->listener >= 0)
		shutdown(server->listener, SHUT_RDWR);
	for (guint i = 0; i < server->n; i++)
		shutdown(server->fds[i], SHUT_RDWR);
	g_mutex_unlock(&server->lock);
	if (server->acceptor)
		g_thread_join(server->acceptor);
	for (guint i = 0; i < server->n_threads; i++)
		g_thread_join(server->threads[i]);
	for (guint i = 0; i < server->n; i++)
		close(server->fds[i]);
	if (server->listener >= 0)
		close(server->listener);
	g_mutex_clear(&server->lock);
	g_free(server);
}
