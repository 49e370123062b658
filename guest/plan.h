/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/error.h>

#include "program.h"

#define FERRY_PLAN_RATE_MAX (1u << 20) /* MiB/s */

/* What a guest does and what its RAM holds. The same on both sides: it travels as device state. */
typedef struct {
	guint64 seed;
	guint64 rate;  /* MiB/s that all vCPUs together dirty; 0 is no limit */
	guint64 hot;   /* bytes that they write, of all vCPUs together; 0 is all that there is */
	guint32 fill;  /* FERRY_FILL_* */
	guint32 order; /* FERRY_ORDER_* */
	guint32 vcpus; /* 1 to FERRY_VCPUS_MAX */
} FerryPlan;

/*
 * Reads "idle", "sweep[:RATE]", "random[:RATE]" or "hotset:SIZE[:RATE]" into order, rate and hot;
 * RATE in MiB/s, 0 or absent for no limit, SIZE as 64M. NULL is idle. FERRY_ERROR_INVALID says what
 * is wrong; @plan is then unchanged.
 */
gboolean ferry_plan_parse_workload(FerryPlan *plan, const char *spec, GError **error);

/* Whether every number is one that a guest with @ram_size bytes can work with: also for plans from
 * a peer. FERRY_ERROR_INVALID. */
gboolean ferry_plan_check(const FerryPlan *plan, guint64 ram_size, GError **error);

/* Where the pages that vCPUs write begin: behind everything that program.h places. */
guint64 ferry_plan_work_address(guint64 ram_size);

/* The share of vCPU @vcpu. */
FerrySlice ferry_plan_slice(const FerryPlan *plan, guint64 ram_size, guint vcpu);
