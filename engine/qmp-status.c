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
	case FERRY_STATE_POSTCOPY_ACTIVE:
	case FERRY_STATE_POSTCOPY_PAUSED:
	case FERRY_STATE_POSTCOPY_RECOVER:
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
	ferry_qmp_set_number(ram, "multifd-bytes", status->multifd_bytes);
	ferry_qmp_set_number(ram, "pages-per-second", status->ram.pages_per_second);
	ferry_qmp_set_number(ram, "precopy-bytes", status->ram.precopy_bytes);
	ferry_qmp_set_number(ram, "downtime-bytes", status->ram.downtime_bytes);
	ferry_qmp_set_number(ram, "postcopy-bytes", status->ram.postcopy_bytes);
	ferry_qmp_set_number(ram, "postcopy-requests", status->postcopy.requests);
	ferry_qmp_set_number(ram, "dirty-sync-missed-zero-copy", status->zero_copy_copied);
	return ram;
}

static void set_xbzrle(JsonObject *info, const FerryXbzrleStatus *xbzrle)
{
	JsonObject *object;

	if (!xbzrle->on)
		return;
	object = json_object_new();
	ferry_qmp_set_number(object, "cache-size", xbzrle->cache_size);
	ferry_qmp_set_number(object, "bytes", xbzrle->bytes);
	ferry_qmp_set_number(object, "pages", xbzrle->pages);
	ferry_qmp_set_number(object, "cache-miss", xbzrle->cache_miss);
	ferry_qmp_set_double(object, "cache-miss-rate", xbzrle->cache_miss_rate);
	ferry_qmp_set_double(object, "encoding-rate", xbzrle->encoding_rate);
	ferry_qmp_set_number(object, "overflow", xbzrle->overflow);
	json_object_set_object_member(info, "xbzrle-cache", object);
}

static void set_compression(JsonObject *info, const FerryCompressionStatus *compression)
{
	JsonObject *object;

	if (!compression->on)
		return;
	object = json_object_new();
	ferry_qmp_set_number(object, "pages", compression->pages);
	ferry_qmp_set_number(object, "busy", compression->busy);
	ferry_qmp_set_double(object, "busy-rate", compression->busy_rate);
	ferry_qmp_set_number(object, "compressed-size", compression->compressed_size);
	ferry_qmp_set_double(object, "compression-rate", compression->compression_rate);
	json_object_set_object_member(info, "compression", object);
}

static void set_throttling(JsonObject *info, const FerryMigrationStatus *status)
{
	if (status->throttle_percentage)
		json_object_set_int_member(info, "cpu-throttle-percentage",
					   status->throttle_percentage);
	if (status->dirty_limit_throttle_us)
		ferry_qmp_set_number(info, "dirty-limit-throttle-time-per-round",
				     status->dirty_limit_throttle_us);
}

static void set_times(JsonObject *info, const FerryMigrationStatus *status, guint parts)
{
	json_object_set_int_member(info, "total-time", status->total_time_ms);
	json_object_set_int_member(info, "setup-time", status->setup_time_ms);
	if (parts & EXPECTED)
		json_object_set_int_member(info, "expected-downtime", status->expected_downtime_ms);
	if (parts & DOWNTIME)
		json_object_set_int_member(info, "downtime", status->downtime_ms);
	if (status->predicted_downtime_ms >= 0)
		ferry_qmp_set_double(info, "predicted-downtime", status->predicted_downtime_ms);
	set_throttling(info, status);
	json_object_set_object_member(info, "ram", ram_info(status));
	set_xbzrle(info, &status->xbzrle);
	set_compression(info, &status->compression);
}

static void set_arriving(JsonObject *info, const FerryMigrationStatus *status)
{
	JsonObject *ram = json_object_new();

	json_object_set_int_member(info, "total-time", status->total_time_ms);
	ferry_qmp_set_number(ram, "transferred", status->ram.transferred);
	ferry_qmp_set_number(ram, "total", status->ram.total);
	if (status->postcopy.switched)
		ferry_qmp_set_number(ram, "postcopy-requests", status->postcopy.requests);
	json_object_set_object_member(info, "ram", ram);
}

static gint64 in_ms(guint64 us)
{
	return (gint64)(us / G_TIME_SPAN_MILLISECOND);
}

static void set_latency(JsonObject *info, const FerryLatency *latency)
{
	JsonObject *object = json_object_new();

	ferry_qmp_set_number(object, "count", latency->count);
	ferry_qmp_set_number(object, "p50", latency->p50);
	ferry_qmp_set_number(object, "p90", latency->p90);
	ferry_qmp_set_number(object, "p99", latency->p99);
	ferry_qmp_set_number(object, "max", latency->max);
	json_object_set_object_member(info, "latency-us", object);
}

/* How long the guest waited for its pages; QEMU's names, and only the destination knows. */
static void set_blocktime(JsonObject *info, const FerryPostcopyStatus *postcopy)
{
	JsonArray *vcpus = json_array_new();

	for (guint i = 0; i < postcopy->n_vcpus; i++)
		json_array_add_int_element(vcpus, in_ms(postcopy->vcpu_blocktime_us[i]));
	json_object_set_int_member(info, "postcopy-blocktime", in_ms(postcopy->blocktime_us));
	json_object_set_array_member(info, "postcopy-vcpu-blocktime", vcpus);
}

static void set_postcopy(JsonObject *info, const FerryPostcopyStatus *postcopy, gboolean incoming)
{
	JsonObject *object;

	if (!postcopy->switched)
		return;
	object = json_object_new();
	json_object_set_string_member(object, "mode", postcopy->mode);
	ferry_qmp_set_number(object, "discarded-pages", postcopy->discarded);
	ferry_qmp_set_number(object, "missing-pages", postcopy->missing);
	ferry_qmp_set_number(object, "requests", postcopy->requests);
	ferry_qmp_set_number(object, "urgent-pages", postcopy->urgent_pages);
	ferry_qmp_set_number(object, "background-pages", postcopy->background_pages);
	ferry_qmp_set_number(object, "pauses", postcopy->pauses);
	if (incoming) {
		ferry_qmp_set_number(object, "repeated-pages", postcopy->repeated_pages);
		set_latency(object, &postcopy->latency);
		set_blocktime(info, postcopy);
	}
	json_object_set_object_member(info, "postcopy", object);
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
		json_object_set_int_member(info, "bookkeeping-us", round->bookkeeping_us);
		ferry_qmp_set_number(info, "put-off-pages", round->put_off_pages);
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

static JsonArray *points_info(const FerryRehearsal *rehearsal)
{
	JsonArray *points = json_array_new();

	for (guint i = 0; i < rehearsal->n_points; i++) {
		JsonObject *point = json_object_new();

		ferry_qmp_set_double(point, "seconds", rehearsal->points[i].seconds);
		ferry_qmp_set_number(point, "pages", rehearsal->points[i].pages);
		json_array_add_object_element(points, point);
	}
	return points;
}

/* Advice that there is none of is left out. */
static JsonObject *advice_info(const FerryRehearsal *rehearsal)
{
	JsonObject *advice = json_object_new();

	if (rehearsal->needed_downtime_limit_ms)
		ferry_qmp_set_number(advice, "downtime-limit", rehearsal->needed_downtime_limit_ms);
	if (rehearsal->needed_throttle)
		ferry_qmp_set_number(advice, "cpu-throttle-percentage", rehearsal->needed_throttle);
	if (rehearsal->needed_bandwidth)
		ferry_qmp_set_number(advice, "max-bandwidth", rehearsal->needed_bandwidth);
	return advice;
}

static void set_rehearsal(JsonObject *info, const FerryRehearsal *rehearsal)
{
	JsonObject *object;

	if (!rehearsal->on)
		return;
	object = json_object_new();
	json_object_set_object_member(info, "rehearsal", object);
	json_object_set_boolean_member(object, "done", rehearsal->done);
	if (!rehearsal->done)
		return;
	ferry_qmp_set_double(object, "seconds", rehearsal->seconds);
	ferry_qmp_set_double(object, "bandwidth", rehearsal->bandwidth);
	ferry_qmp_set_number(object, "max-bandwidth", rehearsal->bandwidth_limit);
	ferry_qmp_set_number(object, "downtime-limit", rehearsal->downtime_limit_ms);
	ferry_qmp_set_number(object, "first-second-pages", rehearsal->first_second_pages);
	ferry_qmp_set_number(object, "steady-pages-rate", rehearsal->steady_pages_per_second);
	json_object_set_array_member(object, "written", points_info(rehearsal));
	json_object_set_boolean_member(object, "converges", rehearsal->converges);
	ferry_qmp_set_number(object, "rounds", rehearsal->rounds);
	if (rehearsal->converges)
		ferry_qmp_set_double(object, "total-time", rehearsal->total_seconds * 1e3);
	ferry_qmp_set_double(object, "downtime", rehearsal->downtime_ms);
	if (!rehearsal->converges)
		json_object_set_object_member(object, "advice", advice_info(rehearsal));
}

static void set_group(JsonObject *info, const FerryMigrationStatus *status)
{
	JsonObject *object;

	if (!status->group_members)
		return;
	object = json_object_new();
	ferry_qmp_set_number(object, "members", status->group_members);
	ferry_qmp_set_number(object, "rate", status->group_rate);
	json_object_set_object_member(info, "bandwidth-group", object);
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
	set_rehearsal(info, &status->rehearsal);
	if (parts & TIMES)
		set_times(info, status, parts);
	if (parts & ARRIVING)
		set_arriving(info, status);
	if (status->state != FERRY_STATE_SETUP) {
		set_ferrys_own(info, status);
		set_group(info, status);
		set_postcopy(info, &status->postcopy, incoming);
	}
	return ferry_qmp_object_node(info);
}
