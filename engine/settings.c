/* SPDX-License-Identifier: BSD-2-Clause */
#include "settings-private.h"

#include <string.h>

struct FerrySettings {
	GMutex lock; /* guards everything below */
	gboolean frozen;
	gboolean capability[FERRY_CAPABILITY__N];
	guint64 parameter[FERRY_PARAMETER__N];
	char *text[FERRY_PARAMETER__N]; /* NULL: empty, or no text */
};

FerrySettings *ferry_settings_new(void)
{
	FerrySettings *settings = g_new0(FerrySettings, 1);

	g_mutex_init(&settings->lock);
	for (guint i = 0; i < FERRY_CAPABILITY__N; i++)
		settings->capability[i] = ferry_capability_info(i)->initial;
	for (guint i = 0; i < FERRY_PARAMETER__N; i++)
		settings->parameter[i] = ferry_parameter_info(i)->initial;
	return settings;
}

void ferry_settings_free(FerrySettings *settings)
{
	if (!settings)
		return;
	for (guint i = 0; i < FERRY_PARAMETER__N; i++)
		g_free(settings->text[i]);
	g_mutex_clear(&settings->lock);
	g_free(settings);
}

void ferry_settings_freeze(FerrySettings *settings, gboolean frozen)
{
	g_mutex_lock(&settings->lock);
	settings->frozen = frozen;
	g_mutex_unlock(&settings->lock);
}

gboolean ferry_settings_get_capability(FerrySettings *settings, FerryCapability capability)
{
	gboolean on;

	g_mutex_lock(&settings->lock);
	on = settings->capability[capability];
	g_mutex_unlock(&settings->lock);
	return on;
}

guint64 ferry_settings_get_parameter(FerrySettings *settings, FerryParameter parameter)
{
	guint64 value;

	g_mutex_lock(&settings->lock);
	value = settings->parameter[parameter];
	g_mutex_unlock(&settings->lock);
	return value;
}

char *ferry_settings_dup_text(FerrySettings *settings, FerryParameter parameter)
{
	char *text;

	g_mutex_lock(&settings->lock);
	text = g_strdup(settings->text[parameter] ? settings->text[parameter] : "");
	g_mutex_unlock(&settings->lock);
	return text;
}

static gboolean check_text(FerryParameter parameter, const char *text, GError **error)
{
	if (!text || (strlen(text) <= FERRY_SETTING_TEXT_MAX && g_utf8_validate(text, -1, NULL)))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
		    "parameter '%s' expects no more than %u bytes of UTF-8",
		    ferry_parameter_info(parameter)->name, FERRY_SETTING_TEXT_MAX);
	return FALSE;
}

static gboolean check_value(FerryParameter parameter, guint64 value, GError **error)
{
	const FerrySettingInfo *info = ferry_parameter_info(parameter);

	if (value < info->minimum || value > info->maximum) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "parameter '%s' expects a number from %" G_GUINT64_FORMAT
			    " to %" G_GUINT64_FORMAT ", not %" G_GUINT64_FORMAT,
			    info->name, info->minimum, info->maximum, value);
		return FALSE;
	}
	if (info->power_of_two && value & (value - 1)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "parameter '%s' expects a power of two, not %" G_GUINT64_FORMAT,
			    info->name, value);
		return FALSE;
	}
	return TRUE;
}

/* Makes the changes on copies of the settings. */
static gboolean make_changes(const FerrySettingsChange *change, gboolean frozen,
			     gboolean *capability, guint64 *parameter, GError **error)
{
	for (guint i = 0; i < FERRY_CAPABILITY__N; i++) {
		if (!change->set_capability[i])
			continue;
		if (frozen) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
				    "capability '%s' cannot change while a migration runs",
				    ferry_capability_info(i)->name);
			return FALSE;
		}
		capability[i] = !!change->capability[i];
	}
	for (guint i = 0; i < FERRY_PARAMETER__N; i++) {
		if (!change->set_parameter[i])
			continue;
		if (!check_value(i, change->parameter[i], error) ||
		    !check_text(i, change->text[i], error))
			return FALSE;
		parameter[i] = change->parameter[i];
	}
	return ferry_settings_combine(capability, parameter, error);
}

static void change_texts(FerrySettings *settings, const FerrySettingsChange *change)
{
	for (guint i = 0; i < FERRY_PARAMETER__N; i++) {
		if (!change->set_parameter[i] ||
		    ferry_parameter_info(i)->kind != FERRY_SETTING_TEXT)
			continue;
		g_free(settings->text[i]);
		settings->text[i] = g_strdup(change->text[i]);
	}
}

gboolean ferry_settings_change(FerrySettings *settings, const FerrySettingsChange *change,
			       GError **error)
{
	gboolean capability[FERRY_CAPABILITY__N], ok;
	guint64 parameter[FERRY_PARAMETER__N];

	g_mutex_lock(&settings->lock);
	memcpy(capability, settings->capability, sizeof(capability));
	memcpy(parameter, settings->parameter, sizeof(parameter));
	ok = make_changes(change, settings->frozen, capability, parameter, error);
	if (ok) {
		memcpy(settings->capability, capability, sizeof(capability));
		memcpy(settings->parameter, parameter, sizeof(parameter));
		change_texts(settings, change);
	}
	g_mutex_unlock(&settings->lock);
	return ok;
}

gboolean ferry_settings_set_capability(FerrySettings *settings, FerryCapability capability,
				       gboolean on, GError **error)
{
	FerrySettingsChange change = { 0 };

	change.set_capability[capability] = TRUE;
	change.capability[capability] = on;
	return ferry_settings_change(settings, &change, error);
}

gboolean ferry_settings_set_parameter(FerrySettings *settings, FerryParameter parameter,
				      guint64 value, GError **error)
{
	FerrySettingsChange change = { 0 };

	change.set_parameter[parameter] = TRUE;
	change.parameter[parameter] = value;
	return ferry_settings_change(settings, &change, error);
}

gboolean ferry_settings_set_text(FerrySettings *settings, FerryParameter parameter,
				 const char *text, GError **error)
{
	FerrySettingsChange change = { 0 };

	change.set_parameter[parameter] = TRUE;
	change.text[parameter] = text;
	return ferry_settings_change(settings, &change, error);
}
