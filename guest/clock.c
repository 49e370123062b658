/* SPDX-License-Identifier: BSD-2-Clause */
#include "clock.h"

#define BURST_NS 1000000 /* how long a burst of pages should take */
#define BURST_MIN 16u    /* pages */
#define BURST_MAX 4096u
#define CATCH_UP_NS 20000000 /* what a vCPU that was held up may make good */
#define PAGES_A_MIB (1048576u / FERRY_PAGE_BYTES)

/* Without a limit a vCPU gets as many pages as it writes in BURST_NS; with one, about two of them.
 */
static guint32 burst_pages(const FerryClockLine *line, const FerryPlan *plan)
{
	if (!plan->rate)
		return line->burst;
	return (guint32)CLAMP(plan->rate * PAGES_A_MIB / plan->vcpus / 500, 1, BURST_MAX);
}

/* ns in which the rate allows @pages of one vCPU. */
static gint64 pages_cost(const FerryPlan *plan, guint32 pages, guint throttle)
{
	if (!plan->rate)
		return 0;
	return (gint64)(1e9 * pages * plan->vcpus / ((double)plan->rate * PAGES_A_MIB) * 100 /
			(100 - throttle));
}

/* After a burst: learns its speed and sets when the next may begin. */
static void finish_burst(FerryClockLine *line, const FerryPlan *plan, guint throttle, gint64 now)
{
	gint64 took = MAX(now - line->granted_at, 1000);

	line->burst = (guint32)CLAMP((gint64)line->granted * BURST_NS / took, BURST_MIN, BURST_MAX);
	line->due = MAX(line->due + pages_cost(plan, line->granted, throttle), now - CATCH_UP_NS);
	line->wake = MAX(line->due, now + took * throttle / (100 - throttle));
	line->granted = 0;
}

static guint32 answer(FerryClockLine *line, const FerryPlan *plan, gint64 now)
{
	guint32 bits = 0;

	if (now >= line->beat_at) {
		bits = FERRY_DOORBELL_BEAT;
		line->beat_at = MAX(line->beat_at, now - FERRY_CLOCK_BEAT_NS) + FERRY_CLOCK_BEAT_NS;
	}
	if (plan->order != FERRY_ORDER_NONE && now >= line->wake) {
		line->granted = burst_pages(line, plan);
		line->granted_at = now;
	}
	return bits | line->granted;
}

static gint64 now_ns(void)
{
	return g_get_monotonic_time() * 1000;
}

guint32 ferry_clock_doorbell(FerryClock *clock, FerryVcpus *vcpus, const FerryPlan *plan,
			     guint vcpu)
{
	FerryClockLine *line = &clock->lines[vcpu];
	guint throttle = (guint)g_atomic_int_get(&clock->throttle);
	gint64 now = now_ns(), until;

	line->bursts++;
	if (line->granted)
		finish_burst(line, plan, throttle, now);
	if (!throttle)
		line->wake = line->due;
	until = plan->order == FERRY_ORDER_NONE ? line->beat_at : MIN(line->beat_at, line->wake);
	if (now < until) {
		ferry_vcpus_sleep_until(vcpus, (until + 999) / 1000);
		now = now_ns();
	}
	return ferry_vcpus_stopping(vcpus) ? 0 : answer(line, plan, now);
}

void ferry_clock_beat(FerryClock *clock, guint vcpu, guint32 value)
{
	FerryClockLine *line = &clock->lines[vcpu];

	line->breaks += value != (guint32)(line->beat + 1);
	line->beat++;
}

void ferry_clock_throttle(FerryClock *clock, guint percent)
{
	g_atomic_int_set(&clock->throttle, (gint)MIN(percent, 99));
}

void ferry_clock_pause(FerryClock *clock)
{
	gint64 now = now_ns();

	for (guint i = 0; i < FERRY_VCPUS_MAX; i++)
		clock->lines[i].beat_in = CLAMP(clock->lines[i].beat_at - now, 0,
						FERRY_CLOCK_BEAT_NS);
}

void ferry_clock_resume(FerryClock *clock)
{
	gint64 now = now_ns();

	for (guint i = 0; i < FERRY_VCPUS_MAX; i++) {
		FerryClockLine *line = &clock->lines[i];

		line->beat_at = now + CLAMP(line->beat_in, 0, FERRY_CLOCK_BEAT_NS);
		line->due = line->wake = line->granted_at = now;
		line->burst = MAX(line->burst, BURST_MIN);
		line->granted = 0;
	}
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

const FerryVmstate ferry_clock_vmstate = {
	.name = "ferry-clock",
	.version_id = 1,
	.minimum_version_id = 1,
	.pre_load = clear_breaks,
	.fields =
		(const FerryVmstateField[]){
			FERRY_VMSTATE_NESTED_ARRAY(FerryClock, lines, FERRY_VCPUS_MAX,
						   FerryClockLine, &line_vmstate),
			FERRY_VMSTATE_END,
		},
	.subsections = (const FerryVmstate *const[]){ &breaks_vmstate, NULL },
};
