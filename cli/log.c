/* SPDX-License-Identifier: BSD-2-Clause */
#include "log.h"

#include <stdio.h>
#include <string.h>

#define DOMAIN "ferry"

/* Atomic: the least severe GLogLevelFlags that is written; 0: none. GLib's writer is the process's,
 * and so is this. */
static gint threshold;

static const struct {
	const char *name;
	GLogLevelFlags level;
} levels[] = {
	{ "off", 0 },
	{ "warning", G_LOG_LEVEL_WARNING },
	{ "message", G_LOG_LEVEL_MESSAGE },
	{ "info", G_LOG_LEVEL_INFO },
	{ "debug", G_LOG_LEVEL_DEBUG },
};

static const char *name_of(GLogLevelFlags level)
{
	for (guint i = 1; i < G_N_ELEMENTS(levels); i++)
		if (level & levels[i].level)
			return levels[i].name;
	return "error";
}

static const char *find_field(const GLogField *fields, gsize n, const char *name)
{
	for (gsize i = 0; i < n; i++)
		if (strcmp(fields[i].key, name) == 0 && fields[i].length < 0)
			return fields[i].value;
	return NULL;
}

/* The peer's words may be in it: one line stays one line, and no control character gets out. */
static void tame(char *text)
{
	for (; *text; text++)
		if (g_ascii_iscntrl(*text))
			*text = ' ';
}

static void print_line(GLogLevelFlags level, const char *message)
{
	g_autoptr(GDateTime) now = g_date_time_new_now_utc();
	g_autofree char *time = g_date_time_format(now, "%Y-%m-%dT%H:%M:%S");
	g_autofree char *text = g_strdup(message);

	tame(text);
	fprintf(stderr, "%s.%06dZ ferry %s: %s\n", time, g_date_time_get_microsecond(now),
		name_of(level), text);
}

/* A GLogWriterFunc. */
static GLogWriterOutput write_log(GLogLevelFlags level, const GLogField *fields, gsize n,
				  gpointer user)
{
	const char *domain = find_field(fields, n, "GLIB_DOMAIN");
	const char *message = find_field(fields, n, "MESSAGE");

	if (g_strcmp0(domain, DOMAIN) != 0)
		return g_log_writer_default(level, fields, n, user);
	/* The more severe, the smaller the flag. */
	if ((gint)(level & G_LOG_LEVEL_MASK) > g_atomic_int_get(&threshold) || !message)
		return G_LOG_WRITER_HANDLED;
	if (g_log_writer_is_journald(fileno(stderr)) &&
	    g_log_writer_journald(level, fields, n, user) == G_LOG_WRITER_HANDLED)
		return G_LOG_WRITER_HANDLED;
	print_line(level, message);
	return G_LOG_WRITER_HANDLED;
}

void ferry_cli_log_init(void)
{
	g_auto(GStrv) domains = g_strsplit_set(g_getenv("G_MESSAGES_DEBUG") ?: "", " ,", -1);

	if (g_strv_contains((const char *const *)domains, DOMAIN) ||
	    g_strv_contains((const char *const *)domains, "all"))
		g_atomic_int_set(&threshold, G_LOG_LEVEL_DEBUG);
	g_log_set_writer_func(write_log, NULL, NULL);
}

gboolean ferry_cli_log_set_level(const char *name)
{
	for (guint i = 0; i < G_N_ELEMENTS(levels); i++) {
		if (!g_str_equal(levels[i].name, name))
			continue;
		g_atomic_int_set(&threshold, levels[i].level);
		return TRUE;
	}
	return FALSE;
}
