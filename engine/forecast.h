/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/*
 * What the downtime would be, from what this migration has measured: its rounds, its collects and
 * the destination's answers. Times are microseconds. Arithmetic alone; the migration thread's.
 */
typedef struct {
	double sent_pages; /* what the rounds so far count for, later ones more: pages ... */
	double sent_us;    /* ... and how long they took beyond the answer */
	gboolean first;    /* only the first round is in them */
	gint64 answer_us;  /* the shortest time to an answer of the destination; 0: none yet */
	gint64 collect_us; /* the shortest collect; 0: none yet */
	double dirty_rate; /* pages that are written in a microsecond, as of the last collect */
	gint64 exposed_us; /* how long pages of the last collect went unseen: its duration */
	gint64 digest_us;  /* for all of RAM; 0: none is made */
} FerryForecast;

/* The destination answered after @us. */
void ferry_forecast_answered(FerryForecast *forecast, gint64 us);

/*
 * @pages went in @us, the answer included. What the first round measures is of another kind, as it
 * touches memory for the first time there, in long runs, and is worth little once a later one is
 * known.
 */
void ferry_forecast_sent(FerryForecast *forecast, gboolean first, guint64 pages, gint64 us);

/* A collect took @took_us and found @dirtied pages, written in @since_us. */
void ferry_forecast_collected(FerryForecast *forecast, gint64 took_us, guint64 dirtied,
			      gint64 since_us);

/* The parts of a downtime that begins now. */
typedef struct {
	double pages_us; /* for the pages that are pending */
	double more_us;  /* for those that are written until the guest stands */
	double rest_us;  /* for all else: two collects, the digest, three answers */
} FerryForecastDowntime;

/* With @pending pages to send; @bandwidth is bytes a second that are known to be there, 0: what was
 * measured. */
FerryForecastDowntime ferry_forecast_downtime(const FerryForecast *forecast, guint64 pending,
					      guint64 bandwidth);
static inline double ferry_forecast_total_us(const FerryForecastDowntime *downtime)
{
	return downtime->pages_us + downtime->more_us + downtime->rest_us;
}

/* How long the pending pages of a downtime of at most @limit_us may take. A quarter of it even
 * where all else leaves less: a guest too large to be digested in time must still move. */
double ferry_forecast_budget_us(const FerryForecastDowntime *downtime, double limit_us);

/* Whether the guest stops now. After the first round (@first) another is worth its bytes, where it
 * saves more than a small part of the limit. */
gboolean ferry_forecast_fits(const FerryForecastDowntime *downtime, gboolean first,
			     double limit_us);
