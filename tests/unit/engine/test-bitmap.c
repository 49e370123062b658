/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "bits.h"

#include <string.h>

/* Never dereferenced: bitmaps look at sizes only. */
static FerryRam *make_ram(guint64 first_pages, guint64 second_pages)
{
	FerryRam *ram = ferry_ram_new();
	guint8 *host = (guint8 *)(1ull << 32);

	CU_ASSERT_TRUE(
		ferry_ram_add(ram, "a", host, first_pages * FERRY_PAGE_SIZE, 4096, -1, 0, NULL));
	host += 1ull << 40;
	CU_ASSERT_TRUE(
		ferry_ram_add(ram, "b", host, second_pages * FERRY_PAGE_SIZE, 4096, -1, 0, NULL));
	return ram;
}

static void bitmap__set_and_clear_of_every_run__matches_a_plain_array(void)
{
	enum {
		PAGES = 200
	};
	g_autoptr(FerryRam) ram = make_ram(PAGES, 1);
	g_autoptr(FerryBitmap) bitmap = ferry_bitmap_new(ram);

	for (guint64 first = 0; first < PAGES; first++)
		for (guint64 pages = 1; pages <= PAGES - first; pages++) {
			const FerryRun run = { 0, first, pages };
			gboolean wrong = FALSE;

			ferry_bitmap_set_run(bitmap, &run);
			for (guint64 p = 0; p < PAGES; p++)
				wrong |= bit_is_set(bitmap, 0, p) !=
					 (p >= first && p < first + pages);
			wrong |= ferry_bitmap_count(bitmap) != pages;
			ferry_bitmap_set_all(bitmap);
			ferry_bitmap_clear_run(bitmap, &run);
			wrong |= ferry_bitmap_count(bitmap) != PAGES + 1 - pages;
			clear_bits(bitmap, ram);
			ferry_bitmap_set_run_atomic(bitmap, &run);
			wrong |= ferry_bitmap_count(bitmap) != pages;
			clear_bits(bitmap, ram);
			if (wrong)
				CU_FAIL("a bit is wrong");
		}
}

static void bitmap__set_all__no_bit_beyond_the_last_page(void)
{
	g_autoptr(FerryRam) ram = make_ram(65, 64);
	g_autoptr(FerryBitmap) bitmap = ferry_bitmap_new(ram);

	ferry_bitmap_set_all(bitmap);
	CU_ASSERT_EQUAL(ferry_bitmap_count(bitmap), 129);
	CU_ASSERT_EQUAL(ferry_bitmap_block(bitmap, 0)[1], 1);
}

static void next_run__random_bits__yields_each_page_once_in_maximal_runs(void)
{
	enum {
		PAGES = 777
	};
	g_autoptr(FerryRam) ram = make_ram(PAGES, PAGES);
	g_autoptr(FerryBitmap) bitmap = ferry_bitmap_new(ram);
	g_autoptr(FerryBitmap) seen = ferry_bitmap_new(ram);
	g_autoptr(GRand) random = g_rand_new_with_seed(1);

	for (guint i = 0; i < 60; i++) {
		const FerryRun run = { g_rand_int(random) % 2, g_rand_int(random) % PAGES, 1 };

		ferry_bitmap_set_run(bitmap, &run);
		if (i % 3 == 0 && run.first + 70 <= PAGES)
			ferry_bitmap_set_run(bitmap, &(FerryRun){ run.block, run.first, 70 });
	}
	for (FerryRun run = { 0 }; ferry_bitmap_next_run(bitmap, &run, G_MAXUINT64);) {
		if (run.first)
			CU_ASSERT_FALSE(bit_is_set(bitmap, run.block, run.first - 1));
		if (run.first + run.pages < PAGES)
			CU_ASSERT_FALSE(bit_is_set(bitmap, run.block, run.first + run.pages));
		ferry_bitmap_set_run(seen, &run);
	}
	for (guint b = 0; b < 2; b++)
		CU_ASSERT_EQUAL(memcmp(ferry_bitmap_block(bitmap, b), ferry_bitmap_block(seen, b),
				       (PAGES + 63) / 64 * 8),
				0);
}

static void next_run__longer_than_max__is_cut_and_goes_on(void)
{
	g_autoptr(FerryRam) ram = make_ram(300, 300);
	g_autoptr(FerryBitmap) bitmap = ferry_bitmap_new(ram);
	FerryRun run = { 0 };
	guint n = 0;

	ferry_bitmap_set_all(bitmap);
	for (; ferry_bitmap_next_run(bitmap, &run, 128); n++)
		CU_ASSERT_EQUAL(run.pages, run.first == 256 ? 44 : 128);
	CU_ASSERT_EQUAL(n, 6);
	CU_ASSERT_FALSE(ferry_bitmap_next_run(bitmap, &run, 128));
}

static void next_run__empty__ends_at_once(void)
{
	g_autoptr(FerryRam) ram = make_ram(300, 300);
	g_autoptr(FerryBitmap) bitmap = ferry_bitmap_new(ram);
	FerryRun run = { 0 };

	CU_ASSERT_FALSE(ferry_bitmap_next_run(bitmap, &run, 1));
}

#define GENERATIONS 5000

typedef struct {
	FerryBitmap *shared;
	gint marked; /* atomic: generations that are set */
	gint moved;  /* atomic: generations that were taken */
} Marking;

/* All bits are in one word, so that the two threads meet at it. */
static gpointer mark(gpointer data)
{
	Marking *m = data;

	for (gint i = 1; i <= GENERATIONS; i++) {
		for (guint64 p = 0; p < 64; p++)
			ferry_bitmap_set_run_atomic(m->shared, &(FerryRun){ 0, p, 1 });
		g_atomic_int_set(&m->marked, i);
		while (g_atomic_int_get(&m->moved) < i)
			g_thread_yield();
	}
	return NULL;
}

static void move__another_thread_sets_bits__none_is_lost(void)
{
	g_autoptr(FerryRam) ram = make_ram(64, 1);
	g_autoptr(FerryBitmap) shared = ferry_bitmap_new(ram);
	g_autoptr(FerryBitmap) mine = ferry_bitmap_new(ram);
	Marking marking = { shared, 0, 0 };
	GThread *thread = g_thread_new("mark", mark, &marking);
	guint lost = 0;

	for (gint i = 1; i <= GENERATIONS; i++) {
		while (g_atomic_int_get(&marking.marked) < i) {
			for (guint n = 0; n < 100; n++)
				ferry_bitmap_move(mine, shared);
			g_thread_yield();
		}
		ferry_bitmap_move(mine, shared);
		lost += ferry_bitmap_count(mine) != 64;
		clear_bits(mine, ram);
		g_atomic_int_set(&marking.moved, i);
	}
	g_thread_join(thread);
	CU_ASSERT_EQUAL(lost, 0);
	CU_ASSERT_EQUAL(ferry_bitmap_count(shared), 0);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(bitmap__set_and_clear_of_every_run__matches_a_plain_array),
		CASE(bitmap__set_all__no_bit_beyond_the_last_page),
		CASE(next_run__random_bits__yields_each_page_once_in_maximal_runs),
		CASE(next_run__longer_than_max__is_cut_and_goes_on),
		CASE(next_run__empty__ends_at_once),
		CASE(move__another_thread_sets_bits__none_is_lost),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "bitmaps", cases);
}
