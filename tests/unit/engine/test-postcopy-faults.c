/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "postcopy-fixture.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Telling of faults, the beginning and the end, and refusals. */

static void check_error(gboolean ok, GError **error, FerryErrorCode code, const char *part)
{
	CU_ASSERT_FALSE(ok);
	CU_ASSERT_TRUE(g_error_matches(*error, FERRY_ERROR, (int)code));
	CU_ASSERT_TRUE(*error && strstr((*error)->message, part));
	if (*error && !strstr((*error)->message, part))
		g_printerr("# %s\n", (*error)->message);
	g_clear_error(error);
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
		CU_ASSERT_TRUE(postcopy_fixture_await_fault(&f, 10000));
		CU_ASSERT_TRUE(ferry_postcopy_ram_take_fault(f.postcopy, &run));
		CU_ASSERT_TRUE(run_equals(&run, i, 7, 1));
	}
	CU_ASSERT_FALSE(ferry_postcopy_ram_take_fault(f.postcopy, &run));
	CU_ASSERT_FALSE(postcopy_fixture_await_fault(&f, 0));
	ferry_postcopy_ram_tell_again(f.postcopy);
	for (guint i = 0; i < 2; i++) {
		CU_ASSERT_TRUE(postcopy_fixture_await_fault(&f, 0));
		CU_ASSERT_TRUE(ferry_postcopy_ram_take_fault(f.postcopy, &run));
		CU_ASSERT_TRUE(run_equals(&run, i, 7, 1));
	}
	CU_ASSERT_FALSE(ferry_postcopy_ram_take_fault(f.postcopy, &run));
	CU_ASSERT_FALSE(postcopy_fixture_await_fault(&f, 0));
	postcopy_fixture_deliver(&f, &(FerryRun){ 0, 7, 1 }, 1);
	ferry_postcopy_ram_tell_again(f.postcopy);
	CU_ASSERT_TRUE(ferry_postcopy_ram_take_fault(f.postcopy, &run));
	CU_ASSERT_TRUE(run_equals(&run, 1, 7, 1));
	CU_ASSERT_FALSE(ferry_postcopy_ram_take_fault(f.postcopy, &run));
	postcopy_fixture_deliver(&f, &run, 1);
	CU_ASSERT_TRUE(postcopy_touch_end(&touches[0]) && postcopy_touch_end(&touches[1]));
	CU_ASSERT_EQUAL(postcopy_fixture_status(&f).requests, 2);
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
		CU_ASSERT_TRUE(postcopy_fixture_await_fault(&f, 10000));
		CU_ASSERT_EQUAL(ferry_postcopy_ram_take_fault(f.postcopy, &run), i == 0);
	}
	postcopy_fixture_deliver(&f, &run, 1);
	CU_ASSERT_TRUE(postcopy_touch_end(&touches[0]) && postcopy_touch_end(&touches[1]));
	CU_ASSERT_EQUAL(postcopy_fixture_status(&f).requests, 2);
	CU_ASSERT_EQUAL(postcopy_fixture_status(&f).urgent_pages, 1);
	CU_ASSERT_EQUAL(postcopy_fixture_status(&f).latency.count, 2);
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
	CU_ASSERT_TRUE(postcopy_fixture_await_fault(&f, 10000));
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
	status = postcopy_fixture_status(&f);
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
		CU_ASSERT_TRUE(postcopy_touch_now(&f, &all, 1));
		CU_ASSERT_TRUE(postcopy_touch_now(&f, &here, 2));
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
		CU_ASSERT_TRUE(postcopy_fixture_await_fault(&f, 10000));
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

	g_log_set_always_fatal(G_LOG_LEVEL_WARNING | G_LOG_LEVEL_CRITICAL | G_LOG_FATAL_MASK);
	return harness_run(argc, argv, "postcopy-ram: faults", cases);
}
