/* SPDX-License-Identifier: BSD-2-Clause */
#include "page-push.h"

#include "page-cursor.h"

struct FerryPagePush {
	FerryPageRequests *requests;
	FerryCarrier *carrier;

	GMutex lock; /* guards the rest, and calls urgent() */
	GCond asked;
	FerryPageCursor cursor;
	FerryRun waiting; /* of a request, what could not be sent yet; or no pages */
	gboolean dead;
	guint64 seen; /* requests that a sleeper knows of */
	FerryPushCounts counts;
};

FerryPagePush *ferry_page_push_new(const FerryRam *ram, FerryBitmap *missing,
				   FerryPageRequests *requests, FerryCarrier *carrier)
{
	FerryPagePush *push = g_new0(FerryPagePush, 1);

	push->requests = requests;
	push->carrier = carrier;
	g_mutex_init(&push->lock);
	g_cond_init(&push->asked);
	ferry_page_cursor_init(&push->cursor, ram, missing);
	push->counts.missing = ferry_bitmap_count(missing);
	return push;
}

void ferry_page_push_restart(FerryPagePush *push, FerryCarrier *carrier)
{
	g_mutex_lock(&push->lock);
	push->carrier = carrier;
	push->dead = FALSE;
	push->waiting.pages = 0;
	ferry_page_cursor_init(&push->cursor, push->cursor.ram, push->cursor.missing);
	push->counts.missing = ferry_bitmap_count(push->cursor.missing);
	g_mutex_unlock(&push->lock);
}

void ferry_page_push_free(FerryPagePush *push)
{
	if (!push)
		return;
	g_cond_clear(&push->asked);
	g_mutex_clear(&push->lock);
	g_free(push);
}

/* Claims what the guest waits for, if any of it was not sent yet. The lock is held. */
static gboolean claim_request(FerryPagePush *push, FerryRun *run)
{
	for (;;) {
		if (push->waiting.pages &&
		    ferry_page_cursor_claim(&push->cursor, &push->waiting, FERRY_FETCH_MAX, run)) {
			push->counts.missing -= run->pages;
			push->counts.urgent += run->pages;
			return TRUE;
		}
		if (!ferry_page_requests_take(push->requests, FERRY_FETCH_MAX, &push->waiting))
			break;
		ferry_page_cursor_jump(&push->cursor, &push->waiting);
	}
	push->waiting.pages = 0;
	return FALSE;
}

/* FALSE: there was no room for it. The lock is held. */
static gboolean send_urgent(FerryPagePush *push, const FerryRun *run)
{
	FerryIo io = push->carrier->ops->urgent(push->carrier, run);

	if (io == FERRY_IO_OK) {
		push->counts.lane += run->pages;
		return TRUE;
	}
	push->dead |= io == FERRY_IO_DEAD;
	ferry_page_cursor_return(&push->cursor, run);
	push->counts.missing += run->pages;
	push->counts.urgent -= run->pages;
	return FALSE;
}

gboolean ferry_page_push_serve(FerryPagePush *push)
{
	gboolean alive;
	FerryRun run;

	g_mutex_lock(&push->lock);
	while (push->carrier->ops->urgent && !push->dead && claim_request(push, &run))
		if (!send_urgent(push, &run))
			break;
	alive = !push->dead;
	g_cond_signal(&push->asked);
	g_mutex_unlock(&push->lock);
	return alive;
}

FerryPushStep ferry_page_push_next(FerryPagePush *push, gboolean background, FerryRun *run)
{
	FerryPushStep step;

	g_mutex_lock(&push->lock);
	if (!push->carrier->ops->urgent && claim_request(push, run)) {
		step = FERRY_PUSH_URGENT;
	} else if (!push->counts.missing) {
		step = FERRY_PUSH_DONE;
	} else if (background && ferry_page_cursor_next(&push->cursor, FERRY_FETCH_MAX, run)) {
		step = FERRY_PUSH_BACKGROUND;
		push->counts.missing -= run->pages;
		push->counts.background += run->pages;
	} else {
		step = FERRY_PUSH_WAIT;
	}
	g_mutex_unlock(&push->lock);
	return step;
}

void ferry_page_push_sleep(FerryPagePush *push, gint64 timeout_us)
{
	gint64 deadline = g_get_monotonic_time() + timeout_us;
	guint64 requests;

	g_mutex_lock(&push->lock);
	while ((requests = ferry_page_requests_count(push->requests)) == push->seen &&
	       g_cond_wait_until(&push->asked, &push->lock, deadline))
		;
	push->seen = requests;
	g_mutex_unlock(&push->lock);
}

void ferry_page_push_get_counts(FerryPagePush *push, FerryPushCounts *counts)
{
	g_mutex_lock(&push->lock);
	*counts = push->counts;
	g_mutex_unlock(&push->lock);
	counts->requests = ferry_page_requests_count(push->requests);
}
