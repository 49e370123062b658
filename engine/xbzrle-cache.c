/* SPDX-License-Identifier: BSD-2-Clause */
#include "xbzrle-cache.h"

/* Rounds for which a page keeps its place. */
#define LIFETIME 2u

typedef struct {
	guint64 page; /* number in all RAM, plus 1; 0: empty */
	guint round;  /* of its last use */
} Slot;

struct FerryXbzrleCache {
	guint64 *first; /* of each block: the number of its first page in all RAM */
	guint64 n;      /* slots, a power of two */
	Slot *slots;
	guint8 *pages; /* one for each slot; memory that no page was put into is never touched */
};

static gboolean allocate(FerryXbzrleCache *cache, guint64 bytes, GError **error)
{
	guint64 n = bytes >> FERRY_PAGE_SHIFT;
	g_autofree Slot *slots = g_try_new0(Slot, n);
	g_autofree guint8 *pages = slots ? g_try_malloc(bytes) : NULL;

	if (!pages) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO,
			    "no memory for a cache of %" G_GUINT64_FORMAT
			    " bytes: make xbzrle-cache-size smaller",
			    bytes);
		return FALSE;
	}
	g_free(cache->slots);
	g_free(cache->pages);
	cache->n = n;
	cache->slots = g_steal_pointer(&slots);
	cache->pages = g_steal_pointer(&pages);
	return TRUE;
}

FerryXbzrleCache *ferry_xbzrle_cache_new(const FerryRam *ram, guint64 bytes, GError **error)
{
	g_autoptr(FerryXbzrleCache) cache = g_new0(FerryXbzrleCache, 1);
	guint64 first = 0;

	cache->first = g_new(guint64, ram->n_blocks);
	for (guint i = 0; i < ram->n_blocks; i++) {
		cache->first[i] = first;
		first += ferry_ram_block_pages(&ram->blocks[i]);
	}
	return allocate(cache, bytes, error) ? g_steal_pointer(&cache) : NULL;
}

void ferry_xbzrle_cache_free(FerryXbzrleCache *cache)
{
	if (!cache)
		return;
	g_free(cache->pages);
	g_free(cache->slots);
	g_free(cache->first);
	g_free(cache);
}

guint64 ferry_xbzrle_cache_size(const FerryXbzrleCache *cache)
{
	return cache->n << FERRY_PAGE_SHIFT;
}

gboolean ferry_xbzrle_cache_resize(FerryXbzrleCache *cache, guint64 bytes, GError **error)
{
	return bytes == ferry_xbzrle_cache_size(cache) || allocate(cache, bytes, error);
}

static Slot *find_slot(FerryXbzrleCache *cache, guint block, guint64 page, guint64 *number)
{
	*number = cache->first[block] + page + 1;
	return &cache->slots[*number & (cache->n - 1)];
}

static guint8 *bytes_of(FerryXbzrleCache *cache, const Slot *slot)
{
	return cache->pages + ((guint64)(slot - cache->slots) << FERRY_PAGE_SHIFT);
}

guint8 *ferry_xbzrle_cache_find(FerryXbzrleCache *cache, guint block, guint64 page, guint round)
{
	guint64 number;
	Slot *slot = find_slot(cache, block, page, &number);

	if (slot->page != number)
		return NULL;
	slot->round = round;
	return bytes_of(cache, slot);
}

guint8 *ferry_xbzrle_cache_put(FerryXbzrleCache *cache, guint block, guint64 page, guint round)
{
	guint64 number;
	Slot *slot = find_slot(cache, block, page, &number);

	if (slot->page && slot->page != number && slot->round + LIFETIME > round)
		return NULL;
	*slot = (Slot){ number, round };
	return bytes_of(cache, slot);
}

void ferry_xbzrle_cache_drop(FerryXbzrleCache *cache, guint block, guint64 page)
{
	guint64 number;
	Slot *slot = find_slot(cache, block, page, &number);

	if (slot->page == number)
		slot->page = 0;
}
