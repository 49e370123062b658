/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/*
 * Appends JSON to a GString. Commas come by themselves, from the last character of @json: so @json
 * must be empty or hold nothing but what these functions wrote. @key is NULL for an element of an
 * array.
 */
void ferry_json_open_object(GString *json, const char *key);
void ferry_json_close_object(GString *json);
void ferry_json_open_array(GString *json, const char *key);
void ferry_json_close_array(GString *json);
/* @value is UTF-8. */
void ferry_json_put_string(GString *json, const char *key, const char *value);
void ferry_json_put_number(GString *json, const char *key, guint64 value);
/* @members is what these functions wrote into an empty GString: members of the open object. */
void ferry_json_put_members(GString *json, const GString *members);
