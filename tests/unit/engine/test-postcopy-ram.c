/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "postcopy-fixture.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define N_LANDERS 4
#define N_TOUCHERS 3

/* ---- a page that is missing ---- */

static void check_missing(PostcopyBacking backing)
{
	PostcopyFixture f;
	PostcopyTouch touch;
	FerryPostcopyStatus status;
	FerryRun told = { 0 }, run;
	guint64 pages, host;

	NEED(&f, backing);
	host = postcopy_fixture_host_pages(&f);
	pages = postcopy_fixture_pages(&f, 0) * 2;
	run = (FerryRun){ 1, host, host };
	CU_ASSERT_TRUE(postcopy_fixture_discard_all(&f));
	CU_ASSERT_TRUE(postcopy_fixture_discard_all(&f));
	CU_ASSERT_TRUE(postcopy_fixture_listen(&f));
	CU_ASSERT_EQUAL(postcopy_fixture_status(&f).discarded, pages);
	postcopy_touch_start(&touch, &f, &run, 3);
	CU_ASSERT_TRUE(postcopy_fixture_await_told(&f, &told));
	CU_ASSERT_TRUE(run_equals(&told, 1, host, host));
	CU_ASSERT_FALSE(g_atomic_int_get(&touch.done));
	CU_ASSERT_EQUAL(ferry_postcopy_ram_missing(f.postcopy), pages);
	postcopy_fixture_deliver(&f, &run, 3);
	CU_ASSERT_TRUE(postcopy_touch_end(&touch));
	CU_ASSERT_TRUE(postcopy_fixture_await_latencies(&f, 1));
	status = postcopy_fixture_status(&f);
	CU_ASSERT_EQUAL(status.missing, pages - host);
	CU_ASSERT_EQUAL(status.requests, 1);
	CU_ASSERT_EQUAL(status.urgent_pages, host);
	CU_ASSERT_EQUAL(status.background_pages, 0);
	CU_ASSERT_EQUAL(status.repeated_pages, 0);
	CU_ASSERT_TRUE(status.latency.p50 <= status.latency.max);
	postcopy_fixture_tear_down(&f);
}

static void missing_page__memfd__access_waits(void)
{
	check_missing(POSTCOPY_MEMFD);
}

static void missing_page__anonymous__access_waits(void)
{
	check_missing(POSTCOPY_ANONYMOUS);
}

static void missing_page__populated_huge__access_waits(void)
{
	check_missing(POSTCOPY_THP);
}

static void missing_page__hugetlb__access_waits(void)
{
	check_missing(POSTCOPY_HUGETLB);
}

static void missing_page__hugetlb_private__access_waits(void)
{
	check_missing(POSTCOPY_HUGETLB_PRIVATE);
}

typedef struct {
	int fd;
	void *to;
} Read;

static gpointer read_there(gpointer data)
{
	const Read *job = data;

	return GSIZE_TO_POINTER(read(job->fd, job->to, FERRY_PAGE_SIZE));
}

static void missing_page__read_system_call__waits(void)
{
	const char text[] = "a disk's sector";
	FerryRun run = { 0, 9, 1 }, told = { 0 };
	PostcopyFixture f;
	GThread *reader;
	int fds[2];
	Read job;

	NEED(&f, POSTCOPY_MEMFD);
	CU_ASSERT_TRUE(postcopy_fixture_discard_all(&f) && postcopy_fixture_listen(&f));
	CU_ASSERT_EQUAL(pipe2(fds, O_CLOEXEC), 0);
	CU_ASSERT_EQUAL(write(fds[1], text, sizeof(text)), sizeof(text));
	job = (Read){ fds[0], f.host + 9 * FERRY_PAGE_SIZE };
	reader = g_thread_new("read", read_there, &job);
	CU_ASSERT_TRUE(postcopy_fixture_await_told(&f, &told));
	CU_ASSERT_TRUE(run_equals(&told, 0, 9, 1));
	postcopy_fixture_deliver(&f, &run, 5);
	CU_ASSERT_EQUAL(GPOINTER_TO_SIZE(g_thread_join(reader)), sizeof(text));
	CU_ASSERT_STRING_EQUAL((char *)job.to, text);
	close(fds[0]);
	close(fds[1]);
	postcopy_fixture_tear_down(&f);
}

static void check_parts(PostcopyBacking backing)
{
	FerryRun told = { 0 }, first = { 0, 0, 511 }, last = { 0, 511, 1 };
	PostcopyFixture f;
	PostcopyTouch touch;

	NEED(&f, backing);
	CU_ASSERT_TRUE(postcopy_fixture_discard_all(&f) && postcopy_fixture_listen(&f));
	postcopy_touch_start(&touch, &f, &(FerryRun){ 0, 0, 512 }, 1);
	CU_ASSERT_TRUE(postcopy_fixture_await_told(&f, &told));
	postcopy_fixture_deliver(&f, &first, 1);
	CU_ASSERT_FALSE(g_atomic_int_get(&touch.done));
	CU_ASSERT_EQUAL(postcopy_fixture_status(&f).latency.count, 0);
	postcopy_fixture_deliver(&f, &last, 1);
	CU_ASSERT_TRUE(postcopy_touch_end(&touch));
	CU_ASSERT_EQUAL(postcopy_fixture_status(&f).urgent_pages, 512);
	postcopy_fixture_tear_down(&f);
}

static void huge_page__lands_in_parts__shown_with_the_last(void)
{
	check_parts(POSTCOPY_HUGETLB);
}

static void huge_page_private__lands_in_parts__shown_with_the_last(void)
{
	check_parts(POSTCOPY_HUGETLB_PRIVATE);
}

/* ---- pages that are here ---- */

static void check_present(PostcopyBacking backing)
{
	FerryRun sent = { 0, 0, 0 }, missing = { 1, 0, 0 };
	const FerryRam *view;
	PostcopyFixture f;

	NEED(&f, backing);
	sent.pages = postcopy_fixture_pages(&f, 0);
	missing.pages = postcopy_fixture_pages(&f, 1);
	view = ferry_postcopy_ram_view(f.postcopy);
	postcopy_fixture_fill(view, &sent, 7);
	CU_ASSERT_TRUE(ferry_postcopy_ram_discard(f.postcopy, &missing, NULL));
	CU_ASSERT_TRUE(postcopy_fixture_listen(&f));
	CU_ASSERT_TRUE(postcopy_touch_now(&f, &sent, 7));
	CU_ASSERT_EQUAL(postcopy_fixture_status(&f).requests, 0);
	CU_ASSERT_EQUAL(g_async_queue_length(f.told), 0);
	postcopy_fixture_tear_down(&f);
}

static void page_of_precopy__memfd__given_at_once(void)
{
	check_present(POSTCOPY_MEMFD);
}

static void page_of_precopy__anonymous__given_at_once(void)
{
	check_present(POSTCOPY_ANONYMOUS);
}

static void page_of_precopy__hugetlb__given_at_once(void)
{
	check_present(POSTCOPY_HUGETLB);
}

static void page_of_precopy__hole__zero(void)
{
	const PostcopyBacking backings[] = { POSTCOPY_MEMFD, POSTCOPY_ANONYMOUS };
	FerryRun run = { 0, 3, 70 };

	for (guint i = 0; i < G_N_ELEMENTS(backings); i++) {
		PostcopyFixture f;

		NEED(&f, backings[i]);
		CU_ASSERT_TRUE(postcopy_fixture_listen(&f));
		CU_ASSERT_TRUE(postcopy_touch_now(&f, &run, 0));
		postcopy_fixture_tear_down(&f);
	}
}

static void page_of_precopy__stale_in_the_guests_mapping__waits_for_the_new(void)
{
	for (PostcopyBacking b = 0; b < POSTCOPY_THP; b++) {
		FerryRun run = { 0, 5, 1 }, told = { 0 };
		PostcopyFixture f;
		PostcopyTouch touch;

		NEED(&f, b);
		postcopy_fixture_fill(f.ram, &run, 1);
		CU_ASSERT_TRUE(ferry_postcopy_ram_discard(f.postcopy, &run, NULL));
		CU_ASSERT_TRUE(postcopy_fixture_listen(&f));
		postcopy_touch_start(&touch, &f, &run, 2);
		CU_ASSERT_TRUE(postcopy_fixture_await_told(&f, &told));
		postcopy_fixture_deliver(&f, &run, 2);
		CU_ASSERT_TRUE(postcopy_touch_end(&touch));
		postcopy_fixture_tear_down(&f);
	}
}

/* ---- zeros ---- */

static void check_zero(PostcopyBacking backing)
{
	FerryRun run = { 0, 60, 140 }, half = { 0, 100, 1 }, told = { 0 };
	PostcopyFixture f;
	PostcopyTouch touch;

	NEED(&f, backing);
	postcopy_fixture_fill(ferry_postcopy_ram_view(f.postcopy), &run, 1);
	CU_ASSERT_TRUE(postcopy_fixture_discard_all(&f) && postcopy_fixture_listen(&f));
	/* As a connection that was cut left it, and a page that is here. */
	postcopy_fixture_fill(ferry_postcopy_ram_target(f.postcopy), &(FerryRun){ 0, 61, 2 }, 9);
	postcopy_fixture_deliver(&f, &half, 4);
	postcopy_touch_start(&touch, &f, &(FerryRun){ 0, 60, 40 }, 0);
	CU_ASSERT_TRUE(postcopy_fixture_await_told(&f, &told));
	ferry_postcopy_ram_land_zero(f.postcopy, &run);
	CU_ASSERT_TRUE(postcopy_touch_end(&touch));
	CU_ASSERT_TRUE(postcopy_touch_now(&f, &half, 4));
	CU_ASSERT_TRUE(postcopy_touch_now(&f, &(FerryRun){ 0, 101, 99 }, 0));
	CU_ASSERT_EQUAL(postcopy_fixture_status(&f).repeated_pages, 1);
	postcopy_fixture_tear_down(&f);
}

static void land_zero__memfd__the_missing_pages_are_zero(void)
{
	check_zero(POSTCOPY_MEMFD);
}

static void land_zero__anonymous__the_missing_pages_are_zero(void)
{
	check_zero(POSTCOPY_ANONYMOUS);
}

static void land_zero__huge_page_of_both__shown_whole(void)
{
	const PostcopyBacking backings[] = { POSTCOPY_HUGETLB, POSTCOPY_HUGETLB_PRIVATE };

	for (guint i = 0; i < G_N_ELEMENTS(backings); i++) {
		FerryRun data = { 0, 0, 100 }, zero = { 0, 100, 412 };
		PostcopyFixture f;

		NEED(&f, backings[i]);
		CU_ASSERT_TRUE(postcopy_fixture_discard_all(&f) && postcopy_fixture_listen(&f));
		postcopy_fixture_deliver(&f, &data, 1);
		ferry_postcopy_ram_land_zero(f.postcopy, &zero);
		CU_ASSERT_TRUE(postcopy_touch_now(&f, &data, 1));
		CU_ASSERT_TRUE(postcopy_touch_now(&f, &zero, 0));
		postcopy_fixture_tear_down(&f);
	}
}

static void land_zero__hole__takes_no_memory(void)
{
	struct stat st;
	PostcopyFixture f;

	NEED(&f, POSTCOPY_MEMFD);
	CU_ASSERT_TRUE(postcopy_fixture_discard_all(&f) && postcopy_fixture_listen(&f));
	for (guint i = 0; i < 2; i++)
		ferry_postcopy_ram_land_zero(f.postcopy,
					     &(FerryRun){ i, 0, postcopy_fixture_pages(&f, i) });
	CU_ASSERT_EQUAL(ferry_postcopy_ram_missing(f.postcopy), 0);
	CU_ASSERT_TRUE(ferry_postcopy_ram_finish(f.postcopy, NULL));
	CU_ASSERT_EQUAL(fstat(f.fd, &st), 0);
	CU_ASSERT_EQUAL(st.st_blocks, 0);
	postcopy_fixture_tear_down(&f);
}

/* ---- a page that comes twice ---- */

static void check_repeated(PostcopyBacking backing)
{
	FerryRun run = { 0, 4, 1 };
	FerryArrivals arrivals;
	PostcopyFixture f;

	NEED(&f, backing);
	CU_ASSERT_TRUE(postcopy_fixture_discard_all(&f) && postcopy_fixture_listen(&f));
	arrivals = ferry_postcopy_ram_arrivals(f.postcopy);
	CU_ASSERT_TRUE(arrivals.wanted(arrivals.user, &run));
	postcopy_fixture_deliver(&f, &run, 1);
	CU_ASSERT_FALSE(arrivals.wanted(arrivals.user, &run));
	CU_ASSERT_FALSE(arrivals.wanted(arrivals.user, &(FerryRun){ 0, 3, 2 }));
	CU_ASSERT_FALSE(arrivals.wanted(arrivals.user, &(FerryRun){ 2, 0, 1 }));
	CU_ASSERT_FALSE(arrivals.wanted(arrivals.user, &(FerryRun){ 0, 255, 2 }));
	/* The guest's own write. */
	postcopy_fixture_fill(f.ram, &run, 8);
	arrivals.landed(arrivals.user, &run);
	ferry_postcopy_ram_land_zero(f.postcopy, &run);
	CU_ASSERT_TRUE(postcopy_touch_now(&f, &run, 8));
	CU_ASSERT_EQUAL(postcopy_fixture_status(&f).repeated_pages, 2);
	CU_ASSERT_EQUAL(postcopy_fixture_status(&f).background_pages, 1);
	CU_ASSERT_EQUAL(postcopy_fixture_status(&f).missing, 511);
	postcopy_fixture_tear_down(&f);
}

static void landed__again__counted_and_nothing_changes(void)
{
	check_repeated(POSTCOPY_MEMFD);
}

static void landed__again_anonymous__counted_and_nothing_changes(void)
{
	check_repeated(POSTCOPY_ANONYMOUS);
}

/* ---- many at a time ---- */

typedef struct {
	PostcopyFixture *f;
	guint n; /* which of the N_LANDERS */
	guint8 version;
} Lander;

static void land_run(const Lander *l, const FerryRun *run)
{
	if (l->version)
		postcopy_fixture_deliver(l->f, run, l->version);
	else
		ferry_postcopy_ram_land_zero(l->f->postcopy, run);
}

/* Lands every page of its own once, in runs of 1 to 7 pages from places all over the RAM, and every
 * fourth of those twice. */
static gpointer land_pages(gpointer data)
{
	const Lander *l = data;
	guint64 pages = postcopy_fixture_pages(l->f, 0), runs = pages / 8;
	FerryArrivals arrivals = ferry_postcopy_ram_arrivals(l->f->postcopy);

	for (guint64 i = 0; i < 2 * runs; i++) {
		guint64 slot = (i * 37 + l->n) % runs;
		FerryRun run = { i / runs, slot * 8, 1 + slot % 7 };
		FerryRun rest = { run.block, run.first + run.pages, 8 - run.pages };

		if (slot % N_LANDERS != l->n)
			continue;
		land_run(l, &rest);
		land_run(l, &run);
		if (slot % 8 == 0)
			arrivals.landed(arrivals.user, &run);
	}
	return NULL;
}

static void check_races(PostcopyBacking backing, guint8 version)
{
	PostcopyTouch touches[2 * N_TOUCHERS];
	GThread *threads[N_LANDERS];
	Lander landers[N_LANDERS];
	FerryPostcopyStatus status;
	PostcopyFixture f;

	NEED(&f, backing);
	CU_ASSERT_TRUE(postcopy_fixture_discard_all(&f) && postcopy_fixture_listen(&f));
	for (guint i = 0; i < 2 * N_TOUCHERS; i++) {
		guint64 pages = postcopy_fixture_pages(&f, i % 2), from = i / 2 * pages / 4;

		postcopy_touch_start(&touches[i], &f, &(FerryRun){ i % 2, from, pages - from },
				     version);
	}
	for (guint i = 0; i < N_LANDERS; i++) {
		landers[i] = (Lander){ &f, i, version };
		threads[i] = g_thread_new("land", land_pages, &landers[i]);
	}
	for (guint i = 0; i < N_LANDERS; i++)
		g_thread_join(threads[i]);
	for (guint i = 0; i < 2 * N_TOUCHERS; i++)
		CU_ASSERT_TRUE(postcopy_touch_end(&touches[i]));
	status = postcopy_fixture_status(&f);
	CU_ASSERT_EQUAL(status.missing, 0);
	CU_ASSERT_EQUAL(status.urgent_pages + status.background_pages, status.discarded);
	CU_ASSERT_TRUE(status.repeated_pages > 0);
	CU_ASSERT_TRUE(ferry_postcopy_ram_finish(f.postcopy, NULL));
	postcopy_fixture_tear_down(&f);
}

static void landed__from_four_threads_memfd__every_access_right(void)
{
	for (guint i = 0; i < 10; i++)
		check_races(POSTCOPY_MEMFD, 1);
}

static void landed__from_four_threads_anonymous__every_access_right(void)
{
	for (guint i = 0; i < 10; i++)
		check_races(POSTCOPY_ANONYMOUS, 1);
}

static void landed__from_four_threads_hugetlb__every_access_right(void)
{
	check_races(POSTCOPY_HUGETLB, 1);
}

static void landed__from_four_threads_hugetlb_private__every_access_right(void)
{
	check_races(POSTCOPY_HUGETLB_PRIVATE, 1);
}

static void land_zero__from_four_threads__every_access_right(void)
{
	for (guint i = 0; i < 20; i++)
		check_races(i % 2 ? POSTCOPY_MEMFD : POSTCOPY_ANONYMOUS, 0);
}

/* Each page lands while the thread of the faults takes its fault. */
static void check_race_with_fault(void)
{
	FerryRun all = { 0, 0, 0 };
	PostcopyTouch touch;
	PostcopyFixture f;

	NEED(&f, POSTCOPY_MEMFD);
	all.pages = postcopy_fixture_pages(&f, 0);
	CU_ASSERT_TRUE(postcopy_fixture_discard_all(&f) && postcopy_fixture_listen(&f));
	postcopy_touch_start(&touch, &f, &all, 0);
	for (guint64 page = 0; page < all.pages; page++) {
		postcopy_fixture_await_fault(&f, 1);
		ferry_postcopy_ram_land_zero(f.postcopy, &(FerryRun){ 0, page, 1 });
	}
	CU_ASSERT_TRUE(postcopy_touch_end(&touch));
	postcopy_fixture_tear_down(&f);
}

static void land_zero__page_whose_fault_is_being_taken__nobody_waits_for_ever(void)
{
	for (guint i = 0; i < 20; i++)
		check_race_with_fault();
}

static void landed__anonymous__its_staging_memory_is_freed(void)
{
	unsigned char resident[256];
	const FerryRam *target;
	PostcopyFixture f;
	FerryRun all;
	guint n = 0;

	NEED(&f, POSTCOPY_ANONYMOUS);
	all = (FerryRun){ 0, 0, postcopy_fixture_pages(&f, 0) };
	target = ferry_postcopy_ram_target(f.postcopy);
	CU_ASSERT_TRUE(postcopy_fixture_discard_all(&f) && postcopy_fixture_listen(&f));
	postcopy_fixture_deliver(&f, &all, 1);
	CU_ASSERT_EQUAL(all.pages, sizeof(resident));
	CU_ASSERT_EQUAL(mincore(target->blocks[0].host, target->blocks[0].size, resident), 0);
	for (guint i = 0; i < sizeof(resident); i++)
		n += resident[i] & 1;
	CU_ASSERT_EQUAL(n, 0);
	postcopy_fixture_tear_down(&f);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(missing_page__memfd__access_waits),
		CASE(missing_page__anonymous__access_waits),
		CASE(missing_page__populated_huge__access_waits),
		CASE(missing_page__hugetlb__access_waits),
		CASE(missing_page__hugetlb_private__access_waits),
		CASE(missing_page__read_system_call__waits),
		CASE(huge_page__lands_in_parts__shown_with_the_last),
		CASE(huge_page_private__lands_in_parts__shown_with_the_last),
		CASE(page_of_precopy__memfd__given_at_once),
		CASE(page_of_precopy__anonymous__given_at_once),
		CASE(page_of_precopy__hugetlb__given_at_once),
		CASE(page_of_precopy__hole__zero),
		CASE(page_of_precopy__stale_in_the_guests_mapping__waits_for_the_new),
		CASE(land_zero__memfd__the_missing_pages_are_zero),
		CASE(land_zero__anonymous__the_missing_pages_are_zero),
		CASE(land_zero__huge_page_of_both__shown_whole),
		CASE(land_zero__hole__takes_no_memory),
		CASE(landed__again__counted_and_nothing_changes),
		CASE(landed__again_anonymous__counted_and_nothing_changes),
		CASE(landed__from_four_threads_memfd__every_access_right),
		CASE(landed__from_four_threads_anonymous__every_access_right),
		CASE(landed__from_four_threads_hugetlb__every_access_right),
		CASE(landed__from_four_threads_hugetlb_private__every_access_right),
		CASE(land_zero__from_four_threads__every_access_right),
		CASE(land_zero__page_whose_fault_is_being_taken__nobody_waits_for_ever),
		CASE(landed__anonymous__its_staging_memory_is_freed),
		CU_TEST_INFO_NULL,
	};

	/* That the kernel could not give a page. */
	g_log_set_always_fatal(G_LOG_LEVEL_WARNING | G_LOG_LEVEL_CRITICAL | G_LOG_FATAL_MASK);
	return harness_run(argc, argv, "postcopy-ram", cases);
}
