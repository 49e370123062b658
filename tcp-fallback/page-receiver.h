/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/carrier.h>
#include "streams-link.h"
#include "streams-messages.h"

/*
 * One stream of the destination: a thread that reads pages into guest RAM until a fence, where it
 * waits until the engine has taken the round. So no page of a later round can be overtaken by
 * another of an earlier one, in whichever stream, or in the control stream.
 */
typedef struct FerryPageReceiver FerryPageReceiver;

/* Where pages go, and in postcopy who is asked before and told after. */
typedef struct {
	const FerryRam *ram;    /* borrowed */
	FerryArrivals arrivals; /* all NULL before postcopy */
} FerryPagePlace;

/* What the streams of one carrier share, beside the link. Guarded by link.lock but where it says
 * otherwise. */
typedef struct {
	FerryStreamsLink link;
	GCond changed;
	guint32 released; /* the fence that all may pass */
	gboolean stopping;
	gboolean told;        /* died() was called, or is about to be */
	gint used;            /* atomic: a record came in some stream */
	FerryPagePlace place; /* its ram is there before the threads run */
	/* What each stream is filling, pages 0: nothing. So no page has two writers, and none a
	 * writer that postcopy does not know of. */
	FerryRun filling[FERRY_STREAMS_CONNECTIONS];
	void (*died)(gpointer user); /* the session's */
	gpointer user;
} FerryPageGate;

/* Takes @channel, also on failure, of which @received bytes were read already. @index is below
 * FERRY_STREAMS_CONNECTIONS, and no other's; @urgent is for messages. The thread waits for nothing
 * but the peer. */
FerryPageReceiver *ferry_page_receiver_new(FerryChannel *channel, guint index, gboolean urgent,
					   guint64 received, FerryPageGate *gate, GError **error);

/* Ends the thread; gate->stopping is TRUE and was made known. Idempotent. */
void ferry_page_receiver_stop(FerryPageReceiver *receiver);

/* After stop(). NULL is allowed. */
void ferry_page_receiver_free(FerryPageReceiver *receiver);

/* The fence at which it stands, 0: at none. With gate->link.lock held. */
guint32 ferry_page_receiver_fence(FerryPageReceiver *receiver);

/* "stream 3", or "urgent stream". */
const char *ferry_page_receiver_name(FerryPageReceiver *receiver);

/* So far. Any thread. */
guint64 ferry_page_receiver_bytes(FerryPageReceiver *receiver);
guint64 ferry_page_receiver_pages(FerryPageReceiver *receiver);

/* Fails the gate with @error, which it takes over, and tells the session, if the carrier was in
 * use. Any thread, without the lock. */
void ferry_page_gate_fail(FerryPageGate *gate, GError *error);

/* What FerryCarrierOps.begin_postcopy promises. @arrivals.wanted is called with the lock held.
 * FERRY_ERROR_PEER if a stream is in the middle of a run: it would go on there while the guest
 * runs. */
gboolean ferry_page_gate_begin_postcopy(FerryPageGate *gate, const FerryRam *ram,
					const FerryArrivals *arrivals, GError **error);
