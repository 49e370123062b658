/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>

/*
 * Pages as the destination has them: what xbzrle makes differences from. Direct mapped by the
 * page's number in all RAM, so that neighbours never push each other out. A page that was put or
 * looked up in this round or the one before keeps its place: a walk over cold pages does not empty
 * the cache of hot ones. The migration thread's own.
 */
typedef struct FerryXbzrleCache FerryXbzrleCache;

/* Empty, of @bytes, a power of two of at least a page. FERRY_ERROR_IO where there is no memory for
 * it. @ram is only read here. */
FerryXbzrleCache *ferry_xbzrle_cache_new(const FerryRam *ram, guint64 bytes, GError **error);
/* NULL is allowed. */
void ferry_xbzrle_cache_free(FerryXbzrleCache *cache);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryXbzrleCache, ferry_xbzrle_cache_free)

guint64 ferry_xbzrle_cache_size(const FerryXbzrleCache *cache);

/* Makes it @bytes large, and empty: pages go whole once more. As it was on failure, as with new. */
gboolean ferry_xbzrle_cache_resize(FerryXbzrleCache *cache, guint64 bytes, GError **error);

/* The page as it was put; the caller changes it together with the destination's. NULL: it is not
 * there. @round counts up. */
guint8 *ferry_xbzrle_cache_find(FerryXbzrleCache *cache, guint block, guint64 page, guint round);

/* Room for the page, which the caller fills. NULL: another one has its place, and keeps it. */
guint8 *ferry_xbzrle_cache_put(FerryXbzrleCache *cache, guint block, guint64 page, guint round);

/* The destination's page is no longer known. */
void ferry_xbzrle_cache_drop(FerryXbzrleCache *cache, guint block, guint64 page);
