/* SPDX-License-Identifier: BSD-2-Clause */
#include "fault-times.h"

#include <string.h>

/* Steps an octave: a latency is known to 1/32 of itself. */
#define STEPS 32u
#define STEPS_SHIFT 5u
#define N_STEPS ((64 - STEPS_SHIFT + 1) * STEPS)

typedef struct {
	guint block;
	guint64 page;
	gint32 thread;
	gint64 since;
} Wait;

typedef struct {
	gint32 id;
	gboolean waits;
	gint64 since; /* where it waits */
	gint64 total;
} Vcpu;

struct FerryFaultTimes {
	GMutex lock; /* all below */
	GArray *waits;
	guint64 count;
	guint64 max;
	guint64 steps[N_STEPS];
	GArray *vcpus;
	guint n_waiting;  /* vCPUs */
	gint64 all_since; /* where all wait: the last one's begin */
	gint64 all_total;
};

FerryFaultTimes *ferry_fault_times_new(void)
{
	FerryFaultTimes *times = g_new0(FerryFaultTimes, 1);

	g_mutex_init(&times->lock);
	times->waits = g_array_new(FALSE, FALSE, sizeof(Wait));
	times->vcpus = g_array_new(FALSE, TRUE, sizeof(Vcpu));
	return times;
}

void ferry_fault_times_free(FerryFaultTimes *times)
{
	if (!times)
		return;
	g_array_free(times->waits, TRUE);
	g_array_free(times->vcpus, TRUE);
	g_mutex_clear(&times->lock);
	g_free(times);
}

/* Values below STEPS are a step each; from there on every octave has STEPS. */
static guint step_of(guint64 value)
{
	guint octave;

	if (value < STEPS)
		return (guint)value;
	octave = 63 - STEPS_SHIFT - (guint)__builtin_clzll(value);
	return octave * STEPS + (guint)(value >> octave);
}

/* The middle of the step. */
static guint64 value_of(guint step)
{
	guint octave = step < STEPS ? 0 : step / STEPS - 1;
	guint64 low = (guint64)(step - octave * STEPS) << octave;

	return low + (1ull << octave) / 2;
}

static guint64 percentile(const FerryFaultTimes *times, guint percent)
{
	guint64 rank = (times->count * percent + 99) / 100, seen = 0;

	for (guint i = 0; i < N_STEPS; i++) {
		seen += times->steps[i];
		if (seen >= rank)
			return MIN(value_of(i), times->max);
	}
	return times->max;
}

static Vcpu *find_vcpu(FerryFaultTimes *times, gint32 thread)
{
	for (guint i = 0; thread && i < times->vcpus->len; i++) {
		Vcpu *vcpu = &g_array_index(times->vcpus, Vcpu, i);

		if (vcpu->id == thread)
			return vcpu;
	}
	return NULL;
}

static void vcpu_waits(FerryFaultTimes *times, gint32 thread, gint64 now)
{
	Vcpu *vcpu = find_vcpu(times, thread);

	if (!vcpu || vcpu->waits)
		return;
	vcpu->waits = TRUE;
	vcpu->since = now;
	times->n_waiting++;
	times->all_since = MAX(times->all_since, now);
}

static void vcpu_goes_on(FerryFaultTimes *times, gint32 thread, gint64 now)
{
	Vcpu *vcpu = find_vcpu(times, thread);

	if (!vcpu || !vcpu->waits)
		return;
	vcpu->waits = FALSE;
	vcpu->total += now - vcpu->since;
	if (times->n_waiting-- == times->vcpus->len)
		times->all_total += now - times->all_since;
}

void ferry_fault_times_set_vcpus(FerryFaultTimes *times, const gint32 *ids, guint n)
{
	g_mutex_lock(&times->lock);
	g_array_set_size(times->vcpus, 0);
	for (guint i = 0; i < n; i++)
		g_array_append_vals(times->vcpus, &(Vcpu){ .id = ids[i] }, 1);
	times->n_waiting = 0;
	times->all_since = 0;
	times->all_total = 0;
	for (guint i = 0; i < times->waits->len; i++) {
		const Wait *wait = &g_array_index(times->waits, Wait, i);

		vcpu_waits(times, wait->thread, wait->since);
	}
	g_mutex_unlock(&times->lock);
}

/* A thread that waits in one fault and comes with another has gone on in between. */
static void over(FerryFaultTimes *times, guint i, gint64 now)
{
	Wait wait = g_array_index(times->waits, Wait, i);
	guint64 latency = (guint64)MAX(now - wait.since, 0);

	g_array_remove_index_fast(times->waits, i);
	times->steps[step_of(latency)]++;
	times->count++;
	times->max = MAX(times->max, latency);
	vcpu_goes_on(times, wait.thread, now);
}

void ferry_fault_times_begin(FerryFaultTimes *times, guint block, guint64 page, gint32 thread,
			     gint64 now)
{
	Wait wait = { .block = block, .page = page, .thread = thread, .since = now };
	gboolean known = FALSE;

	g_mutex_lock(&times->lock);
	for (guint i = 0; i < times->waits->len; i++) {
		const Wait *old = &g_array_index(times->waits, Wait, i);

		if (!thread || old->thread != thread)
			continue;
		/* A signal took it out of the fault, and it is back. */
		known = old->block == block && old->page == page;
		if (!known)
			over(times, i, now);
		break;
	}
	if (!known) {
		g_array_append_val(times->waits, wait);
		vcpu_waits(times, thread, now);
	}
	g_mutex_unlock(&times->lock);
}

void ferry_fault_times_end(FerryFaultTimes *times, guint block, guint64 page, gint64 now)
{
	g_mutex_lock(&times->lock);
	for (guint i = times->waits->len; i-- > 0;) {
		const Wait *wait = &g_array_index(times->waits, Wait, i);

		if (wait->block == block && wait->page == page)
			over(times, i, now);
	}
	g_mutex_unlock(&times->lock);
}

static void get_vcpus(const FerryFaultTimes *times, gint64 now, FerryPostcopyStatus *status)
{
	guint n = times->vcpus->len;
	gint64 all = times->all_total;

	if (n && times->n_waiting == n)
		all += now - times->all_since;
	status->blocktime_us = (guint64)MAX(all, 0);
	status->n_vcpus = MIN(n, FERRY_VCPUS_MAX);
	for (guint i = 0; i < status->n_vcpus; i++) {
		const Vcpu *vcpu = &g_array_index(times->vcpus, Vcpu, i);
		gint64 total = vcpu->total + (vcpu->waits ? now - vcpu->since : 0);

		status->vcpu_blocktime_us[i] = (guint64)MAX(total, 0);
	}
}

void ferry_fault_times_get(FerryFaultTimes *times, gint64 now, FerryPostcopyStatus *status)
{
	g_mutex_lock(&times->lock);
	status->latency = (FerryLatency){ .count = times->count, .max = times->max };
	if (times->count) {
		status->latency.p50 = percentile(times, 50);
		status->latency.p90 = percentile(times, 90);
		status->latency.p99 = percentile(times, 99);
	}
	get_vcpus(times, now, status);
	g_mutex_unlock(&times->lock);
}
