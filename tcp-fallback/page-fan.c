/* SPDX-License-Identifier: BSD-2-Clause */
#include "page-fan.h"

#include <poll.h>

gboolean ferry_page_fan_start(FerryPageFan *fan, FerryChannel **channels, guint n,
			      const FerryPageFraming *framing, const FerryRam *ram, GError **error)
{
	gboolean ok = TRUE;

	for (guint i = 0; i < n; i++) {
		if (!ok) {
			ferry_channel_close(channels[i]);
			continue;
		}
		fan->senders[i] = ferry_page_sender_new(channels[i], i, framing, ram, fan->link,
							error);
		ok = fan->senders[i] != NULL;
	}
	if (!ok)
		ferry_page_fan_stop(fan);
	return ok;
}

void ferry_page_fan_stop(FerryPageFan *fan)
{
	for (guint i = 0; i < FERRY_STREAMS_MAX; i++)
		g_clear_pointer(&fan->senders[i], ferry_page_sender_free);
	g_clear_pointer(&fan->urgent, ferry_urgent_sender_free);
}

void ferry_page_fan_open(FerryPageFan *fan, guint n)
{
	__atomic_store_n(&fan->n, n, __ATOMIC_RELEASE);
}

/* NULL: all are full. Among equals it goes round. */
static FerryPageSender *roomiest(FerryPageFan *fan, guint64 *room)
{
	guint best = 0;

	*room = 0;
	for (guint i = 0; i < fan->n; i++) {
		guint at = (fan->next + i) % fan->n;
		guint64 has = ferry_page_sender_room(fan->senders[at]);

		if (has > *room) {
			*room = has;
			best = at;
		}
	}
	if (!*room)
		return NULL;
	fan->next = (best + 1) % fan->n;
	return fan->senders[best];
}

/* Cuts all of the rest into pieces and hands them to the streams. */
static FerryIo hand_out(FerryPageFan *fan)
{
	while (fan->rest.pages) {
		FerryRun piece = fan->rest;
		guint64 room;
		FerryPageSender *sender = roomiest(fan, &room);

		if (!sender)
			return FERRY_IO_AGAIN;
		piece.pages = MIN(MIN(piece.pages, room), FERRY_PAGE_SENDER_RUN);
		ferry_page_sender_push(sender, &piece);
		fan->rest.first += piece.pages;
		fan->rest.pages -= piece.pages;
	}
	return FERRY_IO_OK;
}

FerryIo ferry_page_fan_put(FerryPageFan *fan, const FerryRun *runs, size_t n, size_t *taken)
{
	*taken = 0;
	for (;;) {
		if (ferry_streams_link_is_dead(fan->link))
			return FERRY_IO_DEAD;
		/* A run is taken whole, as by the channel's carrier. The rest of the last one is no
		 * reason to say AGAIN. */
		if (hand_out(fan) != FERRY_IO_OK)
			return *taken == n ? FERRY_IO_OK : FERRY_IO_AGAIN;
		if (*taken == n)
			return FERRY_IO_OK;
		fan->rest = runs[(*taken)++];
		fan->clean = FALSE;
		__atomic_store_n(&fan->pages, fan->pages + fan->rest.pages, __ATOMIC_RELAXED);
	}
}

static gboolean all_written(FerryPageFan *fan)
{
	if (fan->urgent && !ferry_urgent_sender_is_empty(fan->urgent))
		return FALSE;
	for (guint i = 0; i < fan->n; i++)
		if (!ferry_page_sender_is_empty(fan->senders[i]))
			return FALSE;
	return TRUE;
}

static gboolean any_low(FerryPageFan *fan)
{
	for (guint i = 0; i < fan->n; i++)
		if (ferry_page_sender_is_low(fan->senders[i]))
			return TRUE;
	return FALSE;
}

FerryIo ferry_page_fan_progress(FerryPageFan *fan)
{
	if (ferry_streams_link_is_dead(fan->link))
		return FERRY_IO_DEAD;
	return hand_out(fan) == FERRY_IO_OK && all_written(fan) ? FERRY_IO_OK : FERRY_IO_AGAIN;
}

FerryIo ferry_page_fan_settle(FerryPageFan *fan, guint32 fence)
{
	if (ferry_streams_link_is_dead(fan->link))
		return FERRY_IO_DEAD;
	if (hand_out(fan) != FERRY_IO_OK)
		return FERRY_IO_AGAIN;
	if (!fan->clean || fence != fan->fence) {
		/* The others always have room for it. */
		if (fan->urgent && !ferry_urgent_sender_push_fence(fan->urgent, fence))
			return FERRY_IO_AGAIN;
		for (guint i = 0; i < fan->n; i++)
			ferry_page_sender_push_fence(fan->senders[i], fence);
		fan->fence = fence;
		fan->clean = TRUE;
	}
	return all_written(fan) ? FERRY_IO_OK : FERRY_IO_AGAIN;
}

static gboolean has_reason_to_wake(FerryPageFan *fan)
{
	return ferry_streams_link_is_dead(fan->link) ||
	       (fan->rest.pages ? any_low(fan) : all_written(fan)) ||
	       (fan->urgent && ferry_urgent_sender_has_room_again(fan->urgent));
}

void ferry_page_fan_wait(FerryPageFan *fan, gint64 timeout_us)
{
	struct pollfd fd = { .fd = fan->link->wake.fd, .events = POLLIN };
	struct timespec timeout = { timeout_us / G_USEC_PER_SEC,
				    timeout_us % G_USEC_PER_SEC * 1000 };

	ferry_wake_begin(&fan->link->wake);
	if (!has_reason_to_wake(fan))
		ppoll(&fd, 1, timeout_us < 0 ? NULL : &timeout, NULL);
	ferry_wake_end(&fan->link->wake);
}

void ferry_page_fan_get_stats(FerryPageFan *fan, FerryCarrierStats *stats)
{
	guint n = __atomic_load_n(&fan->n, __ATOMIC_ACQUIRE);

	*stats = (FerryCarrierStats){ .pages = __atomic_load_n(&fan->pages, __ATOMIC_RELAXED) };
	for (guint i = 0; i < n; i++)
		stats->bytes += ferry_page_sender_bytes(fan->senders[i]);
	if (n && fan->urgent) {
		stats->bytes += ferry_urgent_sender_bytes(fan->urgent);
		stats->pages += ferry_urgent_sender_pages(fan->urgent);
	}
}
