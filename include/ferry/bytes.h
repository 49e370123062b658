/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>
#include <string.h>

G_BEGIN_DECLS

/*
 * Big-endian integers at any alignment. The control stream is big-endian throughout, as QEMU's is.
 * All are pure; the ferry_put_ family appends to @out, which stays the caller's.
 */
static inline void ferry_store_be16(void *p, guint16 v)
{
	v = GUINT16_TO_BE(v);
	memcpy(p, &v, sizeof(v));
}

static inline void ferry_store_be32(void *p, guint32 v)
{
	v = GUINT32_TO_BE(v);
	memcpy(p, &v, sizeof(v));
}

static inline void ferry_store_be64(void *p, guint64 v)
{
	v = GUINT64_TO_BE(v);
	memcpy(p, &v, sizeof(v));
}

static inline guint16 ferry_load_be16(const void *p)
{
	guint16 v;

	memcpy(&v, p, sizeof(v));
	return GUINT16_FROM_BE(v);
}

static inline guint32 ferry_load_be32(const void *p)
{
	guint32 v;

	memcpy(&v, p, sizeof(v));
	return GUINT32_FROM_BE(v);
}

static inline guint64 ferry_load_be64(const void *p)
{
	guint64 v;

	memcpy(&v, p, sizeof(v));
	return GUINT64_FROM_BE(v);
}

static inline void ferry_put_u8(GByteArray *out, guint8 v)
{
	g_byte_array_append(out, &v, 1);
}

static inline void ferry_put_be16(GByteArray *out, guint16 v)
{
	v = GUINT16_TO_BE(v);
	g_byte_array_append(out, (const guint8 *)&v, sizeof(v));
}

static inline void ferry_put_be32(GByteArray *out, guint32 v)
{
	v = GUINT32_TO_BE(v);
	g_byte_array_append(out, (const guint8 *)&v, sizeof(v));
}

static inline void ferry_put_be64(GByteArray *out, guint64 v)
{
	v = GUINT64_TO_BE(v);
	g_byte_array_append(out, (const guint8 *)&v, sizeof(v));
}

G_END_DECLS
