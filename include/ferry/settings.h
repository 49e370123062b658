/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/error.h>

G_BEGIN_DECLS

/*
 * Capabilities (on or off, fixed while a migration runs) and parameters (numbers and texts, some of
 * which act on a running migration). One const table each, by QMP name, and one of what cannot be
 * combined; QMP, the command line, the documentation and embedders all go through them. Names,
 * ranges and defaults are QEMU's where it has the setting. Every function is safe from any thread.
 * Settings outlive migrations.
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
	/* "rdma-pin-all", also "x-rdma-pin-all": off. All RAM is registered before the first page, instead of in chunks
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
	/* "xbzrle": off. Pages that went before go as what changed in them, from the second round on */
	FERRY_CAPABILITY_XBZRLE,
	/* "compress": off. Pages go deflated, by threads of their own */
	FERRY_CAPABILITY_COMPRESS,
	/* "zero-blocks": off. Of disk migration, which Ferry has none of: accepted, no effect */
	FERRY_CAPABILITY_ZERO_BLOCKS,
	/* "auto-converge": off. The guest is slowed down, step by step, while it writes faster than
	 * its pages go */
	FERRY_CAPABILITY_AUTO_CONVERGE,
	/* "multifd", also "x-multifd": off. Pages go over multifd-channels connections beside the control channel, in
	 * QEMU's packets; to a file with mapped-ram, by as many threads. Both sides set it */
	FERRY_CAPABILITY_MULTIFD,
	/* "zero-copy-send": off. multifd's connections send from guest RAM without copying
	 * (MSG_ZEROCOPY) */
	FERRY_CAPABILITY_ZERO_COPY_SEND,
	/* "dirty-limit": off. As auto-converge, but only vCPUs that write faster than
	 * vcpu-dirty-limit are slowed down */
	FERRY_CAPABILITY_DIRTY_LIMIT,
	/* "mapped-ram": off. With file:, each page has its place in the file */
	FERRY_CAPABILITY_MAPPED_RAM,
	/* "x-ignore-shared": off. RAM blocks in a named file that both sides map do not go. Both
	 * sides set it */
	FERRY_CAPABILITY_X_IGNORE_SHARED,
	/* "late-block-activate": off. Of disks: accepted, no effect */
	FERRY_CAPABILITY_LATE_BLOCK_ACTIVATE,
	/* "validate-uuid": off. The guest's UUID goes along, and must be the destination's */
	FERRY_CAPABILITY_VALIDATE_UUID,
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
	/* "avail-switchover-bandwidth": bytes a second that are known to be there for the
	 * switchover, whatever was measured; 0: what was measured; acts at once */
	FERRY_PARAMETER_AVAIL_SWITCHOVER_BANDWIDTH,
	/* "bandwidth-group": the absolute path of a file, made where there is none, in which the
	 * migrations of this host meet that share one budget; "": none. The next migration */
	FERRY_PARAMETER_BANDWIDTH_GROUP,
	/* "group-bandwidth": bytes a second of all members of the group; the smallest that any of
	 * them has holds; 0: what the others have; 0; acts at once */
	FERRY_PARAMETER_GROUP_BANDWIDTH,

	/* "xbzrle-cache-size": bytes, a power of two of at least a page; 64 MiB; acts at once */
	FERRY_PARAMETER_XBZRLE_CACHE_SIZE,

	FERRY_PARAMETER_COMPRESS_LEVEL,   /* "compress-level": 0 to 9; 1; acts on the next page */
	FERRY_PARAMETER_COMPRESS_THREADS, /* "compress-threads": 1 to 255; 8 */
	/* "compress-wait-thread": on. Off: a page that finds no thread free goes as it is; acts on
	 * the next page */
	FERRY_PARAMETER_COMPRESS_WAIT_THREAD,
	FERRY_PARAMETER_DECOMPRESS_THREADS, /* "decompress-threads": 1 to 255; 2 */

	FERRY_PARAMETER_MULTIFD_CHANNELS, /* "multifd-channels", also "x-multifd-channels": 1 to 16; 2 */
	FERRY_PARAMETER_MULTIFD_COMPRESSION, /* "multifd-compression": FerryMultifdCompression */
	FERRY_PARAMETER_MULTIFD_ZLIB_LEVEL,  /* "multifd-zlib-level": 0 to 9; 1 */
	FERRY_PARAMETER_MULTIFD_ZSTD_LEVEL,  /* "multifd-zstd-level": 0 to 20; 1 */
	/* "direct-io": off. mapped-ram: pages go around the page cache (O_DIRECT) */
	FERRY_PARAMETER_DIRECT_IO,

	/* auto-converge; they act at the next round. "throttle-trigger-threshold": percent of the
	 * bytes sent in a round that may be dirtied in it, 1 to 100; 50 */
	FERRY_PARAMETER_THROTTLE_TRIGGER_THRESHOLD,
	/* "cpu-throttle-initial", also "x-cpu-throttle-initial": percent, 1 to 99; 20 */
	FERRY_PARAMETER_CPU_THROTTLE_INITIAL,
	/* "cpu-throttle-increment", also "x-cpu-throttle-increment": percent, 1 to 99; 10 */
	FERRY_PARAMETER_CPU_THROTTLE_INCREMENT,
	/* "cpu-throttle-tailslow": off. On: no step is larger than what the rest needs */
	FERRY_PARAMETER_CPU_THROTTLE_TAILSLOW,
	/* "max-cpu-throttle": percent, cpu-throttle-initial to 99; 99 */
	FERRY_PARAMETER_MAX_CPU_THROTTLE,
	/* dirty-limit; they act at the next period. "x-vcpu-dirty-limit-period": ms, 1 to 1000;
	 * 1000 */
	FERRY_PARAMETER_VCPU_DIRTY_LIMIT_PERIOD,
	FERRY_PARAMETER_VCPU_DIRTY_LIMIT, /* "vcpu-dirty-limit": MiB a second, at least 1; 1 */

	/* How often the destination calls announce(), and when, ms: "announce-initial" 0 to 100000,
	 * 50; "announce-max" 0 to 100000, 550; "announce-rounds" 0 to 1000, 5; "announce-step" 0 to
	 * 10000, 100 */
	FERRY_PARAMETER_ANNOUNCE_INITIAL,
	FERRY_PARAMETER_ANNOUNCE_MAX,
	FERRY_PARAMETER_ANNOUNCE_ROUNDS,
	FERRY_PARAMETER_ANNOUNCE_STEP,

	/* "tls-creds", "tls-hostname", "tls-authz": reserved; only "" is taken */
	FERRY_PARAMETER_TLS_CREDS,
	FERRY_PARAMETER_TLS_HOSTNAME,
	FERRY_PARAMETER_TLS_AUTHZ,
	FERRY_PARAMETER__N,
} FerryParameter;

/* The values of "multifd-compression". */
typedef enum {
	FERRY_MULTIFD_COMPRESSION_NONE,
	FERRY_MULTIFD_COMPRESSION_ZLIB,
	FERRY_MULTIFD_COMPRESSION_ZSTD,
	FERRY_MULTIFD_COMPRESSION__N,
} FerryMultifdCompression;

typedef enum {
	FERRY_SETTING_BOOLEAN,  /* 0 or 1; every capability */
	FERRY_SETTING_INTEGER,  /* minimum to maximum */
	FERRY_SETTING_CHOICE,   /* one of the names in choices; the number is its index */
	FERRY_SETTING_RESERVED, /* a string that must be empty; the number is 0 */
	FERRY_SETTING_TEXT,     /* any string of UTF-8; the number is 0 */
} FerrySettingKind;

/* What the tables say of one capability or parameter; static. */
typedef struct {
	const char *name;
	const char *help; /* one line */
	guint64 initial;
	guint64 minimum;
	guint64 maximum;
	FerrySettingKind kind;
	const char *unit; /* "bytes", "ms", ...; NULL: none */
	/* when a change reaches a migration that runs, in words; NULL: the next one only */
	const char *acts;
	gboolean power_of_two;      /* INTEGER: only these */
	const char *const *choices; /* CHOICE; NULL-terminated */
	/* also understood: what QEMU called it before it was found stable; NULL: none */
	const char *older_name;
} FerrySettingInfo;
const FerrySettingInfo *ferry_capability_info(FerryCapability capability);
const FerrySettingInfo *ferry_parameter_info(FerryParameter parameter);

/* -1 where no setting has this name. Older names are understood. */
int ferry_capability_from_name(const char *name);
int ferry_parameter_from_name(const char *name);

/* What cannot be combined; static. Where @parameter is FERRY_PARAMETER__N the rule is about two
 * capabilities: @capability with @other, or with @needs, without it. Else it is about @capability
 * while @parameter is not @value. */
typedef struct {
	FerryCapability capability;
	gboolean needs;
	FerryCapability other;
	FerryParameter parameter;
	guint64 value;
	const char *reason; /* a clause: "pages that ... " */
} FerrySettingRule;
const FerrySettingRule *ferry_setting_rules(guint *n);

/* A set of changes. Zeros are "as it is" but for @set_*. */
typedef struct {
	gboolean set_capability[FERRY_CAPABILITY__N];
	gboolean capability[FERRY_CAPABILITY__N];
	gboolean set_parameter[FERRY_PARAMETER__N];
	guint64 parameter[FERRY_PARAMETER__N];
	const char *text[FERRY_PARAMETER__N]; /* TEXT: borrowed; NULL: empty */
} FerrySettingsChange;
/* A TEXT is no longer than this, bytes. */
#define FERRY_SETTING_TEXT_MAX 4095u

/*
 * Makes all of the changes or none. FERRY_ERROR_STATE for a capability while a migration runs;
 * FERRY_ERROR_INVALID with the range for a value outside of it, and with the rule's reason for what
 * cannot be combined, judged on the settings as they would then be.
 */
gboolean ferry_settings_change(FerrySettings *settings, const FerrySettingsChange *change,
			       GError **error);

gboolean ferry_settings_get_capability(FerrySettings *settings, FerryCapability capability);
guint64 ferry_settings_get_parameter(FerrySettings *settings, FerryParameter parameter);
/* ferry_settings_change() of one. */
gboolean ferry_settings_set_capability(FerrySettings *settings, FerryCapability capability,
				       gboolean on, GError **error);
gboolean ferry_settings_set_parameter(FerrySettings *settings, FerryParameter parameter,
				      guint64 value, GError **error);
/* Of TEXT. A copy, which the caller frees; never NULL. */
char *ferry_settings_dup_text(FerrySettings *settings, FerryParameter parameter);
gboolean ferry_settings_set_text(FerrySettings *settings, FerryParameter parameter,
				 const char *text, GError **error);

G_END_DECLS
