/* SPDX-License-Identifier: BSD-2-Clause */
#include "page-set.h"

#include <string.h>

typedef struct {
	guint64 *words;
	guint64 pages;
	guint64 n_words;
} BlockWords;

struct FerryPageSet {
	guint n_blocks;
	BlockWords blocks[];
};

/* The lowest @n bits; @n is 1 to 64. */
static guint64 low_bits(guint64 n)
{
	return ~0ull >> (64 - n);
}

FerryPageSet *ferry_page_set_new(const FerryRam *ram, gboolean full)
{
	FerryPageSet *set = g_malloc(sizeof(*set) + ram->n_blocks * sizeof(set->blocks[0]));

	set->n_blocks = ram->n_blocks;
	for (guint i = 0; i < ram->n_blocks; i++) {
		BlockWords *b = &set->blocks[i];

		b->pages = ferry_ram_block_pages(&ram->blocks[i]);
		b->n_words = (b->pages + 63) / 64;
		b->words = g_new0(guint64, b->n_words);
		if (!full)
			continue;
		memset(b->words, 0xff, b->n_words * sizeof(guint64));
		b->words[b->n_words - 1] = low_bits((b->pages - 1) % 64 + 1);
	}
	return set;
}

void ferry_page_set_free(FerryPageSet *set)
{
	if (!set)
		return;
	for (guint i = 0; i < set->n_blocks; i++)
		g_free(set->blocks[i].words);
	g_free(set);
}

gboolean ferry_page_set_split(FerryRun *rest, FerryRun *part)
{
	if (!rest->pages)
		return FALSE;
	*part = *rest;
	part->pages = MIN(rest->pages, 64 - rest->first % 64);
	rest->first += part->pages;
	rest->pages -= part->pages;
	return TRUE;
}

guint64 ferry_page_set_add(FerryPageSet *set, const FerryRun *part)
{
	guint64 *word = &set->blocks[part->block].words[part->first / 64];
	guint shift = part->first % 64;
	guint64 mask = low_bits(part->pages) << shift;

	return (mask & ~__atomic_fetch_or(word, mask, __ATOMIC_SEQ_CST)) >> shift;
}

guint64 ferry_page_set_remove(FerryPageSet *set, const FerryRun *part)
{
	guint64 *word = &set->blocks[part->block].words[part->first / 64];
	guint shift = part->first % 64;
	guint64 mask = low_bits(part->pages) << shift;

	return (mask & __atomic_fetch_and(word, ~mask, __ATOMIC_SEQ_CST)) >> shift;
}

void ferry_page_set_clear(FerryPageSet *set)
{
	for (guint i = 0; i < set->n_blocks; i++)
		for (guint64 w = 0; w < set->blocks[i].n_words; w++)
			__atomic_store_n(&set->blocks[i].words[w], 0, __ATOMIC_SEQ_CST);
}

static guint64 load_word(const FerryPageSet *set, guint block, guint64 word)
{
	return __atomic_load_n(&set->blocks[block].words[word], __ATOMIC_SEQ_CST);
}

gboolean ferry_page_set_has(const FerryPageSet *set, guint block, guint64 page)
{
	return load_word(set, block, page / 64) >> (page % 64) & 1;
}

/* The pages of @part that are in the set, from bit 0 on. */
static guint64 load_part(const FerryPageSet *set, const FerryRun *part)
{
	return load_word(set, part->block, part->first / 64) >> (part->first % 64) &
	       low_bits(part->pages);
}

gboolean ferry_page_set_has_all(const FerryPageSet *set, const FerryRun *run)
{
	for (FerryRun rest = *run, part; ferry_page_set_split(&rest, &part);)
		if (load_part(set, &part) != low_bits(part.pages))
			return FALSE;
	return TRUE;
}

gboolean ferry_page_set_has_any(const FerryPageSet *set, const FerryRun *run)
{
	for (FerryRun rest = *run, part; ferry_page_set_split(&rest, &part);)
		if (load_part(set, &part))
			return TRUE;
	return FALSE;
}

/* The first page at or after @from that is in the set (@flip 0) or not in it (~0), the block's end
 * if none. */
static guint64 find(const FerryPageSet *set, guint block, guint64 from, guint64 end, guint64 flip)
{
	for (guint64 page = from; page < end; page = (page | 63) + 1) {
		guint64 word = (load_word(set, block, page / 64) ^ flip) >> (page % 64);

		if (word)
			return MIN(page + (guint64)__builtin_ctzll(word), end);
	}
	return end;
}

gboolean ferry_page_set_find(const FerryPageSet *set, gboolean in, guint block, guint64 from,
			     guint64 max, FerryRun *run)
{
	guint64 end = set->blocks[block].pages, flip = in ? 0 : ~0ull;
	guint64 first = find(set, block, from, end, flip);

	if (first >= end)
		return FALSE;
	end = first + MIN(max, end - first);
	*run = (FerryRun){
		.block = block,
		.first = first,
		/* At least that one, also when it was changed since. */
		.pages = find(set, block, first + 1, end, ~flip) - first,
	};
	return TRUE;
}

guint64 *ferry_page_set_copy(const FerryPageSet *set, guint block, gsize *words)
{
	gsize n = set->blocks[block].n_words;
	guint64 *copy = g_new(guint64, n);

	for (gsize w = 0; w < n; w++)
		copy[w] = load_word(set, block, w);
	*words = n;
	return copy;
}
