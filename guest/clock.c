/* SPDX-License-Identifier: BSD-2-Clause */
#include "clock.h"

#define BURST_NS 1000000 /* how long a burst of pages should take */
#define BURST_MIN 16u    /* pages */
#define BURST_MAX 4096u
#define CYCLE_NS 10000000    /* how often a vCPU that is throttled should get one */
#define CATCH_UP_NS 20000000 /* what a vCPU that was held up may make good */
#define PAGES_A_MIB (1048576u / FERRY_PAGE_BYTES)
#define ALL_TIME 1000000 /* of FerryClock.taken */

/* The share of its time that is left to a vCPU, above 0 to 1. */
static double time_left(const FerryClock *clock, guint vcpu)
{
	gint taken = MAX(g_atomic_int_get(&clock->taken_all),
			 g_atomic_int_get(&clock->taken[vcpu]));

	return 1 - (double)taken / ALL_TIME;
}

/* Without a limit a vCPU gets as many pages as it writes in BURST_NS; with one, about two of them;
 * less where it would then wait for longer than CYCLE_NS. */
static guint32 burst_pages(const FerryClockLine *line, const FerryPlan *plan, double left)
{
	double bursts = left * CYCLE_NS / BURST_NS, pages = line->burst * MIN(bursts, 1);

	if (plan->rate)
		pages = plan->rate * PAGES_A_MIB / plan->vcpus / (1e9 / BURST_NS) * MIN(bursts, 2);
	return (guint32)CLAMP(pages, 1, BURST_MAX);
}

/* ns in which the rate allows @pages of one vCPU. */
static gint64 pages_cost(const FerryPlan *plan, guint32 pages)
{
	return plan->rate ? (gint64)(1e9 * pages * plan->vcpus / ((double)plan->rate * PAGES_A_MIB))
			  : 0;
}

/* After a burst: learns its speed, and what it cost. */
static void finish_burst(FerryClockLine *line, const FerryPlan *plan, gint64 now)
{
	gint64 took = now - line->granted_at, oldest = line->time - CATCH_UP_NS;

	line->burst = (guint32)CLAMP((gint64)line->granted * BURST_NS / MAX(took, 1000), BURST_MIN,
				     BURST_MAX);
	line->due = MAX(line->due + pages_cost(plan, line->granted), oldest);
	line->busy = MAX(line->busy, oldest) + took;
	__atomic_store_n(&line->pages, line->pages + line->granted, __ATOMIC_RELAXED);
	line->granted = 0;
}

/* Lets the vCPU's time go on, and sets when it comes to the next burst. */
static void read_time(FerryClockLine *line, double left, gint64 now)
{
	gint64 wait;

	line->time += (gint64)((now - line->read_at) * left);
	line->read_at = now;
	wait = MAX(MAX(line->due, line->busy) - line->time, 0);
	line->wake = now + (gint64)(wait / left);
}

static guint32 answer(FerryClockLine *line, const FerryPlan *plan, double left, gint64 beat_ns,
		      gint64 now)
{
	guint32 bits = 0;

	if (now >= line->beat_at) {
		bits = FERRY_DOORBELL_BEAT;
		line->beat_at = MAX(line->beat_at, now - beat_ns) + beat_ns;
	}
	if (plan->order != FERRY_ORDER_NONE && now >= line->wake) {
		line->granted = burst_pages(line, plan, left);
		line->granted_at = now;
	}
	return bits | line->granted;
}

static gint64 now_ns(void)
{
	return g_get_monotonic_time() * 1000;
}

guint ferry_clock_beat_us(const FerryClock *clock)
{
	return clock->beat_us ? clock->beat_us : FERRY_CLOCK_BEAT_US;
}

static gint64 beat_ns(const FerryClock *clock)
{
	return ferry_clock_beat_us(clock) * 1000ll;
}

guint32 ferry_clock_doorbell(FerryClock *clock, FerryVcpus *vcpus, const FerryPlan *plan,
			     guint vcpu)
{
	FerryClockLine *line = &clock->lines[vcpu];
	double left = time_left(clock, vcpu);
	gint64 now = now_ns(), until;

	line->bursts++;
	if (line->granted)
		finish_burst(line, plan, now);
	read_time(line, left, now);
	until = plan->order == FERRY_ORDER_NONE ? line->beat_at : MIN(line->beat_at, line->wake);
	if (now < until) {
		ferry_vcpus_sleep_until(vcpus, (until + 999) / 1000);
		now = now_ns();
	}
	return ferry_vcpus_stopping(vcpus) ? 0 : answer(line, plan, left, beat_ns(clock), now);
}

void ferry_clock_beat(FerryClock *clock, guint vcpu, guint32 value)
{
	FerryClockLine *line = &clock->lines[vcpu];

	line->breaks += value != (guint32)(line->beat + 1);
	line->beat++;
	ferry_beats_add(&line->beats, line->beat);
}

void ferry_clock_throttle(FerryClock *clock, guint percent)
{
	g_atomic_int_set(&clock->taken_all, (gint)MIN(percent, 99) * (ALL_TIME / 100));
}

void ferry_clock_throttle_vcpu(FerryClock *clock, guint vcpu, double percent)
{
	if (vcpu < FERRY_VCPUS_MAX)
		g_atomic_int_set(&clock->taken[vcpu],
				 (gint)(CLAMP(percent, 0, 99.99) * (ALL_TIME / 100)));
}

guint64 ferry_clock_pages(const FerryClock *clock, guint vcpu)
{
	return __atomic_load_n(&clock->lines[vcpu].pages, __ATOMIC_RELAXED);
}

void ferry_clock_set_pages(FerryClock *clock, guint vcpu, guint64 pages)
{
	__atomic_store_n(&clock->lines[vcpu].pages, pages, __ATOMIC_RELAXED);
}

void ferry_clock_pause(FerryClock *clock)
{
	gint64 now = now_ns();

	for (guint i = 0; i < FERRY_VCPUS_MAX; i++)
		clock->lines[i].beat_in = CLAMP(clock->lines[i].beat_at - now, 0, beat_ns(clock));
	g_atomic_int_set(&clock->running, FALSE);
}

void ferry_clock_resume(FerryClock *clock, guint vcpus)
{
	gint64 now = now_ns();

	for (guint i = 0; i < FERRY_VCPUS_MAX; i++) {
		FerryClockLine *line = &clock->lines[i];

		/* Another side may have a longer interval. */
		line->beat_at = now + CLAMP(line->beat_in, 0, beat_ns(clock));
		line->read_at = line->wake = line->granted_at = now;
		line->time = line->due = line->busy = 0;
		line->burst = MAX(line->burst, BURST_MIN);
		line->granted = 0;
		if (clock->arrived)
			ferry_beats_begin(&line->beats, line->beat);
	}
	clock->arrived = FALSE;
	g_atomic_int_set(&clock->vcpus, (gint)vcpus);
	g_atomic_int_set(&clock->running, TRUE);
}

static const FerryVmstate line_vmstate = {
	.name = "ferry-clock/line",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields =
		(const FerryVmstateField[]){
			FERRY_VMSTATE_UINT64(FerryClockLine, bursts),
			FERRY_VMSTATE_UINT64(FerryClockLine, beat),
			FERRY_VMSTATE_TIMER_NS(FerryClockLine, beat_in),
			FERRY_VMSTATE_END,
		},
};

static const FerryVmstate breaks_line_vmstate = {
	.name = "ferry-clock/breaks-line",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields =
		(const FerryVmstateField[]){
			FERRY_VMSTATE_UINT64(FerryClockLine, breaks),
			FERRY_VMSTATE_END,
		},
};

static gboolean has_breaks(gconstpointer opaque)
{
	const FerryClock *clock = opaque;
	guint64 breaks = 0;

	for (guint i = 0; i < FERRY_VCPUS_MAX; i++)
		breaks |= clock->lines[i].breaks;
	return breaks != 0;
}

/* Present only where a heartbeat went wrong. */
static const FerryVmstate breaks_vmstate = {
	.name = "ferry-clock/breaks",
	.version_id = 1,
	.minimum_version_id = 1,
	.needed = has_breaks,
	.fields =
		(const FerryVmstateField[]){
			FERRY_VMSTATE_NESTED_ARRAY(FerryClock, lines, FERRY_VCPUS_MAX,
						   FerryClockLine, &breaks_line_vmstate),
			FERRY_VMSTATE_END,
		},
};

static gboolean clear_breaks(gpointer opaque, GError **error)
{
	FerryClock *clock = opaque;

	for (guint i = 0; i < FERRY_VCPUS_MAX; i++)
		clock->lines[i].breaks = 0;
	return TRUE;
}

static gboolean take_clock(gpointer opaque, guint32 version_id, GError **error)
{
	FerryClock *clock = opaque;

	clock->arrived = TRUE;
	return TRUE;
}

const FerryVmstate ferry_clock_vmstate = {
	.name = "ferry-clock",
	.version_id = 1,
	.minimum_version_id = 1,
	.pre_load = clear_breaks,
	.post_load = take_clock,
	.fields =
		(const FerryVmstateField[]){
			FERRY_VMSTATE_NESTED_ARRAY(FerryClock, lines, FERRY_VCPUS_MAX,
						   FerryClockLine, &line_vmstate),
			FERRY_VMSTATE_END,
		},
	.subsections = (const FerryVmstate *const[]){ &breaks_vmstate, NULL },
};
