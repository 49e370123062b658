/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/*
 * The arithmetic of dirty-limit, of one vCPU: what share of its time is left to it, so that it
 * dirties no more than the limit. A vCPU is taken to dirty in proportion to its time; then one
 * measurement settles it, and where that is not so the next ones do. No clock, no guest.
 */
typedef struct {
	double left;     /* 1: full speed */
	guint64 pages;   /* its count when it was measured last */
	gint64 since_us; /* when that was */
} FerryDirtyLimit;

/* At full speed, with a count of @pages at @now_us. */
void ferry_dirty_limit_begin(FerryDirtyLimit *vcpu, gint64 now_us, guint64 pages);

/*
 * Its count at @now_us; @limit in bytes a second. TRUE where its share changed. One that is slowed
 * down writes in bursts: where nothing was written for less than 100 ms it is measured later.
 */
gboolean ferry_dirty_limit_measure(FerryDirtyLimit *vcpu, gint64 now_us, guint64 pages,
				   double limit);
