/* SPDX-License-Identifier: BSD-2-Clause */
#include "qmp-arguments.h"

static const char *const type_names[] = {
	[FERRY_QMP_STRING] = "string",   [FERRY_QMP_BOOLEAN] = "boolean",
	[FERRY_QMP_INTEGER] = "integer", [FERRY_QMP_NUMBER] = "number",
	[FERRY_QMP_ARRAY] = "array",     [FERRY_QMP_OBJECT] = "object",
};

static gboolean has_type(JsonNode *value, FerryQmpType type)
{
	GType held = JSON_NODE_HOLDS_VALUE(value) ? json_node_get_value_type(value)
						  : G_TYPE_INVALID;

	switch (type) {
	case FERRY_QMP_STRING:
		return held == G_TYPE_STRING;
	case FERRY_QMP_BOOLEAN:
		return held == G_TYPE_BOOLEAN;
	case FERRY_QMP_INTEGER:
		return held == G_TYPE_INT64;
	case FERRY_QMP_NUMBER:
		return held == G_TYPE_INT64 || held == G_TYPE_DOUBLE;
	case FERRY_QMP_ARRAY:
		return JSON_NODE_HOLDS_ARRAY(value);
	case FERRY_QMP_OBJECT:
		return JSON_NODE_HOLDS_OBJECT(value);
	}
	g_assert_not_reached();
}

gboolean ferry_qmp_check_value(JsonNode *value, const FerryQmpArgument *argument, const char *where,
			       GError **error)
{
	if (!has_type(value, argument->type)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "Invalid parameter type for '%s%s', expected: %s", where,
			    argument->name, type_names[argument->type]);
		return FALSE;
	}
	if (argument->values && !g_strv_contains(argument->values, json_node_get_string(value))) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "Parameter '%s%s' does not accept value '%s'", where, argument->name,
			    json_node_get_string(value));
		return FALSE;
	}
	return TRUE;
}

static gboolean check_known(JsonObject *object, const FerryQmpArgument *table, const char *where,
			    GError **error)
{
	JsonObjectIter iter;
	const char *name;

	json_object_iter_init_ordered(&iter, object);
	while (json_object_iter_next_ordered(&iter, &name, NULL)) {
		const FerryQmpArgument *argument = table;

		while (argument->name && !g_str_equal(argument->name, name))
			argument++;
		if (!argument->name) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
				    "Parameter '%s%s' is unexpected", where, name);
			return FALSE;
		}
	}
	return TRUE;
}

gboolean ferry_qmp_check_arguments(JsonObject *object, const FerryQmpArgument *table,
				   const char *where, GError **error)
{
	for (const FerryQmpArgument *argument = table; argument->name; argument++) {
		JsonNode *value = object ? json_object_get_member(object, argument->name) : NULL;

		if (!value && !argument->optional) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
				    "Parameter '%s%s' is missing", where, argument->name);
			return FALSE;
		}
		if (value && !ferry_qmp_check_value(value, argument, where, error))
			return FALSE;
	}
	return !object || check_known(object, table, where, error);
}

gboolean ferry_qmp_get_boolean(JsonObject *object, const char *name, gboolean otherwise)
{
	if (!object || !json_object_has_member(object, name))
		return otherwise;
	return json_object_get_boolean_member(object, name);
}

const char *ferry_qmp_get_string(JsonObject *object, const char *name)
{
	if (!object || !json_object_has_member(object, name))
		return NULL;
	return json_object_get_string_member(object, name);
}
