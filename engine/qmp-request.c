/* SPDX-License-Identifier: BSD-2-Clause */
#include "qmp-request.h"
#include "qmp-arguments.h"
#include "qmp-commands.h"

static const FerryQmpArgument execute_member = { "execute", FERRY_QMP_STRING };
static const FerryQmpArgument arguments_member = { "arguments", FERRY_QMP_OBJECT };

static gboolean bad_member(GError **error, const char *name, const char *what)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID, "QMP input member '%s' %s", name,
		    what);
	return FALSE;
}

static gboolean take_member(FerryQmpRequest *request, const char *name, JsonNode *value,
			    GError **error)
{
	if (g_str_equal(name, "id"))
		return TRUE;
	if (g_str_equal(name, "execute")) {
		if (!ferry_qmp_check_value(value, &execute_member, "", NULL))
			return bad_member(error, name, "must be a string");
		request->execute = json_node_get_string(value);
		return TRUE;
	}
	if (g_str_equal(name, "arguments")) {
		if (!ferry_qmp_check_value(value, &arguments_member, "", NULL))
			return bad_member(error, name, "must be an object");
		request->arguments = json_node_get_object(value);
		return TRUE;
	}
	return bad_member(error, name, "is unexpected");
}

gboolean ferry_qmp_request_parse(JsonNode *value, FerryQmpRequest *request, GError **error)
{
	JsonObjectIter iter;
	const char *name;
	JsonNode *member;

	*request = (FerryQmpRequest){ NULL };
	if (!JSON_NODE_HOLDS_OBJECT(value)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "QMP input must be a JSON object");
		return FALSE;
	}
	request->id = json_object_get_member(json_node_get_object(value), "id");
	json_object_iter_init_ordered(&iter, json_node_get_object(value));
	while (json_object_iter_next_ordered(&iter, &name, &member))
		if (!take_member(request, name, member, error))
			return FALSE;
	if (request->execute)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID, "QMP input lacks member 'execute'");
	return FALSE;
}

static JsonNode *message(const char *name, JsonNode *content, JsonNode *id)
{
	JsonObject *object = json_object_new();

	json_object_set_member(object, name, content);
	if (id)
		json_object_set_member(object, "id", json_node_copy(id));
	return ferry_qmp_object_node(object);
}

JsonNode *ferry_qmp_answer(JsonNode *result, JsonNode *id)
{
	if (!result)
		result = ferry_qmp_object_node(json_object_new());
	return message("return", result, id);
}

JsonNode *ferry_qmp_error(const char *class, const char *desc, JsonNode *id)
{
	JsonObject *error = json_object_new();

	json_object_set_string_member(error, "class", class);
	json_object_set_string_member(error, "desc", desc);
	return message("error", ferry_qmp_object_node(error), id);
}

JsonNode *ferry_qmp_greeting(void)
{
	JsonObject *content = json_object_new();

	json_object_set_member(content, "version", ferry_qmp_version());
	json_object_set_array_member(content, "capabilities", json_array_new());
	return message("QMP", ferry_qmp_object_node(content), NULL);
}
