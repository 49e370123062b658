/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/status.h>
#include "state-table.h"

/*
 * What a migration tells whoever watches from outside: GLib's structured log (domain "ferry") and
 * the probes. docs/observability.md lists messages, fields and levels. A log writer is called with
 * the migration's lock held: like a notifier it must not call back, nor block.
 */

/* @side's migration changed its state. @uri and @reason (why it ended, is paused or in doubt) may
 * be NULL. */
void ferry_observe_state(FerrySide side, FerryState from, FerryState to, const char *uri,
			 const char *reason);

void ferry_observe_round_begin(const FerryRound *round);
void ferry_observe_round_end(const FerryRound *round);

/* A connection is there; or was not taken, which ends no migration. */
void ferry_observe_connected(FerrySide side, const char *uri);
void ferry_observe_refused(const char *uri, const char *reason);

/* A rehearsal came to its end on a destination's connection, or was cut. */
void ferry_observe_rehearsed(const char *uri);

/* The pages go by @transport, not as the URI asks. */
void ferry_observe_fallback(const char *uri, const char *transport, const char *reason);
