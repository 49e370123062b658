/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "page-receiver.h"
#include "page-writer.h"
#include "socket.h"
#include "streams-messages.h"

/* Pages over parallel connections to the place that the control channel is connected to. */

/* The fabrics: of a source's URI, whose scheme does not matter (copied), and of a listener, which
 * is borrowed and on whose sockets the connections come in. */
FerryFabric *ferry_streams_source_fabric_new(const char *uri);
FerryFabric *ferry_streams_destination_fabric_new(FerrySocketListener *listener);

/* Their carriers; @uri is copied, @streams (1 to FERRY_STREAMS_MAX) is what is asked for. */
FerryCarrier *ferry_streams_source_new(const char *uri, guint streams,
				       const FerryFabricSession *session);
FerryCarrier *ferry_streams_destination_new(FerrySocketListener *listener,
					    const FerryFabricSession *session);

/* streams-connect.c: @n connections to @uri that the destination took for @nonce's session, before
 * @deadline. All of @channels or none; the caller's. */
gboolean ferry_streams_connect(const char *uri, const guint8 *nonce, guint n, gint64 deadline,
			       GCancellable *cancellable, FerryChannel **channels, GError **error);

/* How a connection begins, and what of it is looked at. */
typedef struct {
	size_t size; /* bytes, at most FERRY_GREETING_MAX */
	/* FALSE: it is none; @nonce has room for FERRY_NONCE_SIZE bytes */
	gboolean (*get)(const guint8 *data, guint8 *nonce, guint32 *index);
	gboolean echo; /* it is sent back once the connection is taken */
} FerryGreetingFormat;
#define FERRY_GREETING_MAX 64u
extern const FerryGreetingFormat ferry_streams_greeting_format;

/* streams-accept.c: the other half: @n connections with greetings of @format, the nonce, and an
 * index each. Closes whatever else connects meanwhile. */
gboolean ferry_streams_accept(FerrySocketListener *listener, const FerryGreetingFormat *format,
			      const guint8 *nonce, guint n, gint64 deadline,
			      GCancellable *cancellable, FerryChannel **channels, GError **error);

/* stream-receiver.c: not started yet. */
FerryPageReceiver *ferry_stream_receiver_new(gboolean urgent, guint index);

/* How its pages and fences are framed. */
extern const FerryPageFraming ferry_streams_framing;

/* Says a record to the peer, trying again while there is no room, before @deadline. @what is what
 * has none, for the message. */
gboolean ferry_streams_say(const FerryFabricSession *session, guint16 type, const guint8 *payload,
			   size_t len, gint64 deadline, GCancellable *cancellable, const char *what,
			   GError **error);
/* One with @terms. */
gboolean ferry_streams_say_terms(const FerryFabricSession *session, guint16 type,
				 const FerryStreamsTerms *terms, gint64 deadline,
				 GCancellable *cancellable, const char *what, GError **error);

/* What describe() tells: "streams", and "stream-bytes", an array with those of each; whether there
 * is an "urgent-stream", and how many "urgent-pages" it brought. Floating. */
GVariant *ferry_streams_describe(guint n, const guint64 *bytes, gboolean urgent,
				 guint64 urgent_pages);
