/* SPDX-License-Identifier: BSD-2-Clause */
#include "set-options.h"
#include "common.h"

#include <ferry/settings.h>

/* What the monitor knows, and what of it shall change. */
typedef struct {
	JsonNode *known_capabilities; /* query-migrate-capabilities */
	JsonNode *known_parameters;   /* query-migrate-parameters */
	JsonArray *capabilities;
	JsonObject *parameters;
} Settings;

static void settings_clear(Settings *settings)
{
	g_clear_pointer(&settings->known_capabilities, json_node_unref);
	g_clear_pointer(&settings->known_parameters, json_node_unref);
	g_clear_pointer(&settings->capabilities, json_array_unref);
	g_clear_pointer(&settings->parameters, json_object_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Settings, settings_clear)

static gboolean query(FerryQmpClient *client, Settings *settings, GError **error)
{
	settings->known_capabilities = ferry_qmp_client_call(client, "query-migrate-capabilities",
							     NULL, error);
	if (!settings->known_capabilities)
		return FALSE;
	settings->known_parameters = ferry_qmp_client_call(client, "query-migrate-parameters", NULL,
							   error);
	if (!settings->known_parameters)
		return FALSE;
	if (JSON_NODE_HOLDS_ARRAY(settings->known_capabilities) &&
	    JSON_NODE_HOLDS_OBJECT(settings->known_parameters))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK, "the monitor's answer is not QMP's");
	return FALSE;
}

/* The names of the capabilities, then of the parameters; the strings are borrowed. */
static GPtrArray *known_names(const Settings *settings)
{
	JsonArray *list = json_node_get_array(settings->known_capabilities);
	GPtrArray *names = g_ptr_array_new();
	JsonObjectIter iter;
	const char *name;

	for (guint i = 0; i < json_array_get_length(list); i++)
		g_ptr_array_add(names,
				(gpointer)json_object_get_string_member_with_default(
					json_array_get_object_element(list, i), "capability", ""));
	json_object_iter_init_ordered(&iter, json_node_get_object(settings->known_parameters));
	while (json_object_iter_next_ordered(&iter, &name, NULL))
		g_ptr_array_add(names, (gpointer)name);
	return names;
}

static gboolean unknown(const Settings *settings, const char *name, GError **error)
{
	g_autoptr(GPtrArray) names = known_names(settings);
	g_autofree char *list = NULL;

	g_ptr_array_add(names, NULL);
	list = g_strjoinv(", ", (char **)names->pdata);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
		    "the monitor has no setting '%s'; it has %s", name, list);
	return FALSE;
}

static gboolean malformed(const char *name, const char *value, const char *expected, GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID, "--set %s=%s: expected %s", name,
		    value, expected);
	return FALSE;
}

static gboolean is_capability(const Settings *settings, const char *name)
{
	JsonArray *list = json_node_get_array(settings->known_capabilities);

	for (guint i = 0; i < json_array_get_length(list); i++) {
		JsonObject *entry = json_array_get_object_element(list, i);

		if (g_str_equal(json_object_get_string_member_with_default(entry, "capability", ""),
				name))
			return TRUE;
	}
	return FALSE;
}

static gboolean add_capability(Settings *settings, const char *name, const char *value,
			       GError **error)
{
	JsonObject *entry;
	gboolean on;

	if (!ferry_cli_parse_boolean(value, &on))
		return malformed(name, value, "on or off", error);
	entry = json_object_new();
	json_object_set_string_member(entry, "capability", name);
	json_object_set_boolean_member(entry, "state", on);
	json_array_add_object_element(settings->capabilities, entry);
	return TRUE;
}

/* Parameters have the type that their present value has. */
static gboolean add_parameter(Settings *settings, const char *name, const char *value,
			      JsonNode *present, GError **error)
{
	GType type = JSON_NODE_HOLDS_VALUE(present) ? json_node_get_value_type(present)
						    : G_TYPE_STRING;
	guint64 integer;
	gboolean on;
	char *end;

	if (type == G_TYPE_INT64) {
		if (!ferry_cli_parse_size(value, &integer, NULL))
			return malformed(name, value, "an integer, as 300 or 100M", error);
		json_object_set_int_member(settings->parameters, name, integer);
	} else if (type == G_TYPE_BOOLEAN) {
		if (!ferry_cli_parse_boolean(value, &on))
			return malformed(name, value, "on or off", error);
		json_object_set_boolean_member(settings->parameters, name, on);
	} else if (type == G_TYPE_DOUBLE) {
		json_object_set_double_member(settings->parameters, name,
					      g_ascii_strtod(value, &end));
		if (!*value || *end)
			return malformed(name, value, "a number", error);
	} else {
		json_object_set_string_member(settings->parameters, name, value);
	}
	return TRUE;
}

/* The answers have the present names only, but a monitor understands older ones too. */
static const char *present_name(const char *name)
{
	int capability = ferry_capability_from_name(name);
	int parameter = ferry_parameter_from_name(name);

	if (capability >= 0)
		return ferry_capability_info(capability)->name;
	return parameter >= 0 ? ferry_parameter_info(parameter)->name : name;
}

static gboolean add_known(Settings *settings, const char *name, const char *value, GError **error)
{
	JsonObject *parameters = json_node_get_object(settings->known_parameters);
	JsonNode *present = json_object_get_member(parameters, name);

	if (is_capability(settings, name))
		return add_capability(settings, name, value, error);
	return present ? add_parameter(settings, name, value, present, error)
		       : unknown(settings, name, error);
}

static gboolean add_option(Settings *settings, const char *option, GError **error)
{
	const char *equals = strchr(option, '=');
	g_autofree char *name = equals ? g_strndup(option, equals - option) : NULL;

	if (!name) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "--set %s: expected NAME=VALUE", option);
		return FALSE;
	}
	if (is_capability(settings, name) ||
	    json_object_has_member(json_node_get_object(settings->known_parameters), name))
		return add_known(settings, name, equals + 1, error);
	return add_known(settings, present_name(name), equals + 1, error);
}

/* A value that the monitor refuses is the option's fault. */
static gboolean call_set(FerryQmpClient *client, const char *command, JsonObject *arguments,
			 GError **error)
{
	g_autoptr(GError) why = NULL;
	g_autoptr(JsonNode) answer = ferry_qmp_client_call(client, command, arguments, &why);

	if (answer)
		return TRUE;
	if (g_error_matches(why, FERRY_ERROR, FERRY_ERROR_STATE))
		why->code = FERRY_ERROR_INVALID;
	g_propagate_error(error, g_steal_pointer(&why));
	return FALSE;
}

static gboolean send_settings(FerryQmpClient *client, const Settings *settings, GError **error)
{
	if (json_object_get_size(settings->parameters) &&
	    !call_set(client, "migrate-set-parameters", json_object_ref(settings->parameters),
		      error))
		return FALSE;
	if (json_array_get_length(settings->capabilities)) {
		JsonObject *arguments = json_object_new();

		json_object_set_array_member(arguments, "capabilities",
					     json_array_ref(settings->capabilities));
		return call_set(client, "migrate-set-capabilities", arguments, error);
	}
	return TRUE;
}

gboolean ferry_cli_apply_settings(FerryQmpClient *client, char **options, GError **error)
{
	g_auto(Settings) settings = { NULL };

	if (!options)
		return TRUE;
	settings.capabilities = json_array_new();
	settings.parameters = json_object_new();
	if (!query(client, &settings, error))
		return FALSE;
	for (; *options; options++)
		if (!add_option(&settings, *options, error))
			return FALSE;
	return send_settings(client, &settings, error);
}
