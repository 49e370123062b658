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

static JsonNode *set_capabilities(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	JsonArray *list = json_object_get_array_member(arguments, "capabilities");
	FerrySettingsChange change = { 0 };

	for (guint i = 0; i < json_array_get_length(list); i++) {
		FerryCapability capability;

		if (!check_capability(list, i, &capability, error))
			return NULL;
		change.set_capability[capability] = TRUE;
		change.capability[capability] = json_object_get_boolean_member(
			json_array_get_object_element(list, i), "state");
	}
	ferry_settings_change(ferry_vm_settings(call->vm), &change, error);
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

static gboolean read_integer(const FerrySettingInfo *info, JsonNode *value, guint64 *number,
			     GError **error)
{
	gint64 given = json_node_get_int(value);

	if (given >= 0 && (guint64)given >= info->minimum && (guint64)given <= info->maximum &&
	    !(info->power_of_two && given & (given - 1))) {
		*number = (guint64)given;
		return TRUE;
	}
	if (info->power_of_two)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "Parameter '%s' expects a power of two no less than %" G_GUINT64_FORMAT,
			    info->name, info->minimum);
	else
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "Parameter '%s' expects an integer in the range of %" G_GUINT64_FORMAT
			    " to %" G_GUINT64_FORMAT,
			    info->name, info->minimum, info->maximum);
	return FALSE;
}

static gboolean read_choice(const FerrySettingInfo *info, JsonNode *value, guint64 *number,
			    GError **error)
{
	const char *given = json_node_get_string(value);
	g_autofree char *names = NULL;

	for (guint i = 0; info->choices[i]; i++) {
		if (strcmp(info->choices[i], given) == 0) {
			*number = i;
			return TRUE;
		}
	}
	names = g_strjoinv(", ", (char **)info->choices);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
		    "Parameter '%s' does not accept value '%s': it takes %s", info->name, given,
		    names);
	return FALSE;
}

static gboolean read_reserved(const FerrySettingInfo *info, JsonNode *value, guint64 *number,
			      GError **error)
{
	*number = 0;
	if (!*json_node_get_string(value))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
		    "Parameter '%s' is reserved and must be empty: streams are not encrypted; use "
		    "exec: or a tunnel",
		    info->name);
	return FALSE;
}

/* Borrows the string of @value. */
static gboolean read_text(const FerrySettingInfo *info, JsonNode *value, const char **text,
			  GError **error)
{
	*text = json_node_get_string(value);
	if (strlen(*text) <= FERRY_SETTING_TEXT_MAX)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
		    "Parameter '%s' expects no more than %u bytes", info->name,
		    FERRY_SETTING_TEXT_MAX);
	return FALSE;
}

static gboolean read_parameter(const FerrySettingInfo *info, JsonNode *value, guint64 *number,
			       const char **text, GError **error)
{
	static const FerryQmpType types[] = {
		[FERRY_SETTING_BOOLEAN] = FERRY_QMP_BOOLEAN,
		[FERRY_SETTING_INTEGER] = FERRY_QMP_INTEGER,
		[FERRY_SETTING_CHOICE] = FERRY_QMP_STRING,
		[FERRY_SETTING_RESERVED] = FERRY_QMP_STRING,
		[FERRY_SETTING_TEXT] = FERRY_QMP_STRING,
	};
	const FerryQmpArgument argument = { info->name, types[info->kind] };

	/* QEMU's way to say that a string shall be none. */
	if (types[info->kind] == FERRY_QMP_STRING && info->kind != FERRY_SETTING_CHOICE &&
	    JSON_NODE_HOLDS_NULL(value)) {
		*number = 0;
		return TRUE;
	}
	if (!ferry_qmp_check_value(value, &argument, "", error))
		return FALSE;
	switch (info->kind) {
	case FERRY_SETTING_INTEGER:
		return read_integer(info, value, number, error);
	case FERRY_SETTING_CHOICE:
		return read_choice(info, value, number, error);
	case FERRY_SETTING_RESERVED:
		return read_reserved(info, value, number, error);
	case FERRY_SETTING_TEXT:
		return read_text(info, value, text, error);
	default:
		*number = json_node_get_boolean(value);
		return TRUE;
	}
}

/* Its arguments are the table of FerrySettings, so it has none of its own. */
static JsonNode *set_parameters(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	FerrySettingsChange change = { 0 };
	JsonObjectIter iter;
	const char *name;
	JsonNode *value;

	if (!arguments)
		return NULL;
	json_object_iter_init_ordered(&iter, arguments);
	while (json_object_iter_next_ordered(&iter, &name, &value)) {
		int parameter = ferry_parameter_from_name(name);

		if (parameter < 0) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
				    "Parameter '%s' is unexpected", name);
			return NULL;
		}
		if (!read_parameter(ferry_parameter_info(parameter), value,
				    &change.parameter[parameter], &change.text[parameter], error))
			return NULL;
		change.set_parameter[parameter] = TRUE;
	}
	ferry_settings_change(ferry_vm_settings(call->vm), &change, error);
	return NULL;
}

static void set_text(JsonObject *parameters, const FerrySettingInfo *info, FerrySettings *settings,
		     FerryParameter parameter)
{
	g_autofree char *text = ferry_settings_dup_text(settings, parameter);

	json_object_set_string_member(parameters, info->name, text);
}

static JsonNode *query_parameters(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	JsonObject *parameters = json_object_new();

	for (guint p = 0; p < FERRY_PARAMETER__N; p++) {
		const FerrySettingInfo *info = ferry_parameter_info(p);
		guint64 value = ferry_settings_get_parameter(ferry_vm_settings(call->vm), p);

		if (info->kind == FERRY_SETTING_BOOLEAN)
			json_object_set_boolean_member(parameters, info->name, value != 0);
		else if (info->kind == FERRY_SETTING_CHOICE)
			json_object_set_string_member(parameters, info->name, info->choices[value]);
		else if (info->kind == FERRY_SETTING_INTEGER)
			ferry_qmp_set_number(parameters, info->name, value);
		else
			set_text(parameters, info, ferry_vm_settings(call->vm), p);
	}
	return ferry_qmp_object_node(parameters);
}

static const FerryQmpArgument capabilities_arguments[] = {
	{ "capabilities", FERRY_QMP_ARRAY },
	{ NULL },
};

const FerryQmpCommand ferry_qmp_settings_commands[] = {
	{ "migrate-set-capabilities", set_capabilities, capabilities_arguments },
	{ "query-migrate-capabilities", query_capabilities, ferry_qmp_no_arguments },
	{ "migrate-set-parameters", set_parameters, NULL },
	{ "query-migrate-parameters", query_parameters, ferry_qmp_no_arguments },
	{ NULL },
};
