/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/* What rounds of one kind count for, later ones more. */
typedef struct {
	double pages;
	double us;     /* that they took beyond the answer */
	gboolean seen; /* it is more than the first round of all */
} FerryForecastRounds;

/*
 * What the downtime would be, from what this migration has measured: its rounds, its collects and
 * the destination's answers. Times are microseconds. Arithmetic alone; the migration thread's.
 */
typedef struct {
	FerryForecastRounds fresh, again; /* mostly of pages that ferry_forecast_sent() means */
	gint64 answer_us;                 /* the shortest time to an answer of the destination */
	gint64 answers_us;                /* the time of all of them */
	guint answers;                    /* how many there were */
	gint64 collect_us;                /* the shortest collect; 0: none yet */
	double more;      /* pages that were written again while the last collect went on */
	gint64 digest_us; /* for all of RAM, the shortest; 0: none is made */
} FerryForecast;

/* The destination answered after @us, having nothing else to do. */
void ferry_forecast_answered(FerryForecast *forecast, gint64 us);

/*
 * @pages went in @us, the answer included; @again of them had gone in an earlier round other than
 * the first. Such pages are cheaper, since their memory is mapped there. The first round measures
 * another kind still, as it touches memory for the first time, in long runs: it is worth little
 * once a later one is known.
 */
void ferry_forecast_sent(FerryForecast *forecast, gboolean first, guint64 pages, guint64 again,
			 gint64 us);

/* A collect took @took_us and found @dirtied pages, written in @since_us. */
void ferry_forecast_collected(FerryForecast *forecast, gint64 took_us, guint64 dirtied,
			      gint64 since_us);

/* The parts of a downtime that begins now. */
typedef struct {
	double pages_us; /* for the pages that are pending */
	double more_us;  /* for those that are written until the guest stands */
	double rest_us;  /* for all else: two collects, the digest, three answers */
	gboolean known;  /* there was a round of such pages */
} FerryForecastDowntime;

/* With @pending pages to send, @again of them as for ferry_forecast_sent(); @bandwidth is bytes a
 * second that are known to be there, 0: what was measured. */
FerryForecastDowntime ferry_forecast_downtime(const FerryForecast *forecast, guint64 pending,
					      guint64 again, guint64 bandwidth);
static inline double ferry_forecast_total_us(const FerryForecastDowntime *downtime)
{
	return downtime->pages_us + downtime->more_us + downtime->rest_us;
}

/* How long the pages of a downtime of at most @limit_us may take. A quarter of it even where all
 * else leaves less: a guest too large to be digested in time must still move. */
double ferry_forecast_budget_us(const FerryForecastDowntime *downtime, double limit_us);

/* Whether the guest stops now. A round of a kind not seen yet is better not the last, where its
 * pages take more than a small part of the limit. */
gboolean ferry_forecast_fits(const FerryForecastDowntime *downtime, double limit_us);
