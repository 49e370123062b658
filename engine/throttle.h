/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/status.h>
#include "vm-private.h"

/*
 * Slows a guest down that precopy does not catch up with: all of it step by step (auto-converge),
 * or those of its vCPUs that dirty too much (dirty-limit), which a thread of its own measures. One
 * object for each source. Functions are the migration thread's, except where they say otherwise.
 */
typedef struct FerryThrottle FerryThrottle;

FerryThrottle *ferry_throttle_new(FerryVm *vm); /* any thread; @vm is borrowed */
/* At full speed, by ferry_throttle_end(). Any thread. */
void ferry_throttle_free(FerryThrottle *throttle);

/* FERRY_ERROR_INVALID where a capability is on that the embedder has no callback for. Any
 * thread. */
gboolean ferry_throttle_check(FerryVm *vm, GError **error);

/* A migration begins. */
void ferry_throttle_begin(FerryThrottle *throttle);

/* A collect of it: of the pages that were to go after the one before, @kept have not gone; @pending
 * are to go now. Judges, and slows the guest down. A page that is kept is not counted again when it
 * is dirtied again: nothing more has to go for it. */
void ferry_throttle_collected(FerryThrottle *throttle, guint64 kept, guint64 pending);

/* Full speed, when it returns, and nothing is judged before the next begin. */
void ferry_throttle_end(FerryThrottle *throttle);

/* The members of @status about it. Any thread. */
void ferry_throttle_fill(FerryThrottle *throttle, FerryMigrationStatus *status);
