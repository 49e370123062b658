/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ceiling that migrations over several connections are compared with: memory that is there,
 * copied through loopback TCP connections into memory that is there, or into the mapping of FILE as
 * it is, by one thread for each end of each connection, and nothing else. The receivers are a
 * process of their own.
 *   loopback-copy MIB [CONNECTIONS [FILE]]
 * prints bytes a second, and the CPU seconds of both processes while it copied.
 */
#include <fcntl.h>
#include <glib.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONNECTIONS_MAX 16u
#define PIECE (512u << 10)

typedef struct {
	int fd;
	guint8 *memory;
	size_t size;
	gboolean failed;
} End;

static double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
	       (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static gpointer send_all(gpointer data)
{
	End *end = data;

	for (size_t done = 0; done < end->size && !end->failed;) {
		ssize_t n = send(end->fd, end->memory + done, MIN(end->size - done, PIECE),
				 MSG_NOSIGNAL);

		end->failed = n <= 0;
		done += (size_t)MAX(n, 0);
	}
	return NULL;
}

static gpointer receive_all(gpointer data)
{
	End *end = data;

	for (size_t done = 0; done < end->size && !end->failed;) {
		ssize_t n = recv(end->fd, end->memory + done, MIN(end->size - done, PIECE),
				 MSG_WAITALL);

		end->failed = n <= 0;
		done += (size_t)MAX(n, 0);
	}
	return NULL;
}

/* Runs a thread for each end; returns whether all got through. */
static gboolean run(End *ends, guint n, GThreadFunc func)
{
	GThread *threads[CONNECTIONS_MAX];
	gboolean ok = TRUE;

	for (guint i = 0; i < n; i++)
		threads[i] = g_thread_new("copy", func, &ends[i]);
	for (guint i = 0; i < n; i++) {
		g_thread_join(threads[i]);
		ok = ok && !ends[i].failed;
	}
	return ok;
}

/* Cuts the memory of @path, or, where that is NULL, populated memory, into one part for each
 * connection. */
static gboolean make_ends(End *ends, guint n, size_t size, const char *path)
{
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	guint8 *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			      MAP_SHARED | (path ? 0 : MAP_ANONYMOUS), fd, 0);

	if (memory == MAP_FAILED)
		return FALSE;
	for (size_t at = 0; at < size && !path; at += 8)
		*(guint64 *)(memory + at) = at * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15) | 1;
	for (guint i = 0; i < n; i++)
		ends[i] = (End){ .fd = -1, .memory = memory + size / n * i, .size = size / n };
	return TRUE;
}

/* The child: says by a byte that its memory is there, and then what it cost. */
static int receiver(int listener, int pipe_in, guint n, size_t size, const char *path)
{
	End ends[CONNECTIONS_MAX];
	double before, cost;

	if (!make_ends(ends, n, size, path) || write(pipe_in, "!", 1) != 1)
		return 1;
	for (guint i = 0; i < n; i++)
		ends[i].fd = accept(listener, NULL, NULL);
	before = cpu_seconds();
	if (!run(ends, n, receive_all))
		return 1;
	cost = cpu_seconds() - before;
	return write(pipe_in, &cost, sizeof(cost)) != sizeof(cost);
}

static gboolean connect_all(End *ends, guint n, const struct sockaddr_in *address)
{
	const int on = 1;

	for (guint i = 0; i < n; i++) {
		ends[i].fd = socket(AF_INET, SOCK_STREAM, 0);
		setsockopt(ends[i].fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (connect(ends[i].fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
			return FALSE;
	}
	return TRUE;
}

static int sender(int pipe_out, const struct sockaddr_in *address, guint n, size_t size)
{
	End ends[CONNECTIONS_MAX];
	double before, cost, theirs;
	gint64 begin;
	char ready;

	if (!make_ends(ends, n, size, NULL) || read(pipe_out, &ready, 1) != 1 ||
	    !connect_all(ends, n, address))
		return 1;
	before = cpu_seconds();
	begin = g_get_monotonic_time();
	if (!run(ends, n, send_all) || read(pipe_out, &theirs, sizeof(theirs)) != sizeof(theirs))
		return 1;
	cost = cpu_seconds() - before;
	printf("%.0f %.6f\n", size / ((g_get_monotonic_time() - begin) / 1e6), cost + theirs);
	return 0;
}

int main(int argc, char **argv)
{
	size_t size = argc > 1 ? (size_t)strtoul(argv[1], NULL, 10) << 20 : 0;
	guint n = argc > 2 ? (guint)strtoul(argv[2], NULL, 10) : 2;
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0), ends[2], status;
	pid_t child;

	if (!size || !n || n > CONNECTIONS_MAX) {
		fprintf(stderr, "usage: loopback-copy MIB [CONNECTIONS, at most %u [FILE]]\n",
			CONNECTIONS_MAX);
		return 2;
	}
	if (bind(listener, (struct sockaddr *)&address, len) < 0 ||
	    listen(listener, CONNECTIONS_MAX) < 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &len) < 0 || pipe(ends) < 0)
		return perror("loopback-copy"), 1;
	child = fork();
	if (child == 0)
		_exit(receiver(listener, ends[1], n, size, argc > 3 ? argv[3] : NULL));
	close(ends[1]);
	status = sender(ends[0], &address, n, size);
	return child < 0 || waitpid(child, NULL, 0) < 0 || status;
}
