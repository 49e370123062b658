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
/* After the first round another is worth its bytes if it saves more than this part of the limit. */
#define WORTH_A_ROUND 8

void ferry_forecast_answered(FerryForecast *forecast, gint64 us)
{
	forecast->answer_us = forecast->answer_us ? MIN(forecast->answer_us, us) : us;
}

void ferry_forecast_sent(FerryForecast *forecast, gboolean first, guint64 pages, gint64 us)
{
	double sent_us = MAX(us - forecast->answer_us, 1), weight = 1;

	if (!pages)
		return;
	if (first && pages > FIRST_WEIGHT)
		weight = FIRST_WEIGHT / (double)pages;
	forecast->sent_pages = forecast->sent_pages * FADE + (double)pages * weight;
	forecast->sent_us = forecast->sent_us * FADE + sent_us * weight;
	forecast->first = first;
}

void ferry_forecast_collected(FerryForecast *forecast, gint64 took_us, guint64 dirtied,
			      gint64 since_us)
{
	forecast->collect_us = forecast->collect_us ? MIN(forecast->collect_us, took_us) : took_us;
	forecast->exposed_us = took_us;
	forecast->dirty_rate = since_us > 0 ? (double)dirtied / (double)since_us : 0;
}

static double page_us(const FerryForecast *forecast, guint64 bandwidth)
{
	if (bandwidth)
		return FERRY_PAGE_SIZE * (double)G_USEC_PER_SEC / (double)bandwidth;
	return forecast->sent_pages > 0 ? forecast->sent_us / forecast->sent_pages : 0;
}

FerryForecastDowntime ferry_forecast_downtime(const FerryForecast *forecast, guint64 pending,
					      guint64 bandwidth)
{
	double each_us = page_us(forecast, bandwidth);

	return (FerryForecastDowntime){
		.pages_us = (double)pending * each_us,
		.more_us = forecast->dirty_rate * (double)forecast->exposed_us * each_us,
		.rest_us = (double)(COLLECTS * forecast->collect_us +
				    ANSWERS * forecast->answer_us + forecast->digest_us),
	};
}

double ferry_forecast_budget_us(const FerryForecastDowntime *downtime, double limit_us)
{
	return MAX(limit_us - downtime->more_us - downtime->rest_us, limit_us / 4);
}

gboolean ferry_forecast_fits(const FerryForecastDowntime *downtime, gboolean first, double limit_us)
{
	if (first && downtime->pages_us > limit_us / WORTH_A_ROUND)
		return FALSE;
	return downtime->pages_us <= ferry_forecast_budget_us(downtime, limit_us);
}
