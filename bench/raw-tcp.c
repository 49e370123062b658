/* SPDX-License-Identifier: BSD-2-Clause */
#include "raw-tcp.h"

#include <errno.h>
#include <sys/time.h>
#include <unistd.h>
#include <ferry/bytes.h>
#include <ferry/error.h>

#define SILENCE_S 10 /* that the other side may neither take nor say anything */

/* A connection, its thread's until it is joined. */
typedef struct {
	int fd;
	gint64 until; /* monotonic us */
	GThread *thread;
	guint64 sent; /* and received, by the other side's word */
	GError *error;
} Sender;

typedef struct {
	guint n;
	Sender senders[FERRY_BENCH_TCP_CONNECTIONS];
} Senders;

static void senders_clear(Senders *senders)
{
	for (guint i = 0; i < senders->n; i++) {
		if (senders->senders[i].thread)
			g_thread_join(senders->senders[i].thread);
		g_clear_error(&senders->senders[i].error);
		close(senders->senders[i].fd);
	}
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Senders, senders_clear)

static gboolean send_hot(Sender *sender, const guint8 *buffer)
{
	while (g_get_monotonic_time() < sender->until) {
		gssize n = send(sender->fd, buffer, FERRY_BENCH_TCP_BUFFER, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return ferry_bench_tcp_failed(&sender->error, "send");
		sender->sent += MAX(n, 0);
	}
	return !shutdown(sender->fd, SHUT_WR) || ferry_bench_tcp_failed(&sender->error, "shutdown");
}

static void take_count(Sender *sender)
{
	guint8 count[FERRY_BENCH_TCP_COUNT];
	gssize n = recv(sender->fd, count, sizeof(count), MSG_WAITALL);

	if (n < 0)
		ferry_bench_tcp_failed(&sender->error, "recv");
	else if (n != sizeof(count) || ferry_load_be64(count) != sender->sent)
		g_set_error(&sender->error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "raw sockets: %" G_GUINT64_FORMAT
			    " bytes were sent, and the listener did not receive them all",
			    sender->sent);
}

static gpointer send_all(gpointer user)
{
	g_autofree guint8 *buffer = g_malloc(FERRY_BENCH_TCP_BUFFER);
	Sender *sender = user;

	memset(buffer, 0xa5, FERRY_BENCH_TCP_BUFFER);
	if (send_hot(sender, buffer))
		take_count(sender);
	return NULL;
}

static gboolean connect_one(Senders *senders, const struct sockaddr *peer, GError **error)
{
	const struct timeval silence = { .tv_sec = SILENCE_S };
	int fd = socket(peer->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return ferry_bench_tcp_failed(error, "socket");
	senders->senders[senders->n++] = (Sender){ .fd = fd };
	/* The first one bounds connect(), too. */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof(silence)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence)))
		return ferry_bench_tcp_failed(error, "setsockopt");
	return !connect(fd, peer, ferry_bench_tcp_address_len(peer)) ||
	       ferry_bench_tcp_failed(error, "connect");
}

gboolean ferry_bench_tcp_measure(const struct sockaddr *peer, guint connections, double seconds,
				 double *rate, GError **error)
{
	g_auto(Senders) senders = { 0 };
	guint64 bytes = 0;
	gint64 begin;

	for (guint i = 0; i < MIN(connections, FERRY_BENCH_TCP_CONNECTIONS); i++)
		if (!connect_one(&senders, peer, error))
			return FALSE;
	begin = g_get_monotonic_time();
	for (guint i = 0; i < senders.n; i++) {
		Sender *sender = &senders.senders[i];

		sender->until = begin + (gint64)(seconds * G_TIME_SPAN_SECOND);
		sender->thread = g_thread_new("bench-send", send_all, sender);
	}
	for (guint i = 0; i < senders.n; i++) {
		Sender *sender = &senders.senders[i];

		g_thread_join(g_steal_pointer(&sender->thread));
		if (sender->error)
			return g_propagate_error(error, g_steal_pointer(&sender->error)), FALSE;
		bytes += sender->sent;
	}
	*rate = (double)bytes * G_TIME_SPAN_SECOND / MAX(g_get_monotonic_time() - begin, 1);
	return TRUE;
}
