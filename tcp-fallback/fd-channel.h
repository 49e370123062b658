/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/channel.h>

typedef enum {
	FERRY_FD_SOCKET, /* reads and writes do not block, whatever O_NONBLOCK says */
	FERRY_FD_PIPE,   /* a pipe, FIFO or character device; O_NONBLOCK is set on it */
	/* a file or block device: never would block, so only the disk bounds a call */
	FERRY_FD_FILE,
} FerryFdKind;

/*
 * A channel over descriptors: what every transport of this folder makes. A transport that needs
 * more puts this first in a struct of its own and wraps the functions below in its own ops.
 */
typedef struct {
	FerryChannel base;
	FerryFdKind kind;
	int in;            /* read from; -1: the channel only writes. Owned */
	int out;           /* written to; -1: the channel only reads. Owned; a socket is both */
	int cancel;        /* eventfd, readable from shutdown() on: nobody ever reads it. Owned */
	gint shut;         /* atomic: 1 from shutdown() on */
	gboolean finished; /* finish() succeeded; the writing thread's */
	char *peer;        /* for messages: "tcp:192.0.2.1:4444" */
} FerryFdChannel;

/*
 * Fills @c; @in and @out are taken on success only. Sets FD_CLOEXEC on both, and O_NONBLOCK for a
 * pipe.
 */
gboolean ferry_fd_channel_init(FerryFdChannel *c, const FerryChannelOps *ops, FerryFdKind kind,
			       int in, int out, const char *peer, GError **error);

/* A channel that is nothing but a FerryFdChannel; closed with ferry_fd_channel_close(). */
FerryChannel *ferry_fd_channel_new(const FerryChannelOps *ops, FerryFdKind kind, int in, int out,
				   const char *peer, GError **error);

/* Closes what init() opened or took, but does not free @c. */
void ferry_fd_channel_clear(FerryFdChannel *c);

/* Sets @error to FERRY_ERROR_CANCELLED and returns TRUE once shutdown() was called. */
gboolean ferry_fd_channel_is_shut(FerryFdChannel *c, GError **error);

/* Sleeps until @fd has one of @events, shutdown() or @timeout_us (-1: for ever). Any fd may be
 * asked. */
void ferry_fd_channel_wait(FerryFdChannel *c, int fd, short events, gint64 timeout_us);

/* The ops, as ferry/channel.h has them. */
gssize ferry_fd_channel_read(FerryChannel *channel, const struct iovec *iov, int n, GError **error);
gssize ferry_fd_channel_write(FerryChannel *channel, const struct iovec *iov, int n,
			      GError **error);
gssize ferry_fd_channel_try_write(FerryChannel *channel, const struct iovec *iov, int n,
				  GError **error);
void ferry_fd_channel_wait_writable(FerryChannel *channel, gint64 timeout_us);
void ferry_fd_channel_shutdown(FerryChannel *channel);
gboolean ferry_fd_channel_finish(FerryChannel *channel, GError **error);
void ferry_fd_channel_close(FerryChannel *channel);

/* Initialises the ops of a channel that wraps nothing: static const FerryChannelOps ops = { ... }.
 */
#define FERRY_FD_CHANNEL_OPS(scheme)                                                               \
	.name = scheme, .read = ferry_fd_channel_read, .write = ferry_fd_channel_write,            \
	.try_write = ferry_fd_channel_try_write, .wait_writable = ferry_fd_channel_wait_writable,  \
	.shutdown = ferry_fd_channel_shutdown, .finish = ferry_fd_channel_finish,                  \
	.carrier = ferry_page_carrier_new, .close = ferry_fd_channel_close
