/* SPDX-License-Identifier: BSD-2-Clause */
#include "state-table.h"

#define TO(state) (1u << FERRY_STATE_##state)

/* Any state in which a migration may end early: source side. */
#define EARLY (TO(FAILED) | TO(CANCELLING))
/* From here a new migration may begin. */
#define AGAIN (TO(SETUP))

static const struct {
	const char *name;
	guint source_next;
	guint destination_next;
	gboolean source_guest_on; /* may the guest run at the source in this state? */
} states[] = {
	[FERRY_STATE_NONE] = { "none", AGAIN, AGAIN, TRUE },
	[FERRY_STATE_SETUP] = { "setup", TO(ACTIVE) | EARLY, TO(ACTIVE) | TO(FAILED) | TO(NONE),
				TRUE },
	[FERRY_STATE_ACTIVE] = { "active", TO(PRE_SWITCHOVER) | TO(DEVICE) | EARLY,
				 TO(HANDOVER) | TO(COMPLETED) | TO(FAILED), TRUE },
	[FERRY_STATE_PRE_SWITCHOVER] = { "pre-switchover", TO(DEVICE) | EARLY, 0, FALSE },
	[FERRY_STATE_DEVICE] = { "device",
				 TO(HANDOVER) | TO(POSTCOPY_ACTIVE) | TO(COMPLETED) | EARLY, 0,
				 FALSE },
	/* No way back by itself: from here the destination may already be running the guest. */
	[FERRY_STATE_HANDOVER] = { "handover", TO(COMPLETED) | TO(HANDOVER_LOST),
				   TO(COMPLETED) | TO(POSTCOPY_ACTIVE) | TO(HANDOVER_LOST) |
					   TO(FAILED),
				   FALSE },
	/* An answer of the peer or the operator's word ends it; at a destination that was to be
	 * switched over also a source that comes again. */
	[FERRY_STATE_HANDOVER_LOST] = { "handover-lost", TO(COMPLETED) | TO(FAILED),
					TO(COMPLETED) | TO(FAILED) | TO(POSTCOPY_RECOVER), FALSE },
	/* From the first byte of the commit on the guest is the destination's: both sides can only
	 * go on, or pause. */
	[FERRY_STATE_POSTCOPY_ACTIVE] = { "postcopy-active", TO(COMPLETED) | TO(POSTCOPY_PAUSED),
					  TO(COMPLETED) | TO(POSTCOPY_PAUSED), FALSE },
	[FERRY_STATE_POSTCOPY_PAUSED] = { "postcopy-paused", TO(POSTCOPY_RECOVER),
					  TO(POSTCOPY_RECOVER), FALSE },
	/* HANDOVER_LOST: where the guest was not started yet. */
	[FERRY_STATE_POSTCOPY_RECOVER] = { "postcopy-recover",
					   TO(POSTCOPY_ACTIVE) | TO(POSTCOPY_PAUSED),
					   TO(POSTCOPY_ACTIVE) | TO(POSTCOPY_PAUSED) |
						   TO(HANDOVER_LOST),
					   FALSE },
	[FERRY_STATE_COMPLETED] = { "completed", AGAIN, AGAIN, FALSE },
	[FERRY_STATE_FAILED] = { "failed", AGAIN, AGAIN, TRUE },
	/* COMPLETED: the cancel came when a peer without a hand-over had the guest already. */
	[FERRY_STATE_CANCELLING] = { "cancelling", TO(CANCELLED) | TO(COMPLETED), 0, TRUE },
	[FERRY_STATE_CANCELLED] = { "cancelled", AGAIN, 0, TRUE },
};
G_STATIC_ASSERT(G_N_ELEMENTS(states) == FERRY_STATE__N);

const char *ferry_state_name(FerryState state)
{
	g_return_val_if_fail((guint)state < FERRY_STATE__N, NULL);
	return states[state].name;
}

gboolean ferry_state_allows(FerrySide side, FerryState from, FerryState to)
{
	guint next = side == FERRY_SIDE_SOURCE ? states[from].source_next
					       : states[from].destination_next;

	return (next & (1u << to)) != 0;
}

gboolean ferry_state_guest_may_run(FerryState state)
{
	return states[state].source_guest_on;
}

gboolean ferry_state_is_busy(FerryState state)
{
	return !(states[state].source_next & AGAIN);
}

static const char *const run_states[] = {
	[FERRY_RUN_STATE_PRELAUNCH] = "prelaunch",
	[FERRY_RUN_STATE_INMIGRATE] = "inmigrate",
	[FERRY_RUN_STATE_RUNNING] = "running",
	[FERRY_RUN_STATE_PAUSED] = "paused",
	[FERRY_RUN_STATE_FINISH_MIGRATE] = "finish-migrate",
	[FERRY_RUN_STATE_POSTMIGRATE] = "postmigrate",
	[FERRY_RUN_STATE_SUSPENDED] = "suspended",
	[FERRY_RUN_STATE_SHUTDOWN] = "shutdown",
	[FERRY_RUN_STATE_INTERNAL_ERROR] = "internal-error",
	[FERRY_RUN_STATE_IO_ERROR] = "io-error",
	[FERRY_RUN_STATE_DEBUG] = "debug",
	[FERRY_RUN_STATE_WATCHDOG] = "watchdog",
	[FERRY_RUN_STATE_GUEST_PANICKED] = "guest-panicked",
};
G_STATIC_ASSERT(G_N_ELEMENTS(run_states) == FERRY_RUN_STATE__N);

const char *ferry_run_state_name(FerryRunState state)
{
	g_return_val_if_fail((guint)state < FERRY_RUN_STATE__N, NULL);
	return run_states[state];
}

gboolean ferry_run_state_from_name(const char *name, FerryRunState *state)
{
	for (guint i = 0; i < FERRY_RUN_STATE__N; i++) {
		if (strcmp(name, run_states[i]) == 0) {
			*state = i;
			return TRUE;
		}
	}
	return FALSE;
}
