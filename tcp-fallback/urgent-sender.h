/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/carrier.h>
#include "page-writer.h"
#include "streams-link.h"

/*
 * The stream of the source for pages that the guest waits for. It has no queue: a run is written by
 * whoever brings it, and while its end does not fit into the socket, which is small, there is no
 * room for another; a thread writes the rest.
 */
typedef struct FerryUrgentSender FerryUrgentSender;

/* Takes @channel, also on failure; the rest is borrowed. FERRY_ERROR_IO where there is no
 * descriptor or thread left. */
FerryUrgentSender *ferry_urgent_sender_new(FerryChannel *channel, const FerryPageFraming *framing,
					   const FerryRam *ram, FerryStreamsLink *link,
					   GError **error);

/* Ends the thread, whatever it waits for, and closes the channel. NULL is allowed. */
void ferry_urgent_sender_free(FerryUrgentSender *sender);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryUrgentSender, ferry_urgent_sender_free)

/* What FerryCarrierOps.urgent promises. */
FerryIo ferry_urgent_sender_put(FerryUrgentSender *sender, const FerryRun *run);

/* A fence behind every run that was taken. FALSE: no room now, is_empty() says when there may be.
 * The engine's thread. */
gboolean ferry_urgent_sender_push_fence(FerryUrgentSender *sender, guint32 round);

/* Everything that was taken has gone into the socket, the fence included: what the link's wake is
 * signalled for. Any thread. */
gboolean ferry_urgent_sender_is_empty(FerryUrgentSender *sender);

/* Whether a put() was answered with AGAIN, and now there is room; forgets the answer then. Any
 * thread. */
gboolean ferry_urgent_sender_has_room_again(FerryUrgentSender *sender);

/* On the wire so far, and pages taken. Any thread. */
guint64 ferry_urgent_sender_bytes(FerryUrgentSender *sender);
guint64 ferry_urgent_sender_pages(FerryUrgentSender *sender);
