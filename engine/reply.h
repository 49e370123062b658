/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/channel.h>
#include "records.h"

/*
 * The return path at the destination: writes the messages. Nothing is written before the source
 * opened the path, and nothing on a channel that has no way back. Between init and clear any thread
 * may write: the loading thread answers, in postcopy another asks for pages. Messages never
 * interleave.
 */
typedef struct {
	FerryChannel *channel; /* borrowed */
	GMutex lock;           /* held while a message is written; guards the rest */
	gboolean open;         /* OPEN_RETURN_PATH came, and the channel is duplex */
	int last_block;        /* of the last request for pages; -1: none yet */
} FerryReplies;

void ferry_replies_init(FerryReplies *replies, FerryChannel *channel);
/* Nobody writes any more. */
void ferry_replies_clear(FerryReplies *replies);
/* OPEN_RETURN_PATH came. */
void ferry_replies_open(FerryReplies *replies);

/* All return TRUE where the path is not open: there is nobody to tell. */
gboolean ferry_reply_shut(FerryReplies *replies, guint32 value, GError **error);
gboolean ferry_reply_pong(FerryReplies *replies, guint32 value, GError **error);
/* @record: one whole record, as the ferry_record_put_ functions make it. */
gboolean ferry_reply_record(FerryReplies *replies, const GByteArray *record, GError **error);

/* Postcopy: asks for pages, as ferry_postcopy_put_request(). */
gboolean ferry_reply_request(FerryReplies *replies, const FerryRam *ram, const FerryRun *run,
			     GError **error);
/* Any whole messages of postcopy-wire.h, with what follows them. */
gboolean ferry_reply_messages(FerryReplies *replies, const GByteArray *messages, GError **error);
