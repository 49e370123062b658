/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <ferry/ferry.h>
#include "inspection.h"
#include "stream-commands.h"

static gssize read_file(gpointer user, const struct iovec *iov, int n, GError **error)
{
	gssize got;

	do
		got = readv(*(int *)user, iov, n);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO, "cannot read: %s",
			    g_strerror(errno));
	return got;
}

/* A FerrySkipFunc over a file's descriptor. */
static gboolean skip_file(gpointer user, guint64 len, GError **error)
{
	if (len <= G_MAXINT64 && lseek(*(int *)user, (off_t)len, SEEK_CUR) >= 0)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO, "cannot seek: %s",
		    len <= G_MAXINT64 ? g_strerror(errno) : "too far");
	return FALSE;
}

/* Where the pages of a file have places they are passed over, and their offsets are the file's. */
static void find_begin(int *fd, FerryStreamReader *reader, FerryRamReader *ram)
{
	off_t at = lseek(*fd, 0, SEEK_CUR);
	struct stat st;

	if (at < 0 || fstat(*fd, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	ram->base = (guint64)at;
	ram->end = (guint64)st.st_size;
	ferry_stream_reader_set_skip(reader, skip_file);
}

static int inspect(int fd, const char *path, gboolean json)
{
	g_autoptr(FerryStreamReader) reader = ferry_stream_reader_new(read_file, &fd);
	g_auto(FerryInspection) found = { 0 };
	g_autoptr(GError) error = NULL;
	gboolean ok;

	find_begin(&fd, reader, &found.ram);
	ok = ferry_inspection_read(&found, reader, &error);
	if (json)
		ferry_inspection_print_json(&found, error);
	else
		ferry_inspection_print(&found, error);
	if (!ok)
		g_printerr("ferry inspect: %s: %s\n", path, error->message);
	return ok ? 0 : 1;
}

int ferry_cli_inspect(int argc, char **argv)
{
	gboolean json = FALSE;
	const GOptionEntry entries[] = {
		{ "json", 0, 0, G_OPTION_ARG_NONE, &json,
		  "Print one JSON object instead of a table", NULL },
		{ NULL },
	};
	g_autoptr(GOptionContext) context = g_option_context_new("FILE|-");
	g_autoptr(GError) error = NULL;
	int fd, status;

	g_set_prgname("ferry inspect");
	g_option_context_set_summary(
		context,
		"Shows a migration stream section by section and accounts for every byte.");
	g_option_context_set_description(
		context,
		"Example, in QEMU's monitor and then in a shell:\n"
		"  (qemu) migrate \"exec:cat > /tmp/guest.stream\"\n"
		"  $ ferry inspect /tmp/guest.stream\n"
		"\n"
		"With - the stream is read from standard input. Exit status: 0 if the whole stream\n"
		"was understood, 1 if not (what was understood is shown), 2 for wrong usage.\n");
	g_option_context_add_main_entries(context, entries, NULL);
	if (!g_option_context_parse(context, &argc, &argv, &error) || argc != 2) {
		g_printerr("ferry inspect: %s; try ferry inspect --help\n",
			   error ? error->message : "exactly one FILE is needed");
		return 2;
	}
	fd = g_str_equal(argv[1], "-") ? STDIN_FILENO : open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		g_printerr("ferry inspect: cannot open %s: %s\n", argv[1], g_strerror(errno));
		return 1;
	}
	status = inspect(fd, argv[1], json);
	if (fd != STDIN_FILENO)
		close(fd);
	return status;
}
