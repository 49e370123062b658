/* SPDX-License-Identifier: BSD-2-Clause */
#include "source-private.h"

#include <poll.h>
#include <ferry/error.h>

/* Of each queue pair. Measured with soft-RoCE: more than 4 MiB in flight is slower. */
#define WINDOW (2u << 20)
#define SENDS 128u
/* RDMA reads of a destination that fetches, at a time on each queue pair. */
#define READS 16u

#define ANSWER_US (5 * G_TIME_SPAN_SECOND)
/* What the destination says of a connection that it rejected comes another way. */
#define REFUSAL_US (100 * G_TIME_SPAN_MILLISECOND)
/* The first chunk: a loaded machine takes long to clear memory. */
#define REGION_US (10 * G_TIME_SPAN_SECOND)
/* Registering all of RAM is given what clearing it takes on a slow machine, and more. */
#define REGION_BYTES_PER_SECOND (128ull << 20)
/* How soon a record that the control channel had no room for is tried again. */
#define SAY_AGAIN_US (2 * G_TIME_SPAN_MILLISECOND)

/* ---- waiting ---- */

static void on_cancelled(GCancellable *cancellable, gpointer user)
{
	ferry_rdma_source_wake(user);
}

/* FALSE: there is no sense in waiting any longer. */
static gboolean may_wait(FerryRdmaSource *s, gint64 deadline, const char *what, GError **error)
{
	if (g_cancellable_is_cancelled(s->session->cancellable)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED, "cancelled");
		return FALSE;
	}
	if (ferry_rdma_link_is_dead(s->link)) {
		g_propagate_error(error, s->base.ops->take_error(&s->base));
		return FALSE;
	}
	if (g_get_monotonic_time() >= deadline) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "RDMA to %s:%u: %s did not come in time; is the destination hung?",
			    s->host, s->port, what);
		return FALSE;
	}
	return TRUE;
}

/* Sleeps until something was heard, registered or cancelled, at most until @deadline. */
static void sleep_for_news(FerryRdmaSource *s, gint64 deadline, gboolean say_again)
{
	gint64 timeout = MAX(deadline - g_get_monotonic_time(), 0);

	if (say_again)
		timeout = MIN(timeout, SAY_AGAIN_US);
	if (s->connected) {
		ferry_rdma_link_wait(s->link, s->wake, timeout);
		ferry_rdma_link_take_events(s->link);
	} else {
		struct pollfd news = { .fd = s->wake, .events = POLLIN };

		(void)!poll(&news, 1, (int)(timeout / 1000 + 1));
	}
	ferry_rdma_source_drain(s);
}

/* ---- the conversation ---- */

static gboolean offer(FerryRdmaSource *s, gint64 deadline, GError **error)
{
	guint8 payload[FERRY_RDMA_TERMS_SIZE];

	ferry_rdma_put_terms(payload, &s->terms);
	g_mutex_lock(&s->lock);
	s->talk = FERRY_RDMA_OFFERED;
	g_mutex_unlock(&s->lock);
	while (!s->session->say(s->session->user, FERRY_RECORD_RDMA_OFFER, payload,
				sizeof(payload))) {
		if (!may_wait(s, deadline, "room in the control channel", error))
			return FALSE;
		sleep_for_news(s, deadline, TRUE);
	}
	return TRUE;
}

static gboolean is_answered(FerryRdmaSource *s)
{
	gboolean answered;

	g_mutex_lock(&s->lock);
	answered = s->talk == FERRY_RDMA_ANSWERED;
	g_mutex_unlock(&s->lock);
	return answered;
}

static gboolean talk(FerryRdmaSource *s, GError **error)
{
	gint64 deadline = g_get_monotonic_time() + ANSWER_US;

	if (!offer(s, deadline, error))
		return FALSE;
	while (!is_answered(s)) {
		if (!may_wait(s, deadline, "the answer to the offer", error))
			return FALSE;
		sleep_for_news(s, deadline, FALSE);
	}
	return ferry_rdma_source_agree(s, error);
}

/* ---- regions ---- */

/* Where the destination may read. A helper that waits for room here keeps nobody else waiting: the
 * record that asks the destination for its half has to go the same way. */
static void tell_region(FerryRdmaSource *s, const FerryRdmaRegion *region)
{
	guint8 payload[FERRY_RDMA_REGION_SIZE];

	ferry_rdma_put_region(payload, region);
	while (!g_atomic_int_get(&s->closing) && !ferry_rdma_link_is_dead(s->link) &&
	       !s->session->say(s->session->user, FERRY_RECORD_RDMA_SOURCE_REGION, payload,
				sizeof(payload)))
		g_usleep(SAY_AGAIN_US);
}

/* On the regions' helper thread. */
static void on_registered(gpointer user, guint32 block, guint32 chunk, const struct ibv_mr *mr,
			  const GError *error)
{
	FerryRdmaSource *s = user;

	if (!mr)
		ferry_rdma_link_fail(s->link, g_error_copy(error));
	else if (s->terms.flags & FERRY_RDMA_PULL)
		tell_region(s, &(FerryRdmaRegion){ block, chunk, (guintptr)mr->addr, mr->rkey });
	ferry_rdma_source_wake(s);
}

/* The smaller of two limits, of which 0 is none. */
static guint64 lower_limit(guint64 a, guint64 b)
{
	return a && b ? MIN(a, b) : a + b;
}

static void make_regions(FerryRdmaSource *s)
{
	/* Without local write: that would make registering a write to every page. */
	int access = s->access | (s->terms.flags & FERRY_RDMA_PULL ? IBV_ACCESS_REMOTE_READ : 0);
	FerryRdmaRegions *regions = ferry_rdma_regions_new(
		s->verbs, s->link->pd, s->ram, s->terms.chunk_size, access, on_registered, s);
	FerryRdmaReach *reach = ferry_rdma_reach_new(s->session, regions, s->ram,
						     s->terms.chunk_size,
						     lower_limit(s->pin_limit, s->terms.pin_limit));

	g_atomic_pointer_set(&s->regions, regions);
	g_atomic_pointer_set(&s->reach, reach);
}

static gboolean reaches(FerryRdmaSource *s)
{
	FerryRdmaWay way;

	if (s->terms.flags & FERRY_RDMA_PIN_ALL)
		return ferry_rdma_reach_all(s->reach);
	return ferry_rdma_reach_find(s->reach, 0, 0, &way);
}

/* The destination registers, and so do we, while the other queue pairs connect. */
static void ask_early(gpointer user)
{
	(void)reaches(user);
}

/* Until the first chunk, or all of them, can be written: what cannot be registered shows now, while
 * pages can still go another way. */
static gboolean await_regions(FerryRdmaSource *s, GError **error)
{
	gint64 deadline = g_get_monotonic_time() + REGION_US;

	if (s->terms.flags & FERRY_RDMA_PIN_ALL)
		deadline += (gint64)(s->ram->total / REGION_BYTES_PER_SECOND) * G_TIME_SPAN_SECOND;
	while (!reaches(s)) {
		if (!may_wait(s, deadline, "the destination's memory region", error))
			return FALSE;
		sleep_for_news(s, deadline, ferry_rdma_reach_owes(s->reach));
	}
	return !ferry_rdma_link_is_dead(s->link) ||
	       may_wait(s, deadline, "the destination's memory region", error);
}

/* ---- all of it ---- */

static void make_queues(FerryRdmaSource *s, guint depth)
{
	const FerryRdmaQueueLimits limits = {
		.depth = depth,
		.window = MAX(WINDOW, 2 * s->terms.write_size),
		.chain_size = s->terms.write_size,
	};
	const FerryRdmaQueueLimits urgent = {
		.depth = MIN(FERRY_RDMA_URGENT_SENDS, depth),
		.window = limits.window,
		.chain_size = limits.chain_size,
	};
	guint n = s->link->n, last = !!(s->terms.flags & FERRY_RDMA_POSTCOPY);

	if (last)
		g_atomic_pointer_set(&s->urgent,
				     ferry_rdma_queues_new(s->link, n - 1, 1, s->ram, &urgent));
	g_atomic_pointer_set(&s->queues,
			     ferry_rdma_queues_new(s->link, 0, n - last, s->ram, &limits));
	g_atomic_int_set(&s->connected, TRUE);
}

static gint64 lap(gint64 *since)
{
	gint64 now = g_get_monotonic_time(), took = now - *since;

	*since = now;
	return took;
}

/* A destination that gives up says why on the control channel; what that looks like by RDMA tells
 * less, and may come first. */
static gboolean connect_queues(FerryRdmaSource *s, const FerryRdmaPeer *peer, GError **error)
{
	g_autoptr(GError) cause = NULL, why = NULL;
	gint64 deadline;

	if (ferry_rdma_connect(s->link, peer, &cause))
		return TRUE;
	deadline = g_get_monotonic_time() + REFUSAL_US;
	while (may_wait(s, deadline, "a refusal", &why))
		sleep_for_news(s, deadline, FALSE);
	if (ferry_rdma_link_is_dead(s->link) && why)
		g_propagate_error(error, g_steal_pointer(&why));
	else
		g_propagate_error(error, g_steal_pointer(&cause));
	return FALSE;
}

/* Made before anything is agreed: the completion queues are as large as they may have to be. */
static FerryRdmaDepths source_depths(const FerryRdmaSource *s)
{
	guint receives = s->session->postcopy ? FERRY_RDMA_BACKS : 1;

	return (FerryRdmaDepths){
		.sends = SENDS,
		.receives = receives,
		.window = FERRY_RDMA_BULK_MAX * (SENDS + receives),
		.urgent = s->session->postcopy ? SENDS + receives : 0,
	};
}

static gboolean set_up(FerryRdmaSource *s, GError **error)
{
	FerryRdmaPeer peer = {
		.host = s->host,
		.port = s->port,
		.nonce = s->session->nonce,
		.queues = FERRY_RDMA_QUEUES_MAX,
		.depths = source_depths(s),
		.reads = READS,
		.cancellable = s->session->cancellable,
		.wake = s->wake,
	};
	gint64 since = s->stats.start_us;

	if (!ferry_rdma_connect_resolve(s->link, &peer, error))
		return FALSE;
	ferry_rdma_source_note(&s->stats.resolve_us, lap(&since));
	if (!ferry_rdma_source_choose_terms(s, error) || !talk(s, error))
		return FALSE;
	make_regions(s);
	lap(&since);
	peer.queues = s->terms.queue_pairs;
	peer.on_first = ask_early;
	peer.user = s;
	peer.depths.sends = MIN(SENDS, (guint)s->link->device.orig_attr.max_qp_wr);
	if (!connect_queues(s, &peer, error))
		return FALSE;
	ferry_rdma_source_note(&s->stats.connect_us, lap(&since));
	make_queues(s, peer.depths.sends);
	if (!await_regions(s, error))
		return FALSE;
	if (s->terms.flags & FERRY_RDMA_PULL)
		ferry_rdma_regions_request_rest(s->regions);
	ferry_rdma_source_note(&s->stats.first_region_us, lap(&since));
	return TRUE;
}

gboolean ferry_rdma_source_share_ram(FerryCarrier *carrier, const FerryRam *ram, GError **error)
{
	FerryRdmaSource *s = (FerryRdmaSource *)carrier;
	gulong handler = 0;
	gboolean ok;

	if (s->wake < 0)
		return ferry_verbs_failed(error, "eventfd", EMFILE);
	s->ram = ram;
	g_atomic_pointer_set(&s->link, ferry_rdma_link_new(s->verbs));
	ferry_rdma_source_note(&s->stats.start_us, g_get_monotonic_time());
	if (s->session->cancellable)
		handler = g_cancellable_connect(s->session->cancellable, G_CALLBACK(on_cancelled),
						s, NULL);
	ok = set_up(s, error);
	if (handler)
		g_cancellable_disconnect(s->session->cancellable, handler);
	return ok;
}
