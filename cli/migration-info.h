/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <json-glib/json-glib.h>

/* What `ferry migrate` shows of a query-migrate answer, Ferry's or QEMU's. Borrowed from the
 * answer. */
typedef struct {
	const char *status;     /* "none" where the answer has none */
	const char *error_desc; /* NULL without one */
	const char *transport;  /* NULL where not told */
	const char *fallback;   /* why not by RDMA; NULL where it was not asked for, or works */
	gint64 total_ms;
	gint64 downtime_ms; /* -1 where not told, as the next */
	gint64 expected_ms;
	double predicted_ms;
	gint64 throttle;    /* percent */
	double total;       /* bytes of RAM */
	double remaining;   /* bytes */
	double transferred; /* bytes on the wire */
	double zero_bytes;  /* RAM that went as «zero» */
	double rate;        /* bytes a second */
	double dirty_rate;  /* bytes a second */
	gint64 round;
	double followed;    /* bytes of RAM that follow, or followed, a guest switched over first */
	gint64 requests;    /* for pages that it waited for */
	JsonArray *rounds;  /* NULL where not told */
	JsonObject *cpu;    /* NULL where not told */
	JsonObject *rdma;   /* query-rdma's answer; NULL where there was none */
	JsonNode *verified; /* NULL where not told */
} FerryCliMigration;

/* FALSE if @answer is no object. */
gboolean ferry_cli_migration_read(JsonNode *answer, FerryCliMigration *migration);

/* One entry of rounds. */
typedef struct {
	gint64 round;
	gint64 pages;
	gint64 zero_pages;
	double bytes;
	double seconds;
} FerryCliRound;

guint ferry_cli_migration_n_rounds(const FerryCliMigration *migration);
void ferry_cli_migration_round(const FerryCliMigration *migration, guint index,
			       FerryCliRound *round);
