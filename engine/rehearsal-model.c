/* SPDX-License-Identifier: BSD-2-Clause */
#include "rehearsal-model.h"

#include <ferry/ram.h>
#include <math.h>

#define ROUNDS_MAX 200u
/* A round that leaves more than this share of the one before it leads nowhere. */
#define STANDSTILL 0.98
/* What is advised leaves room: no guest writes as evenly as the curve. */
#define MARGIN 1.25
#define THROTTLE_MAX 99u
#define THROTTLE_STEP 5u
#define LIMIT_MAX_MS 2000000u /* of downtime-limit */
#define LIMIT_STEP_MS 10u
/* A link that would have to be faster by more than this is no advice. */
#define FASTER_MAX 100.0
#define FASTER_STEP 1.1

/* What may be changed to make it converge. */
typedef struct {
	double speed;     /* of the guest, 0 to 1 */
	double bandwidth; /* bytes a second */
	double budget_s;  /* of the downtime, for pages */
} Attempt;

typedef struct {
	gboolean converges;
	guint rounds;
	double seconds; /* while the guest runs */
	double least_s; /* the shortest that sending what is left took */
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
	pages = last.pages + ((double)next.pages - last.pages) * (seconds - last.seconds) /
				     (next.seconds - last.seconds);
	return CLAMP(pages, 0, (double)model->ram_pages);
}

/* Also in the middle of a round that never ends the guest is all that it was: so many rounds are
 * enough to see it. */
static Outcome simulate(const FerryRehearsalModel *model, const Attempt *attempt)
{
	double page_s = FERRY_PAGE_SIZE / attempt->bandwidth;
	double round_s = model->first_pages * page_s;
	Outcome outcome = { .least_s = INFINITY };

	while (outcome.rounds < ROUNDS_MAX) {
		double pages = ferry_rehearsal_model_written(model, round_s * attempt->speed);
		double rest_s = pages * page_s;

		outcome.rounds++;
		outcome.seconds += round_s;
		outcome.converges = rest_s <= attempt->budget_s;
		if (outcome.converges || rest_s >= outcome.least_s * STANDSTILL) {
			outcome.least_s = MIN(outcome.least_s, rest_s);
			break;
		}
		outcome.least_s = rest_s;
		round_s = rest_s;
	}
	return outcome;
}

/* The engine's rule: where the rest takes most of the limit, pages get a quarter all the same. */
static double budget(const FerryRehearsalModel *model, double limit_ms)
{
	return MAX(limit_ms - model->more_ms, limit_ms / 4) / 1e3;
}

static guint64 find_limit(const FerryRehearsalModel *model, double least_s)
{
	double ms = least_s * 1e3 * MARGIN + model->more_ms;

	return ms < LIMIT_MAX_MS ? ((guint64)(ms / LIMIT_STEP_MS) + 1) * LIMIT_STEP_MS : 0;
}

static guint find_throttle(const FerryRehearsalModel *model, double budget_s)
{
	for (guint percent = THROTTLE_STEP;; percent += THROTTLE_STEP) {
		Attempt attempt = { .bandwidth = model->bandwidth,
				    .budget_s = budget_s / MARGIN };

		percent = MIN(percent, THROTTLE_MAX);
		attempt.speed = 1 - percent / 100.0;
		if (simulate(model, &attempt).converges)
			return percent;
		if (percent == THROTTLE_MAX)
			return 0;
	}
}

static guint64 find_bandwidth(const FerryRehearsalModel *model, double budget_s)
{
	for (double by = FASTER_STEP; by < FASTER_MAX; by *= FASTER_STEP) {
		const Attempt attempt = { .speed = 1,
					  .bandwidth = model->bandwidth * by / MARGIN,
					  .budget_s = budget_s };

		if (simulate(model, &attempt).converges)
			return (guint64)(model->bandwidth * by);
	}
	return 0;
}

void ferry_rehearsal_model_run(const FerryRehearsalModel *model, FerryRehearsal *rehearsal)
{
	double budget_s = budget(model, model->limit_ms);
	const Attempt as_it_is = { 1, model->bandwidth, budget_s };
	Outcome outcome = simulate(model, &as_it_is);

	rehearsal->converges = outcome.converges;
	rehearsal->rounds = outcome.rounds;
	rehearsal->downtime_ms = outcome.least_s * 1e3 + model->more_ms;
	rehearsal->total_seconds = 0;
	rehearsal->needed_downtime_limit_ms = rehearsal->needed_bandwidth = 0;
	rehearsal->needed_throttle = 0;
	if (outcome.converges) {
		rehearsal->total_seconds = outcome.seconds + rehearsal->downtime_ms / 1e3;
		return;
	}
	rehearsal->needed_downtime_limit_ms = find_limit(model, outcome.least_s);
	rehearsal->needed_throttle = find_throttle(model, budget_s);
	if (rehearsal->bandwidth_limit)
		rehearsal->needed_bandwidth = find_bandwidth(model, budget_s);
}
