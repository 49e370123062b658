/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/missing.h"
#include "harness.h"

#define PAGE FERRY_PAGE_SIZE

/* Blocks of 200, 1 and 128 pages. */
static FerryMissing *make(void)
{
	static const guint64 pages[] = { 200, 1, 128 };
	g_autoptr(GArray) blocks = g_array_new(FALSE, TRUE, sizeof(FerryStreamRamBlock));

	for (guint i = 0; i < G_N_ELEMENTS(pages); i++) {
		FerryStreamRamBlock block = { .size = pages[i] * PAGE };

		g_array_append_val(blocks, block);
	}
	return ferry_missing_new(blocks);
}

static void missing__page_taken_twice__second_time_is_noticed(void)
{
	g_autoptr(FerryMissing) m = make();

	CU_ASSERT_FALSE(ferry_missing_take(m, 0, 0));
	ferry_missing_add(m, 0, 63 * PAGE, 2 * PAGE);
	ferry_missing_add(m, 0, 64 * PAGE, 2 * PAGE);
	CU_ASSERT_EQUAL(ferry_missing_pages(m), 3);
	CU_ASSERT_TRUE(ferry_missing_take(m, 0, 64 * PAGE));
	CU_ASSERT_FALSE(ferry_missing_take(m, 0, 64 * PAGE));
	CU_ASSERT_FALSE(ferry_missing_take(m, 2, 63 * PAGE));
	CU_ASSERT_EQUAL(ferry_missing_pages(m), 2);
}

static void missing__runs__are_found_across_words_and_blocks(void)
{
	static const struct {
		guint block;
		guint64 start, length;
	} expected[] = { { 0, 60, 10 }, { 0, 199, 1 }, { 1, 0, 1 }, { 2, 0, 100 }, { 2, 100, 28 } };
	g_autoptr(FerryMissing) m = make();
	guint64 start = 0, length;
	guint block = 0;

	ferry_missing_add(m, 0, 60 * PAGE, 10 * PAGE);
	ferry_missing_add(m, 0, 199 * PAGE, PAGE);
	ferry_missing_add(m, 1, 0, PAGE);
	ferry_missing_add(m, 2, 0, 128 * PAGE);
	for (guint i = 0; i < G_N_ELEMENTS(expected); i++) {
		CU_ASSERT_TRUE(ferry_missing_next(m, &block, &start, &length, 100 * PAGE));
		CU_ASSERT_EQUAL(block, expected[i].block);
		CU_ASSERT_EQUAL(start, expected[i].start * PAGE);
		CU_ASSERT_EQUAL(length, expected[i].length * PAGE);
		start += length;
	}
	CU_ASSERT_FALSE(ferry_missing_next(m, &block, &start, &length, 100 * PAGE));
}

static void received__bits_beyond_the_block__are_clear(void)
{
	g_autoptr(FerryMissing) m = make();
	g_autofree guint64 *large = NULL, *small = NULL, *whole = NULL;
	gsize n;

	ferry_missing_add(m, 0, PAGE, PAGE);
	ferry_missing_add(m, 0, 192 * PAGE, 7 * PAGE);
	large = ferry_missing_received(m, 0, &n);
	CU_ASSERT_EQUAL(n, 4);
	CU_ASSERT_EQUAL(large[0], ~2ull);
	CU_ASSERT_EQUAL(large[3], 0x80);
	small = ferry_missing_received(m, 1, &n);
	CU_ASSERT_EQUAL(n, 1);
	CU_ASSERT_EQUAL(small[0], 1);
	whole = ferry_missing_received(m, 2, &n);
	CU_ASSERT_EQUAL(n, 2);
	CU_ASSERT_EQUAL(whole[1], ~0ull);
}

static CU_TestInfo cases[] = {
	CASE(missing__page_taken_twice__second_time_is_noticed),
	CASE(missing__runs__are_found_across_words_and_blocks),
	CASE(received__bits_beyond_the_block__are_clear),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "missing pages", cases);
}
