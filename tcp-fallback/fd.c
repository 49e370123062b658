/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include "fd-channel.h"
#include "fd-util.h"
#include "one-shot.h"
#include "pages.h"
#include "socket.h"
#include "transports.h"

static const FerryChannelOps channel_ops = { FERRY_FD_CHANNEL_OPS("fd") };

/* What fd:N is good for. */
typedef struct {
	int fd;
	FerryFdKind kind;
	gboolean listening; /* a socket that accepts */
	int access;         /* O_RDONLY, O_WRONLY or O_RDWR */
} Given;

static gboolean refuse(GError **error, const char *uri, const char *why)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID, "%s: %s", uri, why);
	return FALSE;
}

static gboolean examine_socket(const char *uri, Given *given, GError **error)
{
	int type = 0;
	socklen_t len = sizeof(type);

	if (getsockopt(given->fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM)
		return refuse(error, uri, "the socket is not a stream");
	if (getsockopt(given->fd, SOL_SOCKET, SO_ACCEPTCONN, &given->listening, &len) < 0)
		return refuse(error, uri, g_strerror(errno));
	return TRUE;
}

static gboolean examine(const char *uri, Given *given, GError **error)
{
	struct stat file;
	guint64 number;
	int flags;

	if (!g_ascii_string_to_unsigned(ferry_uri_rest(uri), 10, 0, G_MAXINT, &number, NULL))
		return refuse(error, uri, "expected the number of a descriptor");
	flags = fcntl((int)number, F_GETFL);
	if (flags < 0)
		return refuse(error, uri, "no such descriptor is open in this process");
	given->fd = (int)number;
	if (flags & O_PATH || fstat(given->fd, &file) < 0)
		return refuse(error, uri, "neither to be read nor to be written");
	given->access = flags & O_ACCMODE;
	if (S_ISDIR(file.st_mode))
		return refuse(error, uri, "it is a directory");
	if (S_ISREG(file.st_mode) || S_ISBLK(file.st_mode))
		given->kind = FERRY_FD_FILE;
	else
		given->kind = S_ISSOCK(file.st_mode) ? FERRY_FD_SOCKET : FERRY_FD_PIPE;
	return given->kind != FERRY_FD_SOCKET || examine_socket(uri, given, error);
}

/* A socket goes both ways; anything else only the way that is asked for, also when it is open for
 * both. */
static FerryChannel *channel_for(const char *uri, const Given *given, gboolean to_read,
				 GError **error)
{
	gboolean both = given->kind == FERRY_FD_SOCKET;

	if (!both && given->access == (to_read ? O_WRONLY : O_RDONLY))
		return refuse(error, uri,
			      to_read ? "not open for reading" : "not open for writing"),
		       NULL;
	if (both)
		ferry_socket_tune(given->fd);
	return ferry_fd_channel_new(&channel_ops, given->kind, both || to_read ? given->fd : -1,
				    both || !to_read ? given->fd : -1, uri, error);
}

static FerryChannel *channel_to(const char *uri, Given *given, GError **error)
{
	if (!examine(uri, given, error))
		return NULL;
	if (given->listening)
		return refuse(error, uri, "the socket listens; a source needs a connected one"),
		       NULL;
	return channel_for(uri, given, FALSE, error);
}

/* The descriptor is the migration's, also where nothing can be made of it: nobody else knows it any
 * more if it came by getfd. */
static FerryChannel *fd_connect(const char *uri, guint timeout_ms, GCancellable *cancellable,
				GError **error)
{
	Given given = { .fd = -1 };
	FerryChannel *channel = channel_to(uri, &given, error);

	if (!channel)
		ferry_fd_close(given.fd);
	return channel;
}

static FerryListener *listen_on_given(const char *uri, const Given *given, GError **error)
{
	FerrySocketListener *l;
	int flags = fcntl(given->fd, F_GETFL);

	if (fcntl(given->fd, F_SETFD, FD_CLOEXEC) < 0 ||
	    fcntl(given->fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, uri, errno), NULL;
	l = ferry_socket_listener_new(&channel_ops);
	l->base.uri = g_strdup(uri);
	l->fds[l->n_fds++] = given->fd;
	return &l->base;
}

static FerryListener *fd_listen(const char *uri, GCancellable *cancellable, GError **error)
{
	FerryChannel *channel;
	Given given = { 0 };

	if (!examine(uri, &given, error))
		return NULL;
	if (given.listening)
		return listen_on_given(uri, &given, error);
	channel = channel_for(uri, &given, TRUE, error);
	return channel ? ferry_one_shot_listener_new(uri, channel, -1) : NULL;
}

const FerryTransport ferry_fd_transport = {
	.scheme = "fd",
	.connect = fd_connect,
	.listen = fd_listen,
};
