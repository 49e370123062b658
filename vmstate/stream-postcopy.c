/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/stream.h>

/* FALSE, and the reader fails, where the command has another length than @due. */
static gboolean check_length(FerryStreamReader *reader, const FerryStreamElement *command,
			     const char *name, guint32 due)
{
	if (command->length == due)
		return TRUE;
	ferry_stream_reader_fail(reader, "%s with %u bytes, %u are due", name, command->length,
				 due);
	return FALSE;
}

gboolean ferry_stream_read_advise(FerryStreamReader *reader, const FerryStreamElement *command,
				  guint64 *page_sizes, GError **error)
{
	guint64 sizes = 0, page = 0;

	if (check_length(reader, command, "POSTCOPY_ADVISE", 16)) {
		sizes = ferry_stream_reader_be64(reader);
		page = ferry_stream_reader_be64(reader);
	}
	if (!ferry_stream_reader_check(reader, error))
		return FALSE;
	if (page != FERRY_PAGE_SIZE || !sizes || sizes % FERRY_PAGE_SIZE)
		ferry_stream_reader_fail(
			reader,
			"POSTCOPY_ADVISE: blocks with pages of 0x%" G_GINT64_MODIFIER
			"x, a stream with pages of 0x%" G_GINT64_MODIFIER
			"x bytes, where 0x%x are due",
			sizes, page, FERRY_PAGE_SIZE);
	if (!ferry_stream_reader_check(reader, error))
		return FALSE;
	*page_sizes = sizes;
	return TRUE;
}

static void read_range(FerryStreamReader *reader, const char *name, GArray *ranges)
{
	FerryByteRange range;
	guint64 end;

	range.start = ferry_stream_reader_be64(reader);
	range.length = ferry_stream_reader_be64(reader);
	if (!range.length || (range.start | range.length) % FERRY_PAGE_SIZE ||
	    __builtin_add_overflow(range.start, range.length, &end))
		ferry_stream_reader_fail(reader,
					 "POSTCOPY_RAM_DISCARD: 0x%" G_GINT64_MODIFIER
					 "x bytes from 0x%" G_GINT64_MODIFIER
					 "x of RAM block \"%s\" are no whole pages",
					 range.length, range.start, name);
	g_array_append_val(ranges, range);
}

GArray *ferry_stream_read_discard(FerryStreamReader *reader, const FerryStreamElement *command,
				  char name[256], GError **error)
{
	g_autoptr(GArray) ranges = g_array_new(FALSE, FALSE, sizeof(FerryByteRange));
	guint8 version = ferry_stream_reader_u8(reader);
	guint32 fixed;

	ferry_stream_reader_name(reader, name);
	fixed = 3 + strlen(name);
	if (version != 0)
		ferry_stream_reader_fail(reader, "POSTCOPY_RAM_DISCARD version %u, not 0", version);
	else if (command->length <= fixed || (command->length - fixed) % 16)
		ferry_stream_reader_fail(
			reader, "POSTCOPY_RAM_DISCARD with %u bytes, not %u and 16 for each range",
			command->length, fixed);
	else if (ferry_stream_reader_u8(reader) != 0)
		ferry_stream_reader_fail(
			reader, "POSTCOPY_RAM_DISCARD: RAM block \"%s\" without a NUL behind",
			name);
	for (guint32 at = fixed; at < command->length; at += 16) {
		if (!ferry_stream_reader_check(reader, error))
			return NULL;
		read_range(reader, name, ranges);
	}
	return ferry_stream_reader_check(reader, error) ? g_steal_pointer(&ranges) : NULL;
}

gboolean ferry_stream_read_package_length(FerryStreamReader *reader,
					  const FerryStreamElement *command, guint32 max,
					  guint32 *length, GError **error)
{
	guint32 n = 0;

	if (check_length(reader, command, "PACKAGED", 4))
		n = ferry_stream_reader_be32(reader);
	if (ferry_stream_reader_check(reader, NULL) && (!n || n > max))
		ferry_stream_reader_fail(reader,
					 "PACKAGED: a package of %u bytes; 1 to %u are "
					 "accepted",
					 n, max);
	if (!ferry_stream_reader_check(reader, error))
		return FALSE;
	*length = n;
	return TRUE;
}

gboolean ferry_stream_read_bitmap_request(FerryStreamReader *reader,
					  const FerryStreamElement *command, char name[256],
					  GError **error)
{
	ferry_stream_reader_name(reader, name);
	check_length(reader, command, "RECV_BITMAP", 1 + strlen(name));
	return ferry_stream_reader_check(reader, error);
}

static void put_name(GByteArray *out, const char *name)
{
	ferry_put_u8(out, strlen(name));
	g_byte_array_append(out, (const guint8 *)name, strlen(name));
}

void ferry_return_put_value(GByteArray *out, FerryReturnType type, guint32 value)
{
	ferry_put_be16(out, type);
	ferry_put_be16(out, sizeof(value));
	ferry_put_be32(out, value);
}

void ferry_return_put_request(GByteArray *out, const char *name, guint64 start, guint32 length)
{
	ferry_put_be16(out, name ? FERRY_RETURN_REQ_PAGES_ID : FERRY_RETURN_REQ_PAGES);
	ferry_put_be16(out, 12 + (name ? 1 + strlen(name) : 0));
	ferry_put_be64(out, start);
	ferry_put_be32(out, length);
	if (name)
		put_name(out, name);
}

void ferry_return_put_bitmap(GByteArray *out, const char *name, const guint64 *words, gsize n)
{
	ferry_put_be16(out, FERRY_RETURN_RECV_BITMAP);
	ferry_put_be16(out, 1 + strlen(name));
	put_name(out, name);
	ferry_put_be64(out, n * sizeof(*words));
	/* The one part of the wire that is not big-endian. */
	for (gsize i = 0; i < n; i++) {
		guint64 word = GUINT64_TO_LE(words[i]);

		g_byte_array_append(out, (const guint8 *)&word, sizeof(word));
	}
	ferry_put_be64(out, FERRY_RETURN_BITMAP_END);
}
