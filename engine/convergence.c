/* SPDX-License-Identifier: BSD-2-Clause */
#include "convergence.h"

#define PERIOD_US (100 * G_TIME_SPAN_MILLISECOND)

void ferry_convergence_begin(FerryConvergence *convergence, gint64 now_us)
{
	*convergence = (FerryConvergence){ .since_us = now_us };
}

gboolean ferry_convergence_judge(FerryConvergence *convergence, gint64 now_us, guint64 dirtied,
				 guint64 sent, guint threshold)
{
	gboolean exceeds, again;
	double allowed;

	convergence->dirtied += dirtied;
	convergence->sent += sent;
	if (now_us - convergence->since_us < PERIOD_US)
		return FALSE;
	allowed = convergence->sent * (threshold / 100.0);
	exceeds = convergence->dirtied > allowed;
	again = exceeds && convergence->exceeded;
	*convergence = (FerryConvergence){
		.since_us = now_us,
		.exceeded = exceeds && !again,
		.excess = exceeds ? convergence->dirtied / allowed : 0,
	};
	return again;
}

guint ferry_throttle_step(guint now, const FerryThrottleSteps *steps, double excess)
{
	double step = steps->increment;

	if (!now)
		return MIN(steps->initial, steps->max);
	if (steps->tailslow && excess > 1)
		step = MIN(step, (100 - now) * (1 - 1 / excess));
	return MIN(now + (guint)step, steps->max);
}
