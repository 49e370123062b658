/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/rehearsal.h>
#include <ferry/state.h>

G_BEGIN_DECLS

/* One precopy round as it went. */
typedef struct {
	guint64 round;       /* from 1 */
	guint64 dirty_pages; /* to send when it began */
	guint64 normal;      /* pages sent as data */
	guint64 duplicate;   /* pages sent as zero */
	guint64 bytes;       /* on the wire */
	/* that waited, as they had been written before each of the last two collects */
	guint64 put_off_pages;
	gint64 time_us;    /* its duration */
	gint64 collect_us; /* spent collecting dirty pages, before it */
	/* all that was neither reading, encoding nor sending pages nor waiting, since the round
	 * before: collects, counts and walks of bitmaps, the forecast, samples of the digest */
	gint64 bookkeeping_us;
} FerryRound;

typedef enum {
	/* verify-ram is off, or the peer cannot, or the guest was switched over before its pages */
	FERRY_VERIFIED_UNKNOWN,
	FERRY_VERIFIED_YES, /* the destination's digest of all RAM equals the source's */
	FERRY_VERIFIED_NO,
} FerryVerified;

/* CPU seconds of one side from set-up to the end; -1 where not known. */
typedef struct {
	double user;
	double system;
} FerryCpuTime;

/* Latencies in us, of all that were measured: at most 3 % off (a histogram of 32 steps an
 * octave). */
typedef struct {
	guint64 count;
	guint64 p50, p90, p99, max;
} FerryLatency;

#define FERRY_VCPUS_MAX 64u

/* Postcopy, from the switch on; zeros before it. */
typedef struct {
	gboolean switched;
	const char *mode;  /* "push", "pull", or "stream"; static; NULL before the switch */
	guint64 discarded; /* pages that were missing at the switch */
	guint64 missing;   /* pages still to come (destination) or to send (source) */
	/* source: page requests that came; destination: faults on pages that were missing */
	guint64 requests;
	guint64 urgent_pages;     /* that went, or came, because the guest asked */
	guint64 background_pages; /* the others */
	guint64 repeated_pages;   /* destination: that came a second time; always 0 */
	guint64 pauses;
	/* destination: from a fault to the guest's going on */
	FerryLatency latency;
	/* destination: while every vCPU waited at once, and each by itself; us */
	guint64 blocktime_us;
	guint n_vcpus;
	guint64 vcpu_blocktime_us[FERRY_VCPUS_MAX];
} FerryPostcopyStatus;

/* What xbzrle did; zeros without it. */
typedef struct {
	gboolean on;
	guint64 cache_size;     /* bytes */
	guint64 bytes;          /* of differences sent */
	guint64 pages;          /* sent as differences */
	guint64 cache_miss;     /* pages that were not in the cache */
	double cache_miss_rate; /* of the last round's pages, 0 to 1 */
	double encoding_rate;   /* bytes of pages for a byte of difference, of the last round */
	guint64 overflow;       /* pages that changed too much */
} FerryXbzrleStatus;

/* What compress did; zeros without it. */
typedef struct {
	gboolean on;
	guint64 pages;
	guint64 busy;            /* pages that found no thread free */
	double busy_rate;        /* of the last round's pages, 0 to 1 */
	guint64 compressed_size; /* bytes */
	double compression_rate; /* bytes of pages for a compressed byte */
} FerryCompressionStatus;

/* A copy of a migration's numbers. The units are query-migrate's. */
typedef struct {
	FerryState state;
	char *error_desc; /* why it failed; NULL otherwise */
	gint64 total_time_ms;
	gint64 setup_time_ms;
	gint64 downtime_ms; /* once completed: from stopping the guest to its running there */
	gint64 expected_downtime_ms;
	struct {
		guint64 transferred; /* bytes on the wire for RAM */
		guint64 remaining;   /* bytes */
		guint64 total;       /* bytes of RAM */
		guint64 duplicate;   /* pages, zero */
		guint64 skipped;
		guint64 normal; /* pages */
		guint64 normal_bytes;
		guint64 dirty_pages_rate; /* pages a second */
		guint64 dirty_sync_count; /* collects so far */
		guint64 pages_per_second;
		guint64 precopy_bytes;  /* bytes while the guest ran */
		guint64 downtime_bytes; /* bytes while it was stopped */
		guint64 postcopy_bytes; /* bytes since it was switched over before its pages */
		double mbps;            /* megabits a second */
	} ram;
	guint throttle_percentage; /* auto-converge's, now; 0: full speed */
	/* with dirty-limit, once it limits: how long the vCPU that is slowed down most stands still
	 * in each x-vcpu-dirty-limit-period, us; 0: none is slowed down */
	guint64 dirty_limit_throttle_us;
	/* what the downtime would be if the guest were stopped now (expected), and what it was
	 * taken to be at the moment when it was stopped; ms; -1: not yet */
	double predicted_downtime_ms;
	/* that are dirtied every round and wait for the end, in the last round but the stop's */
	guint64 put_off_pages;
	FerryXbzrleStatus xbzrle;
	FerryCompressionStatus compression;
	guint64 multifd_bytes;    /* over multifd's channels */
	guint64 zero_copy_copied; /* sends that the kernel copied although asked not to */
	/* while it shares a budget (bandwidth-group): its own part, bytes a second, 0 for no limit;
	 * and how many are sending; 0: it shares none */
	guint64 group_rate;
	guint group_members;
	char *transport; /* the carrier that moved the pages: "tcp", "rdma", ...; or NULL */
	/* why the pages do not go by the fabric that the URI names; NULL where they do, or it names
	 * none */
	char *fallback;
	/* what the carrier beside the channel says of itself (a{sv}), also after the end; NULL
	 * where there was none */
	GVariant *carrier;
	guint64 wire_bytes; /* everything on the control stream and the carrier */
	FerryPostcopyStatus postcopy;
	FerryVerified verified;
	FerryRehearsal rehearsal; /* source: of the last migration; zeros where it was none */
	FerryCpuTime source_cpu;
	FerryCpuTime destination_cpu;
	char *dirty_source;
	/* the first n_rounds; kept up to FERRY_ROUNDS_MAX, then the latest replaces the last */
	FerryRound *rounds;
	guint n_rounds;
} FerryMigrationStatus;
#define FERRY_ROUNDS_MAX 1000u

void ferry_migration_status_clear(FerryMigrationStatus *status);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(FerryMigrationStatus, ferry_migration_status_clear)

G_END_DECLS
