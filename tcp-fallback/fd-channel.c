/* SPDX-License-Identifier: BSD-2-Clause */
#include "fd-channel.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include "fd-util.h"

static gboolean prepare_fd(int fd, FerryFdKind kind, const char *peer, GError **error)
{
	int flags;

	if (fd < 0)
		return TRUE;
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, peer, errno);
	if (kind != FERRY_FD_PIPE)
		return TRUE;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, peer, errno);
	return TRUE;
}

gboolean ferry_fd_channel_init(FerryFdChannel *c, const FerryChannelOps *ops, FerryFdKind kind,
			       int in, int out, const char *peer, GError **error)
{
	g_auto(FerryFd) cancel = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (cancel < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, peer, errno);
	if (!prepare_fd(in, kind, peer, error) || !prepare_fd(out, kind, peer, error))
		return FALSE;
	*c = (FerryFdChannel){
		.base = { .ops = ops, .duplex = in >= 0 && out >= 0 },
		.kind = kind,
		.in = in,
		.out = out,
		.cancel = ferry_fd_steal(&cancel),
		.peer = g_strdup(peer),
	};
	return TRUE;
}

FerryChannel *ferry_fd_channel_new(const FerryChannelOps *ops, FerryFdKind kind, int in, int out,
				   const char *peer, GError **error)
{
	g_autofree FerryFdChannel *c = g_new0(FerryFdChannel, 1);

	if (!ferry_fd_channel_init(c, ops, kind, in, out, peer, error))
		return NULL;
	return &g_steal_pointer(&c)->base;
}

void ferry_fd_channel_clear(FerryFdChannel *c)
{
	/* Bytes that the peer sent and nobody read would turn the close into a reset, and a reset
	 * throws away what is still on its way to the peer. */
	if (c->kind == FERRY_FD_SOCKET && c->finished)
		while (recv(c->in, NULL, 1 << 20, MSG_TRUNC | MSG_DONTWAIT) > 0)
			continue;
	ferry_fd_close(c->in);
	if (c->out != c->in)
		ferry_fd_close(c->out);
	ferry_fd_close(c->cancel);
	g_clear_pointer(&c->peer, g_free);
}

gboolean ferry_fd_channel_is_shut(FerryFdChannel *c, GError **error)
{
	if (!g_atomic_int_get(&c->shut))
		return FALSE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED, "%s: the channel was shut down",
		    c->peer);
	return TRUE;
}

void ferry_fd_channel_wait(FerryFdChannel *c, int fd, short events, gint64 timeout_us)
{
	struct pollfd fds[] = { { .fd = fd, .events = events },
				{ .fd = c->cancel, .events = POLLIN } };
	struct timespec timeout = { timeout_us / G_USEC_PER_SEC,
				    timeout_us % G_USEC_PER_SEC * 1000 };

	ppoll(fds, G_N_ELEMENTS(fds), timeout_us < 0 ? NULL : &timeout, NULL);
}

/* Returns -1 with @error for the errno of a read or write. */
static gssize failed(FerryFdChannel *c, const char *what, int error_number, GError **error)
{
	gboolean is_link = c->kind == FERRY_FD_SOCKET || error_number == EPIPE;
	const char *hint = "";

	if (error_number == ETIMEDOUT)
		hint = "; the peer's host or the network between has gone silent";
	else if (error_number == EFBIG)
		hint = "; raise the limit on the size of files (RLIMIT_FSIZE)";
	else if (error_number == ECONNRESET || error_number == EPIPE)
		hint = "; the peer has closed, its own log says why";
	g_set_error(error, FERRY_ERROR, is_link ? FERRY_ERROR_LINK : FERRY_ERROR_IO,
		    "%s: cannot %s: %s%s", c->peer, what, g_strerror(error_number), hint);
	return -1;
}

static gssize wrong_way(FerryFdChannel *c, const char *what, GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
		    "%s: cannot %s: the channel goes one way", c->peer, what);
	return -1;
}

static gssize read_now(FerryFdChannel *c, const struct iovec *iov, int n)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = n };

	return c->kind == FERRY_FD_SOCKET ? recvmsg(c->in, &msg, MSG_DONTWAIT)
					  : readv(c->in, iov, n);
}

gssize ferry_fd_channel_read(FerryChannel *channel, const struct iovec *iov, int n, GError **error)
{
	FerryFdChannel *c = (FerryFdChannel *)channel;

	if (c->in < 0)
		return wrong_way(c, "read", error);
	for (;;) {
		gssize got;
		int error_number;

		if (ferry_fd_channel_is_shut(c, error))
			return -1;
		got = read_now(c, iov, MIN(n, IOV_MAX));
		error_number = errno;
		if (got > 0)
			return got;
		/* A socket that was shut down meanwhile looks like one whose peer closed. */
		if (ferry_fd_channel_is_shut(c, error))
			return -1;
		if (got == 0)
			return 0;
		if (error_number == EAGAIN)
			ferry_fd_channel_wait(c, c->in, POLLIN, -1);
		else if (error_number != EINTR)
			return failed(c, "read", error_number, error);
	}
}

/*
 * writev() that cannot raise SIGPIPE, nor SIGXFSZ beyond RLIMIT_FSIZE: only sockets have a flag for
 * that. Blocking it in this thread and taking it back leaves the embedder's handler and the other
 * threads alone.
 */
static gssize write_quietly(int fd, int signal_number, int error_of_it, const struct iovec *iov,
			    int n)
{
	const struct timespec at_once = { 0 };
	sigset_t mask, old, pending;
	gssize done;
	int error_number;

	sigemptyset(&mask);
	sigaddset(&mask, signal_number);
	sigemptyset(&pending);
	sigpending(&pending);
	pthread_sigmask(SIG_BLOCK, &mask, &old);
	done = writev(fd, iov, n);
	error_number = errno;
	if (done < 0 && error_number == error_of_it && !sigismember(&pending, signal_number))
		while (sigtimedwait(&mask, NULL, &at_once) < 0 && errno == EINTR)
			continue;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	errno = error_number;
	return done;
}

static gssize write_now(FerryFdChannel *c, const struct iovec *iov, int n)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = n };

	if (c->kind == FERRY_FD_SOCKET)
		return sendmsg(c->out, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	return c->kind == FERRY_FD_PIPE ? write_quietly(c->out, SIGPIPE, EPIPE, iov, n)
					: write_quietly(c->out, SIGXFSZ, EFBIG, iov, n);
}

gssize ferry_fd_channel_try_write(FerryChannel *channel, const struct iovec *iov, int n,
				  GError **error)
{
	FerryFdChannel *c = (FerryFdChannel *)channel;
	gssize done;
	int error_number;

	if (c->out < 0)
		return wrong_way(c, "write", error);
	do {
		if (ferry_fd_channel_is_shut(c, error))
			return -1;
		done = write_now(c, iov, MIN(n, IOV_MAX));
		error_number = errno;
	} while (done < 0 && error_number == EINTR);
	if (done >= 0)
		return done;
	if (ferry_fd_channel_is_shut(c, error))
		return -1;
	return error_number == EAGAIN ? 0 : failed(c, "write", error_number, error);
}

gssize ferry_fd_channel_write(FerryChannel *channel, const struct iovec *iov, int n, GError **error)
{
	gssize done;

	while ((done = channel->ops->try_write(channel, iov, n, error)) == 0)
		channel->ops->wait_writable(channel, -1);
	return done;
}

void ferry_fd_channel_wait_writable(FerryChannel *channel, gint64 timeout_us)
{
	FerryFdChannel *c = (FerryFdChannel *)channel;

	ferry_fd_channel_wait(c, c->out, POLLOUT, timeout_us);
}

void ferry_fd_channel_shutdown(FerryChannel *channel)
{
	FerryFdChannel *c = (FerryFdChannel *)channel;
	const guint64 one = 1;

	/* The flag before the wake-up: whoever wakes must see it. */
	g_atomic_int_set(&c->shut, 1);
	/* It can only fail when it is readable already. */
	if (write(c->cancel, &one, sizeof(one)) < 0)
		g_assert(errno == EAGAIN);
	if (c->kind == FERRY_FD_SOCKET)
		shutdown(c->in, SHUT_RDWR);
}

gboolean ferry_fd_channel_finish(FerryChannel *channel, GError **error)
{
	FerryFdChannel *c = (FerryFdChannel *)channel;

	if (ferry_fd_channel_is_shut(c, error))
		return FALSE;
	if (c->out < 0 || c->finished)
		return TRUE;
	if (c->kind == FERRY_FD_SOCKET) {
		if (shutdown(c->out, SHUT_WR) < 0)
			return failed(c, "finish", errno, error), FALSE;
	} else if (c->kind == FERRY_FD_FILE) {
		/* EINVAL, EROFS: a special file that has nothing to bring to a disk. */
		if (fsync(c->out) < 0 && errno != EINVAL && errno != EROFS)
			return failed(c, "finish", errno, error), FALSE;
	} else {
		close(c->out);
		c->out = -1;
	}
	c->finished = TRUE;
	return TRUE;
}

void ferry_fd_channel_close(FerryChannel *channel)
{
	ferry_fd_channel_clear((FerryFdChannel *)channel);
	g_free(channel);
}
