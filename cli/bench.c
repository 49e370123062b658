/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench.h"
#include "commands.h"
#include "common.h"

#include <stdio.h>

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} benches[] = {
	{ "link", ferry_cli_bench_link },
};

static const FerryCliHelp help = {
	.command = "bench",
	.operands = "link ...",
	.summary = "Measures what a fabric can do, and what a migration makes of it.",
	.description = "  link   raw RDMA writes and whole migrations between two hosts\n\n"
		       "Example:\n"
		       "  ferry bench link --help\n\n"
		       "Exit status: 0 done, 1 it could not be measured, 2 wrong usage.",
};

int ferry_cli_bench(int argc, char **argv)
{
	const GOptionEntry entries[] = { { NULL } };

	for (guint i = 0; argc > 1 && i < G_N_ELEMENTS(benches); i++)
		if (g_str_equal(benches[i].name, argv[1]))
			return benches[i].run(argc - 1, argv + 1);
	if (!ferry_cli_parse(&help, entries, &argc, &argv, 1, 1))
		return FERRY_EXIT_USAGE;
	return ferry_cli_usage("bench", "there is no bench '%s'; there is link", argv[1]);
}
