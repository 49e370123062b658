/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>

/* Whether all @len bytes at @p are zero. Any alignment and length; at memory speed. Any thread. */
gboolean ferry_is_zero(const void *p, size_t len);

/* How many of the @pages pages at @host, from the first one on, are all zero, or all not zero;
 * *@zero says which. @pages and the result are at least 1. */
guint64 ferry_zero_split(const guint8 *host, guint64 pages, gboolean *zero);
