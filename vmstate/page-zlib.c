/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/page-codec.h>
#include <zlib.h>

/* A window of one page, and room for a page of symbols in one block: more would only be cleared
 * for each page anew. What cannot be deflated then grows by 11 bytes. */
#define WINDOW_BITS 12
#define MEMORY_LEVEL 7

size_t ferry_page_deflate(const guint8 *page, int level, guint8 *out)
{
	z_stream stream = { 0 };
	size_t len = 0;

	if (deflateInit2(&stream, level, Z_DEFLATED, WINDOW_BITS, MEMORY_LEVEL,
			 Z_DEFAULT_STRATEGY) != Z_OK)
		return 0;
	stream.next_in = (Bytef *)page;
	stream.avail_in = FERRY_PAGE_SIZE;
	stream.next_out = out;
	stream.avail_out = FERRY_PAGE_DEFLATED_MAX;
	if (deflate(&stream, Z_FINISH) == Z_STREAM_END)
		len = stream.total_out;
	deflateEnd(&stream);
	return len;
}

gboolean ferry_page_inflate(const guint8 *data, size_t len, guint8 *page, GError **error)
{
	z_stream stream = { .next_in = (Bytef *)data, .avail_in = (uInt)len };
	gboolean whole;
	int result = len <= FERRY_PAGE_DEFLATED_MAX ? inflateInit(&stream) : Z_DATA_ERROR;

	if (result == Z_MEM_ERROR) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO, "no memory to inflate a page");
		return FALSE;
	}
	if (result == Z_OK) {
		stream.next_out = page;
		stream.avail_out = FERRY_PAGE_SIZE;
		result = inflate(&stream, Z_FINISH);
	}
	whole = result == Z_STREAM_END && stream.total_out == FERRY_PAGE_SIZE && !stream.avail_in;
	if (!whole)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STREAM,
			    "a deflated page of %zu bytes is not one page: %s, %lu bytes of it, %u "
			    "left over",
			    len, result == Z_STREAM_END ? "the data ends" : zError(result),
			    stream.total_out, stream.avail_in);
	inflateEnd(&stream);
	return whole;
}
