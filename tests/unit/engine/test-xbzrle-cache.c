/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>
#include "engine/page-workers.h"
#include "engine/xbzrle-cache.h"
#include "harness.h"

static FerryRamBlock blocks[] = {
	{ .name = (char *)"a", .size = 8 << FERRY_PAGE_SHIFT },
	{ .name = (char *)"b", .size = 8 << FERRY_PAGE_SHIFT },
};
static const FerryRam ram = { 2, blocks, 16 << FERRY_PAGE_SHIFT };

static FerryXbzrleCache *cache_of(guint pages)
{
	return ferry_xbzrle_cache_new(&ram, (guint64)pages << FERRY_PAGE_SHIFT, NULL);
}

static gboolean put(FerryXbzrleCache *cache, guint block, guint64 page, guint round, guint8 byte)
{
	guint8 *bytes = ferry_xbzrle_cache_put(cache, block, page, round);

	if (bytes)
		memset(bytes, byte, FERRY_PAGE_SIZE);
	return bytes != NULL;
}

static int look(FerryXbzrleCache *cache, guint block, guint64 page, guint round)
{
	const guint8 *bytes = ferry_xbzrle_cache_find(cache, block, page, round);

	if (!bytes)
		return -1;
	CU_ASSERT_EQUAL(bytes[0], bytes[FERRY_PAGE_SIZE - 1]);
	return bytes[0];
}

static void cache__as_large_as_ram__keeps_every_page(void)
{
	g_autoptr(FerryXbzrleCache) cache = cache_of(16);

	for (guint i = 0; i < 16; i++)
		CU_ASSERT(put(cache, i / 8, i % 8, 2, (guint8)i));
	for (guint i = 0; i < 16; i++)
		CU_ASSERT_EQUAL(look(cache, i / 8, i % 8, 3), (int)i);
	CU_ASSERT_EQUAL(ferry_xbzrle_cache_size(cache), 16u << FERRY_PAGE_SHIFT);
}

static void cache__page_of_the_same_place__waits_for_two_rounds(void)
{
	g_autoptr(FerryXbzrleCache) cache = cache_of(4);

	CU_ASSERT(put(cache, 0, 1, 2, 'x'));
	CU_ASSERT_FALSE(put(cache, 0, 5, 2, 'y'));
	CU_ASSERT_FALSE(put(cache, 1, 1, 3, 'y'));
	CU_ASSERT_EQUAL(look(cache, 0, 5, 3), -1);
	/* Used in round 3: its time begins anew. */
	CU_ASSERT_EQUAL(look(cache, 0, 1, 3), 'x');
	CU_ASSERT_FALSE(put(cache, 0, 5, 4, 'y'));
	CU_ASSERT(put(cache, 0, 5, 5, 'y'));
	CU_ASSERT_EQUAL(look(cache, 0, 1, 5), -1);
	CU_ASSERT_EQUAL(look(cache, 0, 5, 5), 'y');
	/* The page itself may always come again. */
	CU_ASSERT(put(cache, 0, 5, 5, 'z'));
	CU_ASSERT_EQUAL(look(cache, 0, 5, 5), 'z');
}

static void cache__dropped_page__is_not_there(void)
{
	g_autoptr(FerryXbzrleCache) cache = cache_of(4);

	CU_ASSERT(put(cache, 0, 1, 2, 'x'));
	ferry_xbzrle_cache_drop(cache, 0, 5);
	CU_ASSERT_EQUAL(look(cache, 0, 1, 2), 'x');
	ferry_xbzrle_cache_drop(cache, 0, 1);
	CU_ASSERT_EQUAL(look(cache, 0, 1, 2), -1);
	CU_ASSERT(put(cache, 0, 5, 2, 'y'));
}

static void cache__resized__is_empty_and_of_the_new_size(void)
{
	static const guint sizes[] = { 1, 16, 2, 8 };
	g_autoptr(FerryXbzrleCache) cache = cache_of(4);

	for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
		guint64 bytes = (guint64)sizes[i] << FERRY_PAGE_SHIFT;

		CU_ASSERT(put(cache, 1, 7, 2, 'x'));
		CU_ASSERT(ferry_xbzrle_cache_resize(cache, bytes, NULL));
		CU_ASSERT_EQUAL(ferry_xbzrle_cache_size(cache), bytes);
		CU_ASSERT_EQUAL(look(cache, 1, 7, 2), -1);
		CU_ASSERT(put(cache, 1, 7, 2, 'y'));
		CU_ASSERT(ferry_xbzrle_cache_resize(cache, bytes, NULL));
		CU_ASSERT_EQUAL(look(cache, 1, 7, 2), 'y');
	}
}

static void cache__without_memory__is_refused_and_stays(void)
{
	g_autoptr(FerryXbzrleCache) cache = cache_of(4);
	g_autoptr(GError) error = NULL;

	CU_ASSERT(put(cache, 0, 1, 2, 'x'));
	CU_ASSERT_FALSE(ferry_xbzrle_cache_resize(cache, (guint64)1 << 62, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_IO));
	CU_ASSERT_EQUAL(look(cache, 0, 1, 2), 'x');
	CU_ASSERT_PTR_NULL(ferry_xbzrle_cache_new(&ram, (guint64)1 << 62, NULL));
}

/* ---- workers ---- */

static void add_one(gpointer user, FerryPageJob *job)
{
	g_atomic_int_inc((gint *)user);
	job->len = job->page + 1;
}

static void workers__more_pages_than_jobs__each_is_done_once(void)
{
	gint done = 0;
	g_autoptr(FerryPageWorkers)
		workers = ferry_page_workers_new("test", 3, add_one, &done, NULL);
	guint64 sum = 0;

	for (guint64 page = 0; page < 1000;) {
		FerryPageJob *job = ferry_page_workers_idle(workers);

		if (!job) {
			job = ferry_page_workers_finished(workers, G_TIME_SPAN_SECOND);
			CU_ASSERT_PTR_NOT_NULL(job);
			if (!job)
				return;
			CU_ASSERT_EQUAL(job->len, job->page + 1);
			sum += job->page;
			continue;
		}
		job->block = 1;
		job->page = page++;
		ferry_page_workers_submit(workers, job);
		CU_ASSERT(ferry_page_workers_have(workers, 1, job->page));
		CU_ASSERT_FALSE(ferry_page_workers_have(workers, 0, job->page));
	}
	CU_ASSERT(ferry_page_workers_under_way(workers) <= 6);
	while (ferry_page_workers_under_way(workers)) {
		FerryPageJob *job = ferry_page_workers_finished(workers, G_TIME_SPAN_SECOND);

		sum += job ? job->page : 0;
	}
	CU_ASSERT_PTR_NULL(ferry_page_workers_finished(workers, G_TIME_SPAN_SECOND));
	CU_ASSERT_EQUAL(sum, 999 * 1000 / 2);
	CU_ASSERT_EQUAL(done, 1000);
}

static void workers__freed_with_jobs_waiting__end(void)
{
	for (guint i = 0; i < 50; i++) {
		gint done = 0;
		g_autoptr(FerryPageWorkers)
			workers = ferry_page_workers_new("test", 2, add_one, &done, NULL);
		FerryPageJob *job;

		while ((job = ferry_page_workers_idle(workers)))
			ferry_page_workers_submit(workers, job);
	}
}

static CU_TestInfo cases[] = {
	CASE(cache__as_large_as_ram__keeps_every_page),
	CASE(cache__page_of_the_same_place__waits_for_two_rounds),
	CASE(cache__dropped_page__is_not_there),
	CASE(cache__resized__is_empty_and_of_the_new_size),
	CASE(cache__without_memory__is_refused_and_stays),
	CASE(workers__more_pages_than_jobs__each_is_done_once),
	CASE(workers__freed_with_jobs_waiting__end),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "xbzrle cache and page workers", cases);
}
