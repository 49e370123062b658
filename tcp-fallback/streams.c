/* SPDX-License-Identifier: BSD-2-Clause */
#include "streams.h"

#include <string.h>
#include "fd-util.h"

/* More gain nothing on one host's socket layer; fewer do not use what a link has. */
#define STREAMS_MIN 2u
#define STREAMS_DEFAULT 4u
/* A record that finds no room is said again after this long. */
#define SAY_AGAIN_US (5 * G_TIME_SPAN_MILLISECOND)

typedef struct {
	FerryFabric base;
	char *uri;                     /* the source's */
	FerrySocketListener *listener; /* the destination's; borrowed */
} Streams;

static FerryCarrier *open_source(FerryFabric *fabric, const FerryFabricSession *session)
{
	guint streams = CLAMP(g_get_num_processors(), STREAMS_MIN, STREAMS_DEFAULT);

	return ferry_streams_source_new(((Streams *)fabric)->uri, streams, session);
}

static FerryCarrier *open_destination(FerryFabric *fabric, const FerryFabricSession *session)
{
	return ferry_streams_destination_new(((Streams *)fabric)->listener, session);
}

static void streams_close(FerryFabric *fabric)
{
	g_free(((Streams *)fabric)->uri);
	g_free(fabric);
}

static const FerryFabricOps source_ops = {
	.name = "tcp",
	.feature = FERRY_FEATURE_STREAMS,
	.first_record = FERRY_RECORD_STREAMS_OFFER,
	.last_record = FERRY_RECORD_STREAMS_LAST,
	.open = open_source,
	.close = streams_close,
};

static const FerryFabricOps destination_ops = {
	.name = "tcp",
	.feature = FERRY_FEATURE_STREAMS,
	.first_record = FERRY_RECORD_STREAMS_OFFER,
	.last_record = FERRY_RECORD_STREAMS_LAST,
	.open = open_destination,
	.close = streams_close,
};

FerryFabric *ferry_streams_source_fabric_new(const char *uri)
{
	Streams *streams = g_new0(Streams, 1);

	*streams = (Streams){ .base = { .ops = &source_ops }, .uri = g_strdup(uri) };
	return &streams->base;
}

FerryFabric *ferry_streams_destination_fabric_new(FerrySocketListener *listener)
{
	Streams *streams = g_new0(Streams, 1);

	*streams = (Streams){ .base = { .ops = &destination_ops }, .listener = listener };
	return &streams->base;
}

/* ---- greetings and framing ---- */

static gboolean get_greeting(const guint8 *data, guint8 *nonce, guint32 *index)
{
	FerryStreamsGreeting greeting;

	if (!ferry_streams_get_greeting(data, &greeting))
		return FALSE;
	memcpy(nonce, greeting.nonce, FERRY_NONCE_SIZE);
	*index = greeting.index;
	return TRUE;
}

const FerryGreetingFormat ferry_streams_greeting_format = { FERRY_STREAMS_GREETING_SIZE,
							    get_greeting, TRUE };

static FerryCarrier *open_pages(const FerryPageFraming *framing, FerryChannel *channel,
				GError **error)
{
	return ferry_page_carrier_new(channel, FERRY_PAGE_FORMAT_RUNS);
}

static size_t put_fence(const FerryPageFraming *framing, guint8 *out, guint32 round)
{
	ferry_streams_put_fence(out, round);
	return FERRY_STREAMS_FENCE_SIZE;
}

const FerryPageFraming ferry_streams_framing = {
	.noun = "stream",
	.greeting = FERRY_STREAMS_GREETING_SIZE,
	.open = open_pages,
	.fence = put_fence,
};

/* ---- what both sides say ---- */

gboolean ferry_streams_say(const FerryFabricSession *session, guint16 type, const guint8 *payload,
			   size_t len, gint64 deadline, GCancellable *cancellable, const char *what,
			   GError **error)
{
	struct pollfd none[1];

	while (!session->say(session->user, type, payload, len)) {
		if (g_get_monotonic_time() >= deadline) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
				    "parallel streams: %s takes nothing", what);
			return FALSE;
		}
		if (ferry_fd_poll(none, 0, g_get_monotonic_time() + SAY_AGAIN_US, cancellable,
				  "parallel streams", error) < 0)
			return FALSE;
	}
	return TRUE;
}

gboolean ferry_streams_say_terms(const FerryFabricSession *session, guint16 type,
				 const FerryStreamsTerms *terms, gint64 deadline,
				 GCancellable *cancellable, const char *what, GError **error)
{
	guint8 payload[FERRY_STREAMS_TERMS_MAX];
	size_t len = ferry_streams_put_terms(payload, terms);

	return ferry_streams_say(session, type, payload, len, deadline, cancellable, what, error);
}

GVariant *ferry_streams_describe(guint n, const guint64 *bytes, gboolean urgent,
				 guint64 urgent_pages)
{
	GVariantBuilder all, each;

	g_variant_builder_init(&each, G_VARIANT_TYPE("at"));
	for (guint i = 0; i < n; i++)
		g_variant_builder_add(&each, "t", bytes[i]);
	g_variant_builder_init(&all, G_VARIANT_TYPE_VARDICT);
	g_variant_builder_add(&all, "{sv}", "streams", g_variant_new_uint32(n));
	g_variant_builder_add(&all, "{sv}", "stream-bytes", g_variant_builder_end(&each));
	g_variant_builder_add(&all, "{sv}", "urgent-stream", g_variant_new_boolean(urgent));
	g_variant_builder_add(&all, "{sv}", "urgent-pages", g_variant_new_uint64(urgent_pages));
	return g_variant_builder_end(&all);
}
