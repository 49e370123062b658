/* SPDX-License-Identifier: BSD-2-Clause */
#include "streams.h"

#include <string.h>
#include "fd-channel.h"
#include "fd-util.h"
#include "page-receiver.h"

/* Longer than the source tries: it is the one to give up. */
#define ACCEPT_US (15 * G_TIME_SPAN_SECOND)
/* A source that sends nothing for so long while a fence is awaited is hung. */
#define SILENCE_US (60 * G_TIME_SPAN_SECOND)
/* How often that is looked at. */
#define LOOK_US G_TIME_SPAN_SECOND

typedef struct {
	FerryCarrier base;
	FerryCarrierOps ops; /* what base.ops points to: begin_postcopy is only where asked for */
	const FerryFabricSession *session;
	FerrySocketListener *listener; /* borrowed; only this carrier accepts while it accepts */
	FerryPageGate gate;
	FerryStreamsTerms agreed; /* 0 streams before OFFER; the loading thread's, then fixed */
	GCancellable *stop;       /* ends the accepting */
	GThread *accepting;       /* the loading thread's; NULL: not begun, or joined */
	/* owned; the urgent one, where there is one, at agreed.streams */
	FerryPageReceiver *receivers[FERRY_STREAMS_CONNECTIONS];
	guint n; /* atomic, set behind receivers: 0 until all connections are there */
} Destination;

static gboolean destination_share_ram(FerryCarrier *carrier, const FerryRam *ram, GError **error)
{
	Destination *d = (Destination *)carrier;

	if (!ferry_streams_link_open(&d->gate.link, error))
		return FALSE;
	d->gate.place.ram = ram;
	return TRUE;
}

/* ---- the thread that accepts ---- */

/* Takes the channels in any case. Those that have a thread stay until the carrier is closed. */
static gboolean start_receivers(Destination *d, FerryChannel **channels, GError **error)
{
	gboolean ok = TRUE;
	guint n = 0;

	if (d->agreed.flags & FERRY_STREAMS_URGENT)
		ferry_socket_tune_urgent(((FerryFdChannel *)channels[d->agreed.streams])->in);
	for (guint i = 0; i < ferry_streams_connections(&d->agreed); i++) {
		if (!ok) {
			ferry_channel_close(channels[i]);
			continue;
		}
		d->receivers[i] = ferry_page_receiver_new(channels[i], i, i == d->agreed.streams,
							  FERRY_STREAMS_GREETING_SIZE, &d->gate,
							  error);
		ok = d->receivers[i] != NULL;
		n += ok;
	}
	__atomic_store_n(&d->n, n, __ATOMIC_SEQ_CST);
	ferry_wake_signal(&d->gate.link.wake);
	return ok;
}

static gpointer accept_thread(gpointer data)
{
	Destination *d = data;
	gint64 deadline = g_get_monotonic_time() + ACCEPT_US;
	FerryChannel *channels[FERRY_STREAMS_CONNECTIONS];
	GError *error = NULL;

	if (!ferry_streams_say(d->session, FERRY_RECORD_STREAMS_ANSWER, &d->agreed, deadline,
			       d->stop, "the return path", &error) ||
	    !ferry_streams_accept(d->listener, d->session->nonce,
				  ferry_streams_connections(&d->agreed), deadline, d->stop,
				  channels, &error) ||
	    !start_receivers(d, channels, &error))
		ferry_page_gate_fail(&d->gate, error);
	return NULL;
}

/* ---- the loading thread ---- */

static gboolean hear_offer(Destination *d, const guint8 *payload, size_t len, GError **error)
{
	/* More than can be is no fault of an offer, nor what this version does not know. */
	static const FerryStreamsTerms any = { G_MAXUINT32, G_MAXUINT32 };
	FerryStreamsTerms wanted;

	if (!ferry_streams_get_terms("STREAMS_OFFER", payload, len, &any, &wanted, error))
		return FALSE;
	if (d->agreed.streams || !d->gate.place.ram) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER, "record STREAMS_OFFER came %s",
			    d->agreed.streams ? "again"
					      : "before the lists of RAM blocks were compared");
		return FALSE;
	}
	d->agreed.streams = MIN(wanted.streams, FERRY_STREAMS_MAX);
	d->agreed.flags = d->session->postcopy ? wanted.flags & FERRY_STREAMS_URGENT : 0;
	d->accepting = ferry_streams_thread("ferry-accept", accept_thread, d, error);
	return d->accepting != NULL;
}

/* A destination that cannot have threads says so, and the source goes another way. */
static gboolean refuse(Destination *d, GError *why)
{
	d->session->say(d->session->user, FERRY_RECORD_STREAMS_REFUSE, (guint8 *)why->message,
			MIN(strlen(why->message), FERRY_STREAMS_TEXT_MAX));
	ferry_page_gate_fail(&d->gate, why);
	return TRUE;
}

static gboolean destination_hear(FerryCarrier *carrier, guint16 type, const guint8 *payload,
				 size_t len, GError **error)
{
	Destination *d = (Destination *)carrier;
	GError *cause = NULL;

	if (type != FERRY_RECORD_STREAMS_OFFER) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "record 0x%04x is none of a source's parallel streams", type);
		return FALSE;
	}
	if (hear_offer(d, payload, len, &cause))
		return TRUE;
	if (g_error_matches(cause, FERRY_ERROR, FERRY_ERROR_IO))
		return refuse(d, cause);
	g_propagate_error(error, cause);
	return FALSE;
}

/* How many streams stand at @fence. -1 with @error: one stands elsewhere. With the lock held. */
static int standing(Destination *d, guint32 fence, GError **error)
{
	guint n = __atomic_load_n(&d->n, __ATOMIC_SEQ_CST);
	int at = 0;

	for (guint i = 0; i < n; i++) {
		guint32 there = ferry_page_receiver_fence(d->receivers[i]);

		/* The last fence: its thread has not woken yet. */
		if (!there || there == d->gate.released)
			continue;
		if (there != fence) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
				    "%s: brought fence %u where %u was awaited",
				    ferry_page_receiver_name(d->receivers[i]), there, fence);
			return -1;
		}
		at++;
	}
	return at;
}

/* TRUE: the engine may go on, and so may the streams. FALSE without @error: not yet. */
static gboolean pass(Destination *d, guint32 fence, GError **error)
{
	FerryPageGate *gate = &d->gate;
	gboolean all;

	g_mutex_lock(&gate->link.lock);
	all = d->agreed.streams &&
	      standing(d, fence, error) == (int)ferry_streams_connections(&d->agreed);
	if (all) {
		gate->released = fence;
		g_cond_broadcast(&gate->changed);
	}
	g_mutex_unlock(&gate->link.lock);
	return all;
}

static void add_up(Destination *d, guint64 *bytes, guint64 *pages)
{
	guint n = __atomic_load_n(&d->n, __ATOMIC_SEQ_CST);

	*bytes = *pages = 0;
	for (guint i = 0; i < n; i++) {
		*bytes += ferry_page_receiver_bytes(d->receivers[i]);
		*pages += ferry_page_receiver_pages(d->receivers[i]);
	}
}

/* Follows the bytes that came. FALSE: none came for too long. */
static gboolean comes(Destination *d, guint32 fence, guint64 *before, gint64 *since, GError **error)
{
	gint64 now = g_get_monotonic_time();
	guint64 bytes, pages;

	add_up(d, &bytes, &pages);
	if (bytes != *before)
		*since = now;
	*before = bytes;
	if (now - *since <= SILENCE_US)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
		    "parallel streams: nothing came for %d s, and fence %u is missing: is the "
		    "source hung or stopped?",
		    (int)(SILENCE_US / G_TIME_SPAN_SECOND), fence);
	return FALSE;
}

static gboolean destination_await_fence(FerryCarrier *carrier, guint32 fence, GError **error)
{
	Destination *d = (Destination *)carrier;
	FerryStreamsLink *link = &d->gate.link;
	gint64 since = g_get_monotonic_time();
	GError *cause = NULL;
	guint64 before = 0;

	for (;;) {
		struct pollfd fds[2] = { { .fd = link->wake.fd, .events = POLLIN } };
		gboolean passed;

		ferry_wake_begin(&link->wake);
		passed = pass(d, fence, &cause);
		if (!passed && !cause && ferry_streams_link_is_dead(link))
			ferry_streams_link_why(link, &cause);
		if (!passed && !cause && comes(d, fence, &before, &since, &cause))
			ferry_fd_poll(fds, 1, g_get_monotonic_time() + LOOK_US,
				      d->session->cancellable, "parallel streams", &cause);
		ferry_wake_end(&link->wake);
		if (passed)
			return TRUE;
		if (cause) {
			g_propagate_error(error, cause);
			return FALSE;
		}
	}
}

static gboolean destination_begin_postcopy(FerryCarrier *carrier, const FerryRam *ram,
					   const FerryArrivals *arrivals, GError **error)
{
	return ferry_page_gate_begin_postcopy(&((Destination *)carrier)->gate, ram, arrivals,
					      error);
}

static void destination_quiesce(FerryCarrier *carrier)
{
	Destination *d = (Destination *)carrier;

	g_mutex_lock(&d->gate.link.lock);
	d->gate.stopping = TRUE;
	g_cond_broadcast(&d->gate.changed);
	g_mutex_unlock(&d->gate.link.lock);
	g_cancellable_cancel(d->stop);
	if (d->accepting)
		g_thread_join(g_steal_pointer(&d->accepting));
	for (guint i = 0; i < d->n; i++)
		ferry_page_receiver_stop(d->receivers[i]);
}

/* ---- the others ---- */

static void destination_get_stats(FerryCarrier *carrier, FerryCarrierStats *stats)
{
	*stats = (FerryCarrierStats){ 0 };
	add_up((Destination *)carrier, &stats->bytes, &stats->pages);
}

static GVariant *destination_describe(FerryCarrier *carrier)
{
	Destination *d = (Destination *)carrier;
	guint n = __atomic_load_n(&d->n, __ATOMIC_SEQ_CST);
	guint streams = n ? MIN(n, d->agreed.streams) : 0;
	guint64 bytes[FERRY_STREAMS_MAX];

	for (guint i = 0; i < streams; i++)
		bytes[i] = ferry_page_receiver_bytes(d->receivers[i]);
	return ferry_streams_describe(streams, bytes, n > streams,
				      n > streams ? ferry_page_receiver_pages(d->receivers[streams])
						  : 0);
}

static GError *destination_take_error(FerryCarrier *carrier)
{
	return ferry_streams_link_take_error(&((Destination *)carrier)->gate.link);
}

static void destination_close(FerryCarrier *carrier)
{
	Destination *d = (Destination *)carrier;

	destination_quiesce(carrier);
	for (guint i = 0; i < d->n; i++)
		ferry_page_receiver_free(d->receivers[i]);
	ferry_streams_link_clear(&d->gate.link);
	g_cond_clear(&d->gate.changed);
	g_object_unref(d->stop);
	g_free(d);
}

static const FerryCarrierOps destination_ops = {
	.name = "tcp",
	.share_ram = destination_share_ram,
	.hear = destination_hear,
	.await_fence = destination_await_fence,
	.quiesce = destination_quiesce,
	.get_stats = destination_get_stats,
	.describe = destination_describe,
	.take_error = destination_take_error,
	.close = destination_close,
};

FerryCarrier *ferry_streams_destination_new(FerrySocketListener *listener,
					    const FerryFabricSession *session)
{
	Destination *d = g_new0(Destination, 1);

	d->ops = destination_ops;
	if (session->postcopy)
		d->ops.begin_postcopy = destination_begin_postcopy;
	d->base.ops = &d->ops;
	d->session = session;
	d->listener = listener;
	d->stop = g_cancellable_new();
	ferry_streams_link_init(&d->gate.link);
	g_cond_init(&d->gate.changed);
	d->gate.died = session->died;
	d->gate.user = session->user;
	return &d->base;
}
