/* SPDX-License-Identifier: BSD-2-Clause */
/* Bitmaps that are large beside what is set in them: what is passed over must be clear, and passing
 * over it must be cheap. */
#include "harness.h"
#include "bits.h"

#include <string.h>
#include <time.h>

/* Several groups of words, the last of them short, in each block. */
#define PAGES (5 * 4096 + 130ull)
#define BLOCKS 2u
#define BITMAPS 3u
#define STEPS 6000u

/* A bitmap, and the same as bytes. */
typedef struct {
	FerryBitmap *bitmap;
	guint8 plain[BLOCKS][PAGES];
} Pair;

static FerryRam *make_ram(guint64 pages)
{
	FerryRam *ram = ferry_ram_new();

	for (guint i = 0; i < BLOCKS; i++)
		CU_ASSERT_TRUE(ferry_ram_add(ram, i ? "b" : "a",
					     (guint8 *)(1ull << 40) + ((guint64)i << 44),
					     pages * FERRY_PAGE_SIZE, 4096, -1, 0, NULL));
	return ram;
}

static FerryRun random_run(GRand *random)
{
	FerryRun run = { .block = g_rand_int(random) % BLOCKS };
	guint64 most = g_rand_int(random) % 8 ? 70 : PAGES;

	run.first = g_rand_int(random) % PAGES;
	run.pages = 1 + g_rand_int(random) % MIN(most, PAGES - run.first);
	return run;
}

static void set_plain(Pair *pair, const FerryRun *run, guint8 value)
{
	memset(&pair->plain[run->block][run->first], value, run->pages);
}

/* Word by word, as a dirty source does. */
static void set_raw(Pair *pair, const FerryRun *run)
{
	guint64 *words = ferry_bitmap_block(pair->bitmap, run->block);

	for (guint64 page = run->first; page < run->first + run->pages; page++)
		words[page / 64] |= 1ull << (page % 64);
}

static void change_one(Pair *pair, guint what, const FerryRun *run)
{
	switch (what) {
	case 0:
		ferry_bitmap_clear_run(pair->bitmap, run);
		break;
	case 1:
		ferry_bitmap_set_run(pair->bitmap, run);
		break;
	case 2:
		ferry_bitmap_set_run_atomic(pair->bitmap, run);
		break;
	default:
		set_raw(pair, run);
		break;
	}
	set_plain(pair, run, what != 0);
}

static void combine_two(Pair *dst, Pair *src, guint what)
{
	guint8 *to = (guint8 *)dst->plain, *from = (guint8 *)src->plain;

	switch (what) {
	case 0:
		ferry_bitmap_move(dst->bitmap, src->bitmap);
		break;
	case 1:
		ferry_bitmap_add(dst->bitmap, src->bitmap);
		break;
	case 2:
		ferry_bitmap_keep(dst->bitmap, src->bitmap);
		break;
	default:
		ferry_bitmap_copy(dst->bitmap, src->bitmap);
		break;
	}
	for (guint64 i = 0; i < sizeof(dst->plain); i++)
		to[i] = what < 2 ? to[i] | from[i] : what == 2 ? to[i] & from[i] : from[i];
	if (what == 0)
		memset(src->plain, 0, sizeof(src->plain));
}

/* What a walk finds, compared with the bytes. */
static gboolean walk_is_right(const Pair *pair)
{
	static guint8 seen[BLOCKS][PAGES];

	memset(seen, 0, sizeof(seen));
	for (FerryRun run = { 0 }; ferry_bitmap_next_run(pair->bitmap, &run, 100);)
		memset(&seen[run.block][run.first], 1, run.pages);
	return memcmp(seen, pair->plain, sizeof(seen)) == 0;
}

static guint64 count_plain(const Pair *a, const Pair *b)
{
	const guint8 *x = (const guint8 *)a->plain, *y = (const guint8 *)b->plain;
	guint64 count = 0;

	for (guint64 i = 0; i < sizeof(a->plain); i++)
		count += x[i] & y[i];
	return count;
}

static void bitmap__random_operations_over_many_groups__match_plain_arrays(void)
{
	g_autoptr(FerryRam) ram = make_ram(PAGES);
	g_autoptr(GRand) random = g_rand_new_with_seed(3);
	g_autofree Pair *pairs = g_new0(Pair, BITMAPS);
	guint wrong = 0;

	for (guint i = 0; i < BITMAPS; i++)
		pairs[i].bitmap = ferry_bitmap_new(ram);
	for (guint step = 0; step < STEPS; step++) {
		Pair *a = &pairs[g_rand_int(random) % BITMAPS];
		Pair *b = &pairs[g_rand_int(random) % BITMAPS];
		FerryRun run = random_run(random);
		guint what = g_rand_int(random) % 16;

		if (what < 12)
			change_one(a, what / 3, &run);
		else if (a != b)
			combine_two(a, b, what - 12);
		if (step % 16 == 0)
			wrong += !walk_is_right(a);
		if (step % 16 == 0)
			wrong += ferry_bitmap_count_both(a->bitmap, b->bitmap) != count_plain(a, b);
		if (step % 32 == 0)
			wrong += ferry_bitmap_count(a->bitmap) != count_plain(a, a);
	}
	for (guint i = 0; i < BITMAPS; i++)
		ferry_bitmap_free(pairs[i].bitmap);
	CU_ASSERT_EQUAL(wrong, 0);
}

/* ---- what a round costs ---- */

#define GIB_PAGES (1ull << (30 - FERRY_PAGE_SHIFT))
#define ROUNDS 60u
#define DIRTY_RUNS 1024u

typedef struct {
	FerryBitmap *pending, *collected, *again;
	gint64 best_ns;
} Rounds;

static gint64 cpu_ns(void)
{
	struct timespec now = { 0 };

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void rounds_init(Rounds *rounds, const FerryRam *ram)
{
	rounds->pending = ferry_bitmap_new(ram);
	rounds->collected = ferry_bitmap_new(ram);
	rounds->again = ferry_bitmap_new(ram);
	rounds->best_ns = G_MAXINT64;
	ferry_bitmap_set_all(rounds->pending);
	for (FerryRun run = { 0 }; ferry_bitmap_next_run(rounds->pending, &run, G_MAXUINT64);)
		ferry_bitmap_clear_run(rounds->pending, &run);
	CU_ASSERT_EQUAL(ferry_bitmap_count(rounds->pending), 0);
}

static void rounds_clear(Rounds *rounds)
{
	ferry_bitmap_free(rounds->again);
	ferry_bitmap_free(rounds->collected);
	ferry_bitmap_free(rounds->pending);
}

/* All that a round does to bitmaps but its collect, with the same pages dirty. */
static void one_round(Rounds *rounds)
{
	guint64 pages = 0;
	gint64 begin;

	for (guint64 i = 0; i < DIRTY_RUNS; i++)
		ferry_bitmap_set_run(rounds->collected, &(FerryRun){ 0, i * 24, 16 });
	begin = cpu_ns();
	pages += ferry_bitmap_count(rounds->collected);
	ferry_bitmap_move(rounds->pending, rounds->collected);
	pages += ferry_bitmap_count_both(rounds->pending, rounds->again);
	ferry_bitmap_add(rounds->again, rounds->pending);
	for (FerryRun run = { 0 }; ferry_bitmap_next_run(rounds->pending, &run, 64);)
		ferry_bitmap_clear_run(rounds->pending, &run);
	pages += ferry_bitmap_count(rounds->pending);
	rounds->best_ns = MIN(rounds->best_ns, cpu_ns() - begin);
	CU_ASSERT(pages >= DIRTY_RUNS * 16);
}

/* 256 times the RAM; a walk over all of it would take some 50 times as long. */
static void bitmap__same_pages_of_more_ram__cost_the_same(void)
{
	g_autoptr(FerryRam) small = make_ram(GIB_PAGES), large = make_ram(256 * GIB_PAGES);
	Rounds few, many;

	rounds_init(&few, small);
	rounds_init(&many, large);
	for (guint i = 0; i < ROUNDS; i++) {
		one_round(&few);
		one_round(&many);
	}
	printf("# a round's bitmaps: %" G_GINT64_FORMAT " ns of 2 GiB, %" G_GINT64_FORMAT
	       " ns of 512 GiB\n",
	       few.best_ns, many.best_ns);
	CU_ASSERT(many.best_ns < 4 * few.best_ns);
	rounds_clear(&many);
	rounds_clear(&few);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(bitmap__random_operations_over_many_groups__match_plain_arrays),
		CASE(bitmap__same_pages_of_more_ram__cost_the_same),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "bitmap groups", cases);
}
