/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/multifd.h>

#include <string.h>
#include <zlib.h>
#include <zstd.h>

struct FerryMultifdCompressor {
	z_stream zlib;      /* where there is no @zstd */
	ZSTD_CStream *zstd; /* with ZSTD; else NULL */
	/* Compressors read their input more than once, and a guest writes it meanwhile. */
	guint8 page[FERRY_PAGE_SIZE];
	guint8 *payload; /* FERRY_MULTIFD_PAYLOAD_MAX bytes */
};

FerryMultifdCompressor *ferry_multifd_compressor_new(FerryMultifdCompression compression, int level,
						     GError **error)
{
	FerryMultifdCompressor *c = g_new0(FerryMultifdCompressor, 1);
	gboolean ok;

	c->payload = g_malloc(FERRY_MULTIFD_PAYLOAD_MAX);
	if (compression == FERRY_MULTIFD_COMPRESSION_ZSTD) {
		c->zstd = ZSTD_createCStream();
		ok = c->zstd && !ZSTD_isError(ZSTD_initCStream(c->zstd, level));
	} else {
		ok = deflateInit(&c->zlib, level) == Z_OK;
	}
	if (ok)
		return c;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO,
		    "multifd: no memory to compress with at level %d", level);
	ferry_multifd_compressor_free(c);
	return NULL;
}

void ferry_multifd_compressor_free(FerryMultifdCompressor *c)
{
	if (!c)
		return;
	if (c->zstd)
		ZSTD_freeCStream(c->zstd);
	else
		deflateEnd(&c->zlib);
	g_free(c->payload);
	g_free(c);
}

/* @last flushes: the packet can then be decompressed without the next. */
static gboolean deflate_page(FerryMultifdCompressor *c, gboolean last)
{
	c->zlib.next_in = c->page;
	c->zlib.avail_in = FERRY_PAGE_SIZE;
	return deflate(&c->zlib, last ? Z_SYNC_FLUSH : Z_NO_FLUSH) == Z_OK && !c->zlib.avail_in &&
	       c->zlib.avail_out;
}

static gboolean zstd_page(FerryMultifdCompressor *c, ZSTD_outBuffer *out, gboolean last)
{
	ZSTD_inBuffer in = { c->page, FERRY_PAGE_SIZE, 0 };
	size_t left;

	do {
		left = ZSTD_compressStream2(c->zstd, out, &in,
					    last ? ZSTD_e_flush : ZSTD_e_continue);
	} while (!ZSTD_isError(left) && (in.pos < in.size || (last && left)) &&
		 out->pos < out->size);
	return !ZSTD_isError(left) && in.pos == in.size && out->pos < out->size;
}

size_t ferry_multifd_compress(FerryMultifdCompressor *c, const guint8 *const *pages, guint n,
			      const guint8 **payload, GError **error)
{
	ZSTD_outBuffer out = { c->payload, FERRY_MULTIFD_PAYLOAD_MAX, 0 };
	gboolean ok = TRUE;

	c->zlib.next_out = c->payload;
	c->zlib.avail_out = FERRY_MULTIFD_PAYLOAD_MAX;
	for (guint i = 0; ok && i < n; i++) {
		memcpy(c->page, pages[i], FERRY_PAGE_SIZE);
		ok = c->zstd ? zstd_page(c, &out, i == n - 1) : deflate_page(c, i == n - 1);
	}
	if (!ok) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO,
			    "multifd: %u pages could not be compressed into %u bytes", n,
			    FERRY_MULTIFD_PAYLOAD_MAX);
		return 0;
	}
	*payload = c->payload;
	return c->zstd ? out.pos : FERRY_MULTIFD_PAYLOAD_MAX - c->zlib.avail_out;
}
