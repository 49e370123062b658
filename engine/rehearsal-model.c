/* SPDX-License-Identifier: BSD-2-Clause */
#include "rehearsal-model.h"

#include <ferry/ram.h>
#include <math.h>

#define ROUNDS_MAX 200u
/* A round that leaves more than this share of the least that was left before leads nowhere. */
#define STANDSTILL 0.98
/* What is advised leaves room: no guest writes as evenly as the curve. */
#define MARGIN 1.25
#define THROTTLE_MAX 99u
#define THROTTLE_STEP 5u
#define LIMIT_MAX_MS 2000000.0 /* of downtime-limit */
#define LIMIT_STEP_MS 10u
/* A link that would have to be faster by more than this is no advice. */
#define FASTER_MAX 100.0
#define FASTER_STEP 1.1

/* What may be changed to make it converge. */
typedef struct {
	double speed;     /* of the guest, 0 to 1 */
	double bandwidth; /* bytes a second */
	double limit_us;
} Attempt;

typedef struct {
	gboolean converges;
	guint rounds;
	double seconds; /* while the guest runs */
	double least;   /* pages that were left over, at the least */
} Outcome;

double ferry_rehearsal_model_written(const FerryRehearsalModel *model, double seconds)
{
	FerryDirtyPoint last = { 0 }, next = { 0 };
	double pages;

	for (guint i = 0; i < model->n_points && next.seconds < seconds; i++) {
		last = next;
		next = model->points[i];
	}
	if (next.seconds <= last.seconds)
		return 0;
	pages = (double)last.pages + ((double)next.pages - (double)last.pages) *
					     (seconds - last.seconds) /
					     (next.seconds - last.seconds);
	return CLAMP(pages, 0, (double)model->ram_pages);
}

/* A downtime in which @pages go. */
static FerryForecastDowntime stop_with(const FerryRehearsalModel *model, double pages)
{
	FerryForecastDowntime downtime = model->million;

	downtime.pages_us *= pages / 1e6;
	return downtime;
}

/* Where a migration does not converge its rounds soon stay the same: so many are enough to see
 * it. */
static Outcome simulate(const FerryRehearsalModel *model, const Attempt *attempt)
{
	double page_s = FERRY_PAGE_SIZE / attempt->bandwidth;
	double round_s = (double)model->first_pages * page_s;
	Outcome outcome = { .least = INFINITY };

	while (outcome.rounds < ROUNDS_MAX) {
		double pages = ferry_rehearsal_model_written(model, round_s * attempt->speed);
		FerryForecastDowntime downtime = stop_with(model, pages);
		gboolean stands = pages >= outcome.least * STANDSTILL;

		/* The first is of another kind than those that follow. */
		downtime.known = outcome.rounds > 0;

		outcome.rounds++;
		outcome.seconds += round_s;
		outcome.least = MIN(outcome.least, pages);
		outcome.converges = ferry_forecast_fits(&downtime, attempt->limit_us);
		if (outcome.converges || stands)
			break;
		round_s = pages * page_s;
	}
	return outcome;
}

/* Without the limit's quarter, which is for guests that no limit would be enough for. */
static guint64 find_limit(const FerryForecastDowntime *least)
{
	double ms = (least->pages_us * MARGIN + least->more_us + least->rest_us) / 1e3;

	return ms < LIMIT_MAX_MS ? ((guint64)(ms / LIMIT_STEP_MS) + 1) * LIMIT_STEP_MS : 0;
}

static guint find_throttle(const FerryRehearsalModel *model)
{
	for (guint percent = THROTTLE_STEP;; percent += THROTTLE_STEP) {
		Attempt attempt = { .bandwidth = model->bandwidth,
				    .limit_us = model->limit_ms * 1e3 / MARGIN };

		percent = MIN(percent, THROTTLE_MAX);
		attempt.speed = 1 - percent / 100.0;
		if (simulate(model, &attempt).converges)
			return percent;
		if (percent == THROTTLE_MAX)
			return 0;
	}
}

static guint64 find_bandwidth(const FerryRehearsalModel *model)
{
	for (double by = FASTER_STEP; by < FASTER_MAX; by *= FASTER_STEP) {
		const Attempt attempt = { .speed = 1,
					  .bandwidth = model->bandwidth * by / MARGIN,
					  .limit_us = model->limit_ms * 1e3 };

		if (simulate(model, &attempt).converges)
			return (guint64)(model->bandwidth * by);
	}
	return 0;
}

void ferry_rehearsal_model_run(const FerryRehearsalModel *model, FerryRehearsal *rehearsal)
{
	const Attempt as_it_is = { 1, model->bandwidth, model->limit_ms * 1e3 };
	Outcome outcome = simulate(model, &as_it_is);
	FerryForecastDowntime least = stop_with(model, outcome.least);

	rehearsal->converges = outcome.converges;
	rehearsal->rounds = outcome.rounds;
	rehearsal->downtime_ms = ferry_forecast_total_us(&least) / 1e3;
	rehearsal->total_seconds = 0;
	rehearsal->needed_downtime_limit_ms = rehearsal->needed_bandwidth = 0;
	rehearsal->needed_throttle = 0;
	if (outcome.converges) {
		rehearsal->total_seconds = outcome.seconds + rehearsal->downtime_ms / 1e3;
		return;
	}
	rehearsal->needed_downtime_limit_ms = find_limit(&least);
	rehearsal->needed_throttle = find_throttle(model);
	if (rehearsal->bandwidth_limit)
		rehearsal->needed_bandwidth = find_bandwidth(model);
}
