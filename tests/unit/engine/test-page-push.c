/* SPDX-License-Identifier: BSD-2-Clause */
/* In which order missing pages go, and that each goes once, whoever sends it. */
#include "engine/page-cursor.h"
#include "engine/page-push.h"
#include "harness.h"

#include <ferry/bytes.h>
#include <string.h>

#define SMALL 0      /* a block of 256 pages */
#define HUGE_PAGES 1 /* one of two host pages of 2 MiB */
#define TWO_MIB (2u << 20)

/* RAM that nobody looks into: it is nowhere. */
static FerryRam *make_ram(void)
{
	FerryRam *ram = ferry_ram_new();

	if (!ferry_ram_add(ram, "small", (guint8 *)0x10000000, 256 * FERRY_PAGE_SIZE,
			   FERRY_PAGE_SIZE, -1, 0, NULL) ||
	    !ferry_ram_add(ram, "huge", (guint8 *)0x20000000, 2 * TWO_MIB, TWO_MIB, -1, 0, NULL))
		g_assert_not_reached();
	return ram;
}

static gboolean is_run(const FerryRun *run, guint block, guint64 first, guint64 pages)
{
	if (run->block == block && run->first == first && run->pages == pages)
		return TRUE;
	printf("# block %u, page %" G_GUINT64_FORMAT ", %" G_GUINT64_FORMAT " pages\n", run->block,
	       run->first, run->pages);
	return FALSE;
}

static void page_cursor__jumps__goes_on_behind_and_round_the_end(void)
{
	g_autoptr(FerryRam) ram = make_ram();
	g_autoptr(FerryBitmap) missing = ferry_bitmap_new(ram);
	FerryPageCursor cursor;
	FerryRun run;

	ferry_bitmap_set_run(missing, &(FerryRun){ SMALL, 0, 256 });
	ferry_page_cursor_init(&cursor, ram, missing);
	CU_ASSERT(ferry_page_cursor_next(&cursor, 64, &run) && is_run(&run, SMALL, 0, 64));
	ferry_page_cursor_jump(&cursor, &(FerryRun){ SMALL, 200, 1 });
	CU_ASSERT(ferry_page_cursor_next(&cursor, 64, &run) && is_run(&run, SMALL, 201, 55));
	CU_ASSERT(ferry_page_cursor_next(&cursor, 64, &run) && is_run(&run, SMALL, 64, 64));
	CU_ASSERT(ferry_page_cursor_next(&cursor, 64, &run) && is_run(&run, SMALL, 128, 64));
	CU_ASSERT(ferry_page_cursor_next(&cursor, 64, &run) && is_run(&run, SMALL, 192, 9));
	CU_ASSERT_FALSE(ferry_page_cursor_next(&cursor, 64, &run));
	CU_ASSERT_EQUAL(ferry_bitmap_count(missing), 0);
}

static void page_cursor__in_a_huge_page__gives_all_of_it_before_it_jumps(void)
{
	g_autoptr(FerryRam) ram = make_ram();
	g_autoptr(FerryBitmap) missing = ferry_bitmap_new(ram);
	FerryPageCursor cursor;
	FerryRun run;

	ferry_bitmap_set_all(missing);
	ferry_page_cursor_init(&cursor, ram, missing);
	ferry_page_cursor_jump(&cursor, &(FerryRun){ HUGE_PAGES, 0, 512 });
	CU_ASSERT(ferry_page_cursor_next(&cursor, 64, &run) && is_run(&run, HUGE_PAGES, 512, 64));
	ferry_page_cursor_jump(&cursor, &(FerryRun){ SMALL, 10, 1 });
	for (guint64 at = 576; at < 1024; at += 64)
		CU_ASSERT(ferry_page_cursor_next(&cursor, 64, &run) &&
			  is_run(&run, HUGE_PAGES, at, 64));
	CU_ASSERT(ferry_page_cursor_next(&cursor, 64, &run) && is_run(&run, SMALL, 11, 64));
}

static void page_cursor__claims__only_what_is_missing_and_once(void)
{
	g_autoptr(FerryRam) ram = make_ram();
	g_autoptr(FerryBitmap) missing = ferry_bitmap_new(ram);
	const FerryRun range = { SMALL, 8, 8 };
	FerryPageCursor cursor;
	FerryRun run;

	ferry_bitmap_set_run(missing, &(FerryRun){ SMALL, 4, 6 });
	ferry_bitmap_set_run(missing, &(FerryRun){ SMALL, 12, 100 });
	ferry_page_cursor_init(&cursor, ram, missing);
	CU_ASSERT(ferry_page_cursor_claim(&cursor, &range, 64, &run) && is_run(&run, SMALL, 8, 2));
	CU_ASSERT(ferry_page_cursor_claim(&cursor, &range, 3, &run) && is_run(&run, SMALL, 12, 3));
	ferry_page_cursor_return(&cursor, &run);
	CU_ASSERT(ferry_page_cursor_claim(&cursor, &range, 64, &run) && is_run(&run, SMALL, 12, 4));
	CU_ASSERT_FALSE(ferry_page_cursor_claim(&cursor, &range, 64, &run));
	CU_ASSERT_EQUAL(ferry_bitmap_count(missing), 4 + 96);
}

/* ---- the push, with a carrier that keeps account ---- */

typedef struct {
	FerryCarrier base;
	FerryCarrierOps ops;
	guint8 sent[256]; /* how often each page of SMALL went */
	gint full;        /* atomic: urgent() has no room */
	FerryRun last;
} Account;

static FerryIo urgent(FerryCarrier *carrier, const FerryRun *run)
{
	Account *account = (Account *)carrier;

	if (g_atomic_int_get(&account->full))
		return FERRY_IO_AGAIN;
	for (guint64 i = 0; i < run->pages; i++)
		account->sent[run->first + i]++;
	account->last = *run;
	return FERRY_IO_OK;
}

typedef struct {
	FerryRam *ram;
	FerryBitmap *missing;
	FerryPageRequests *requests;
	FerryPagePush *push;
	Account account;
} Bench;

static void asked(gpointer user)
{
	ferry_page_push_serve(((Bench *)user)->push);
}

static void bench_open(Bench *bench, gboolean lane)
{
	*bench = (Bench){ .ram = make_ram() };
	bench->missing = ferry_bitmap_new(bench->ram);
	ferry_bitmap_set_run(bench->missing, &(FerryRun){ SMALL, 0, 256 });
	bench->requests = ferry_page_requests_new(bench->ram, asked, bench);
	bench->account.ops.urgent = lane ? urgent : NULL;
	bench->account.base.ops = &bench->account.ops;
	bench->push = ferry_page_push_new(bench->ram, bench->missing, bench->requests,
					  &bench->account.base);
}

static void bench_close(Bench *bench)
{
	ferry_page_push_free(bench->push);
	ferry_page_requests_free(bench->requests);
	ferry_bitmap_free(bench->missing);
	ferry_ram_free(bench->ram);
}

static void request(Bench *bench, guint64 page)
{
	guint8 data[13 + 5];

	ferry_store_be64(data, page << FERRY_PAGE_SHIFT);
	ferry_store_be32(data + 8, FERRY_PAGE_SIZE);
	data[12] = 5;
	memcpy(data + 13, "small", 5);
	CU_ASSERT(ferry_page_requests_put(bench->requests, TRUE, data, sizeof(data), NULL));
}

static void push__asked_with_a_lane__goes_at_once_and_background_follows(void)
{
	FerryPushCounts counts;
	FerryRun run;
	Bench bench;

	bench_open(&bench, TRUE);
	request(&bench, 100);
	CU_ASSERT(is_run(&bench.account.last, SMALL, 100, 1));
	CU_ASSERT_EQUAL(ferry_page_push_next(bench.push, TRUE, &run), FERRY_PUSH_BACKGROUND);
	CU_ASSERT(is_run(&run, SMALL, 101, 64));
	/* What went is not sent again. */
	request(&bench, 100);
	request(&bench, 101);
	CU_ASSERT_EQUAL(bench.account.sent[100], 1);
	CU_ASSERT_EQUAL(bench.account.sent[101], 0);
	ferry_page_push_get_counts(bench.push, &counts);
	CU_ASSERT(counts.missing == 191 && counts.requests == 3 && counts.urgent == 1 &&
		  counts.lane == 1 && counts.background == 64);
	bench_close(&bench);
}

static void push__asked_without_a_lane__comes_before_the_background(void)
{
	FerryRun run;
	Bench bench;

	bench_open(&bench, FALSE);
	request(&bench, 7);
	request(&bench, 200);
	CU_ASSERT_EQUAL(ferry_page_push_next(bench.push, TRUE, &run), FERRY_PUSH_URGENT);
	CU_ASSERT(is_run(&run, SMALL, 7, 1));
	CU_ASSERT_EQUAL(ferry_page_push_next(bench.push, FALSE, &run), FERRY_PUSH_URGENT);
	CU_ASSERT(is_run(&run, SMALL, 200, 1));
	CU_ASSERT_EQUAL(ferry_page_push_next(bench.push, FALSE, &run), FERRY_PUSH_WAIT);
	CU_ASSERT_EQUAL(ferry_page_push_next(bench.push, TRUE, &run), FERRY_PUSH_BACKGROUND);
	CU_ASSERT(is_run(&run, SMALL, 201, 55));
	bench_close(&bench);
}

static void push__lane_full__page_is_kept_and_goes_later(void)
{
	FerryPushCounts counts;
	Bench bench;

	bench_open(&bench, TRUE);
	bench.account.full = 1;
	request(&bench, 9);
	request(&bench, 10);
	ferry_page_push_get_counts(bench.push, &counts);
	CU_ASSERT(counts.missing == 256 && counts.urgent == 0);
	bench.account.full = 0;
	CU_ASSERT(ferry_page_push_serve(bench.push));
	CU_ASSERT(bench.account.sent[9] == 1 && bench.account.sent[10] == 1);
	bench_close(&bench);
}

static gpointer ask_for_all(gpointer data)
{
	for (guint64 page = 256; page--;)
		request(data, page);
	return NULL;
}

static void push__asked_beside_the_background__each_page_goes_once(void)
{
	for (guint round = 0; round < 50; round++) {
		FerryPushCounts counts;
		FerryPushStep step;
		GThread *thread;
		FerryRun run;
		Bench bench;
		guint wrong = 0;
		guint8 background[256] = { 0 };

		bench_open(&bench, TRUE);
		thread = g_thread_new("asks", ask_for_all, &bench);
		while ((step = ferry_page_push_next(bench.push, TRUE, &run)) != FERRY_PUSH_DONE)
			for (guint64 i = 0; i < run.pages; i++)
				background[run.first + i]++;
		g_thread_join(thread);
		for (guint i = 0; i < 256; i++)
			wrong += bench.account.sent[i] + background[i] != 1;
		CU_ASSERT_EQUAL(wrong, 0);
		ferry_page_push_get_counts(bench.push, &counts);
		CU_ASSERT(counts.missing == 0 && counts.urgent + counts.background == 256 &&
			  counts.requests == 256);
		bench_close(&bench);
	}
}

static void push__sleeps__wakes_when_asked(void)
{
	GThread *thread;
	Bench bench;
	gint64 begin = g_get_monotonic_time();

	bench_open(&bench, FALSE);
	thread = g_thread_new("asks", ask_for_all, &bench);
	ferry_page_push_sleep(bench.push, 30 * G_TIME_SPAN_SECOND);
	CU_ASSERT(g_get_monotonic_time() - begin < 20 * G_TIME_SPAN_SECOND);
	g_thread_join(thread);
	bench_close(&bench);
}

static CU_TestInfo cases[] = {
	CASE(page_cursor__jumps__goes_on_behind_and_round_the_end),
	CASE(page_cursor__in_a_huge_page__gives_all_of_it_before_it_jumps),
	CASE(page_cursor__claims__only_what_is_missing_and_once),
	CASE(push__asked_with_a_lane__goes_at_once_and_background_follows),
	CASE(push__asked_without_a_lane__comes_before_the_background),
	CASE(push__lane_full__page_is_kept_and_goes_later),
	CASE(push__asked_beside_the_background__each_page_goes_once),
	CASE(push__sleeps__wakes_when_asked),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "pushing pages", cases);
}
