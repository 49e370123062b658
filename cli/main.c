/* SPDX-License-Identifier: BSD-2-Clause */
#include "commands.h"
#include "common.h"
#include "log.h"
#include "stream-commands.h"

#include <locale.h>
#include <stdio.h>
#include <ferry/version.h>

typedef struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help; /* one line */
} Subcommand;

static const Subcommand subcommands[] = {
	{ "run", ferry_cli_run, "run a reference guest that checks its own memory" },
	{ "migrate", ferry_cli_migrate, "move a guest to another monitor and watch it go" },
	{ "status", ferry_cli_status, "tell how a guest and its migration are, also as metrics" },
	{ "ctl", ferry_cli_ctl, "send a monitor any QMP command" },
	{ "inspect", ferry_cli_inspect, "print a migration stream, section by section" },
	{ "receive", ferry_cli_receive, "take in any monitor's migration, as files" },
	{ "send", ferry_cli_send, "put what receive took in into a fresh monitor" },
	{ "bench", ferry_cli_bench,
	  "measure what a fabric can do, and what a migration makes of it" },
	{ "doctor", ferry_cli_doctor,
	  "show what this host can do, with a remedy for what it cannot" },
};

static void print_help(FILE *to)
{
	fputs("ferry moves running guests from host to host.\n\nUsage: ferry SUBCOMMAND [OPTION]...\n\n",
	      to);
	for (guint i = 0; i < G_N_ELEMENTS(subcommands); i++)
		fprintf(to, "  %-9s %s\n", subcommands[i].name, subcommands[i].help);
	fputs("\nA guest that takes the ferry, in three terminals:\n"
	      "  ferry run --ram 1G --qmp unix:/tmp/b.qmp --incoming tcp:127.0.0.1:4444\n"
	      "  ferry run --ram 1G --qmp unix:/tmp/a.qmp --workload random:50\n"
	      "  ferry migrate --qmp unix:/tmp/a.qmp tcp:127.0.0.1:4444\n"
	      "\n'ferry SUBCOMMAND --help' tells more, and so does man ferry.\n",
	      to);
}

static const Subcommand *find(const char *name)
{
	for (guint i = 0; i < G_N_ELEMENTS(subcommands); i++)
		if (g_str_equal(subcommands[i].name, name))
			return &subcommands[i];
	return NULL;
}

static int unknown(const char *name)
{
	fprintf(stderr, "ferry: there is no subcommand '%s'\nTry 'ferry --help'.\n", name);
	return FERRY_EXIT_USAGE;
}

/* "ferry help", "ferry help SUBCOMMAND" */
static int show_help(const char *name)
{
	const Subcommand *subcommand = name ? find(name) : NULL;
	char *arguments[] = { (char *)name, (char *)"--help", NULL };

	if (subcommand)
		return subcommand->run(2, arguments);
	if (name)
		return unknown(name);
	print_help(stdout);
	return FERRY_EXIT_DONE;
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;
	const Subcommand *subcommand = name ? find(name) : NULL;

	setlocale(LC_CTYPE, ""); /* numbers keep their decimal point */
	ferry_cli_log_init();
	if (subcommand)
		return subcommand->run(argc - 1, argv + 1);
	if (!name) {
		print_help(stderr);
		return FERRY_EXIT_USAGE;
	}
	if (g_str_equal(name, "--version")) {
		puts("ferry " FERRY_VERSION);
		return FERRY_EXIT_DONE;
	}
	if (g_str_equal(name, "--help") || g_str_equal(name, "-h") || g_str_equal(name, "help"))
		return show_help(g_str_equal(name, "help") ? argv[2] : NULL);
	return unknown(name);
}
