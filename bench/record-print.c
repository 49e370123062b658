/* SPDX-License-Identifier: BSD-2-Clause */
#include "record.h"

#define WIDTH 100u

/* A record's tables as text, and what a reader must know beside them. */

static JsonArray *list_of(JsonObject *object, const char *name)
{
	return json_object_get_array_member(object, name);
}

static char *cell_text(JsonObject *column, JsonNode *cell)
{
	int digits = (int)json_object_get_int_member(column, "digits");
	JsonObject *figure;

	if (!cell || JSON_NODE_HOLDS_NULL(cell))
		return g_strdup("-");
	if (!JSON_NODE_HOLDS_OBJECT(cell))
		return json_node_get_value_type(cell) == G_TYPE_STRING
			       ? g_strdup(json_node_get_string(cell))
			       : g_strdup_printf("%.*f", digits, json_node_get_double(cell));
	figure = json_node_get_object(cell);
	if (!json_object_get_boolean_member(column, "spread"))
		return g_strdup_printf("%.*f", digits,
				       json_object_get_double_member(figure, "median"));
	return g_strdup_printf("%.*f (%.*f-%.*f)", digits,
			       json_object_get_double_member(figure, "median"), digits,
			       json_object_get_double_member(figure, "min"), digits,
			       json_object_get_double_member(figure, "max"));
}

/* As wide as @width: printf() would count bytes. */
static void add_word(GString *text, const char *word, glong width, gboolean first)
{
	glong blanks = width - g_utf8_strlen(word, -1);

	if (first)
		g_string_append_printf(text, "%s%*s", word, (int)blanks, "");
	else
		g_string_append_printf(text, "  %*s%s", (int)blanks, "", word);
}

/* Lines of words, NULL-terminated, the first the titles: as wide as the widest, the first column to
 * the left. */
static void print_lines(GString *text, const GPtrArray *lines, guint columns)
{
	for (guint l = 0; l < lines->len; l++) {
		for (guint c = 0; c < columns; c++) {
			glong width = 0;

			for (guint i = 0; i < lines->len; i++)
				width = MAX(width,
					    g_utf8_strlen(((char **)lines->pdata[i])[c], -1));
			add_word(text, ((char **)lines->pdata[l])[c], width, c == 0);
		}
		g_string_append_c(text, '\n');
	}
}

/* The titles with @row NULL, else the row's cells. */
static char **line_of(JsonArray *columns, JsonObject *row)
{
	guint n = json_array_get_length(columns);
	JsonObject *cells = row ? json_object_get_object_member(row, "cells") : NULL;
	char **line = g_new0(char *, n + 2);

	line[0] = g_strdup(row ? json_object_get_string_member(row, "name") : "");
	for (guint c = 0; c < n; c++) {
		JsonObject *column = json_array_get_object_element(columns, c);
		const char *key = json_object_get_string_member(column, "key");

		line[c + 1] = row ? cell_text(column, json_object_get_member(cells, key))
				  : g_strdup(json_object_get_string_member(column, "title"));
	}
	return line;
}

/* In lines of WIDTH bytes, where a blank lets it. */
static void print_wrapped(GString *text, const char *words)
{
	g_auto(GStrv) all = g_strsplit(words, " ", -1);
	gsize used = 0;

	for (char **word = all; *word; word++) {
		const char *before = !used ? "" : used + strlen(*word) + 1 > WIDTH ? "\n" : " ";

		used = *before == ' ' ? used + strlen(*word) + 1 : strlen(*word);
		g_string_append_printf(text, "%s%s", before, *word);
	}
	g_string_append_c(text, '\n');
}

static void print_table(GString *text, JsonObject *table)
{
	JsonArray *columns = list_of(table, "columns"), *rows = list_of(table, "rows");
	g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
	guint n = json_array_get_length(columns);

	g_ptr_array_add(lines, line_of(columns, NULL));
	for (guint r = 0; r < json_array_get_length(rows); r++)
		g_ptr_array_add(lines, line_of(columns, json_array_get_object_element(rows, r)));
	g_string_append_printf(text, "%s\n", json_object_get_string_member(table, "title"));
	print_lines(text, lines, n + 1);
	if (json_object_has_member(table, "note"))
		print_wrapped(text, json_object_get_string_member(table, "note"));
	g_string_append_c(text, '\n');
}

static void print_texts(GString *text, JsonArray *list, const char *before)
{
	for (guint i = 0; i < json_array_get_length(list); i++)
		g_string_append_printf(text, "%s%s\n", before,
				       json_array_get_string_element(list, i));
}

char *ferry_bench_record_print(FerryBenchRecord *record)
{
	JsonObject *root = ferry_bench_record_root(record);
	JsonArray *tables = list_of(root, "tables");
	JsonArray *skipped = list_of(root, "skipped");
	GString *text = g_string_new(NULL);

	for (guint i = 0; i < json_array_get_length(tables); i++)
		print_table(text, json_array_get_object_element(tables, i));
	print_texts(text, list_of(root, "notes"), "");
	for (guint i = 0; i < json_array_get_length(skipped); i++) {
		JsonObject *one = json_array_get_object_element(skipped, i);

		g_string_append_printf(text, "skipped: %s: %s\n",
				       json_object_get_string_member(one, "what"),
				       json_object_get_string_member(one, "why"));
	}
	print_texts(text, list_of(root, "warnings"), "warning: ");
	return g_string_free(text, FALSE);
}
