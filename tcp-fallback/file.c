/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "fd-channel.h"
#include "fd-util.h"
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

static const FerryChannelOps channel_ops = {
	.name = "file",
	.read = ferry_fd_channel_read,
	.write = ferry_fd_channel_write,
	.try_write = ferry_fd_channel_try_write,
	.wait_writable = ferry_fd_channel_wait_writable,
	.shutdown = ferry_fd_channel_shutdown,
	.finish = file_finish,
	.carrier = ferry_page_carrier_new,
	.close = file_close,
};

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
	if (!ferry_fd_channel_init(&f->fds, &channel_ops, kind, in, out, uri, error))
		return NULL;
	return g_steal_pointer(&f);
}

static FerryChannel *save_to_special(const char *uri, const char *path, GError **error)
{
	g_auto(FerryFd) fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	FileChannel *f;

	if (fd < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, uri, errno), NULL;
	f = new_channel(uri, -1, fd, error);
	if (!f)
		return NULL;
	ferry_fd_steal(&fd);
	return &f->fds.base;
}

static FerryChannel *save_to_file(const char *uri, const char *path, GError **error)
{
	g_autofree char *temporary = g_strdup_printf("%s.XXXXXX", path);
	g_auto(FerryFd) fd = mkostemp(temporary, O_CLOEXEC);
	FileChannel *f;

	if (fd < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, uri, errno), NULL;
	f = new_channel(uri, -1, fd, error);
	if (!f) {
		unlink(temporary);
		return NULL;
	}
	ferry_fd_steal(&fd);
	f->temporary = g_steal_pointer(&temporary);
	f->path = g_strdup(path);
	return &f->fds.base;
}

static FerryChannel *file_connect(const char *uri, guint timeout_ms, GCancellable *cancellable,
				  GError **error)
{
	const char *given = ferry_uri_rest(uri);
	/* A link's target is replaced, not the link. */
	char *target = realpath(given, NULL);
	g_autofree char *path = g_strdup(target ? target : given);
	struct stat file;

	free(target);
	if (!*given) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID, "%s: expected a path", uri);
		return NULL;
	}
	if (stat(path, &file) == 0 && !S_ISREG(file.st_mode))
		return save_to_special(uri, path, error);
	return save_to_file(uri, path, error);
}

static FerryListener *file_listen(const char *uri, GCancellable *cancellable, GError **error)
{
	/* O_NONBLOCK: opening a FIFO must not wait for its writer. */
	g_auto(FerryFd)
		fd = open(ferry_uri_rest(uri), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	FileChannel *f;

	if (fd < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, uri, errno), NULL;
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
