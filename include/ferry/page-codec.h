/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/error.h>
#include <ferry/ram.h>

G_BEGIN_DECLS

/*
 * Pages in fewer bytes than they have, in QEMU's formats. Pure functions on FERRY_PAGE_SIZE bytes;
 * any thread. Decoders take bytes of a peer: they check everything and write nothing beyond the
 * page.
 *
 * XBZRLE: what changed between two versions of a page, as pairs of runs: how many bytes are equal,
 * how many differ, the ones that differ; the counts as ULEB128 of at most two bytes (QEMU's
 * docs/devel/migration, "xbzrle").
 */

/* Encodes what is to be done to @before to get @now. Returns the bytes written to @out; 0 if the
 * pages are equal; -1 if they would be more than @room: the page goes whole. */
gssize ferry_xbzrle_encode(const guint8 *before, const guint8 *now, guint8 *out, size_t room);

/* Applies the @len bytes at @data to @page, which holds the version that they were made from.
 * FERRY_ERROR_STREAM, and the page is then partly changed. */
gboolean ferry_xbzrle_decode(const guint8 *data, size_t len, guint8 *page, GError **error);

/* Room for ferry_page_deflate(); what it writes also a QEMU takes (4110 bytes at most). */
#define FERRY_PAGE_DEFLATED_MAX 4352u

/* zlib (RFC 1950) of the page at @page, which must not change meanwhile, with @level 0 to 9.
 * Returns the bytes written to @out, at most FERRY_PAGE_DEFLATED_MAX; 0 without memory: the page
 * goes whole. */
size_t ferry_page_deflate(const guint8 *page, int level, guint8 *out);

/* The page in the @len bytes at @data: exactly one, else FERRY_ERROR_STREAM. */
gboolean ferry_page_inflate(const guint8 *data, size_t len, guint8 *page, GError **error);

G_END_DECLS
