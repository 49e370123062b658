/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/carrier.h>
#include "page-writer.h"
#include "streams-link.h"

/*
 * One stream of the source: a thread that sends what the engine's thread hands it through a ring
 * without locks. All functions but get_bytes() are the engine's thread's.
 */
typedef struct FerryPageSender FerryPageSender;

/* Largest run that is handed over at a time, pages: 1 MiB. */
#define FERRY_PAGE_SENDER_RUN 256u

/* Takes @channel, also on failure; the rest is borrowed. @index is for messages. FERRY_ERROR_IO
 * where there is no descriptor or thread left. */
FerryPageSender *ferry_page_sender_new(FerryChannel *channel, guint index,
				       const FerryPageFraming *framing, const FerryRam *ram,
				       FerryStreamsLink *link, GError **error);

/* Ends the thread, whatever it waits for, and closes the channel. NULL is allowed. */
void ferry_page_sender_free(FerryPageSender *sender);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryPageSender, ferry_page_sender_free)

/* Pages that may be handed over now; 0: full. */
guint64 ferry_page_sender_room(FerryPageSender *sender);

/* @run has at most FERRY_PAGE_SENDER_RUN pages, and there is room, whatever it is. */
void ferry_page_sender_push(FerryPageSender *sender, const FerryRun *run);

/* There is always room for one fence; another may follow once all is written. */
void ferry_page_sender_push_fence(FerryPageSender *sender, guint32 round);

/* At most half full: what the link's wake is signalled for, beside the next. */
gboolean ferry_page_sender_is_low(FerryPageSender *sender);

/* Everything that was handed over has gone into the socket. */
gboolean ferry_page_sender_is_empty(FerryPageSender *sender);

/* On the wire so far. Any thread. */
guint64 ferry_page_sender_bytes(FerryPageSender *sender);
