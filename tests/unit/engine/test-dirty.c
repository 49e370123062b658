/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "engine/bitmap.h"

#include <ferry/dirty.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * Every case keeps a shadow copy that is only ever updated from pages that the source reported,
 * while threads write. At the end the writers stop, one more collect is taken, and the shadow must
 * equal RAM.
 */
#define WRITERS 2
#define TEST_BYTES (32ull << 20)

typedef enum {
	BACKING_MEMFD,
	BACKING_ANONYMOUS,
	BACKING_HUGETLB,
} Backing;

typedef struct {
	FerryRam *ram;
	FerryBitmap *dirty;
	guint8 *host;
	guint8 *shadow;
	guint64 size;
	int fd;
	int random_fd; /* /dev/urandom, for read(2) into RAM */
	gint quit;     /* atomic */
	gint writes;   /* atomic */
	GThread *writers[WRITERS];
} Fixture;

static gboolean map_ram(Fixture *f, Backing backing)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;

	f->fd = -1;
	if (backing != BACKING_ANONYMOUS) {
		f->fd = memfd_create("test-dirty",
				     MFD_CLOEXEC | (backing == BACKING_HUGETLB ? MFD_HUGETLB : 0));
		flags = MAP_SHARED;
		if (f->fd < 0 || ftruncate(f->fd, (off_t)f->size) < 0)
			return FALSE;
	}
	f->host = mmap(NULL, f->size, PROT_READ | PROT_WRITE, flags, f->fd, 0);
	return f->host != MAP_FAILED;
}

static gboolean set_up(Fixture *f, Backing backing, guint64 size)
{
	guint64 half = size / 2, page = backing == BACKING_HUGETLB ? 2 << 20 : FERRY_PAGE_SIZE;

	*f = (Fixture){ .size = size };
	if (!map_ram(f, backing))
		return FALSE;
	f->ram = ferry_ram_new();
	if (!ferry_ram_add(f->ram, "low", f->host, half, page, f->fd, 0, NULL) ||
	    !ferry_ram_add(f->ram, "high", f->host + half, half, page, f->fd, half, NULL))
		return FALSE;
	f->dirty = ferry_bitmap_new(f->ram);
	f->shadow = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	f->random_fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	return TRUE;
}

static void tear_down(Fixture *f)
{
	if (f->host && f->host != MAP_FAILED)
		munmap(f->host, f->size);
	if (f->shadow)
		munmap(f->shadow, f->size);
	if (f->fd >= 0)
		close(f->fd);
	if (f->random_fd > 0)
		close(f->random_fd);
	ferry_bitmap_free(f->dirty);
	ferry_ram_free(f->ram);
}

static guint64 next_random(guint64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Each writer has its own half, and its first word of a page grows with every write. */
static gpointer writer(gpointer data)
{
	Fixture *f = data;
	static gint ids;
	guint id = (guint)g_atomic_int_add(&ids, 1) % WRITERS;
	guint64 state = 88172645463325252ull + id, pages = f->size / FERRY_PAGE_SIZE / WRITERS;
	guint64 count = 0;

	while (!g_atomic_int_get(&f->quit)) {
		guint64 r = next_random(&state),
			offset = (id * pages + r % pages) * FERRY_PAGE_SIZE;

		if (++count % 64 == 0 && read(f->random_fd, f->host + offset + 64, 64) != 64)
			break;
		__atomic_store_n((guint64 *)(f->host + offset + (r >> 40) % 8 * 8), count,
				 __ATOMIC_RELAXED);
		g_atomic_int_inc(&f->writes);
	}
	return NULL;
}

static void start_writers(Fixture *f)
{
	g_atomic_int_set(&f->quit, 0);
	for (guint i = 0; i < WRITERS; i++)
		f->writers[i] = g_thread_new("writer", writer, f);
}

static void stop_writers(Fixture *f)
{
	g_atomic_int_set(&f->quit, 1);
	for (guint i = 0; i < WRITERS; i++)
		g_thread_join(f->writers[i]);
}

/* A torn read is what a migration does too. */
__attribute__((no_sanitize("thread"))) static void copy_page(guint64 *to, const guint64 *from)
{
	for (guint i = 0; i < FERRY_PAGE_SIZE / sizeof(*to); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

static gboolean collect(Fixture *f, FerryDirtySource *source)
{
	for (guint i = 0; i < f->ram->n_blocks; i++)
		if (!source->ops->collect(source, i, ferry_bitmap_block(f->dirty, i), NULL))
			return FALSE;
	return TRUE;
}

/* Copies what is dirty and clears it; returns the number of pages. */
static guint64 copy_dirty(Fixture *f)
{
	guint64 pages = 0;

	for (FerryRun run = { 0 }; ferry_bitmap_next_run(f->dirty, &run, 1); pages++) {
		guint64 offset = (guint64)(ferry_run_host(f->ram, &run) - f->host);

		ferry_bitmap_clear_run(f->dirty, &run);
		copy_page((guint64 *)(f->shadow + offset), (const guint64 *)(f->host + offset));
	}
	return pages;
}

/* One migration's worth of rounds; returns the pages copied after the first one. */
static guint64 track(Fixture *f, FerryDirtySource *source, guint rounds)
{
	g_autoptr(GError) error = NULL;
	guint64 pages = 0;

	CU_ASSERT_TRUE(source->ops->start(source, f->ram, &error));
	if (error)
		return 0;
	start_writers(f);
	ferry_bitmap_set_all(f->dirty);
	copy_dirty(f);
	for (guint i = 0; i < rounds; i++) {
		gint before = g_atomic_int_get(&f->writes);

		CU_ASSERT_TRUE(collect(f, source));
		pages += copy_dirty(f);
		while (g_atomic_int_get(&f->writes) - before < 100)
			g_thread_yield();
	}
	stop_writers(f);
	CU_ASSERT_TRUE(collect(f, source));
	pages += copy_dirty(f);
	return pages;
}

static void check_source(const char *name, Backing backing, guint rounds)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FerryDirtySource) source = ferry_dirty_source_new(name, &error);
	Fixture f;

	if (!source)
		SKIP("%s", error->message);
	if (!set_up(&f, backing, TEST_BYTES)) {
		tear_down(&f);
		SKIP("no memory of this backing (echo 40 > /proc/sys/vm/nr_hugepages)");
	}
	CU_ASSERT_STRING_EQUAL(source->ops->name, name);
	/* Twice: stop must leave all as it was before start. */
	for (guint i = 0; i < 2; i++) {
		CU_ASSERT(track(&f, source, rounds) > 0);
		CU_ASSERT(memcmp(f.host, f.shadow, f.size) == 0);
		source->ops->stop(source);
	}
	tear_down(&f);
}

static void wp_async__memfd_under_random_writes__shadow_equals_ram(void)
{
	check_source("wp-async", BACKING_MEMFD, 100);
}

static void wp_async__anonymous_under_random_writes__shadow_equals_ram(void)
{
	check_source("wp-async", BACKING_ANONYMOUS, 100);
}

static void wp_async__hugetlb_under_random_writes__shadow_equals_ram(void)
{
	check_source("wp-async", BACKING_HUGETLB, 20);
}

static void wp_fault__memfd_under_random_writes__shadow_equals_ram(void)
{
	check_source("wp-fault", BACKING_MEMFD, 30);
}

static void wp_fault__anonymous_under_random_writes__shadow_equals_ram(void)
{
	check_source("wp-fault", BACKING_ANONYMOUS, 30);
}

static void wp_fault__hugetlb_under_random_writes__shadow_equals_ram(void)
{
	check_source("wp-fault", BACKING_HUGETLB, 20);
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
	Fixture f;

	if (!set_up(&f, BACKING_MEMFD, TEST_BYTES)) {
		tear_down(&f);
		SKIP("no memory");
	}
	track(&f, source, 10);
	CU_ASSERT(memcmp(f.host, f.shadow, f.size) != 0);
	tear_down(&f);
}

/* Exactly the pages written are reported, once, and bits that were set stay. */
static void check_exact(const char *name)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FerryDirtySource) source = ferry_dirty_source_new(name, &error);
	const FerryRun kept = { .block = 1, .first = 7, .pages = 1 };
	Fixture f;

	if (!source)
		SKIP("%s", error->message);
	if (!set_up(&f, BACKING_MEMFD, TEST_BYTES)) {
		tear_down(&f);
		SKIP("no memory");
	}
	f.host[100 * FERRY_PAGE_SIZE] = 1;
	CU_ASSERT_TRUE(source->ops->start(source, f.ram, NULL));
	f.host[0] = 1;
	f.host[200 * FERRY_PAGE_SIZE + 9] = 1;
	f.host[f.size - 1] = 1;
	ferry_bitmap_set_run(f.dirty, &kept);
	CU_ASSERT_TRUE(collect(&f, source));
	CU_ASSERT_EQUAL(ferry_bitmap_count(f.dirty), 4);
	CU_ASSERT_TRUE(ferry_bitmap_test(f.dirty, 0, 0));
	CU_ASSERT_TRUE(ferry_bitmap_test(f.dirty, 0, 200));
	CU_ASSERT_TRUE(ferry_bitmap_test(f.dirty, 1, 7));
	CU_ASSERT_TRUE(ferry_bitmap_test(f.dirty, 1, f.size / 2 / FERRY_PAGE_SIZE - 1));
	ferry_bitmap_clear_all(f.dirty);
	CU_ASSERT_TRUE(collect(&f, source));
	CU_ASSERT_EQUAL(ferry_bitmap_count(f.dirty), 0);
	source->ops->stop(source);
	tear_down(&f);
}

static void wp_async__a_few_writes__exactly_their_pages_are_reported(void)
{
	check_exact("wp-async");
}

static void wp_fault__a_few_writes__exactly_their_pages_are_reported(void)
{
	check_exact("wp-fault");
}

static void wp_async__memory_tracked_by_another__start_names_the_block_and_leaves_nothing(void)
{
	g_autoptr(FerryDirtySource) first = ferry_dirty_source_new("wp-async", NULL);
	g_autoptr(FerryDirtySource) second = ferry_dirty_source_new("wp-async", NULL);
	g_autoptr(GError) error = NULL;
	Fixture f;

	if (!first || !second)
		SKIP("no wp-async here");
	if (!set_up(&f, BACKING_MEMFD, TEST_BYTES)) {
		tear_down(&f);
		SKIP("no memory");
	}
	CU_ASSERT_TRUE(first->ops->start(first, f.ram, NULL));
	CU_ASSERT_FALSE(second->ops->start(second, f.ram, &error));
	CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_NOSUPP));
	CU_ASSERT_PTR_NOT_NULL(error ? strstr(error->message, "'low'") : NULL);
	/* The failed start did not take the first one's pages away. */
	f.host[0] = 1;
	CU_ASSERT_TRUE(collect(&f, first));
	CU_ASSERT_EQUAL(ferry_bitmap_count(f.dirty), 1);
	first->ops->stop(first);
	CU_ASSERT_TRUE(second->ops->start(second, f.ram, NULL));
	second->ops->stop(second);
	tear_down(&f);
}

static gint64 time_writes(Fixture *f, guint64 step)
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
	Fixture f;

	if (!source)
		SKIP("no wp-async here");
	if (!set_up(&f, BACKING_MEMFD, 1ull << 30)) {
		tear_down(&f);
		SKIP("no memory");
	}
	time_writes(&f, 1);
	begin = g_get_monotonic_time();
	CU_ASSERT_TRUE(source->ops->start(source, f.ram, NULL));
	start_us = g_get_monotonic_time() - begin;
	for (guint i = 0; i < 5; i++) {
		time_writes(&f, 100);
		begin = g_get_monotonic_time();
		CU_ASSERT_TRUE(collect(&f, source));
		best = MIN(best, g_get_monotonic_time() - begin);
		CU_ASSERT_EQUAL(ferry_bitmap_count(f.dirty), (f.size / FERRY_PAGE_SIZE + 99) / 100);
		ferry_bitmap_clear_all(f.dirty);
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
	tear_down(&f);
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
