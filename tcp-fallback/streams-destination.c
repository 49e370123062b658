/* SPDX-License-Identifier: BSD-2-Clause */
#include "streams.h"

#include <string.h>
#include "fd-channel.h"
#include "fd-util.h"
#include "page-gather.h"

/* Longer than the source tries: it is the one to give up. */
#define ACCEPT_US (15 * G_TIME_SPAN_SECOND)

typedef struct {
	FerryCarrier base;
	FerryCarrierOps ops; /* what base.ops points to: begin_postcopy is only where asked for */
	const FerryFabricSession *session;
	FerrySocketListener *listener; /* borrowed; only this carrier accepts while it accepts */
	FerryPageGather gather;   /* the urgent connection, where there is one, at agreed.streams */
	FerryStreamsTerms agreed; /* 0 streams before OFFER; the loading thread's, then fixed */
} Destination;

static gboolean destination_share_ram(FerryCarrier *carrier, const FerryRam *ram, GError **error)
{
	Destination *d = (Destination *)carrier;

	if (!ferry_streams_link_open(&d->gather.gate.link, error))
		return FALSE;
	d->gather.gate.place.ram = ram;
	return TRUE;
}

/* ---- the thread that accepts ---- */

/* Takes the channels in any case. Those that have a thread stay until the carrier is closed. */
static gboolean start_receivers(Destination *d, FerryChannel **channels, GError **error)
{
	FerryPageReceiver *receivers[FERRY_STREAMS_CONNECTIONS];

	if (d->agreed.flags & FERRY_STREAMS_URGENT)
		ferry_socket_tune_urgent(((FerryFdChannel *)channels[d->agreed.streams])->in);
	for (guint i = 0; i < d->gather.expected; i++)
		receivers[i] = ferry_stream_receiver_new(i == d->agreed.streams, i);
	return ferry_page_gather_start(&d->gather, receivers, channels, error);
}

static gpointer accept_thread(gpointer data)
{
	Destination *d = data;
	gint64 deadline = g_get_monotonic_time() + ACCEPT_US;
	FerryChannel *channels[FERRY_STREAMS_CONNECTIONS];
	GError *error = NULL;

	if (!ferry_streams_say_terms(d->session, FERRY_RECORD_STREAMS_ANSWER, &d->agreed, deadline,
				     d->gather.stop, "the return path", &error) ||
	    !ferry_streams_accept(d->listener, &ferry_streams_greeting_format, d->session->nonce,
				  d->gather.expected, deadline, d->gather.stop, channels, &error) ||
	    !start_receivers(d, channels, &error))
		ferry_page_gate_fail(&d->gather.gate, error);
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
	if (d->agreed.streams || !d->gather.gate.place.ram) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER, "record STREAMS_OFFER came %s",
			    d->agreed.streams ? "again"
					      : "before the lists of RAM blocks were compared");
		return FALSE;
	}
	d->agreed.streams = MIN(wanted.streams, FERRY_STREAMS_MAX);
	d->agreed.flags = d->session->postcopy ? wanted.flags & FERRY_STREAMS_URGENT : 0;
	return ferry_page_gather_begin(&d->gather, ferry_streams_connections(&d->agreed),
				       accept_thread, d, error);
}

/* A destination that cannot have threads says so, and the source goes another way. */
static gboolean refuse(Destination *d, GError *why)
{
	d->session->say(d->session->user, FERRY_RECORD_STREAMS_REFUSE, (guint8 *)why->message,
			MIN(strlen(why->message), FERRY_STREAMS_TEXT_MAX));
	ferry_page_gate_fail(&d->gather.gate, why);
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

static gboolean destination_await_fence(FerryCarrier *carrier, guint32 fence, GError **error)
{
	return ferry_page_gather_await(&((Destination *)carrier)->gather, fence, error);
}

static gboolean destination_begin_postcopy(FerryCarrier *carrier, const FerryRam *ram,
					   const FerryArrivals *arrivals, GError **error)
{
	return ferry_page_gate_begin_postcopy(&((Destination *)carrier)->gather.gate, ram, arrivals,
					      error);
}

static void destination_quiesce(FerryCarrier *carrier)
{
	ferry_page_gather_quiesce(&((Destination *)carrier)->gather);
}

/* ---- the others ---- */

static void destination_get_stats(FerryCarrier *carrier, FerryCarrierStats *stats)
{
	ferry_page_gather_get_stats(&((Destination *)carrier)->gather, stats);
}

static GVariant *destination_describe(FerryCarrier *carrier)
{
	Destination *d = (Destination *)carrier;
	guint n = __atomic_load_n(&d->gather.n, __ATOMIC_SEQ_CST);
	guint streams = n ? MIN(n, d->agreed.streams) : 0;
	guint64 bytes[FERRY_STREAMS_MAX];

	for (guint i = 0; i < streams; i++)
		bytes[i] = ferry_page_receiver_bytes(d->gather.receivers[i]);
	return ferry_streams_describe(
		streams, bytes, n > streams,
		n > streams ? ferry_page_receiver_pages(d->gather.receivers[streams]) : 0);
}

static GError *destination_take_error(FerryCarrier *carrier)
{
	return ferry_streams_link_take_error(&((Destination *)carrier)->gather.gate.link);
}

static void destination_close(FerryCarrier *carrier)
{
	ferry_page_gather_clear(&((Destination *)carrier)->gather);
	g_free(carrier);
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
	ferry_page_gather_init(&d->gather, "parallel streams", session);
	return &d->base;
}
