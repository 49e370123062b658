/* SPDX-License-Identifier: BSD-2-Clause */
#include "qmp-commands.h"

/* The commands that migrate-set-parameters took the place of. They set the same. */

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

/* Bytes. More than the guest has would never be used, and so nothing is asked for that could not be
 * addressed. */
static JsonNode *set_cache_size(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	const FerrySettingInfo *info = ferry_parameter_info(FERRY_PARAMETER_XBZRLE_CACHE_SIZE);
	gint64 size = json_object_get_int_member(arguments, "value");
	guint64 most = ferry_vm_ram(call->vm)->total;

	if (size < 0 || (guint64)size < info->minimum || (guint64)size > most) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "Parameter 'value' expects a cache size from %" G_GUINT64_FORMAT
			    " (a page) to %" G_GUINT64_FORMAT
			    " bytes (the guest's memory), not %" G_GINT64_FORMAT,
			    info->minimum, most, size);
		return NULL;
	}
	ferry_settings_set_parameter(ferry_vm_settings(call->vm), FERRY_PARAMETER_XBZRLE_CACHE_SIZE,
				     (guint64)1 << (g_bit_storage((gulong)size) - 1), error);
	return NULL;
}

static JsonNode *query_cache_size(const FerryQmpCall *call, JsonObject *arguments, GError **error)
{
	JsonNode *size = json_node_new(JSON_NODE_VALUE);

	json_node_set_int(size, ferry_settings_get_parameter(ferry_vm_settings(call->vm),
							     FERRY_PARAMETER_XBZRLE_CACHE_SIZE));
	return size;
}

static const FerryQmpArgument integer_arguments[] = { { "value", FERRY_QMP_INTEGER }, { NULL } };
static const FerryQmpArgument number_arguments[] = { { "value", FERRY_QMP_NUMBER }, { NULL } };

const FerryQmpCommand ferry_qmp_older_commands[] = {
	{ "migrate_set_speed", set_speed, integer_arguments },
	{ "migrate_set_downtime", set_downtime, number_arguments },
	{ "migrate-set-cache-size", set_cache_size, integer_arguments },
	{ "query-migrate-cache-size", query_cache_size, ferry_qmp_no_arguments },
	{ NULL },
};
