/* SPDX-License-Identifier: BSD-2-Clause */
#include "reply.h"

static gboolean reply(FerryReplies *replies, guint16 type, const void *data, guint16 len,
		      GError **error)
{
	g_autoptr(GByteArray) message = NULL;

	if (!replies->open)
		return TRUE;
	message = g_byte_array_new();
	ferry_put_be16(message, type);
	ferry_put_be16(message, len);
	g_byte_array_append(message, data, len);
	return ferry_channel_write_all(replies->channel, message->data, message->len, error);
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
