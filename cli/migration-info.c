/* SPDX-License-Identifier: BSD-2-Clause */
#include "migration-info.h"

static JsonNode *member(JsonObject *object, const char *name, JsonNodeType type)
{
	JsonNode *node = object ? json_object_get_member(object, name) : NULL;

	return node && json_node_get_node_type(node) == type ? node : NULL;
}

static JsonObject *object_member(JsonObject *object, const char *name)
{
	JsonNode *node = member(object, name, JSON_NODE_OBJECT);

	return node ? json_node_get_object(node) : NULL;
}

static double number(JsonObject *object, const char *name, double otherwise)
{
	JsonNode *node = member(object, name, JSON_NODE_VALUE);

	return node ? json_node_get_double(node) : otherwise;
}

static const char *string(JsonObject *object, const char *name, const char *otherwise)
{
	JsonNode *node = member(object, name, JSON_NODE_VALUE);
	const char *text = node ? json_node_get_string(node) : NULL;

	return text ? text : otherwise;
}

static void read_ram(JsonObject *ram, FerryCliMigration *migration)
{
	double page_size = number(ram, "page-size", 4096);

	migration->total = number(ram, "total", 0);
	migration->remaining = number(ram, "remaining", 0);
	migration->transferred = number(ram, "transferred", 0);
	migration->zero_bytes = number(ram, "duplicate", 0) * page_size;
	migration->rate = number(ram, "mbps", 0) * 1e6 / 8;
	migration->dirty_rate = number(ram, "dirty-pages-rate", 0) * page_size;
	migration->round = number(ram, "dirty-sync-count", 0);
	migration->requests = number(ram, "postcopy-requests", 0);
}

gboolean ferry_cli_migration_read(JsonNode *answer, FerryCliMigration *migration)
{
	JsonObject *object = JSON_NODE_HOLDS_OBJECT(answer) ? json_node_get_object(answer) : NULL;
	JsonNode *rounds = member(object, "rounds", JSON_NODE_ARRAY);

	*migration = (FerryCliMigration){
		.status = string(object, "status", "none"),
		.error_desc = string(object, "error-desc", NULL),
		.transport = string(object, "transport", NULL),
		.fallback = string(object, "fallback-reason", NULL),
		.total_ms = number(object, "total-time", 0),
		.downtime_ms = number(object, "downtime", -1),
		.expected_ms = number(object, "expected-downtime", -1),
		.predicted_ms = number(object, "predicted-downtime", -1),
		.throttle = number(object, "cpu-throttle-percentage", 0),
		.rounds = rounds ? json_node_get_array(rounds) : NULL,
		.cpu = object_member(object, "cpu"),
		.rdma = object_member(object, "rdma"),
		.verified = member(object, "verified", JSON_NODE_VALUE),
	};
	read_ram(object_member(object, "ram"), migration);
	migration->followed = number(object_member(object, "postcopy"), "discarded-pages", 0) *
			      4096;
	/* QEMU counts its looks for dirty pages; the first is round 1. */
	migration->round = MAX(migration->round, 1);
	if (migration->rounds && json_array_get_length(migration->rounds))
		migration->round = json_array_get_length(migration->rounds);
	return object != NULL;
}

guint ferry_cli_migration_n_rounds(const FerryCliMigration *migration)
{
	return migration->rounds ? json_array_get_length(migration->rounds) : 0;
}

void ferry_cli_migration_round(const FerryCliMigration *migration, guint index,
			       FerryCliRound *round)
{
	JsonNode *node = json_array_get_element(migration->rounds, index);
	JsonObject *object = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;

	*round = (FerryCliRound){
		.round = number(object, "round", index + 1),
		.pages = number(object, "normal", 0) + number(object, "duplicate", 0),
		.zero_pages = number(object, "duplicate", 0),
		.bytes = number(object, "bytes", 0),
		.seconds = number(object, "time-us", 0) / 1e6,
	};
}
