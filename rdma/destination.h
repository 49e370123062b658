/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "carriers.h"
#include "quota.h"
#include "regions.h"

/*
 * The destination's end, in two files: destination.c answers the engine and the peer's records,
 * watch.c is the thread "ferry-rdma", which connects, reaps fences and sees the link die.
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

	GMutex lock; /* guards what follows; taken before the link's */
	GCond changed;
	FerryRdmaStage stage;
	FerryRdmaRegions
		*regions; /* made by the thread at the first connection, freed by close() */
	FerryRdmaQuota *quota;
	GQueue unsaid; /* of FerryRdmaUnsaid */
	gboolean error_taken;
	guint64 n_fences;                      /* received, of all queue pairs */
	guint32 fences[FERRY_RDMA_QUEUES_MAX]; /* the last of each */
} FerryRdmaDestination;

/* Receives posted on each queue pair: a fence takes one, and a source sends the next only when it
 * has been answered. */
#define FERRY_RDMA_RECEIVES 8u

gpointer ferry_rdma_destination_thread(gpointer destination);

/* Has the thread say a record to the peer as soon as there is room; takes @payload over. Any
 * thread. */
void ferry_rdma_destination_say(FerryRdmaDestination *d, guint16 type, GBytes *payload);

void ferry_rdma_destination_wake(FerryRdmaDestination *d);
