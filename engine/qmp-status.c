/* SPDX-License-Identifier: BSD-2-Clause */
#include "qmp-commands.h"

#include <math.h>

/* query-migrate's answer. docs/qmp.md lists the fields and their units. */

JsonNode *ferry_qmp_object_node(JsonObject *object)
{
	JsonNode *node = json_node_new(JSON_NODE_OBJECT);

	json_node_take_object(node, object);
	return node;
}

JsonNode *ferry_qmp_array_node(JsonArray *array)
{
	JsonNode *node = json_node_new(JSON_NODE_ARRAY);

	json_node_take_array(node, array);
	return node;
}

void ferry_qmp_set_number(JsonObject *object, const char *name, guint64 value)
{
	json_object_set_int_member(object, name, MIN(value, (guint64)G_MAXINT64));
}

void ferry_qmp_set_double(JsonObject *object, const char *name, double value)
{
	json_object_set_double_member(object, name, isfinite(value) ? value : 0);
}

/* What query-migrate tells in each state. */
#define TIMES 1u    /* total and set-up time, RAM, throttling */
#define EXPECTED 2u /* expected-downtime */
#define DOWNTIME 4u /* downtime */
#define ARRIVING 8u /* a destination: total time, RAM received */

static guint parts_of(FerryState state, gboolean incoming)
{
	if (incoming && state != FERRY_STATE_SETUP)
		return ARRIVING;
	switch (state) {
	case FERRY_STATE_NONE:
	case FERRY_STATE_SETUP:
	case FERRY_STATE_FAILED:
	case FERRY_STATE_CANCELLED:
	case FERRY_STATE__N:
		return 0;
	case FERRY_STATE_COMPLETED:
		return TIMES | DOWNTIME;
	default:
		return TIMES | EXPECTED;
	}
}

static JsonObject *ram_info(const FerryMigrationStatus *status)
{
	JsonObject *ram = json_object_new();
	gboolean done = status->state == FERRY_STATE_COMPLETED;

	ferry_qmp_set_number(ram, "transferred", status->ram.transferred);
	ferry_qmp_set_number(ram, "remaining", done ? 0 : status->ram.remaining);
	ferry_qmp_set_number(ram, "total", status->ram.total);
	ferry_qmp_set_number(ram, "duplicate", status->ram.duplicate);
	ferry_qmp_set_number(ram, "skipped", status->ram.skipped);
	ferry_qmp_set_number(ram, "normal", status->ram.normal);
	ferry_qmp_set_number(ram, "normal-bytes", status->ram.normal_bytes);
	ferry_qmp_set_number(ram, "dirty-pages-rate", status->ram.dirty_pages_rate);
	ferry_qmp_set_double(ram, "mbps", status->ram.mbps);
	ferry_qmp_set_number(ram, "dirty-sync-count", status->ram.dirty_sync_count);
	ferry_qmp_set_number(ram, "page-size", FERRY_PAGE_SIZE);
	ferry_qmp_set_number(ram, "multifd-bytes", 0);
	ferry_qmp_set_number(ram, "pages-per-second", status->ram.pages_per_second);
	ferry_qmp_set_number(ram, "precopy-bytes", status->ram.precopy_bytes);
	ferry_qmp_set_number(ram, "downtime-bytes", status->ram.downtime_bytes);
	ferry_qmp_set_number(ram, "postcopy-bytes", 0);
	ferry_qmp_set_number(ram, "postcopy-requests", 0);
	return ram;
}

static void set_times(JsonObject *info, const FerryMigrationStatus *status, guint parts)
{
	json_object_set_int_member(info, "total-time", status->total_time_ms);
	json_object_set_int_member(info, "setup-time", status->setup_time_ms);
	if (parts & EXPECTED)
		json_object_set_int_member(info, "expected-downtime", status->expected_downtime_ms);
	if (parts & DOWNTIME)
		json_object_set_int_member(info, "downtime", status->downtime_ms);
	if (status->throttle_percentage)
		json_object_set_int_member(info, "cpu-throttle-percentage",
					   status->throttle_percentage);
	json_object_set_object_member(info, "ram", ram_info(status));
}

static void set_arriving(JsonObject *info, const FerryMigrationStatus *status)
{
	JsonObject *ram = json_object_new();

	json_object_set_int_member(info, "total-time", status->total_time_ms);
	ferry_qmp_set_number(ram, "transferred", status->ram.transferred);
	ferry_qmp_set_number(ram, "total", status->ram.total);
	json_object_set_object_member(info, "ram", ram);
}

static void set_cpu(JsonObject *cpu, const char *side, const FerryCpuTime *time)
{
	JsonObject *seconds;

	if (time->user < 0 || time->system < 0)
		return;
	seconds = json_object_new();
	ferry_qmp_set_double(seconds, "user", time->user);
	ferry_qmp_set_double(seconds, "system", time->system);
	json_object_set_object_member(cpu, side, seconds);
}

static JsonArray *rounds_info(const FerryMigrationStatus *status)
{
	JsonArray *rounds = json_array_new();

	for (guint i = 0; i < status->n_rounds; i++) {
		const FerryRound *round = &status->rounds[i];
		JsonObject *info = json_object_new();

		ferry_qmp_set_number(info, "round", round->round);
		ferry_qmp_set_number(info, "dirty-pages", round->dirty_pages);
		ferry_qmp_set_number(info, "normal", round->normal);
		ferry_qmp_set_number(info, "duplicate", round->duplicate);
		ferry_qmp_set_number(info, "bytes", round->bytes);
		json_object_set_int_member(info, "time-us", round->time_us);
		json_object_set_int_member(info, "collect-us", round->collect_us);
		json_array_add_object_element(rounds, info);
	}
	return rounds;
}

/* The members that QEMU's schema does not have. */
static void set_ferrys_own(JsonObject *info, const FerryMigrationStatus *status)
{
	g_autoptr(JsonObject) cpu = json_object_new();

	if (status->transport)
		json_object_set_string_member(info, "transport", status->transport);
	if (status->fallback)
		json_object_set_string_member(info, "fallback-reason", status->fallback);
	ferry_qmp_set_number(info, "wire-bytes", status->wire_bytes);
	if (status->verified != FERRY_VERIFIED_UNKNOWN)
		json_object_set_boolean_member(info, "verified",
					       status->verified == FERRY_VERIFIED_YES);
	set_cpu(cpu, "source", &status->source_cpu);
	set_cpu(cpu, "destination", &status->destination_cpu);
	if (json_object_get_size(cpu))
		json_object_set_object_member(info, "cpu", json_object_ref(cpu));
	if (status->dirty_source)
		json_object_set_string_member(info, "dirty-source", status->dirty_source);
	if (status->n_rounds)
		json_object_set_array_member(info, "rounds", rounds_info(status));
}

static void set_blocked(JsonObject *info, char **blocked)
{
	JsonArray *reasons;

	if (!blocked || !*blocked)
		return;
	reasons = json_array_new();
	for (char **reason = blocked; *reason; reason++)
		json_array_add_string_element(reasons, *reason);
	json_object_set_array_member(info, "blocked-reasons", reasons);
}

JsonNode *ferry_qmp_migration_info(const FerryMigrationStatus *status, gboolean incoming,
				   char **blocked)
{
	JsonObject *info = json_object_new();
	guint parts = parts_of(status->state, incoming);

	set_blocked(info, blocked);
	if (status->state == FERRY_STATE_NONE)
		return ferry_qmp_object_node(info);
	json_object_set_string_member(info, "status", ferry_state_name(status->state));
	if (status->error_desc)
		json_object_set_string_member(info, "error-desc", status->error_desc);
	if (parts & TIMES)
		set_times(info, status, parts);
	if (parts & ARRIVING)
		set_arriving(info, status);
	if (status->state != FERRY_STATE_SETUP)
		set_ferrys_own(info, status);
	return ferry_qmp_object_node(info);
}
