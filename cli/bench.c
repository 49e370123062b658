/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench.h"
#include "commands.h"
#include "common.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <ferry/error.h>

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} benches[] = {
	{ "link", ferry_cli_bench_link },      { "fault", ferry_cli_bench_fault },
	{ "guest", ferry_cli_bench_harness },  { "compare", ferry_cli_bench_harness },
	{ "report", ferry_cli_bench_harness },
};

static const FerryCliHelp help = {
	.command = "bench",
	.operands = "link|guest|fault|compare|report ...",
	.summary = "Measures what a fabric can do, and what a migration makes of it.",
	.description =
		"  link      raw writes and sends, and whole migrations, between two hosts\n"
		"  guest     migrations of busy guests: how long they stand still, and where "
		"they no\n            longer converge\n"
		"  fault     how long a guest waits for a page after a postcopy switch\n"
		"  compare   Ferry beside QEMU, iperf3 and ib_write_bw, in turns\n"
		"  report    makes a page or tables of what another wrote with --json\n\n"
		"Examples:\n"
		"  ferry bench link --help\n"
		"  ferry bench compare --report compare.html\n\n"
		"Exit status: 0 done, 1 it could not be measured, 2 wrong usage.",
};

void ferry_cli_bench_listening(const char *uri)
{
	printf("listening on %s\n", uri);
	fflush(stdout);
}

void ferry_cli_bench_tell(const char *line)
{
	fprintf(stderr, "%s\n", line);
}

static void end_with_parent(gpointer user)
{
	prctl(PR_SET_PDEATHSIG, SIGTERM);
}

GSubprocess *ferry_cli_bench_spawn(const char *bench, const char *uri, guint64 ram, char **real,
				   GError **error)
{
	g_autoptr(GSubprocessLauncher)
		launcher = g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE);
	g_autofree char *bytes = g_strdup_printf("%" G_GUINT64_FORMAT, ram);
	g_autoptr(GSubprocess) child = NULL;
	g_autoptr(GDataInputStream) said = NULL;
	g_autofree char *line = NULL;

	g_subprocess_launcher_set_child_setup(launcher, end_with_parent, NULL, NULL);
	child = g_subprocess_launcher_spawn(launcher, error, "/proc/self/exe", "bench", bench,
					    "--listen", uri, "--ram", bytes, NULL);
	if (!child)
		return NULL;
	said = g_data_input_stream_new(g_subprocess_get_stdout_pipe(child));
	line = g_data_input_stream_read_line(said, NULL, NULL, NULL);
	if (!line || !g_str_has_prefix(line, "listening on ")) {
		g_subprocess_force_exit(child);
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO,
			    "the listening end on %s did not begin", uri);
		return NULL;
	}
	*real = g_strdup(line + strlen("listening on "));
	return g_steal_pointer(&child);
}

void ferry_cli_bench_files_clear(FerryCliBenchFiles *files)
{
	g_free(files->json);
	g_free(files->report);
}

static gboolean write_record(JsonNode *node, const FerryCliBenchFiles *files, GError **error)
{
	g_autofree char *text = json_to_string(node, TRUE);

	if (files->json && !g_str_equal(files->json, "-") &&
	    !g_file_set_contents(files->json, text, -1, error))
		return FALSE;
	if (files->report && !ferry_cli_bench_page(text, files->report, error))
		return FALSE;
	if (g_strcmp0(files->json, "-") == 0)
		puts(text);
	return TRUE;
}

int ferry_cli_bench_finish(const char *command, FerryBenchRecord *record,
			   const FerryCliBenchFiles *files, GError *error)
{
	g_autofree char *text = record ? ferry_bench_record_print(record) : NULL;
	g_autoptr(JsonNode) node = record ? ferry_bench_record_json(record) : NULL;
	g_autoptr(GError) cause = NULL;

	if (text && g_strcmp0(files->json, "-"))
		fputs(text, stdout);
	if (node)
		write_record(node, files, &cause);
	if (error || cause)
		return ferry_cli_fail(command, "%s", error ? error->message : cause->message);
	return FERRY_EXIT_DONE;
}

int ferry_cli_bench(int argc, char **argv)
{
	const GOptionEntry entries[] = { { NULL } };

	for (guint i = 0; argc > 1 && i < G_N_ELEMENTS(benches); i++)
		if (g_str_equal(benches[i].name, argv[1]))
			return benches[i].run(argc - 1, argv + 1);
	if (!ferry_cli_parse(&help, entries, &argc, &argv, 1, 1))
		return FERRY_EXIT_USAGE;
	return ferry_cli_usage(
		"bench", "there is no bench '%s'; there are link, guest, fault, compare and report",
		argv[1]);
}
