/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "fd-channel.h"
#include "fd-util.h"
#include "mapped-file.h"
#include "one-shot.h"
#include "pages.h"
#include "transports.h"

/*
 * A save goes to a file of its own beside PATH, which takes PATH's place in finish(), after
 * everything has reached the disk: whatever fails before, an old file stays as it was and no new
 * one looks complete.
 */
typedef struct {
	FerryFdChannel fds; /* first */
	char *temporary;    /* what is written; NULL for a load, a special file, or once renamed */
	char *path;         /* what it becomes */
} FileChannel;

static gboolean sync_directory_of(const char *path, GError **error)
{
	g_autofree char *folder = g_path_get_dirname(path);
	g_auto(FerryFd) fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	/* EINVAL: a file system that has nothing to bring to a disk. */
	if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL))
		return ferry_fd_failed(error, FERRY_ERROR_IO, folder, errno);
	return TRUE;
}

static gboolean file_finish(FerryChannel *channel, GError **error)
{
	FileChannel *f = (FileChannel *)channel;

	if (!ferry_fd_channel_finish(channel, error))
		return FALSE;
	if (!f->temporary)
		return TRUE;
	if (rename(f->temporary, f->path) < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, f->fds.peer, errno);
	g_clear_pointer(&f->temporary, g_free);
	return sync_directory_of(f->path, error);
}

static void file_close(FerryChannel *channel)
{
	FileChannel *f = (FileChannel *)channel;

	if (f->temporary)
		unlink(f->temporary);
	ferry_fd_channel_clear(&f->fds);
	g_free(f->temporary);
	g_free(f->path);
	g_free(f);
}

#define FILE_OPS                                                                                   \
	.name = "file", .read = ferry_fd_channel_read, .write = ferry_fd_channel_write,            \
	.try_write = ferry_fd_channel_try_write, .wait_writable = ferry_fd_channel_wait_writable,  \
	.shutdown = ferry_fd_channel_shutdown, .finish = file_finish,                              \
	.carrier = ferry_page_carrier_new, .close = file_close

static const FerryChannelOps file_ops = { FILE_OPS, .places = &ferry_mapped_file_places };
/* A FIFO or a terminal: bytes in order, and no more. */
static const FerryChannelOps special_ops = { FILE_OPS };

/* A channel on @fd, which is taken on success only. */
static FileChannel *new_channel(const char *uri, int in, int out, GError **error)
{
	g_autofree FileChannel *f = g_new0(FileChannel, 1);
	struct stat file;
	FerryFdKind kind;

	if (fstat(in >= 0 ? in : out, &file) < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, uri, errno), NULL;
	if (S_ISDIR(file.st_mode))
		return ferry_fd_failed(error, FERRY_ERROR_INVALID, uri, EISDIR), NULL;
	kind = S_ISREG(file.st_mode) || S_ISBLK(file.st_mode) ? FERRY_FD_FILE : FERRY_FD_PIPE;
	if (!ferry_fd_channel_init(&f->fds, kind == FERRY_FD_FILE ? &file_ops : &special_ops, kind,
				   in, out, uri, error))
		return NULL;
	return g_steal_pointer(&f);
}

/* The parts of file:PATH[,offset=N]; PATH may have commas of its own. */
typedef struct {
	char *path; /* owned */
	guint64 offset;
} FilePlace;

static void file_place_clear(FilePlace *place)
{
	g_free(place->path);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(FilePlace, file_place_clear)

/* N as QEMU has it: decimal or 0x, and K, M, G or T behind it. */
static gboolean parse_offset(const char *text, guint64 *offset)
{
	static const char suffixes[] = "KMGT";
	const char *suffix;
	char *end;
	guint shift = 0;

	errno = 0;
	*offset = g_ascii_strtoull(text, &end, g_str_has_prefix(text, "0x") ? 16 : 10);
	suffix = *end ? strchr(suffixes, g_ascii_toupper(*end)) : NULL;
	if (suffix && !end[1])
		shift = 10 * (guint)(suffix - suffixes + 1);
	if (errno != 0 || !g_ascii_isdigit(text[0]) || (*end && !shift) ||
	    *offset > (guint64)G_MAXINT64 >> shift)
		return FALSE;
	*offset <<= shift;
	return TRUE;
}

static gboolean parse_place(const char *uri, FilePlace *place, GError **error)
{
	static const char key[] = ",offset=";
	const char *rest = ferry_uri_rest(uri), *comma = g_strrstr(rest, key);

	if (comma && !parse_offset(comma + strlen(key), &place->offset)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "%s: the offset is no number of bytes: file:PATH,offset=N, with K, M, "
			    "G or T behind N",
			    uri);
		return FALSE;
	}
	if (comma == rest || !*rest) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID, "%s: expected a path", uri);
		return FALSE;
	}
	place->path = comma ? g_strndup(rest, (gsize)(comma - rest)) : g_strdup(rest);
	return TRUE;
}

static gboolean go_to(int fd, guint64 offset, const char *uri, GError **error)
{
	if (offset && lseek(fd, (off_t)offset, SEEK_SET) < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, uri, errno);
	return TRUE;
}

static FerryChannel *save_to_special(const char *uri, const FilePlace *place, GError **error)
{
	g_auto(FerryFd) fd = open(place->path, O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	FileChannel *f;

	if (fd < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, uri, errno), NULL;
	if (!go_to(fd, place->offset, uri, error))
		return NULL;
	f = new_channel(uri, -1, fd, error);
	if (!f)
		return NULL;
	ferry_fd_steal(&fd);
	return &f->fds.base;
}

/* What lies before the offset stays: the first @left bytes of @path, as far as it has them. */
static gboolean keep_head(int to, const char *path, guint64 left, const char *uri, GError **error)
{
	g_auto(FerryFd) from = left ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	g_autofree guint8 *piece = g_malloc(1 << 20);
	guint64 at = 0;

	if (from < 0 && left && errno != ENOENT)
		return ferry_fd_failed(error, FERRY_ERROR_IO, uri, errno);
	while (from >= 0 && at < left) {
		ssize_t n = pread(from, piece, MIN(left - at, 1 << 20), (off_t)at);

		if (n > 0 && pwrite(to, piece, (size_t)n, (off_t)at) != n)
			return ferry_fd_failed(error, FERRY_ERROR_IO, uri, errno);
		if (n == 0)
			break;
		if (n < 0 && errno != EINTR)
			return ferry_fd_failed(error, FERRY_ERROR_IO, uri, errno);
		at += n > 0 ? (guint64)n : 0;
	}
	return TRUE;
}

static FerryChannel *save_to_file(const char *uri, const FilePlace *place, GError **error)
{
	g_autofree char *temporary = g_strdup_printf("%s.XXXXXX", place->path);
	g_auto(FerryFd) fd = mkostemp(temporary, O_CLOEXEC);
	FileChannel *f = NULL;

	if (fd < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, uri, errno), NULL;
	if (keep_head(fd, place->path, place->offset, uri, error) &&
	    go_to(fd, place->offset, uri, error))
		f = new_channel(uri, -1, fd, error);
	if (!f) {
		unlink(temporary);
		return NULL;
	}
	ferry_fd_steal(&fd);
	f->temporary = g_steal_pointer(&temporary);
	f->path = g_strdup(place->path);
	return &f->fds.base;
}

static FerryChannel *file_connect(const char *uri, guint timeout_ms, GCancellable *cancellable,
				  GError **error)
{
	g_auto(FilePlace) place = { 0 };
	char *target;
	struct stat file;

	if (!parse_place(uri, &place, error))
		return NULL;
	/* A link's target is replaced, not the link. */
	target = realpath(place.path, NULL);
	if (target) {
		g_free(place.path);
		place.path = g_strdup(target);
		free(target);
	}
	if (stat(place.path, &file) == 0 && !S_ISREG(file.st_mode))
		return save_to_special(uri, &place, error);
	return save_to_file(uri, &place, error);
}

static FerryListener *file_listen(const char *uri, GCancellable *cancellable, GError **error)
{
	g_auto(FilePlace) place = { 0 };
	g_auto(FerryFd) fd = -1;
	FileChannel *f;

	if (!parse_place(uri, &place, error))
		return NULL;
	/* O_NONBLOCK: opening a FIFO must not wait for its writer. */
	fd = open(place.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, uri, errno), NULL;
	if (!go_to(fd, place.offset, uri, error))
		return NULL;
	f = new_channel(uri, fd, -1, error);
	if (!f)
		return NULL;
	return ferry_one_shot_listener_new(uri, &f->fds.base, ferry_fd_steal(&fd));
}

const FerryTransport ferry_file_transport = {
	.scheme = "file",
	.stores = TRUE,
	.connect = file_connect,
	.listen = file_listen,
};
