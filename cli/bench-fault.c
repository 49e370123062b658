/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench.h"
#include "common.h"

#include <bench-fault.h>
#include <signal.h>
#include <stdio.h>

static const FerryCliHelp help = {
	.command = "bench fault",
	.operands = "[URI]",
	.summary =
		"Measures how long a guest waits for a page after a postcopy switch: a thread touches "
		"missing\npages at random, by each way that pages can come, idle and while the others "
		"come.",
	.description =
		"Beside them the floor, in the same run: an RDMA READ of the page and UFFDIO_CONTINUE, "
		"and\nnothing else. With URI both ends are on this host, and the destination listens "
		"there. URI is\nrdma:HOST:PORT with an address of an RDMA port, or tcp:HOST:PORT, which "
		"leaves RDMA out; PORT\nis for the two to talk, and 0 a free one. Nothing is encrypted, "
		"and a listener serves whoever\nconnects: use a private network.\n\n"
		"Examples:\n"
		"  ferry bench fault tcp:127.0.0.1:0\n"
		"  ferry bench fault --listen rdma:192.0.2.7:4456             at the destination\n"
		"  ferry bench fault --peer rdma:192.0.2.7:4456 --json all    at the source\n\n"
		"Exit status: 0 done, 1 it could not be measured, 2 wrong usage.",
};

/* As they are given. */
typedef struct {
	char *listen;
	char *peer;
	char *ram;
	FerryCliBenchFiles files;
	int faults;
	int repeat;
} Options;

static void options_clear(Options *options)
{
	g_free(options->listen);
	g_free(options->peer);
	g_free(options->ram);
	ferry_cli_bench_files_clear(&options->files);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)

static gboolean wrong(const char *what)
{
	ferry_cli_usage("bench fault", "%s", what);
	return FALSE;
}

/* @operand: the URI of a run with both ends here, or NULL. */
static gboolean check_ends(const Options *options, const char *operand)
{
	const char *uri = operand ? operand : options->listen ? options->listen : options->peer;

	if (!uri || !!operand + !!options->listen + !!options->peer != 1)
		return wrong("say one of URI, --listen and --peer");
	if (!g_str_has_prefix(uri, "rdma:") && !g_str_has_prefix(uri, "tcp:"))
		return wrong("expected rdma:HOST:PORT or tcp:HOST:PORT");
	return TRUE;
}

static gboolean make_plan(const Options *options, FerryBenchFaultPlan *plan)
{
	g_autoptr(GError) error = NULL;

	if (options->faults < 1 || options->faults > (int)FERRY_BENCH_FAULTS_MAX)
		return wrong("--faults is 1 to 10000000");
	if (options->repeat < 1 || options->repeat > 1000)
		return wrong("--repeat is 1 to 1000");
	if (!ferry_cli_parse_size(options->ram ? options->ram : "512M", &plan->ram, &error))
		return wrong(error->message);
	if (plan->ram < 1 << 20 || plan->ram % (1 << 20))
		return wrong("--ram is a multiple of 1M");
	plan->faults = options->faults;
	plan->repeat = options->repeat;
	return TRUE;
}

static int measure(const char *uri, const Options *options, const FerryBenchFaultPlan *plan)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FerryBenchRecord)
		record = ferry_bench_fault_measure(uri, plan, ferry_cli_bench_tell, &error);

	return ferry_cli_bench_finish("bench fault", record, &options->files, error);
}

static int measure_self(const char *uri, const Options *options, const FerryBenchFaultPlan *plan)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *real = NULL;
	g_autoptr(GSubprocess)
		child = ferry_cli_bench_spawn("fault", uri, plan->ram, &real, &error);
	int status;

	if (!child)
		return ferry_cli_fail("bench fault", "%s", error->message);
	status = measure(real, options, plan);
	g_subprocess_force_exit(child);
	return status;
}

int ferry_cli_bench_fault(int argc, char **argv)
{
	g_auto(Options) options = { .faults = 1000, .repeat = 5 };
	const GOptionEntry entries[] = {
		{ "listen", 0, 0, G_OPTION_ARG_STRING, &options.listen,
		  "Be the destination, for one source after the other", "URI" },
		{ "peer", 0, 0, G_OPTION_ARG_STRING, &options.peer,
		  "Be the source, and measure with the destination that listens there", "URI" },
		{ "ram", 0, 0, G_OPTION_ARG_STRING, &options.ram,
		  "RAM of the guest, default 512M; with --listen the most that a peer may ask for",
		  "SIZE" },
		{ "faults", 0, 0, G_OPTION_ARG_INT, &options.faults,
		  "Of an idle measurement, default 1000; with background as many as there are",
		  "N" },
		{ "repeat", 0, 0, G_OPTION_ARG_INT, &options.repeat,
		  "Turns, default 5; one more goes before and does not count", "N" },
		FERRY_CLI_BENCH_JSON(options.files),
		FERRY_CLI_BENCH_REPORT(options.files),
		{ NULL },
	};
	g_autoptr(GError) error = NULL;
	FerryBenchFaultPlan plan;
	const char *operand;

	if (!ferry_cli_parse(&help, entries, &argc, &argv, 0, 1))
		return FERRY_EXIT_USAGE;
	operand = argc > 1 ? argv[1] : NULL;
	if (!check_ends(&options, operand) || !make_plan(&options, &plan))
		return FERRY_EXIT_USAGE;
	signal(SIGPIPE, SIG_IGN);
	if (!options.listen)
		return operand ? measure_self(operand, &options, &plan)
			       : measure(options.peer, &options, &plan);
	ferry_bench_fault_listen(options.listen, plan.ram, ferry_cli_bench_listening, &error);
	return ferry_cli_fail("bench fault", "%s", error->message);
}
