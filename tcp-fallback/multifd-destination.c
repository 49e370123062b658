/* SPDX-License-Identifier: BSD-2-Clause */
#include "multifd.h"

#include <string.h>
#include "multifd-receiver.h"
#include "page-gather.h"
#include "streams.h"

/* Longer than the source tries: it is the one to give up. */
#define ACCEPT_US (15 * G_TIME_SPAN_SECOND)

typedef struct {
	FerryCarrier base;
	const FerryFabricSession *session;
	FerrySocketListener *listener; /* borrowed; only this carrier accepts while it accepts */
	FerryMultifdTerms terms;
	FerryLanding landing;
	FerryPageGather gather;
	guint32 fences; /* awaited so far; the loading thread's */
} Destination;

static gboolean destination_share_ram(FerryCarrier *carrier, const FerryRam *ram, GError **error)
{
	Destination *d = (Destination *)carrier;

	if (!ferry_streams_link_open(&d->gather.gate.link, error))
		return FALSE;
	d->gather.gate.place.ram = ram;
	ferry_landing_init(&d->landing, ram);
	return TRUE;
}

/* ---- the thread that accepts ---- */

static gboolean get_init(const guint8 *data, guint8 *nonce, guint32 *index)
{
	FerryMultifdInit init;

	if (!ferry_multifd_get_init(data, &init, NULL))
		return FALSE;
	memcpy(nonce, init.uuid, FERRY_NONCE_SIZE);
	*index = init.channel;
	return TRUE;
}

static const FerryGreetingFormat init_format = { FERRY_MULTIFD_INIT_SIZE, get_init, FALSE };
G_STATIC_ASSERT(FERRY_MULTIFD_INIT_SIZE <= FERRY_GREETING_MAX);

/* Takes the channels in any case. */
static gboolean start_receivers(Destination *d, FerryChannel **channels, GError **error)
{
	FerryPageReceiver *receivers[FERRY_MULTIFD_CHANNELS_MAX];
	guint n = 0;

	while (n < d->terms.channels) {
		receivers[n] = ferry_multifd_receiver_new(n, &d->landing, &d->terms, error);
		if (!receivers[n])
			break;
		n++;
	}
	if (n == d->terms.channels)
		return ferry_page_gather_start(&d->gather, receivers, channels, error);
	for (guint i = 0; i < d->terms.channels; i++)
		ferry_channel_close(channels[i]);
	while (n)
		ferry_page_receiver_free(receivers[--n]);
	return FALSE;
}

static gboolean say_answer(Destination *d, gint64 deadline, GError **error)
{
	guint8 payload[FERRY_MULTIFD_TERMS_SIZE];

	ferry_multifd_put_terms(payload, &d->terms);
	return ferry_streams_say(d->session, FERRY_RECORD_MULTIFD_ANSWER, payload, sizeof(payload),
				 deadline, d->gather.stop, "multifd: the return path", error);
}

/* A destination that cannot have the channels says so, and the migration ends before it began. */
static void refuse(Destination *d, GError *why)
{
	d->session->say(d->session->user, FERRY_RECORD_MULTIFD_REFUSE, (guint8 *)why->message,
			MIN(strlen(why->message), FERRY_STREAMS_TEXT_MAX));
	ferry_page_gate_fail(&d->gather.gate, why);
}

static gpointer accept_thread(gpointer data)
{
	Destination *d = data;
	gint64 deadline = g_get_monotonic_time() + ACCEPT_US;
	FerryChannel *channels[FERRY_MULTIFD_CHANNELS_MAX];
	GError *error = NULL;

	if (!ferry_streams_accept(d->listener, &init_format, d->session->nonce, d->terms.channels,
				  deadline, d->gather.stop, channels, &error) ||
	    !start_receivers(d, channels, &error) || !say_answer(d, deadline, &error))
		refuse(d, error);
	return NULL;
}

/* ---- the loading thread ---- */

static gboolean destination_hear(FerryCarrier *carrier, guint16 type, const guint8 *payload,
				 size_t len, GError **error)
{
	Destination *d = (Destination *)carrier;
	GError *cause = NULL;

	if (type != FERRY_RECORD_MULTIFD_OFFER || d->gather.expected || !d->gather.gate.place.ram) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "multifd: record 0x%04x does not belong here, or came again", type);
		return FALSE;
	}
	if (!ferry_multifd_check_terms(payload, len, &d->terms, error))
		return FALSE;
	if (!ferry_page_gather_begin(&d->gather, d->terms.channels, accept_thread, d, &cause))
		refuse(d, cause);
	return TRUE;
}

static gboolean destination_await_fence(FerryCarrier *carrier, guint32 fence, GError **error)
{
	Destination *d = (Destination *)carrier;

	return ferry_page_gather_await(&d->gather, ++d->fences, error);
}

static void destination_quiesce(FerryCarrier *carrier)
{
	ferry_page_gather_quiesce(&((Destination *)carrier)->gather);
}

/* ---- the others ---- */

static void destination_get_stats(FerryCarrier *carrier, FerryCarrierStats *stats)
{
	ferry_page_gather_get_stats(&((Destination *)carrier)->gather, stats);
	stats->multifd_bytes = stats->bytes;
}

static GVariant *destination_describe(FerryCarrier *carrier)
{
	Destination *d = (Destination *)carrier;
	guint n = __atomic_load_n(&d->gather.n, __ATOMIC_SEQ_CST);
	guint64 bytes[FERRY_MULTIFD_CHANNELS_MAX];

	for (guint i = 0; i < n; i++)
		bytes[i] = ferry_page_receiver_bytes(d->gather.receivers[i]);
	return ferry_multifd_describe(&d->terms, n, bytes, FALSE, FALSE);
}

static GError *destination_take_error(FerryCarrier *carrier)
{
	return ferry_streams_link_take_error(&((Destination *)carrier)->gather.gate.link);
}

static void destination_close(FerryCarrier *carrier)
{
	Destination *d = (Destination *)carrier;

	ferry_page_gather_clear(&d->gather);
	ferry_landing_clear(&d->landing);
	g_free(d);
}

static const FerryCarrierOps destination_ops = {
	.name = "multifd",
	.share_ram = destination_share_ram,
	.hear = destination_hear,
	.await_fence = destination_await_fence,
	.quiesce = destination_quiesce,
	.get_stats = destination_get_stats,
	.describe = destination_describe,
	.take_error = destination_take_error,
	.close = destination_close,
};

FerryCarrier *ferry_multifd_destination_new(FerrySocketListener *listener,
					    const FerryFabricSession *session)
{
	Destination *d = g_new0(Destination, 1);

	d->base.ops = &destination_ops;
	d->session = session;
	d->listener = listener;
	d->terms = ferry_multifd_terms(session->settings);
	ferry_page_gather_init(&d->gather, "multifd", session);
	return &d->base;
}
