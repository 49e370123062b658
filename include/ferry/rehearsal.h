/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* How long a rehearsal may last, seconds, and does where nobody says. */
#define FERRY_REHEARSAL_SECONDS_MAX 600u
#define FERRY_REHEARSAL_SECONDS 3

/* So many different pages were written in the first @seconds of a stretch. */
typedef struct {
	double seconds;
	guint64 pages;
} FerryDirtyPoint;
#define FERRY_DIRTY_POINTS_MAX 24u

/*
 * What a rehearsal measured, and what a migration at the same settings would come to: its rounds
 * are simulated over the curve of written pages. Advice is each by itself enough, and 0 where it is
 * not needed or would not do.
 */
typedef struct {
	gboolean on;   /* the last migration is, or was, a rehearsal */
	gboolean done; /* the rest is there */
	double seconds;
	double bandwidth;          /* bytes a second that the link took */
	guint64 bandwidth_limit;   /* max-bandwidth at the time; 0: none */
	guint64 downtime_limit_ms; /* at the time */
	guint n_points;
	FerryDirtyPoint points[FERRY_DIRTY_POINTS_MAX]; /* by rising time */
	guint64 first_second_pages;                     /* different ones written in it */
	guint64 steady_pages_per_second; /* that joined them at the end: 0: it is a working set */

	gboolean converges;
	guint rounds;         /* while the guest runs */
	double total_seconds; /* to the guest's running there; where it converges */
	double downtime_ms;   /* where not: the least that was in reach */

	guint64 needed_downtime_limit_ms;
	guint needed_throttle;    /* percent to slow the guest down by */
	guint64 needed_bandwidth; /* bytes a second; where max-bandwidth is the limit */
} FerryRehearsal;

G_END_DECLS
