/* SPDX-License-Identifier: BSD-2-Clause */
#include "golden.h"

#include <CUnit/CUnit.h>
#include <stdio.h>
#include <string.h>

/* "NAME  0001 01 00 ..." split at two or more spaces, the digits without theirs. */
static gboolean split_line(const char *line, char **name, char **digits)
{
	const char *gap = strstr(line, "  ");

	if (!gap)
		return FALSE;
	*name = g_strndup(line, (gsize)(gap - line));
	*digits = g_strdup(gap);
	for (char *to = *digits, *from = *digits; (*to = *from); from++)
		to += *from != ' ';
	return TRUE;
}

static char *hex(const GByteArray *bytes)
{
	GString *text = g_string_new(NULL);

	for (guint i = 0; i < bytes->len; i++)
		g_string_append_printf(text, "%02x", bytes->data[i]);
	return g_string_free(text, FALSE);
}

/* The first line behind a "```" that is called @first; NULL if there is none. */
static char **find_block(char **lines, const char *first)
{
	for (; *lines && lines[1]; lines++) {
		g_autofree char *name = NULL, *digits = NULL;

		if (g_str_equal(*lines, "```") && split_line(lines[1], &name, &digits) &&
		    g_str_equal(name, first))
			return lines + 1;
	}
	return NULL;
}

/* FALSE: the line is another test's, or there is nothing to compare on it. */
static gboolean compare_line(const char *line, GoldenWrite write)
{
	g_autofree char *name = NULL, *digits = NULL, *written = NULL;
	g_autoptr(GByteArray) bytes = g_byte_array_new();

	if (!split_line(line, &name, &digits) || !write(name, bytes))
		return FALSE;
	written = hex(bytes);
	if (!g_str_equal(written, digits))
		printf("# %s: the page says %s, the code %s\n", name, digits, written);
	CU_ASSERT_STRING_EQUAL(written, digits);
	return TRUE;
}

guint golden_compare(const char *first, GoldenWrite write)
{
	g_autofree char *text = NULL;
	g_auto(GStrv) lines = NULL;
	guint compared = 0;

	CU_ASSERT(g_file_get_contents(PROTOCOL_MD, &text, NULL, NULL));
	if (!text)
		return 0;
	lines = g_strsplit(text, "\n", -1);
	for (char **line = find_block(lines, first); line && *line && !g_str_equal(*line, "```");
	     line++)
		compared += (guint)compare_line(*line, write);
	return compared;
}
