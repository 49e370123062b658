/* SPDX-License-Identifier: BSD-2-Clause */
#include "round.h"

#include "probes.h"
#include "zero.h"

/* A dirty run is walked in pieces of this many pages: 4 MiB. */
#define RUN_PAGES 1024u
/* So many runs are found before they are sent. */
#define RUNS 64u
/* How long a wait may last before cancel is looked at again. */
#define WAIT_US (20 * G_TIME_SPAN_MILLISECOND)
/* A destination that takes nothing for so long is hung: its kernel may keep the connection alive
 * for ever. */
#define STALL_US (60 * G_TIME_SPAN_SECOND)

gboolean ferry_round_is_over(const FerryRoundSender *sender, GError **error)
{
	if (g_atomic_int_get(sender->cancel)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED, "cancelled");
		return TRUE;
	}
	return sender->path && ferry_return_path_is_lost(sender->path) &&
	       ferry_return_path_failed(sender->path, error);
}

static gboolean carrier_dead(const FerryRoundSender *sender, FerryCarrier *carrier, GError **error)
{
	GError *cause = carrier->ops->take_error(carrier);

	*sender->carrier_died = TRUE;
	if (!cause)
		cause = g_error_new(FERRY_ERROR, FERRY_ERROR_LINK, "the page carrier is dead");
	g_propagate_error(error, cause);
	return FALSE;
}

/* Lets both carriers move what they can; *@all whether that is everything. */
static gboolean progress(const FerryRoundSender *sender, gboolean *all, GError **error)
{
	FerryCarrier *const carriers[] = { sender->carrier, sender->zeros };
	guint n = sender->zeros == sender->carrier ? 1 : 2;

	*all = TRUE;
	for (guint i = 0; i < n; i++) {
		FerryIo io = carriers[i]->ops->progress(carriers[i]);

		if (io == FERRY_IO_DEAD)
			return carrier_dead(sender, carriers[i], error);
		*all = *all && io == FERRY_IO_OK;
	}
	return TRUE;
}

/* Sleeps until @carrier can do something, and lets it; @since is when the waiting began. */
static gboolean wait_for_room(const FerryRoundSender *sender, FerryCarrier *carrier, gint64 since,
			      GError **error)
{
	gboolean all;

	if (ferry_round_is_over(sender, error))
		return FALSE;
	if (g_get_monotonic_time() - since > STALL_US) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "the destination took nothing for %d s: is it hung or stopped?",
			    (int)(STALL_US / G_TIME_SPAN_SECOND));
		return FALSE;
	}
	carrier->ops->wait(carrier, WAIT_US);
	return progress(sender, &all, error);
}

/* Counts pages that were taken, and the bytes that left since the last time: a carrier queues. */
static void account(const FerryRoundSender *sender, guint64 normal, guint64 zero)
{
	FerryCarrierStats stats = { 0 }, zeros = { 0 };
	guint64 bytes;

	sender->carrier->ops->get_stats(sender->carrier, &stats);
	if (sender->zeros != sender->carrier)
		sender->zeros->ops->get_stats(sender->zeros, &zeros);
	bytes = stats.bytes + zeros.bytes;
	if (stats.multifd_bytes)
		ferry_progress_multifd(sender->progress, stats.multifd_bytes,
				       stats.zero_copy_copied);
	ferry_progress_sent(sender->progress, normal, zero, bytes - *sender->accounted);
	if (sender->settings)
		ferry_pace_left(sender->pace, bytes - *sender->accounted, FALSE);
	*sender->accounted = bytes;
}

static gboolean is_left(const FerryRoundSender *sender)
{
	return (sender->leave && g_atomic_int_get(sender->leave)) ||
	       (sender->leave_us && g_get_monotonic_time() >= sender->leave_us);
}

/* Puts one run, waiting for room as long as it takes; *@done counts its pages once they are taken.
 * They are not where the round is left. */
static gboolean put(const FerryRoundSender *sender, const FerryRun *run, gboolean zero,
		    guint64 *done, GError **error)
{
	FerryCarrier *carrier = zero ? sender->zeros : sender->carrier;
	gint64 since = g_get_monotonic_time();
	size_t taken = 0;

	for (;;) {
		FerryIo io = (zero ? carrier->ops->put_zero : carrier->ops->put)(carrier, run, 1,
										 &taken);

		if (io == FERRY_IO_DEAD)
			return carrier_dead(sender, carrier, error);
		if (taken)
			break;
		if (is_left(sender))
			return TRUE;
		if (!wait_for_room(sender, carrier, since, error))
			return FALSE;
	}
	*done += run->pages;
	ferry_pace_put(sender->pace, run->pages, zero);
	account(sender, zero ? 0 : run->pages, zero ? run->pages : 0);
	return TRUE;
}

gboolean ferry_round_put(const FerryRoundSender *sender, const FerryRun *run, gboolean zero,
			 GError **error)
{
	guint64 done = 0;

	return put(sender, run, zero, &done, error);
}

gboolean ferry_round_put_encoded(const FerryRoundSender *sender, const FerryEncodedPage *encoded,
				 GError **error)
{
	FerryCarrier *carrier = sender->carrier;
	gint64 since = g_get_monotonic_time();

	for (;;) {
		FerryIo io = carrier->ops->put_encoded(carrier, encoded->block, encoded->page,
						       encoded->form, encoded->data, encoded->len);

		if (io == FERRY_IO_DEAD)
			return carrier_dead(sender, carrier, error);
		if (io == FERRY_IO_OK)
			break;
		if (!wait_for_room(sender, carrier, since, error))
			return FALSE;
	}
	ferry_pace_put(sender->pace, 1, FALSE);
	return TRUE;
}

void ferry_round_count(const FerryRoundSender *sender, guint64 pages)
{
	account(sender, pages, 0);
}

gboolean ferry_round_progress(const FerryRoundSender *sender, gboolean *all, GError **error)
{
	if (ferry_round_is_over(sender, error) || !progress(sender, all, error))
		return FALSE;
	account(sender, 0, 0);
	return TRUE;
}

gboolean ferry_round_wait(const FerryRoundSender *sender, gint64 since, GError **error)
{
	return wait_for_room(sender, sender->carrier, since, error);
}

/* The limit as it is now: one that changes in mid-round acts at once. */
static void follow_limit(const FerryRoundSender *sender)
{
	guint64 limit = 0;

	if (sender->settings)
		limit = ferry_settings_get_parameter(sender->settings,
						     FERRY_PARAMETER_MAX_BANDWIDTH);
	if (sender->settings && sender->group) {
		limit = ferry_bandwidth_group_rate(
			sender->group, g_get_monotonic_time(), limit,
			ferry_settings_get_parameter(sender->settings,
						     FERRY_PARAMETER_GROUP_BANDWIDTH));
		ferry_progress_group(sender->progress, limit,
				     ferry_bandwidth_group_members(sender->group));
	}
	ferry_token_bucket_set_rate(&sender->pace->bucket, limit);
}

/* The rate allows nothing now. What was put must not sit here meanwhile, and what it came to on the
 * wire is then known. */
static gboolean hold_back(const FerryRoundSender *sender, GError **error)
{
	gint64 begin = g_get_monotonic_time(), delay;
	gboolean all;

	if (ferry_round_is_over(sender, error) || !progress(sender, &all, error))
		return FALSE;
	account(sender, 0, 0);
	if (all && sender->settings)
		ferry_pace_left(sender->pace, 0, TRUE);
	delay = ferry_pace_delay_us(sender->pace, g_get_monotonic_time());
	if (delay)
		g_usleep(MIN(delay, WAIT_US));
	ferry_pace_held(sender->pace, g_get_monotonic_time() - begin);
	return TRUE;
}

/* Makes *@pages no more than the rate allows now; waits until it is at least one. Zero pages are
 * allowed all at once, when anything is. 0: the round is left. */
static gboolean allow_pages(const FerryRoundSender *sender, guint64 *pages, gboolean zero,
			    GError **error)
{
	guint64 bytes = zero ? 0 : *pages << FERRY_PAGE_SHIFT, got = 0;

	while (!got) {
		if (is_left(sender)) {
			*pages = 0;
			return TRUE;
		}
		follow_limit(sender);
		got = ferry_pace_allow(sender->pace, g_get_monotonic_time(), bytes);
		if (!got && !hold_back(sender, error))
			return FALSE;
	}
	if (!zero)
		*pages = got >> FERRY_PAGE_SHIFT;
	return TRUE;
}

static gboolean put_zero(const FerryRoundSender *sender, FerryRun run, guint64 *done,
			 GError **error)
{
	if (!allow_pages(sender, &run.pages, TRUE, error))
		return FALSE;
	if (sender->encoder && run.pages)
		ferry_page_encoder_zero(sender->encoder, &run);
	return !run.pages || put(sender, &run, TRUE, done, error);
}

static gboolean encode(const FerryRoundSender *sender, const FerryRun *run, guint64 *done,
		       GError **error)
{
	if (!ferry_round_encode(sender, run, error))
		return FALSE;
	*done += run->pages;
	return TRUE;
}

static gboolean put_data(const FerryRoundSender *sender, FerryRun run, guint64 *done,
			 GError **error)
{
	for (guint64 left = run.pages; left; left -= run.pages) {
		run.pages = left;
		if (!allow_pages(sender, &run.pages, FALSE, error))
			return FALSE;
		if (!run.pages)
			return TRUE;
		if (!(sender->encoder ? encode(sender, &run, done, error)
				      : put(sender, &run, FALSE, done, error)))
			return FALSE;
		run.first += run.pages;
	}
	return TRUE;
}

/* Sends a dirty run as the alternating stretches of zero and data that it consists of. *@done is
 * how many of its pages went: all, but where the round is left. */
static gboolean send_run(const FerryRoundSender *sender, const FerryRun *run, guint64 *done,
			 GError **error)
{
	FerryRun part = *run;
	guint64 end = run->first + run->pages;

	*done = 0;
	for (; part.first < end; part.first = run->first + *done) {
		gboolean zero = FALSE;

		if (is_left(sender))
			return TRUE;
		part.pages = end - part.first;
		if (sender->holes)
			part.pages = ferry_holes_split(sender->holes, part.block, part.first,
						       part.pages, &zero);
		if (!zero)
			part.pages = ferry_zero_split(ferry_run_host(sender->ram, &part),
						      part.pages, &zero);
		if (zero ? !put_zero(sender, part, done, error)
			 : !put_data(sender, part, done, error))
			return FALSE;
	}
	return TRUE;
}

/* The next runs behind *@at, at most @n; returns how many. So many at once, that the clock is not
 * read for each. */
static guint find_runs(const FerryRoundSender *sender, const FerryBitmap *pending, FerryRun *at,
		       FerryRun *runs, guint n)
{
	gint64 begin = g_get_monotonic_time();
	guint found = 0;

	while (found < n && ferry_bitmap_next_run(pending, at, RUN_PAGES))
		runs[found++] = *at;
	*sender->bookkeeping_us += g_get_monotonic_time() - begin;
	return found;
}

/* Sends the runs, and clears what went. *@left: whether the round was left before all of it did. */
static gboolean send_runs(const FerryRoundSender *sender, FerryBitmap *pending,
			  const FerryRun *runs, guint n, gboolean *left, GError **error)
{
	for (guint i = 0; i < n && !*left; i++) {
		FerryRun gone = runs[i];

		if (ferry_round_is_over(sender, error) ||
		    !send_run(sender, &runs[i], &gone.pages, error))
			return FALSE;
		ferry_bitmap_clear_run(pending, &gone);
		*left = gone.pages < runs[i].pages;
	}
	return TRUE;
}

gboolean ferry_round_send(const FerryRoundSender *sender, FerryBitmap *pending, GError **error)
{
	FerryRun at = { 0 }, runs[RUNS];
	gboolean left = FALSE;
	guint n;

	ferry_pace_begin(sender->pace, ferry_bitmap_count(pending));
	while (!left && (n = find_runs(sender, pending, &at, runs, G_N_ELEMENTS(runs))))
		if (!send_runs(sender, pending, runs, n, &left, error))
			return FALSE;
	return TRUE;
}

static gboolean settle(const FerryRoundSender *sender, FerryCarrier *carrier, guint32 fence,
		       GError **error)
{
	gint64 since = g_get_monotonic_time();

	for (;;) {
		FerryIo io = carrier->ops->settle(carrier, fence);

		account(sender, 0, 0);
		if (io == FERRY_IO_OK)
			return TRUE;
		if (io == FERRY_IO_DEAD)
			return carrier_dead(sender, carrier, error);
		if (!wait_for_room(sender, carrier, since, error))
			return FALSE;
	}
}

gboolean ferry_round_settle(const FerryRoundSender *sender, guint32 fence, GError **error)
{
	gboolean ok = !sender->encoder || ferry_round_flush(sender, error);

	ferry_probe_settle_begin(fence);
	ok = ok && settle(sender, sender->carrier, fence, error) &&
	     (sender->zeros == sender->carrier || settle(sender, sender->zeros, fence, error));
	ferry_probe_settle_end(fence, ok);
	return ok;
}
