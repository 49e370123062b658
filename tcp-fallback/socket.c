/* SPDX-License-Identifier: BSD-2-Clause */
#include "socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/un.h>
#include "fd-channel.h"
#include "fd-util.h"

/*
 * A dead host shows after this long, by unacknowledged data and by keepalive probes. Not less: with
 * TCP_USER_TIMEOUT the kernel also cuts off a living peer that keeps its window shut for as long,
 * and a destination may not read for a while (registering memory, loading devices, an operator's
 * debugger). The engine's heartbeat is the quick detector.
 */
#define SILENCE_S 60
#define KEEPALIVE_IDLE_S 15
#define KEEPALIVE_INTERVAL_S 5

/* A unix: socket does not tune its buffer by itself; the default lets 200 KiB out at a time. */
#define UNIX_BUFFER (1 << 20)

/* At each end, and the kernel doubles it. So little that a page never waits behind more than a few
 * runs of 64; with half of it such a run would take twice as long, with twice as much no less. */
#define URGENT_BUFFER (128 << 10)

#define UNIX_BACKLOG_RETRY_US 5000

char *ferry_address_to_string(const FerryAddress *address)
{
	g_autoptr(GSocketAddress) native = g_socket_address_new_from_native(
		(gpointer)&address->storage, address->len);
	const char *path = ((const struct sockaddr_un *)&address->storage)->sun_path;

	if (address->storage.ss_family == AF_UNIX)
		return g_strdup(address->len > sizeof(sa_family_t) && path[0] ? path : "(unnamed)");
	if (!native)
		return g_strdup("(unknown)");
	return g_socket_connectable_to_string(G_SOCKET_CONNECTABLE(native));
}

static void set_option(int fd, int level, int name, int value)
{
	/* None is needed for correctness. */
	(void)!setsockopt(fd, level, name, &value, sizeof(value));
}

void ferry_socket_tune(int fd)
{
	struct sockaddr_storage self = { 0 };
	socklen_t len = sizeof(self);

	if (getsockname(fd, (struct sockaddr *)&self, &len) < 0)
		return;
	if (self.ss_family == AF_UNIX) {
		set_option(fd, SOL_SOCKET, SO_SNDBUF, UNIX_BUFFER);
	} else if (self.ss_family == AF_INET || self.ss_family == AF_INET6) {
		set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
		set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
		set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
		set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
		set_option(fd, IPPROTO_TCP, TCP_KEEPCNT,
			   (SILENCE_S - KEEPALIVE_IDLE_S) / KEEPALIVE_INTERVAL_S);
		set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, SILENCE_S * 1000);
	}
}

void ferry_socket_tune_urgent(int fd)
{
	set_option(fd, SOL_SOCKET, SO_SNDBUF, URGENT_BUFFER);
	set_option(fd, SOL_SOCKET, SO_RCVBUF, URGENT_BUFFER);
}

/* Waits for the outcome of a connect() that has begun; 0 or an errno. -1 with @error: cancelled. */
static int connect_outcome(int fd, gint64 deadline, GCancellable *cancellable, const char *name,
			   GError **error)
{
	struct pollfd fds[2] = { { .fd = fd, .events = POLLOUT } };
	int outcome = 0, ready = ferry_fd_poll(fds, 1, deadline, cancellable, name, error);
	socklen_t len = sizeof(outcome);

	if (ready < 0)
		return -1;
	if (ready == 0)
		return ETIMEDOUT;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &outcome, &len) < 0 ? errno : outcome;
}

/* A unix: listener's backlog is full, and nothing tells when it no longer is. As connect_outcome().
 */
static int wait_for_backlog(gint64 deadline, GCancellable *cancellable, const char *name,
			    GError **error)
{
	gint64 next = g_get_monotonic_time() + UNIX_BACKLOG_RETRY_US;
	struct pollfd none[1];

	if (next > deadline)
		return ETIMEDOUT;
	return ferry_fd_poll(none, 0, next, cancellable, name, error);
}

int ferry_socket_connect(const FerryAddress *address, gint64 deadline, GCancellable *cancellable,
			 GError **error)
{
	int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
	g_auto(FerryFd) fd = socket(address->storage.ss_family, type, 0);
	g_autofree char *name = ferry_address_to_string(address);
	int outcome = fd < 0 ? errno : EAGAIN;

	while (outcome == EAGAIN) {
		outcome = connect(fd, (gpointer)&address->storage, address->len) < 0 ? errno : 0;
		if (outcome == EINPROGRESS)
			outcome = connect_outcome(fd, deadline, cancellable, name, error);
		else if (outcome == EAGAIN)
			outcome = wait_for_backlog(deadline, cancellable, name, error) ?: EAGAIN;
	}
	if (outcome > 0)
		ferry_fd_failed(error, FERRY_ERROR_LINK, name, outcome);
	if (outcome)
		return -1;
	ferry_socket_tune(fd);
	return ferry_fd_steal(&fd);
}

static FerryChannel *accepted(FerrySocketListener *l, int connected, const FerryAddress *peer,
			      GError **error)
{
	g_auto(FerryFd) fd = connected;
	g_autofree char *address = ferry_address_to_string(peer), *name = NULL;
	FerryChannel *channel;

	ferry_socket_tune(fd);
	/* The far end of a unix: socket has no name as a rule: then ours says more. */
	name = peer->storage.ss_family == AF_UNIX
		       ? g_strdup(l->base.uri)
		       : g_strdup_printf("%s:%s", l->channel_ops->name, address);
	channel = ferry_fd_channel_new(l->channel_ops, FERRY_FD_SOCKET, fd, fd, name, error);
	if (channel)
		ferry_fd_steal(&fd);
	return channel;
}

/* The connection may be gone again between poll() and accept(). */
static gboolean is_passing(int error_number)
{
	return error_number == EAGAIN || error_number == ECONNABORTED || error_number == EINTR;
}

static FerryChannel *socket_accept(FerryListener *listener, GCancellable *cancellable,
				   GError **error)
{
	FerrySocketListener *l = (FerrySocketListener *)listener;
	struct pollfd fds[FERRY_LISTEN_MAX + 1];

	for (;;) {
		for (guint i = 0; i < l->n_fds; i++)
			fds[i] = (struct pollfd){ .fd = l->fds[i], .events = POLLIN };
		if (ferry_fd_poll(fds, l->n_fds, -1, cancellable, listener->uri, error) < 0)
			return NULL;
		for (guint i = 0; i < l->n_fds; i++) {
			FerryAddress peer = { .len = sizeof(peer.storage) };
			int fd;

			if (!fds[i].revents)
				continue;
			fd = accept4(fds[i].fd, (gpointer)&peer.storage, &peer.len, SOCK_CLOEXEC);
			if (fd >= 0)
				return accepted(l, fd, &peer, error);
			if (!is_passing(errno))
				return ferry_fd_failed(error, FERRY_ERROR_IO, listener->uri, errno),
				       NULL;
		}
	}
}

static void socket_listener_close(FerryListener *listener)
{
	FerrySocketListener *l = (FerrySocketListener *)listener;
	struct stat now;

	ferry_fabric_close(listener->fabric);
	ferry_fabric_close(listener->multifd);
	/* Another process may have put its own there meanwhile. */
	if (l->path && lstat(l->path, &now) == 0 && now.st_dev == l->file.st_dev &&
	    now.st_ino == l->file.st_ino)
		unlink(l->path);
	for (guint i = 0; i < l->n_fds; i++)
		close(l->fds[i]);
	g_free(l->path);
	g_free(l->base.uri);
	g_free(l);
}

static const FerryListenerOps socket_listener_ops = {
	.accept = socket_accept,
	.close = socket_listener_close,
};

FerrySocketListener *ferry_socket_listener_new(const FerryChannelOps *channel_ops)
{
	FerrySocketListener *l = g_new0(FerrySocketListener, 1);

	l->base = (FerryListener){ .ops = &socket_listener_ops, .again = TRUE };
	l->channel_ops = channel_ops;
	return l;
}
