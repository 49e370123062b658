/* SPDX-License-Identifier: BSD-2-Clause */
#include "missing.h"

typedef struct {
	guint64 *words; /* bit n of word n/64: page n is missing */
	guint64 pages;
} MissingBlock;

struct FerryMissing {
	GArray *blocks; /* of MissingBlock */
	guint64 pages;  /* missing, in all blocks */
};

static void clear_block(gpointer data)
{
	g_free(((MissingBlock *)data)->words);
}

void ferry_missing_free(FerryMissing *missing)
{
	if (!missing)
		return;
	g_array_unref(missing->blocks);
	g_free(missing);
}

FerryMissing *ferry_missing_new(const GArray *blocks)
{
	g_autoptr(FerryMissing) missing = g_new0(FerryMissing, 1);

	missing->blocks = g_array_new(FALSE, FALSE, sizeof(MissingBlock));
	g_array_set_clear_func(missing->blocks, clear_block);
	for (guint i = 0; i < blocks->len; i++) {
		MissingBlock block = { .pages = g_array_index(blocks, FerryStreamRamBlock, i).size /
						FERRY_PAGE_SIZE };

		block.words = g_try_new0(guint64, (block.pages + 63) / 64);
		if (!block.words)
			return NULL;
		g_array_append_val(missing->blocks, block);
	}
	return g_steal_pointer(&missing);
}

static MissingBlock *find(const FerryMissing *missing, guint block)
{
	return &g_array_index(missing->blocks, MissingBlock, block);
}

void ferry_missing_add(FerryMissing *missing, guint block, guint64 start, guint64 length)
{
	guint64 *words = find(missing, block)->words;
	guint64 end = (start + length) / FERRY_PAGE_SIZE;

	for (guint64 page = start / FERRY_PAGE_SIZE; page < end; page++) {
		guint64 bit = 1ull << page % 64;

		missing->pages += !(words[page / 64] & bit);
		words[page / 64] |= bit;
	}
}

gboolean ferry_missing_take(FerryMissing *missing, guint block, guint64 offset)
{
	guint64 page = offset / FERRY_PAGE_SIZE;
	guint64 *word = &find(missing, block)->words[page / 64];
	guint64 bit = 1ull << page % 64;

	if (!(*word & bit))
		return FALSE;
	*word &= ~bit;
	missing->pages--;
	return TRUE;
}

guint64 ferry_missing_pages(const FerryMissing *missing)
{
	return missing->pages;
}

/* The first page from @page on that is missing, or with @want FALSE is not; block->pages if there
 * is none. */
static guint64 find_page(const MissingBlock *block, guint64 page, gboolean want)
{
	while (page < block->pages) {
		guint64 word = want ? block->words[page / 64] : ~block->words[page / 64];

		word &= ~0ull << page % 64;
		if (word)
			return MIN(page / 64 * 64 + __builtin_ctzll(word), block->pages);
		page = (page / 64 + 1) * 64;
	}
	return block->pages;
}

gboolean ferry_missing_next(const FerryMissing *missing, guint *block, guint64 *start,
			    guint64 *length, guint64 max)
{
	guint64 page = *start / FERRY_PAGE_SIZE;

	for (guint i = *block; i < missing->blocks->len; i++, page = 0) {
		const MissingBlock *here = find(missing, i);
		guint64 first = find_page(here, page, TRUE);

		if (first == here->pages)
			continue;
		*block = i;
		*start = first * FERRY_PAGE_SIZE;
		*length = (find_page(here, first, FALSE) - first) * FERRY_PAGE_SIZE;
		*length = MIN(*length, max);
		return TRUE;
	}
	return FALSE;
}

guint64 *ferry_missing_received(const FerryMissing *missing, guint block, gsize *words)
{
	const MissingBlock *here = find(missing, block);
	gsize n = (here->pages + 63) / 64;
	guint64 *received = g_new(guint64, n);

	for (gsize i = 0; i < n; i++)
		received[i] = ~here->words[i];
	if (here->pages % 64)
		received[n - 1] &= ~(~0ull << here->pages % 64);
	*words = n;
	return received;
}
