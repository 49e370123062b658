/* SPDX-License-Identifier: BSD-2-Clause */
/* What query-migrate tells of what a migration counted. */
#include "harness.h"
#include "engine/qmp-commands.h"

static JsonObject *info_of(const FerryMigrationStatus *status, gboolean incoming)
{
	JsonNode *node = ferry_qmp_migration_info(status, incoming, NULL);
	JsonObject *info = json_node_dup_object(node);

	json_node_unref(node);
	return info;
}

/* Whether the member is exactly this JSON. */
static gboolean is(JsonObject *info, const char *member, const char *expected)
{
	JsonNode *node = json_object_get_member(info, member);
	g_autofree char *text = node ? json_to_string(node, FALSE) : NULL;

	if (g_strcmp0(text, expected) == 0)
		return TRUE;
	printf("# %s: expected %s, got %s\n", member, expected ? expected : "none",
	       text ? text : "none");
	return FALSE;
}

static const FerryMigrationStatus full = {
	.predicted_downtime_ms = 12.5,
	.throttle_percentage = 30,
	.dirty_limit_throttle_us = 77,
	.multifd_bytes = 1000,
	.zero_copy_copied = 3,
	.xbzrle = { TRUE, 65536, 100, 7, 5, 0.25, 40.5, 2 },
	.compression = { TRUE, 9, 4, 0.5, 300, 13.5 },
};

static void encodings__on__are_told_from_active_on(void)
{
	static const FerryState told[] = { FERRY_STATE_ACTIVE,          FERRY_STATE_PRE_SWITCHOVER,
					   FERRY_STATE_DEVICE,          FERRY_STATE_HANDOVER,
					   FERRY_STATE_POSTCOPY_ACTIVE, FERRY_STATE_CANCELLING,
					   FERRY_STATE_COMPLETED };
	FerryMigrationStatus status = full;

	for (guint i = 0; i < G_N_ELEMENTS(told); i++) {
		g_autoptr(JsonObject) info = NULL;

		status.state = told[i];
		info = info_of(&status, FALSE);
		CU_ASSERT(is(info, "xbzrle-cache",
			     "{\"cache-size\":65536,\"bytes\":100,\"pages\":7,\"cache-miss\":5,"
			     "\"cache-miss-rate\":0.25,\"encoding-rate\":40.5,\"overflow\":2}"));
		CU_ASSERT(is(info, "compression",
			     "{\"pages\":9,\"busy\":4,\"busy-rate\":0.5,\"compressed-size\":300,"
			     "\"compression-rate\":13.5}"));
		CU_ASSERT(is(info, "predicted-downtime", "12.5"));
		CU_ASSERT(is(info, "cpu-throttle-percentage", "30"));
		CU_ASSERT(is(info, "dirty-limit-throttle-time-per-round", "77"));
		CU_ASSERT(is(json_object_get_object_member(info, "ram"), "multifd-bytes", "1000"));
		CU_ASSERT(is(json_object_get_object_member(info, "ram"),
			     "dirty-sync-missed-zero-copy", "3"));
	}
}

static const char *const optional[] = {
	"xbzrle-cache",       "compression",
	"predicted-downtime", "cpu-throttle-percentage",
	"error-desc",         "dirty-limit-throttle-time-per-round",
};

static gboolean has_none(const FerryMigrationStatus *status, gboolean incoming)
{
	g_autoptr(JsonObject) info = info_of(status, incoming);
	gboolean none = TRUE;

	for (guint i = 0; i < G_N_ELEMENTS(optional); i++)
		none = is(info, optional[i], NULL) && none;
	return none;
}

static void encodings__off__are_not_told(void)
{
	FerryMigrationStatus status = { .state = FERRY_STATE_ACTIVE, .predicted_downtime_ms = -1 };
	g_autoptr(JsonObject) info = info_of(&status, FALSE);

	CU_ASSERT(has_none(&status, FALSE));
	/* QEMU's schema has these always. */
	CU_ASSERT(is(json_object_get_object_member(info, "ram"), "multifd-bytes", "0"));
	CU_ASSERT(
		is(json_object_get_object_member(info, "ram"), "dirty-sync-missed-zero-copy", "0"));
}

static void encodings__before_and_where_it_did_not_complete__are_not_told(void)
{
	static const FerryState silent[] = { FERRY_STATE_NONE, FERRY_STATE_SETUP,
					     FERRY_STATE_FAILED, FERRY_STATE_CANCELLED };
	FerryMigrationStatus status = full;

	for (guint i = 0; i < G_N_ELEMENTS(silent); i++) {
		status.state = silent[i];
		CU_ASSERT(has_none(&status, FALSE));
	}
	status.state = FERRY_STATE_ACTIVE;
	CU_ASSERT(has_none(&status, TRUE));
}

static void rates__not_finite__are_zero(void)
{
	FerryMigrationStatus status = full;
	g_autoptr(JsonObject) info = NULL;

	status.state = FERRY_STATE_ACTIVE;
	status.compression.compression_rate = 1 / 0.0;
	status.xbzrle.cache_miss_rate = 0 / 0.0;
	info = info_of(&status, FALSE);
	CU_ASSERT(
		is(json_object_get_object_member(info, "compression"), "compression-rate", "0.0"));
	CU_ASSERT(
		is(json_object_get_object_member(info, "xbzrle-cache"), "cache-miss-rate", "0.0"));
}

static CU_TestInfo cases[] = {
	CASE(encodings__on__are_told_from_active_on),
	CASE(encodings__off__are_not_told),
	CASE(encodings__before_and_where_it_did_not_complete__are_not_told),
	CASE(rates__not_finite__are_zero),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "qmp-status", cases);
}
