/* SPDX-License-Identifier: BSD-2-Clause */
#include "bitmap.h"

#include <string.h>

/* Words in a group: of 16 MiB of RAM. */
#define GROUP_WORDS 64u
#define GROUP_PAGES (GROUP_WORDS * 64ull)

/* Most of a large guest is clean in most rounds: what has nothing set is passed over a group at a
 * time. */
typedef struct {
	guint64 *words;
	/* one bit for each group of words, clear only where all of them are 0 */
	guint64 *groups;
	guint64 pages;
	guint64 n_words;
	guint64 n_groups;
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
		bits->n_groups = (bits->n_words + GROUP_WORDS - 1) / GROUP_WORDS;
		bits->words = g_new0(guint64, bits->n_words);
		bits->groups = g_new0(guint64, (bits->n_groups + 63) / 64);
	}
	return bitmap;
}

void ferry_bitmap_free(FerryBitmap *bitmap)
{
	if (!bitmap)
		return;
	for (guint i = 0; i < bitmap->n_blocks; i++) {
		g_free(bitmap->blocks[i].words);
		g_free(bitmap->blocks[i].groups);
	}
	g_free(bitmap);
}

static void fill(guint64 *words, guint64 bits)
{
	memset(words, 0xff, bits / 64 * sizeof(guint64));
	if (bits % 64)
		words[bits / 64] = ~(~0ull << (bits % 64));
}

guint64 *ferry_bitmap_block(FerryBitmap *bitmap, guint block)
{
	BlockBits *bits = &bitmap->blocks[block];

	fill(bits->groups, bits->n_groups);
	return bits->words;
}

/* The first group at or after @group that may have something set; n_groups if none. */
static guint64 next_group(const BlockBits *bits, guint64 group)
{
	guint64 w = group / 64, word;

	if (group >= bits->n_groups)
		return bits->n_groups;
	word = bits->groups[w] & (~0ull << (group % 64));
	while (!word) {
		if (++w * 64 >= bits->n_groups)
			return bits->n_groups;
		word = bits->groups[w];
	}
	return w * 64 + (guint64)__builtin_ctzll(word);
}

static void clear_group(BlockBits *bits, guint64 group)
{
	bits->groups[group / 64] &= ~(1ull << (group % 64));
}

/* Words in group number @group: the last may be short. */
static guint64 words_in(const BlockBits *bits, guint64 group)
{
	return MIN(GROUP_WORDS, bits->n_words - group * GROUP_WORDS);
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
	BlockBits *bits = &bitmap->blocks[run->block];
	guint64 end = run->first + run->pages;

	for (guint64 w = run->first / 64; w * 64 < end; w++)
		bits->words[w] |= word_mask(w, run->first, end);
	for (guint64 g = run->first / GROUP_PAGES; g * GROUP_PAGES < end; g++)
		bits->groups[g / 64] |= 1ull << (g % 64);
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
	BlockBits *bits = &bitmap->blocks[run->block];
	guint64 end = run->first + run->pages;

	/* Release, with the acquires in ferry_bitmap_move(): the content comes before its bit, and
	 * the bit before its group's. */
	for (guint64 w = run->first / 64; w * 64 < end; w++)
		__atomic_fetch_or(&bits->words[w], word_mask(w, run->first, end), __ATOMIC_RELEASE);
	for (guint64 g = run->first / GROUP_PAGES; g * GROUP_PAGES < end; g++)
		__atomic_fetch_or(&bits->groups[g / 64], 1ull << (g % 64), __ATOMIC_RELEASE);
}

void ferry_bitmap_set_all(FerryBitmap *bitmap)
{
	for (guint i = 0; i < bitmap->n_blocks; i++) {
		BlockBits *bits = &bitmap->blocks[i];

		fill(bits->words, bits->pages);
		fill(bits->groups, bits->n_groups);
	}
}

/* Counting bits is a call where the processor is not known to have an instruction for it: words
 * are looked at eight at a time, and those that are all alike are not counted. */
static guint64 count_words(const guint64 *words, guint64 n)
{
	guint64 count = 0, w = 0;

	for (; w + 8 <= n; w += 8) {
		const guint64 *at = &words[w];

		if (!(at[0] | at[1] | at[2] | at[3] | at[4] | at[5] | at[6] | at[7]))
			continue;
		for (guint i = 0; i < 8; i++)
			if (at[i])
				count += ~at[i] ? (guint64)__builtin_popcountll(at[i]) : 64;
	}
	for (; w < n; w++)
		count += (guint64)__builtin_popcountll(words[w]);
	return count;
}

static guint64 count_block(BlockBits *bits)
{
	guint64 count = 0;

	for (guint64 g = next_group(bits, 0); g < bits->n_groups; g = next_group(bits, g + 1)) {
		guint64 found = count_words(&bits->words[g * GROUP_WORDS], words_in(bits, g));

		if (!found)
			clear_group(bits, g);
		count += found;
	}
	return count;
}

guint64 ferry_bitmap_count(FerryBitmap *bitmap)
{
	guint64 count = 0;

	for (guint i = 0; i < bitmap->n_blocks; i++)
		count += count_block(&bitmap->blocks[i]);
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

/* A group's bit that is set while its words are moved stays for the next time. */
static void move_block(BlockBits *dst, BlockBits *src)
{
	for (guint64 i = 0; i * 64 < src->n_groups; i++) {
		guint64 groups = 0;

		move_words(&groups, &src->groups[i], 1);
		dst->groups[i] |= groups;
		for (; groups; groups &= groups - 1) {
			guint64 g = i * 64 + (guint64)__builtin_ctzll(groups);

			move_words(&dst->words[g * GROUP_WORDS], &src->words[g * GROUP_WORDS],
				   words_in(dst, g));
		}
	}
}

void ferry_bitmap_move(FerryBitmap *dst, FerryBitmap *src)
{
	for (guint i = 0; i < dst->n_blocks; i++)
		move_block(&dst->blocks[i], &src->blocks[i]);
}

/* What @func does with a group's words; the groups are those of @bits. */
typedef void (*GroupFunc)(guint64 *dst, const guint64 *src, guint64 n);

static void for_groups(const BlockBits *bits, BlockBits *dst, const BlockBits *src, GroupFunc func)
{
	for (guint64 g = next_group(bits, 0); g < bits->n_groups; g = next_group(bits, g + 1))
		func(&dst->words[g * GROUP_WORDS], &src->words[g * GROUP_WORDS], words_in(bits, g));
}

static void copy_words(guint64 *dst, const guint64 *src, guint64 n)
{
	memcpy(dst, src, n * sizeof(guint64));
}

static void keep_words(guint64 *dst, const guint64 *src, guint64 n)
{
	for (guint64 w = 0; w < n; w++)
		dst[w] &= src[w];
}

static void add_words(guint64 *dst, const guint64 *src, guint64 n)
{
	for (guint64 w = 0; w < n; w++)
		dst[w] |= src[w];
}

static void add_groups(BlockBits *dst, const BlockBits *src)
{
	add_words(dst->groups, src->groups, (dst->n_groups + 63) / 64);
}

void ferry_bitmap_copy(FerryBitmap *dst, const FerryBitmap *src)
{
	for (guint i = 0; i < dst->n_blocks; i++) {
		BlockBits *to = &dst->blocks[i];
		const BlockBits *from = &src->blocks[i];

		/* Also where only @dst has something. */
		add_groups(to, from);
		for_groups(to, to, from, copy_words);
		copy_words(to->groups, from->groups, (to->n_groups + 63) / 64);
	}
}

void ferry_bitmap_keep(FerryBitmap *dst, const FerryBitmap *src)
{
	for (guint i = 0; i < dst->n_blocks; i++)
		for_groups(&dst->blocks[i], &dst->blocks[i], &src->blocks[i], keep_words);
}

void ferry_bitmap_add(FerryBitmap *dst, const FerryBitmap *src)
{
	for (guint i = 0; i < dst->n_blocks; i++) {
		for_groups(&src->blocks[i], &dst->blocks[i], &src->blocks[i], add_words);
		add_groups(&dst->blocks[i], &src->blocks[i]);
	}
}

static guint64 count_both_words(const guint64 *a, const guint64 *b, guint64 n)
{
	guint64 count = 0;

	for (guint64 w = 0; w < n; w++) {
		guint64 both = a[w] & b[w];

		if (both)
			count += ~both ? (guint64)__builtin_popcountll(both) : 64;
	}
	return count;
}

guint64 ferry_bitmap_count_both(const FerryBitmap *a, const FerryBitmap *b)
{
	guint64 count = 0;

	for (guint i = 0; i < a->n_blocks; i++) {
		const BlockBits *x = &a->blocks[i], *y = &b->blocks[i];

		for (guint64 g = next_group(x, 0); g < x->n_groups; g = next_group(x, g + 1))
			count += count_both_words(&x->words[g * GROUP_WORDS],
						  &y->words[g * GROUP_WORDS], words_in(x, g));
	}
	return count;
}

/* The first page at or after @from that is set; all pages if none. */
static guint64 find_set(const BlockBits *bits, guint64 from)
{
	guint64 w = from / 64, word;

	if (from >= bits->pages)
		return bits->pages;
	word = bits->words[w] & (~0ull << (from % 64));
	while (!word) {
		if (++w % GROUP_WORDS == 0)
			w = next_group(bits, w / GROUP_WORDS) * GROUP_WORDS;
		if (w >= bits->n_words)
			return bits->pages;
		word = bits->words[w];
	}
	return w * 64 + (guint64)__builtin_ctzll(word);
}

/* The first page at or after @from, but before @end, that is clear; @end if none. A search beyond
 * what the caller can use would make walking one long run in pieces quadratic. */
static guint64 find_clear(const BlockBits *bits, guint64 from, guint64 end)
{
	guint64 w = from / 64, word = ~bits->words[w] & (~0ull << (from % 64));

	while (!word) {
		if (++w * 64 >= end)
			return end;
		word = ~bits->words[w];
	}
	return MIN(w * 64 + (guint64)__builtin_ctzll(word), end);
}

gboolean ferry_bitmap_next_run(const FerryBitmap *bitmap, FerryRun *run, guint64 max_pages)
{
	guint64 from = run->first + run->pages;

	for (guint block = run->block; block < bitmap->n_blocks; block++, from = 0) {
		const BlockBits *bits = &bitmap->blocks[block];
		guint64 first = find_set(bits, from), end;

		if (first == bits->pages)
			continue;
		end = first + MIN(max_pages, bits->pages - first);
		*run = (FerryRun){
			.block = block,
			.first = first,
			.pages = find_clear(bits, first, end) - first,
		};
		return TRUE;
	}
	return FALSE;
}
