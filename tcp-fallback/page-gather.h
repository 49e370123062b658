/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/fabric.h>
#include "page-receiver.h"

/*
 * The connections of a destination, and how the engine waits at a fence until all of them have
 * brought it. A carrier beside the channel embeds it; what it says to its peer before is its own.
 */
typedef struct {
	const char *what; /* "parallel streams": for messages; static */
	const FerryFabricSession *session;
	FerryPageGate gate;
	guint expected;     /* connections, 0: not agreed yet; the loading thread's, then fixed */
	GCancellable *stop; /* ends the accepting */
	GThread *accepting; /* the loading thread's; NULL: not begun, or joined */
	FerryPageReceiver *receivers[FERRY_STREAMS_CONNECTIONS]; /* owned */
	guint n; /* atomic, set behind receivers: 0 until all connections are there */
} FerryPageGather;

/* Never fails; ferry_streams_link_open() on its link follows. */
void ferry_page_gather_init(FerryPageGather *gather, const char *what,
			    const FerryFabricSession *session);

/* @n connections are agreed; @accept(@user) gets them, on a thread of its own. FERRY_ERROR_IO where
 * there is none. */
gboolean ferry_page_gather_begin(FerryPageGather *gather, guint n, GThreadFunc accept,
				 gpointer user, GError **error);
/* That thread: they are there. Takes @expected receivers and channels in any case. */
gboolean ferry_page_gather_start(FerryPageGather *gather, FerryPageReceiver **receivers,
				 FerryChannel **channels, GError **error);

/* What FerryCarrierOps.await_fence promises. */
gboolean ferry_page_gather_await(FerryPageGather *gather, guint32 fence, GError **error);
/* Any thread. */
void ferry_page_gather_get_stats(FerryPageGather *gather, FerryCarrierStats *stats);
/* When it returns nothing lands any more; idempotent. */
void ferry_page_gather_quiesce(FerryPageGather *gather);
/* And this frees what it owns. */
void ferry_page_gather_clear(FerryPageGather *gather);
