/* SPDX-License-Identifier: BSD-2-Clause */
#include "streams.h"

#include <errno.h>
#include <string.h>
#include "fd-channel.h"
#include "fd-util.h"

static const FerryChannelOps channel_ops = { FERRY_FD_CHANNEL_OPS("tcp") };

static FerryChannel *connect_one(const char *uri, const FerryStreamsGreeting *greeting,
				 gint64 deadline, GCancellable *cancellable, GError **error)
{
	guint8 bytes[FERRY_STREAMS_GREETING_SIZE];
	g_auto(FerryFd) fd = ferry_socket_connect_uri(uri, deadline, cancellable, error);
	FerryChannel *channel;

	if (fd < 0)
		return NULL;
	ferry_streams_put_greeting(bytes, greeting);
	/* The first bytes of a connection always find room. */
	if (send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(bytes))
		return ferry_fd_failed(error, FERRY_ERROR_LINK, uri, errno), NULL;
	channel = ferry_fd_channel_new(&channel_ops, FERRY_FD_SOCKET, fd, fd, uri, error);
	if (channel)
		ferry_fd_steal(&fd);
	return channel;
}

static gboolean not_taken(const char *uri, const char *why, GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
		    "%s: the destination did not take the connection: %s", uri, why);
	return FALSE;
}

/* Reads the greeting that comes back. */
static gboolean await_greeting(FerryChannel *channel, const char *uri,
			       const FerryStreamsGreeting *greeting, gint64 deadline,
			       GCancellable *cancellable, GError **error)
{
	guint8 bytes[FERRY_STREAMS_GREETING_SIZE], expected[sizeof(bytes)];
	int fd = ((FerryFdChannel *)channel)->in;

	for (size_t done = 0; done < sizeof(bytes);) {
		struct pollfd fds[2] = { { .fd = fd, .events = POLLIN } };
		int ready = ferry_fd_poll(fds, 1, deadline, cancellable, uri, error);
		gssize n;

		if (ready < 0)
			return FALSE;
		if (!ready)
			return not_taken(uri, "no answer in time", error);
		n = recv(fd, bytes + done, sizeof(bytes) - done, MSG_DONTWAIT);
		if (n == 0)
			return not_taken(uri, "it closed it", error);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return not_taken(uri, g_strerror(errno), error);
		done += (size_t)MAX(n, 0);
	}
	ferry_streams_put_greeting(expected, greeting);
	return !memcmp(bytes, expected, sizeof(bytes)) ||
	       not_taken(uri, "something else answers there", error);
}

gboolean ferry_streams_connect(const char *uri, const guint8 *nonce, guint n, gint64 deadline,
			       GCancellable *cancellable, FerryChannel **channels, GError **error)
{
	FerryStreamsGreeting greeting;
	gboolean ok = TRUE;

	memset(channels, 0, n * sizeof(*channels));
	memcpy(greeting.nonce, nonce, FERRY_NONCE_SIZE);
	for (greeting.index = 0; ok && greeting.index < n; greeting.index++) {
		FerryChannel *channel = connect_one(uri, &greeting, deadline, cancellable, error);

		channels[greeting.index] = channel;
		ok = channel != NULL;
	}
	for (greeting.index = 0; ok && greeting.index < n; greeting.index++)
		ok = await_greeting(channels[greeting.index], uri, &greeting, deadline, cancellable,
				    error);
	for (guint i = 0; !ok && i < n; i++)
		g_clear_pointer(&channels[i], ferry_channel_close);
	return ok;
}
