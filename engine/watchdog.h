/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/channel.h>

/* Shuts a channel down when its peer does not come to the point in time. */
typedef struct FerryWatchdog FerryWatchdog;

/* @channel is borrowed until free. */
FerryWatchdog *ferry_watchdog_start(FerryChannel *channel, gint64 timeout_us);
/* The peer came to the point; nothing will be shut down any more. Cheap, idempotent, any thread. */
void ferry_watchdog_calm(FerryWatchdog *watchdog);
void ferry_watchdog_free(FerryWatchdog *watchdog);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryWatchdog, ferry_watchdog_free)
