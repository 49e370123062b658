/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/stream.h>

/* Large enough that the reads of a page stream cost little, small enough to stay in the cache and
 * to let back-pressure through to the source. */
#define BUFFER_SIZE (128u << 10)

struct FerryStreamReader {
	FerryReadFunc read; /* NULL: all there is lies between next and end */
	gpointer user;
	FerrySkipFunc skip; /* or NULL */
	guint8 *buffer;     /* BUFFER_SIZE bytes; NULL with data in memory */
	const guint8 *next; /* the first byte that is not consumed */
	const guint8 *end;
	guint64 fetched; /* bytes up to @end since the stream's begin */
	gboolean ended;
	GError *error; /* the first failure */
};

FerryStreamReader *ferry_stream_reader_new(FerryReadFunc read, gpointer user)
{
	FerryStreamReader *reader = g_new0(FerryStreamReader, 1);

	reader->read = read;
	reader->user = user;
	reader->buffer = g_malloc(BUFFER_SIZE);
	reader->next = reader->end = reader->buffer;
	return reader;
}

FerryStreamReader *ferry_stream_reader_new_for_data(const void *data, size_t len)
{
	FerryStreamReader *reader = g_new0(FerryStreamReader, 1);

	reader->next = data;
	reader->end = reader->next + len;
	reader->fetched = len;
	reader->ended = TRUE;
	return reader;
}

void ferry_stream_reader_free(FerryStreamReader *reader)
{
	if (!reader)
		return;
	g_clear_error(&reader->error);
	g_free(reader->buffer);
	g_free(reader);
}

static size_t held(const FerryStreamReader *reader)
{
	return reader->end - reader->next;
}

guint64 ferry_stream_reader_offset(const FerryStreamReader *reader)
{
	return reader->fetched - held(reader);
}

static void G_GNUC_PRINTF(3, 4)
	fail(FerryStreamReader *reader, FerryErrorCode code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	reader->error = g_error_new_valist(FERRY_ERROR, code, format, args);
	va_end(args);
	g_prefix_error(&reader->error, "migration stream at offset %" G_GUINT64_FORMAT ": ",
		       ferry_stream_reader_offset(reader));
}

void ferry_stream_reader_fail(FerryStreamReader *reader, const char *format, ...)
{
	g_autofree char *message = NULL;
	va_list args;

	if (reader->error)
		return;
	va_start(args, format);
	message = g_strdup_vprintf(format, args);
	va_end(args);
	fail(reader, FERRY_ERROR_STREAM, "%s", message);
}

static void read_failed(FerryStreamReader *reader)
{
	g_prefix_error(&reader->error, "migration stream at offset %" G_GUINT64_FORMAT ": ",
		       ferry_stream_reader_offset(reader));
}

/* One read into @buf (@len bytes, at least 1) and, beyond it, into the buffer, which is empty.
 * Returns how many bytes came into @buf. None: ended or failed.
 */
static size_t fetch(FerryStreamReader *reader, void *buf, size_t len)
{
	struct iovec iov[2] = { { buf, len }, { reader->buffer, BUFFER_SIZE } };
	gssize n;

	n = reader->read(reader->user, iov, 2, &reader->error);
	if (n < 0) {
		read_failed(reader);
		return 0;
	}
	if (n == 0) {
		reader->ended = TRUE;
		return 0;
	}
	reader->fetched += n;
	reader->next = reader->buffer;
	reader->end = reader->buffer + ((size_t)n > len ? n - len : 0);
	return MIN((size_t)n, len);
}

static size_t take(FerryStreamReader *reader, void *buf, size_t len)
{
	size_t n = MIN(len, held(reader));

	if (n)
		memcpy(buf, reader->next, n);
	reader->next += n;
	return n;
}

void ferry_stream_reader_bytes(FerryStreamReader *reader, void *buf, size_t len)
{
	guint8 *to = buf;

	if (!reader->error) {
		size_t n = take(reader, to, len);

		to += n;
		len -= n;
	}
	while (len && !reader->error && !reader->ended) {
		size_t n = fetch(reader, to, len);

		to += n;
		len -= n;
	}
	if (!len)
		return;
	memset(to, 0, len);
	if (!reader->error)
		fail(reader, reader->read ? FERRY_ERROR_LINK : FERRY_ERROR_STREAM,
		     "it was cut short: it ends here, %zu bytes too early", len);
}

size_t ferry_stream_reader_some(FerryStreamReader *reader, void *buf, size_t len)
{
	if (reader->error || !len)
		return 0;
	if (held(reader))
		return take(reader, buf, len);
	return reader->ended ? 0 : fetch(reader, buf, len);
}

/* One read behind what is held, which moves to the buffer's begin. */
static void fetch_behind(FerryStreamReader *reader)
{
	size_t n = held(reader);
	struct iovec iov = { reader->buffer + n, BUFFER_SIZE - n };
	gssize more;

	memmove(reader->buffer, reader->next, n);
	reader->next = reader->buffer;
	reader->end = reader->buffer + n;
	more = reader->read(reader->user, &iov, 1, &reader->error);
	if (more < 0)
		read_failed(reader);
	else if (more == 0)
		reader->ended = TRUE;
	else {
		reader->fetched += more;
		reader->end += more;
	}
}

int ferry_stream_reader_peek_at(FerryStreamReader *reader, guint ahead)
{
	g_return_val_if_fail(ahead < FERRY_STREAM_PEEK_MAX, -1);
	while (!reader->error && !reader->ended && held(reader) <= ahead)
		fetch_behind(reader);
	return !reader->error && held(reader) > ahead ? reader->next[ahead] : -1;
}

int ferry_stream_reader_peek(FerryStreamReader *reader)
{
	return ferry_stream_reader_peek_at(reader, 0);
}

void ferry_stream_reader_set_skip(FerryStreamReader *reader, FerrySkipFunc skip)
{
	reader->skip = skip;
}

/* Passes over what is held, and then without reading. */
static void leap(FerryStreamReader *reader, guint64 len)
{
	len -= held(reader);
	reader->next = reader->end;
	if (reader->skip(reader->user, len, &reader->error))
		reader->fetched += len;
	else
		read_failed(reader);
}

void ferry_stream_reader_skip(FerryStreamReader *reader, guint64 len)
{
	while (len && !reader->error) {
		size_t n;

		if (reader->skip && !reader->ended && len > held(reader) + BUFFER_SIZE)
			return leap(reader, len);

		if (ferry_stream_reader_peek(reader) < 0) {
			guint8 byte;

			ferry_stream_reader_bytes(reader, &byte, 1);
			return;
		}
		n = MIN(len, held(reader));
		reader->next += n;
		len -= n;
	}
}

guint8 ferry_stream_reader_u8(FerryStreamReader *reader)
{
	guint8 v;

	ferry_stream_reader_bytes(reader, &v, sizeof(v));
	return v;
}

guint16 ferry_stream_reader_be16(FerryStreamReader *reader)
{
	guint8 v[2];

	ferry_stream_reader_bytes(reader, v, sizeof(v));
	return reader->error ? 0 : ferry_load_be16(v);
}

guint32 ferry_stream_reader_be32(FerryStreamReader *reader)
{
	guint8 v[4];

	ferry_stream_reader_bytes(reader, v, sizeof(v));
	return reader->error ? 0 : ferry_load_be32(v);
}

guint64 ferry_stream_reader_be64(FerryStreamReader *reader)
{
	guint8 v[8];

	ferry_stream_reader_bytes(reader, v, sizeof(v));
	return reader->error ? 0 : ferry_load_be64(v);
}

void ferry_stream_reader_name(FerryStreamReader *reader, char name[256])
{
	guint8 len = ferry_stream_reader_u8(reader);

	ferry_stream_reader_bytes(reader, name, len);
	name[len] = '\0';
	if (memchr(name, 0, len))
		ferry_stream_reader_fail(reader, "a name of %u bytes has a NUL inside", len);
	if (reader->error)
		name[0] = '\0';
}

gboolean ferry_stream_reader_check(FerryStreamReader *reader, GError **error)
{
	if (!reader->error)
		return TRUE;
	g_propagate_error(error, g_error_copy(reader->error));
	return FALSE;
}

gboolean ferry_stream_reader_read_exactly(gpointer user, void *buf, size_t len, GError **error)
{
	FerryStreamReader *reader = user;

	ferry_stream_reader_bytes(reader, buf, len);
	return ferry_stream_reader_check(reader, error);
}
