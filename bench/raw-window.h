/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <infiniband/verbs.h>
#include "raw-link.h"

/* A connected queue pair, and the part of the other side's buffer that it writes to. */
typedef struct {
	struct ibv_qp *qp;
	guint64 address;
	guint32 key;
} FerryBenchRawTarget;

/* Keeps a window of writes in flight on each of @shape->queue_pairs @targets for @seconds; *@rate
 * is bytes a second, until the last completion. @cq holds all writes and has a completion channel
 * whose descriptor does not block. */
gboolean ferry_bench_raw_write(const FerryBenchRawShape *shape, const FerryBenchRawTarget *targets,
			       const struct ibv_mr *region, struct ibv_cq *cq, double seconds,
			       double *rate, GError **error);
