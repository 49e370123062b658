/* SPDX-License-Identifier: BSD-2-Clause */
#include "page-landing.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include "fd-util.h"

/* What any process may have; where it may not, less is in it at a time. */
#define PIPE_SIZE (1 << 20)

void ferry_landing_init(FerryLanding *landing, const FerryRam *ram)
{
	landing->ram = ram;
	landing->by_file = g_new0(gint, ram->n_blocks);
	landing->writers = g_new0(gint, ram->n_blocks);
	for (guint i = 0; i < ram->n_blocks; i++)
		landing->by_file[i] = ferry_ram_block_is_filled_by_file(&ram->blocks[i]);
}

void ferry_landing_clear(FerryLanding *landing)
{
	g_clear_pointer(&landing->by_file, g_free);
	g_clear_pointer(&landing->writers, g_free);
}

gboolean ferry_landing_enter_file(FerryLanding *landing, guint block)
{
	return ferry_landing_is_by_file(landing, block) &&
	       g_atomic_int_compare_and_exchange(&landing->writers[block], 0, 1);
}

void ferry_landing_leave_file(FerryLanding *landing, guint block)
{
	g_atomic_int_set(&landing->writers[block], 0);
}

static gboolean no_memory(const FerryRamBlock *block, guint64 offset, int error_number,
			  GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO,
		    "RAM block '%s': no memory for the page at offset 0x%" G_GINT64_MODIFIER
		    "x: %s; enlarge the file system or the memory limit",
		    block->name, offset, g_strerror(error_number));
	return FALSE;
}

static gboolean is_full(int error_number)
{
	return error_number == ENOSPC || error_number == ENOMEM || error_number == EFBIG;
}

gboolean ferry_landing_write(FerryLanding *landing, guint index, guint64 offset,
			     const guint8 *bytes, size_t len, GError **error)
{
	const FerryRamBlock *block = &landing->ram->blocks[index];

	while (len && ferry_landing_is_by_file(landing, index)) {
		gssize n = pwrite(block->fd, bytes, len, (off_t)(block->fd_offset + offset));

		if (n > 0) {
			bytes += n;
			offset += (guint64)n;
			len -= (size_t)n;
		} else if (n < 0 && is_full(errno)) {
			return no_memory(block, offset, errno, error);
		} else if (n == 0 || errno != EINTR) {
			/* A sealed file, a filter of system calls, ... */
			g_atomic_int_set(&landing->by_file[index], FALSE);
		}
	}
	memcpy(block->host + offset, bytes, len);
	return TRUE;
}

gboolean ferry_landing_pipe_open(FerryLandingPipe *p, GError **error)
{
	int fds[2];

	*p = (FerryLandingPipe){ -1, -1 };
	if (pipe2(fds, O_CLOEXEC) < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, "pipe", errno);
	*p = (FerryLandingPipe){ fds[0], fds[1] };
	/* It works with less, too. */
	(void)!fcntl(p->in, F_SETPIPE_SZ, PIPE_SIZE);
	return TRUE;
}

void ferry_landing_pipe_close(FerryLandingPipe *p)
{
	ferry_fd_close(p->out);
	ferry_fd_close(p->in);
	*p = (FerryLandingPipe){ -1, -1 };
}

/* @len bytes of the pipe through the mapping, where the file does not take them. */
static gboolean read_pipe(FerryLandingPipe *p, guint8 *to, size_t len, GError **error)
{
	while (len) {
		gssize n = read(p->out, to, len);

		if (n <= 0 && errno != EINTR)
			return ferry_fd_failed(error, FERRY_ERROR_IO, "pipe", errno);
		to += MAX(n, 0);
		len -= (size_t)MAX(n, 0);
	}
	return TRUE;
}

/* All that is in the pipe, @len bytes. */
static gboolean empty(FerryLanding *landing, FerryLandingPipe *p, guint index, guint64 offset,
		      size_t len, GError **error)
{
	const FerryRamBlock *block = &landing->ram->blocks[index];
	off64_t at = (off64_t)(block->fd_offset + offset);

	while (len && ferry_landing_is_by_file(landing, index)) {
		gssize n = splice(p->out, NULL, block->fd, &at, len, SPLICE_F_MOVE);

		if (n > 0) {
			offset += (guint64)n;
			len -= (size_t)n;
		} else if (n < 0 && is_full(errno)) {
			return no_memory(block, offset, errno, error);
		} else if (n == 0 || errno != EINTR) {
			g_atomic_int_set(&landing->by_file[index], FALSE);
		}
	}
	return read_pipe(p, block->host + offset, len, error);
}

/* At least one byte from the socket into the pipe; returns how many, 0 with @error. */
static size_t fill(FerryLandingPipe *p, FerryFdChannel *from, size_t len, GError **error)
{
	for (;;) {
		gssize n;
		int error_number;

		if (ferry_fd_channel_is_shut(from, error))
			return 0;
		n = splice(from->in, NULL, p->in, NULL, len, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		error_number = errno;
		if (n > 0)
			return (size_t)n;
		if (ferry_fd_channel_is_shut(from, error))
			return 0;
		if (n < 0 && error_number == EAGAIN) {
			ferry_fd_channel_wait(from, from->in, POLLIN, -1);
		} else if (n == 0) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
				    "the source closed the connection, its own log says why");
			return 0;
		} else if (error_number != EINTR) {
			return ferry_fd_failed(error, FERRY_ERROR_LINK, "cannot read",
					       error_number);
		}
	}
}

gboolean ferry_landing_splice(FerryLanding *landing, FerryLandingPipe *p, FerryFdChannel *from,
			      guint block, guint64 offset, size_t len, guint64 *got, GError **error)
{
	while (len) {
		size_t n = fill(p, from, len, error);

		*got += n;
		if (!n || !empty(landing, p, block, offset, n, error))
			return FALSE;
		offset += n;
		len -= n;
	}
	return TRUE;
}
