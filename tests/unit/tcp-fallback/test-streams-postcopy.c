/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>
#include <sys/mman.h>
#include "channels.h"
#include "streams-pair.h"

#define HEADER 33u
#define LANDING_PAGES 64u
#define ODD_PAGES 777u
#define LONG_US (20 * G_TIME_SPAN_SECOND)

/* Memory beside the destination's RAM that pages go into, and what was told of them. */
typedef struct {
	FerryRam ram;
	FerryRamBlock blocks[PAIR_BLOCKS];
	GMutex lock;
	GCond changed;
	guint8 *landed[PAIR_BLOCKS]; /* how often each page did; these all guarded by lock */
	guint64 pages, largest;
	gboolean holds_odd; /* who lands a page of block 2 waits until block 1 has one */
	gboolean overtaken; /* and it came */
} Staging;

static gboolean wanted(gpointer user, const FerryRun *run)
{
	Staging *staging = user;
	gboolean all = TRUE;

	g_mutex_lock(&staging->lock);
	for (guint64 i = run->first; i < run->first + run->pages; i++)
		all &= !staging->landed[run->block][i];
	g_mutex_unlock(&staging->lock);
	return all;
}

static void landed(gpointer user, const FerryRun *run)
{
	Staging *staging = user;
	gint64 end = g_get_monotonic_time() + LONG_US;

	g_mutex_lock(&staging->lock);
	for (guint64 i = run->first; i < run->first + run->pages; i++)
		staging->landed[run->block][i]++;
	staging->pages += run->pages;
	staging->largest = MAX(staging->largest, run->pages);
	g_cond_broadcast(&staging->changed);
	while (staging->holds_odd && run->block == 2 && !staging->overtaken)
		if (!g_cond_wait_until(&staging->changed, &staging->lock, end))
			break;
	staging->overtaken |= run->block == 1;
	g_cond_broadcast(&staging->changed);
	g_mutex_unlock(&staging->lock);
}

static void staging_open(Staging *staging, const Pair *pair)
{
	*staging = (Staging){ .ram = { PAIR_BLOCKS, staging->blocks, 0 } };
	for (guint i = 0; i < PAIR_BLOCKS; i++) {
		FerryRamBlock *block = &staging->blocks[i];

		*block = pair->destination.blocks[i];
		block->host = mmap(NULL, block->size, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		staging->landed[i] = g_malloc0(ferry_ram_block_pages(block));
	}
}

static void staging_close(Staging *staging)
{
	for (guint i = 0; i < PAIR_BLOCKS; i++) {
		munmap(staging->blocks[i].host, staging->blocks[i].size);
		g_free(staging->landed[i]);
	}
	g_mutex_clear(&staging->lock);
	g_cond_clear(&staging->changed);
}

/* Waits until that many pages landed. */
static void await_pages(Staging *staging, guint64 pages)
{
	g_mutex_lock(&staging->lock);
	while (staging->pages < pages)
		g_cond_wait(&staging->changed, &staging->lock);
	g_mutex_unlock(&staging->lock);
}

static gboolean begin(Pair *pair, Staging *staging, GError **error)
{
	FerryCarrier *carrier = pair->destination.carrier;
	const FerryArrivals arrivals = { wanted, landed, staging };

	return carrier->ops->begin_postcopy(carrier, &staging->ram, &arrivals, error);
}

/* Every page of the block has landed as often as this. */
static gboolean all_landed(Staging *staging, guint block, guint8 times)
{
	for (guint64 i = 0; i < ferry_ram_block_pages(&staging->blocks[block]); i++)
		if (staging->landed[block][i] != times)
			return FALSE;
	return TRUE;
}

/* A pair that has had a round of precopy, all of it ones, and goes over to postcopy. */
static gboolean open_switched(Pair *pair, Staging *staging, guint streams)
{
	FerryRun runs[] = { { 0, 0, 1 }, { 1, 0, ODD_PAGES }, { 2, 0, 12345 } };

	pair_open_postcopy(pair, streams);
	staging_open(staging, pair);
	if (!pair_connect(pair))
		return FALSE;
	for (guint i = 0; i < PAIR_BLOCKS; i++)
		memset(pair->source.blocks[i].host, 1, pair->source.blocks[i].size);
	CU_ASSERT_EQUAL(pair_put(pair, runs, PAIR_BLOCKS), FERRY_IO_OK);
	CU_ASSERT_EQUAL(pair_settle(pair, 1), FERRY_IO_OK);
	CU_ASSERT(pair_await_fence(pair, 1));
	CU_ASSERT(pair_same_ram(pair));
	CU_ASSERT(begin(pair, staging, NULL));
	return TRUE;
}

static void close_switched(Pair *pair, Staging *staging)
{
	pair_close(pair);
	staging_close(staging);
}

static gboolean is_all(const FerryRamBlock *block, guint8 byte)
{
	return block->host[0] == byte && !memcmp(block->host, block->host + 1, block->size - 1);
}

static void postcopy__runs__land_in_the_other_ram(void)
{
	FerryRun run = { 1, 0, ODD_PAGES };
	FerryCarrierStats stats;
	Staging staging;
	Pair pair;

	if (open_switched(&pair, &staging, 2)) {
		memset(pair.source.blocks[1].host, 2, pair.source.blocks[1].size);
		CU_ASSERT_EQUAL(pair_put(&pair, &run, 1), FERRY_IO_OK);
		CU_ASSERT_EQUAL(pair_settle(&pair, 2), FERRY_IO_OK);
		CU_ASSERT(pair_await_fence(&pair, 2));
		CU_ASSERT(is_all(&staging.blocks[1], 2));
		CU_ASSERT(is_all(&pair.destination.blocks[1], 1));
		CU_ASSERT(all_landed(&staging, 1, 1));
		CU_ASSERT_EQUAL(staging.pages, ODD_PAGES);
		/* Who waits for the first page of a long run need not wait for its last. */
		CU_ASSERT_EQUAL(staging.largest, LANDING_PAGES);
		pair.destination.carrier->ops->get_stats(pair.destination.carrier, &stats);
		CU_ASSERT_EQUAL(stats.pages, 1 + ODD_PAGES + 12345 + ODD_PAGES);
	}
	close_switched(&pair, &staging);
}

/* The streams of both bulk runs stand still until the urgent page has landed. */
static void postcopy__urgent__overtakes_bulk_that_stands_still(void)
{
	FerryRun bulk = { 2, 0, 4096 }, urgent = { 1, 9, 1 };
	FerryCarrier *source;
	Staging staging;
	Pair pair;

	if (open_switched(&pair, &staging, 2)) {
		source = pair.source.carrier;
		staging.holds_odd = TRUE;
		CU_ASSERT_EQUAL(pair_put(&pair, &bulk, 1), FERRY_IO_OK);
		await_pages(&staging, 2 * LANDING_PAGES);
		CU_ASSERT_EQUAL(source->ops->urgent(source, &urgent), FERRY_IO_OK);
		await_pages(&staging, 2 * LANDING_PAGES + 1);
		CU_ASSERT(!wanted(&staging, &urgent));
		CU_ASSERT_EQUAL(pair_settle(&pair, 2), FERRY_IO_OK);
		CU_ASSERT(pair_await_fence(&pair, 2));
		CU_ASSERT(staging.overtaken);
		CU_ASSERT_EQUAL(staging.pages, 4096 + 1);
	}
	close_switched(&pair, &staging);
}

static gpointer urgent_thread(gpointer user)
{
	FerryCarrier *source = user;
	guint sent = 0;

	for (FerryRun run = { 2, 0, 1 }; run.first < 12000; run.first += 10) {
		FerryIo io;

		while ((io = source->ops->urgent(source, &run)) == FERRY_IO_AGAIN)
			g_thread_yield();
		CU_ASSERT_EQUAL(io, FERRY_IO_OK);
		sent++;
	}
	return GUINT_TO_POINTER(sent);
}

static void postcopy__urgent_beside_put__every_page_once(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(7);
	FerryCarrierStats before, after;
	GThread *thread;
	Staging staging;
	Pair pair;

	if (open_switched(&pair, &staging, 3)) {
		guint32 *words = (guint32 *)pair.source.blocks[2].host;

		for (guint64 i = 0; i < pair.source.blocks[2].size / 4; i++)
			words[i] = g_rand_int(rand);
		pair.source.carrier->ops->get_stats(pair.source.carrier, &before);
		thread = g_thread_new("urgent", urgent_thread, pair.source.carrier);
		for (FerryRun run = { 2, 1, 9 }; run.first < 12000; run.first += 10)
			CU_ASSERT_EQUAL(pair_put(&pair, &run, 1), FERRY_IO_OK);
		CU_ASSERT_EQUAL(GPOINTER_TO_UINT(g_thread_join(thread)), 1200);
		CU_ASSERT_EQUAL(pair_put(&pair, &(FerryRun){ 2, 12000, 345 }, 1), FERRY_IO_OK);
		CU_ASSERT_EQUAL(pair_settle(&pair, 2), FERRY_IO_OK);
		CU_ASSERT(pair_await_fence(&pair, 2));
		CU_ASSERT(all_landed(&staging, 2, 1));
		CU_ASSERT(!memcmp(words, staging.blocks[2].host, staging.blocks[2].size));
		pair.source.carrier->ops->get_stats(pair.source.carrier, &after);
		CU_ASSERT_EQUAL(after.pages - before.pages, 12345);
		CU_ASSERT_EQUAL(pair.destination.died, 0);
	}
	close_switched(&pair, &staging);
}

static void check_described(FerryCarrier *carrier, gboolean urgent, guint64 pages)
{
	g_autoptr(GVariant) all = g_variant_ref_sink(carrier->ops->describe(carrier));
	guint64 told_pages = 77;
	gboolean told = !urgent;
	guint32 streams = 0;

	CU_ASSERT(g_variant_lookup(all, "streams", "u", &streams) && streams == 2);
	CU_ASSERT(g_variant_lookup(all, "urgent-stream", "b", &told) && told == urgent);
	CU_ASSERT(g_variant_lookup(all, "urgent-pages", "t", &told_pages) && told_pages == pages);
}

static void postcopy__describe__tells_of_the_urgent_stream(void)
{
	FerryRun run = { 1, 9, 5 };
	FerryCarrier *source;
	Staging staging;
	Pair pair;

	if (open_switched(&pair, &staging, 2)) {
		source = pair.source.carrier;
		CU_ASSERT_EQUAL(source->ops->urgent(source, &run), FERRY_IO_OK);
		await_pages(&staging, 5);
		CU_ASSERT_EQUAL(pair_settle(&pair, 2), FERRY_IO_OK);
		CU_ASSERT(pair_await_fence(&pair, 2));
		check_described(source, TRUE, 5);
		check_described(pair.destination.carrier, TRUE, 5);
	}
	close_switched(&pair, &staging);
	pair_open(&pair, 2, NULL);
	if (pair_connect(&pair)) {
		CU_ASSERT_EQUAL(pair_settle(&pair, 1), FERRY_IO_OK);
		CU_ASSERT(pair_await_fence(&pair, 1));
		check_described(pair.source.carrier, FALSE, 0);
		check_described(pair.destination.carrier, FALSE, 0);
	}
	pair_close(&pair);
}

static void postcopy__source_dies__told_by_name(void)
{
	Staging staging;
	Pair pair;

	if (open_switched(&pair, &staging, 2)) {
		g_clear_pointer(&pair.source.carrier, ferry_carrier_close);
		while (!g_atomic_int_get(&pair.destination.died))
			g_thread_yield();
		pair_check_destination_dead(&pair, 2, FERRY_ERROR_LINK, "the source closed");
		CU_ASSERT_EQUAL(pair.destination.died, 1);
	}
	close_switched(&pair, &staging);
}

/* ---- a source of the test's own: one stream, and the urgent one ---- */

static guint8 page[FERRY_PAGE_SIZE];

typedef struct {
	Pair pair;
	Staging staging;
	int bulk, urgent;
} Raw;

static void raw_open(Raw *raw)
{
	static const guint8 offer[] = { 0, 0, 0, 1, 0, 0, 0, 1 };
	FerryCarrier *carrier;

	pair_open_postcopy(&raw->pair, 1);
	staging_open(&raw->staging, &raw->pair);
	carrier = raw->pair.destination.carrier;
	raw->pair.destination.swallow = 1;
	CU_ASSERT(carrier->ops->hear(carrier, FERRY_RECORD_STREAMS_OFFER, offer, sizeof(offer),
				     NULL));
	/* In whichever order they come. */
	raw->urgent = pair_raw_stream(&raw->pair, 1);
	raw->bulk = pair_raw_stream(&raw->pair, 0);
}

static void raw_close(Raw *raw)
{
	close(raw->bulk);
	close(raw->urgent);
	close_switched(&raw->pair, &raw->staging);
}

static void raw_begin(Raw *raw)
{
	CU_ASSERT(begin(&raw->pair, &raw->staging, NULL));
}

/* Waits until the destination has read that many bytes behind the greetings. */
static void await_bytes(Raw *raw, guint64 bytes)
{
	FerryCarrier *carrier = raw->pair.destination.carrier;
	FerryCarrierStats stats;

	do
		carrier->ops->get_stats(carrier, &stats);
	while (stats.bytes < 2 * FERRY_STREAMS_GREETING_SIZE + bytes);
}

static void await_death(Raw *raw, int code, const char *text)
{
	while (!g_atomic_int_get(&raw->pair.destination.died))
		g_thread_yield();
	pair_check_destination_dead(&raw->pair, 9, code, text);
	CU_ASSERT_EQUAL(raw->pair.destination.died, 1);
}

static void postcopy__page_comes_twice__refused_by_name(void)
{
	static const struct {
		guint64 first, pages;
		const char *text;
	} rows[] = {
		{ 5, 1, "stream 0, tcp:127.0.0.1:" },
		{ 5, 1, "page 5 of block 'odd' came a second time" },
		{ 3, 4, "page 5 of block 'odd' came a second time" },
		{ 0, 6, "page 5 of block 'odd' came a second time" },
		{ 5, 700, "page 5 of block 'odd' came a second time" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autofree guint8 *bytes = g_malloc(rows[i].pages * FERRY_PAGE_SIZE);
		Raw raw;

		raw_open(&raw);
		raw_begin(&raw);
		raw_pages(raw.urgent, FERRY_RECORD_PAGES, 1, 5, 1);
		raw_send(raw.urgent, page, sizeof(page));
		await_pages(&raw.staging, 1);
		memset(bytes, 9, rows[i].pages * FERRY_PAGE_SIZE);
		raw_pages(raw.bulk, FERRY_RECORD_PAGES, 1, rows[i].first, rows[i].pages);
		/* It may be gone before all of it was sent. */
		(void)!send(raw.bulk, bytes, rows[i].pages * FERRY_PAGE_SIZE,
			    MSG_NOSIGNAL | MSG_DONTWAIT);
		await_death(&raw, FERRY_ERROR_PEER, rows[i].text);
		CU_ASSERT(is_all(&raw.staging.blocks[1], 0));
		raw_close(&raw);
	}
}

/* Not there yet, but on its way in another stream. */
static void postcopy__page_in_two_streams_at_once__refused_by_name(void)
{
	Raw raw;

	raw_open(&raw);
	raw_begin(&raw);
	raw_pages(raw.bulk, FERRY_RECORD_PAGES, 1, 100, 200);
	for (guint i = 0; i < LANDING_PAGES; i++)
		raw_send(raw.bulk, page, sizeof(page));
	await_pages(&raw.staging, LANDING_PAGES);
	/* Its neighbours, and the same pages of another block, are nothing to it. */
	raw_pages(raw.urgent, FERRY_RECORD_PAGES, 1, 99, 1);
	raw_send(raw.urgent, page, sizeof(page));
	raw_pages(raw.urgent, FERRY_RECORD_PAGES, 1, 300, 1);
	raw_send(raw.urgent, page, sizeof(page));
	raw_pages(raw.urgent, FERRY_RECORD_PAGES, 2, 299, 1);
	raw_send(raw.urgent, page, sizeof(page));
	await_pages(&raw.staging, LANDING_PAGES + 3);
	raw_pages(raw.urgent, FERRY_RECORD_PAGES, 1, 299, 2);
	await_death(&raw, FERRY_ERROR_PEER,
		    "page 299 of block 'odd' came a second time, and the guest may have");
	raw_close(&raw);
}

static void postcopy__hostile_records__refused(void)
{
	static const struct {
		guint16 type;
		guint32 block;
		guint64 first, pages;
		const char *text;
	} rows[] = {
		{ FERRY_RECORD_PAGES, PAIR_BLOCKS, 0, 1, "block 3 of 3" },
		{ FERRY_RECORD_PAGES, 1, ODD_PAGES, 1, "block 'odd' has 777" },
		{ FERRY_RECORD_PAGES, 1, G_MAXUINT64, 2, "block 'odd' has 777" },
		{ FERRY_RECORD_PAGES, 2, 0, 4097, "at most 4096" },
		{ FERRY_RECORD_PAGES, 0, 0, 0, "block 'bios' has 1" },
		{ FERRY_RECORD_ZERO_PAGES, 1, 0, 1, "0x0101 does not belong" },
		{ FERRY_RECORD_STREAMS_OFFER, 1, 0, 1, "0x0120 does not belong" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
		Raw raw;

		raw_open(&raw);
		raw_begin(&raw);
		raw_pages(raw.urgent, rows[i].type, rows[i].block, rows[i].first, rows[i].pages);
		await_death(&raw, FERRY_ERROR_PEER, rows[i].text);
		CU_ASSERT_EQUAL(raw.staging.pages, 0);
		raw_close(&raw);
	}
}

/* A run that goes on while the guest runs would write where nobody looks any more. */
static void postcopy__begins_in_mid_run__refused_by_name(void)
{
	g_autoptr(GError) error = NULL;
	Raw raw;

	raw_open(&raw);
	raw_fence(raw.bulk, 1);
	raw_fence(raw.urgent, 1);
	CU_ASSERT(pair_await_fence(&raw.pair, 1));
	raw_pages(raw.bulk, FERRY_RECORD_PAGES, 1, 70, 2);
	await_bytes(&raw, 2 * FERRY_STREAMS_FENCE_SIZE + HEADER);
	raw_send(raw.bulk, page, sizeof(page));
	await_bytes(&raw, 2 * FERRY_STREAMS_FENCE_SIZE + HEADER + sizeof(page));
	CU_ASSERT(!begin(&raw.pair, &raw.staging, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_PEER, "page 70 of block 'odd' came behind the last"));
	CU_ASSERT_EQUAL(raw.staging.pages, 0);
	raw_close(&raw);
}

static void postcopy__begins_when_dead__the_reason(void)
{
	g_autoptr(GError) error = NULL, taken = NULL;
	FerryCarrier *carrier;
	Raw raw;

	raw_open(&raw);
	carrier = raw.pair.destination.carrier;
	shutdown(raw.urgent, SHUT_WR);
	CU_ASSERT(!carrier->ops->await_fence(carrier, 1, NULL));
	CU_ASSERT(!begin(&raw.pair, &raw.staging, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_LINK, "urgent stream, tcp:127.0.0.1:"));
	taken = carrier->ops->take_error(carrier);
	CU_ASSERT(is_error(taken, FERRY_ERROR_LINK, "urgent stream, tcp:127.0.0.1:"));
	raw_close(&raw);
}

static void postcopy__urgent_stream_dies__told_by_name(void)
{
	Raw raw;

	/* No record came in any stream: on a new connection after a pause it is so. */
	raw_open(&raw);
	raw_begin(&raw);
	shutdown(raw.urgent, SHUT_WR);
	await_death(&raw, FERRY_ERROR_LINK, "urgent stream, tcp:127.0.0.1:");
	raw_close(&raw);
	/* in mid-page: it did not land */
	raw_open(&raw);
	raw_begin(&raw);
	raw_pages(raw.urgent, FERRY_RECORD_PAGES, 1, 70, 1);
	raw_send(raw.urgent, page, 4095);
	shutdown(raw.urgent, SHUT_WR);
	await_death(&raw, FERRY_ERROR_LINK, "urgent stream, tcp:127.0.0.1:");
	CU_ASSERT_EQUAL(raw.staging.pages, 0);
	raw_close(&raw);
}

static void await_in_thread(gpointer user)
{
	CU_ASSERT(pair_await_fence(user, 1));
}

/* The fence of the urgent stream counts, and holds what comes behind it. */
static void postcopy__fence__awaits_the_urgent_stream(void)
{
	guint8 *host;
	Sleeper sleeper;
	Raw raw;

	raw_open(&raw);
	host = raw.pair.destination.blocks[1].host + 5 * FERRY_PAGE_SIZE;
	raw_fence(raw.bulk, 1);
	await_bytes(&raw, FERRY_STREAMS_FENCE_SIZE);
	sleeper_start(&sleeper, await_in_thread, &raw.pair);
	sleeper_wait_asleep(&sleeper);
	memset(page, 1, sizeof(page));
	raw_pages(raw.urgent, FERRY_RECORD_PAGES, 1, 5, 1);
	raw_send(raw.urgent, page, sizeof(page));
	raw_fence(raw.urgent, 1);
	sleeper_join(&sleeper, 0);
	CU_ASSERT_EQUAL(host[0], 1);
	/* Now the urgent one is ahead, with the page of the next round. */
	memset(page, 2, sizeof(page));
	raw_fence(raw.urgent, 2);
	raw_pages(raw.urgent, FERRY_RECORD_PAGES, 1, 5, 1);
	raw_send(raw.urgent, page, sizeof(page));
	raw_fence(raw.urgent, 3);
	memset(page, 3, sizeof(page));
	raw_pages(raw.bulk, FERRY_RECORD_PAGES, 1, 5, 1);
	raw_send(raw.bulk, page, sizeof(page));
	raw_fence(raw.bulk, 2);
	raw_fence(raw.bulk, 3);
	CU_ASSERT(pair_await_fence(&raw.pair, 2));
	CU_ASSERT(pair_await_fence(&raw.pair, 3));
	CU_ASSERT_EQUAL(host[0], 2);
	memset(page, 0, sizeof(page));
	raw_close(&raw);
}

static void postcopy__fence_of_the_urgent_stream_is_another__refused_by_name(void)
{
	g_autoptr(GError) error = NULL;
	FerryCarrier *carrier;
	Raw raw;

	raw_open(&raw);
	carrier = raw.pair.destination.carrier;
	raw_fence(raw.urgent, 2);
	CU_ASSERT(!carrier->ops->await_fence(carrier, 1, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_PEER, "urgent stream: brought fence 2 where 1"));
	raw_close(&raw);
}

static void postcopy__quiesced_in_any_state__nothing_lands_and_nobody_is_told(void)
{
	/* in mid-run, at a fence, and before anything came */
	for (guint i = 0; i < 3; i++) {
		FerryCarrier *carrier;
		guint64 pages;
		Raw raw;

		raw_open(&raw);
		carrier = raw.pair.destination.carrier;
		raw_begin(&raw);
		if (i == 0) {
			raw_pages(raw.urgent, FERRY_RECORD_PAGES, 2, 0, 200);
			for (guint n = 0; n < LANDING_PAGES; n++)
				raw_send(raw.urgent, page, sizeof(page));
			await_pages(&raw.staging, LANDING_PAGES);
		} else if (i == 1) {
			raw_fence(raw.urgent, 1);
			await_bytes(&raw, FERRY_STREAMS_FENCE_SIZE);
		}
		carrier->ops->quiesce(carrier);
		pages = raw.staging.pages;
		CU_ASSERT(raw_is_closed(raw.bulk) && raw_is_closed(raw.urgent));
		CU_ASSERT_EQUAL(raw.staging.pages, pages);
		CU_ASSERT_EQUAL(raw.pair.destination.died, 0);
		carrier->ops->quiesce(carrier);
		raw_close(&raw);
	}
}

static CU_TestInfo cases[] = {
	CASE(postcopy__runs__land_in_the_other_ram),
	CASE(postcopy__urgent__overtakes_bulk_that_stands_still),
	CASE(postcopy__urgent_beside_put__every_page_once),
	CASE(postcopy__describe__tells_of_the_urgent_stream),
	CASE(postcopy__source_dies__told_by_name),
	CASE(postcopy__page_comes_twice__refused_by_name),
	CASE(postcopy__page_in_two_streams_at_once__refused_by_name),
	CASE(postcopy__hostile_records__refused),
	CASE(postcopy__begins_in_mid_run__refused_by_name),
	CASE(postcopy__begins_when_dead__the_reason),
	CASE(postcopy__urgent_stream_dies__told_by_name),
	CASE(postcopy__fence__awaits_the_urgent_stream),
	CASE(postcopy__fence_of_the_urgent_stream_is_another__refused_by_name),
	CASE(postcopy__quiesced_in_any_state__nothing_lands_and_nobody_is_told),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "streams-postcopy", cases);
}
