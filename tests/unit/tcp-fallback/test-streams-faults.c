/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>
#include "channels.h"
#include "streams-pair.h"

#define WAKE_MS 100

/* ---- connecting ---- */

static void check_share_fails(Pair *pair, int code, const char *text)
{
	g_autoptr(GError) error = NULL;
	FerryCarrier *carrier = pair->source.carrier;
	FerryCarrierStats stats;

	CU_ASSERT(!carrier->ops->share_ram(carrier, &pair->source.ram, &error));
	CU_ASSERT(is_error(error, code, text));
	carrier->ops->get_stats(carrier, &stats);
	CU_ASSERT_EQUAL(stats.bytes, 0);
	/* Nothing was under way: the destination need not fail over it. */
	CU_ASSERT_EQUAL(pair->destination.died, 0);
}

static void streams__port_refuses__named(void)
{
	g_autoptr(FerryListener) gone = listen_on("tcp:127.0.0.1:0", NULL);
	g_autofree char *uri = g_strdup(gone->uri);
	Pair pair;

	g_clear_pointer(&gone, ferry_listener_close);
	pair_open(&pair, 4, uri);
	check_share_fails(&pair, FERRY_ERROR_LINK, "Connection refused");
	pair_close(&pair);
}

static void streams__destination_refuses__its_reason(void)
{
	FerryCarrier *source;
	Pair pair;

	pair_open(&pair, 4, NULL);
	source = pair.source.carrier;
	pair.source.swallow = 1;
	CU_ASSERT(source->ops->hear(source, FERRY_RECORD_STREAMS_REFUSE, (guint8 *)"no thr\xff", 7,
				    NULL));
	check_share_fails(&pair, FERRY_ERROR_NOSUPP, "refuses parallel streams: no thr");
	pair_close(&pair);
}

static void check_heard(Side *side, guint16 type, guint32 number, size_t len, const char *text)
{
	g_autoptr(GError) error = NULL;
	guint8 payload[8] = { 0 };

	ferry_store_be32(payload, number);
	CU_ASSERT(!side->carrier->ops->hear(side->carrier, type, payload, len, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_PEER, text));
}

static void streams__hostile_records__refused(void)
{
	Pair pair;

	pair_open(&pair, 4, NULL);
	check_heard(&pair.source, FERRY_RECORD_STREAMS_ANSWER, 4, 4, "without an offer");
	check_heard(&pair.source, FERRY_RECORD_STREAMS_OFFER, 4, 4, "0x0120");
	check_heard(&pair.destination, FERRY_RECORD_STREAMS_OFFER, 0, 4, "STREAMS_OFFER: 0 is not");
	check_heard(&pair.destination, FERRY_RECORD_STREAMS_OFFER, 1, 5, "5 bytes");
	check_heard(&pair.destination, FERRY_RECORD_STREAMS_FENCE, 1, 4, "0x0123");
	if (pair_connect(&pair)) {
		check_heard(&pair.source, FERRY_RECORD_STREAMS_ANSWER, 4, 4, "or again");
		check_heard(&pair.source, FERRY_RECORD_STREAMS_ANSWER, 5, 4, "not from 1 to 4");
		check_heard(&pair.destination, FERRY_RECORD_STREAMS_OFFER, 1, 4, "came again");
	}
	pair_close(&pair);
}

static void share_in_thread(gpointer user)
{
	Pair *pair = user;
	g_autoptr(GError) error = NULL;
	FerryCarrier *carrier = pair->source.carrier;

	CU_ASSERT(!carrier->ops->share_ram(carrier, &pair->source.ram, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_CANCELLED, "cancelled"));
}

static void check_cancel(Pair *pair)
{
	Sleeper sleeper;
	gint64 since;
	double ms;

	sleeper_start(&sleeper, share_in_thread, pair);
	sleeper_wait_asleep(&sleeper);
	since = g_get_monotonic_time();
	g_cancellable_cancel(pair->cancellable);
	ms = sleeper_join(&sleeper, since);
	CU_ASSERT(ms < WAKE_MS);
	pair_close(pair);
}

static void streams__cancel__ends_every_wait_of_share_ram(void)
{
	g_autoptr(FerryListener) nobody = listen_on("tcp:127.0.0.1:0", NULL);
	Pair pair;

	/* for room in the control channel */
	pair_open(&pair, 4, NULL);
	pair.source.no_room = -1;
	check_cancel(&pair);
	/* for the answer */
	pair_open(&pair, 4, NULL);
	pair.source.swallow = 1;
	check_cancel(&pair);
	/* for the greeting */
	pair_open(&pair, 4, nobody->uri);
	check_cancel(&pair);
}

/* ---- deaths ---- */

static void put_some(Pair *pair)
{
	FerryRun run = { 2, 0, 12345 };

	memset(pair->source.blocks[2].host, 3, pair->source.blocks[2].size);
	CU_ASSERT_EQUAL(pair_put(pair, &run, 1), FERRY_IO_OK);
}

static void streams__destination_dies_in_mid_round__source_names_it(void)
{
	Pair pair;

	pair_open(&pair, 4, NULL);
	if (pair_connect(&pair)) {
		put_some(&pair);
		g_clear_pointer(&pair.destination.carrier, ferry_carrier_close);
		pair_check_source_dead(&pair, "closed");
	}
	pair_close(&pair);
}

static void streams__destination_dies_while_idle__source_names_it(void)
{
	Pair pair;

	pair_open(&pair, 2, NULL);
	if (pair_connect(&pair)) {
		g_clear_pointer(&pair.destination.carrier, ferry_carrier_close);
		pair_check_source_dead(&pair, "the destination closed the connection");
	}
	pair_close(&pair);
}

static void streams__source_dies_in_mid_round__destination_names_it(void)
{
	Pair pair;

	pair_open(&pair, 4, NULL);
	if (pair_connect(&pair)) {
		put_some(&pair);
		CU_ASSERT_EQUAL(pair_settle(&pair, 1), FERRY_IO_OK);
		CU_ASSERT(pair.destination.carrier->ops->await_fence(pair.destination.carrier, 1,
								     NULL));
		put_some(&pair);
		g_clear_pointer(&pair.source.carrier, ferry_carrier_close);
		pair_check_destination_dead(&pair, 2, FERRY_ERROR_LINK, "closed");
		/* The one that fails first tells, when it has failed. */
		while (!g_atomic_int_get(&pair.destination.died))
			g_thread_yield();
		CU_ASSERT_EQUAL(pair.destination.died, 1);
	}
	pair_close(&pair);
}

static void streams__source_leaves_before_any_page__not_told(void)
{
	Pair pair;

	pair_open(&pair, 4, NULL);
	if (pair_connect(&pair)) {
		g_clear_pointer(&pair.source.carrier, ferry_carrier_close);
		pair_check_destination_dead(&pair, 1, FERRY_ERROR_LINK, "the source closed");
		pair.destination.carrier->ops->quiesce(pair.destination.carrier);
		CU_ASSERT_EQUAL(pair.destination.died, 0);
	}
	pair_close(&pair);
}

static void streams__quiesced__nothing_lands(void)
{
	FerryRun run = { 1, 0, 777 };
	guint8 *host;
	Pair pair;

	pair_open(&pair, 4, NULL);
	if (pair_connect(&pair)) {
		pair_put(&pair, &run, 1);
		CU_ASSERT_EQUAL(pair_settle(&pair, 1), FERRY_IO_OK);
		CU_ASSERT(pair.destination.carrier->ops->await_fence(pair.destination.carrier, 1,
								     NULL));
		pair.destination.carrier->ops->quiesce(pair.destination.carrier);
		/* Its threads have ended: none is left that could write. */
		while (running_threads() > pair.threads + 4)
			g_thread_yield();
		host = pair.destination.blocks[1].host;
		memset(pair.source.blocks[1].host, 9, pair.source.blocks[1].size);
		pair_put(&pair, &run, 1);
		pair_check_source_dead(&pair, "closed");
		CU_ASSERT(!host[0] && !memcmp(host, host + 1, pair.destination.blocks[1].size - 1));
		CU_ASSERT_EQUAL(pair.destination.died, 0);
	}
	pair_close(&pair);
}

/* ---- hostile streams ---- */

static int offered_stream(Pair *pair)
{
	guint8 payload[4] = { 0, 0, 0, 1 };

	pair_open(pair, 1, NULL);
	pair->destination.swallow = 1;
	CU_ASSERT(pair->destination.carrier->ops->hear(
		pair->destination.carrier, FERRY_RECORD_STREAMS_OFFER, payload, 4, NULL));
	return pair_raw_stream(pair, 0);
}

static void check_hostile(Pair *pair, int fd, const char *text)
{
	pair_check_destination_dead(pair, 1, FERRY_ERROR_PEER, text);
	while (!g_atomic_int_get(&pair->destination.died))
		g_thread_yield();
	/* A last page that no bad record touched. */
	for (guint i = 0; i < PAIR_BLOCKS; i++)
		CU_ASSERT_EQUAL(pair->destination.blocks[i].host[0], 0);
	close(fd);
	pair_close(pair);
}

static void streams__hostile_pages__refused(void)
{
	static const struct {
		guint16 type;
		guint32 block;
		guint64 first, pages;
		const char *text;
	} rows[] = {
		{ FERRY_RECORD_PAGES, PAIR_BLOCKS, 0, 1, "block 3 of 3" },
		{ FERRY_RECORD_PAGES, 1, 777, 1, "block 'odd' has 777" },
		{ FERRY_RECORD_PAGES, 1, 776, 2, "block 'odd' has 777" },
		{ FERRY_RECORD_PAGES, 1, G_MAXUINT64, 2, "block 'odd' has 777" },
		{ FERRY_RECORD_PAGES, 2, 0, 4097, "at most 4096" },
		{ FERRY_RECORD_PAGES, 0, 0, 0, "block 'bios' has 1" },
		{ FERRY_RECORD_ZERO_PAGES, 1, 0, 1, "0x0101 does not belong" },
		{ 0x7777, 1, 0, 1, "0x7777 does not belong" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
		Pair pair;
		int fd = offered_stream(&pair);

		raw_pages(fd, rows[i].type, rows[i].block, rows[i].first, rows[i].pages);
		check_hostile(&pair, fd, rows[i].text);
	}
}

static void streams__hostile_frames__refused(void)
{
	static const struct {
		const char *bytes; /* a header and a number */
		const char *text;
	} rows[] = {
		{ "\x02\x46\x52\x00\x0c\x01\x23\x01\x00\x00\x00\x00\x04\x00\x00\x00\x01", "0x02" },
		{ "\x08\x46\x53\x00\x0c\x01\x23\x01\x00\x00\x00\x00\x04\x00\x00\x00\x01",
		  "0x4653" },
		{ "\x08\x46\x52\x00\x0d\x01\x23\x01\x00\x00\x00\x00\x04\x00\x00\x00\x01", "of 13" },
		{ "\x08\x46\x52\x00\x0c\x01\x23\x02\x00\x00\x00\x00\x04\x00\x00\x00\x01",
		  "version 2" },
		{ "\x08\x46\x52\xff\xff\x01\x00\x01\x00\xff\xff\xff\xf7\x00\x00\x00\x01",
		  "of 65535" },
		{ "\x08\x46\x52\x00\x0c\x01\x00\x01\x00\x00\x00\x00\x04\x00\x00\x00\x01",
		  "4 bytes" },
		{ "\x08\x46\x52\x00\x0c\x01\x23\x01\x00\x00\x00\x00\x04\x00\x00\x00\x00",
		  "FENCE: 0" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
		Pair pair;
		int fd = offered_stream(&pair);

		raw_send(fd, rows[i].bytes, FERRY_STREAMS_FENCE_SIZE);
		check_hostile(&pair, fd, rows[i].text);
	}
}

static void streams__fence_out_of_order__refused(void)
{
	g_autoptr(GError) error = NULL;
	FerryCarrier *carrier;
	Pair pair;
	int fd = offered_stream(&pair);

	carrier = pair.destination.carrier;
	raw_fence(fd, 2);
	CU_ASSERT(!carrier->ops->await_fence(carrier, 1, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_PEER, "fence 2 where 1"));
	CU_ASSERT(carrier->ops->await_fence(carrier, 2, NULL));
	raw_fence(fd, 2);
	check_hostile(&pair, fd, "FENCE: 2 is not from 3");
}

static void streams__cut_in_mid_run__named(void)
{
	Pair pair;
	int fd = offered_stream(&pair);

	raw_pages(fd, FERRY_RECORD_PAGES, 2, 0, 4096);
	raw_send(fd, pair.source.blocks[1].host, 100000);
	shutdown(fd, SHUT_WR);
	pair_check_destination_dead(&pair, 1, FERRY_ERROR_LINK, "stream 0, tcp:127.0.0.1:");
	close(fd);
	pair_close(&pair);
}

static CU_TestInfo cases[] = {
	CASE(streams__port_refuses__named),
	CASE(streams__destination_refuses__its_reason),
	CASE(streams__hostile_records__refused),
	CASE(streams__cancel__ends_every_wait_of_share_ram),
	CASE(streams__destination_dies_in_mid_round__source_names_it),
	CASE(streams__destination_dies_while_idle__source_names_it),
	CASE(streams__source_dies_in_mid_round__destination_names_it),
	CASE(streams__source_leaves_before_any_page__not_told),
	CASE(streams__quiesced__nothing_lands),
	CASE(streams__hostile_pages__refused),
	CASE(streams__hostile_frames__refused),
	CASE(streams__fence_out_of_order__refused),
	CASE(streams__cut_in_mid_run__named),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "streams-faults", cases);
}
