/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/page-set.h"
#include "harness.h"

/* Blocks of 130 and 64 pages; nothing is ever read there. */
static FerryRam *make_ram(void)
{
	FerryRam *ram = ferry_ram_new();

	if (!ferry_ram_add(ram, "a", GSIZE_TO_POINTER(1 << 20), 130 * FERRY_PAGE_SIZE,
			   FERRY_PAGE_SIZE, -1, 0, NULL) ||
	    !ferry_ram_add(ram, "b", GSIZE_TO_POINTER(1 << 24), 64 * FERRY_PAGE_SIZE,
			   FERRY_PAGE_SIZE, -1, 0, NULL))
		CU_FAIL("blocks");
	return ram;
}

static void add_run(FerryPageSet *set, FerryRun run)
{
	for (FerryRun part; ferry_page_set_split(&run, &part);)
		ferry_page_set_add(set, &part);
}

static gboolean finds(const FerryPageSet *set, gboolean in, guint block, guint64 from, guint64 max,
		      guint64 first, guint64 pages)
{
	FerryRun run;

	return ferry_page_set_find(set, in, block, from, max, &run) && run.block == block &&
	       run.first == first && run.pages == pages;
}

static void split__across_words__parts_of_one_word(void)
{
	FerryRun rest = { 1, 60, 72 }, part;
	const FerryRun want[] = { { 1, 60, 4 }, { 1, 64, 64 }, { 1, 128, 4 } };

	for (guint i = 0; i < G_N_ELEMENTS(want); i++) {
		CU_ASSERT_TRUE(ferry_page_set_split(&rest, &part));
		CU_ASSERT_EQUAL(part.first, want[i].first);
		CU_ASSERT_EQUAL(part.pages, want[i].pages);
	}
	CU_ASSERT_FALSE(ferry_page_set_split(&rest, &part));
}

static void add__some_are_in__the_others_are_new(void)
{
	g_autoptr(FerryRam) ram = make_ram();
	g_autoptr(FerryPageSet) set = ferry_page_set_new(ram, FALSE);

	CU_ASSERT_EQUAL(ferry_page_set_add(set, &(FerryRun){ 0, 66, 2 }), 3);
	CU_ASSERT_EQUAL(ferry_page_set_add(set, &(FerryRun){ 0, 65, 4 }), 0x9);
	CU_ASSERT_EQUAL(ferry_page_set_add(set, &(FerryRun){ 1, 0, 64 }), ~0ull);
	CU_ASSERT_EQUAL(ferry_page_set_remove(set, &(FerryRun){ 0, 67, 3 }), 0x3);
	CU_ASSERT_TRUE(ferry_page_set_has_all(set, &(FerryRun){ 0, 65, 2 }));
	CU_ASSERT_FALSE(ferry_page_set_has_all(set, &(FerryRun){ 0, 65, 3 }));
	CU_ASSERT_FALSE(ferry_page_set_has_any(set, &(FerryRun){ 0, 67, 63 }));
	CU_ASSERT_TRUE(ferry_page_set_has_any(set, &(FerryRun){ 0, 0, 66 }));
	CU_ASSERT_TRUE(ferry_page_set_has(set, 0, 65));
	CU_ASSERT_FALSE(ferry_page_set_has(set, 0, 64));
	ferry_page_set_clear(set);
	CU_ASSERT_FALSE(ferry_page_set_has_any(set, &(FerryRun){ 0, 0, 130 }));
}

static void find__full_or_empty__all_of_the_block(void)
{
	g_autoptr(FerryRam) ram = make_ram();
	g_autoptr(FerryPageSet) full = ferry_page_set_new(ram, TRUE);
	g_autoptr(FerryPageSet) empty = ferry_page_set_new(ram, FALSE);
	FerryRun run;

	CU_ASSERT_TRUE(finds(full, TRUE, 0, 0, G_MAXUINT64, 0, 130));
	CU_ASSERT_TRUE(finds(full, TRUE, 0, 129, G_MAXUINT64, 129, 1));
	CU_ASSERT_FALSE(ferry_page_set_find(full, FALSE, 0, 0, G_MAXUINT64, &run));
	CU_ASSERT_FALSE(ferry_page_set_find(full, TRUE, 0, 130, G_MAXUINT64, &run));
	CU_ASSERT_TRUE(finds(empty, FALSE, 0, 1, 100, 1, 100));
	CU_ASSERT_TRUE(finds(empty, FALSE, 1, 0, 100, 0, 64));
	CU_ASSERT_FALSE(ferry_page_set_find(empty, TRUE, 1, 0, G_MAXUINT64, &run));
}

static void find__stretches__first_at_or_behind(void)
{
	g_autoptr(FerryRam) ram = make_ram();
	g_autoptr(FerryPageSet) set = ferry_page_set_new(ram, FALSE);

	add_run(set, (FerryRun){ 0, 60, 10 });
	add_run(set, (FerryRun){ 0, 128, 1 });
	CU_ASSERT_TRUE(finds(set, TRUE, 0, 0, 64, 60, 10));
	CU_ASSERT_TRUE(finds(set, TRUE, 0, 0, 4, 60, 4));
	CU_ASSERT_TRUE(finds(set, TRUE, 0, 64, 64, 64, 6));
	CU_ASSERT_TRUE(finds(set, TRUE, 0, 70, 64, 128, 1));
	CU_ASSERT_TRUE(finds(set, FALSE, 0, 60, 64, 70, 58));
	CU_ASSERT_TRUE(finds(set, FALSE, 0, 128, 64, 129, 1));
}

static void copy__a_few__their_bits(void)
{
	g_autoptr(FerryRam) ram = make_ram();
	g_autoptr(FerryPageSet) set = ferry_page_set_new(ram, TRUE);
	g_autofree guint64 *words = NULL;
	gsize n = 0;

	ferry_page_set_remove(set, &(FerryRun){ 0, 1, 1 });
	words = ferry_page_set_copy(set, 0, &n);
	CU_ASSERT_EQUAL(n, 3);
	CU_ASSERT_EQUAL(words[0], ~2ull);
	CU_ASSERT_EQUAL(words[2], 3);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(split__across_words__parts_of_one_word),
		CASE(add__some_are_in__the_others_are_new),
		CASE(find__full_or_empty__all_of_the_block),
		CASE(find__stretches__first_at_or_behind),
		CASE(copy__a_few__their_bits),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "page-set", cases);
}
