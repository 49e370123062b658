/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/carrier.h>
#include <ferry/protocol.h>
#include <ferry/settings.h>

G_BEGIN_DECLS

/*
 * A fabric moves pages beside the control channel: RDMA does. A transport or its listener has one;
 * the engine uses it where both sides have, and the channel's own page carrier where not. The
 * conversation, in records of the carrier's own on the control stream (FERRY_RECORD_IS_FABRIC()
 * tells their types; opaque to the engine):
 *
 *   source                                    destination
 *   open(), share_ram():
 *   records of the carrier        ------->    open(), share_ram() at the first one; hear()
 *           hear()                <-------    records of the carrier
 *   share_ram() returned TRUE:
 *   CARRIER 1                     ------->    pages come beside the stream from here on
 *   or it failed: the next fabric is tried, whose first record closes the carrier there;
 *   no fabric left:
 *   CARRIER 0                     ------->    close(); pages come in the stream
 */
typedef struct {
	gboolean source;     /* else the destination */
	const guint8 *nonce; /* FERRY_NONCE_SIZE bytes: names the session on both sides */
	FerrySettings *settings;
	GCancellable *cancellable; /* ends every wait of share_ram() */
	/* the guest may be switched over before its pages: the carrier makes ready what that takes
	 * (a way for urgent pages, readable memory). The destination's follows ADVISE */
	gboolean postcopy;

	/* Says a record of the carrier's own to the peer. Any thread; never blocks. FALSE: no room
	 * now, try again later (or the control channel is dead, which its own reader finds out). */
	gboolean (*say)(gpointer user, guint16 type, const guint8 *payload, size_t len);

	/* The carrier died while the engine was not looking (destination: its own threads find
	 * out). Any thread; at most once. The engine then takes the error with take_error(). */
	void (*died)(gpointer user);
	gpointer user;
} FerryFabricSession;

typedef struct {
	const char *name; /* "rdma": what the status shows as the transport */

	/* Its bit of FERRY_FEATURE_ in HELLO, and the types of its carriers' records: by them both
	 * sides know what the other has, and what it tries. */
	guint64 feature;
	guint16 first_record, last_record;

	/* A carrier for one session, not connected yet: share_ram() does that. Never fails.
	 * @session is borrowed until the carrier is closed. */
	FerryCarrier *(*open)(FerryFabric *fabric, const FerryFabricSession *session);

	void (*close)(FerryFabric *fabric);
} FerryFabricOps;

struct FerryFabric {
	const FerryFabricOps *ops;
	/* what to try where this one cannot: RDMA has parallel sockets behind it; owned, may be
	 * NULL */
	FerryFabric *next;
};

/* The features of all of a chain; 0 for NULL. */
static inline guint64 ferry_fabric_features(const FerryFabric *fabric)
{
	guint64 features = 0;

	for (; fabric; fabric = fabric->next)
		features |= fabric->ops->feature;
	return features;
}

/* The one of a chain whose record has the type; NULL if none has. */
static inline FerryFabric *ferry_fabric_find(FerryFabric *fabric, guint16 type)
{
	while (fabric && (type < fabric->ops->first_record || type > fabric->ops->last_record))
		fabric = fabric->next;
	return fabric;
}

/* With all that come after it. NULL is allowed. */
static inline void ferry_fabric_close(FerryFabric *fabric)
{
	while (fabric) {
		FerryFabric *next = fabric->next;

		fabric->ops->close(fabric);
		fabric = next;
	}
}

G_END_DECLS
