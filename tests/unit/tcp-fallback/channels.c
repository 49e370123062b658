/* SPDX-License-Identifier: BSD-2-Clause */
#include "channels.h"

#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TIMEOUT_MS 10000

const FerryTransport *transport_of(const char *uri)
{
	for (const FerryTransport *const *t = ferry_socket_transports(); *t; t++)
		if (g_str_has_prefix(uri, (*t)->scheme) && uri[strlen((*t)->scheme)] == ':')
			return *t;
	g_error("no transport for %s", uri);
}

FerryChannel *connect_to(const char *uri, GError **error)
{
	return transport_of(uri)->connect(uri, TIMEOUT_MS, NULL, error);
}

FerryListener *listen_on(const char *uri, GError **error)
{
	return transport_of(uri)->listen(uri, NULL, error);
}

gboolean make_pair(const char *uri, FerryChannel **source, FerryChannel **destination)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FerryListener) listener = listen_on(uri, &error);
	g_autoptr(FerryChannel) connected = listener ? connect_to(listener->uri, &error) : NULL;

	if (connected)
		*destination = listener->ops->accept(listener, NULL, &error);
	if (error)
		printf("# %s\n", error->message);
	CU_ASSERT_PTR_NULL(error);
	if (error)
		return FALSE;
	*source = g_steal_pointer(&connected);
	return TRUE;
}

size_t read_up_to(FerryChannel *channel, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		struct iovec iov = { (char *)buf + done, len - done };
		gssize n = channel->ops->read(channel, &iov, 1, NULL);

		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

gboolean is_error(const GError *error, int code, const char *text)
{
	if (g_error_matches(error, FERRY_ERROR, code) && strstr(error->message, text))
		return TRUE;
	printf("# code %d: %s\n", error ? error->code : -1, error ? error->message : "no error");
	return FALSE;
}

static guint count_entries(const char *path)
{
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	guint n = 0;

	while (dir && g_dir_read_name(dir))
		n++;
	return n;
}

guint open_fds(void)
{
	return count_entries("/proc/self/fd");
}

guint running_threads(void)
{
	return count_entries("/proc/self/task");
}

static gpointer sleeper_main(gpointer user)
{
	Sleeper *sleeper = user;

	g_atomic_int_set(&sleeper->tid, (gint)syscall(SYS_gettid));
	sleeper->func(sleeper->user);
	return NULL;
}

void sleeper_start(Sleeper *sleeper, void (*func)(gpointer user), gpointer user)
{
	*sleeper = (Sleeper){ .func = func, .user = user };
	sleeper->thread = g_thread_new("sleeper", sleeper_main, sleeper);
}

/* Asleep: in a system call that polls or waits, not merely without a processor. */
static gboolean is_asleep(gint tid)
{
	g_autofree char *path = g_strdup_printf("/proc/self/task/%d/syscall", tid);
	g_autofree char *text = NULL;
	long number;

	if (!g_file_get_contents(path, &text, NULL, NULL) || sscanf(text, "%ld", &number) != 1)
		return FALSE;
	return number == SYS_poll || number == SYS_ppoll;
}

void sleeper_wait_asleep(Sleeper *sleeper)
{
	gint tid;

	while ((tid = g_atomic_int_get(&sleeper->tid)) == 0 || !is_asleep(tid))
		g_usleep(1000);
}

double sleeper_join(Sleeper *sleeper, gint64 since)
{
	g_thread_join(sleeper->thread);
	return (double)(g_get_monotonic_time() - since) / 1000;
}

char *make_folder(void)
{
	return g_dir_make_tmp("ferry-test-XXXXXX", NULL);
}

void remove_folder(char *folder)
{
	g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
	const char *name;

	while (dir && (name = g_dir_read_name(dir))) {
		g_autofree char *path = g_build_filename(folder, name, NULL);

		g_unlink(path);
	}
	g_rmdir(folder);
	g_free(folder);
}
