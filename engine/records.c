/* SPDX-License-Identifier: BSD-2-Clause */
#include "records.h"

#define DIGEST_PRESENT 1u

gboolean ferry_record_get_header(const guint8 *data, size_t len, FerryRecord *record,
				 GError **error)
{
	guint8 version;

	if (len < FERRY_RECORD_HEADER) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "a record of %" G_GSIZE_FORMAT " bytes is shorter than its header",
			    len);
		return FALSE;
	}
	version = data[2];
	record->type = ferry_load_be16(data);
	record->flags = data[3];
	record->length = ferry_load_be32(data + 4);
	if (record->length != len - FERRY_RECORD_HEADER) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "record 0x%04x says %u bytes, its message holds %" G_GSIZE_FORMAT,
			    record->type, record->length, len - FERRY_RECORD_HEADER);
		return FALSE;
	}
	if (version != FERRY_RECORD_VERSION && !(record->flags & FERRY_RECORD_MAY_SKIP)) {
		g_set_error(
			error, FERRY_ERROR, FERRY_ERROR_PEER,
			"record 0x%04x has version %u, this Ferry speaks %u: run the same release on "
			"both sides",
			record->type, version, FERRY_RECORD_VERSION);
		return FALSE;
	}
	/* Its type may mean something else there: skipped as one that nobody knows. */
	if (version != FERRY_RECORD_VERSION)
		record->type = 0;
	return TRUE;
}

/* Reads a payload from memory; finish() says whether exactly all of it was right. */
static FerryStreamReader *begin(const guint8 *payload, size_t len)
{
	return ferry_stream_reader_new_for_data(payload, len);
}

static gboolean finish(FerryStreamReader *reader, size_t len, const char *name, gboolean sane,
		       GError **error)
{
	if (sane && ferry_stream_reader_check(reader, NULL) &&
	    ferry_stream_reader_offset(reader) == len)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "malformed record %s (%" G_GSIZE_FORMAT " bytes)", name, len);
	return FALSE;
}

void ferry_record_put_hello(GByteArray *out, const FerryHello *hello)
{
	ferry_put_record_header(out, FERRY_RECORD_HELLO, 0, 4 + 8 + 4 + FERRY_NONCE_SIZE);
	ferry_put_be32(out, hello->version);
	ferry_put_be64(out, hello->features);
	ferry_put_be32(out, hello->page_size);
	g_byte_array_append(out, hello->nonce, FERRY_NONCE_SIZE);
}

gboolean ferry_record_get_hello(const guint8 *payload, size_t len, FerryHello *hello,
				GError **error)
{
	g_autoptr(FerryStreamReader) reader = begin(payload, len);
	FerryHello in;

	in.version = ferry_stream_reader_be32(reader);
	in.features = ferry_stream_reader_be64(reader);
	in.page_size = ferry_stream_reader_be32(reader);
	ferry_stream_reader_bytes(reader, in.nonce, FERRY_NONCE_SIZE);
	if (!finish(reader, len, "HELLO", TRUE, error))
		return FALSE;
	*hello = in;
	return TRUE;
}

void ferry_record_put_round(GByteArray *out, guint16 type, const FerryRoundMark *mark)
{
	ferry_put_record_header(out, type, 0, 4 + 8);
	ferry_put_be32(out, mark->round);
	ferry_put_be64(out, mark->pages);
}

gboolean ferry_record_get_round(const guint8 *payload, size_t len, FerryRoundMark *mark,
				GError **error)
{
	g_autoptr(FerryStreamReader) reader = begin(payload, len);
	FerryRoundMark in;

	in.round = ferry_stream_reader_be32(reader);
	in.pages = ferry_stream_reader_be64(reader);
	if (!finish(reader, len, "ROUND", TRUE, error))
		return FALSE;
	*mark = in;
	return TRUE;
}

void ferry_record_put_digest(GByteArray *out, guint16 type, const FerryHandoverDigest *digest)
{
	ferry_put_record_header(out, type, 0, 4 + 8);
	ferry_put_be32(out, digest->has_digest ? DIGEST_PRESENT : 0);
	ferry_put_be64(out, digest->digest);
}

gboolean ferry_record_get_digest(const guint8 *payload, size_t len, FerryHandoverDigest *digest,
				 GError **error)
{
	g_autoptr(FerryStreamReader) reader = begin(payload, len);
	guint32 flags = ferry_stream_reader_be32(reader);
	guint64 value = ferry_stream_reader_be64(reader);

	if (!finish(reader, len, "HANDOVER", !(flags & ~DIGEST_PRESENT), error))
		return FALSE;
	digest->has_digest = flags & DIGEST_PRESENT;
	digest->digest = value;
	return TRUE;
}

void ferry_record_put_nonce(GByteArray *out, guint16 type, const guint8 nonce[FERRY_NONCE_SIZE])
{
	ferry_put_record_header(out, type, 0, FERRY_NONCE_SIZE);
	g_byte_array_append(out, nonce, FERRY_NONCE_SIZE);
}

gboolean ferry_record_get_nonce(const guint8 *payload, size_t len, guint8 nonce[FERRY_NONCE_SIZE],
				GError **error)
{
	if (len != FERRY_NONCE_SIZE) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "a session's nonce has %u bytes, not %" G_GSIZE_FORMAT,
			    FERRY_NONCE_SIZE, len);
		return FALSE;
	}
	memcpy(nonce, payload, FERRY_NONCE_SIZE);
	return TRUE;
}

void ferry_record_put_running(GByteArray *out, const FerryHandoverRunning *running)
{
	ferry_put_record_header(out, FERRY_RECORD_HANDOVER_RUNNING, 0, 8 + 8);
	ferry_put_be64(out, running->user_us);
	ferry_put_be64(out, running->system_us);
}

gboolean ferry_record_get_running(const guint8 *payload, size_t len, FerryHandoverRunning *running,
				  GError **error)
{
	g_autoptr(FerryStreamReader) reader = begin(payload, len);
	FerryHandoverRunning in;

	in.user_us = ferry_stream_reader_be64(reader);
	in.system_us = ferry_stream_reader_be64(reader);
	if (!finish(reader, len, "HANDOVER_RUNNING", TRUE, error))
		return FALSE;
	*running = in;
	return TRUE;
}

void ferry_record_put_carrier(GByteArray *out, gboolean beside)
{
	ferry_put_record_header(out, FERRY_RECORD_CARRIER, 0, 4);
	ferry_put_be32(out, beside ? 1 : 0);
}

gboolean ferry_record_get_carrier(const guint8 *payload, size_t len, gboolean *beside,
				  GError **error)
{
	g_autoptr(FerryStreamReader) reader = begin(payload, len);
	guint32 value = ferry_stream_reader_be32(reader);

	if (!finish(reader, len, "CARRIER", value <= 1, error))
		return FALSE;
	*beside = value == 1;
	return TRUE;
}

void ferry_record_put_heartbeat(GByteArray *out)
{
	ferry_put_record_header(out, FERRY_RECORD_HEARTBEAT, FERRY_RECORD_MAY_SKIP, 0);
}

void ferry_record_put_answer(GByteArray *out, FerryHandoverAnswer answer)
{
	ferry_put_record_header(out, FERRY_RECORD_HANDOVER_STATE, 0, 4);
	ferry_put_be32(out, answer);
}

gboolean ferry_record_get_answer(const guint8 *payload, size_t len, FerryHandoverAnswer *answer,
				 GError **error)
{
	g_autoptr(FerryStreamReader) reader = begin(payload, len);
	guint32 value = ferry_stream_reader_be32(reader);

	if (!finish(reader, len, "HANDOVER_STATE", value <= FERRY_HANDOVER_DISCARDED, error))
		return FALSE;
	*answer = value;
	return TRUE;
}

void ferry_record_put_empty(GByteArray *out, guint16 type)
{
	ferry_put_record_header(out, type, 0, 0);
}

gboolean ferry_record_get_empty(const guint8 *payload, size_t len, const char *name, GError **error)
{
	g_autoptr(FerryStreamReader) reader = begin(payload, len);

	return finish(reader, len, name, TRUE, error);
}

void ferry_record_put_error(GByteArray *out, const char *text)
{
	size_t len = MIN(strlen(text), FERRY_RECORD_ERROR_MAX);

	while (len && ((guint8)text[len] & 0xc0) == 0x80)
		len--;
	ferry_put_record_header(out, FERRY_RECORD_ERROR, 0, len);
	g_byte_array_append(out, (const guint8 *)text, len);
}

char *ferry_record_get_error(const guint8 *payload, size_t len)
{
	g_autofree char *raw = g_strndup((const char *)payload, MIN(len, FERRY_RECORD_ERROR_MAX));
	char *text = g_utf8_make_valid(raw, -1);

	for (char *p = text; *p; p++)
		if (g_ascii_iscntrl(*p))
			*p = ' ';
	return text;
}
