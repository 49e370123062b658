/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/channel.h>

/*
 * Ends what one thread waits for: at every SIGINT and SIGTERM, and at a deadline. It takes the two
 * signals for as long as it lives. All calls are for the thread that waits.
 */
typedef struct FerryCliStopper FerryCliStopper;

FerryCliStopper *ferry_cli_stopper_new(void);
/* NULL is allowed. No channel is watched any more. */
void ferry_cli_stopper_free(FerryCliStopper *stopper);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryCliStopper, ferry_cli_stopper_free)

/* Forgets that it stopped something, other than in ferry_cli_stopper_signals(), and shuts down
 * @channel (borrowed, or NULL) at the next occasion. */
void ferry_cli_stopper_watch(FerryCliStopper *stopper, FerryChannel *channel);

/* Stops once, so many seconds from now. The next watch() ends that. */
void ferry_cli_stopper_set_deadline(FerryCliStopper *stopper, guint seconds);
gboolean ferry_cli_stopper_expired(FerryCliStopper *stopper);

/* Signals that came so far. */
guint ferry_cli_stopper_signals(FerryCliStopper *stopper);

/* Cancelled when it stops. Its own. */
GCancellable *ferry_cli_stopper_cancellable(FerryCliStopper *stopper);
