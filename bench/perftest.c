/* SPDX-License-Identifier: BSD-2-Clause */
#include "perftest.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <ferry/error.h>
#include <ferry/rdma.h>

#define PROGRAM "ib_write_bw"
#define LISTEN_US (5 * G_TIME_SPAN_SECOND)

/* The GID that is @address, NULL where none is: InfiniBand's are not. */
static const FerryRdmaPort *find_port(GPtrArray *ports, GInetAddress *address)
{
	g_autofree char *text = g_inet_address_to_string(address);
	g_autofree char *mapped = strchr(text, ':') ? g_strdup(text)
						    : g_strconcat("::ffff:", text, NULL);
	const FerryRdmaPort *found = NULL;

	for (guint i = 0; i < ports->len; i++) {
		const FerryRdmaPort *port = ports->pdata[i];

		/* RoCE v1 and v2 have an entry each for the same address. */
		if (port->gid && !g_ascii_strcasecmp(port->gid, mapped) &&
		    (!found || !g_strcmp0(port->gid_type, "RoCE v2")))
			found = port;
	}
	return found;
}

static GPtrArray *arguments_of(const FerryBenchPerftest *perftest, guint16 port)
{
	GPtrArray *arguments = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(GPtrArray) ports = ferry_rdma_list_ports(NULL);
	const FerryRdmaPort *local = find_port(
		ports, g_inet_socket_address_get_address(G_INET_SOCKET_ADDRESS(perftest->local)));

	g_ptr_array_add(arguments, g_strdup(PROGRAM));
	/* Else a difference of the processor's clock ends it. */
	g_ptr_array_add(arguments, g_strdup("-F"));
	g_ptr_array_add(arguments, g_strdup_printf("--port=%u", port));
	g_ptr_array_add(arguments, g_strdup_printf("--qp=%u", perftest->queue_pairs));
	g_ptr_array_add(arguments, g_strdup_printf("--size=%" G_GUINT64_FORMAT, perftest->size));
	g_ptr_array_add(arguments, g_strdup_printf("--iters=%" G_GUINT64_FORMAT, perftest->count));
	if (local) {
		g_ptr_array_add(arguments, g_strdup_printf("--ib-dev=%s", local->device));
		g_ptr_array_add(arguments, g_strdup_printf("--ib-port=%u", local->port));
		g_ptr_array_add(arguments, g_strdup_printf("--gid-index=%u", local->gid_index));
	} else {
		g_ptr_array_add(arguments, g_strdup("--rdma_cm"));
	}
	return arguments;
}

/* In the child, before ib_write_bw itself. SIGALRM ends it: it was seen to poll for ever. */
static void limit_life(gpointer user)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(GPOINTER_TO_UINT(user));
}

static GSubprocess *spawn(GPtrArray *arguments, guint limit_s, GError **error)
{
	g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(
		G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_MERGE);
	g_autoptr(GError) why = NULL;
	GSubprocess *child;

	g_ptr_array_add(arguments, NULL);
	g_subprocess_launcher_set_child_setup(launcher, limit_life, GUINT_TO_POINTER(limit_s),
					      NULL);
	child = g_subprocess_launcher_spawnv(launcher, (const char *const *)arguments->pdata, &why);
	if (!child)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "%s; ib_write_bw is in the package perftest", why->message);
	return child;
}

static gboolean find_free_port(guint16 *port, GError **error)
{
	g_autoptr(GSocketListener) probe = g_socket_listener_new();

	*port = g_socket_listener_add_any_inet_port(probe, NULL, error);
	return *port != 0;
}

static gboolean is_listening(const char *table, guint16 port)
{
	g_autofree char *text = NULL;
	g_autofree char *wanted = g_strdup_printf(":%04X ", port);

	if (!g_file_get_contents(table, &text, NULL, NULL))
		return FALSE;
	for (char *at = text; (at = strstr(at, wanted)); at++) {
		const char *state = strchr(at + strlen(wanted), ' ');

		if (state && g_str_has_prefix(state, " 0A "))
			return TRUE;
	}
	return FALSE;
}

GSubprocess *ferry_bench_perftest_serve(const FerryBenchPerftest *perftest, guint16 *port,
					GError **error)
{
	gint64 deadline = g_get_monotonic_time() + LISTEN_US;
	g_autoptr(GPtrArray) arguments = NULL;
	g_autoptr(GSubprocess) server = NULL;

	if (!find_free_port(port, error))
		return NULL;
	arguments = arguments_of(perftest, *port);
	server = spawn(arguments, 0, error);
	if (!server)
		return NULL;
	/* Nothing tells when it listens, and it would take a try for its client. */
	while (!is_listening("/proc/net/tcp", *port) && !is_listening("/proc/net/tcp6", *port)) {
		if (g_get_monotonic_time() > deadline) {
			g_subprocess_force_exit(server);
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
				    "ib_write_bw does not listen within 5 s");
			return NULL;
		}
		g_usleep(10000);
	}
	return g_steal_pointer(&server);
}

double ferry_bench_perftest_parse(const char *output)
{
	g_auto(GStrv) lines = g_strsplit(output, "\n", -1);
	double average = 0;

	/* bytes, iterations, peak, average, messages; MiB/s, which it calls MB/sec */
	for (char **line = lines; *line; line++) {
		unsigned long long bytes, iterations;
		double peak, rate, messages;

		if (sscanf(*line, " %llu %llu %lf %lf %lf", &bytes, &iterations, &peak, &rate,
			   &messages) == 5)
			average = rate * (1 << 20);
	}
	return average;
}

gboolean ferry_bench_perftest_measure(const FerryBenchPerftest *perftest, GSocketAddress *peer,
				      guint16 port, double *rate, GError **error)
{
	g_autoptr(GPtrArray) arguments = arguments_of(perftest, port);
	g_autofree char *output = NULL;
	g_autoptr(GSubprocess) client = NULL;

	g_ptr_array_add(arguments, g_inet_address_to_string(g_inet_socket_address_get_address(
					   G_INET_SOCKET_ADDRESS(peer))));
	client = spawn(arguments, perftest->limit_s, error);
	if (!client || !g_subprocess_communicate_utf8(client, NULL, NULL, &output, NULL, error))
		return FALSE;
	*rate = ferry_bench_perftest_parse(output);
	if (*rate <= 0 || !g_subprocess_get_successful(client)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK, "ib_write_bw: %s",
			    g_subprocess_get_if_signaled(client) ? "no end in time"
								 : g_strstrip(output));
		return FALSE;
	}
	return TRUE;
}
