/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "ends.h"

/*
 * What follows a session's precopy when its guest is switched over early: pages that are missing at
 * the destination, of which each is to land once, whole, whichever way the ends agreed on. The
 * guest does not run, so that every page can be compared when it lands.
 */
typedef struct Switched {
	Ends *ends;
	GMutex lock; /* guards what follows */
	GCond changed;
	guint8 **pages;    /* of each block, a state for each page */
	FerryRun front;    /* no unclaimed page lies before it */
	guint64 unclaimed; /* missing, and neither sent nor asked for */
	guint64 missing;   /* not landed */
	guint64 total;     /* missing at first */
	guint64 urgent;    /* pages that were waited for */
	guint twice;       /* pages that landed though they were there */
	guint torn;        /* pages that landed with another content */
	gboolean refuses;  /* wanted() says no, whatever it is */
	guint slow_us;     /* landed() takes this */
	gboolean stop;     /* the thread shall end */
	gboolean dead;     /* the thread's calls say so */
	int news;          /* eventfd: for wait_fetched() */
	guint sparse;      /* of this many claims one is urgent */
	GRand *random;     /* the thread's */
	GThread *thread;
} Switched;

/* Both sessions ask for postcopy; before ends_connect(). @pull: as the source's setting. */
void switched_ask(Ends *ends, gboolean pull);

/* After the last fence of precopy: writes to about two thirds of the source's pages, which are then
 * missing at the destination, and begins at both ends. It is the ends' own. NULL: @error. */
Switched *switched_begin(Ends *ends, GError **error);

/* Moves all that is missing, some of it urgently, and passes a fence, at which all RAM is compared.
 * FALSE: an end died, or something landed that should not have: @error. */
gboolean switched_move(Switched *switched, GError **error);

/* For ends_close(): its thread, then, once the carriers are gone, the rest. NULL is allowed. */
void switched_stop(Switched *switched);
void switched_free(Switched *switched);

/* All of it. */
gboolean switched_run(Ends *ends, GError **error);

/* The next run that nobody claimed, from anywhere. */
gboolean switched_claim(Switched *switched, gboolean urgent, guint most, FerryRun *run);
FerryArrivals switched_arrivals(Switched *switched);
