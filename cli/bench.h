/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <gio/gio.h>
#include <json-glib/json-glib.h>

/* The benches of `ferry bench`; @argv begins with the bench's own name. They return the exit
 * status (FerryExit). */
int ferry_cli_bench_link(int argc, char **argv);
int ferry_cli_bench_fault(int argc, char **argv);
/* Becomes the program of bench/harness/ that has the bench argv[0]; returns only where it cannot. */
int ferry_cli_bench_harness(int argc, char **argv);

/* Prints where a bench listens, as ferry_cli_bench_spawn() reads it. */
void ferry_cli_bench_listening(const char *uri);
/* A line of progress. */
void ferry_cli_bench_tell(const char *line);

/* The other end of a bench on this host: a process of this program that listens on @uri with
 * @ram bytes, and ends with this one. *@real: the URI with the real port; free with g_free(). */
GSubprocess *ferry_cli_bench_spawn(const char *bench, const char *uri, guint64 ram, char **real,
				   GError **error);

/* To the file, or with "-" to standard output. */
gboolean ferry_cli_bench_write_json(JsonNode *node, const char *path, GError **error);
