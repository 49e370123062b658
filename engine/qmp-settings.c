/* SPDX-License-Identifier: BSD-2-Clause */
#include "qmp-commands.h"

/* The commands that show and change capabilities and parameters. All or nothing: a list with one
 * bad entry changes nothing. */

static const FerryQmpArgument capability_arguments[] = {
	{ "capability", FERRY_QMP_STRING },
	{ "state", FERRY_QMP_BOOLEAN },
	{ NULL },
};

/* Checks entry @index of @list; sets *@capability. */
static gboolean check_capability(JsonArray *list, guint index, FerryCapability *capability,
				 GError **error)
{
	g_autofree char *element = g_strdup_printf("capabilities[%u]", index);
	g_autofree char *where = g_strconcat(element, ".", NULL);
	const FerryQmpArgument is_object = { element, FERRY_QMP_OBJECT };
	JsonNode *entry = json_array_get_element(list, index);
	const char *name;
	int found;

	if (!ferry_qmp_check_value(entry, &is_object, "", error) ||
	    !ferry_qmp_check_arguments(json_node_get_object(entry), capability_arguments, where,
				       error))
		return FALSE;
	name = json_object_get_string_member(json_node_get_object(entry), "capability");
	found = ferry_capability_from_name(name);
	if (found < 0) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "Parameter 'capability' does not accept value '%s'", name);
		return FALSE;
	}
	*capability = found;
	return TRUE;
}

/* Sets what @wanted says; on failure, what was set before is put back. */
static gboolean apply_capabilities(FerrySettings *settings, const int *wanted, GError **error)
{
	gboolean before[FERRY_CAPABILITY__N];

	for (guint c = 0; c < FERRY_CAPABILITY__N; c++) {
		before[c] = ferry_settings_get_capability(settings, c);
		if (wanted[c] < 0 || ferry_settings_set_capability(settings, c, wanted[c], error))
			continue;
		while (c--)
			ferry_settings_set_capability(settings, c, before[c], NULL);
		return FALSE;
	}
	return TRUE;
}

static JsonNode *set_capabilities(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	JsonArray *list = json_object_get_array_member(arguments, "capabilities");
	int wanted[FERRY_CAPABILITY__N];

	for (guint c = 0; c < FERRY_CAPABILITY__N; c++)
		wanted[c] = -1;
	for (guint i = 0; i < json_array_get_length(list); i++) {
		FerryCapability capability;

		if (!check_capability(list, i, &capability, error))
			return NULL;
		wanted[capability] = json_object_get_boolean_member(
			json_array_get_object_element(list, i), "state");
	}
	apply_capabilities(ferry_vm_settings(call->vm), wanted, error);
	return NULL;
}

static JsonNode *query_capabilities(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	JsonArray *list = json_array_new();

	for (guint c = 0; c < FERRY_CAPABILITY__N; c++) {
		JsonObject *entry = json_object_new();

		json_object_set_string_member(entry, "capability", ferry_capability_info(c)->name);
		json_object_set_boolean_member(
			entry, "state",
			ferry_settings_get_capability(ferry_vm_settings(call->vm), c));
		json_array_add_object_element(list, entry);
	}
	return ferry_qmp_array_node(list);
}

static gboolean check_parameter(const char *name, JsonNode *value, GError **error)
{
	const FerryQmpArgument is_integer = { name, FERRY_QMP_INTEGER };
	int parameter = ferry_parameter_from_name(name);
	const FerrySettingInfo *info;
	gint64 number;

	if (parameter < 0) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID, "Parameter '%s' is unexpected",
			    name);
		return FALSE;
	}
	if (!ferry_qmp_check_value(value, &is_integer, "", error))
		return FALSE;
	info = ferry_parameter_info(parameter);
	number = json_node_get_int(value);
	if (number >= 0 && (guint64)number >= info->minimum && (guint64)number <= info->maximum)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
		    "Parameter '%s' expects an integer in the range of %" G_GUINT64_FORMAT
		    " to %" G_GUINT64_FORMAT,
		    name, info->minimum, info->maximum);
	return FALSE;
}

/* Its arguments are the table of FerrySettings, so it has none of its own. */
static JsonNode *set_parameters(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	FerrySettings *settings = ferry_vm_settings(call->vm);
	JsonObjectIter iter;
	const char *name;
	JsonNode *value;

	if (!arguments)
		return NULL;
	json_object_iter_init_ordered(&iter, arguments);
	while (json_object_iter_next_ordered(&iter, &name, &value))
		if (!check_parameter(name, value, error))
			return NULL;
	json_object_iter_init_ordered(&iter, arguments);
	while (json_object_iter_next_ordered(&iter, &name, &value))
		if (!ferry_settings_set_parameter(settings, ferry_parameter_from_name(name),
						  json_node_get_int(value), error))
			return NULL;
	return NULL;
}

static JsonNode *query_parameters(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	JsonObject *parameters = json_object_new();

	for (guint p = 0; p < FERRY_PARAMETER__N; p++)
		ferry_qmp_set_number(parameters, ferry_parameter_info(p)->name,
				     ferry_settings_get_parameter(ferry_vm_settings(call->vm), p));
	return ferry_qmp_object_node(parameters);
}

/* Bytes a second; a negative one means none at all, as it always has. */
static JsonNode *set_speed(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	gint64 speed = json_object_get_int_member(arguments, "value");

	ferry_settings_set_parameter(ferry_vm_settings(call->vm), FERRY_PARAMETER_MAX_BANDWIDTH,
				     MAX(speed, 0), error);
	return NULL;
}

/* Seconds, with a fraction. */
static JsonNode *set_downtime(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	double seconds = json_object_get_double_member(arguments, "value");
	guint64 most = ferry_parameter_info(FERRY_PARAMETER_DOWNTIME_LIMIT)->maximum;

	if (!(seconds >= 0 && seconds * 1000 <= most)) {
		g_set_error(
			error, FERRY_ERROR, FERRY_ERROR_INVALID,
			"Parameter 'value' expects a number in the range of 0 to %" G_GUINT64_FORMAT
			" seconds",
			most / 1000);
		return NULL;
	}
	ferry_settings_set_parameter(ferry_vm_settings(call->vm), FERRY_PARAMETER_DOWNTIME_LIMIT,
				     (guint64)(seconds * 1000 + 0.5), error);
	return NULL;
}

static const FerryQmpArgument capabilities_arguments[] = {
	{ "capabilities", FERRY_QMP_ARRAY },
	{ NULL },
};
static const FerryQmpArgument speed_arguments[] = { { "value", FERRY_QMP_INTEGER }, { NULL } };
static const FerryQmpArgument downtime_arguments[] = { { "value", FERRY_QMP_NUMBER }, { NULL } };

const FerryQmpCommand ferry_qmp_settings_commands[] = {
	{ "migrate-set-capabilities", set_capabilities, capabilities_arguments },
	{ "query-migrate-capabilities", query_capabilities, ferry_qmp_no_arguments },
	{ "migrate-set-parameters", set_parameters, NULL },
	{ "query-migrate-parameters", query_parameters, ferry_qmp_no_arguments },
	{ "migrate_set_speed", set_speed, speed_arguments },
	{ "migrate_set_downtime", set_downtime, downtime_arguments },
	{ NULL },
};
