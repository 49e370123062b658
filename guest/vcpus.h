/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/*
 * The threads of a guest's vCPUs. A thread lives as long as the guest: KVM wants each vCPU to stay
 * with its own. start(), stop() and free() come from one thread at a time; the rest from the vCPU
 * threads.
 */
typedef struct FerryVcpus FerryVcpus;

typedef struct {
	/* Runs vCPU @index in its thread until ferry_vcpus_stopping() or the vCPU is broken. */
	void (*run)(gpointer machine, guint index);
	/* A signal that is sent to a thread in run() once ferry_vcpus_stopping() is TRUE; it may
	 * come just before or after run(), too. The threads block it. 0 where run() needs none. */
	int signal;
} FerryVcpuOps;

FerryVcpus *ferry_vcpus_new(const FerryVcpuOps *ops, gpointer machine);
/* Stops and joins the threads. NULL is allowed. */
void ferry_vcpus_free(FerryVcpus *vcpus);

/* Lets vCPUs 0 to @n - 1 run; makes the threads that it lacks. */
void ferry_vcpus_start(FerryVcpus *vcpus, guint n);

/* Returns when no run() is active: nothing of the guest writes RAM. No-op when stopped. */
void ferry_vcpus_stop(FerryVcpus *vcpus);

/* The thread ids (gettid(2)) of those that were started, at most @max; how many there are. Any
 * thread. */
guint ferry_vcpus_threads(FerryVcpus *vcpus, gint32 *ids, guint max);

/* Whether run() must return. Cheap: one relaxed load. */
gboolean ferry_vcpus_stopping(FerryVcpus *vcpus);

/* Sleeps until @time_us of g_get_monotonic_time() or until stopping. */
void ferry_vcpus_sleep_until(FerryVcpus *vcpus, gint64 time_us);
