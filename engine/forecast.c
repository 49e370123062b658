/* SPDX-License-Identifier: BSD-2-Clause */
#include "forecast.h"

#include <ferry/ram.h>

/* A round counts half as much as the one after it. */
#define FADE 0.5
/* What the first round counts for, pages: as much as a small one. */
#define FIRST_WEIGHT 1024.0
/* ROUND_DONE, READY and RUNNING. */
#define ANSWERS 3
/* After the guest stands, and after its devices are saved. */
#define COLLECTS 2
/* Of the limit, for the last round, where it is of a kind not seen before. */
#define WORTH_A_ROUND 8

void ferry_forecast_answered(FerryForecast *forecast, gint64 us)
{
	forecast->answer_us = forecast->answers ? MIN(forecast->answer_us, us) : us;
	forecast->answers_us += us;
	forecast->answers++;
}

void ferry_forecast_sent(FerryForecast *forecast, gboolean first, guint64 pages, guint64 again,
			 gint64 us)
{
	FerryForecastRounds *rounds = again > pages / 2 ? &forecast->again : &forecast->fresh;
	double weight = first && pages > FIRST_WEIGHT ? FIRST_WEIGHT / (double)pages : 1;

	if (!pages)
		return;
	rounds->pages = rounds->pages * FADE + (double)pages * weight;
	rounds->us = rounds->us * FADE + (double)MAX(us - forecast->answer_us, 1) * weight;
	rounds->seen = !first;
}

void ferry_forecast_collected(FerryForecast *forecast, gint64 took_us, guint64 dirtied,
			      gint64 since_us)
{
	forecast->collect_us = forecast->collect_us ? MIN(forecast->collect_us, took_us) : took_us;
	/* No more than all of them: those are written again and again. */
	forecast->more = since_us > 0 ? (double)dirtied * MIN((double)took_us / (double)since_us, 1)
				      : 0;
}

/* 0: there was no such round. */
static double page_us(const FerryForecastRounds *rounds)
{
	return rounds->pages > 0 ? rounds->us / rounds->pages : 0;
}

FerryForecastDowntime ferry_forecast_downtime(const FerryForecast *forecast, guint64 pending,
					      guint64 again, guint64 bandwidth)
{
	double fresh_us = page_us(&forecast->fresh);
	double again_us = page_us(&forecast->again) ?: fresh_us;
	gboolean mostly_again = again > pending / 2;

	if (bandwidth)
		fresh_us = again_us = FERRY_PAGE_SIZE * (double)G_USEC_PER_SEC / (double)bandwidth;
	return (FerryForecastDowntime){
		.pages_us = (double)(pending - again) * fresh_us + (double)again * again_us,
		.more_us = forecast->more * (mostly_again ? again_us : fresh_us),
		.rest_us = (double)(COLLECTS * forecast->collect_us + forecast->digest_us) +
			   ANSWERS * (double)forecast->answers_us / MAX(forecast->answers, 1),
		.known = bandwidth || (mostly_again ? forecast->again.seen : forecast->fresh.seen),
	};
}

double ferry_forecast_budget_us(const FerryForecastDowntime *downtime, double limit_us)
{
	return MAX(limit_us - downtime->rest_us, limit_us / 4);
}

gboolean ferry_forecast_fits(const FerryForecastDowntime *downtime, double limit_us)
{
	double pages_us = downtime->pages_us + downtime->more_us;

	if (!downtime->known && pages_us > limit_us / WORTH_A_ROUND)
		return FALSE;
	return pages_us <= ferry_forecast_budget_us(downtime, limit_us);
}
