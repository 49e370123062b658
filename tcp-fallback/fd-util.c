/* SPDX-License-Identifier: BSD-2-Clause */
#include "fd-util.h"

#include <errno.h>
#include <string.h>
#include <ferry/error.h>

static int milliseconds_until(gint64 deadline)
{
	gint64 left = deadline - g_get_monotonic_time();

	if (deadline < 0)
		return -1;
	/* Rounded up: a poll that ends before the deadline would only spin. */
	return left <= 0 ? 0 : (int)MIN((left + 999) / 1000, G_MAXINT);
}

int ferry_fd_poll(struct pollfd *fds, guint n, gint64 deadline, GCancellable *cancellable,
		  const char *what, GError **error)
{
	GPollFD cancel = { .fd = -1 };
	gboolean watched = g_cancellable_make_pollfd(cancellable, &cancel);
	int ready;

	if (cancellable && !watched)
		return ferry_fd_failed(error, FERRY_ERROR_IO, what, EMFILE), -1;
	fds[n] = (struct pollfd){ .fd = cancel.fd, .events = POLLIN };
	do {
		for (guint i = 0; i <= n; i++)
			fds[i].revents = 0;
		ready = poll(fds, n + 1, milliseconds_until(deadline));
	} while (ready < 0 && errno == EINTR);
	if (watched)
		g_cancellable_release_fd(cancellable);
	if (cancellable && g_cancellable_is_cancelled(cancellable)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED, "%s: cancelled", what);
		return -1;
	}
	if (ready < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, what, errno), -1;
	return ready;
}

gboolean ferry_fd_failed(GError **error, int code, const char *what, int error_number)
{
	g_set_error(error, FERRY_ERROR, code, "%s: %s", what, g_strerror(error_number));
	return FALSE;
}

const char *ferry_uri_rest(const char *uri)
{
	const char *colon = strchr(uri, ':');

	return colon ? colon + 1 : uri;
}
