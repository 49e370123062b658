/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/status.h>

/*
 * Who waits in which fault since when, and what came of it: latencies, and for how long vCPUs
 * waited, each by itself and all at once. Any thread. Times are of the monotonic clock, us.
 */
typedef struct FerryFaultTimes FerryFaultTimes;

FerryFaultTimes *ferry_fault_times_new(void);
/* NULL is allowed. */
void ferry_fault_times_free(FerryFaultTimes *times);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryFaultTimes, ferry_fault_times_free)

/* The threads that are vCPUs; forgets what was counted for those before. */
void ferry_fault_times_set_vcpus(FerryFaultTimes *times, const gint32 *ids, guint n);

/* @thread (0: not known) waits for the host page that begins at page @page of @block. If it waited
 * for another one, that wait is over. */
void ferry_fault_times_begin(FerryFaultTimes *times, guint block, guint64 page, gint32 thread,
			     gint64 now);

/* The host page is there: whoever waits for it goes on. Nobody need wait. */
void ferry_fault_times_end(FerryFaultTimes *times, guint block, guint64 page, gint64 now);

/* Fills latency, and all of blocktime; waits that are not over count up to @now. */
void ferry_fault_times_get(FerryFaultTimes *times, gint64 now, FerryPostcopyStatus *status);
