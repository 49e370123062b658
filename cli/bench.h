/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <record.h>
#include <gio/gio.h>
#include <json-glib/json-glib.h>

/* The benches of `ferry bench`; @argv begins with the bench's own name. They return the exit
 * status (FerryExit). */
int ferry_cli_bench_link(int argc, char **argv);
int ferry_cli_bench_fault(int argc, char **argv);
/* Becomes the program of bench/harness/ that has bench argv[0]; returns only where it cannot. */
int ferry_cli_bench_harness(int argc, char **argv);

/* Prints where a bench listens, as ferry_cli_bench_spawn() reads it. */
void ferry_cli_bench_listening(const char *uri);
/* A line of progress. */
void ferry_cli_bench_tell(const char *line);

/* The other end of a bench on this host: a process of this program that listens on @uri with
 * @ram bytes, and ends with this one. *@real: the URI with the real port; free with g_free(). */
GSubprocess *ferry_cli_bench_spawn(const char *bench, const char *uri, guint64 ram, char **real,
				   GError **error);

/* Where a record goes beside the terminal; NULL: not there. */
typedef struct {
	char *json;   /* a file; "-": standard output, in place of the tables */
	char *report; /* a page */
} FerryCliBenchFiles;

void ferry_cli_bench_files_clear(FerryCliBenchFiles *files);
/* The options that set them. */
#define FERRY_CLI_BENCH_JSON(files)                                                                \
	{                                                                                          \
		"json", 0, 0, G_OPTION_ARG_STRING, &(files).json,                                  \
			"The record: every figure; -: to standard output, without the tables",     \
			"FILE"                                                                     \
	}
#define FERRY_CLI_BENCH_REPORT(files)                                                              \
	{                                                                                          \
		"report", 0, 0, G_OPTION_ARG_STRING, &(files).report,                              \
			"A page with tables and charts; needs gnuplot", "FILE.html"                \
	}

/* Prints and writes what was measured, @record or NULL, and says what went wrong, @error (borrowed)
 * or NULL. Returns the exit status. */
int ferry_cli_bench_finish(const char *command, FerryBenchRecord *record,
			   const FerryCliBenchFiles *files, GError *error);

/* Makes the page of a record, by the harness. */
gboolean ferry_cli_bench_page(const char *record, const char *path, GError **error);
