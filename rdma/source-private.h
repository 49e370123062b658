/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "carriers.h"
#include "queue.h"
#include "reach.h"

/* Slots of the queue pair for urgent pages. */
#define FERRY_RDMA_URGENT_SENDS 64u

/*
 * The source's carrier. One thread of the engine's drives it, share_ram() to close(), and owns what
 * no comment gives to another; hear() comes on the thread of the return path, the regions' helper
 * calls back on its own, and urgent() may be called on another. All wake the driving thread through
 * @wake.
 */
typedef struct {
	FerryCarrier base;
	const FerryVerbs *verbs;
	char *host;
	guint16 port;
	const FerryFabricSession *session; /* borrowed */
	const FerryRam *ram;               /* borrowed; NULL before share_ram() */
	int wake;                          /* eventfd */

	/* Each is stored once, atomically, and stays until close(): other threads get it so. */
	FerryRdmaLink *link;
	FerryRdmaRegions *regions;
	FerryRdmaReach *reach;
	FerryRdmaQueues *queues;
	FerryRdmaQueues *urgent; /* NULL: no postcopy; used under @urgent_lock */
	FerryRdmaTerms terms;    /* offered, then agreed; agreed before @connected */
	int connected;           /* atomic */
	int switched;            /* atomic: switch_over() was called */
	int closing;             /* atomic */
	GMutex urgent_lock;      /* no other is taken inside but the link's */

	GMutex lock; /* guards these two; taken before the link's */
	enum {
		FERRY_RDMA_SILENT,
		FERRY_RDMA_OFFERED,
		FERRY_RDMA_ANSWERED,
		FERRY_RDMA_TURNED_DOWN, /* the link is dead with the reason */
	} talk;
	FerryRdmaTerms answer; /* as heard */

	int access;        /* of the regions here */
	guint64 pin_limit; /* here; 0: none */

	FerryRun rest; /* of the last run that was taken, not written yet; pages 0: nothing */
	guint32 write_size;
	gboolean settling;      /* settle() was begun, and a fence is not posted or not completed */
	gboolean fenced;        /* all are posted */
	gboolean urgent_fenced; /* the one of the urgent queue pair is */
	gboolean spins;         /* a short busy poll helps: there are processors to spare */
	gint64 events_us;       /* when the link's events were last looked at */

	/* Written by the driving thread, read by any: relaxed. */
	struct {
		guint64 pages;
		guint64 urgent_pages; /* written under @urgent_lock */
		guint64 sleeps;
		guint64 window_stalls;
		guint64 region_stalls;
		gint64 start_us;
		gint64 resolve_us; /* each step of share_ram(): how long it took */
		gint64 connect_us;
		gint64 first_region_us;
		gint64 first_write_us; /* after @start_us; 0: none yet */
		guint64 regions_at_first_write;
	} stats;
} FerryRdmaSource;

/* source-terms.c: sets what is offered, once the link knows device and port; then what is agreed,
 * where the answer takes of the offer and adds nothing to it. */
gboolean ferry_rdma_source_choose_terms(FerryRdmaSource *s, GError **error);
gboolean ferry_rdma_source_agree(FerryRdmaSource *s, GError **error);

/* source-setup.c */
gboolean ferry_rdma_source_share_ram(FerryCarrier *carrier, const FerryRam *ram, GError **error);

/* source-put.c */
FerryIo ferry_rdma_source_put(FerryCarrier *carrier, const FerryRun *runs, size_t n, size_t *taken);
FerryIo ferry_rdma_source_progress(FerryCarrier *carrier);
FerryIo ferry_rdma_source_settle(FerryCarrier *carrier, guint32 fence);
void ferry_rdma_source_wait(FerryCarrier *carrier, gint64 timeout_us);

/* source-urgent.c */
gboolean ferry_rdma_source_pulls(FerryCarrier *carrier);
void ferry_rdma_source_switch_over(FerryCarrier *carrier);
FerryIo ferry_rdma_source_urgent(FerryCarrier *carrier, const FerryRun *run);
/* On the driving thread, without waiting for the lock: take completions; fence, and say whether
 * everything urgent has completed, as it is without an urgent queue pair. */
guint ferry_rdma_source_poll_urgent(FerryRdmaSource *s);
gboolean ferry_rdma_source_settle_urgent(FerryRdmaSource *s, guint32 fence);

/* source.c: both from any thread. */
void ferry_rdma_source_wake(FerryRdmaSource *source);
void ferry_rdma_source_drain(FerryRdmaSource *source); /* takes what woke it */

static inline void ferry_rdma_source_count(guint64 *counter, guint64 n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static inline void ferry_rdma_source_note(gint64 *value, gint64 us)
{
	__atomic_store_n(value, us, __ATOMIC_RELAXED);
}
