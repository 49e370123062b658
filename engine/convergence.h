/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/*
 * The arithmetic of auto-converge, as QEMU has it: whether precopy gets anywhere, and how much the
 * guest is then slowed down. No clock, no guest.
 */

typedef struct {
	gint64 since_us;       /* when the period that is judged next began */
	guint64 dirtied, sent; /* pages, in it */
	gboolean exceeded;     /* the one before was over the threshold */
	double excess; /* of the last one judged: dirtied, over what may be; infinite where nothing
			* went */
} FerryConvergence;

/* The first collect of a migration: of the round that sent all RAM, which says nothing yet. */
void ferry_convergence_begin(FerryConvergence *convergence, gint64 now_us);

/*
 * A collect found that @dirtied pages were written since the last one, in which time @sent pages
 * went. TRUE where more than @threshold percent of what was sent was dirtied, for the second time
 * in a row; it counts anew then. Rounds shorter than 100 ms are judged together: the bursts in
 * which a guest writes and a connection sends would decide.
 */
gboolean ferry_convergence_judge(FerryConvergence *convergence, gint64 now_us, guint64 dirtied,
				 guint64 sent, guint threshold);

/* Percent: the parameters of the same names. */
typedef struct {
	guint initial;
	guint increment;
	guint max;
	gboolean tailslow;
} FerryThrottleSteps;

/*
 * The percentage that follows @now. @excess is FerryConvergence.excess. With tailslow a step goes
 * no further than to where, at this excess, the guest would dirty just what it may.
 */
guint ferry_throttle_step(guint now, const FerryThrottleSteps *steps, double excess);
