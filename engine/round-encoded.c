/* SPDX-License-Identifier: BSD-2-Clause */
#include "round.h"

/* How long a wait for a thread may last before cancel is looked at again. */
#define WAIT_US (20 * G_TIME_SPAN_MILLISECOND)

/* What became of some pages, to be told at once. */
typedef struct {
	guint64 whole;     /* pages */
	guint64 encoded;   /* pages, and those that were unchanged */
	guint64 unchanged; /* pages */
} Outcome;

static void tell(const FerryRoundSender *sender, const Outcome *outcome)
{
	const FerryProgressEncoded encoded = {
		.pages = outcome->encoded,
		.unchanged = outcome->unchanged,
		.xbzrle = ferry_page_encoder_xbzrle(sender->encoder),
		.compression = ferry_page_encoder_compression(sender->encoder),
	};

	ferry_progress_encoded(sender->progress, &encoded);
	ferry_round_count(sender, outcome->whole);
}

static gboolean put_encoded(const FerryRoundSender *sender, const FerryEncodedPage *encoded,
			    Outcome *outcome, GError **error)
{
	if (!ferry_round_put_encoded(sender, encoded, error))
		return FALSE;
	if (encoded->form == FERRY_PAGE_FORM_PLAIN)
		outcome->whole++;
	else
		outcome->encoded++;
	return TRUE;
}

/* Puts what the threads have finished; @wait: waits for the first, for a while. */
static gboolean put_finished(const FerryRoundSender *sender, gboolean wait, Outcome *outcome,
			     GError **error)
{
	FerryEncodedPage encoded;

	if (wait && ferry_round_is_over(sender, error))
		return FALSE;
	while (ferry_page_encoder_finished(sender->encoder, wait ? WAIT_US : 0, &encoded)) {
		if (!put_encoded(sender, &encoded, outcome, error))
			return FALSE;
		wait = FALSE;
	}
	return TRUE;
}

/* Puts the pages that go as they are, if there are any; also where the round is being left: what
 * was offered goes. */
static gboolean put_as_is(const FerryRoundSender *sender, FerryRun *run, GError **error)
{
	FerryRoundSender patient = *sender;
	gboolean ok;

	patient.leave = NULL;
	ok = !run->pages || ferry_round_put(&patient, run, FALSE, error);

	run->pages = 0;
	return ok;
}

static gboolean encode_page(const FerryRoundSender *sender, guint32 block, guint64 page,
			    FerryRun *as_is, Outcome *outcome, GError **error)
{
	FerryEncodedPage encoded;
	FerryEncoding encoding;

	for (;;) {
		encoding = ferry_page_encoder_offer(sender->encoder, block, page, &encoded);
		if (encoding != FERRY_ENCODE_WAIT)
			break;
		if (!put_finished(sender, TRUE, outcome, error))
			return FALSE;
	}
	switch (encoding) {
	case FERRY_ENCODE_AS_IS:
		if (as_is->pages && as_is->first + as_is->pages != page &&
		    !put_as_is(sender, as_is, error))
			return FALSE;
		if (!as_is->pages)
			*as_is = (FerryRun){ block, page, 0 };
		as_is->pages++;
		return TRUE;
	case FERRY_ENCODE_UNCHANGED:
		outcome->encoded++;
		outcome->unchanged++;
		ferry_pace_put(sender->pace, 1, FALSE);
		return TRUE;
	case FERRY_ENCODE_NOW:
		return put_encoded(sender, &encoded, outcome, error);
	default:
		return put_finished(sender, FALSE, outcome, error);
	}
}

gboolean ferry_round_encode(const FerryRoundSender *sender, const FerryRun *run, GError **error)
{
	FerryRun as_is = { .block = run->block };
	Outcome outcome = { 0 };
	gboolean ok = TRUE;

	for (guint64 i = 0; ok && i < run->pages; i++)
		ok = encode_page(sender, run->block, run->first + i, &as_is, &outcome, error);
	ok = ok && put_as_is(sender, &as_is, error);
	tell(sender, &outcome);
	return ok;
}

gboolean ferry_round_flush(const FerryRoundSender *sender, GError **error)
{
	Outcome outcome = { 0 };
	gboolean ok = TRUE;

	while (ok && ferry_page_encoder_is_busy(sender->encoder))
		ok = put_finished(sender, TRUE, &outcome, error);
	tell(sender, &outcome);
	return ok;
}
