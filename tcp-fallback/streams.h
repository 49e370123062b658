/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

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

/* streams-accept.c: the other half. Closes whatever else connects meanwhile. */
gboolean ferry_streams_accept(FerrySocketListener *listener, const guint8 *nonce, guint n,
			      gint64 deadline, GCancellable *cancellable, FerryChannel **channels,
			      GError **error);

/* Says a record with @terms to the peer, trying again while there is no room, before @deadline.
 * @what is what has none, for the message. */
gboolean ferry_streams_say(const FerryFabricSession *session, guint16 type,
			   const FerryStreamsTerms *terms, gint64 deadline,
			   GCancellable *cancellable, const char *what, GError **error);

/* What describe() tells: "streams", and "stream-bytes", an array with those of each; whether there
 * is an "urgent-stream", and how many "urgent-pages" it brought. Floating. */
GVariant *ferry_streams_describe(guint n, const guint64 *bytes, gboolean urgent,
				 guint64 urgent_pages);
