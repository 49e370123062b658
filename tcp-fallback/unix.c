/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>
#include <sys/un.h>
#include "fd-channel.h"
#include "fd-util.h"
#include "multifd.h"
#include "pages.h"
#include "socket.h"
#include "transports.h"

#define BACKLOG 16

static const FerryChannelOps channel_ops = { FERRY_FD_CHANNEL_OPS("unix") };

static gboolean parse_path(const char *uri, FerryAddress *address, GError **error)
{
	const char *path = ferry_uri_rest(uri);
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	if (!*path || strlen(path) >= sizeof(un.sun_path)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "%s: the path has %zu bytes; a socket's may have 1 to %zu", uri,
			    strlen(path), sizeof(un.sun_path) - 1);
		return FALSE;
	}
	strcpy(un.sun_path, path);
	memcpy(&address->storage, &un, sizeof(un));
	address->len = sizeof(un);
	return TRUE;
}

static FerryChannel *unix_connect(const char *uri, guint timeout_ms, GCancellable *cancellable,
				  GError **error)
{
	gint64 deadline = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
	g_auto(FerryFd) fd = -1;
	FerryAddress address = { 0 };
	FerryChannel *channel;

	if (!parse_path(uri, &address, error))
		return NULL;
	fd = ferry_socket_connect(&address, deadline, cancellable, error);
	if (fd < 0) {
		g_prefix_error(error, "no connection: unix:");
		return NULL;
	}
	channel = ferry_fd_channel_new(&channel_ops, FERRY_FD_SOCKET, fd, fd, uri, error);
	if (channel)
		ferry_fd_steal(&fd);
	return channel;
}

/* Removes the socket file of a process that is gone; FALSE if it is not one or somebody answers. */
static gboolean remove_stale(const FerryAddress *address, const char *uri, GError **error)
{
	const char *path = ferry_uri_rest(uri);
	g_auto(FerryFd) probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat file;

	if (lstat(path, &file) == 0 && !S_ISSOCK(file.st_mode)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO,
			    "%s: the path exists and is not a socket; remove it or choose another",
			    uri);
		return FALSE;
	}
	/* A full backlog (EAGAIN) is an answer too. */
	if (connect(probe, (gpointer)&address->storage, address->len) < 0 && errno == ECONNREFUSED)
		return unlink(path) == 0 || errno == ENOENT ||
		       ferry_fd_failed(error, FERRY_ERROR_IO, uri, errno);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO,
		    "%s: another process listens on this socket", uri);
	return FALSE;
}

static gboolean bind_path(int fd, const FerryAddress *address, const char *uri, GError **error)
{
	int outcome = bind(fd, (gpointer)&address->storage, address->len) < 0 ? errno : 0;

	if (outcome == EADDRINUSE) {
		if (!remove_stale(address, uri, error))
			return FALSE;
		outcome = bind(fd, (gpointer)&address->storage, address->len) < 0 ? errno : 0;
	}
	return !outcome || ferry_fd_failed(error, FERRY_ERROR_IO, uri, outcome);
}

static FerryListener *unix_listen(const char *uri, GCancellable *cancellable, GError **error)
{
	FerrySocketListener *l = ferry_socket_listener_new(&channel_ops);
	g_autoptr(FerryListener) listener = &l->base;
	const char *path = ferry_uri_rest(uri);
	FerryAddress address = { 0 };
	int fd;

	if (!parse_path(uri, &address, error))
		return NULL;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, uri, errno), NULL;
	l->fds[l->n_fds++] = fd;
	if (!bind_path(fd, &address, uri, error))
		return NULL;
	if (lstat(path, &l->file) == 0)
		l->path = g_strdup(path);
	if (listen(fd, BACKLOG) < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, uri, errno), NULL;
	l->base.uri = g_strdup(uri);
	l->base.multifd = ferry_multifd_destination_fabric_new(l);
	return g_steal_pointer(&listener);
}

static FerryFabric *unix_multifd(const char *uri)
{
	return ferry_multifd_source_fabric_new(&ferry_unix_transport, uri);
}

const FerryTransport ferry_unix_transport = {
	.scheme = "unix",
	.names_place = TRUE,
	.connect = unix_connect,
	.multifd = unix_multifd,
	.listen = unix_listen,
};
