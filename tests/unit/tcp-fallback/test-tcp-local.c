/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "channels.h"

static FerryChannel *accept_from(const char *uri, GError **error)
{
	g_autoptr(FerryListener) listener = listen_on(uri, error);

	return listener ? listener->ops->accept(listener, NULL, error) : NULL;
}

static char *fd_uri(int fd)
{
	return g_strdup_printf("fd:%d", fd);
}

/* ---- fd: ---- */

static void fd__connected_socket__duplex_and_owned(void)
{
	g_autofree char *uri = NULL, *peer_uri = NULL;
	g_autoptr(FerryChannel) a = NULL, b = NULL;
	g_autoptr(FerryListener) listener = NULL;
	g_autoptr(GError) again = NULL;
	char buf[4] = "";
	int fds[2];

	CU_ASSERT_EQUAL(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	uri = fd_uri(fds[0]);
	peer_uri = fd_uri(fds[1]);
	a = connect_to(uri, NULL);
	listener = listen_on(peer_uri, NULL);
	CU_ASSERT_FALSE(listener->again);
	b = listener->ops->accept(listener, NULL, NULL);
	CU_ASSERT(a->duplex && b->duplex);
	CU_ASSERT(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
	CU_ASSERT(ferry_channel_write_all(b, "yes", 3, NULL));
	CU_ASSERT_EQUAL(read_up_to(a, buf, 3), 3);
	CU_ASSERT_PTR_NULL(listener->ops->accept(listener, NULL, &again));
	CU_ASSERT(is_error(again, FERRY_ERROR_STATE, peer_uri));
	g_clear_pointer(&a, ferry_channel_close);
	CU_ASSERT(fcntl(fds[0], F_GETFD) < 0 && errno == EBADF);
}

static void fd__listening_socket__accepts_more_than_once(void)
{
	const FerryTransport *tcp = transport_of("tcp:");
	g_autoptr(FerryListener) from = tcp->listen("tcp:127.0.0.1:0", NULL, NULL), listener = NULL;
	g_autofree char *uri = NULL, *taken = NULL;
	g_autoptr(GError) error = NULL;
	int fd = -1;

	/* The highest descriptor is the newest: the listening socket. */
	for (int i = 3; i < 1024; i++) {
		int accepts = 0;
		socklen_t len = sizeof(accepts);

		if (getsockopt(i, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &len) == 0 && accepts)
			fd = dup(i);
		if (fd >= 0)
			break;
	}
	taken = fd_uri(dup(fd));
	CU_ASSERT_PTR_NULL(connect_to(taken, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_INVALID, "listens"));
	uri = fd_uri(fd);
	listener = listen_on(uri, NULL);
	CU_ASSERT(listener && listener->again);
	for (guint i = 0; listener && i < 2; i++) {
		g_autoptr(FerryChannel) a = connect_to(from->uri, NULL);
		g_autoptr(FerryChannel) b = listener->ops->accept(listener, NULL, NULL);

		CU_ASSERT_PTR_NOT_NULL(b);
	}
}

static void fd__pipe__goes_one_way(void)
{
	g_autofree char *read_uri = NULL, *write_uri = NULL, *taken = NULL;
	g_autoptr(FerryChannel) a = NULL, b = NULL;
	g_autoptr(GError) error = NULL, wrong = NULL, gone = NULL;
	char buf[4] = "";
	int fds[2];

	CU_ASSERT_EQUAL(pipe(fds), 0);
	read_uri = fd_uri(fds[0]);
	write_uri = fd_uri(fds[1]);
	/* Taken over, and closed, although nothing can be made of it. */
	taken = fd_uri(dup(fds[0]));
	CU_ASSERT_PTR_NULL(connect_to(taken, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_INVALID, "not open for writing"));
	CU_ASSERT_PTR_NULL(connect_to(taken, &gone));
	CU_ASSERT(is_error(gone, FERRY_ERROR_INVALID, "no such descriptor"));
	a = connect_to(write_uri, NULL);
	b = accept_from(read_uri, NULL);
	CU_ASSERT(a && b && !a->duplex && !b->duplex);
	CU_ASSERT(ferry_channel_write_all(a, "abc", 3, NULL));
	CU_ASSERT_FALSE(ferry_channel_write_all(b, "abc", 3, &wrong));
	CU_ASSERT(is_error(wrong, FERRY_ERROR_STATE, "one way"));
	CU_ASSERT(a->ops->finish(a, NULL));
	CU_ASSERT_EQUAL(read_up_to(b, buf, 4), 3);
}

static void fd__pipe_without_reader__error_and_no_signal(void)
{
	g_autoptr(FerryChannel) a = NULL;
	g_autofree char *uri = NULL;
	g_autoptr(GError) error = NULL;
	sigset_t pending;
	int fds[2];

	/* The default action would kill this process. */
	signal(SIGPIPE, SIG_DFL);
	CU_ASSERT_EQUAL(pipe(fds), 0);
	uri = fd_uri(fds[1]);
	a = connect_to(uri, NULL);
	close(fds[0]);
	CU_ASSERT_FALSE(ferry_channel_write_all(a, "x", 1, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_LINK, "Broken pipe"));
	sigpending(&pending);
	CU_ASSERT_FALSE(sigismember(&pending, SIGPIPE));
}

static void fd__bad_number__invalid(void)
{
	g_autofree char *folder_uri = fd_uri(open("/", O_RDONLY | O_DIRECTORY));
	int datagram = socket(AF_UNIX, SOCK_DGRAM, 0);
	g_autofree char *datagram_uri = fd_uri(datagram);
	const char *uris[] = { "fd:",           "fd:x",   "fd:-1",    "fd:1 ",     "fd:999",
			       "fd:9999999999", "fd:0x1", folder_uri, datagram_uri };

	for (guint i = 0; i < G_N_ELEMENTS(uris); i++) {
		g_autoptr(GError) a = NULL, b = NULL;

		CU_ASSERT_PTR_NULL(connect_to(uris[i], &a));
		CU_ASSERT(is_error(a, FERRY_ERROR_INVALID, uris[i]));
		CU_ASSERT_PTR_NULL(listen_on(uris[i], &b));
		CU_ASSERT(is_error(b, FERRY_ERROR_INVALID, uris[i]));
	}
	close(datagram);
	close(atoi(folder_uri + 3));
}

/* ---- exec: ---- */

static void exec__source__stream_on_stdin_and_answer_on_stdout(void)
{
	g_autoptr(FerryChannel) channel = connect_to("exec:tr a-z A-Z", NULL);
	char buf[16] = "";

	CU_ASSERT(channel && channel->duplex);
	CU_ASSERT(ferry_channel_write_all(channel, "ferry", 5, NULL));
	CU_ASSERT(channel->ops->finish(channel, NULL));
	CU_ASSERT_EQUAL(read_up_to(channel, buf, 6), 5);
	CU_ASSERT_STRING_EQUAL(buf, "FERRY");
}

static void exec__destination__stream_on_stdout(void)
{
	g_autoptr(FerryChannel) channel = accept_from("exec:printf 'it''s %s' here", NULL);
	char buf[16] = "";

	CU_ASSERT(channel && channel->duplex);
	CU_ASSERT_EQUAL(read_up_to(channel, buf, 16), 8);
	CU_ASSERT_STRING_EQUAL(buf, "its here");
	CU_ASSERT(channel->ops->finish(channel, NULL));
}

static void exec__command_fails__finish_says_the_status(void)
{
	static const struct {
		const char *uri, *text;
	} rows[] = {
		{ "exec:cat >/dev/null; exit 3", "exit status 3" },
		{ "exec:/no/such/program", "exit status 127" },
		{ "exec:kill -9 $$", "signal 9" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autoptr(FerryChannel) channel = connect_to(rows[i].uri, NULL);
		g_autoptr(GError) error = NULL;

		CU_ASSERT_FALSE(channel->ops->finish(channel, &error));
		CU_ASSERT(is_error(error, FERRY_ERROR_LINK, rows[i].text));
		CU_ASSERT(is_error(error, FERRY_ERROR_LINK, rows[i].uri));
	}
}

static void exec__command_fails_early__write_and_read_say_the_status(void)
{
	g_autoptr(FerryChannel) source = connect_to("exec:exit 5", NULL);
	g_autoptr(FerryChannel) destination = accept_from("exec:exit 6", NULL);
	g_autoptr(GError) writing = NULL, reading = NULL;
	char byte = 0;
	struct iovec iov = { &byte, 1 };

	while (!writing)
		ferry_channel_write_all(source, "x", 1, &writing);
	CU_ASSERT(is_error(writing, FERRY_ERROR_LINK, "exit status 5"));
	CU_ASSERT_EQUAL(destination->ops->read(destination, &iov, 1, &reading), -1);
	CU_ASSERT(is_error(reading, FERRY_ERROR_LINK, "exit status 6"));
}

/* The processes of @group that are not zombies. */
static guint living(pid_t group)
{
	g_autoptr(GDir) dir = g_dir_open("/proc", 0, NULL);
	const char *name;
	guint n = 0;

	while ((name = g_dir_read_name(dir))) {
		g_autofree char *path = g_strdup_printf("/proc/%s/stat", name), *stat = NULL;
		int its_group;
		char state;

		if (g_ascii_isdigit(name[0]) && g_file_get_contents(path, &stat, NULL, NULL) &&
		    sscanf(strrchr(stat, ')') + 1, " %c %*d %d", &state, &its_group) == 2)
			n += its_group == group && state != 'Z';
	}
	return n;
}

static void exec__shutdown__kills_the_group_and_close_reaps(void)
{
	g_autoptr(FerryChannel) channel = accept_from(
		"exec:trap '' TERM HUP; sleep 1000 & echo $$; exec sleep 1001", NULL);
	g_autoptr(GError) error = NULL;
	char buf[16] = "";
	struct iovec iov = { buf, sizeof(buf) - 1 };
	gint64 start;
	pid_t group;

	CU_ASSERT(channel->ops->read(channel, &iov, 1, NULL) > 0);
	group = (pid_t)g_ascii_strtoll(buf, NULL, 10);
	CU_ASSERT(group > 1 && living(group) == 2);
	start = g_get_monotonic_time();
	ferry_channel_shutdown(channel);
	CU_ASSERT_FALSE(channel->ops->finish(channel, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_CANCELLED));
	while (living(group))
		g_usleep(1000);
	CU_ASSERT(g_get_monotonic_time() - start < 5 * G_USEC_PER_SEC);
	g_clear_pointer(&channel, ferry_channel_close);
	CU_ASSERT(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

static void read_one(gpointer user)
{
	FerryChannel *channel = user;
	char byte;

	CU_ASSERT_EQUAL(read_up_to(channel, &byte, 1), 0);
}

static void finish_one(gpointer user)
{
	FerryChannel *channel = user;

	CU_ASSERT_FALSE(channel->ops->finish(channel, NULL));
}

static void exec__shutdown__wakes_read_and_finish(void)
{
	void (*const waits[])(gpointer) = { read_one, finish_one };

	for (guint i = 0; i < G_N_ELEMENTS(waits); i++) {
		g_autoptr(FerryChannel) channel = connect_to("exec:sleep 1000", NULL);
		Sleeper sleeper;
		gint64 start;

		sleeper_start(&sleeper, waits[i], channel);
		sleeper_wait_asleep(&sleeper);
		start = g_get_monotonic_time();
		ferry_channel_shutdown(channel);
		CU_ASSERT(sleeper_join(&sleeper, start) < 100);
	}
}

static void exec__command__inherits_nothing_but_stderr(void)
{
	/* Without FD_CLOEXEC on purpose. */
	int leak = open("/dev/null", O_RDONLY);
	g_autoptr(FerryChannel)
		channel = accept_from("exec:i=3; while [ $i -lt 64 ]; do"
				      " [ -e /proc/$$/fd/$i ] && echo $i; i=$((i+1));"
				      " done; echo end",
				      NULL);
	char buf[256] = "";

	CU_ASSERT(leak >= 3 && leak < 64);
	CU_ASSERT(read_up_to(channel, buf, sizeof(buf) - 1) > 0);
	CU_ASSERT_STRING_EQUAL(buf, "end\n");
	close(leak);
}

static void exec__nothing_to_run__invalid(void)
{
	g_autoptr(GError) error = NULL;

	CU_ASSERT_PTR_NULL(connect_to("exec:", &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_INVALID, "command"));
}

static void exec__many__leave_no_fd_or_process(void)
{
	guint fds = open_fds();

	for (guint i = 0; i < 30; i++) {
		g_autoptr(FerryChannel)
			channel = connect_to(i % 2 ? "exec:cat" : "exec:exit 1", NULL);

		if (i % 3)
			(void)!channel->ops->finish(channel, NULL);
	}
	CU_ASSERT_EQUAL(open_fds(), fds);
	CU_ASSERT(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

/* ---- file: ---- */

static guint entries(const char *folder)
{
	g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
	guint n = 0;

	while (g_dir_read_name(dir))
		n++;
	return n;
}

static void file__save_and_load__same_bytes_and_private(void)
{
	char *folder = make_folder();
	g_autofree char *uri = g_strdup_printf("file:%s/state", folder);
	g_autoptr(FerryChannel) save = connect_to(uri, NULL), load = NULL;
	char buf[16] = "";
	struct stat file;

	CU_ASSERT(save && !save->duplex);
	CU_ASSERT(ferry_channel_write_all(save, "contents", 8, NULL));
	/* Nothing under its name until all of it is there. */
	CU_ASSERT_FALSE(g_file_test(uri + 5, G_FILE_TEST_EXISTS));
	CU_ASSERT(save->ops->finish(save, NULL));
	CU_ASSERT(stat(uri + 5, &file) == 0 && (file.st_mode & 0777) == 0600);
	load = accept_from(uri, NULL);
	CU_ASSERT(load && !load->duplex);
	CU_ASSERT_EQUAL(read_up_to(load, buf, sizeof(buf)), 8);
	CU_ASSERT_STRING_EQUAL(buf, "contents");
	g_clear_pointer(&save, ferry_channel_close);
	CU_ASSERT_EQUAL(entries(folder), 1);
	remove_folder(folder);
}

static void file__save_that_is_not_finished__leaves_the_old_file(void)
{
	char *folder = make_folder();
	g_autofree char *uri = g_strdup_printf("file:%s/state", folder), *text = NULL;

	CU_ASSERT(g_file_set_contents(uri + 5, "old", -1, NULL));
	for (guint i = 0; i < 2; i++) {
		g_autoptr(FerryChannel) save = connect_to(uri, NULL);

		CU_ASSERT(ferry_channel_write_all(save, "new and half", 12, NULL));
		if (i) {
			ferry_channel_shutdown(save);
			CU_ASSERT_FALSE(save->ops->finish(save, NULL));
		}
	}
	CU_ASSERT(g_file_get_contents(uri + 5, &text, NULL, NULL) && !strcmp(text, "old"));
	CU_ASSERT_EQUAL(entries(folder), 1);
	remove_folder(folder);
}

static void file__link__its_target_is_replaced(void)
{
	char *folder = make_folder();
	g_autofree char *target = g_strdup_printf("%s/target", folder);
	g_autofree char *uri = g_strdup_printf("file:%s/link", folder), *text = NULL;
	g_autoptr(FerryChannel) save = NULL;

	CU_ASSERT(g_file_set_contents(target, "old", -1, NULL));
	CU_ASSERT_EQUAL(symlink("target", uri + 5), 0);
	save = connect_to(uri, NULL);
	CU_ASSERT(ferry_channel_write_all(save, "new", 3, NULL) && save->ops->finish(save, NULL));
	CU_ASSERT(g_file_test(uri + 5, G_FILE_TEST_IS_SYMLINK));
	CU_ASSERT(g_file_get_contents(target, &text, NULL, NULL) && !strcmp(text, "new"));
	remove_folder(folder);
}

static void file__device__is_written_not_replaced(void)
{
	g_autoptr(FerryChannel) null = connect_to("file:/dev/null", NULL);
	g_autoptr(FerryChannel) full = connect_to("file:/dev/full", NULL);
	g_autoptr(GError) error = NULL;
	struct stat file;

	CU_ASSERT(ferry_channel_write_all(null, "x", 1, NULL) && null->ops->finish(null, NULL));
	CU_ASSERT(stat("/dev/null", &file) == 0 && S_ISCHR(file.st_mode));
	CU_ASSERT_FALSE(ferry_channel_write_all(full, "x", 1, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_IO, "No space left"));
}

static void file__fifo__waits_for_its_writer(void)
{
	char *folder = make_folder();
	g_autofree char *uri = g_strdup_printf("file:%s/fifo", folder);
	g_autoptr(FerryChannel) save = NULL, load = NULL;
	g_autoptr(FerryListener) listener = NULL;
	char byte = 0;

	CU_ASSERT_EQUAL(mkfifo(uri + 5, 0600), 0);
	listener = listen_on(uri, NULL);
	save = connect_to(uri, NULL);
	CU_ASSERT(save && ferry_channel_write_all(save, "x", 1, NULL));
	load = listener->ops->accept(listener, NULL, NULL);
	CU_ASSERT(load && read_up_to(load, &byte, 1) == 1);
	remove_folder(folder);
}

static void file__cannot_be_opened__says_why(void)
{
	static const struct {
		const char *uri;
		int code;
	} rows[] = {
		{ "file:/nowhere/at-all", FERRY_ERROR_IO },
		{ "file:/", FERRY_ERROR_IO },
		{ "file:", FERRY_ERROR_INVALID },
	};

	for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autoptr(GError) saving = NULL, loading = NULL;

		CU_ASSERT_PTR_NULL(connect_to(rows[i].uri, &saving));
		CU_ASSERT(is_error(saving, rows[i].code, rows[i].uri));
		CU_ASSERT_PTR_NULL(accept_from(rows[i].uri, &loading));
		CU_ASSERT_PTR_NOT_NULL(loading);
	}
}

static CU_TestInfo cases[] = {
	CASE(fd__connected_socket__duplex_and_owned),
	CASE(fd__listening_socket__accepts_more_than_once),
	CASE(fd__pipe__goes_one_way),
	CASE(fd__pipe_without_reader__error_and_no_signal),
	CASE(fd__bad_number__invalid),
	CASE(exec__source__stream_on_stdin_and_answer_on_stdout),
	CASE(exec__destination__stream_on_stdout),
	CASE(exec__command_fails__finish_says_the_status),
	CASE(exec__command_fails_early__write_and_read_say_the_status),
	CASE(exec__shutdown__kills_the_group_and_close_reaps),
	CASE(exec__shutdown__wakes_read_and_finish),
	CASE(exec__command__inherits_nothing_but_stderr),
	CASE(exec__nothing_to_run__invalid),
	CASE(exec__many__leave_no_fd_or_process),
	CASE(file__save_and_load__same_bytes_and_private),
	CASE(file__save_that_is_not_finished__leaves_the_old_file),
	CASE(file__link__its_target_is_replaced),
	CASE(file__device__is_written_not_replaced),
	CASE(file__fifo__waits_for_its_writer),
	CASE(file__cannot_be_opened__says_why),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "tcp-local", cases);
}
