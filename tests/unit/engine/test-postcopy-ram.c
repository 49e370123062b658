/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "postcopy-fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define N_LANDERS 4
#define N_TOUCHERS 3

/* Leaves the case where the fixture cannot be made. */
#define NEED(f, backing)                                                                           \
	if (!postcopy_fixture_set_up(f, backing)) {                                                \
		if ((f)->skip)                                                                     \
			harness_skip("%s", (f)->skip);                                             \
		else                                                                               \
			CU_FAIL("set up");                                                         \
		postcopy_fixture_tear_down(f);                                                     \
		return;                                                                            \
	}

static gboolean run_equals(const FerryRun *run, guint block, guint64 first, guint64 pages)
{
	return run->block == block && run->first == first && run->pages == pages;
}

static gboolean touch_now(PostcopyFixture *f, const FerryRun *run, guint8 version)
{
	PostcopyTouch touch;

	postcopy_touch_start(&touch, f, run, version);
	return postcopy_touch_end(&touch);
}

static FerryPostcopyStatus get_status(PostcopyFixture *f)
{
	FerryPostcopyStatus status = { 0 };

	ferry_postcopy_ram_get_status(f->postcopy, &status);
	return status;
}

static void check_error(gboolean ok, GError **error, FerryErrorCode code, const char *part)
{
	CU_ASSERT_FALSE(ok);
	CU_ASSERT_TRUE(g_error_matches(*error, FERRY_ERROR, (int)code));
	CU_ASSERT_TRUE(*error && strstr((*error)->message, part));
	if (*error && !strstr((*error)->message, part))
		g_printerr("# %s\n", (*error)->message);
	g_clear_error(error);
}

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
	CU_ASSERT_EQUAL(get_status(&f).discarded, pages);
	postcopy_touch_start(&touch, &f, &run, 3);
	CU_ASSERT_TRUE(postcopy_fixture_await_told(&f, &told));
	CU_ASSERT_TRUE(run_equals(&told, 1, host, host));
	CU_ASSERT_FALSE(g_atomic_int_get(&touch.done));
	CU_ASSERT_EQUAL(ferry_postcopy_ram_missing(f.postcopy), pages);
	postcopy_fixture_deliver(&f, &run, 3);
	CU_ASSERT_TRUE(postcopy_touch_end(&touch));
	CU_ASSERT_TRUE(postcopy_fixture_await_latencies(&f, 1));
	status = get_status(&f);
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
	CU_ASSERT_EQUAL(get_status(&f).latency.count, 0);
	postcopy_fixture_deliver(&f, &last, 1);
	CU_ASSERT_TRUE(postcopy_touch_end(&touch));
	CU_ASSERT_EQUAL(get_status(&f).urgent_pages, 512);
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
	CU_ASSERT_TRUE(touch_now(&f, &sent, 7));
	CU_ASSERT_EQUAL(get_status(&f).requests, 0);
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
		CU_ASSERT_TRUE(touch_now(&f, &run, 0));
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
	CU_ASSERT_TRUE(touch_now(&f, &half, 4));
	CU_ASSERT_TRUE(touch_now(&f, &(FerryRun){ 0, 101, 99 }, 0));
	CU_ASSERT_EQUAL(get_status(&f).repeated_pages, 1);
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
		CU_ASSERT_TRUE(touch_now(&f, &data, 1));
		CU_ASSERT_TRUE(touch_now(&f, &zero, 0));
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
	CU_ASSERT_TRUE(touch_now(&f, &run, 8));
	CU_ASSERT_EQUAL(get_status(&f).repeated_pages, 2);
	CU_ASSERT_EQUAL(get_status(&f).background_pages, 1);
	CU_ASSERT_EQUAL(get_status(&f).missing, 511);
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
	status = get_status(&f);
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

/* ---- looking for what is missing ---- */

static void next_missing__several_stretches__wraps_once(void)
{
	FerryRun run = { 1, 20, 0 };
	PostcopyFixture f;

	NEED(&f, POSTCOPY_MEMFD);
	CU_ASSERT_FALSE(ferry_postcopy_ram_next_missing(f.postcopy, &run, 64));
	CU_ASSERT_TRUE(ferry_postcopy_ram_discard(f.postcopy, &(FerryRun){ 0, 60, 10 }, NULL));
	CU_ASSERT_TRUE(ferry_postcopy_ram_discard(f.postcopy, &(FerryRun){ 1, 10, 20 }, NULL));
	CU_ASSERT_EQUAL(ferry_postcopy_ram_missing(f.postcopy), 30);
	CU_ASSERT_TRUE(ferry_postcopy_ram_next_missing(f.postcopy, &run, 64));
	CU_ASSERT_TRUE(run_equals(&run, 1, 20, 10));
	run = (FerryRun){ 1, 30, 0 };
	CU_ASSERT_TRUE(ferry_postcopy_ram_next_missing(f.postcopy, &run, 64));
	CU_ASSERT_TRUE(run_equals(&run, 0, 60, 10));
	run = (FerryRun){ 0, 62, 0 };
	CU_ASSERT_TRUE(ferry_postcopy_ram_next_missing(f.postcopy, &run, 3));
	CU_ASSERT_TRUE(run_equals(&run, 0, 62, 3));
	run = (FerryRun){ 0, 70, 0 };
	CU_ASSERT_TRUE(ferry_postcopy_ram_next_missing(f.postcopy, &run, 64));
	CU_ASSERT_TRUE(run_equals(&run, 1, 10, 20));
	postcopy_fixture_tear_down(&f);
}

static void received__some_landed__their_bits(void)
{
	g_autofree guint64 *before = NULL, *after = NULL;
	PostcopyFixture f;
	gsize words;

	NEED(&f, POSTCOPY_MEMFD);
	CU_ASSERT_TRUE(postcopy_fixture_discard_all(&f) && postcopy_fixture_listen(&f));
	before = ferry_postcopy_ram_received(f.postcopy, 1, &words);
	CU_ASSERT_EQUAL(words, 4);
	CU_ASSERT_EQUAL(before[0], 0);
	postcopy_fixture_deliver(&f, &(FerryRun){ 1, 62, 4 }, 1);
	after = ferry_postcopy_ram_received(f.postcopy, 1, &words);
	CU_ASSERT_EQUAL(after[0], 3ull << 62);
	CU_ASSERT_EQUAL(after[1], 3);
	postcopy_fixture_tear_down(&f);
}

/* ---- telling ---- */

static gboolean await_fault(PostcopyFixture *f, gint timeout_ms)
{
	struct pollfd fd = { ferry_postcopy_ram_fault_fd(f->postcopy), POLLIN, 0 };

	return poll(&fd, 1, timeout_ms) == 1;
}

/* Without the fixture's thread of the faults. */
static void tell_again__two_waiters__each_page_once_again(void)
{
	PostcopyTouch touches[2];
	PostcopyFixture f;
	FerryRun run;

	NEED(&f, POSTCOPY_MEMFD);
	CU_ASSERT_TRUE(postcopy_fixture_discard_all(&f));
	CU_ASSERT_TRUE(ferry_postcopy_ram_listen(f.postcopy, NULL));
	for (guint i = 0; i < 2; i++) {
		postcopy_touch_start(&touches[i], &f, &(FerryRun){ i, 7, 1 }, 1);
		CU_ASSERT_TRUE(await_fault(&f, 10000));
		CU_ASSERT_TRUE(ferry_postcopy_ram_take_fault(f.postcopy, &run));
		CU_ASSERT_TRUE(run_equals(&run, i, 7, 1));
	}
	CU_ASSERT_FALSE(ferry_postcopy_ram_take_fault(f.postcopy, &run));
	CU_ASSERT_FALSE(await_fault(&f, 0));
	ferry_postcopy_ram_tell_again(f.postcopy);
	for (guint i = 0; i < 2; i++) {
		CU_ASSERT_TRUE(await_fault(&f, 0));
		CU_ASSERT_TRUE(ferry_postcopy_ram_take_fault(f.postcopy, &run));
		CU_ASSERT_TRUE(run_equals(&run, i, 7, 1));
	}
	CU_ASSERT_FALSE(ferry_postcopy_ram_take_fault(f.postcopy, &run));
	CU_ASSERT_FALSE(await_fault(&f, 0));
	postcopy_fixture_deliver(&f, &(FerryRun){ 0, 7, 1 }, 1);
	ferry_postcopy_ram_tell_again(f.postcopy);
	CU_ASSERT_TRUE(ferry_postcopy_ram_take_fault(f.postcopy, &run));
	CU_ASSERT_TRUE(run_equals(&run, 1, 7, 1));
	CU_ASSERT_FALSE(ferry_postcopy_ram_take_fault(f.postcopy, &run));
	postcopy_fixture_deliver(&f, &run, 1);
	CU_ASSERT_TRUE(postcopy_touch_end(&touches[0]) && postcopy_touch_end(&touches[1]));
	CU_ASSERT_EQUAL(get_status(&f).requests, 2);
	postcopy_fixture_tear_down(&f);
}

static void take_fault__a_second_waiter__not_told(void)
{
	PostcopyTouch touches[2];
	PostcopyFixture f;
	FerryRun run = { 0, 7, 1 };

	NEED(&f, POSTCOPY_MEMFD);
	CU_ASSERT_TRUE(postcopy_fixture_discard_all(&f));
	CU_ASSERT_TRUE(ferry_postcopy_ram_listen(f.postcopy, NULL));
	for (guint i = 0; i < 2; i++) {
		postcopy_touch_start(&touches[i], &f, &run, 1);
		CU_ASSERT_TRUE(await_fault(&f, 10000));
		CU_ASSERT_EQUAL(ferry_postcopy_ram_take_fault(f.postcopy, &run), i == 0);
	}
	postcopy_fixture_deliver(&f, &run, 1);
	CU_ASSERT_TRUE(postcopy_touch_end(&touches[0]) && postcopy_touch_end(&touches[1]));
	CU_ASSERT_EQUAL(get_status(&f).requests, 2);
	CU_ASSERT_EQUAL(get_status(&f).urgent_pages, 1);
	CU_ASSERT_EQUAL(get_status(&f).latency.count, 2);
	postcopy_fixture_tear_down(&f);
}

static void take_fault__landed_meanwhile__nothing_to_tell(void)
{
	PostcopyFixture f;
	PostcopyTouch touch;
	FerryRun run = { 0, 7, 1 };

	NEED(&f, POSTCOPY_MEMFD);
	CU_ASSERT_TRUE(postcopy_fixture_discard_all(&f));
	CU_ASSERT_TRUE(ferry_postcopy_ram_listen(f.postcopy, NULL));
	postcopy_touch_start(&touch, &f, &run, 1);
	CU_ASSERT_TRUE(await_fault(&f, 10000));
	postcopy_fixture_deliver(&f, &run, 1);
	CU_ASSERT_TRUE(postcopy_touch_end(&touch));
	CU_ASSERT_FALSE(ferry_postcopy_ram_take_fault(f.postcopy, &run));
	postcopy_fixture_tear_down(&f);
}

static void vcpus__both_wait__time_of_each_and_of_all(void)
{
	PostcopyTouch touches[2];
	FerryPostcopyStatus status;
	FerryRun told;
	PostcopyFixture f;

	NEED(&f, POSTCOPY_MEMFD);
	CU_ASSERT_TRUE(postcopy_fixture_discard_all(&f) && postcopy_fixture_listen(&f));
	for (guint i = 0; i < 2; i++) {
		postcopy_touch_start(&touches[i], &f, &(FerryRun){ i, 0, 1 }, 1);
		CU_ASSERT_TRUE(postcopy_fixture_await_told(&f, &told));
	}
	ferry_postcopy_ram_set_vcpus(f.postcopy, (gint32[]){ touches[0].id, touches[1].id }, 2);
	for (guint i = 0; i < 2; i++)
		postcopy_fixture_deliver(&f, &(FerryRun){ i, 0, 1 }, 1);
	CU_ASSERT_TRUE(postcopy_touch_end(&touches[0]) && postcopy_touch_end(&touches[1]));
	status = get_status(&f);
	CU_ASSERT_EQUAL(status.latency.count, 2);
	CU_ASSERT_EQUAL(status.n_vcpus, 2);
	CU_ASSERT_TRUE(status.blocktime_us > 0);
	CU_ASSERT_TRUE(status.blocktime_us <= status.vcpu_blocktime_us[0]);
	CU_ASSERT_TRUE(status.blocktime_us <= status.vcpu_blocktime_us[1]);
	postcopy_fixture_tear_down(&f);
}

/* ---- the end ---- */

static void finish__pages_missing__refused(void)
{
	g_autoptr(GError) error = NULL;
	PostcopyFixture f;

	NEED(&f, POSTCOPY_MEMFD);
	CU_ASSERT_TRUE(postcopy_fixture_discard_all(&f) && postcopy_fixture_listen(&f));
	check_error(ferry_postcopy_ram_finish(f.postcopy, &error), &error, FERRY_ERROR_STATE,
		    "512 pages are missing");
	postcopy_fixture_tear_down(&f);
}

static void finish__all_there__faults_are_the_kernels_again(void)
{
	for (PostcopyBacking b = 0; b < POSTCOPY_N_BACKINGS; b++) {
		PostcopyFixture f;
		FerryRun all, here;

		NEED(&f, b);
		all = (FerryRun){ 0, 0, postcopy_fixture_pages(&f, 0) };
		here = (FerryRun){ 1, 0, postcopy_fixture_pages(&f, 1) };
		postcopy_fixture_fill(ferry_postcopy_ram_view(f.postcopy), &here, 2);
		CU_ASSERT_TRUE(ferry_postcopy_ram_discard(f.postcopy, &all, NULL));
		CU_ASSERT_TRUE(ferry_postcopy_ram_listen(f.postcopy, NULL));
		postcopy_fixture_deliver(&f, &all, 1);
		CU_ASSERT_TRUE(ferry_postcopy_ram_finish(f.postcopy, NULL));
		/* There is no thread of the faults. */
		CU_ASSERT_TRUE(touch_now(&f, &all, 1));
		CU_ASSERT_TRUE(touch_now(&f, &here, 2));
		postcopy_fixture_tear_down(&f);
	}
}

static void free__somebody_waits__goes_on(void)
{
	for (PostcopyBacking b = 0; b < POSTCOPY_N_BACKINGS; b++) {
		PostcopyFixture f;
		PostcopyTouch touch;
		FerryRun run = { 0, 0, 1 };

		NEED(&f, b);
		CU_ASSERT_TRUE(postcopy_fixture_discard_all(&f));
		CU_ASSERT_TRUE(ferry_postcopy_ram_listen(f.postcopy, NULL));
		postcopy_touch_start(&touch, &f, &run, 0);
		CU_ASSERT_TRUE(await_fault(&f, 10000));
		CU_ASSERT_TRUE(ferry_postcopy_ram_take_fault(f.postcopy, &run));
		g_clear_pointer(&f.postcopy, ferry_postcopy_ram_free);
		CU_ASSERT_TRUE(postcopy_touch_end(&touch));
		postcopy_fixture_tear_down(&f);
	}
}

/* ---- refusals ---- */

static void discard__not_of_this_ram__refused(void)
{
	const FerryRun runs[] = {
		{ 2, 0, 1 }, { 0, 256, 1 }, { 0, 255, 2 }, { 0, 0, 0 }, { 0, 1, G_MAXUINT64 }
	};
	g_autoptr(GError) error = NULL;
	PostcopyFixture f;

	NEED(&f, POSTCOPY_MEMFD);
	for (guint i = 0; i < G_N_ELEMENTS(runs); i++)
		check_error(ferry_postcopy_ram_discard(f.postcopy, &runs[i], &error), &error,
			    FERRY_ERROR_PEER, "outside");
	CU_ASSERT_EQUAL(ferry_postcopy_ram_missing(f.postcopy), 0);
	CU_ASSERT_TRUE(postcopy_fixture_listen(&f));
	check_error(ferry_postcopy_ram_discard(f.postcopy, &(FerryRun){ 0, 0, 1 }, &error), &error,
		    FERRY_ERROR_PEER, "after LISTEN");
	postcopy_fixture_tear_down(&f);
}

static void discard__part_of_a_huge_page__refused(void)
{
	g_autoptr(GError) error = NULL;
	PostcopyFixture f;

	NEED(&f, POSTCOPY_HUGETLB);
	check_error(ferry_postcopy_ram_discard(f.postcopy, &(FerryRun){ 0, 0, 511 }, &error),
		    &error, FERRY_ERROR_PEER, "whole pages");
	check_error(ferry_postcopy_ram_discard(f.postcopy, &(FerryRun){ 0, 1, 512 }, &error),
		    &error, FERRY_ERROR_PEER, "whole pages");
	postcopy_fixture_tear_down(&f);
}

/* What is refused is a block of one page at @host. */
static void check_refused(void *host, int fd, guint64 offset, const char *part)
{
	g_autoptr(FerryRam) ram = ferry_ram_new();
	g_autoptr(GError) error = NULL;
	FerryPostcopyRam *postcopy;

	CU_ASSERT_NOT_EQUAL(host, MAP_FAILED);
	CU_ASSERT_TRUE(ferry_ram_add(ram, "odd", host, FERRY_PAGE_SIZE, FERRY_PAGE_SIZE, fd, offset,
				     NULL));
	postcopy = ferry_postcopy_ram_new(ram, &error);
	check_error(postcopy != NULL, &error, FERRY_ERROR_NOSUPP, part);
	ferry_postcopy_ram_free(postcopy);
}

static void *map_page(int flags, int fd)
{
	return mmap(NULL, FERRY_PAGE_SIZE, PROT_READ | PROT_WRITE, flags, fd, 0);
}

static void new__other_backings__refused_by_name(void)
{
	int fd = memfd_create("odd", MFD_CLOEXEC), other = memfd_create("other", MFD_CLOEXEC);
	void *private_file, *shared, *file;

	CU_ASSERT_EQUAL(ftruncate(fd, 2 * FERRY_PAGE_SIZE), 0);
	private_file = map_page(MAP_PRIVATE, fd);
	file = map_page(MAP_SHARED, fd);
	shared = map_page(MAP_SHARED | MAP_ANONYMOUS, -1);
	check_refused(private_file, fd, 0, "'odd': it is a private mapping of its file");
	check_refused(private_file, -1, 0, "'odd': it is a private mapping of a file");
	check_refused(file, other, 0, "'odd': it is not of the file");
	check_refused(file, fd, FERRY_PAGE_SIZE, "'odd': it is not of the file");
	check_refused(file, -1, 0, "'odd': it is shared memory without a file");
	check_refused(shared, -1, 0, "'odd': it is shared memory without a file");
	munmap(private_file, FERRY_PAGE_SIZE);
	munmap(shared, FERRY_PAGE_SIZE);
	munmap(file, FERRY_PAGE_SIZE);
	check_refused(file, fd, 0, "'odd': it is more than one mapping");
	close(fd);
	close(other);
}

static void new__watched_already__refused(void)
{
	g_autoptr(GError) error = NULL;
	FerryPostcopyRam *second;
	PostcopyFixture f;

	NEED(&f, POSTCOPY_MEMFD);
	CU_ASSERT_TRUE(ferry_postcopy_ram_listen(f.postcopy, NULL));
	second = ferry_postcopy_ram_new(f.ram, &error);
	check_error(second != NULL, &error, FERRY_ERROR_NOSUPP, "another userfaultfd");
	ferry_postcopy_ram_free(second);
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
		CASE(next_missing__several_stretches__wraps_once),
		CASE(received__some_landed__their_bits),
		CASE(tell_again__two_waiters__each_page_once_again),
		CASE(take_fault__a_second_waiter__not_told),
		CASE(take_fault__landed_meanwhile__nothing_to_tell),
		CASE(vcpus__both_wait__time_of_each_and_of_all),
		CASE(finish__pages_missing__refused),
		CASE(finish__all_there__faults_are_the_kernels_again),
		CASE(free__somebody_waits__goes_on),
		CASE(discard__not_of_this_ram__refused),
		CASE(discard__part_of_a_huge_page__refused),
		CASE(new__other_backings__refused_by_name),
		CASE(new__watched_already__refused),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "postcopy-ram", cases);
}
