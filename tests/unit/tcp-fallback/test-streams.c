/* SPDX-License-Identifier: BSD-2-Clause */
#include <golden.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include "channels.h"
#include "streams-pair.h"

#define ROUNDS 6u
#define RUNS 400u

static void fill(const FerryRam *ram, const FerryRun *run, GRand *rand)
{
	guint32 *words = (guint32 *)ferry_run_host(ram, run);
	guint32 value = g_rand_int(rand);

	for (guint64 i = 0; i < ferry_run_bytes(run) / 4; i++)
		words[i] = value += 2654435761u;
}

/* Runs that do not overlap, of one page to what one stream takes several of, with gaps between. */
static size_t make_runs(const FerryRam *ram, FerryRun *runs, GRand *rand)
{
	size_t n = 0;

	for (guint block = 0; block < ram->n_blocks; block++) {
		guint64 pages = ferry_ram_block_pages(&ram->blocks[block]);
		guint64 at = block && g_rand_boolean(rand) ? (guint64)g_rand_int_range(rand, 0, 5)
							   : 0;

		while (at < pages && n < RUNS) {
			gboolean large = g_rand_int_range(rand, 0, 20) == 0;
			guint64 want = (guint64)g_rand_int_range(rand, 1, large ? 3000 : 4);
			FerryRun run = { block, at, MIN(want, pages - at) };

			fill(ram, &run, rand);
			runs[n++] = run;
			at += run.pages + (guint64)g_rand_int_range(rand, 0, 20);
		}
	}
	return n;
}

static guint64 total_pages(const FerryRun *runs, size_t n)
{
	guint64 pages = 0;

	for (size_t i = 0; i < n; i++)
		pages += runs[i].pages;
	return pages;
}

static void check_rounds(guint streams)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(20261123 + streams);
	FerryCarrierStats sent, received;
	FerryRun runs[RUNS];
	guint64 pages = 0, frames;
	gboolean same;
	Pair pair;

	pair_open(&pair, streams, NULL);
	same = pair_connect(&pair);
	for (guint32 round = 1; same && round <= ROUNDS; round++) {
		size_t n = make_runs(&pair.source.ram, runs, rand);

		pages += total_pages(runs, n);
		CU_ASSERT_EQUAL(pair_put(&pair, runs, n), FERRY_IO_OK);
		CU_ASSERT_EQUAL(pair_settle(&pair, round), FERRY_IO_OK);
		CU_ASSERT(pair_await_fence(&pair, round));
		same = pair_same_ram(&pair);
		CU_ASSERT(same);
	}
	pair.source.carrier->ops->get_stats(pair.source.carrier, &sent);
	pair.destination.carrier->ops->get_stats(pair.destination.carrier, &received);
	CU_ASSERT_EQUAL(sent.pages, pages);
	CU_ASSERT_EQUAL(received.pages, pages);
	CU_ASSERT_EQUAL(sent.bytes, received.bytes);
	frames = sent.bytes - pages * FERRY_PAGE_SIZE -
		 streams * (FERRY_STREAMS_GREETING_SIZE + ROUNDS * FERRY_STREAMS_FENCE_SIZE);
	CU_ASSERT(frames >= 33 && frames % 33 == 0);
	pair_close(&pair);
}

static void streams__rounds_over_odd_blocks__same_ram_at_each_fence(void)
{
	check_rounds(1);
	check_rounds(2);
	check_rounds(4);
	check_rounds(FERRY_STREAMS_MAX);
}

static void cork(int fd, int on)
{
	CU_ASSERT_EQUAL(setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on)), 0);
}

/* A page of round 1 that comes late in one stream, and the same page of round 2 early in another:
 * the later round wins. */
static void streams__one_ahead_of_the_others__waits_at_the_fence(void)
{
	guint8 old[FERRY_PAGE_SIZE], new[FERRY_PAGE_SIZE];
	FerryCarrierStats stats;
	int fds[2];
	Pair pair;

	memset(old, 1, sizeof(old));
	memset(new, 2, sizeof(new));
	pair_open(&pair, 1, NULL);
	pair.destination.swallow = 1;
	ferry_store_be32(old, 2);
	CU_ASSERT(pair.destination.carrier->ops->hear(pair.destination.carrier,
						      FERRY_RECORD_STREAMS_OFFER, old, 4, NULL));
	fds[0] = pair_raw_stream(&pair, 0);
	fds[1] = pair_raw_stream(&pair, 1);
	/* In one segment: else the reader stands at the first fence, and reads no more. */
	cork(fds[0], 1);
	raw_fence(fds[0], 1);
	raw_pages(fds[0], FERRY_RECORD_PAGES, 1, 5, 1);
	raw_send(fds[0], new, sizeof(new));
	raw_fence(fds[0], 2);
	cork(fds[0], 0);
	/* All of it is in the reader's hands before the other begins. */
	do
		pair.destination.carrier->ops->get_stats(pair.destination.carrier, &stats);
	while (stats.bytes < 2 * FERRY_STREAMS_GREETING_SIZE + 2 * FERRY_STREAMS_FENCE_SIZE + 33 +
				     FERRY_PAGE_SIZE);
	raw_pages(fds[1], FERRY_RECORD_PAGES, 1, 5, 1);
	raw_send(fds[1], old, sizeof(old));
	raw_fence(fds[1], 1);
	raw_fence(fds[1], 2);
	CU_ASSERT(pair_await_fence(&pair, 1));
	CU_ASSERT(pair_await_fence(&pair, 2));
	CU_ASSERT(!memcmp(pair.destination.blocks[1].host + 5 * FERRY_PAGE_SIZE, new, sizeof(new)));
	close(fds[0]);
	close(fds[1]);
	pair_close(&pair);
}

static void streams__offer_finds_no_room__said_again(void)
{
	Pair pair;

	pair_open(&pair, 3, NULL);
	pair.source.no_room = 3;
	pair.destination.no_room = 2;
	pair_connect(&pair);
	CU_ASSERT_EQUAL(pair.source.says, 4);
	CU_ASSERT_EQUAL(pair.destination.says, 3);
	CU_ASSERT_EQUAL(pair.source.said_type, FERRY_RECORD_STREAMS_OFFER);
	CU_ASSERT_EQUAL(ferry_load_be32(pair.destination.said->data), 3);
	pair_close(&pair);
}

static void streams__describe__names_each_stream(void)
{
	FerryRun run = { 2, 0, 1000 };
	Pair pair;

	pair_open(&pair, 2, NULL);
	if (pair_connect(&pair)) {
		Side *sides[] = { &pair.source, &pair.destination };

		pair_put(&pair, &run, 1);
		pair_settle(&pair, 1);
		pair_await_fence(&pair, 1);
		for (guint i = 0; i < 2; i++) {
			FerryCarrier *carrier = sides[i]->carrier;
			g_autoptr(GVariant)
				all = g_variant_ref_sink(carrier->ops->describe(carrier));
			g_autoptr(GVariant) each = g_variant_lookup_value(all, "stream-bytes",
									  G_VARIANT_TYPE("at"));
			FerryCarrierStats stats;
			guint64 first, second;

			carrier->ops->get_stats(carrier, &stats);
			CU_ASSERT_EQUAL(g_variant_n_children(each), 2);
			g_variant_get_child(each, 0, "t", &first);
			g_variant_get_child(each, 1, "t", &second);
			CU_ASSERT_EQUAL(first + second, stats.bytes);
			CU_ASSERT(first > 100 * FERRY_PAGE_SIZE && second > 100 * FERRY_PAGE_SIZE);
		}
	}
	pair_close(&pair);
}

static void streams__strangers_at_the_port__shown_out(void)
{
	guint8 greeting[FERRY_STREAMS_GREETING_SIZE];
	int silent, short_of_one, garbage, other_session, other_index;
	FerryRun run = { 1, 0, 777 };
	Pair pair;

	pair_open(&pair, 2, NULL);
	silent = pair_raw(&pair);
	short_of_one = pair_raw(&pair);
	garbage = pair_raw(&pair);
	other_session = pair_raw(&pair);
	other_index = pair_raw(&pair);
	memset(greeting, 0x51, sizeof(greeting));
	raw_send(garbage, greeting, sizeof(greeting));
	ferry_streams_put_greeting(greeting, &(FerryStreamsGreeting){ { 1 }, 0 });
	raw_send(other_session, greeting, sizeof(greeting));
	memcpy(greeting + 8, pair_nonce, FERRY_NONCE_SIZE);
	raw_send(short_of_one, greeting, sizeof(greeting) - 1);
	ferry_store_be32(greeting + 24, 2);
	raw_send(other_index, greeting, sizeof(greeting));
	if (pair_connect(&pair)) {
		CU_ASSERT(raw_is_closed(silent) && raw_is_closed(short_of_one));
		CU_ASSERT(raw_is_closed(garbage) && raw_is_closed(other_session));
		CU_ASSERT(raw_is_closed(other_index));
		memset(pair.source.blocks[1].host, 7, pair.source.blocks[1].size);
		pair_put(&pair, &run, 1);
		CU_ASSERT_EQUAL(pair_settle(&pair, 1), FERRY_IO_OK);
		CU_ASSERT(pair_await_fence(&pair, 1));
		CU_ASSERT(pair_same_ram(&pair));
	}
	close(silent);
	close(short_of_one);
	close(garbage);
	close(other_session);
	close(other_index);
	pair_close(&pair);
}

static void put_terms(GByteArray *out, guint16 type, FerryStreamsTerms terms)
{
	guint8 payload[FERRY_STREAMS_TERMS_MAX];
	size_t len = ferry_streams_put_terms(payload, &terms);

	ferry_put_record_header(out, type, 0, (guint32)len);
	g_byte_array_append(out, payload, (guint)len);
}

static gboolean write_example(const char *name, GByteArray *out)
{
	guint8 greeting[FERRY_STREAMS_GREETING_SIZE], fence[FERRY_STREAMS_FENCE_SIZE];
	FerryStreamsGreeting example = { .index = 3 };

	if (g_str_equal(name, "greeting 3")) {
		memcpy(example.nonce, pair_nonce, FERRY_NONCE_SIZE);
		ferry_streams_put_greeting(greeting, &example);
		g_byte_array_append(out, greeting, sizeof(greeting));
	} else if (g_str_equal(name, "STREAMS_FENCE 3")) {
		ferry_streams_put_fence(fence, 3);
		g_byte_array_append(out, fence, sizeof(fence));
	} else if (g_str_equal(name, "STREAMS_OFFER 4")) {
		put_terms(out, FERRY_RECORD_STREAMS_OFFER, (FerryStreamsTerms){ 4, 0 });
	} else if (g_str_equal(name, "STREAMS_ANSWER 2")) {
		put_terms(out, FERRY_RECORD_STREAMS_ANSWER, (FerryStreamsTerms){ 2, 0 });
	} else if (g_str_equal(name, "OFFER 4, urgent")) {
		put_terms(out, FERRY_RECORD_STREAMS_OFFER,
			  (FerryStreamsTerms){ 4, FERRY_STREAMS_URGENT });
	} else {
		/* A text: a carrier hands it to whoever writes records. */
		return FALSE;
	}
	return TRUE;
}

static void streams__examples_of_protocol_md__same_bytes(void)
{
	CU_ASSERT_EQUAL(golden_compare("STREAMS_OFFER 4", write_example), 5);
}

static CU_TestInfo cases[] = {
	CASE(streams__rounds_over_odd_blocks__same_ram_at_each_fence),
	CASE(streams__one_ahead_of_the_others__waits_at_the_fence),
	CASE(streams__offer_finds_no_room__said_again),
	CASE(streams__describe__names_each_stream),
	CASE(streams__strangers_at_the_port__shown_out),
	CASE(streams__examples_of_protocol_md__same_bytes),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "streams", cases);
}
