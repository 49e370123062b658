/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a hostile destination may ask for in postcopy: random bytes and bent requests. Whatever
 * is accepted lies inside the RAM and is aligned, since pages are then read there.
 */
#include "harness.h"
#include <string.h>

#include "engine/page-requests.h"
#include <ferry/bytes.h>

#define MIB (1ull << 20)
#define MESSAGES 200000u
#define LONGEST 300u

static const struct {
	const char *name;
	guint64 size;
	guint64 page_size;
} blocks[] = {
	{ "ram", 3 * MIB, FERRY_PAGE_SIZE },
	{ "huge", 8 * MIB, 2 * MIB },
	{ "r", FERRY_PAGE_SIZE, FERRY_PAGE_SIZE },
};

static FerryRam *ram_new(void)
{
	FerryRam *ram = ferry_ram_new();

	for (guint i = 0; i < G_N_ELEMENTS(blocks); i++)
		CU_ASSERT(ferry_ram_add(ram, blocks[i].name, (void *)(64 * MIB * (i + 1)),
					blocks[i].size, blocks[i].page_size, -1, 0, NULL));
	return ram;
}

/* Empties the queue in bites of any size; whether every bite was right. */
static gboolean check_accepted(FerryPageRequests *requests, const FerryRam *ram, GRand *rand,
			       guint64 *pages)
{
	gboolean right = TRUE, first = TRUE;
	FerryRun run;

	while (ferry_page_requests_take(requests, 1 + g_rand_int_range(rand, 0, 700), &run)) {
		const FerryRamBlock *block = &ram->blocks[MIN(run.block, ram->n_blocks - 1)];
		guint64 in_block = ferry_ram_block_pages(block);

		right = right && run.block < ram->n_blocks && run.pages && run.first < in_block &&
			run.pages <= in_block - run.first &&
			(!first || run.first % (block->page_size / FERRY_PAGE_SIZE) == 0);
		*pages += run.pages;
		first = FALSE;
	}
	return right;
}

/* A valid one as often as not, to bend. */
static size_t compose(GRand *rand, guint8 *data, gboolean *with_name)
{
	guint i = g_rand_int_range(rand, 0, G_N_ELEMENTS(blocks));
	guint64 pages = blocks[i].size / blocks[i].page_size;
	size_t name_len = strlen(blocks[i].name);

	*with_name = g_rand_boolean(rand);
	ferry_store_be64(data, g_rand_int_range(rand, 0, pages) * blocks[i].page_size);
	ferry_store_be32(data + 8, blocks[i].page_size * g_rand_int_range(rand, 1, 3));
	data[12] = name_len;
	memcpy(data + 13, blocks[i].name, name_len);
	return *with_name ? 13 + name_len : 12;
}

static size_t bend(GRand *rand, guint8 *data, size_t len)
{
	for (guint n = g_rand_int_range(rand, 0, 4); n; n--)
		data[g_rand_int_range(rand, 0, len)] ^= 1 << g_rand_int_range(rand, 0, 8);
	if (g_rand_int_range(rand, 0, 4))
		return len;
	return g_rand_int_range(rand, 0, len + 2);
}

static size_t random_bytes(GRand *rand, guint8 *data, gboolean *with_name)
{
	size_t len = g_rand_int_range(rand, 0, LONGEST);

	for (size_t i = 0; i < len; i++)
		data[i] = g_rand_int(rand);
	*with_name = g_rand_boolean(rand);
	return len;
}

static void requests__random_and_bent__accepted_ones_are_within_the_ram(void)
{
	g_autoptr(FerryRam) ram = ram_new();
	g_autoptr(FerryPageRequests) requests = ferry_page_requests_new(ram, NULL, NULL);
	g_autoptr(GRand) rand = g_rand_new_with_seed(40);
	guint accepted = 0, refused = 0, wrong = 0;
	guint64 pages = 0;

	for (guint i = 0; i < MESSAGES; i++) {
		guint8 data[LONGEST + 1] = { 0 };
		g_autoptr(GError) error = NULL;
		g_autofree guint8 *exact = NULL;
		gboolean with_name, ok;
		size_t len;

		len = i % 4 ? compose(rand, data, &with_name)
			    : random_bytes(rand, data, &with_name);
		if (i % 4)
			len = bend(rand, data, len);
		/* Memory of its own length: a sanitizer sees one byte too many. */
		exact = g_memdup2(data, len);
		ok = ferry_page_requests_put(requests, with_name, exact, len, &error);
		accepted += ok;
		refused += !ok;
		wrong += !ok && (!g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER) ||
				 !g_utf8_validate(error->message, -1, NULL));
		wrong += !check_accepted(requests, ram, rand, &pages);
		if (i % 1000 == 999)
			ferry_page_requests_clear(requests);
	}
	printf("# %u accepted with %" G_GUINT64_FORMAT " pages, %u refused\n", accepted, pages,
	       refused);
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT(accepted > MESSAGES / 20 && refused > MESSAGES / 20);
	CU_ASSERT_EQUAL(ferry_page_requests_count(requests), accepted);
}

/* Nothing is taken: what waits stays bounded by the RAM. */
static void requests__flood__waits_no_longer_than_the_ram(void)
{
	g_autoptr(FerryRam) ram = ram_new();
	g_autoptr(FerryPageRequests) requests = ferry_page_requests_new(ram, NULL, NULL);
	g_autoptr(GRand) rand = g_rand_new_with_seed(41);

	for (guint i = 0; i < MESSAGES; i++) {
		guint8 data[LONGEST];
		gboolean with_name;
		size_t len = compose(rand, data, &with_name);

		ferry_page_requests_put(requests, with_name, data, len, NULL);
	}
	CU_ASSERT_EQUAL(ferry_page_requests_count(requests), ram->total >> FERRY_PAGE_SHIFT);
}

static CU_TestInfo cases[] = {
	CASE(requests__random_and_bent__accepted_ones_are_within_the_ram),
	CASE(requests__flood__waits_no_longer_than_the_ram),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "hostile requests for pages", cases);
}
