/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/multifd.h>
#include "socket.h"

/*
 * QEMU's multifd as a carrier between Ferry peers: its packets on connections to the place that the
 * control channel is connected to. Before the first page:
 *
 *   source                                     destination
 *   OFFER: channels, compression     ------->  the same as there, or the migration ends
 *   (the connections, with QEMU's init packet: its uuid is the session's nonce)
 *                                    <-------  ANSWER: all are there; or REFUSE: why none can be
 *   packets, SYNC for each fence     ------->
 */
typedef enum {
	FERRY_RECORD_MULTIFD_OFFER = 0x130,  /* be32 channels, be32 compression */
	FERRY_RECORD_MULTIFD_ANSWER = 0x131, /* the same again */
	FERRY_RECORD_MULTIFD_REFUSE = 0x132, /* UTF-8: why not */
} FerryMultifdRecordType;
#define FERRY_RECORD_MULTIFD_LAST 0x13fu

/* What both sides' settings must agree on. */
typedef struct {
	guint32 channels; /* 1 to FERRY_MULTIFD_CHANNELS_MAX */
	guint32 compression;
} FerryMultifdTerms;
#define FERRY_MULTIFD_TERMS_SIZE 8u

FerryMultifdTerms ferry_multifd_terms(FerrySettings *settings);
/* Fills exactly the size above. */
void ferry_multifd_put_terms(guint8 *out, const FerryMultifdTerms *terms);
/* Those of a peer: FERRY_ERROR_PEER where they are none, FERRY_ERROR_MISMATCH with both values
 * where they are not @ours. */
gboolean ferry_multifd_check_terms(const guint8 *payload, size_t len, const FerryMultifdTerms *ours,
				   GError **error);

/* What describe() tells: "multifd-channels", "multifd-compression", "channel-bytes", and where it is
 * asked for, "zero-copy-send": whether it is done. Floating. */
GVariant *ferry_multifd_describe(const FerryMultifdTerms *terms, guint n, const guint64 *bytes,
				 gboolean asked, gboolean zero_copy);

/* The fabrics: of a source's URI (copied), which @transport connects to; and of a listener, which
 * is borrowed, and on whose sockets the connections come in. */
FerryFabric *ferry_multifd_source_fabric_new(const FerryTransport *transport, const char *uri);
FerryFabric *ferry_multifd_destination_fabric_new(FerrySocketListener *listener);

/* Their carriers. */
FerryCarrier *ferry_multifd_source_new(const FerryTransport *transport, const char *uri,
				       const FerryFabricSession *session);
FerryCarrier *ferry_multifd_destination_new(FerrySocketListener *listener,
					    const FerryFabricSession *session);
