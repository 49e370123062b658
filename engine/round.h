/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/carrier.h>
#include <ferry/settings.h>
#include "bandwidth-group.h"
#include "bitmap.h"
#include "holes.h"
#include "pace.h"
#include "page-encoder.h"
#include "progress.h"
#include "return-path.h"

/* What sending pages needs; all borrowed, all the migration thread's, but for @cancel (atomic). */
typedef struct {
	const FerryRam *ram;
	FerryCarrier *carrier;     /* of pages with content */
	FerryCarrier *zeros;       /* of zero pages; often the same */
	FerryHoles *holes;         /* non-NULL in the first round only: later pages were touched */
	FerryPageEncoder *encoder; /* of pages with content; NULL: they go as they are */
	FerryPace *pace;
	/* whose max-bandwidth holds, also while it changes; NULL: the pace is somebody else's */
	FerrySettings *settings;
	FerryBandwidthGroup *group; /* with whom it is shared; NULL: with nobody */
	FerryProgress *progress;
	const gint *cancel;
	/* somebody wants the round left in the middle: then it ends without an error, and what did
	 * not go is still pending; atomic; NULL: nobody ever */
	const gint *leave;
	/* the same at a time, monotonic us; 0: at none */
	gint64 leave_us;
	FerryReturnPath *path;  /* whose end ends the round; NULL: nobody answers */
	gboolean *carrier_died; /* set when the round fails for a carrier's own reason */
	guint64 *accounted;     /* the carriers' bytes that @progress knows of */
	gint64 *bookkeeping_us; /* what finding the runs takes is added to it */
} FerryRoundSender;

/*
 * Puts every page of @pending to the carrier, in block order, zero pages as zero, at the pace's
 * rate, and clears their bits; does not settle. Fails with the carrier's error, with the return
 * path's, or FERRY_ERROR_CANCELLED.
 */
gboolean ferry_round_send(const FerryRoundSender *sender, FerryBitmap *pending, GError **error);

/* Whether there is nothing to be gained by going on, with the reason: it is cancelled, or nobody is
 * there any more, while pages that go beside the channel would go on going. */
gboolean ferry_round_is_over(const FerryRoundSender *sender, GError **error);

/* Puts one run, whatever the rate, and waits for room as long as it takes. */
gboolean ferry_round_put(const FerryRoundSender *sender, const FerryRun *run, gboolean zero,
			 GError **error);

/* Puts one page as it was encoded, and waits for room as long as it takes; counts nothing. */
gboolean ferry_round_put_encoded(const FerryRoundSender *sender, const FerryEncodedPage *encoded,
				 GError **error);

/* With an encoder, round-encoded.c: puts a run of pages with content, some perhaps later; and puts
 * and counts what is late, before the round is settled. */
gboolean ferry_round_encode(const FerryRoundSender *sender, const FerryRun *run, GError **error);
gboolean ferry_round_flush(const FerryRoundSender *sender, GError **error);

/* Counts @pages that went as data beside the sender, and all bytes that left. */
void ferry_round_count(const FerryRoundSender *sender, guint64 pages);

/* Lets the carriers move what they can, and counts what left; *@all whether that is everything that
 * was put. Fails as ferry_round_send(). */
gboolean ferry_round_progress(const FerryRoundSender *sender, gboolean *all, GError **error);
/* Where not: waits until they can move more, at most 20 ms; @since is when it began. Fails also
 * where the destination has taken nothing for a minute. */
gboolean ferry_round_wait(const FerryRoundSender *sender, gint64 since, GError **error);

/* Waits until the fence @fence is on its way behind every page put so far. */
gboolean ferry_round_settle(const FerryRoundSender *sender, guint32 fence, GError **error);
