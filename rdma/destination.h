/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "carriers.h"
#include "fetch.h"
#include "quota.h"
#include "readable.h"
#include "regions.h"

/*
 * The destination's end. destination.c answers the engine and the peer's records, agree.c the
 * offer; watch.c is the thread "ferry-rdma", which connects, reaps what the source writes and sees
 * the link die; destination-postcopy.c is what comes after the switch: pages that the source tells
 * of, on that thread, and pages that are fetched, on a thread of the engine's.
 */
typedef enum {
	FERRY_RDMA_IDLE,       /* no offer yet */
	FERRY_RDMA_REFUSED,    /* the offer, or what came of it */
	FERRY_RDMA_CONNECTING, /* ANSWER is on its way, queue pairs are being accepted */
	FERRY_RDMA_CONNECTED,
} FerryRdmaStage;

/* A record that waits for room. */
typedef struct {
	guint16 type;
	GBytes *payload;
} FerryRdmaUnsaid;

typedef struct {
	FerryCarrier base;
	const FerryVerbs *verbs;
	FerryRdmaAcceptor *acceptor;
	const FerryFabricSession *session;
	const FerryRam *ram;
	FerryRdmaTerms terms; /* agreed; fixed before the thread starts */
	FerryRdmaDepths depths;
	FerryRdmaLink *link;
	GThread *thread;
	int wake;             /* eventfd: something is unsaid, or it is time to stop */
	GCancellable *cancel; /* ends the thread's waits; follows the session's */
	gulong session_cancel;
	int quiet; /* atomic: what happens to the link from now on is not a death */

	/* Postcopy. */
	FerryRdmaReadable
		*readable;         /* NULL: it does not pull; stays from the answer until close() */
	FerryRdmaFetches *fetches; /* the same, from begin_postcopy() on */
	int begun;                 /* atomic; what begin_postcopy() stored is fixed behind it: */
	FerryArrivals arrivals;
	guint64 *
		first; /* the number of each block's first page, and behind the last of all pages */
	int wake_fetching;      /* eventfd: wait_fetched() has something to look at */
	gboolean spins;         /* there are processors to spare */
	gboolean starved;       /* fetching thread's: there was no room, nor did any come since */
	gboolean relieved;      /* the same: it came, and nobody was told */
	guint64 writes, urgent; /* told by the source; the thread's, read by any: relaxed */
	struct {
		guint owed;            /* writes that came and were not given back */
		guint under_way;       /* words of it */
	} back[FERRY_RDMA_QUEUES_MAX]; /* the thread's own */

	GMutex lock; /* guards what follows; taken before the link's */
	GCond changed;
	FerryRdmaStage stage;
	FerryRdmaRegions
		*regions; /* made by the thread at the first connection, freed by close() */
	FerryRdmaQuota *quota;
	GQueue unsaid; /* of FerryRdmaUnsaid */
	gboolean error_taken;
	GError *flushed;   /* work that was, of which the cause is not known; NULL: none */
	gint64 flushed_us; /* since when */
	guint64 n_fences;  /* received, of all queue pairs */
	guint32 fences[FERRY_RDMA_QUEUES_MAX]; /* the last of each */
} FerryRdmaDestination;

/* Receives posted on each queue pair: a fence takes one, and a source sends the next only when it
 * has been answered. In postcopy there are FERRY_RDMA_CREDITS more. */
#define FERRY_RDMA_RECEIVES 8u

/* agree.c: makes of the offer in @terms what both sides can. */
gboolean ferry_rdma_destination_agree(FerryRdmaDestination *d, FerryRdmaTerms *terms,
				      GError **error);

gpointer ferry_rdma_destination_thread(gpointer destination);

/* Has the thread say a record to the peer as soon as there is room; takes @payload over. Any
 * thread. */
void ferry_rdma_destination_say(FerryRdmaDestination *d, guint16 type, GBytes *payload);

void ferry_rdma_destination_wake(FerryRdmaDestination *d);

/* watch.c, its thread: posts a receive. */
gboolean ferry_rdma_destination_post_receive(FerryRdmaDestination *d, guint queue, GError **error);

/* ---- destination-postcopy.c ---- */

gboolean ferry_rdma_destination_pulls(FerryCarrier *carrier);
gboolean ferry_rdma_destination_begin_postcopy(FerryCarrier *carrier, const FerryRam *ram,
					       const FerryArrivals *arrivals, GError **error);
FerryIo ferry_rdma_destination_fetch(FerryCarrier *carrier, const FerryRun *run, gboolean urgent);
FerryIo ferry_rdma_destination_progress(FerryCarrier *carrier);
void ferry_rdma_destination_wait_fetched(FerryCarrier *carrier, int fd, gint64 timeout_us);
void ferry_rdma_destination_wake_fetching(FerryRdmaDestination *d); /* any thread */

/* Pulling: work was flushed, whose cause whoever finds it tells; takes @error over. Any thread. */
void ferry_rdma_destination_put_flushed(FerryRdmaDestination *d, GError *error);

/* Ids of work requests: a receive has its queue's, the word that gives back to it this much more.
 */
#define FERRY_RDMA_GIVEN_BACK 0x100u
/* On the thread: a write of the source's that has data; a word of ours that has completed. */
gboolean ferry_rdma_destination_take_write(FerryRdmaDestination *d, const struct ibv_wc *wc,
					   GError **error);
gboolean ferry_rdma_destination_gave_back(FerryRdmaDestination *d, guint queue, GError **error);

void ferry_rdma_destination_report_postcopy(FerryRdmaDestination *d, GVariantDict *dict);
