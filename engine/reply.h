/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/channel.h>
#include "records.h"

/*
 * The return path at the destination: writes the messages. One thread uses it. Nothing is written
 * before the source opened the path, and nothing on a channel that has no way back.
 */
typedef struct {
	FerryChannel *channel; /* borrowed */
	gboolean open;         /* OPEN_RETURN_PATH came, and the channel is duplex */
} FerryReplies;

/* All return TRUE where the path is not open: there is nobody to tell. */
gboolean ferry_reply_shut(FerryReplies *replies, guint32 value, GError **error);
gboolean ferry_reply_pong(FerryReplies *replies, guint32 value, GError **error);
/* @record: one whole record, as the ferry_record_put_ functions make it. */
gboolean ferry_reply_record(FerryReplies *replies, const GByteArray *record, GError **error);
