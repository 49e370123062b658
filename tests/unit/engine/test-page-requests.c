/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include <string.h>

#include "engine/page-requests.h"
#include <ferry/bytes.h>

#define KIB 1024ull
#define MIB (1024ull * KIB)

static FerryRam *ram; /* of the running case: "a" of 16 pages, "huge" of two of 2 MiB */
static FerryPageRequests *requests;
static guint asked;

static void count_asked(gpointer user)
{
	(*(guint *)user)++;
}

static void begin(void)
{
	ram = ferry_ram_new();
	CU_ASSERT(ferry_ram_add(ram, "a", (void *)(256 * MIB), 64 * KIB, 4 * KIB, -1, 0, NULL));
	CU_ASSERT(ferry_ram_add(ram, "huge", (void *)(512 * MIB), 4 * MIB, 2 * MIB, -1, 0, NULL));
	asked = 0;
	requests = ferry_page_requests_new(ram, count_asked, &asked);
}

static void end(void)
{
	ferry_page_requests_free(requests);
	ferry_ram_free(ram);
}

/* In memory of its own, so that a sanitizer sees a read behind the end; @name NULL: REQ_PAGES. */
static gboolean put(const char *name, guint64 start, guint32 length, GError **error)
{
	size_t name_len = name ? strlen(name) : 0, len = 12 + (name ? 1 + name_len : 0);
	g_autofree guint8 *data = g_malloc(len);

	ferry_store_be64(data, start);
	ferry_store_be32(data + 8, length);
	if (name) {
		data[12] = name_len;
		memcpy(data + 13, name, name_len);
	}
	return ferry_page_requests_put(requests, name != NULL, data, len, error);
}

static gboolean takes(guint64 max, guint32 block, guint64 first, guint64 pages)
{
	FerryRun run = { 0 };

	return ferry_page_requests_take(requests, max, &run) && run.block == block &&
	       run.first == first && run.pages == pages;
}

static gboolean takes_none(void)
{
	FerryRun run;

	return !ferry_page_requests_take(requests, 1, &run);
}

static void requests__with_and_without_a_name__come_in_order(void)
{
	begin();
	CU_ASSERT(put("a", 4 * KIB, 8 * KIB, NULL));
	CU_ASSERT(put(NULL, 60 * KIB, 4 * KIB, NULL));
	CU_ASSERT(put("huge", 2 * MIB, 2 * MIB, NULL));
	CU_ASSERT(put(NULL, 0, 2 * MIB, NULL));
	CU_ASSERT_EQUAL(asked, 4);
	CU_ASSERT(takes(100, 0, 1, 2));
	CU_ASSERT(takes(100, 0, 15, 1));
	CU_ASSERT(takes(512, 1, 512, 512));
	CU_ASSERT(takes(512, 1, 0, 512));
	CU_ASSERT(takes_none());
	CU_ASSERT_EQUAL(ferry_page_requests_count(requests), 4);
	end();
}

static void take__less_than_was_asked__rest_comes_next(void)
{
	begin();
	CU_ASSERT(put("huge", 0, 2 * MIB, NULL));
	CU_ASSERT(put("a", 0, 4 * KIB, NULL));
	CU_ASSERT(takes(500, 1, 0, 500));
	CU_ASSERT(takes(500, 1, 500, 12));
	CU_ASSERT(takes(500, 0, 0, 1));
	CU_ASSERT(takes_none());
	end();
}

/* Refused: FERRY_ERROR_PEER with these words, nothing queued, nobody called. */
static void refused(const char *name, guint64 start, guint32 length, const char *words)
{
	g_autoptr(GError) error = NULL;
	guint before = asked;

	CU_ASSERT_FALSE(put(name, start, length, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
	CU_ASSERT(error && strstr(error->message, words));
	CU_ASSERT_EQUAL(asked, before);
	CU_ASSERT(takes_none());
}

static void put__outside_of_the_ram_or_unaligned__refused_with_the_numbers(void)
{
	begin();
	refused("a", 0, 0, "nothing");
	refused("a", 64 * KIB, 4 * KIB, "0x10000 of block 'a': it has 65536 bytes");
	refused("a", 60 * KIB, 8 * KIB, "8192 bytes at offset 0xf000");
	refused("a", G_MAXUINT64 - 4 * KIB + 1, 4 * KIB, "it has");
	refused("a", 4 * KIB, 0xfffff000u, "it has");
	refused("a", 2 * KIB, 4 * KIB, "page size 4096");
	refused("a", 0, 6 * KIB, "page size 4096");
	refused("huge", 4 * KIB, 2 * MIB, "page size 2097152");
	refused("huge", 0, 4 * KIB, "page size 2097152");
	refused("b", 0, 4 * KIB, "no such block");
	refused("", 0, 4 * KIB, "no such block");
	end();
}

static void put__without_a_name_first__refused(void)
{
	begin();
	refused(NULL, 0, 4 * KIB, "no request before it named a block");
	refused("b", 0, 4 * KIB, "no such block");
	refused(NULL, 0, 4 * KIB, "no request before it named a block");
	end();
}

static void put__length_that_the_name_does_not_fill__refused(void)
{
	guint8 whole[14] = { [10] = 0x10, [12] = 1, [13] = 'a' };

	begin();
	for (size_t len = 0; len <= sizeof(whole); len++) {
		g_autofree guint8 *part = g_memdup2(whole, len);
		g_autoptr(GError) error = NULL;

		CU_ASSERT_EQUAL(ferry_page_requests_put(requests, TRUE, part, len, &error),
				len == sizeof(whole));
		/* A block is named by now only where it was whole. */
		if (len != 12 && len < sizeof(whole))
			CU_ASSERT_FALSE(ferry_page_requests_put(requests, FALSE, part, len, NULL));
	}
	whole[12] = 0;
	CU_ASSERT_FALSE(ferry_page_requests_put(requests, TRUE, whole, sizeof(whole), NULL));
	end();
}

static void put__name_with_a_nul_inside__is_no_block(void)
{
	const guint8 data[] = { [10] = 0x10, [12] = 2, [13] = 'a', [14] = 0 };

	begin();
	CU_ASSERT_FALSE(ferry_page_requests_put(requests, TRUE, data, sizeof(data), NULL));
	CU_ASSERT(takes_none());
	end();
}

static void put__more_than_the_ram_has_pages__refused_until_one_is_taken(void)
{
	g_autoptr(GError) error = NULL;
	guint64 pages;

	begin();
	pages = ram->total / FERRY_PAGE_SIZE;
	for (guint64 i = 0; i < pages; i++)
		CU_ASSERT(put("a", 0, 4 * KIB, NULL));
	CU_ASSERT_FALSE(put("a", 0, 4 * KIB, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
	CU_ASSERT(takes(1, 0, 0, 1));
	CU_ASSERT(put("a", 0, 4 * KIB, NULL));
	CU_ASSERT_EQUAL(ferry_page_requests_count(requests), pages + 1);
	end();
}

static void clear__forgets_what_waits_and_the_block(void)
{
	begin();
	CU_ASSERT(put("a", 0, 4 * KIB, NULL));
	ferry_page_requests_clear(requests);
	CU_ASSERT(takes_none());
	CU_ASSERT_FALSE(put(NULL, 0, 4 * KIB, NULL));
	CU_ASSERT_EQUAL(ferry_page_requests_count(requests), 1);
	end();
}

/* One thread puts, another takes: every page once, under the thread sanitizer without a word. */
static gpointer take_all(gpointer data)
{
	guint64 *pages = data;
	FerryRun run;

	while (*pages < 16 * 64)
		if (ferry_page_requests_take(requests, 1, &run))
			*pages += run.pages;
		else
			g_thread_yield();
	return NULL;
}

static void requests__of_two_threads__all_arrive(void)
{
	guint64 pages = 0;
	GThread *taker;

	begin();
	taker = g_thread_new("taker", take_all, &pages);
	for (guint i = 0; i < 64; i++)
		CU_ASSERT(put("a", 0, 64 * KIB, NULL));
	g_thread_join(taker);
	CU_ASSERT_EQUAL(pages, 16 * 64);
	CU_ASSERT(takes_none());
	end();
}

static CU_TestInfo cases[] = {
	CASE(requests__with_and_without_a_name__come_in_order),
	CASE(take__less_than_was_asked__rest_comes_next),
	CASE(put__outside_of_the_ram_or_unaligned__refused_with_the_numbers),
	CASE(put__without_a_name_first__refused),
	CASE(put__length_that_the_name_does_not_fill__refused),
	CASE(put__name_with_a_nul_inside__is_no_block),
	CASE(put__more_than_the_ram_has_pages__refused_until_one_is_taken),
	CASE(clear__forgets_what_waits_and_the_block),
	CASE(requests__of_two_threads__all_arrive),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "requests for pages", cases);
}
