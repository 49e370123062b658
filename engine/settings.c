/* SPDX-License-Identifier: BSD-2-Clause */
#include "settings-private.h"

#include <string.h>

static const FerrySettingInfo capabilities[] = {
	[FERRY_CAPABILITY_EVENTS] = { "events", "send the events MIGRATION and MIGRATION_PASS", 1,
				      0, 1 },
	[FERRY_CAPABILITY_RETURN_PATH] = { "return-path",
					   "let the destination answer; needed for the two-phase hand-over",
					   1, 0, 1 },
	[FERRY_CAPABILITY_PAUSE_BEFORE_SWITCHOVER] = { "pause-before-switchover",
						       "stop in pre-switchover until migrate-continue",
						       0, 0, 1 },
	[FERRY_CAPABILITY_VERIFY_RAM] = { "verify-ram",
					  "compare a digest of all RAM before the guest runs there",
					  0, 0, 1 },
	[FERRY_CAPABILITY_RDMA_PIN_ALL] = { "rdma-pin-all",
					    "register all RAM before the first page, not in chunks",
					    0, 0, 1 },
	[FERRY_CAPABILITY_RDMA_REQUIRE] = { "rdma-require",
					    "fail where RDMA cannot be used, instead of TCP", 0, 0,
					    1 },
	[FERRY_CAPABILITY_POSTCOPY_RAM] = { "postcopy-ram",
					    "let migrate-start-postcopy switch the guest over first",
					    0, 0, 1 },
	[FERRY_CAPABILITY_RDMA_POSTCOPY_PULL] = { "rdma-postcopy-pull",
						  "let the destination read pages after the switch",
						  1, 0, 1 },
};
G_STATIC_ASSERT(G_N_ELEMENTS(capabilities) == FERRY_CAPABILITY__N);

static const FerrySettingInfo parameters[] = {
	[FERRY_PARAMETER_MAX_BANDWIDTH] = { "max-bandwidth", "bytes a second, 0 for no limit", 0, 0,
					    G_MAXINT64 },
	[FERRY_PARAMETER_DOWNTIME_LIMIT] = { "downtime-limit",
					     "milliseconds the guest may stand still", 300, 0,
					     2000000 },
	[FERRY_PARAMETER_RDMA_QUEUE_PAIRS] = { "rdma-queue-pairs",
					       "queue pairs for RDMA, 0 for what both find right",
					       0, 0, 16 },
	[FERRY_PARAMETER_RDMA_PIN_LIMIT] = { "rdma-pin-limit",
					     "bytes registered at a time, 0 for no limit", 0, 0,
					     G_MAXINT64 },
	[FERRY_PARAMETER_MAX_POSTCOPY_BANDWIDTH] = { "max-postcopy-bandwidth",
						     "bytes a second after the switch, 0 for no "
						     "limit",
						     0, 0, G_MAXINT64 },
};
G_STATIC_ASSERT(G_N_ELEMENTS(parameters) == FERRY_PARAMETER__N);

struct FerrySettings {
	GMutex lock; /* guards everything below */
	gboolean frozen;
	gboolean capability[FERRY_CAPABILITY__N];
	guint64 parameter[FERRY_PARAMETER__N];
};

const FerrySettingInfo *ferry_capability_info(FerryCapability capability)
{
	g_return_val_if_fail((guint)capability < FERRY_CAPABILITY__N, NULL);
	return &capabilities[capability];
}

const FerrySettingInfo *ferry_parameter_info(FerryParameter parameter)
{
	g_return_val_if_fail((guint)parameter < FERRY_PARAMETER__N, NULL);
	return &parameters[parameter];
}

static int find_name(const FerrySettingInfo *table, guint n, const char *name)
{
	for (guint i = 0; i < n; i++)
		if (strcmp(table[i].name, name) == 0)
			return i;
	return -1;
}

int ferry_capability_from_name(const char *name)
{
	/* Its name before it was found stable; clients still say it. */
	if (strcmp(name, "x-postcopy-ram") == 0)
		return FERRY_CAPABILITY_POSTCOPY_RAM;
	return find_name(capabilities, FERRY_CAPABILITY__N, name);
}

int ferry_parameter_from_name(const char *name)
{
	return find_name(parameters, FERRY_PARAMETER__N, name);
}

FerrySettings *ferry_settings_new(void)
{
	FerrySettings *settings = g_new0(FerrySettings, 1);

	g_mutex_init(&settings->lock);
	for (guint i = 0; i < FERRY_CAPABILITY__N; i++)
		settings->capability[i] = capabilities[i].initial;
	for (guint i = 0; i < FERRY_PARAMETER__N; i++)
		settings->parameter[i] = parameters[i].initial;
	return settings;
}

void ferry_settings_free(FerrySettings *settings)
{
	if (!settings)
		return;
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

gboolean ferry_settings_set_capability(FerrySettings *settings, FerryCapability capability,
				       gboolean on, GError **error)
{
	gboolean frozen;

	g_mutex_lock(&settings->lock);
	frozen = settings->frozen;
	if (!frozen)
		settings->capability[capability] = !!on;
	g_mutex_unlock(&settings->lock);
	if (frozen)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
			    "capability '%s' cannot change while a migration runs",
			    capabilities[capability].name);
	return !frozen;
}

guint64 ferry_settings_get_parameter(FerrySettings *settings, FerryParameter parameter)
{
	guint64 value;

	g_mutex_lock(&settings->lock);
	value = settings->parameter[parameter];
	g_mutex_unlock(&settings->lock);
	return value;
}

gboolean ferry_settings_set_parameter(FerrySettings *settings, FerryParameter parameter,
				      guint64 value, GError **error)
{
	const FerrySettingInfo *info = &parameters[parameter];

	if (value < info->minimum || value > info->maximum) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "parameter '%s' expects a number from %" G_GUINT64_FORMAT
			    " to %" G_GUINT64_FORMAT ", not %" G_GUINT64_FORMAT,
			    info->name, info->minimum, info->maximum, value);
		return FALSE;
	}
	g_mutex_lock(&settings->lock);
	settings->parameter[parameter] = value;
	g_mutex_unlock(&settings->lock);
	return TRUE;
}
