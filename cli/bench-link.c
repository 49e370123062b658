/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench.h"
#include "common.h"

#include <bench-link.h>
#include <signal.h>
#include <stdio.h>
#include <ferry/error.h>

static const FerryCliHelp help = {
	.command = "bench link",
	.summary =
		"Measures, in turns and in one run, raw RDMA writes and TCP sockets over a network, and "
		"whole\nmigrations over both: how much of the network Ferry uses, and how many queue "
		"pairs or\nconnections it takes.",
	.description =
		"Without --listen and --peer both ends are on this host: over RDMA and TCP where it has an "
		"RDMA\ndevice, else over TCP alone. The raw measurements go from one hot buffer to "
		"another: the\nceiling. The migrations are of RAM that nothing compresses and nobody "
		"writes; over several\nconnections by multifd. With RDMA, what registering memory costs "
		"is measured, too. HOST of\nrdma: must be an address of an RDMA port; tcp: leaves RDMA "
		"out. PORT is for the two to talk,\nand the measurements take free ports beside it. "
		"Nothing is encrypted, and a listener serves\nwhoever connects: use a private network. A "
		"warning says which figures spread too far to be\nrelied on.\n\n"
		"Examples:\n"
		"  ferry bench link --ram 2G\n"
		"  ferry bench link --listen rdma:192.0.2.7:4455              on one host\n"
		"  ferry bench link --peer rdma:192.0.2.7:4455                on the other\n"
		"  ferry bench link --peer rdma:192.0.2.7:4455 --queue-pairs 1,4 --connections 1,8 "
		"--ib-write-bw\n\n"
		"Exit status: 0 done, 1 it could not be measured, 2 wrong usage.",
};

/* As they are given. */
typedef struct {
	char *listen;
	char *peer;
	char *ram;
	char *sizes;
	char *queue_pairs;
	char *connections;
	char *depths;
	FerryCliBenchFiles files;
	int repeat;
	double seconds;
	gboolean pin_all;
	gboolean perftest;
} Options;

static void options_clear(Options *options)
{
	g_free(options->listen);
	g_free(options->peer);
	g_free(options->ram);
	g_free(options->sizes);
	g_free(options->queue_pairs);
	g_free(options->connections);
	g_free(options->depths);
	ferry_cli_bench_files_clear(&options->files);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)

static gboolean wrong(const char *what)
{
	ferry_cli_usage("bench link", "%s", what);
	return FALSE;
}

/* "1,4": at most FERRY_BENCH_LIST_MAX numbers, as sizes may be said. */
static gboolean parse_list(const char *text, guint64 most, FerryBenchList *list, GError **error)
{
	g_auto(GStrv) parts = g_strsplit(text, ",", -1);
	guint given = g_strv_length(parts);

	if (!given || given > FERRY_BENCH_LIST_MAX) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "'%s': expected 1 to %u numbers with commas between", text,
			    FERRY_BENCH_LIST_MAX);
		return FALSE;
	}
	for (guint i = 0; i < given; i++) {
		if (!ferry_cli_parse_size(parts[i], &list->at[i], error))
			return FALSE;
		if (list->at[i] < 1 || list->at[i] > most) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
				    "%s is not within 1 to %" G_GUINT64_FORMAT, parts[i], most);
			return FALSE;
		}
	}
	list->n = given;
	return TRUE;
}

static gboolean parse_lists(const Options *options, FerryBenchLinkPlan *plan, GError **error)
{
	const struct {
		const char *option, *given, *otherwise;
		guint64 most;
		FerryBenchList *list;
	} lists[] = {
		{ "queue-pairs", options->queue_pairs, "1,2,4,8", FERRY_BENCH_QUEUE_PAIRS_MAX,
		  &plan->queue_pairs },
		{ "connections", options->connections, "1,2,4,8", FERRY_BENCH_CONNECTIONS_MAX,
		  &plan->connections },
		{ "sizes", options->sizes, "4K,64K,256K,1M", FERRY_BENCH_SIZE_MAX, &plan->sizes },
		{ "depth", options->depths, NULL, FERRY_BENCH_DEPTH_MAX, &plan->depths },
	};

	for (guint i = 0; i < G_N_ELEMENTS(lists); i++) {
		const char *text = lists[i].given ? lists[i].given : lists[i].otherwise;

		if (!text || parse_list(text, lists[i].most, lists[i].list, error))
			continue;
		g_prefix_error(error, "--%s: ", lists[i].option);
		return FALSE;
	}
	return ferry_cli_parse_size(options->ram ? options->ram : "1G", &plan->ram, error);
}

/* NULL: with both ends here. */
static gboolean check_uri(const char *uri)
{
	return !uri || g_str_has_prefix(uri, "rdma:") || g_str_has_prefix(uri, "tcp:") ||
	       wrong("expected rdma:HOST:PORT or tcp:HOST:PORT");
}

static gboolean make_plan(const Options *options, FerryBenchLinkPlan *plan)
{
	g_autoptr(GError) error = NULL;

	*plan = (FerryBenchLinkPlan){ .repeat = options->repeat,
				      .seconds = options->seconds,
				      .pin_all = options->pin_all,
				      .perftest = options->perftest };
	if (options->listen && options->peer)
		return wrong("--listen and --peer exclude each other: one on each host");
	if (options->repeat < 1 || options->repeat > 1000)
		return wrong("--repeat is 1 to 1000");
	if (!(options->seconds >= 0.01 && options->seconds <= 600))
		return wrong("--seconds is 0.01 to 600");
	if (!check_uri(options->listen) || !check_uri(options->peer))
		return FALSE;
	if (!parse_lists(options, plan, &error))
		return wrong(error->message);
	if (plan->ram < 1 << 20 || plan->ram % (1 << 20))
		return wrong("--ram is a multiple of 1M");
	return TRUE;
}

static int measure(const char *uri, const Options *options, const FerryBenchLinkPlan *plan)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FerryBenchRecord)
		record = ferry_bench_link_measure(uri, plan, ferry_cli_bench_tell, &error);

	return ferry_cli_bench_finish("bench link", record, &options->files, error);
}

/* Both ends here: a process of this program listens. */
static int measure_self(const Options *options, const FerryBenchLinkPlan *plan)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *own = ferry_bench_link_own_uri(NULL);
	g_autofree char *real = NULL;
	g_autoptr(GSubprocess) child = ferry_cli_bench_spawn("link", own ? own : "tcp:127.0.0.1:0",
							     plan->ram, &real, &error);
	int status;

	if (!child)
		return ferry_cli_fail("bench link", "%s", error->message);
	status = measure(real, options, plan);
	g_subprocess_force_exit(child);
	return status;
}

static int run(const Options *options, const FerryBenchLinkPlan *plan)
{
	g_autoptr(GError) error = NULL;

	if (options->peer)
		return measure(options->peer, options, plan);
	if (!options->listen)
		return measure_self(options, plan);
	ferry_bench_link_listen(options->listen, plan->ram, ferry_cli_bench_listening, &error);
	return ferry_cli_fail("bench link", "%s", error->message);
}

int ferry_cli_bench_link(int argc, char **argv)
{
	g_auto(Options) options = { .repeat = 5, .seconds = 1 };
	const GOptionEntry entries[] = {
		{ "listen", 0, 0, G_OPTION_ARG_STRING, &options.listen,
		  "Be the end that is written to; port 0: a free one", "URI" },
		{ "peer", 0, 0, G_OPTION_ARG_STRING, &options.peer,
		  "Measure against the end that listens there", "URI" },
		{ "ram", 0, 0, G_OPTION_ARG_STRING, &options.ram,
		  "RAM of a migration, default 1G; with --listen the most that a peer may ask for",
		  "SIZE" },
		{ "repeat", 0, 0, G_OPTION_ARG_INT, &options.repeat,
		  "Turns, default 5; one more goes before and does not count", "N" },
		{ "seconds", 0, 0, G_OPTION_ARG_DOUBLE, &options.seconds,
		  "Of each raw measurement, default 1", "SECONDS" },
		{ "sizes", 0, 0, G_OPTION_ARG_STRING, &options.sizes,
		  "Of raw writes, default 4K,64K,256K,1M", "SIZE,..." },
		{ "queue-pairs", 0, 0, G_OPTION_ARG_STRING, &options.queue_pairs,
		  "Of raw writes and migrations, default 1,2,4,8", "N,..." },
		{ "connections", 0, 0, G_OPTION_ARG_STRING, &options.connections,
		  "Of TCP, raw and migrations, default 1,2,4,8", "N,..." },
		{ "depth", 0, 0, G_OPTION_ARG_STRING, &options.depths,
		  "Raw writes in flight on a queue pair, default as many as make 1 MiB, 4 to 64",
		  "N,..." },
		{ "pin-all", 0, 0, G_OPTION_ARG_NONE, &options.pin_all,
		  "Migrations register all RAM before the first page (rdma-pin-all)", NULL },
		{ "ib-write-bw", 0, 0, G_OPTION_ARG_NONE, &options.perftest,
		  "Run perftest's ib_write_bw too, on both hosts", NULL },
		FERRY_CLI_BENCH_JSON(options.files),
		FERRY_CLI_BENCH_REPORT(options.files),
		{ NULL },
	};
	FerryBenchLinkPlan plan;

	if (!ferry_cli_parse(&help, entries, &argc, &argv, 0, 0) || !make_plan(&options, &plan))
		return FERRY_EXIT_USAGE;
	signal(SIGPIPE, SIG_IGN);
	return run(&options, &plan);
}
