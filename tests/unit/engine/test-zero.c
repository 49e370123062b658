/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "engine/zero.h"

#include <string.h>

static void is_zero__one_byte_set_anywhere__is_found(void)
{
	g_autofree guint8 *page = g_malloc0(FERRY_PAGE_SIZE);

	CU_ASSERT_TRUE(ferry_is_zero(page, FERRY_PAGE_SIZE));
	for (guint i = 0; i < FERRY_PAGE_SIZE; i++) {
		page[i] = 0x80;
		if (ferry_is_zero(page, FERRY_PAGE_SIZE))
			CU_FAIL("missed");
		page[i] = 0;
	}
}

static void is_zero__any_length_and_alignment__looks_at_nothing_outside(void)
{
	guint8 buf[700];

	for (guint at = 1; at < 40; at++)
		for (guint len = 0; len < 600; len++) {
			memset(buf, 0xff, sizeof(buf));
			memset(buf + at, 0, len);
			if (!ferry_is_zero(buf + at, len))
				CU_FAIL("looked outside");
			if (len && (buf[at + len - 1] = 1) && ferry_is_zero(buf + at, len))
				CU_FAIL("missed the last byte");
		}
}

static void split__pages_of_both_kinds__each_stretch_has_its_length(void)
{
	g_autofree guint8 *pages = g_malloc0(8 * FERRY_PAGE_SIZE);
	gboolean zero;

	pages[3 * FERRY_PAGE_SIZE - 1] = 1;
	pages[3 * FERRY_PAGE_SIZE] = 1;
	CU_ASSERT_EQUAL(ferry_zero_split(pages, 8, &zero), 2);
	CU_ASSERT_TRUE(zero);
	CU_ASSERT_EQUAL(ferry_zero_split(pages + 2 * FERRY_PAGE_SIZE, 6, &zero), 2);
	CU_ASSERT_FALSE(zero);
	CU_ASSERT_EQUAL(ferry_zero_split(pages + 4 * FERRY_PAGE_SIZE, 4, &zero), 4);
	CU_ASSERT_TRUE(zero);
	CU_ASSERT_EQUAL(ferry_zero_split(pages, 1, &zero), 1);
}

static void split__zero_pages__speed_is_printed(void)
{
	const guint64 n = 16384;
	g_autofree guint8 *pages = g_malloc(n * FERRY_PAGE_SIZE);
	gint64 best = G_MAXINT64;
	gboolean zero;

	memset(pages, 0, n * FERRY_PAGE_SIZE);
	for (guint i = 0; i < 10; i++) {
		gint64 begin = g_get_monotonic_time();

		CU_ASSERT_EQUAL(ferry_zero_split(pages, n, &zero), n);
		best = MIN(best, g_get_monotonic_time() - begin);
	}
	printf("# %.1f GB/s\n", (double)(n * FERRY_PAGE_SIZE) / 1e3 / (double)MAX(best, 1));
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(is_zero__one_byte_set_anywhere__is_found),
		CASE(is_zero__any_length_and_alignment__looks_at_nothing_outside),
		CASE(split__pages_of_both_kinds__each_stretch_has_its_length),
		CASE(split__zero_pages__speed_is_printed),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "zero pages", cases);
}
