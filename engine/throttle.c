/* SPDX-License-Identifier: BSD-2-Clause */
#include "throttle.h"

#include "convergence.h"
#include "dirty-limit.h"

struct FerryThrottle {
	FerryVm *vm;
	/* the migration thread's */
	gboolean judging;
	gboolean begun;  /* a first collect was seen */
	guint64 pending; /* pages that were to go after the last one */
	FerryConvergence convergence;
	GThread *limiter; /* of dirty-limit; NULL: it does not run */

	GMutex lock;  /* guards the rest */
	GCond ending; /* of @end */
	gboolean end; /* the limiter shall end */
	guint percent;
	guint64 held_us; /* of each period, the vCPU that is held up most */
};

FerryThrottle *ferry_throttle_new(FerryVm *vm)
{
	FerryThrottle *throttle = g_new0(FerryThrottle, 1);

	throttle->vm = vm;
	g_mutex_init(&throttle->lock);
	g_cond_init(&throttle->ending);
	return throttle;
}

void ferry_throttle_free(FerryThrottle *throttle)
{
	if (!throttle)
		return;
	ferry_throttle_end(throttle);
	g_cond_clear(&throttle->ending);
	g_mutex_clear(&throttle->lock);
	g_free(throttle);
}

static gboolean is_on(FerryVm *vm, FerryCapability capability)
{
	return ferry_settings_get_capability(ferry_vm_settings(vm), capability);
}

static guint64 parameter(FerryThrottle *throttle, FerryParameter which)
{
	return ferry_settings_get_parameter(ferry_vm_settings(throttle->vm), which);
}

gboolean ferry_throttle_check(FerryVm *vm, GError **error)
{
	const char *missing = NULL;

	if (is_on(vm, FERRY_CAPABILITY_AUTO_CONVERGE) && !ferry_vm_has_throttle(vm))
		missing = "capability 'auto-converge' is on, and this monitor cannot slow its "
			  "guest down (no throttle callback): switch it off";
	else if (is_on(vm, FERRY_CAPABILITY_DIRTY_LIMIT) && !ferry_vm_has_vcpu_throttle(vm))
		missing = "capability 'dirty-limit' is on, and this monitor cannot count what each "
			  "vCPU dirties, or slow it down (no vcpu_dirty_pages and throttle_vcpu "
			  "callbacks): use auto-converge instead";
	if (missing)
		g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_INVALID, missing);
	return !missing;
}

/* ---- dirty-limit ---- */

/* Measures the vCPUs, and gives each the share of its time that the limit leaves it. */
static void limit_vcpus(FerryThrottle *throttle, FerryDirtyLimit *vcpus, guint *known)
{
	double limit = parameter(throttle, FERRY_PARAMETER_VCPU_DIRTY_LIMIT) * 1048576.0, least = 1;
	gint64 now = g_get_monotonic_time(),
	       period = parameter(throttle, FERRY_PARAMETER_VCPU_DIRTY_LIMIT_PERIOD);
	guint64 pages[FERRY_VCPUS_MAX];
	guint n = ferry_vm_vcpu_dirty_pages(throttle->vm, pages, FERRY_VCPUS_MAX);

	for (guint i = 0; i < n; i++) {
		if (i >= *known)
			ferry_dirty_limit_begin(&vcpus[i], now, pages[i]);
		else if (ferry_dirty_limit_measure(&vcpus[i], now, pages[i], limit))
			ferry_vm_throttle_vcpu(throttle->vm, i, 100 * (1 - vcpus[i].left));
		least = MIN(least, vcpus[i].left);
	}
	*known = MAX(*known, n);
	g_mutex_lock(&throttle->lock);
	throttle->held_us = (guint64)((1 - least) * period * G_TIME_SPAN_MILLISECOND);
	g_mutex_unlock(&throttle->lock);
}

/* Waits for the next measurement. FALSE: there is none any more. */
static gboolean await_period(FerryThrottle *throttle)
{
	gint64 until = g_get_monotonic_time() +
		       parameter(throttle, FERRY_PARAMETER_VCPU_DIRTY_LIMIT_PERIOD) *
			       G_TIME_SPAN_MILLISECOND;
	gboolean end;

	g_mutex_lock(&throttle->lock);
	while (!throttle->end && g_cond_wait_until(&throttle->ending, &throttle->lock, until))
		;
	end = throttle->end;
	g_mutex_unlock(&throttle->lock);
	return !end;
}

static gpointer limiter_thread(gpointer data)
{
	FerryThrottle *throttle = data;
	FerryDirtyLimit vcpus[FERRY_VCPUS_MAX];
	guint known = 0;

	do
		limit_vcpus(throttle, vcpus, &known);
	while (await_period(throttle));
	for (guint i = 0; i < known; i++)
		if (vcpus[i].left < 1)
			ferry_vm_throttle_vcpu(throttle->vm, i, 0);
	return NULL;
}

/* ---- auto-converge ---- */

static void set_percent(FerryThrottle *throttle, guint percent)
{
	gboolean changes;

	g_mutex_lock(&throttle->lock);
	changes = throttle->percent != percent;
	throttle->percent = percent;
	g_mutex_unlock(&throttle->lock);
	if (changes)
		ferry_vm_throttle(throttle->vm, percent);
}

/* The next step, or, where it is not time for one, what a lowered maximum leaves. */
static void converge(FerryThrottle *throttle, gboolean step)
{
	const FerryThrottleSteps steps = {
		.initial = parameter(throttle, FERRY_PARAMETER_CPU_THROTTLE_INITIAL),
		.increment = parameter(throttle, FERRY_PARAMETER_CPU_THROTTLE_INCREMENT),
		.max = parameter(throttle, FERRY_PARAMETER_MAX_CPU_THROTTLE),
		.tailslow = parameter(throttle, FERRY_PARAMETER_CPU_THROTTLE_TAILSLOW) != 0,
	};

	set_percent(throttle, step ? ferry_throttle_step(throttle->percent, &steps,
							 throttle->convergence.excess)
				   : MIN(throttle->percent, steps.max));
}

/* ---- a migration ---- */

void ferry_throttle_begin(FerryThrottle *throttle)
{
	throttle->judging = is_on(throttle->vm, FERRY_CAPABILITY_AUTO_CONVERGE) ||
			    is_on(throttle->vm, FERRY_CAPABILITY_DIRTY_LIMIT);
	throttle->begun = throttle->end = FALSE;
}

void ferry_throttle_collected(FerryThrottle *throttle, guint64 kept, guint64 pending)
{
	gint64 now = g_get_monotonic_time();
	guint64 sent = throttle->pending - MIN(kept, throttle->pending);
	gboolean failing;

	throttle->pending = pending;
	if (!throttle->judging)
		return;
	if (!throttle->begun) {
		throttle->begun = TRUE;
		ferry_convergence_begin(&throttle->convergence, now);
		return;
	}
	failing = ferry_convergence_judge(
		&throttle->convergence, now, pending - kept, sent,
		parameter(throttle, FERRY_PARAMETER_THROTTLE_TRIGGER_THRESHOLD));
	if (is_on(throttle->vm, FERRY_CAPABILITY_AUTO_CONVERGE))
		converge(throttle, failing);
	else if (failing && !throttle->limiter)
		throttle->limiter = g_thread_new("ferry-limit", limiter_thread, throttle);
}

void ferry_throttle_end(FerryThrottle *throttle)
{
	throttle->judging = FALSE;
	g_mutex_lock(&throttle->lock);
	throttle->end = TRUE;
	g_cond_broadcast(&throttle->ending);
	g_mutex_unlock(&throttle->lock);
	if (throttle->limiter)
		g_thread_join(g_steal_pointer(&throttle->limiter));
	set_percent(throttle, 0);
	g_mutex_lock(&throttle->lock);
	throttle->held_us = 0;
	g_mutex_unlock(&throttle->lock);
}

void ferry_throttle_fill(FerryThrottle *throttle, FerryMigrationStatus *status)
{
	g_mutex_lock(&throttle->lock);
	status->throttle_percentage = throttle->percent;
	status->dirty_limit_throttle_us = throttle->held_us;
	g_mutex_unlock(&throttle->lock);
}
