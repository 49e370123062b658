/* SPDX-License-Identifier: BSD-2-Clause */
#include "reply.h"

#include "postcopy-wire.h"

void ferry_replies_init(FerryReplies *replies, FerryChannel *channel)
{
	*replies = (FerryReplies){ .channel = channel, .last_block = -1 };
	g_mutex_init(&replies->lock);
}

void ferry_replies_clear(FerryReplies *replies)
{
	g_mutex_clear(&replies->lock);
}

void ferry_replies_open(FerryReplies *replies)
{
	g_mutex_lock(&replies->lock);
	replies->open = replies->channel->duplex;
	g_mutex_unlock(&replies->lock);
}

static gboolean write_locked(FerryReplies *replies, const GByteArray *messages, GError **error)
{
	return !replies->open ||
	       ferry_channel_write_all(replies->channel, messages->data, messages->len, error);
}

gboolean ferry_reply_messages(FerryReplies *replies, const GByteArray *messages, GError **error)
{
	gboolean ok;

	g_mutex_lock(&replies->lock);
	ok = write_locked(replies, messages, error);
	g_mutex_unlock(&replies->lock);
	return ok;
}

static gboolean reply(FerryReplies *replies, guint16 type, const void *data, guint16 len,
		      GError **error)
{
	g_autoptr(GByteArray) message = g_byte_array_new();

	ferry_put_be16(message, type);
	ferry_put_be16(message, len);
	g_byte_array_append(message, data, len);
	return ferry_reply_messages(replies, message, error);
}

static gboolean reply_value(FerryReplies *replies, guint16 type, guint32 value, GError **error)
{
	guint8 data[4];

	ferry_store_be32(data, value);
	return reply(replies, type, data, sizeof(data), error);
}

gboolean ferry_reply_shut(FerryReplies *replies, guint32 value, GError **error)
{
	return reply_value(replies, FERRY_RETURN_SHUT, value, error);
}

gboolean ferry_reply_pong(FerryReplies *replies, guint32 value, GError **error)
{
	return reply_value(replies, FERRY_RETURN_PONG, value, error);
}

gboolean ferry_reply_record(FerryReplies *replies, const GByteArray *record, GError **error)
{
	return reply(replies, FERRY_RETURN_FERRY, record->data, record->len, error);
}

gboolean ferry_reply_request(FerryReplies *replies, const FerryRam *ram, const FerryRun *run,
			     GError **error)
{
	g_autoptr(GByteArray) message = g_byte_array_new();
	gboolean ok;

	g_mutex_lock(&replies->lock);
	/* Which block the source remembers follows from the order on the wire. */
	ferry_postcopy_put_request(message, ram, run, &replies->last_block);
	ok = write_locked(replies, message, error);
	g_mutex_unlock(&replies->lock);
	return ok;
}
