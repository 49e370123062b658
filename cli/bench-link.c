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
		"Measures, in turns and in one run, raw RDMA writes over a fabric, and whole "
		"migrations\nover it: how much of the fabric Ferry uses, and how many queue pairs it "
		"takes.",
	.description =
		"Without --listen and --peer both ends are on this host. The raw writes are a plain loop "
		"of\nRDMA writes between two hot buffers: the ceiling. The migrations are of RAM that "
		"nothing\ncompresses and nobody writes. HOST must be an address of an RDMA port; PORT is "
		"for the two\nto talk, and the measurements take free ports beside it. Nothing is "
		"encrypted, and a listener\nserves whoever connects: use a private network.\n\n"
		"Examples:\n"
		"  ferry bench link --listen rdma:192.0.2.7:4455              on one host\n"
		"  ferry bench link --peer rdma:192.0.2.7:4455                on the other\n"
		"  ferry bench link --peer rdma:192.0.2.7:4455 --ram 8G --queue-pairs 1,4 "
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
	char *json;
	int repeat;
	int depth;
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
	g_free(options->json);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)

static gboolean wrong(const char *what)
{
	ferry_cli_usage("bench link", "%s", what);
	return FALSE;
}

/* "1,4": at most FERRY_BENCH_LIST_MAX numbers, as sizes may be said. */
static gboolean parse_list(const char *text, guint64 most, guint64 *numbers, guint *n,
			   GError **error)
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
		if (!ferry_cli_parse_size(parts[i], &numbers[i], error))
			return FALSE;
		if (numbers[i] < 1 || numbers[i] > most) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
				    "%s is not within 1 to %" G_GUINT64_FORMAT, parts[i], most);
			return FALSE;
		}
	}
	*n = given;
	return TRUE;
}

static gboolean parse_lists(const Options *options, FerryBenchLinkPlan *plan, GError **error)
{
	guint64 queue_pairs[FERRY_BENCH_LIST_MAX];

	if (!parse_list(options->queue_pairs ? options->queue_pairs : "1,2,4,8",
			FERRY_BENCH_QUEUE_PAIRS_MAX, queue_pairs, &plan->n_queue_pairs, error) ||
	    !parse_list(options->sizes ? options->sizes : "4K,64K,256K,1M", FERRY_BENCH_SIZE_MAX,
			plan->sizes, &plan->n_sizes, error) ||
	    !ferry_cli_parse_size(options->ram ? options->ram : "1G", &plan->ram, error))
		return FALSE;
	for (guint i = 0; i < plan->n_queue_pairs; i++)
		plan->queue_pairs[i] = queue_pairs[i];
	return TRUE;
}

static gboolean make_plan(const Options *options, FerryBenchLinkPlan *plan)
{
	g_autoptr(GError) error = NULL;

	*plan = (FerryBenchLinkPlan){ .repeat = options->repeat,
				      .seconds = options->seconds,
				      .depth = options->depth,
				      .pin_all = options->pin_all,
				      .perftest = options->perftest };
	if (options->listen && options->peer)
		return wrong("--listen and --peer exclude each other: one on each host");
	if (options->repeat < 1 || options->repeat > 1000)
		return wrong("--repeat is 1 to 1000");
	if (!(options->seconds >= 0.01 && options->seconds <= 600))
		return wrong("--seconds is 0.01 to 600");
	if (options->depth < 0 || options->depth > (int)FERRY_BENCH_DEPTH_MAX)
		return wrong("--depth is 1 to 1024, or 0 for as many writes as make 1 MiB");
	if (!parse_lists(options, plan, &error))
		return wrong(error->message);
	if (plan->ram < 1 << 20 || plan->ram % (1 << 20))
		return wrong("--ram is a multiple of 1M");
	return TRUE;
}

static int measure(const char *uri, const Options *options, const FerryBenchLinkPlan *plan)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FerryBenchLinkReport)
		report = ferry_bench_link_measure(uri, plan, ferry_cli_bench_tell, &error);
	g_autofree char *text = report ? ferry_bench_link_report_text(report) : NULL;

	if (text && g_strcmp0(options->json, "-"))
		fputs(text, stdout);
	if (report && options->json) {
		g_autoptr(JsonNode) node = ferry_bench_link_report_json(report);

		ferry_cli_bench_write_json(node, options->json, &error);
	}
	return error ? ferry_cli_fail("bench link", "%s", error->message) : FERRY_EXIT_DONE;
}

/* Both ends here: a process of this program listens. */
static int measure_self(const Options *options, const FerryBenchLinkPlan *plan)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *own = ferry_bench_link_own_uri(&error);
	g_autofree char *real = NULL;
	g_autoptr(GSubprocess) child = NULL;
	int status;

	if (own)
		child = ferry_cli_bench_spawn("link", own, plan->ram, &real, &error);
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
		  "Be the end that is written to; port 0: a free one", "rdma:HOST:PORT" },
		{ "peer", 0, 0, G_OPTION_ARG_STRING, &options.peer,
		  "Measure against the end that listens there", "rdma:HOST:PORT" },
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
		  "Of both, default 1,2,4,8", "N,..." },
		{ "depth", 0, 0, G_OPTION_ARG_INT, &options.depth,
		  "Raw writes in flight on a queue pair, default as many as make 1 MiB, 4 to 64",
		  "N" },
		{ "pin-all", 0, 0, G_OPTION_ARG_NONE, &options.pin_all,
		  "Migrations register all RAM before the first page (rdma-pin-all)", NULL },
		{ "ib-write-bw", 0, 0, G_OPTION_ARG_NONE, &options.perftest,
		  "Run perftest's ib_write_bw too, on both hosts", NULL },
		{ "json", 0, 0, G_OPTION_ARG_STRING, &options.json,
		  "Write the figures there too; -: to standard output, without the table", "FILE" },
		{ NULL },
	};
	FerryBenchLinkPlan plan;

	if (!ferry_cli_parse(&help, entries, &argc, &argv, 0, 0) || !make_plan(&options, &plan))
		return FERRY_EXIT_USAGE;
	signal(SIGPIPE, SIG_IGN);
	return run(&options, &plan);
}
