/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/page-codec.h>
#include <string.h>
#include "harness.h"

typedef struct {
	guint8 before[FERRY_PAGE_SIZE], now[FERRY_PAGE_SIZE];
	guint8 out[FERRY_PAGE_SIZE];
	gssize len;
} Pair;

static void fill(guint8 *page, GRand *rand)
{
	for (guint i = 0; i < FERRY_PAGE_SIZE; i++)
		page[i] = (guint8)g_rand_int(rand);
}

static void pair_init(Pair *pair)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(7);

	fill(pair->before, rand);
	memcpy(pair->now, pair->before, FERRY_PAGE_SIZE);
}

static void change(Pair *pair, guint first, guint n)
{
	for (guint i = first; i < first + n; i++)
		pair->now[i] ^= 0x5a;
}

static gssize encode(Pair *pair)
{
	pair->len = ferry_xbzrle_encode(pair->before, pair->now, pair->out, sizeof(pair->out));
	return pair->len;
}

/* The decoder makes @now of @before. */
static gboolean comes_back(const Pair *pair)
{
	guint8 page[FERRY_PAGE_SIZE];

	memcpy(page, pair->before, sizeof(page));
	return pair->len >= 0 && ferry_xbzrle_decode(pair->out, (size_t)pair->len, page, NULL) &&
	       memcmp(page, pair->now, sizeof(page)) == 0;
}

static void xbzrle__equal_pages__are_nothing(void)
{
	Pair pair;

	pair_init(&pair);
	CU_ASSERT_EQUAL(encode(&pair), 0);
}

static void xbzrle__single_byte__wherever_it_is(void)
{
	for (guint at = 0; at < FERRY_PAGE_SIZE; at++) {
		Pair pair;

		pair_init(&pair);
		change(&pair, at, 1);
		CU_ASSERT_EQUAL(encode(&pair), at < 128 ? 3 : 4);
		CU_ASSERT_TRUE(comes_back(&pair));
	}
}

/* QEMU's bytes for these pages. */
static void xbzrle__counts_of_127_and_128__are_one_byte_and_two(void)
{
	Pair pair;

	pair_init(&pair);
	change(&pair, 127, 128);
	CU_ASSERT_EQUAL(encode(&pair), 1 + 2 + 128);
	CU_ASSERT_EQUAL(memcmp(pair.out, "\x7f\x80\x01", 3), 0);
	CU_ASSERT_TRUE(comes_back(&pair));
	pair_init(&pair);
	change(&pair, 128, 127);
	CU_ASSERT_EQUAL(encode(&pair), 2 + 1 + 127);
	CU_ASSERT_EQUAL(memcmp(pair.out, "\x80\x01\x7f", 3), 0);
	CU_ASSERT_TRUE(comes_back(&pair));
}

static void xbzrle__short_gap__is_not_worth_a_run(void)
{
	Pair pair;

	for (guint gap = 1; gap <= 3; gap++) {
		for (guint at = 0; at < 256; at++) {
			pair_init(&pair);
			change(&pair, at, 1);
			change(&pair, at + 1 + gap, 1);
			encode(&pair);
			CU_ASSERT_EQUAL(pair.len, (at < 128 ? 1 : 2) + (gap < 3 ? 3 + gap : 5));
			CU_ASSERT_TRUE(comes_back(&pair));
		}
	}
}

static void xbzrle__every_byte_changed__does_not_fit(void)
{
	Pair pair;

	pair_init(&pair);
	change(&pair, 0, FERRY_PAGE_SIZE);
	CU_ASSERT_EQUAL(encode(&pair), -1);
	pair_init(&pair);
	change(&pair, 0, FERRY_PAGE_SIZE - 3);
	CU_ASSERT_EQUAL(encode(&pair), FERRY_PAGE_SIZE);
	CU_ASSERT_TRUE(comes_back(&pair));
}

static void xbzrle__room__is_kept_to_the_byte(void)
{
	guint8 out[64];
	Pair pair;

	pair_init(&pair);
	change(&pair, 100, 20);
	memset(out, 0xee, sizeof(out));
	CU_ASSERT_EQUAL(ferry_xbzrle_encode(pair.before, pair.now, out, 21), -1);
	CU_ASSERT_EQUAL(ferry_xbzrle_encode(pair.before, pair.now, out, 22), 22);
	CU_ASSERT_EQUAL(out[22], 0xee);
	CU_ASSERT_EQUAL(ferry_xbzrle_encode(pair.before, pair.now, out, 0), -1);
}

static void xbzrle__random_changes__come_back(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(11);
	Pair pair;

	for (guint i = 0; i < 4000; i++) {
		pair_init(&pair);
		for (gint32 n = g_rand_int_range(rand, 1, 200); n > 0; n--) {
			guint first = (guint)g_rand_int_range(rand, 0, FERRY_PAGE_SIZE);
			guint len = (guint)g_rand_int_range(rand, 1, i % 7 ? 8 : 300);

			change(&pair, first, MIN(len, FERRY_PAGE_SIZE - first));
		}
		if (encode(&pair) >= 0)
			CU_ASSERT_TRUE(comes_back(&pair));
	}
}

static void xbzrle__counters_of_eight_bytes__fit(void)
{
	Pair pair;

	pair_init(&pair);
	for (guint i = 0; i < FERRY_PAGE_SIZE; i += 8)
		pair.now[i]++;
	CU_ASSERT_EQUAL(encode(&pair), 3 * FERRY_PAGE_SIZE / 8);
	CU_ASSERT_TRUE(comes_back(&pair));
}

static void xbzrle__corrupt__is_refused(void)
{
	static const struct {
		const char *data;
		size_t len;
		const char *why;
	} cases[] = {
#define CORRUPT(data, why) { data, sizeof(data) - 1, why }
		CORRUPT("\0", "cut short"),
		CORRUPT("\x80", "cut short"),
		CORRUPT("\5\x80", "cut short"),
		CORRUPT("\x80\x80\x01\1a", "too long"),
		CORRUPT("\1\x80\x80\1a", "too long"),
		CORRUPT("\0\0", "no bytes"),
		CORRUPT("\5\1a\0\1b", "no bytes"),
		CORRUPT("\0\2a", "bytes are cut short"),
		CORRUPT("\xff\x1f\2ab", "behind the page"),
		CORRUPT("\x80\x20\1a", "behind the page"),
		CORRUPT("\xff\x7f\xff\x7f", "behind the page"),
		CORRUPT("\0\x81\x20", "behind the page"),
		CORRUPT("\0\1a\xff\x1f\1b", "behind the page"),
	};

	for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
		/* Of exactly their sizes, so that the address sanitizer sees a byte too many. */
		g_autofree guint8 *data = g_memdup2(cases[i].data, cases[i].len);
		g_autofree guint8 *page = g_malloc0(FERRY_PAGE_SIZE);
		g_autoptr(GError) error = NULL;

		CU_ASSERT_FALSE(ferry_xbzrle_decode(data, cases[i].len, page, &error));
		CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_STREAM));
		if (error && !strstr(error->message, cases[i].why))
			g_printerr("# case %u: %s\n", i, error->message);
		CU_ASSERT_TRUE(error && strstr(error->message, cases[i].why));
	}
}

static void xbzrle__last_byte_of_the_page__can_be_reached(void)
{
	guint8 page[FERRY_PAGE_SIZE] = { 0 };

	CU_ASSERT_TRUE(ferry_xbzrle_decode((const guint8 *)"\xff\x1f\1a", 4, page, NULL));
	CU_ASSERT_EQUAL(page[FERRY_PAGE_SIZE - 1], 'a');
}

/* Neither a crash nor a byte beyond the page: what the sanitizer sees. */
static void codecs__garbage__never_harms(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(3);
	g_autofree guint8 *page = g_malloc0(FERRY_PAGE_SIZE);
	guint taken = 0;

	for (guint i = 0; i < 20000; i++) {
		size_t len = (size_t)g_rand_int_range(rand, 1, i % 10 ? 24 : 4096);
		g_autofree guint8 *data = g_malloc(len);

		for (size_t n = 0; n < len; n++)
			data[n] = (guint8)g_rand_int_range(rand, 0, i % 3 ? 256 : 8);
		taken += ferry_xbzrle_decode(data, len, page, NULL);
		if (i % 2 && len > 2)
			memcpy(data, "\x48\x89", 2);
		taken += ferry_page_inflate(data, len, page, NULL);
	}
	CU_ASSERT(taken > 0);
}

static void deflate__every_level_and_content__comes_back(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(5);
	guint8 page[FERRY_PAGE_SIZE], out[FERRY_PAGE_DEFLATED_MAX], back[FERRY_PAGE_SIZE];

	for (guint content = 0; content < 40; content++) {
		guint kinds = content < 20 ? 256 : 1u << content % 9;

		for (guint i = 0; i < FERRY_PAGE_SIZE; i++)
			page[i] = (guint8)g_rand_int_range(rand, 0, (gint32)kinds);
		for (int level = 0; level <= 9; level++) {
			size_t len = ferry_page_deflate(page, level, out);

			/* What a QEMU takes: compressBound(4096). */
			CU_ASSERT(len > 0 && len <= 4110);
			CU_ASSERT_TRUE(ferry_page_inflate(out, len, back, NULL));
			CU_ASSERT_EQUAL(memcmp(page, back, sizeof(page)), 0);
		}
	}
}

static void assert_not_a_page(const guint8 *data, size_t len)
{
	g_autofree guint8 *exact = g_memdup2(data, len);
	g_autofree guint8 *page = g_malloc0(FERRY_PAGE_SIZE);
	g_autoptr(GError) error = NULL;

	CU_ASSERT_FALSE(ferry_page_inflate(exact, len, page, &error));
	CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_STREAM));
}

static void inflate__corrupt__is_refused(void)
{
	/* Half a page, and a page and a byte, of zeros. */
	static const guint8 half[] = { 0x78, 0x9c, 0xed, 0xc1, 0x01, 0x0d, 0x00, 0x00, 0x00, 0xc2,
				       0xa0, 0xf7, 0x4f, 0x6d, 0x0f, 0x07, 0x14, 0x00, 0x00, 0x00,
				       0x00, 0x00, 0x00, 0xc0, 0x9f, 0x01, 0x08, 0x00, 0x00, 0x01 };
	guint8 page[FERRY_PAGE_SIZE], out[FERRY_PAGE_DEFLATED_MAX + 8] = { 0 };
	g_autoptr(GRand) rand = g_rand_new_with_seed(5);
	size_t len;

	fill(page, rand);
	len = ferry_page_deflate(page, 1, out);
	for (size_t cut = 1; cut < len; cut += 101)
		assert_not_a_page(out, cut);
	assert_not_a_page(out, len - 1);
	assert_not_a_page(out, len + 1);
	assert_not_a_page(out, sizeof(out));
	assert_not_a_page(half, sizeof(half));
	out[len / 2] ^= 1;
	assert_not_a_page(out, len);
	out[0] = 0;
	assert_not_a_page(out, len);
}

static void inflate__a_byte_too_many_or_too_few__is_refused(void)
{
	/* A stored block: 0x78 0x01, then 01, length, its complement, the bytes, Adler-32. */
	for (guint size = FERRY_PAGE_SIZE - 1; size <= FERRY_PAGE_SIZE + 1; size++) {
		g_autofree guint8 *page = g_malloc(FERRY_PAGE_SIZE);
		guint8 data[FERRY_PAGE_SIZE + 1 + 11] = { 0x78, 0x01, 0x01 };
		gboolean ok;

		data[3] = (guint8)size;
		data[4] = (guint8)(size >> 8);
		data[5] = (guint8)~size;
		data[6] = (guint8)(~size >> 8);
		/* Of n zeros: the low half is 1, the high half n. */
		data[7 + size] = (guint8)(size >> 8);
		data[8 + size] = (guint8)size;
		data[10 + size] = 1;
		ok = ferry_page_inflate(data, size + 11, page, NULL);
		CU_ASSERT_EQUAL(ok, size == FERRY_PAGE_SIZE);
	}
}

static CU_TestInfo cases[] = {
	CASE(xbzrle__equal_pages__are_nothing),
	CASE(xbzrle__single_byte__wherever_it_is),
	CASE(xbzrle__counts_of_127_and_128__are_one_byte_and_two),
	CASE(xbzrle__short_gap__is_not_worth_a_run),
	CASE(xbzrle__every_byte_changed__does_not_fit),
	CASE(xbzrle__room__is_kept_to_the_byte),
	CASE(xbzrle__random_changes__come_back),
	CASE(xbzrle__counters_of_eight_bytes__fit),
	CASE(xbzrle__corrupt__is_refused),
	CASE(xbzrle__last_byte_of_the_page__can_be_reached),
	CASE(codecs__garbage__never_harms),
	CASE(deflate__every_level_and_content__comes_back),
	CASE(inflate__corrupt__is_refused),
	CASE(inflate__a_byte_too_many_or_too_few__is_refused),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "page codecs", cases);
}
