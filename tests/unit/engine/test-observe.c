/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/observe.h"
#include "harness.h"

/* The last message, as FIELD -> text; GLib's own fields too. */
static GHashTable *last;
static GLogLevelFlags last_level;
static guint count;

static GLogWriterOutput capture(GLogLevelFlags level, const GLogField *fields, gsize n,
				gpointer user)
{
	last_level = level;
	count++;
	g_hash_table_remove_all(last);
	for (gsize i = 0; i < n; i++)
		g_hash_table_insert(last, g_strdup(fields[i].key), g_strdup(fields[i].value));
	return G_LOG_WRITER_HANDLED;
}

static const char *field(const char *name)
{
	return g_hash_table_lookup(last, name);
}

static gboolean has(const char *name, const char *value)
{
	return g_strcmp0(field(name), value) == 0;
}

static void state__on_the_way__info_without_a_reason(void)
{
	ferry_observe_state(FERRY_SIDE_SOURCE, FERRY_STATE_SETUP, FERRY_STATE_ACTIVE, "tcp:a:1",
			    "an old reason");
	CU_ASSERT_EQUAL(last_level, G_LOG_LEVEL_INFO);
	CU_ASSERT(has("PRIORITY", "6") && has("GLIB_DOMAIN", "ferry"));
	CU_ASSERT(has("FERRY_EVENT", "state") && has("FERRY_SIDE", "source"));
	CU_ASSERT(has("FERRY_STATE", "active") && has("FERRY_OLD_STATE", "setup"));
	CU_ASSERT(has("FERRY_URI", "tcp:a:1") && has("FERRY_REASON", NULL));
	CU_ASSERT(has("MESSAGE", "source: active, was setup"));
}

static void state__failed__one_message_with_the_reason(void)
{
	guint before = count;

	ferry_observe_state(FERRY_SIDE_DESTINATION, FERRY_STATE_ACTIVE, FERRY_STATE_FAILED, NULL,
			    "100% of it was bad");
	CU_ASSERT_EQUAL(count, before + 1);
	CU_ASSERT_EQUAL(last_level, G_LOG_LEVEL_MESSAGE);
	CU_ASSERT(has("PRIORITY", "5") && has("FERRY_SIDE", "destination"));
	CU_ASSERT(has("FERRY_REASON", "100% of it was bad") && has("FERRY_URI", NULL));
	CU_ASSERT(has("MESSAGE", "destination: failed, was active: 100% of it was bad"));
}

static void state__in_trouble__a_warning(void)
{
	static const FerryState troubles[] = { FERRY_STATE_HANDOVER_LOST,
					       FERRY_STATE_POSTCOPY_PAUSED };

	for (guint i = 0; i < G_N_ELEMENTS(troubles); i++) {
		ferry_observe_state(FERRY_SIDE_SOURCE, FERRY_STATE_HANDOVER, troubles[i], "u",
				    "cut");
		CU_ASSERT_EQUAL(last_level, G_LOG_LEVEL_WARNING);
		CU_ASSERT(has("PRIORITY", "4") && has("FERRY_REASON", "cut"));
	}
}

static void state__completed__no_reason_of_an_earlier_pause(void)
{
	ferry_observe_state(FERRY_SIDE_SOURCE, FERRY_STATE_POSTCOPY_ACTIVE, FERRY_STATE_COMPLETED,
			    "u", "paused by hand");
	CU_ASSERT(has("FERRY_REASON", NULL) && has("FERRY_STATE", "completed"));
}

static void rounds__numbers__are_fields(void)
{
	const FerryRound round = { .round = 3,
				   .dirty_pages = 9,
				   .normal = 5,
				   .duplicate = 4,
				   .bytes = 20500,
				   .time_us = 77 };

	ferry_observe_round_begin(&round);
	CU_ASSERT_EQUAL(last_level, G_LOG_LEVEL_DEBUG);
	CU_ASSERT(has("PRIORITY", "7") && has("FERRY_ROUND", "3") && has("FERRY_PAGES", "9"));
	ferry_observe_round_end(&round);
	CU_ASSERT(has("FERRY_BYTES", "20500") && has("FERRY_TIME_US", "77"));
	CU_ASSERT(has("FERRY_EVENT", "round-end") && has("FERRY_PAGES", "9"));
}

static void connections__taken_refused_fallen_back__levels_and_reasons(void)
{
	ferry_observe_connected(FERRY_SIDE_DESTINATION, "unix:/a");
	CU_ASSERT_EQUAL(last_level, G_LOG_LEVEL_INFO);
	CU_ASSERT(has("FERRY_EVENT", "connected") && has("FERRY_URI", "unix:/a"));
	ferry_observe_refused("unix:/a", "no %s");
	CU_ASSERT_EQUAL(last_level, G_LOG_LEVEL_WARNING);
	CU_ASSERT(has("FERRY_EVENT", "refused") && has("FERRY_REASON", "no %s"));
	ferry_observe_fallback("rdma:a:1", "tcp", "no device");
	CU_ASSERT_EQUAL(last_level, G_LOG_LEVEL_WARNING);
	CU_ASSERT(has("FERRY_TRANSPORT", "tcp") && has("FERRY_REASON", "no device"));
}

static CU_TestInfo cases[] = {
	CASE(state__on_the_way__info_without_a_reason),
	CASE(state__failed__one_message_with_the_reason),
	CASE(state__in_trouble__a_warning),
	CASE(state__completed__no_reason_of_an_earlier_pause),
	CASE(rounds__numbers__are_fields),
	CASE(connections__taken_refused_fallen_back__levels_and_reasons),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	int status;

	last = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	g_log_set_writer_func(capture, NULL, NULL);
	status = harness_run(argc, argv, "observe", cases);
	g_hash_table_unref(last);
	return status;
}
