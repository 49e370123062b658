/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <gio/gio.h>
#include <poll.h>
#include <unistd.h>

/* A descriptor that is closed when it goes out of scope: g_auto(FerryFd) fd = open(...). */
typedef int FerryFd;

static inline void ferry_fd_close(int fd)
{
	if (fd >= 0)
		close(fd);
}
G_DEFINE_AUTO_CLEANUP_FREE_FUNC(FerryFd, ferry_fd_close, -1)

/* Hands the descriptor over to the caller. */
static inline int ferry_fd_steal(FerryFd *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

/*
 * Polls @fds until one is ready, @deadline (g_get_monotonic_time(), -1: never) passed, or
 * @cancellable (or NULL) is cancelled. @fds has room for one more entry than @n. Returns how many
 * of the @n are ready, 0 at the deadline, -1 with FERRY_ERROR_CANCELLED, whose message begins with
 * @what.
 */
int ferry_fd_poll(struct pollfd *fds, guint n, gint64 deadline, GCancellable *cancellable,
		  const char *what, GError **error);

/* Sets @error to "WHAT: the system's reason for @error_number". Returns FALSE. */
gboolean ferry_fd_failed(GError **error, int code, const char *what, int error_number);

/* The part of @uri after its scheme's colon; the scheme has been checked by whoever chose the
 * transport. */
const char *ferry_uri_rest(const char *uri);
