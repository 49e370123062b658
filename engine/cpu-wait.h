/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/*
 * How long a thread waited for a CPU that this process's other threads, its vCPUs before all, kept
 * busy. Once the guest stands it waits for them no more, so what was measured while the guest ran
 * is too long by it. Other processes' share is left in: they go on. 0 where the kernel does not say
 * how long a thread waited.
 */
typedef struct {
	gint64 waited_us; /* of this thread, ever */
	gint64 others_us; /* CPU time of all other threads of the process, ever */
} FerryCpuWait;

/* From now on, in the calling thread. */
void ferry_cpu_wait_begin(FerryCpuWait *begin);

/* Microseconds since @begin, in the same thread. No more than the others' CPU time: whoever was
 * waited for ran meanwhile. */
gint64 ferry_cpu_wait_us(const FerryCpuWait *begin);
