/* SPDX-License-Identifier: BSD-2-Clause */
#include "page-gather.h"

#include "fd-util.h"

/* A source that sends nothing for so long while a fence is awaited is hung. */
#define SILENCE_US (60 * G_TIME_SPAN_SECOND)
/* How often that is looked at. */
#define LOOK_US G_TIME_SPAN_SECOND

void ferry_page_gather_init(FerryPageGather *gather, const char *what,
			    const FerryFabricSession *session)
{
	gather->what = what;
	gather->session = session;
	gather->stop = g_cancellable_new();
	ferry_streams_link_init(&gather->gate.link);
	g_cond_init(&gather->gate.changed);
	gather->gate.died = session->died;
	gather->gate.user = session->user;
}

gboolean ferry_page_gather_begin(FerryPageGather *gather, guint n, GThreadFunc accept,
				 gpointer user, GError **error)
{
	gather->expected = n;
	gather->accepting = ferry_streams_thread("ferry-accept", accept, user, error);
	return gather->accepting != NULL;
}

gboolean ferry_page_gather_start(FerryPageGather *gather, FerryPageReceiver **receivers,
				 FerryChannel **channels, GError **error)
{
	gboolean ok = TRUE;
	guint n = 0;

	for (guint i = 0; i < gather->expected; i++) {
		if (ok &&
		    ferry_page_receiver_start(receivers[i], channels[i], i, &gather->gate, error)) {
			gather->receivers[n++] = receivers[i];
			continue;
		}
		ok = FALSE;
		receivers[i]->channel = channels[i];
		ferry_page_receiver_free(receivers[i]);
	}
	__atomic_store_n(&gather->n, n, __ATOMIC_SEQ_CST);
	ferry_wake_signal(&gather->gate.link.wake);
	return ok;
}

/* How many streams stand at @fence. -1 with @error: one stands elsewhere. With the lock held. */
static int standing(FerryPageGather *gather, guint32 fence, GError **error)
{
	guint n = __atomic_load_n(&gather->n, __ATOMIC_SEQ_CST);
	int at = 0;

	for (guint i = 0; i < n; i++) {
		guint32 there = gather->receivers[i]->fence;

		/* The last fence: its thread has not woken yet. */
		if (!there || there == gather->gate.released)
			continue;
		if (there != fence) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
				    "%s: brought fence %u where %u was awaited",
				    gather->receivers[i]->name, there, fence);
			return -1;
		}
		at++;
	}
	return at;
}

/* TRUE: the engine may go on, and so may the streams. FALSE without @error: not yet. */
static gboolean pass(FerryPageGather *gather, guint32 fence, GError **error)
{
	FerryPageGate *gate = &gather->gate;
	gboolean all;

	g_mutex_lock(&gate->link.lock);
	all = gather->expected && standing(gather, fence, error) == (int)gather->expected;
	if (all) {
		gate->released = fence;
		g_cond_broadcast(&gate->changed);
	}
	g_mutex_unlock(&gate->link.lock);
	return all;
}

static void add_up(FerryPageGather *gather, guint64 *bytes, guint64 *pages)
{
	guint n = __atomic_load_n(&gather->n, __ATOMIC_SEQ_CST);

	*bytes = *pages = 0;
	for (guint i = 0; i < n; i++) {
		*bytes += ferry_page_receiver_bytes(gather->receivers[i]);
		*pages += ferry_page_receiver_pages(gather->receivers[i]);
	}
}

/* Follows the bytes that came. FALSE: none came for too long. */
static gboolean comes(FerryPageGather *gather, guint32 fence, guint64 *before, gint64 *since,
		      GError **error)
{
	gint64 now = g_get_monotonic_time();
	guint64 bytes, pages;

	add_up(gather, &bytes, &pages);
	if (bytes != *before)
		*since = now;
	*before = bytes;
	if (now - *since <= SILENCE_US)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
		    "%s: nothing came for %d s, and fence %u is missing: is the source hung or "
		    "stopped?",
		    gather->what, (int)(SILENCE_US / G_TIME_SPAN_SECOND), fence);
	return FALSE;
}

gboolean ferry_page_gather_await(FerryPageGather *gather, guint32 fence, GError **error)
{
	FerryStreamsLink *link = &gather->gate.link;
	gint64 since = g_get_monotonic_time();
	GError *cause = NULL;
	guint64 before = 0;

	for (;;) {
		struct pollfd fds[2] = { { .fd = link->wake.fd, .events = POLLIN } };
		gboolean passed;

		ferry_wake_begin(&link->wake);
		passed = pass(gather, fence, &cause);
		if (!passed && !cause && ferry_streams_link_is_dead(link))
			ferry_streams_link_why(link, &cause);
		if (!passed && !cause && comes(gather, fence, &before, &since, &cause))
			ferry_fd_poll(fds, 1, g_get_monotonic_time() + LOOK_US,
				      gather->session->cancellable, gather->what, &cause);
		ferry_wake_end(&link->wake);
		if (passed)
			return TRUE;
		if (cause) {
			g_propagate_error(error, cause);
			return FALSE;
		}
	}
}

void ferry_page_gather_get_stats(FerryPageGather *gather, FerryCarrierStats *stats)
{
	*stats = (FerryCarrierStats){ 0 };
	add_up(gather, &stats->bytes, &stats->pages);
}

void ferry_page_gather_quiesce(FerryPageGather *gather)
{
	g_mutex_lock(&gather->gate.link.lock);
	gather->gate.stopping = TRUE;
	g_cond_broadcast(&gather->gate.changed);
	g_mutex_unlock(&gather->gate.link.lock);
	g_cancellable_cancel(gather->stop);
	if (gather->accepting)
		g_thread_join(g_steal_pointer(&gather->accepting));
	for (guint i = 0; i < gather->n; i++)
		ferry_page_receiver_stop(gather->receivers[i]);
}

void ferry_page_gather_clear(FerryPageGather *gather)
{
	ferry_page_gather_quiesce(gather);
	for (guint i = 0; i < gather->n; i++)
		ferry_page_receiver_free(gather->receivers[i]);
	ferry_streams_link_clear(&gather->gate.link);
	g_cond_clear(&gather->gate.changed);
	g_object_unref(gather->stop);
}
