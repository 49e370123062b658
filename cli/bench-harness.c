/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench.h"
#include "common.h"

#include <errno.h>
#include <unistd.h>
#include <ferry/error.h>

/* The harness of the tree that this program was built in, or of where it was installed. */
static char *harness_program(const char *self)
{
	const char *folder = g_str_has_prefix(self, FERRY_BUILD_ROOT "/") ? FERRY_HARNESS_SOURCE
									  : FERRY_HARNESS_INSTALLED;

	return g_build_filename(folder, "main.py", NULL);
}

static GPtrArray *harness_command(const char *bench, const char *const *words, GError **error)
{
	g_autofree char *self = g_file_read_link("/proc/self/exe", error);
	g_autofree char *program = self ? harness_program(self) : NULL;
	GPtrArray *command;

	if (!self)
		return NULL;
	if (!g_file_test(program, G_FILE_TEST_EXISTS)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "%s is not there: install Ferry whole, or build it again", program);
		return NULL;
	}
	command = g_ptr_array_new_with_free_func(g_free);
	g_ptr_array_add(command, g_strdup("python3"));
	/* No compiled files in a source tree. */
	g_ptr_array_add(command, g_strdup("-B"));
	g_ptr_array_add(command, g_steal_pointer(&program));
	g_ptr_array_add(command, g_strdup(bench));
	for (; *words; words++)
		g_ptr_array_add(command, g_strdup(*words));
	g_ptr_array_add(command, g_strdup("--ferry"));
	g_ptr_array_add(command, g_steal_pointer(&self));
	g_ptr_array_add(command, NULL);
	return command;
}

int ferry_cli_bench_harness(int argc, char **argv)
{
	g_autofree char *name = g_strdup_printf("bench %s", argv[0]);
	g_autoptr(GError) error = NULL;
	g_autoptr(GPtrArray)
		command = harness_command(argv[0], (const char *const *)argv + 1, &error);

	if (!command)
		return ferry_cli_fail(name, "%s", error->message);
	execvp("python3", (char **)command->pdata);
	return ferry_cli_fail(name, "python3: %s; install it (apt-get install python3)",
			      g_strerror(errno));
}

gboolean ferry_cli_bench_page(const char *record, const char *path, GError **error)
{
	const char *words[] = { "-", "--report", path, NULL };
	g_autoptr(GPtrArray) command = harness_command("report", words, error);
	g_autoptr(GSubprocess)
		child = command ? g_subprocess_newv((const char *const *)command->pdata,
						    G_SUBPROCESS_FLAGS_STDIN_PIPE, error)
				: NULL;

	if (!child || !g_subprocess_communicate_utf8(child, record, NULL, NULL, NULL, error))
		return FALSE;
	if (g_subprocess_get_successful(child))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO,
		    "%s was not made; a record from --json can be tried again: ferry bench report",
		    path);
	return FALSE;
}
