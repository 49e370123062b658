/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "page-sender.h"
#include "streams-messages.h"
#include "urgent-sender.h"

/*
 * The connections of a source, and how the engine's thread hands pages out to them: each piece goes
 * where there is most room. A carrier beside the channel embeds it; what it says to its peer before
 * is its own.
 */
typedef struct {
	FerryStreamsLink *link;                      /* borrowed */
	FerryPageSender *senders[FERRY_STREAMS_MAX]; /* owned */
	FerryUrgentSender *urgent;                   /* owned; NULL: none */
	guint n; /* atomic, set behind the senders: 0 until all are connected */

	/* the engine's thread's */
	FerryRun rest;  /* of the last run taken, in no ring yet; pages 0: nothing */
	guint next;     /* the sender to begin with, where several have as much room */
	guint32 fence;  /* the last that went out; 0: none */
	gboolean clean; /* nothing was put after it */

	guint64 pages; /* taken; stored by the engine's thread, loaded by any: relaxed */
} FerryPageFan;

/* Gives each of @n channels to a sender that frames as @framing says: all or none, and takes the
 * channels in any case. */
gboolean ferry_page_fan_start(FerryPageFan *fan, FerryChannel **channels, guint n,
			      const FerryPageFraming *framing, const FerryRam *ram, GError **error);
/* Ends all threads. */
void ferry_page_fan_stop(FerryPageFan *fan);
/* All is connected: from here on it tells its numbers. */
void ferry_page_fan_open(FerryPageFan *fan, guint n);

/* What the ops of FerryCarrierOps promise; the engine's thread. */
FerryIo ferry_page_fan_put(FerryPageFan *fan, const FerryRun *runs, size_t n, size_t *taken);
FerryIo ferry_page_fan_progress(FerryPageFan *fan);
FerryIo ferry_page_fan_settle(FerryPageFan *fan, guint32 fence);
void ferry_page_fan_wait(FerryPageFan *fan, gint64 timeout_us);

/* Any thread. */
void ferry_page_fan_get_stats(FerryPageFan *fan, FerryCarrierStats *stats);
