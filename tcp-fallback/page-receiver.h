/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/carrier.h>
#include "streams-link.h"
#include "streams-messages.h"

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

/*
 * One connection of the destination: a thread that reads pages into guest RAM until a fence, where
 * it waits until the engine has taken the round. So no page of a later round can be overtaken by
 * another of an earlier one, in whichever connection, or in the control stream. What it reads is up
 * to whoever puts this first in a struct of its own.
 */
typedef struct FerryPageReceiver FerryPageReceiver;
struct FerryPageReceiver {
	FerryChannel *channel; /* owned */
	FerryPageGate *gate;   /* borrowed */
	guint index;
	char *name; /* "stream 3", for messages; owned */
	GThread *thread;
	guint32 fence;        /* where it stands, 0: at none; guarded by gate->link.lock */
	guint32 passed;       /* the last fence; the thread's */
	guint64 bytes, pages; /* stored by the thread, loaded by any: relaxed */

	/* What comes next, on the thread. FALSE: it ends, without @error if the gate was shut. */
	gboolean (*receive)(FerryPageReceiver *receiver, GError **error);
	/* Frees the struct, and what is behind this. */
	void (*free)(FerryPageReceiver *receiver);
};

/* Takes @channel, also on failure. @index is below FERRY_STREAMS_CONNECTIONS, and no other's. The
 * thread waits for nothing but the peer. */
gboolean ferry_page_receiver_start(FerryPageReceiver *receiver, FerryChannel *channel, guint index,
				   FerryPageGate *gate, GError **error);

/* Ends the thread; gate->stopping is TRUE and was made known. Idempotent. */
void ferry_page_receiver_stop(FerryPageReceiver *receiver);

/* After stop(), or a start() that failed. NULL is allowed. */
void ferry_page_receiver_free(FerryPageReceiver *receiver);

/* The thread: stands at @fence until all others do and the engine has taken the round. FALSE: the
 * gate was shut meanwhile. */
gboolean ferry_page_receiver_stand(FerryPageReceiver *receiver, guint32 fence);

/* Counters have one thread that adds, and any that load. */
static inline void ferry_page_count(guint64 *counter, guint64 n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

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
