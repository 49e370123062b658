/* SPDX-License-Identifier: BSD-2-Clause */
#include "streams-messages.h"

#include <string.h>

#define MAGIC 0x46535452u /* "FSTR" */
#define VERSION 1u

void ferry_streams_put_greeting(guint8 *out, const FerryStreamsGreeting *greeting)
{
	ferry_store_be32(out, MAGIC);
	ferry_store_be32(out + 4, VERSION);
	memcpy(out + 8, greeting->nonce, FERRY_NONCE_SIZE);
	ferry_store_be32(out + 8 + FERRY_NONCE_SIZE, greeting->index);
}

gboolean ferry_streams_get_greeting(const guint8 *data, FerryStreamsGreeting *greeting)
{
	if (ferry_load_be32(data) != MAGIC || ferry_load_be32(data + 4) != VERSION)
		return FALSE;
	memcpy(greeting->nonce, data + 8, FERRY_NONCE_SIZE);
	greeting->index = ferry_load_be32(data + 8 + FERRY_NONCE_SIZE);
	return TRUE;
}

void ferry_streams_put_fence(guint8 *out, guint32 round)
{
	out[0] = FERRY_SECTION_COMMAND;
	ferry_store_be16(out + 1, FERRY_COMMAND_FERRY);
	ferry_store_be16(out + 3, FERRY_RECORD_HEADER + FERRY_STREAMS_NUMBER_SIZE);
	ferry_store_be16(out + 5, FERRY_RECORD_STREAMS_FENCE);
	out[7] = FERRY_RECORD_VERSION;
	out[8] = 0;
	ferry_store_be32(out + 9, FERRY_STREAMS_NUMBER_SIZE);
	ferry_store_be32(out + FERRY_STREAMS_FRAME_HEADER, round);
}

static gboolean check_number(const char *record, guint32 number, guint32 min, guint32 max,
			     GError **error)
{
	if (number >= min && number <= max)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER, "record %s: %u is not from %u to %u",
		    record, number, min, max);
	return FALSE;
}

size_t ferry_streams_put_terms(guint8 *out, const FerryStreamsTerms *terms)
{
	ferry_store_be32(out, terms->streams);
	if (!terms->flags)
		return 4;
	ferry_store_be32(out + 4, terms->flags);
	return 8;
}

gboolean ferry_streams_get_terms(const char *record, const guint8 *payload, size_t len,
				 const FerryStreamsTerms *most, FerryStreamsTerms *terms,
				 GError **error)
{
	FerryStreamsTerms in = { 0 };

	if (len != 4 && len != 8) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "record %s: %zu bytes instead of 4 or 8", record, len);
		return FALSE;
	}
	in.streams = ferry_load_be32(payload);
	if (len == 8)
		in.flags = ferry_load_be32(payload + 4);
	if (!check_number(record, in.streams, 1, most->streams, error))
		return FALSE;
	if (in.flags & ~most->flags) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "record %s: of flags 0x%x only 0x%x were offered", record, in.flags,
			    most->flags);
		return FALSE;
	}
	*terms = in;
	return TRUE;
}

gboolean ferry_streams_get_fence(const guint8 *payload, size_t len, guint32 min, guint32 *round,
				 GError **error)
{
	guint32 in;

	if (len != FERRY_STREAMS_NUMBER_SIZE) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "record STREAMS_FENCE: %zu bytes instead of %u", len,
			    FERRY_STREAMS_NUMBER_SIZE);
		return FALSE;
	}
	in = ferry_load_be32(payload);
	if (!check_number("STREAMS_FENCE", in, min, G_MAXUINT32, error))
		return FALSE;
	*round = in;
	return TRUE;
}

gboolean ferry_streams_get_frame(const guint8 *data, size_t max, guint16 *type, size_t *len,
				 GError **error)
{
	guint16 outer = ferry_load_be16(data + 3);
	guint32 inner = ferry_load_be32(data + 9);

	if (data[0] != FERRY_SECTION_COMMAND || ferry_load_be16(data + 1) != FERRY_COMMAND_FERRY) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "no record where one must be, but 0x%02x 0x%04x", data[0],
			    ferry_load_be16(data + 1));
		return FALSE;
	}
	if (data[7] != FERRY_RECORD_VERSION || inner > max ||
	    outer != FERRY_RECORD_HEADER + inner) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "record 0x%04x of version %u has %u bytes in a command of %u",
			    ferry_load_be16(data + 5), data[7], inner, outer);
		return FALSE;
	}
	*type = ferry_load_be16(data + 5);
	*len = inner;
	return TRUE;
}
