/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "engine/holes.h"

#include <sys/mman.h>
#include <unistd.h>

/* MAP_SHARED of a memfd; private anonymous memory; shared anonymous memory, whose page tables do
 * not tell. */
typedef enum {
	MEMFD,
	PRIVATE,
	SHARED,
} Kind;

typedef struct {
	FerryRam *ram;
	guint8 *host;
	guint64 size;
	int fd;
} Fixture;

static void set_up(Fixture *f, Kind kind, guint64 size)
{
	const int anonymous = MAP_ANONYMOUS | MAP_NORESERVE;

	f->size = size;
	f->fd = kind == MEMFD ? memfd_create("test-holes", MFD_CLOEXEC) : -1;
	if (kind == MEMFD)
		CU_ASSERT_EQUAL(ftruncate(f->fd, (off_t)(size + FERRY_PAGE_SIZE)), 0);
	f->host = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       kind == MEMFD    ? MAP_SHARED
		       : kind == SHARED ? MAP_SHARED | anonymous
					: MAP_PRIVATE | anonymous,
		       f->fd, kind == MEMFD ? FERRY_PAGE_SIZE : 0);
	/* Huge pages would make data of the neighbours. */
	madvise(f->host, size, MADV_NOHUGEPAGE);
	f->ram = ferry_ram_new();
	CU_ASSERT_TRUE(ferry_ram_add(f->ram, "ram", f->host, size, FERRY_PAGE_SIZE, f->fd,
				     FERRY_PAGE_SIZE, NULL));
}

static void tear_down(Fixture *f)
{
	munmap(f->host, f->size);
	if (f->fd >= 0)
		close(f->fd);
	ferry_ram_free(f->ram);
}

/* Touches every page for which touched() holds and compares what is said of every page. */
static gboolean touched(guint64 page)
{
	return page % 7 == 3 || (page >= 100 && page < 160) || page == 255;
}

static void check_pattern(Kind kind)
{
	g_autoptr(FerryHoles) holes = NULL;
	guint64 pages = 256, n;
	Fixture f;

	set_up(&f, kind, pages * FERRY_PAGE_SIZE);
	for (guint64 p = 0; p < pages; p++)
		if (touched(p))
			f.host[p * FERRY_PAGE_SIZE] = 1;
	holes = ferry_holes_new(f.ram);
	for (guint64 p = 0; p < pages; p += n) {
		gboolean hole;

		n = ferry_holes_split(holes, 0, p, pages - p, &hole);
		CU_ASSERT(n >= 1 && n <= pages - p);
		for (guint64 i = p; i < p + n; i++)
			CU_ASSERT_EQUAL(!hole, touched(i));
	}
	tear_down(&f);
}

static void split__memfd_with_touched_pages__only_they_are_data(void)
{
	check_pattern(MEMFD);
}

static void split__anonymous_with_touched_pages__only_they_are_data(void)
{
	check_pattern(PRIVATE);
}

static void split__memfd_written_but_not_mapped__is_data(void)
{
	g_autoptr(FerryHoles) holes = NULL;
	gboolean hole;
	Fixture f;

	set_up(&f, MEMFD, 16 * FERRY_PAGE_SIZE);
	CU_ASSERT_EQUAL(pwrite(f.fd, "x", 1, 5 * FERRY_PAGE_SIZE), 1);
	holes = ferry_holes_new(f.ram);
	CU_ASSERT_EQUAL(ferry_holes_split(holes, 0, 0, 16, &hole), 4);
	CU_ASSERT_TRUE(hole);
	CU_ASSERT_EQUAL(ferry_holes_split(holes, 0, 4, 16, &hole), 1);
	CU_ASSERT_FALSE(hole);
	tear_down(&f);
}

/* Shared memory that left the page table, as on swap-out, still has its content. */
static void split__shared_anonymous_not_in_the_page_table__is_data(void)
{
	g_autoptr(FerryHoles) holes = NULL;
	gboolean hole;
	Fixture f;

	set_up(&f, SHARED, 16 * FERRY_PAGE_SIZE);
	f.host[0] = 1;
	madvise(f.host, f.size, MADV_DONTNEED);
	holes = ferry_holes_new(f.ram);
	ferry_holes_split(holes, 0, 0, 16, &hole);
	CU_ASSERT_FALSE(hole);
	CU_ASSERT_EQUAL(f.host[0], 1);
	tear_down(&f);
}

static void split__touched_since__is_data_to_a_new_walk(void)
{
	g_autoptr(FerryHoles) holes = NULL;
	gboolean hole;
	Fixture f;

	set_up(&f, PRIVATE, 16 * FERRY_PAGE_SIZE);
	holes = ferry_holes_new(f.ram);
	CU_ASSERT_EQUAL(ferry_holes_split(holes, 0, 0, 16, &hole), 16);
	CU_ASSERT_TRUE(hole);
	f.host[0] = 1;
	g_clear_pointer(&holes, ferry_holes_free);
	holes = ferry_holes_new(f.ram);
	CU_ASSERT_EQUAL(ferry_holes_split(holes, 0, 0, 16, &hole), 1);
	CU_ASSERT_FALSE(hole);
	tear_down(&f);
}

static void split__filled_since_and_forgotten__is_data(void)
{
	g_autoptr(FerryHoles) holes = NULL;
	gboolean hole;
	Fixture f;

	set_up(&f, MEMFD, 16 * FERRY_PAGE_SIZE);
	holes = ferry_holes_new(f.ram);
	CU_ASSERT_EQUAL(ferry_holes_split(holes, 0, 0, 16, &hole), 16);
	CU_ASSERT_TRUE(hole);
	CU_ASSERT_EQUAL(pwrite(f.fd, "x", 1, 5 * FERRY_PAGE_SIZE), 1);
	ferry_holes_forget(holes);
	CU_ASSERT_EQUAL(ferry_holes_split(holes, 0, 4, 12, &hole), 1);
	CU_ASSERT_FALSE(hole);
	tear_down(&f);
}

/* What the first page waits for does not grow with RAM. */
static void split__mapped_memfd_of_64_mib__is_data_told_in_parts(void)
{
	g_autoptr(FerryHoles) holes = NULL;
	guint64 pages = 16384, n = 0;
	gboolean hole;
	Fixture f;

	set_up(&f, MEMFD, pages * FERRY_PAGE_SIZE);
	for (guint64 p = 0; p < pages; p++)
		f.host[p * FERRY_PAGE_SIZE] = 1;
	holes = ferry_holes_new(f.ram);
	for (guint64 p = 0; p < pages; p += n) {
		n = ferry_holes_split(holes, 0, p, pages - p, &hole);
		CU_ASSERT_FALSE(hole);
		CU_ASSERT(n <= pages / 2);
	}
	tear_down(&f);
}

static void check_big(Kind kind, const char *name)
{
	g_autoptr(FerryHoles) holes = NULL;
	guint64 pages = 1 << 20, n;
	gint64 begin, took;
	gboolean hole = TRUE;
	Fixture f;

	set_up(&f, kind, pages * FERRY_PAGE_SIZE);
	begin = g_get_monotonic_time();
	holes = ferry_holes_new(f.ram);
	for (guint64 p = 0; p < pages && hole; p += n)
		n = ferry_holes_split(holes, 0, p, MIN(pages - p, 256), &hole);
	took = g_get_monotonic_time() - begin;
	CU_ASSERT_TRUE(hole);
	CU_ASSERT(took < 50000);
	printf("# 4 GiB of untouched %s: %.2f ms\n", name, (double)took / 1e3);
	tear_down(&f);
}

static void split__four_gib_of_untouched_memfd__is_quick(void)
{
	check_big(MEMFD, "memfd");
}

static void split__four_gib_of_untouched_anonymous__is_quick(void)
{
	check_big(PRIVATE, "anonymous memory");
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(split__memfd_with_touched_pages__only_they_are_data),
		CASE(split__anonymous_with_touched_pages__only_they_are_data),
		CASE(split__memfd_written_but_not_mapped__is_data),
		CASE(split__shared_anonymous_not_in_the_page_table__is_data),
		CASE(split__touched_since__is_data_to_a_new_walk),
		CASE(split__filled_since_and_forgotten__is_data),
		CASE(split__mapped_memfd_of_64_mib__is_data_told_in_parts),
		CASE(split__four_gib_of_untouched_memfd__is_quick),
		CASE(split__four_gib_of_untouched_anonymous__is_quick),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "holes", cases);
}
