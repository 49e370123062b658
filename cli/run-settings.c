/* SPDX-License-Identifier: BSD-2-Clause */
#include "run-settings.h"
#include "common.h"

static gboolean unknown(const char *name, GError **error)
{
	g_autoptr(GString) names = g_string_new(NULL);

	for (guint c = 0; c < FERRY_CAPABILITY__N; c++)
		g_string_append_printf(names, "%s, ", ferry_capability_info(c)->name);
	for (guint p = 0; p < FERRY_PARAMETER__N; p++)
		g_string_append_printf(names, "%s%s", p ? ", " : "", ferry_parameter_info(p)->name);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
		    "there is no setting '%s'; there are %s", name, names->str);
	return FALSE;
}

static gboolean malformed(const FerrySettingInfo *info, const char *value, const char *expected,
			  GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID, "--set %s=%s: expected %s", info->name,
		    value, expected);
	return FALSE;
}

static gboolean read_choice(const FerrySettingInfo *info, const char *value, guint64 *number,
			    GError **error)
{
	g_autofree char *names = NULL;

	for (guint i = 0; info->choices[i]; i++) {
		if (g_str_equal(info->choices[i], value)) {
			*number = i;
			return TRUE;
		}
	}
	names = g_strjoinv(", ", (char **)info->choices);
	return malformed(info, value, names, error);
}

/* Whether the number is in range is for ferry_settings_change() to say. */
static gboolean read_number(const FerrySettingInfo *info, const char *value, guint64 *number,
			    GError **error)
{
	gboolean on;

	switch (info->kind) {
	case FERRY_SETTING_INTEGER:
		return ferry_cli_parse_size(value, number, NULL) ||
		       malformed(info, value, "an integer, as 300 or 100M", error);
	case FERRY_SETTING_CHOICE:
		return read_choice(info, value, number, error);
	case FERRY_SETTING_TEXT:
		*number = 0;
		return TRUE;
	case FERRY_SETTING_RESERVED:
		*number = 0;
		return !*value || malformed(info, value, "nothing: it is reserved", error);
	default:
		if (!ferry_cli_parse_boolean(value, &on))
			return malformed(info, value, "on or off", error);
		*number = on;
		return TRUE;
	}
}

static gboolean add_option(FerrySettingsChange *change, const char *option, GError **error)
{
	const char *equals = strchr(option, '=');
	g_autofree char *name = equals ? g_strndup(option, equals - option) : NULL;
	int capability = name ? ferry_capability_from_name(name) : -1;
	int parameter = name ? ferry_parameter_from_name(name) : -1;
	guint64 number;

	if (!name) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "--set %s: expected NAME=VALUE", option);
		return FALSE;
	}
	if (capability < 0 && parameter < 0)
		return unknown(name, error);
	if (!read_number(capability >= 0 ? ferry_capability_info(capability)
					 : ferry_parameter_info(parameter),
			 equals + 1, &number, error))
		return FALSE;
	if (capability >= 0) {
		change->set_capability[capability] = TRUE;
		change->capability[capability] = number != 0;
	} else {
		change->set_parameter[parameter] = TRUE;
		change->parameter[parameter] = number;
		change->text[parameter] = equals + 1;
	}
	return TRUE;
}

gboolean ferry_cli_set_all(FerrySettings *settings, char **options, GError **error)
{
	FerrySettingsChange change = { 0 };

	for (; options && *options; options++)
		if (!add_option(&change, *options, error))
			return FALSE;
	return ferry_settings_change(settings, &change, error);
}
