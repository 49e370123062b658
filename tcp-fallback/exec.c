/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * exec:COMMAND. The rest of the URI goes to /bin/sh -c as it is: quoting is the shell's, and
 * whoever may choose the URI may run any command as this user.
 *
 * - The command gets pipes as stdin and stdout, our stderr, and no other descriptor. A source's
 * stream is on its stdin, a destination's on its stdout; the other one is the return path. A
 * command that redirects the return direction away (gzip > FILE) is a one-way channel in all but
 * name.
 * - It runs in a process group of its own, so a program in it cannot ask for a password on the
 * terminal, and Ctrl-C does not reach it: shutdown() kills the group instead.
 * - The exit status is that of the shell, which for a pipeline is the last command's.
 * - Only we may wait for the process: in an embedder that reaps every child, its status is lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include "fd-channel.h"
#include "fd-util.h"
#include "one-shot.h"
#include "pages.h"
#include "transports.h"

#define PIPE_SIZE (1 << 20)
/* A process closes its pipes just before it can be waited for: how long to wait for a better reason
 * than "broken pipe" once the stream has ended. */
#define EXIT_GRACE_US (100 * 1000)

typedef struct {
	FerryFdChannel fds; /* first */
	pid_t pid;          /* leads its group. Reaped by close() alone, so the number stays ours */
	int pidfd;          /* readable once the command exited. Owned */
} ExecChannel;

/* Waits for the exit until @timeout_us passed or shutdown(); -1 is for ever. */
static gboolean has_exited(ExecChannel *e, gint64 timeout_us)
{
	gint64 deadline = g_get_monotonic_time() + timeout_us;
	struct pollfd poll_exit = { .fd = e->pidfd, .events = POLLIN };

	while (poll(&poll_exit, 1, 0) <= 0) {
		gint64 left = timeout_us < 0 ? -1 : MAX(deadline - g_get_monotonic_time(), 0);

		if (!left || g_atomic_int_get(&e->fds.shut))
			return FALSE;
		ferry_fd_channel_wait(&e->fds, e->pidfd, POLLIN, left);
	}
	return TRUE;
}

/* The command has exited: TRUE if with status 0. */
static gboolean exit_status(ExecChannel *e, GError **error)
{
	siginfo_t info = { 0 };

	if (waitid(P_PID, (id_t)e->pid, &info, WEXITED | WNOWAIT) < 0)
		return ferry_fd_failed(error, FERRY_ERROR_LINK, e->fds.peer, errno);
	if (info.si_code == CLD_EXITED && info.si_status == 0)
		return TRUE;
	if (info.si_code == CLD_EXITED)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "%s: the command failed with exit status %d", e->fds.peer,
			    info.si_status);
	else
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "%s: the command was killed by signal %d (%s)", e->fds.peer,
			    info.si_status, strsignal(info.si_status));
	return FALSE;
}

/* Puts the command's own failure in the place of @cause, which only says that the pipe broke. */
static gssize failed(ExecChannel *e, GError *cause, GError **error)
{
	if (g_error_matches(cause, FERRY_ERROR, FERRY_ERROR_LINK) && has_exited(e, EXIT_GRACE_US) &&
	    !exit_status(e, error))
		g_error_free(cause);
	else
		g_propagate_error(error, cause);
	return -1;
}

static gssize exec_read(FerryChannel *channel, const struct iovec *iov, int n, GError **error)
{
	ExecChannel *e = (ExecChannel *)channel;
	GError *cause = NULL;
	gssize got = ferry_fd_channel_read(channel, iov, n, &cause);

	if (got < 0)
		return failed(e, cause, error);
	if (got == 0 && has_exited(e, EXIT_GRACE_US) && !exit_status(e, error))
		return -1;
	return got;
}

static gssize exec_try_write(FerryChannel *channel, const struct iovec *iov, int n, GError **error)
{
	GError *cause = NULL;
	gssize done = ferry_fd_channel_try_write(channel, iov, n, &cause);

	return done < 0 ? failed((ExecChannel *)channel, cause, error) : done;
}

static void exec_shutdown(FerryChannel *channel)
{
	ferry_fd_channel_shutdown(channel);
	kill(-((ExecChannel *)channel)->pid, SIGKILL);
}

static gboolean exec_finish(FerryChannel *channel, GError **error)
{
	ExecChannel *e = (ExecChannel *)channel;

	if (!ferry_fd_channel_finish(channel, error))
		return FALSE;
	if (!has_exited(e, -1)) {
		ferry_fd_channel_is_shut(&e->fds, error);
		return FALSE;
	}
	return exit_status(e, error);
}

static void exec_close(FerryChannel *channel)
{
	ExecChannel *e = (ExecChannel *)channel;
	gboolean well = e->fds.finished && has_exited(e, 0) && exit_status(e, NULL);

	/* What a command that ended well left running in the background was meant to. */
	if (!well)
		kill(-e->pid, SIGKILL);
	while (waitpid(e->pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	ferry_fd_close(e->pidfd);
	ferry_fd_channel_clear(&e->fds);
	g_free(e);
}

static const FerryChannelOps channel_ops = {
	.name = "exec",
	.read = exec_read,
	.write = ferry_fd_channel_write,
	.try_write = exec_try_write,
	.wait_writable = ferry_fd_channel_wait_writable,
	.shutdown = exec_shutdown,
	.finish = exec_finish,
	.carrier = ferry_page_carrier_new,
	.close = exec_close,
};

/* Returns 0 and the process, or an errno. @in and @out are at least 3. */
static int spawn(const char *command, int in, int out, pid_t *pid)
{
	char *const argv[] = { (char *)"sh", (char *)"-c", (char *)command, NULL };
	short flags = POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int outcome;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, flags);
	posix_spawnattr_setpgroup(&attributes, 0);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawn_file_actions_init(&files);
	outcome = posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
	if (!outcome)
		outcome = posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
	if (!outcome)
		outcome = posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
	if (!outcome)
		outcome = posix_spawn(pid, "/bin/sh", &files, &attributes, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attributes);
	return outcome;
}

/* A pipe with both ends clear of stdin, stdout and stderr, which an embedder may have closed. */
static gboolean make_pipe(FerryFd *read_end, FerryFd *write_end, const char *uri, GError **error)
{
	g_auto(FerryFd) low_read = -1, low_write = -1;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, uri, errno);
	low_read = ends[0];
	low_write = ends[1];
	fcntl(low_write, F_SETPIPE_SZ, PIPE_SIZE);
	*read_end = fcntl(low_read, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	*write_end = fcntl(low_write, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (*read_end < 0 || *write_end < 0)
		return ferry_fd_failed(error, FERRY_ERROR_IO, uri, errno);
	return TRUE;
}

static FerryChannel *start(const char *uri, GError **error)
{
	g_auto(FerryFd) command_in = -1, command_out = -1, in = -1, out = -1;
	g_autofree ExecChannel *e = g_new0(ExecChannel, 1);
	const char *command = ferry_uri_rest(uri);
	int outcome;

	if (!*command) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID, "%s: expected a command", uri);
		return NULL;
	}
	if (!make_pipe(&command_in, &out, uri, error) ||
	    !make_pipe(&in, &command_out, uri, error) ||
	    !ferry_fd_channel_init(&e->fds, &channel_ops, FERRY_FD_PIPE, in, out, uri, error))
		return NULL;
	ferry_fd_steal(&in);
	ferry_fd_steal(&out);
	outcome = spawn(command, command_in, command_out, &e->pid);
	if (outcome) {
		ferry_fd_failed(error, FERRY_ERROR_IO, uri, outcome);
		ferry_fd_channel_clear(&e->fds);
		return NULL;
	}
	e->pidfd = pidfd_open(e->pid, 0);
	if (e->pidfd < 0) {
		ferry_fd_failed(error, FERRY_ERROR_IO, uri, errno);
		exec_close(&g_steal_pointer(&e)->fds.base);
		return NULL;
	}
	return &g_steal_pointer(&e)->fds.base;
}

static FerryChannel *exec_connect(const char *uri, guint timeout_ms, GCancellable *cancellable,
				  GError **error)
{
	return start(uri, error);
}

static FerryListener *exec_listen(const char *uri, GCancellable *cancellable, GError **error)
{
	FerryChannel *channel = start(uri, error);

	return channel ? ferry_one_shot_listener_new(uri, channel, -1) : NULL;
}

const FerryTransport ferry_exec_transport = {
	.scheme = "exec",
	.connect = exec_connect,
	.listen = exec_listen,
};
