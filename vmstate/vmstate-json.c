/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmstate-json.h"

#include <string.h>

static void separate(GString *json)
{
	if (json->len && !strchr("{[:", json->str[json->len - 1]))
		g_string_append_c(json, ',');
}

static void append_string(GString *json, const char *value)
{
	g_string_append_c(json, '"');
	for (const char *c = value; *c; c++) {
		if (*c == '"' || *c == '\\')
			g_string_append_printf(json, "\\%c", *c);
		else if ((guchar)*c < 0x20)
			g_string_append_printf(json, "\\u%04x", (guint)*c);
		else
			g_string_append_c(json, *c);
	}
	g_string_append_c(json, '"');
}

static void put_key(GString *json, const char *key)
{
	separate(json);
	if (!key)
		return;
	append_string(json, key);
	g_string_append_c(json, ':');
}

void ferry_json_open_object(GString *json, const char *key)
{
	put_key(json, key);
	g_string_append_c(json, '{');
}

void ferry_json_close_object(GString *json)
{
	g_string_append_c(json, '}');
}

void ferry_json_open_array(GString *json, const char *key)
{
	put_key(json, key);
	g_string_append_c(json, '[');
}

void ferry_json_close_array(GString *json)
{
	g_string_append_c(json, ']');
}

void ferry_json_put_string(GString *json, const char *key, const char *value)
{
	put_key(json, key);
	append_string(json, value);
}

void ferry_json_put_number(GString *json, const char *key, guint64 value)
{
	put_key(json, key);
	g_string_append_printf(json, "%" G_GUINT64_FORMAT, value);
}

void ferry_json_put_members(GString *json, const GString *members)
{
	separate(json);
	g_string_append_len(json, members->str, members->len);
}
