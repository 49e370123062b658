/* SPDX-License-Identifier: BSD-2-Clause */
#include "common.h"

#include <stdio.h>
#include <ferry/error.h>

static void say(const char *command, const char *format, va_list args)
{
	g_autofree char *text = g_strdup_vprintf(format, args);

	fprintf(stderr, "ferry %s: %s\n", command, text);
}

int ferry_cli_usage(const char *command, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(command, format, args);
	va_end(args);
	fprintf(stderr, "Try 'ferry %s --help'.\n", command);
	return FERRY_EXIT_USAGE;
}

int ferry_cli_fail(const char *command, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(command, format, args);
	va_end(args);
	return FERRY_EXIT_FAILED;
}

gboolean ferry_cli_parse(const FerryCliHelp *help, const GOptionEntry *entries, int *argc,
			 char ***argv, int least, int most)
{
	g_autoptr(GOptionContext) context = g_option_context_new(help->operands);
	g_autofree char *program = g_strconcat("ferry ", help->command, NULL);
	g_autoptr(GError) error = NULL;
	gboolean ok;

	g_set_prgname(program);
	g_option_context_set_summary(context, help->summary);
	g_option_context_set_description(context, help->description);
	g_option_context_add_main_entries(context, entries, NULL);
	ok = g_option_context_parse(context, argc, argv, &error);
	if (!ok) {
		ferry_cli_usage(help->command, "%s", error->message);
	} else if (*argc - 1 < least) {
		ok = FALSE;
		ferry_cli_usage(help->command, "expected %s", help->operands);
	} else if (*argc - 1 > most) {
		ok = FALSE;
		ferry_cli_usage(help->command, "unexpected '%s'", (*argv)[most + 1]);
	}
	return ok;
}

/* The power of 1024 that the suffix @text names, -1 where it is none. */
static int power_of(const char *text)
{
	static const char letters[] = "KMGT";
	const char *letter = *text ? strchr(letters, g_ascii_toupper(*text)) : NULL;
	const char *rest = letter ? text + 1 : text;

	if (*rest && !g_str_equal(rest, "B") && !(letter && g_str_equal(rest, "iB")))
		return -1;
	return letter ? letter - letters + 1 : 0;
}

gboolean ferry_cli_parse_size(const char *text, guint64 *bytes, GError **error)
{
	char *end = NULL;
	guint64 number = g_ascii_isdigit(*text) ? g_ascii_strtoull(text, &end, 10) : 0;
	int power = end ? power_of(end) : -1;

	if (power < 0 || number > (guint64)G_MAXINT64 >> (10 * power)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "'%s' is no size: expected a number with K, M, G or T, as in 512M",
			    text);
		return FALSE;
	}
	*bytes = number << (10 * power);
	return TRUE;
}

gboolean ferry_cli_parse_boolean(const char *text, gboolean *value)
{
	static const char *const on[] = { "on", "true", "yes", "1", NULL };
	static const char *const off[] = { "off", "false", "no", "0", NULL };

	*value = g_strv_contains(on, text);
	return *value || g_strv_contains(off, text);
}

char *ferry_cli_format_bytes(double bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
	guint unit = 0;

	while (bytes >= 1024 && unit < G_N_ELEMENTS(units) - 1) {
		bytes /= 1024;
		unit++;
	}
	if (unit == 0 || bytes >= 100 || bytes == (int)bytes)
		return g_strdup_printf("%.0f %s", bytes, units[unit]);
	return g_strdup_printf(bytes >= 10 ? "%.1f %s" : "%.2f %s", bytes, units[unit]);
}

char *ferry_cli_format_ms(double ms)
{
	if (ms < 1000)
		return g_strdup_printf("%.0f ms", ms);
	if (ms < 120000)
		return g_strdup_printf(ms < 10000 ? "%.2f s" : "%.1f s", ms / 1000);
	return g_strdup_printf("%.0f min %.0f s", (double)((gint64)ms / 60000),
			       (double)((gint64)ms % 60000 / 1000));
}
