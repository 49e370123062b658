/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/error.h>

G_BEGIN_DECLS

/*
 * Capabilities (on or off, fixed while a migration runs) and parameters (numbers and names, some of
 * which act on a running migration). One const table each, by QMP name; QMP, the command line and
 * embedders all go through it. Every function is safe from any thread. Settings outlive migrations.
 */
typedef struct FerrySettings FerrySettings;

typedef enum {
	FERRY_CAPABILITY_EVENTS, /* "events": QMP sends MIGRATION and MIGRATION_PASS; on */
	/* "return-path": on. Off: plain one-way stream, as for a file; no two-phase hand-over */
	FERRY_CAPABILITY_RETURN_PATH,
	FERRY_CAPABILITY_PAUSE_BEFORE_SWITCHOVER, /* "pause-before-switchover": off */
	/* "verify-ram": off. Both sides digest all RAM while the guest is stopped, and compare
	 * before it runs; not where it runs before its pages have come (postcopy-ram) */
	FERRY_CAPABILITY_VERIFY_RAM,
	/* "rdma-pin-all": off. All RAM is registered before the first page, instead of in chunks
	 * ahead of the pages */
	FERRY_CAPABILITY_RDMA_PIN_ALL,
	/* "rdma-require": off. A migration to rdma: that cannot go over RDMA fails, instead of
	 * going over TCP */
	FERRY_CAPABILITY_RDMA_REQUIRE,
	/* "postcopy-ram", also "x-postcopy-ram": off. Source: migrate-start-postcopy may switch the
	 * guest over before its pages have gone; a destination needs no setting */
	FERRY_CAPABILITY_POSTCOPY_RAM,
	/* "rdma-postcopy-pull": on. After the switch the destination reads the pages itself by
	 * RDMA; off, at either side: the source writes them */
	FERRY_CAPABILITY_RDMA_POSTCOPY_PULL,
	FERRY_CAPABILITY__N,
} FerryCapability;

typedef enum {
	/* "max-bandwidth": bytes a second, 0 is no limit; 0; acts at once */
	FERRY_PARAMETER_MAX_BANDWIDTH,
	FERRY_PARAMETER_DOWNTIME_LIMIT, /* "downtime-limit": ms, 0 to 2000000; 300; acts at once */
	/* "rdma-queue-pairs": 0 to 16; 0: as many as both sides find right */
	FERRY_PARAMETER_RDMA_QUEUE_PAIRS,
	/* "rdma-pin-limit": bytes each side may have registered at a time; 0: no limit but the
	 * system's. Ignored with rdma-pin-all */
	FERRY_PARAMETER_RDMA_PIN_LIMIT,
	/* "max-postcopy-bandwidth": bytes a second of pages that nobody waits for, 0 is no limit;
	 * 0; acts at once. Of the side that decides the order: the source, or, where pages are
	 * fetched, the destination */
	FERRY_PARAMETER_MAX_POSTCOPY_BANDWIDTH,
	FERRY_PARAMETER__N,
} FerryParameter;

/* What the tables say of one capability or parameter; static. */
typedef struct {
	const char *name;
	const char *help; /* one line */
	guint64 initial;
	guint64 minimum;
	guint64 maximum;
} FerrySettingInfo;
const FerrySettingInfo *ferry_capability_info(FerryCapability capability);
const FerrySettingInfo *ferry_parameter_info(FerryParameter parameter);

/* -1 where no setting has this name. */
int ferry_capability_from_name(const char *name);
int ferry_parameter_from_name(const char *name);

gboolean ferry_settings_get_capability(FerrySettings *settings, FerryCapability capability);
/* FERRY_ERROR_STATE while a migration runs. */
gboolean ferry_settings_set_capability(FerrySettings *settings, FerryCapability capability,
				       gboolean on, GError **error);
guint64 ferry_settings_get_parameter(FerrySettings *settings, FerryParameter parameter);
/* FERRY_ERROR_INVALID outside of the range, with the range in the message; nothing is then
 * stored. */
gboolean ferry_settings_set_parameter(FerrySettings *settings, FerryParameter parameter,
				      guint64 value, GError **error);

G_END_DECLS
