/* SPDX-License-Identifier: BSD-2-Clause */
#include "bitmap.h"

#include <string.h>

typedef struct {
	guint64 *words;
	guint64 pages;
	guint64 n_words;
} BlockBits;

struct FerryBitmap {
	guint n_blocks;
	BlockBits blocks[];
};

FerryBitmap *ferry_bitmap_new(const FerryRam *ram)
{
	FerryBitmap *bitmap = g_malloc(sizeof(*bitmap) + ram->n_blocks * sizeof(bitmap->blocks[0]));

	bitmap->n_blocks = ram->n_blocks;
	for (guint i = 0; i < ram->n_blocks; i++) {
		BlockBits *bits = &bitmap->blocks[i];

		bits->pages = ferry_ram_block_pages(&ram->blocks[i]);
		bits->n_words = (bits->pages + 63) / 64;
		bits->words = g_new0(guint64, bits->n_words);
	}
	return bitmap;
}

void ferry_bitmap_free(FerryBitmap *bitmap)
{
	if (!bitmap)
		return;
	for (guint i = 0; i < bitmap->n_blocks; i++)
		g_free(bitmap->blocks[i].words);
	g_free(bitmap);
}

guint64 *ferry_bitmap_block(FerryBitmap *bitmap, guint block)
{
	return bitmap->blocks[block].words;
}

/* The bits of word number @word that lie in pages @first to @end, exclusive; they overlap. */
static guint64 word_mask(guint64 word, guint64 first, guint64 end)
{
	guint64 mask = ~0ull;

	if (first > word * 64)
		mask &= ~0ull << (first % 64);
	if (end < (word + 1) * 64)
		mask &= ~(~0ull << (end % 64));
	return mask;
}

void ferry_bitmap_set_run(FerryBitmap *bitmap, const FerryRun *run)
{
	guint64 *words = bitmap->blocks[run->block].words;
	guint64 end = run->first + run->pages;

	for (guint64 w = run->first / 64; w * 64 < end; w++)
		words[w] |= word_mask(w, run->first, end);
}

void ferry_bitmap_clear_run(FerryBitmap *bitmap, const FerryRun *run)
{
	guint64 *words = bitmap->blocks[run->block].words;
	guint64 end = run->first + run->pages;

	for (guint64 w = run->first / 64; w * 64 < end; w++)
		words[w] &= ~word_mask(w, run->first, end);
}

void ferry_bitmap_set_run_atomic(FerryBitmap *bitmap, const FerryRun *run)
{
	guint64 *words = bitmap->blocks[run->block].words;
	guint64 end = run->first + run->pages;

	/* Release, with the acquire in ferry_bitmap_move(): the content comes before its bit. */
	for (guint64 w = run->first / 64; w * 64 < end; w++)
		__atomic_fetch_or(&words[w], word_mask(w, run->first, end), __ATOMIC_RELEASE);
}

void ferry_bitmap_set_all(FerryBitmap *bitmap)
{
	for (guint i = 0; i < bitmap->n_blocks; i++) {
		BlockBits *bits = &bitmap->blocks[i];

		memset(bits->words, 0xff, bits->n_words * sizeof(guint64));
		if (bits->pages % 64)
			bits->words[bits->n_words - 1] = ~(~0ull << (bits->pages % 64));
	}
}

static guint64 count_words(const guint64 *words, guint64 n)
{
	guint64 count = 0;

	for (guint64 w = 0; w < n; w++)
		count += (guint64)__builtin_popcountll(words[w]);
	return count;
}

guint64 ferry_bitmap_count(const FerryBitmap *bitmap)
{
	guint64 count = 0;

	for (guint i = 0; i < bitmap->n_blocks; i++)
		count += count_words(bitmap->blocks[i].words, bitmap->blocks[i].n_words);
	return count;
}

/* The plain load first keeps the many words that are zero from being written, and their cache lines
 * from being taken from the threads that set bits. */
static void move_words(guint64 *dst, guint64 *src, guint64 n)
{
	for (guint64 w = 0; w < n; w++)
		if (__atomic_load_n(&src[w], __ATOMIC_RELAXED))
			dst[w] |= __atomic_exchange_n(&src[w], 0, __ATOMIC_ACQUIRE);
}

void ferry_bitmap_move(FerryBitmap *dst, FerryBitmap *src)
{
	for (guint i = 0; i < dst->n_blocks; i++)
		move_words(dst->blocks[i].words, src->blocks[i].words, dst->blocks[i].n_words);
}

void ferry_bitmap_copy(FerryBitmap *dst, const FerryBitmap *src)
{
	for (guint i = 0; i < dst->n_blocks; i++)
		memcpy(dst->blocks[i].words, src->blocks[i].words,
		       dst->blocks[i].n_words * sizeof(guint64));
}

void ferry_bitmap_keep(FerryBitmap *dst, const FerryBitmap *src)
{
	for (guint i = 0; i < dst->n_blocks; i++)
		for (guint64 w = 0; w < dst->blocks[i].n_words; w++)
			dst->blocks[i].words[w] &= src->blocks[i].words[w];
}

void ferry_bitmap_add(FerryBitmap *dst, const FerryBitmap *src)
{
	for (guint i = 0; i < dst->n_blocks; i++)
		for (guint64 w = 0; w < dst->blocks[i].n_words; w++)
			dst->blocks[i].words[w] |= src->blocks[i].words[w];
}

guint64 ferry_bitmap_count_both(const FerryBitmap *a, const FerryBitmap *b)
{
	guint64 count = 0;

	for (guint i = 0; i < a->n_blocks; i++)
		for (guint64 w = 0; w < a->blocks[i].n_words; w++)
			count += (guint64)__builtin_popcountll(a->blocks[i].words[w] &
							       b->blocks[i].words[w]);
	return count;
}

/* The first page at or after @from, but before @end, whose bit is not that of @flip (0: set, ~0:
 * clear); @end if none. A search beyond what the caller can use would make walking one long run in
 * pieces quadratic. */
static guint64 find(const BlockBits *bits, guint64 from, guint64 end, guint64 flip)
{
	guint64 w = from / 64, word;

	if (from >= end)
		return end;
	word = (bits->words[w] ^ flip) & (~0ull << (from % 64));
	while (!word) {
		if (++w * 64 >= end)
			return end;
		word = bits->words[w] ^ flip;
	}
	return MIN(w * 64 + (guint64)__builtin_ctzll(word), end);
}

gboolean ferry_bitmap_next_run(const FerryBitmap *bitmap, FerryRun *run, guint64 max_pages)
{
	guint64 from = run->first + run->pages;

	for (guint block = run->block; block < bitmap->n_blocks; block++, from = 0) {
		const BlockBits *bits = &bitmap->blocks[block];
		guint64 first = find(bits, from, bits->pages, 0), end;

		if (first == bits->pages)
			continue;
		end = first + MIN(max_pages, bits->pages - first);
		*run = (FerryRun){
			.block = block,
			.first = first,
			.pages = find(bits, first, end, ~0ull) - first,
		};
		return TRUE;
	}
	return FALSE;
}
