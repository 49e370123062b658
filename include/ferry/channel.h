/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <gio/gio.h>
#include <sys/uio.h>
#include <ferry/error.h>

G_BEGIN_DECLS

typedef struct FerryCarrier FerryCarrier;
typedef struct FerryFabric FerryFabric;
typedef struct FerryPlacesOps FerryPlacesOps;

/*
 * A connected byte stream: the control channel. At most one thread reads and one other writes at a
 * time; ferry_channel_shutdown() may come from any thread at any time. Embedders with a connection
 * of their own implement the ops; everybody else gets a channel from a FerryTransport.
 */
typedef struct FerryChannel FerryChannel;

/* How pages are laid out in the stream; see docs/protocol.md. */
typedef enum {
	FERRY_PAGE_FORMAT_QEMU, /* a word, then one page: what any QEMU reads and writes */
	FERRY_PAGE_FORMAT_RUNS, /* PAGES records between Ferry peers: a header, then a whole run */
} FerryPageFormat;

typedef struct {
	const char *name; /* the scheme: "tcp", "unix", ... */

	/* Reads at least one byte; blocks. Returns the bytes read, 0 at the end of the stream, -1
	 * with @error (FERRY_ERROR_LINK; FERRY_ERROR_CANCELLED after a shutdown). */
	gssize (*read)(FerryChannel *channel, const struct iovec *iov, int n, GError **error);

	/* Writes at least one byte; blocks. Returns the bytes written, -1 as read(). */
	gssize (*write)(FerryChannel *channel, const struct iovec *iov, int n, GError **error);

	/* As write(), but returns 0 at once where it would block. */
	gssize (*try_write)(FerryChannel *channel, const struct iovec *iov, int n, GError **error);

	/* Sleeps until try_write() can take a byte or @timeout_us passed; -1 is for ever. Returns
	 * early on shutdown. */
	void (*wait_writable)(FerryChannel *channel, gint64 timeout_us);

	/* Makes every read and write, also one that blocks now, fail with FERRY_ERROR_CANCELLED.
	 * Any thread; idempotent. */
	void (*shutdown)(FerryChannel *channel);

	/* No more bytes will be written; what was written still arrives. Waits for the bytes to
	 * reach a file, or for an exec: command to exit, whose failure is the error. */
	gboolean (*finish)(FerryChannel *channel, GError **error);

	/* A carrier that puts pages on this channel, between the control messages. It borrows the
	 * channel, and the writing thread must settle() it before writing to the channel itself.
	 * Caller closes it. */
	FerryCarrier *(*carrier)(FerryChannel *channel, FerryPageFormat format);

	/* Closes and frees; no other thread may use the channel any more. */
	void (*close)(FerryChannel *channel);

	/* Where the bytes lie in a file: what that allows beside the stream (ferry/mapped.h). NULL:
	 * they do not. */
	const FerryPlacesOps *places;
} FerryChannelOps;

struct FerryChannel {
	const FerryChannelOps *ops;
	gboolean duplex; /* FALSE for files, pipes and one-way commands: no return path */
};

/* Writes all of @len bytes. */
static inline gboolean ferry_channel_write_all(FerryChannel *channel, const void *data, size_t len,
					       GError **error)
{
	struct iovec iov = { (void *)data, len };

	while (iov.iov_len) {
		gssize n = channel->ops->write(channel, &iov, 1, error);

		if (n < 0)
			return FALSE;
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= n;
	}
	return TRUE;
}

static inline void ferry_channel_shutdown(FerryChannel *channel)
{
	channel->ops->shutdown(channel);
}

/* NULL is allowed. */
static inline void ferry_channel_close(FerryChannel *channel)
{
	if (channel)
		channel->ops->close(channel);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryChannel, ferry_channel_close)

G_END_DECLS
