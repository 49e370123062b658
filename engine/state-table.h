/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/state.h>
#include <string.h>

typedef enum {
	FERRY_SIDE_SOURCE,
	FERRY_SIDE_DESTINATION,
} FerrySide;

/* Whether the one table of states allows the change. */
gboolean ferry_state_allows(FerrySide side, FerryState from, FerryState to);

/* Whether the guest may run at the source in @state. */
gboolean ferry_state_guest_may_run(FerryState state);

/* Whether a migration is under way or in doubt, so that a new one must wait. */
gboolean ferry_state_is_busy(FerryState state);
