/* SPDX-License-Identifier: BSD-2-Clause */
#include "settings-private.h"

#include <ferry/ram.h>
#include <string.h>

#define SWITCH(name, help, on)                                                                     \
	{                                                                                          \
		name, help, on, 0, 1, FERRY_SETTING_BOOLEAN                                        \
	}
#define NUMBER(name, help, unit, initial, minimum, maximum, acts)                                  \
	{                                                                                          \
		name, help, initial, minimum, maximum, FERRY_SETTING_INTEGER, unit, acts           \
	}
#define RESERVED(name)                                                                             \
	{                                                                                          \
		name, "reserved: must be empty", 0, 0, 0, FERRY_SETTING_RESERVED                   \
	}

static const FerrySettingInfo capabilities[] = {
	[FERRY_CAPABILITY_EVENTS] = SWITCH("events", "send the events MIGRATION and MIGRATION_PASS",
					   1),
	[FERRY_CAPABILITY_RETURN_PATH] = SWITCH(
		"return-path", "let the destination answer; needed for the two-phase hand-over", 1),
	[FERRY_CAPABILITY_PAUSE_BEFORE_SWITCHOVER] = SWITCH(
		"pause-before-switchover", "stop in pre-switchover until migrate-continue", 0),
	[FERRY_CAPABILITY_VERIFY_RAM] = SWITCH(
		"verify-ram", "compare a digest of all RAM before the guest runs there", 0),
	[FERRY_CAPABILITY_RDMA_PIN_ALL] = { "rdma-pin-all",
					    "register all RAM before the first page, not in chunks",
					    0, 0, 1, FERRY_SETTING_BOOLEAN,
					    .older_name = "x-rdma-pin-all" },
	[FERRY_CAPABILITY_RDMA_REQUIRE] = SWITCH(
		"rdma-require", "fail where RDMA cannot be used, instead of TCP", 0),
	[FERRY_CAPABILITY_POSTCOPY_RAM] = { "postcopy-ram",
					    "let migrate-start-postcopy switch the guest over first",
					    0, 0, 1, FERRY_SETTING_BOOLEAN,
					    .older_name = "x-postcopy-ram" },
	[FERRY_CAPABILITY_RDMA_POSTCOPY_PULL] = SWITCH(
		"rdma-postcopy-pull", "let the destination read pages after the switch", 1),
	[FERRY_CAPABILITY_XBZRLE] = SWITCH("xbzrle",
					   "send of a page that went before only what changed", 0),
	[FERRY_CAPABILITY_COMPRESS] = SWITCH("compress", "deflate pages, in threads", 0),
	[FERRY_CAPABILITY_ZERO_BLOCKS] = SWITCH("zero-blocks",
						"of disk migration: accepted, no effect", 0),
	[FERRY_CAPABILITY_AUTO_CONVERGE] = SWITCH(
		"auto-converge", "slow the guest down until its pages can follow", 0),
	[FERRY_CAPABILITY_MULTIFD] = { "multifd",
				       "send pages over several connections; set it on both sides",
				       0, 0, 1, FERRY_SETTING_BOOLEAN, .older_name = "x-multifd" },
	[FERRY_CAPABILITY_ZERO_COPY_SEND] = SWITCH(
		"zero-copy-send", "let multifd's connections send without copying", 0),
	[FERRY_CAPABILITY_DIRTY_LIMIT] = SWITCH("dirty-limit",
						"slow down only vCPUs that write faster than "
						"vcpu-dirty-limit",
						0),
	[FERRY_CAPABILITY_MAPPED_RAM] = SWITCH(
		"mapped-ram", "with file:, give each page its place in the file", 0),
	[FERRY_CAPABILITY_X_IGNORE_SHARED] = SWITCH(
		"x-ignore-shared",
		"leave out RAM in files that both sides map; set it on both sides", 0),
	[FERRY_CAPABILITY_LATE_BLOCK_ACTIVATE] = SWITCH("late-block-activate",
							"of disks: accepted, no effect", 0),
	[FERRY_CAPABILITY_VALIDATE_UUID] = SWITCH(
		"validate-uuid", "refuse a destination whose guest has another UUID", 0),
};
G_STATIC_ASSERT(G_N_ELEMENTS(capabilities) == FERRY_CAPABILITY__N);

static const char *const compressions[] = { "none", "zlib", "zstd", NULL };
G_STATIC_ASSERT(G_N_ELEMENTS(compressions) == FERRY_MULTIFD_COMPRESSION__N + 1);

/* When a change reaches a migration that runs; NULL: never, but the next one. */
#define AT_ONCE "at once"
#define NEXT_PAGE "with the next page"
#define NEXT_ROUND "with the next round"
#define NEXT_PERIOD "with the next period"
#define ON_ARRIVAL "when the guest arrives"

static const FerrySettingInfo parameters[] = {
	[FERRY_PARAMETER_MAX_BANDWIDTH] = NUMBER("max-bandwidth", "0 for no limit", "bytes/s", 0, 0,
						 G_MAXINT64, AT_ONCE),
	[FERRY_PARAMETER_DOWNTIME_LIMIT] = NUMBER("downtime-limit",
						  "how long the guest may stand still", "ms", 300,
						  0, 2000000, AT_ONCE),
	[FERRY_PARAMETER_RDMA_QUEUE_PAIRS] = NUMBER(
		"rdma-queue-pairs", "0 for what both find right", NULL, 0, 0, 16, NULL),
	[FERRY_PARAMETER_RDMA_PIN_LIMIT] = NUMBER("rdma-pin-limit",
						  "registered at a time, 0 for no limit", "bytes",
						  0, 0, G_MAXINT64, NULL),
	[FERRY_PARAMETER_MAX_POSTCOPY_BANDWIDTH] = NUMBER("max-postcopy-bandwidth",
							  "after the switch, 0 for no limit",
							  "bytes/s", 0, 0, G_MAXINT64, AT_ONCE),
	[FERRY_PARAMETER_AVAIL_SWITCHOVER_BANDWIDTH] = NUMBER(
		"avail-switchover-bandwidth",
		"what the last pages can count on, 0 for what is measured", "bytes/s", 0, 0,
		G_MAXINT64, AT_ONCE),
	[FERRY_PARAMETER_BANDWIDTH_GROUP] = { "bandwidth-group",
					      "file of the migrations that share a budget", 0, 0, 0,
					      FERRY_SETTING_TEXT },
	[FERRY_PARAMETER_GROUP_BANDWIDTH] = NUMBER("group-bandwidth",
						   "of all in the group; 0: what the others say",
						   "bytes/s", 0, 0, G_MAXINT64, AT_ONCE),
	[FERRY_PARAMETER_XBZRLE_CACHE_SIZE] = { "xbzrle-cache-size",
						"pages remembered as they went", 64u << 20,
						FERRY_PAGE_SIZE, (guint64)1 << 62,
						FERRY_SETTING_INTEGER, "bytes", AT_ONCE,
						.power_of_two = TRUE },
	[FERRY_PARAMETER_COMPRESS_LEVEL] = NUMBER("compress-level", "0 none, 1 fast, 9 small", NULL,
						  1, 0, 9, NEXT_PAGE),
	[FERRY_PARAMETER_COMPRESS_THREADS] = NUMBER("compress-threads", "at the source", NULL, 8, 1,
						    255, NULL),
	[FERRY_PARAMETER_COMPRESS_WAIT_THREAD] = { "compress-wait-thread",
						   "off: a page that finds no thread free goes as it is",
						   1, 0, 1, FERRY_SETTING_BOOLEAN, NULL,
						   NEXT_PAGE },
	[FERRY_PARAMETER_DECOMPRESS_THREADS] = NUMBER("decompress-threads", "at the destination",
						      NULL, 2, 1, 255, NULL),
	[FERRY_PARAMETER_MULTIFD_CHANNELS] = { "multifd-channels",
					       "connections; the same on both sides", 2, 1, 16,
					       FERRY_SETTING_INTEGER,
					       .older_name = "x-multifd-channels" },
	[FERRY_PARAMETER_MULTIFD_COMPRESSION] = { "multifd-compression",
						  "of multifd's packets; the same on both sides",
						  FERRY_MULTIFD_COMPRESSION_NONE, 0,
						  FERRY_MULTIFD_COMPRESSION__N - 1,
						  FERRY_SETTING_CHOICE, .choices = compressions },
	[FERRY_PARAMETER_MULTIFD_ZLIB_LEVEL] = NUMBER(
		"multifd-zlib-level", "0 none, 1 fast, 9 small", NULL, 1, 0, 9, NULL),
	[FERRY_PARAMETER_MULTIFD_ZSTD_LEVEL] = NUMBER(
		"multifd-zstd-level", "0 none, 1 fast, 20 small", NULL, 1, 0, 20, NULL),
	[FERRY_PARAMETER_DIRECT_IO] = SWITCH("direct-io",
					     "mapped-ram: pages go around the page cache", 0),
	[FERRY_PARAMETER_THROTTLE_TRIGGER_THRESHOLD] = NUMBER(
		"throttle-trigger-threshold", "of the bytes of a round that may be dirtied in it",
		"%", 50, 1, 100, NEXT_ROUND),
	[FERRY_PARAMETER_CPU_THROTTLE_INITIAL] = { "cpu-throttle-initial", "the first step", 20, 1,
						   99, FERRY_SETTING_INTEGER, "%", NEXT_ROUND,
						   .older_name = "x-cpu-throttle-initial" },
	[FERRY_PARAMETER_CPU_THROTTLE_INCREMENT] = { "cpu-throttle-increment", "each further step",
						     10, 1, 99, FERRY_SETTING_INTEGER, "%",
						     NEXT_ROUND,
						     .older_name = "x-cpu-throttle-increment" },
	[FERRY_PARAMETER_CPU_THROTTLE_TAILSLOW] = { "cpu-throttle-tailslow",
						    "no step is larger than the rest needs", 0, 0,
						    1, FERRY_SETTING_BOOLEAN, NULL, NEXT_ROUND },
	[FERRY_PARAMETER_MAX_CPU_THROTTLE] = NUMBER("max-cpu-throttle",
						    "the most; not below cpu-throttle-initial", "%",
						    99, 1, 99, NEXT_ROUND),
	[FERRY_PARAMETER_VCPU_DIRTY_LIMIT_PERIOD] = NUMBER("x-vcpu-dirty-limit-period",
							   "how often dirty-limit measures", "ms",
							   1000, 1, 1000, NEXT_PERIOD),
	[FERRY_PARAMETER_VCPU_DIRTY_LIMIT] = NUMBER("vcpu-dirty-limit", "what a vCPU may dirty",
						    "MiB/s", 1, 1, G_MAXINT64, NEXT_PERIOD),
	[FERRY_PARAMETER_ANNOUNCE_INITIAL] = NUMBER("announce-initial",
						    "from arrival to the second announcement", "ms",
						    50, 0, 100000, ON_ARRIVAL),
	[FERRY_PARAMETER_ANNOUNCE_MAX] = NUMBER("announce-max", "most between two announcements",
						"ms", 550, 0, 100000, ON_ARRIVAL),
	[FERRY_PARAMETER_ANNOUNCE_ROUNDS] = NUMBER("announce-rounds",
						   "announcements of a guest that arrived", NULL, 5,
						   0, 1000, ON_ARRIVAL),
	[FERRY_PARAMETER_ANNOUNCE_STEP] = NUMBER("announce-step",
						 "by which each wait is longer than the last", "ms",
						 100, 0, 10000, ON_ARRIVAL),
	[FERRY_PARAMETER_TLS_CREDS] = RESERVED("tls-creds"),
	[FERRY_PARAMETER_TLS_HOSTNAME] = RESERVED("tls-hostname"),
	[FERRY_PARAMETER_TLS_AUTHZ] = RESERVED("tls-authz"),
};
G_STATIC_ASSERT(G_N_ELEMENTS(parameters) == FERRY_PARAMETER__N);

const FerrySettingInfo *ferry_capability_info(FerryCapability capability)
{
	g_return_val_if_fail((guint)capability < FERRY_CAPABILITY__N, NULL);
	return &capabilities[capability];
}

const FerrySettingInfo *ferry_parameter_info(FerryParameter parameter)
{
	g_return_val_if_fail((guint)parameter < FERRY_PARAMETER__N, NULL);
	return &parameters[parameter];
}

static int find_name(const FerrySettingInfo *table, guint n, const char *name)
{
	for (guint i = 0; i < n; i++)
		if (strcmp(table[i].name, name) == 0 || g_strcmp0(table[i].older_name, name) == 0)
			return (int)i;
	return -1;
}

int ferry_capability_from_name(const char *name)
{
	return find_name(capabilities, FERRY_CAPABILITY__N, name);
}

int ferry_parameter_from_name(const char *name)
{
	return find_name(parameters, FERRY_PARAMETER__N, name);
}
