/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/multifd.h>

/* The other end of a FerryMultifdCompressor: one channel's, for all of its life. */
typedef struct FerryMultifdDecompressor FerryMultifdDecompressor;

/* FERRY_ERROR_IO: no memory. */
FerryMultifdDecompressor *ferry_multifd_decompressor_new(FerryMultifdCompression compression,
							 GError **error);
/* NULL is allowed. */
void ferry_multifd_decompressor_free(FerryMultifdDecompressor *decompressor);

/* Exactly @n pages out of exactly @len bytes, else FERRY_ERROR_PEER; nothing is written beyond a
 * page. */
gboolean ferry_multifd_decompress(FerryMultifdDecompressor *decompressor, const guint8 *data,
				  size_t len, guint8 *const *pages, guint n, GError **error);
