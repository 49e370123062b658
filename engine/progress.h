/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/carrier.h>
#include <ferry/status.h>
#include "page-push.h"

/*
 * The numbers of one migration at the source, and what is derived from them: bandwidth, dirty rate,
 * expected downtime. The migration thread writes, anybody reads; one lock inside. Times are
 * monotonic microseconds.
 */
typedef struct FerryProgress FerryProgress;

FerryProgress *ferry_progress_new(void);
void ferry_progress_free(FerryProgress *progress);

/* A new migration begins: everything is zero again. @downtime_limit_ms is what is expected at
 * first. */
void ferry_progress_begin(FerryProgress *progress, guint64 ram_bytes, gint64 downtime_limit_ms);
void ferry_progress_setup_done(FerryProgress *progress);
void ferry_progress_set_transport(FerryProgress *progress, const char *name);
/* Why the pages do not go by the fabric that the URI asked for. */
void ferry_progress_set_fallback(FerryProgress *progress, const char *reason);
/* From now on the status has what @carrier says of itself; with NULL, what it said last: before it
 * is closed. */
void ferry_progress_describe(FerryProgress *progress, FerryCarrier *carrier);

/* A round begins, with @dirty_pages to send that took @collect_us to collect, and @put_off_pages
 * that wait. */
void ferry_progress_round_begin(FerryProgress *progress, guint64 dirty_pages, guint64 put_off_pages,
				gint64 collect_us);
/* Pages left the round: as data or as zero, with @bytes on the wire. */
void ferry_progress_sent(FerryProgress *progress, guint64 normal, guint64 zero, guint64 bytes);
/* Pages of the round that went encoded, or not at all. */
typedef struct {
	guint64 pages;                   /* all of them */
	guint64 unchanged;               /* of these, pages that did not go */
	const FerryXbzrleStatus *xbzrle; /* so far */
	const FerryCompressionStatus *compression;
} FerryProgressEncoded;
void ferry_progress_encoded(FerryProgress *progress, const FerryProgressEncoded *encoded);
/* The destination has all of the round; @bookkeeping_us as in FerryRound. */
void ferry_progress_round_end(FerryProgress *progress, gint64 bookkeeping_us);
/* What bandwidth-group lets it send, bytes a second or 0 for no limit, and to how many members; 0
 * members: it is in none, any more. */
void ferry_progress_group(FerryProgress *progress, guint64 rate, guint members);
/* What multifd's channels have carried, and the zero copies that the kernel made after all. */
void ferry_progress_multifd(FerryProgress *progress, guint64 bytes, guint64 copied);
/* Bytes of the control stream. */
void ferry_progress_control(FerryProgress *progress, guint64 bytes);

/* A collect found that @dirtied pages were written since the last, and @pending are to send in all:
 * stopped now, the guest would stand still for @expected_us. */
void ferry_progress_collected(FerryProgress *progress, guint64 dirtied, guint64 pending,
			      double expected_us);
/* It is about to be stopped, and is taken to stand still for so long. */
void ferry_progress_predicted(FerryProgress *progress, double predicted_us);

/* The guest is switched over, with @missing pages to come by @mode (static). */
void ferry_progress_switched(FerryProgress *progress, const char *mode, guint64 missing);
/* It is paused; and then goes on, with what is missing by now. */
void ferry_progress_paused(FerryProgress *progress);
void ferry_progress_recovered(FerryProgress *progress, const char *mode, guint64 missing);
/* What became of them so far, where the source sends them. */
void ferry_progress_pushed(FerryProgress *progress, const FerryPushCounts *counts);
/* The destination has fetched them all; until it says so nothing is known of them here. */
void ferry_progress_fetched(FerryProgress *progress);

void ferry_progress_stopped(FerryProgress *progress); /* the guest stands still from now on */
void ferry_progress_resumed(
	FerryProgress *progress); /* it runs again, here or there: the downtime ends */
void ferry_progress_verified(FerryProgress *progress, FerryVerified verified);
void ferry_progress_destination_cpu(FerryProgress *progress, double user, double system);
void ferry_progress_end(FerryProgress *progress); /* the total time ends */

/* Fills all of @status but state, error and dirty source. */
void ferry_progress_fill(FerryProgress *progress, FerryMigrationStatus *status);
