/* SPDX-License-Identifier: BSD-2-Clause */
#include "multifd-decompress.h"

#include <zlib.h>
#include <zstd.h>

/* Of zstd's highest level that multifd has; what a peer could ask for without it is 128 MiB for
 * each channel. */
#define ZSTD_WINDOW_LOG_MAX 25

struct FerryMultifdDecompressor {
	FerryMultifdCompression compression;
	z_stream zlib;      /* with ZLIB */
	ZSTD_DStream *zstd; /* with ZSTD; else NULL */
};

FerryMultifdDecompressor *ferry_multifd_decompressor_new(FerryMultifdCompression compression,
							 GError **error)
{
	FerryMultifdDecompressor *d = g_new0(FerryMultifdDecompressor, 1);
	gboolean ok;

	d->compression = compression;
	if (compression == FERRY_MULTIFD_COMPRESSION_ZLIB) {
		ok = inflateInit(&d->zlib) == Z_OK;
	} else {
		d->zstd = ZSTD_createDStream();
		ok = d->zstd && !ZSTD_isError(ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax,
								     ZSTD_WINDOW_LOG_MAX));
	}
	if (ok)
		return d;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO, "multifd: no memory to decompress with");
	ferry_multifd_decompressor_free(d);
	return NULL;
}

void ferry_multifd_decompressor_free(FerryMultifdDecompressor *d)
{
	if (!d)
		return;
	if (d->compression == FERRY_MULTIFD_COMPRESSION_ZLIB)
		inflateEnd(&d->zlib);
	ZSTD_freeDStream(d->zstd);
	g_free(d);
}

/* What is wrong, or NULL once the page is full. */
static const char *inflate_page(FerryMultifdDecompressor *d, guint8 *page)
{
	d->zlib.next_out = page;
	d->zlib.avail_out = FERRY_PAGE_SIZE;
	while (d->zlib.avail_out) {
		int outcome = inflate(&d->zlib, Z_SYNC_FLUSH);

		if (outcome == Z_BUF_ERROR)
			return "the data ends before the pages do";
		if (outcome != Z_OK)
			return d->zlib.msg ? d->zlib.msg : "the stream has an end";
	}
	return NULL;
}

/* Behind the last page there is the mark of a flush at most; more may hide in the decompressor
 * where all input was read. */
static const char *inflate_rest(FerryMultifdDecompressor *d)
{
	guint8 none;
	int outcome = Z_OK;

	d->zlib.next_out = &none;
	d->zlib.avail_out = 1;
	while (d->zlib.avail_out && outcome == Z_OK)
		outcome = inflate(&d->zlib, Z_SYNC_FLUSH);
	return d->zlib.avail_in || !d->zlib.avail_out ? "there is more than the pages" : NULL;
}

static const char *inflate_all(FerryMultifdDecompressor *d, const guint8 *data, size_t len,
			       guint8 *const *pages, guint n)
{
	const char *wrong = NULL;

	d->zlib.next_in = (guint8 *)data;
	d->zlib.avail_in = (uInt)len;
	for (guint i = 0; i < n && !wrong; i++)
		wrong = inflate_page(d, pages[i]);
	return wrong ? wrong : inflate_rest(d);
}

/* Until @out is full. A frame that ends is none of a multifd channel's. */
static const char *zstd_fill(FerryMultifdDecompressor *d, ZSTD_inBuffer *in, ZSTD_outBuffer *out)
{
	while (out->pos < out->size) {
		size_t taken = in->pos, given = out->pos;
		size_t outcome = ZSTD_decompressStream(d->zstd, out, in);

		if (ZSTD_isError(outcome))
			return ZSTD_getErrorName(outcome);
		if (outcome == 0)
			return "the stream has an end";
		if (in->pos == taken && out->pos == given)
			return "the data ends before the pages do";
	}
	return NULL;
}

static const char *zstd_all(FerryMultifdDecompressor *d, const guint8 *data, size_t len,
			    guint8 *const *pages, guint n)
{
	ZSTD_inBuffer in = { data, len, 0 };
	const char *wrong = NULL;
	guint8 none;

	for (guint i = 0; i < n && !wrong; i++)
		wrong = zstd_fill(d, &in, &(ZSTD_outBuffer){ pages[i], FERRY_PAGE_SIZE, 0 });
	if (wrong)
		return wrong;
	/* As with zlib. */
	return zstd_fill(d, &in, &(ZSTD_outBuffer){ &none, 1, 0 }) && in.pos == in.size
		       ? NULL
		       : "there is more than the pages";
}

gboolean ferry_multifd_decompress(FerryMultifdDecompressor *d, const guint8 *data, size_t len,
				  guint8 *const *pages, guint n, GError **error)
{
	const char *wrong = (d->zstd ? zstd_all : inflate_all)(d, data, len, pages, n);

	if (!wrong)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "multifd: %zu bytes do not decompress to %u pages: %s", len, n, wrong);
	return FALSE;
}
