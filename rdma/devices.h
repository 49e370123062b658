/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/rdma.h>
#include "verbs.h"

/* What every RDMA device of this host can do: which one a peer's connection will come to is not
 * known before it comes. */
typedef struct {
	guint n; /* devices */
	guint max_queue_pairs;
	guint64 max_region; /* bytes */
	guint mtu;          /* smallest of the active ports; 0: no port is active */
	gboolean on_demand; /* RDMA writes to memory that is not pinned */
} FerryRdmaLimits;
void ferry_rdma_get_limits(const FerryVerbs *verbs, FerryRdmaLimits *limits);

gboolean ferry_rdma_writes_on_demand(const struct ibv_device_attr_ex *device);
guint ferry_rdma_mtu_bytes(enum ibv_mtu mtu);
const char *ferry_rdma_gid_type_name(guint32 type);
char *ferry_rdma_gid_text(const union ibv_gid *gid); /* caller frees */

/* ferry_rdma_list_ports() over any table of verbs. */
GPtrArray *ferry_rdma_list_ports_of(const FerryVerbs *verbs, char **why);

/* What is missing for RDMA on this host, and what mends it; caller frees. @root: where /sys and
 * /dev are ("" outside of tests). */
char *ferry_rdma_missing(const char *root);
