/* SPDX-License-Identifier: BSD-2-Clause */
#include "dirty-fixture.h"
#include "harness.h"

#include <string.h>

static void check_source(const char *name, DirtyBacking backing, guint rounds)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FerryDirtySource) source = ferry_dirty_source_new(name, &error);
	DirtyFixture f;

	if (!source)
		SKIP("%s", error->message);
	DIRTY_FIXTURE_NEED(&f, backing, DIRTY_FIXTURE_BYTES);
	CU_ASSERT_STRING_EQUAL(source->ops->name, name);
	/* Twice: stop must leave all as it was before start. */
	for (guint i = 0; i < 2; i++) {
		CU_ASSERT(dirty_fixture_track(&f, source, rounds) > 0);
		CU_ASSERT(memcmp(f.host, f.shadow, f.size) == 0);
		source->ops->stop(source);
	}
	dirty_fixture_tear_down(&f);
}

static void wp_async__memfd_under_random_writes__shadow_equals_ram(void)
{
	check_source("wp-async", DIRTY_MEMFD, 100);
}

static void wp_async__anonymous_under_random_writes__shadow_equals_ram(void)
{
	check_source("wp-async", DIRTY_ANONYMOUS, 100);
}

static void wp_async__hugetlb_under_random_writes__shadow_equals_ram(void)
{
	check_source("wp-async", DIRTY_HUGETLB, 20);
}

static void wp_fault__memfd_under_random_writes__shadow_equals_ram(void)
{
	check_source("wp-fault", DIRTY_MEMFD, 30);
}

static void wp_fault__anonymous_under_random_writes__shadow_equals_ram(void)
{
	check_source("wp-fault", DIRTY_ANONYMOUS, 30);
}

static void wp_fault__hugetlb_under_random_writes__shadow_equals_ram(void)
{
	check_source("wp-fault", DIRTY_HUGETLB, 20);
}

/* Proves that the comparison above can fail. */
static gboolean blind_collect(guint block, guint64 *bitmap, gpointer user, GError **error)
{
	return TRUE;
}

static void shadow__source_that_reports_nothing__differs_from_ram(void)
{
	const FerryDirtyCallbacks callbacks = { .collect = blind_collect };
	g_autoptr(FerryDirtySource) source = ferry_dirty_source_callback(&callbacks, NULL);
	DirtyFixture f;

	DIRTY_FIXTURE_NEED(&f, DIRTY_MEMFD, DIRTY_FIXTURE_BYTES);
	dirty_fixture_track(&f, source, 10);
	CU_ASSERT(memcmp(f.host, f.shadow, f.size) != 0);
	dirty_fixture_tear_down(&f);
}

/* Exactly the pages written are reported, once, and bits that were set stay. */
static void check_exact(const char *name)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FerryDirtySource) source = ferry_dirty_source_new(name, &error);
	const FerryRun kept = { .block = 1, .first = 7, .pages = 1 };
	DirtyFixture f;

	if (!source)
		SKIP("%s", error->message);
	DIRTY_FIXTURE_NEED(&f, DIRTY_MEMFD, DIRTY_FIXTURE_BYTES);
	f.host[100 * FERRY_PAGE_SIZE] = 1;
	CU_ASSERT_TRUE(source->ops->start(source, f.ram, NULL));
	f.host[0] = 1;
	f.host[200 * FERRY_PAGE_SIZE + 9] = 1;
	f.host[f.size - 1] = 1;
	ferry_bitmap_set_run(f.dirty, &kept);
	CU_ASSERT_TRUE(dirty_fixture_collect(&f, source));
	CU_ASSERT_EQUAL(ferry_bitmap_count(f.dirty), 4);
	CU_ASSERT_TRUE(bit_is_set(f.dirty, 0, 0));
	CU_ASSERT_TRUE(bit_is_set(f.dirty, 0, 200));
	CU_ASSERT_TRUE(bit_is_set(f.dirty, 1, 7));
	CU_ASSERT_TRUE(bit_is_set(f.dirty, 1, f.size / 2 / FERRY_PAGE_SIZE - 1));
	clear_bits(f.dirty, f.ram);
	CU_ASSERT_TRUE(dirty_fixture_collect(&f, source));
	CU_ASSERT_EQUAL(ferry_bitmap_count(f.dirty), 0);
	source->ops->stop(source);
	dirty_fixture_tear_down(&f);
}

static void wp_async__a_few_writes__exactly_their_pages_are_reported(void)
{
	check_exact("wp-async");
}

static void wp_fault__a_few_writes__exactly_their_pages_are_reported(void)
{
	check_exact("wp-fault");
}

#define LARGE_GIB 9u

/* Pages on both sides of where page tables end. */
static void wp_async__memory_of_many_gib__exactly_the_pages_written_are_reported(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FerryDirtySource) source = ferry_dirty_source_new("wp-async", &error);
	const guint64 gib_pages = (1ull << 30) / FERRY_PAGE_SIZE;
	guint wrong = 0;
	DirtyFixture f;

	if (!source)
		SKIP("%s", error->message);
	DIRTY_FIXTURE_NEED(&f, DIRTY_MEMFD, 2ull * LARGE_GIB << 30);
	CU_ASSERT_TRUE(source->ops->start(source, f.ram, NULL));
	for (guint round = 0; round < 3; round++) {
		for (guint64 gib = 1; gib < 2 * LARGE_GIB; gib++) {
			f.host[(gib << 30) - 1]++;
			f.host[gib << 30]++;
		}
		CU_ASSERT_TRUE(dirty_fixture_collect(&f, source));
		wrong += ferry_bitmap_count(f.dirty) != 2 * (2 * LARGE_GIB - 1);
		for (guint64 gib = 1; gib < LARGE_GIB; gib++)
			for (guint block = 0; block < 2; block++)
				wrong += !bit_is_set(f.dirty, block, gib * gib_pages) ||
					 !bit_is_set(f.dirty, block, gib * gib_pages - 1);
		clear_bits(f.dirty, f.ram);
	}
	CU_ASSERT_EQUAL(wrong, 0);
	source->ops->stop(source);
	dirty_fixture_tear_down(&f);
}

static void wp_async__memory_tracked_by_another__start_names_the_block_and_leaves_nothing(void)
{
	g_autoptr(FerryDirtySource) first = ferry_dirty_source_new("wp-async", NULL);
	g_autoptr(FerryDirtySource) second = ferry_dirty_source_new("wp-async", NULL);
	g_autoptr(GError) error = NULL;
	DirtyFixture f;

	if (!first || !second)
		SKIP("no wp-async here");
	DIRTY_FIXTURE_NEED(&f, DIRTY_MEMFD, DIRTY_FIXTURE_BYTES);
	CU_ASSERT_TRUE(first->ops->start(first, f.ram, NULL));
	CU_ASSERT_FALSE(second->ops->start(second, f.ram, &error));
	CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_NOSUPP));
	CU_ASSERT_PTR_NOT_NULL(error ? strstr(error->message, "'low'") : NULL);
	/* The failed start did not take the first one's pages away. */
	f.host[0] = 1;
	CU_ASSERT_TRUE(dirty_fixture_collect(&f, first));
	CU_ASSERT_EQUAL(ferry_bitmap_count(f.dirty), 1);
	first->ops->stop(first);
	CU_ASSERT_TRUE(second->ops->start(second, f.ram, NULL));
	second->ops->stop(second);
	dirty_fixture_tear_down(&f);
}

static gint64 time_writes(DirtyFixture *f, guint64 step)
{
	gint64 begin = g_get_monotonic_time();

	for (guint64 at = 0; at < f->size; at += step * FERRY_PAGE_SIZE)
		f->host[at]++;
	return g_get_monotonic_time() - begin;
}

static void wp_async__one_percent_dirty__collect_is_quick(void)
{
	g_autoptr(FerryDirtySource) source = ferry_dirty_source_new("wp-async", NULL);
	gint64 best = G_MAXINT64, begin, start_us, stop_us, first_us;
	DirtyFixture f;

	if (!source)
		SKIP("no wp-async here");
	DIRTY_FIXTURE_NEED(&f, DIRTY_MEMFD, 1ull << 30);
	time_writes(&f, 1);
	begin = g_get_monotonic_time();
	CU_ASSERT_TRUE(source->ops->start(source, f.ram, NULL));
	start_us = g_get_monotonic_time() - begin;
	for (guint i = 0; i < 5; i++) {
		time_writes(&f, 100);
		begin = g_get_monotonic_time();
		CU_ASSERT_TRUE(dirty_fixture_collect(&f, source));
		best = MIN(best, g_get_monotonic_time() - begin);
		CU_ASSERT_EQUAL(ferry_bitmap_count(f.dirty), (f.size / FERRY_PAGE_SIZE + 99) / 100);
		clear_bits(f.dirty, f.ram);
	}
	begin = g_get_monotonic_time();
	source->ops->stop(source);
	stop_us = g_get_monotonic_time() - begin;
	first_us = time_writes(&f, 1);
	printf("# 1 GiB memfd: start %.1f ms, collect with 1 %% dirty %.2f ms, stop %.1f ms, then two sweeps "
	       "%.1f and %.1f ms\n",
	       (double)start_us / 1e3, (double)best / 1e3, (double)stop_us / 1e3,
	       (double)first_us / 1e3, (double)time_writes(&f, 1) / 1e3);
	CU_ASSERT(best < 25000);
	dirty_fixture_tear_down(&f);
}

static gboolean fail_start(const FerryRam *ram, gpointer user, GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "no");
	return FALSE;
}

static void count_stop(gpointer user)
{
	++*(guint *)user;
}

static void callback__start_fails__stop_is_not_called(void)
{
	const FerryDirtyCallbacks callbacks = { fail_start, blind_collect, count_stop };
	g_autoptr(GError) error = NULL;
	guint stops = 0;
	FerryDirtySource *source = ferry_dirty_source_callback(&callbacks, &stops);
	g_autoptr(FerryRam) ram = ferry_ram_new();

	CU_ASSERT_FALSE(source->ops->start(source, ram, &error));
	CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_NOSUPP));
	ferry_dirty_source_free(source);
	CU_ASSERT_EQUAL(stops, 0);
}

static void callback__started_and_freed__stop_is_called_once(void)
{
	const FerryDirtyCallbacks callbacks = { NULL, blind_collect, count_stop };
	guint stops = 0;
	FerryDirtySource *source = ferry_dirty_source_callback(&callbacks, &stops);
	g_autoptr(FerryRam) ram = ferry_ram_new();

	CU_ASSERT_TRUE(source->ops->start(source, ram, NULL));
	source->ops->stop(source);
	ferry_dirty_source_free(source);
	CU_ASSERT_EQUAL(stops, 1);
}

static void new__unknown_name__error_lists_the_known_ones(void)
{
	g_autoptr(GError) error = NULL;

	CU_ASSERT_PTR_NULL(ferry_dirty_source_new("magic", &error));
	CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID));
	CU_ASSERT_PTR_NOT_NULL(error ? strstr(error->message, "wp-async") : NULL);
}

static void new__auto__first_that_works(void)
{
	g_autoptr(FerryDirtySource) wanted = ferry_dirty_source_new("wp-async", NULL);
	g_autoptr(FerryDirtySource) best = ferry_dirty_source_new(NULL, NULL);

	if (!wanted)
		SKIP("no wp-async here");
	CU_ASSERT_PTR_NOT_NULL(best);
	if (best)
		CU_ASSERT_STRING_EQUAL(best->ops->name, "wp-async");
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(wp_async__memfd_under_random_writes__shadow_equals_ram),
		CASE(wp_async__anonymous_under_random_writes__shadow_equals_ram),
		CASE(wp_async__hugetlb_under_random_writes__shadow_equals_ram),
		CASE(wp_fault__memfd_under_random_writes__shadow_equals_ram),
		CASE(wp_fault__anonymous_under_random_writes__shadow_equals_ram),
		CASE(wp_fault__hugetlb_under_random_writes__shadow_equals_ram),
		CASE(shadow__source_that_reports_nothing__differs_from_ram),
		CASE(wp_async__a_few_writes__exactly_their_pages_are_reported),
		CASE(wp_fault__a_few_writes__exactly_their_pages_are_reported),
		CASE(wp_async__memory_of_many_gib__exactly_the_pages_written_are_reported),
		CASE(wp_async__memory_tracked_by_another__start_names_the_block_and_leaves_nothing),
		CASE(wp_async__one_percent_dirty__collect_is_quick),
		CASE(callback__start_fails__stop_is_not_called),
		CASE(callback__started_and_freed__stop_is_called_once),
		CASE(new__unknown_name__error_lists_the_known_ones),
		CASE(new__auto__first_that_works),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "dirty sources", cases);
}
