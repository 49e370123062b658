/* SPDX-License-Identifier: BSD-2-Clause */
#include "mapped-file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "fd-util.h"

static int stream_fd(const FerryFdChannel *channel)
{
	return channel->out >= 0 ? channel->out : channel->in;
}

/* A descriptor of the same file, whatever its name is by now, that goes around the page cache: the
 * stream itself is written in pieces of any length, which such a descriptor does not take. */
static gboolean open_direct(FerryMappedFile *file, GError **error)
{
	gboolean writes = file->channel->out >= 0;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", stream_fd(file->channel));
	file->fd = open(path, (writes ? O_WRONLY : O_RDONLY) | O_DIRECT | O_CLOEXEC);
	if (file->fd >= 0)
		return TRUE;
	if (errno != EINVAL)
		return ferry_fd_failed(error, FERRY_ERROR_IO, file->channel->peer, errno);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
		    "%s: its file system cannot go around the page cache (O_DIRECT): switch "
		    "direct-io off",
		    file->channel->peer);
	return FALSE;
}

gboolean ferry_mapped_file_open(FerryMappedFile *file, FerryFdChannel *channel,
				const FerryMapping *mapping, GError **error)
{
	*file = (FerryMappedFile){
		.channel = channel,
		.fd = stream_fd(channel),
		.places = g_memdup2(mapping->places, mapping->n_places * sizeof(FerryMappedPlace)),
		.n_places = mapping->n_places,
		.threads = mapping->threads,
	};
	if (!mapping->direct)
		return TRUE;
	file->direct = TRUE;
	return open_direct(file, error);
}

void ferry_mapped_file_clear(FerryMappedFile *file)
{
	if (file->direct)
		ferry_fd_close(file->fd);
	g_free(file->places);
	*file = (FerryMappedFile){ .fd = -1 };
}

int ferry_mapped_file_stream(const FerryMappedFile *file)
{
	return stream_fd(file->channel);
}

void ferry_mapped_file_block_signal(void)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGXFSZ);
	pthread_sigmask(SIG_BLOCK, &mask, NULL);
}

static gboolean failed(const FerryMappedFile *file, const char *what, guint64 offset,
		       int error_number, GError **error)
{
	const char *hint = "";

	if (error_number == ENOSPC || error_number == EDQUOT)
		hint = "; it takes as much room as the guest's RAM that is not zero";
	else if (error_number == EFBIG)
		hint = "; raise the limit on the size of files (RLIMIT_FSIZE)";
	else if (error_number == EINVAL && file->direct)
		hint = "; the disk may want larger blocks than pages: switch direct-io off";
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO,
		    "%s: cannot %s at offset 0x%" G_GINT64_MODIFIER "x: %s%s", file->channel->peer,
		    what, offset, g_strerror(error_number), hint);
	return FALSE;
}

/* How far a call came: one around the page cache goes on at whole pages only. */
static size_t whole(const FerryMappedFile *file, int fd, ssize_t n)
{
	return fd == file->fd && file->direct ? (size_t)n & ~(size_t)(FERRY_PAGE_SIZE - 1)
					      : (size_t)n;
}

gboolean ferry_mapped_file_write(const FerryMappedFile *file, int fd, const void *data, size_t len,
				 guint64 offset, GError **error)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n;

		if (ferry_fd_channel_is_shut(file->channel, error))
			return FALSE;
		n = pwrite(fd, (const guint8 *)data + done, len - done, (off_t)(offset + done));
		if (n > 0 && whole(file, fd, n))
			done += whole(file, fd, n);
		else if (n >= 0 || errno != EINTR)
			return failed(file, "write", offset + done, n < 0 ? errno : ENOSPC, error);
	}
	return TRUE;
}

gboolean ferry_mapped_file_read(const FerryMappedFile *file, int fd, void *buf, size_t len,
				guint64 offset, GError **error)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n;

		if (ferry_fd_channel_is_shut(file->channel, error))
			return FALSE;
		n = pread(fd, (guint8 *)buf + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno != EINTR)
			return failed(file, "read", offset + done, errno, error);
		if (n >= 0 && !whole(file, fd, n)) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_STREAM,
				    "%s: it was cut short: it ends at offset 0x%" G_GINT64_MODIFIER
				    "x, inside a page",
				    file->channel->peer, offset + done + (guint64)n);
			return FALSE;
		}
		if (n > 0)
			done += whole(file, fd, n);
	}
	return TRUE;
}

/* ---- what the channel does beside the stream ---- */

static gboolean places_tell(FerryChannel *channel, guint64 *offset, guint64 *size, GError **error)
{
	FerryFdChannel *c = (FerryFdChannel *)channel;
	off_t at = lseek(stream_fd(c), 0, SEEK_CUR);
	struct stat st;

	if (at < 0 || fstat(stream_fd(c), &st) < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, c->peer, errno);
	*offset = (guint64)at;
	*size = (guint64)st.st_size;
	return TRUE;
}

static gboolean places_seek(FerryChannel *channel, guint64 offset, GError **error)
{
	FerryFdChannel *c = (FerryFdChannel *)channel;

	if (offset > G_MAXINT64)
		return ferry_fd_failed(error, FERRY_ERROR_IO, c->peer, EOVERFLOW);
	if (lseek(stream_fd(c), (off_t)offset, SEEK_SET) < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, c->peer, errno);
	return TRUE;
}

static FerryCarrier *places_carrier(FerryChannel *channel, const FerryMapping *mapping,
				    GError **error)
{
	FerryFdChannel *c = (FerryFdChannel *)channel;
	FerryMappedFile file;

	if (ferry_mapped_file_open(&file, c, mapping, error))
		return c->out >= 0 ? ferry_mapped_writer_new(&file, error)
				   : ferry_mapped_loader_new(&file);
	ferry_mapped_file_clear(&file);
	return NULL;
}

const FerryPlacesOps ferry_mapped_file_places = {
	.tell = places_tell,
	.seek = places_seek,
	.carrier = places_carrier,
};
