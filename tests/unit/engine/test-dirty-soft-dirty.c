/* SPDX-License-Identifier: BSD-2-Clause */
#include "dirty-fixture.h"
#include "harness.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

static gboolean hold_writers(gpointer user, GError **error)
{
	dirty_fixture_hold(user);
	return TRUE;
}

static void release_writers(gpointer user)
{
	dirty_fixture_release(user);
}

static FerryDirtySource *make(DirtyFixture *f, GError **error)
{
	const FerryHoldCallbacks callbacks = { hold_writers, release_writers };

	return ferry_dirty_source_soft_dirty(&callbacks, f, error);
}

/* For the cases that have no writers; counts. */
static gboolean hold_counting(gpointer user, GError **error)
{
	++*(guint *)user;
	return TRUE;
}

static void release_nothing(gpointer user)
{
}

static FerryDirtySource *make_counting(guint *holds, GError **error)
{
	const FerryHoldCallbacks counting = { hold_counting, release_nothing };

	return ferry_dirty_source_soft_dirty(&counting, holds, error);
}

#define NEED(source, error)                                                                        \
	do {                                                                                       \
		if (!(source))                                                                     \
			SKIP("%s", (error)->message);                                              \
	} while (0)

/* ---- nothing is lost ---- */

static void check_writers(DirtyBacking backing, int advice)
{
	g_autoptr(GError) error = NULL;
	DirtyFixture f = { 0 };
	g_autoptr(FerryDirtySource) source = make(&f, &error);

	NEED(source, error);
	DIRTY_FIXTURE_NEED(&f, backing, DIRTY_FIXTURE_BYTES);
	madvise(f.host, f.size, advice);
	/* Twice: stop must leave all as it was before start. */
	for (guint i = 0; i < 2; i++) {
		guint64 pages = dirty_fixture_track(&f, source, 30);

		CU_ASSERT(pages > 0);
		CU_ASSERT_EQUAL(dirty_fixture_count_lost(&f), 0);
		printf("# %" G_GUINT64_FORMAT " pages sent again, %d writes\n", pages, f.writes);
		source->ops->stop(source);
	}
	g_clear_pointer(&source, ferry_dirty_source_free);
	dirty_fixture_tear_down(&f);
}

static void soft_dirty__memfd_under_random_writes__shadow_equals_ram(void)
{
	check_writers(DIRTY_MEMFD, MADV_NORMAL);
}

static void soft_dirty__anonymous_under_random_writes__shadow_equals_ram(void)
{
	check_writers(DIRTY_ANONYMOUS, MADV_NOHUGEPAGE);
}

static void soft_dirty__transparent_huge_pages_under_random_writes__shadow_equals_ram(void)
{
	check_writers(DIRTY_ANONYMOUS, MADV_HUGEPAGE);
}

/* Proves that the hold is needed, and that the cases above would notice. */
static void soft_dirty__writers_that_are_not_held__pages_are_lost(void)
{
	g_autoptr(GError) error = NULL;
	guint holds = 0, tries = 0;
	g_autoptr(FerryDirtySource) source = make_counting(&holds, &error);
	guint64 lost = 0;
	DirtyFixture f;

	NEED(source, error);
	DIRTY_FIXTURE_NEED(&f, DIRTY_MEMFD, DIRTY_FIXTURE_BYTES);
	for (; !lost && tries < 50; tries++) {
		dirty_fixture_track(&f, source, 3);
		lost = dirty_fixture_count_lost(&f);
		source->ops->stop(source);
	}
	printf("# %" G_GUINT64_FORMAT " pages lost in try %u\n", lost, tries);
	CU_ASSERT(lost > 0);
	dirty_fixture_tear_down(&f);
}

/* ---- what a pass is ---- */

static void soft_dirty__a_few_writes__exactly_their_pages_are_reported_by_one_hold(void)
{
	g_autoptr(GError) error = NULL;
	guint holds = 0;
	g_autoptr(FerryDirtySource) source = make_counting(&holds, &error);
	const FerryRun kept = { .block = 1, .first = 7, .pages = 1 };
	DirtyFixture f;

	NEED(source, error);
	DIRTY_FIXTURE_NEED(&f, DIRTY_MEMFD, DIRTY_FIXTURE_BYTES);
	f.host[100 * FERRY_PAGE_SIZE] = 1;
	CU_ASSERT_TRUE(source->ops->start(source, f.ram, NULL));
	f.host[0] = 1;
	f.host[200 * FERRY_PAGE_SIZE + 9] = 1;
	f.host[f.size - 1] = 1;
	ferry_bitmap_set_run(f.dirty, &kept);
	CU_ASSERT_TRUE(dirty_fixture_collect(&f, source));
	CU_ASSERT_EQUAL(holds, 1);
	CU_ASSERT_EQUAL(ferry_bitmap_count(f.dirty), 4);
	CU_ASSERT_TRUE(bit_is_set(f.dirty, 0, 0));
	CU_ASSERT_TRUE(bit_is_set(f.dirty, 0, 200));
	CU_ASSERT_TRUE(bit_is_set(f.dirty, 1, 7));
	CU_ASSERT_TRUE(bit_is_set(f.dirty, 1, f.size / 2 / FERRY_PAGE_SIZE - 1));
	clear_bits(f.dirty, f.ram);
	CU_ASSERT_TRUE(dirty_fixture_collect(&f, source));
	CU_ASSERT_EQUAL(holds, 2);
	CU_ASSERT_EQUAL(ferry_bitmap_count(f.dirty), 0);
	source->ops->stop(source);
	dirty_fixture_tear_down(&f);
}

static gboolean collect_one(DirtyFixture *f, FerryDirtySource *source, guint block)
{
	return source->ops->collect(source, block, ferry_bitmap_block(f->dirty, block), NULL);
}

static void soft_dirty__blocks_collected_out_of_turn__nothing_is_stale_or_lost(void)
{
	g_autoptr(GError) error = NULL;
	guint holds = 0;
	g_autoptr(FerryDirtySource) source = make_counting(&holds, &error);
	DirtyFixture f;

	NEED(source, error);
	DIRTY_FIXTURE_NEED(&f, DIRTY_MEMFD, DIRTY_FIXTURE_BYTES);
	CU_ASSERT_TRUE(source->ops->start(source, f.ram, NULL));
	/* A pass that is broken off after block 0. */
	f.host[f.size / 2] = 1;
	CU_ASSERT_TRUE(collect_one(&f, source, 0));
	f.host[f.size / 2 + FERRY_PAGE_SIZE] = 1;
	/* The next one has what both found. */
	CU_ASSERT_TRUE(dirty_fixture_collect(&f, source));
	CU_ASSERT_TRUE(bit_is_set(f.dirty, 1, 0));
	CU_ASSERT_TRUE(bit_is_set(f.dirty, 1, 1));
	/* Block 1 again, alone. */
	f.host[0] = 1;
	f.host[f.size / 2 + 2 * FERRY_PAGE_SIZE] = 1;
	CU_ASSERT_TRUE(collect_one(&f, source, 1));
	CU_ASSERT_TRUE(bit_is_set(f.dirty, 1, 2));
	CU_ASSERT_FALSE(bit_is_set(f.dirty, 0, 0));
	f.host[FERRY_PAGE_SIZE] = 1;
	CU_ASSERT_TRUE(collect_one(&f, source, 0));
	CU_ASSERT_TRUE(bit_is_set(f.dirty, 0, 0));
	CU_ASSERT_TRUE(bit_is_set(f.dirty, 0, 1));
	CU_ASSERT_EQUAL(holds, 4);
	source->ops->stop(source);
	dirty_fixture_tear_down(&f);
}

/* Fails while *@user is TRUE. */
static gboolean hold_unless(gpointer user, GError **error)
{
	if (*(gboolean *)user)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_DEVICE, "a device is stuck");
	return !*(gboolean *)user;
}

static void soft_dirty__hold_fails__collect_fails_and_keeps_the_pages(void)
{
	const FerryHoldCallbacks callbacks = { hold_unless, release_nothing };
	g_autoptr(GError) error = NULL;
	gboolean stuck = TRUE;
	g_autoptr(FerryDirtySource)
		source = ferry_dirty_source_soft_dirty(&callbacks, &stuck, &error);
	guint64 *bits;
	DirtyFixture f;

	NEED(source, error);
	DIRTY_FIXTURE_NEED(&f, DIRTY_MEMFD, DIRTY_FIXTURE_BYTES);
	CU_ASSERT_TRUE(source->ops->start(source, f.ram, NULL));
	f.host[0] = 1;
	bits = ferry_bitmap_block(f.dirty, 0);
	CU_ASSERT_FALSE(source->ops->collect(source, 0, bits, &error));
	CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_DEVICE));
	CU_ASSERT_EQUAL(ferry_bitmap_count(f.dirty), 0);
	stuck = FALSE;
	CU_ASSERT_TRUE(dirty_fixture_collect(&f, source));
	CU_ASSERT_EQUAL(ferry_bitmap_count(f.dirty), 1);
	source->ops->stop(source);
	dirty_fixture_tear_down(&f);
}

/* ---- what would lose bits ---- */

static void check_refused(DirtyFixture *f, FerryDirtySource *source, FerryErrorCode code,
			  const char *remedy)
{
	g_autoptr(GError) error = NULL;

	CU_ASSERT_FALSE(source->ops->start(source, f->ram, &error));
	CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, (gint)code));
	CU_ASSERT_PTR_NOT_NULL(error ? strstr(error->message, remedy) : NULL);
	if (error)
		printf("# %s\n", error->message);
}

static void soft_dirty__a_second_one_in_the_process__start_is_refused(void)
{
	g_autoptr(GError) error = NULL;
	guint holds = 0;
	g_autoptr(FerryDirtySource) first = make_counting(&holds, &error);
	g_autoptr(FerryDirtySource) second = make_counting(&holds, NULL);
	DirtyFixture f;

	NEED(first && second, error);
	DIRTY_FIXTURE_NEED(&f, DIRTY_MEMFD, DIRTY_FIXTURE_BYTES);
	CU_ASSERT_TRUE(first->ops->start(first, f.ram, NULL));
	check_refused(&f, second, FERRY_ERROR_STATE, "stop it first");
	first->ops->stop(first);
	CU_ASSERT_TRUE(second->ops->start(second, f.ram, NULL));
	second->ops->stop(second);
	dirty_fixture_tear_down(&f);
}

static void soft_dirty__hugetlb__start_is_refused(void)
{
	g_autoptr(GError) error = NULL;
	guint holds = 0;
	g_autoptr(FerryDirtySource) source = make_counting(&holds, &error);
	DirtyFixture f;

	NEED(source, error);
	DIRTY_FIXTURE_NEED(&f, DIRTY_HUGETLB, DIRTY_FIXTURE_BYTES);
	check_refused(&f, source, FERRY_ERROR_NOSUPP, "'low': hugetlb");
	dirty_fixture_tear_down(&f);
}

static void soft_dirty__memory_that_ksm_may_merge__start_is_refused(void)
{
	g_autoptr(GError) error = NULL;
	guint holds = 0;
	g_autoptr(FerryDirtySource) source = make_counting(&holds, &error);
	gboolean mergeable;
	DirtyFixture f;

	NEED(source, error);
	DIRTY_FIXTURE_NEED(&f, DIRTY_ANONYMOUS, DIRTY_FIXTURE_BYTES);
	mergeable = madvise(f.host + f.size / 2, FERRY_PAGE_SIZE, MADV_MERGEABLE) == 0;
	if (mergeable)
		check_refused(&f, source, FERRY_ERROR_NOSUPP, "'high': memory that KSM");
	dirty_fixture_tear_down(&f);
	if (!mergeable)
		SKIP("this kernel has no KSM");
}

static gboolean shared_memory_may_be_huge(void)
{
	g_autofree char *text = NULL;

	return g_file_get_contents("/sys/kernel/mm/transparent_hugepage/shmem_enabled", &text, NULL,
				   NULL) &&
	       !strstr(text, "[never]") && !strstr(text, "[deny]");
}

static void soft_dirty__shared_memory_with_huge_pages__start_is_refused(void)
{
	g_autoptr(GError) error = NULL;
	guint holds = 0;
	g_autoptr(FerryDirtySource) source = make_counting(&holds, &error);
	DirtyFixture f;

	NEED(source, error);
	if (!shared_memory_may_be_huge())
		SKIP("/sys/kernel/mm/transparent_hugepage/shmem_enabled is never or deny");
	DIRTY_FIXTURE_NEED(&f, DIRTY_MEMFD, DIRTY_FIXTURE_BYTES);
	madvise(f.host, f.size, MADV_HUGEPAGE);
	check_refused(&f, source, FERRY_ERROR_NOSUPP, "shmem_enabled");
	dirty_fixture_tear_down(&f);
}

/* MS_INVALIDATE does nothing but to fail for what is locked (msync(2)). */
static gboolean is_locked(const DirtyFixture *f)
{
	return msync(f->host, FERRY_PAGE_SIZE, MS_INVALIDATE) != 0 && errno == EBUSY;
}

static void soft_dirty__shared_memory_paged_out__writes_are_still_reported(void)
{
	g_autoptr(GError) error = NULL;
	guint holds = 0;
	g_autoptr(FerryDirtySource) source = make_counting(&holds, &error);
	DirtyFixture f;

	NEED(source, error);
	DIRTY_FIXTURE_NEED(&f, DIRTY_MEMFD, DIRTY_FIXTURE_BYTES);
	CU_ASSERT_TRUE(source->ops->start(source, f.ram, NULL));
	memset(f.host, 1, f.size);
	(void)madvise(f.host, f.size, MADV_PAGEOUT);
	for (guint64 at = 0; at < f.size; at += FERRY_PAGE_SIZE)
		CU_ASSERT_EQUAL(((volatile guint8 *)f.host)[at], 1);
	CU_ASSERT_TRUE(dirty_fixture_collect(&f, source));
	CU_ASSERT_EQUAL(ferry_bitmap_count(f.dirty), f.size / FERRY_PAGE_SIZE);
	source->ops->stop(source);
	CU_ASSERT_FALSE(is_locked(&f));
	/* A lock that was there before is left. */
	CU_ASSERT_EQUAL(mlock(f.host, f.size), 0);
	CU_ASSERT_TRUE(source->ops->start(source, f.ram, NULL));
	source->ops->stop(source);
	CU_ASSERT_TRUE(is_locked(&f));
	dirty_fixture_tear_down(&f);
}

/* ---- cost, and kernels without ---- */

static void soft_dirty__one_gib__collect_takes_tens_of_ms(void)
{
	g_autoptr(GError) error = NULL;
	guint holds = 0;
	g_autoptr(FerryDirtySource) source = make_counting(&holds, &error);
	gint64 best = G_MAXINT64, begin, start_us;
	DirtyFixture f;

	NEED(source, error);
	DIRTY_FIXTURE_NEED(&f, DIRTY_MEMFD, 1ull << 30);
	memset(f.host, 1, f.size);
	begin = g_get_monotonic_time();
	CU_ASSERT_TRUE(source->ops->start(source, f.ram, NULL));
	start_us = g_get_monotonic_time() - begin;
	for (guint i = 0; i < 5; i++) {
		for (guint64 at = 0; at < f.size; at += 100 * FERRY_PAGE_SIZE)
			f.host[at]++;
		begin = g_get_monotonic_time();
		CU_ASSERT_TRUE(dirty_fixture_collect(&f, source));
		best = MIN(best, g_get_monotonic_time() - begin);
		CU_ASSERT_EQUAL(ferry_bitmap_count(f.dirty), (f.size / FERRY_PAGE_SIZE + 99) / 100);
		clear_bits(f.dirty, f.ram);
	}
	source->ops->stop(source);
	printf("# 1 GiB memfd: start %.1f ms, collect with 1 %% dirty %.1f ms\n",
	       (double)start_us / 1e3, (double)best / 1e3);
	CU_ASSERT(best < 500000);
	dirty_fixture_tear_down(&f);
}

static void soft_dirty__kernel_without__error_tells_the_remedy(void)
{
	g_autoptr(GError) error = NULL;
	guint holds = 0;
	g_autoptr(FerryDirtySource) source = make_counting(&holds, &error);

	if (source)
		SKIP("this kernel has soft-dirty bits");
	CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_NOSUPP));
	CU_ASSERT_PTR_NOT_NULL(strstr(error->message, "CONFIG_MEM_SOFT_DIRTY"));
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(soft_dirty__memfd_under_random_writes__shadow_equals_ram),
		CASE(soft_dirty__anonymous_under_random_writes__shadow_equals_ram),
		CASE(soft_dirty__transparent_huge_pages_under_random_writes__shadow_equals_ram),
		CASE(soft_dirty__writers_that_are_not_held__pages_are_lost),
		CASE(soft_dirty__a_few_writes__exactly_their_pages_are_reported_by_one_hold),
		CASE(soft_dirty__blocks_collected_out_of_turn__nothing_is_stale_or_lost),
		CASE(soft_dirty__hold_fails__collect_fails_and_keeps_the_pages),
		CASE(soft_dirty__a_second_one_in_the_process__start_is_refused),
		CASE(soft_dirty__hugetlb__start_is_refused),
		CASE(soft_dirty__memory_that_ksm_may_merge__start_is_refused),
		CASE(soft_dirty__shared_memory_with_huge_pages__start_is_refused),
		CASE(soft_dirty__shared_memory_paged_out__writes_are_still_reported),
		CASE(soft_dirty__one_gib__collect_takes_tens_of_ms),
		CASE(soft_dirty__kernel_without__error_tells_the_remedy),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "soft-dirty source", cases);
}
