/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>
#include "channels.h"
#include "streams-pair.h"
#include "tcp-fallback/fd-channel.h"

#define URGENT_PAGES 64u
#define HEADER 33u
/* Far more than a socket of the urgent stream holds. */
#define RUNS_MAX 16u
#define LONG_US (20 * G_TIME_SPAN_SECOND)

/*
 * A destination that takes the connections and reads nothing from them: what comes out of a source
 * and in which order is up to the case.
 */
typedef struct {
	Pair pair;
	FerryCarrier *source; /* the pair's */
	FerryStreamsTerms answer;
	guint n;
	FerryChannel *channels[FERRY_STREAMS_CONNECTIONS]; /* owned; the urgent one is the last */
	FerryChannel *urgent;
} Deaf;

static gpointer answer_thread(gpointer user)
{
	Deaf *deaf = user;
	guint8 payload[FERRY_STREAMS_TERMS_MAX];
	size_t len = ferry_streams_put_terms(payload, &deaf->answer);

	while (!g_atomic_int_get(&deaf->pair.source.says))
		g_thread_yield();
	CU_ASSERT(deaf->source->ops->hear(deaf->source, FERRY_RECORD_STREAMS_ANSWER, payload, len,
					  NULL));
	CU_ASSERT(ferry_streams_accept(
		(FerrySocketListener *)deaf->pair.listener, &ferry_streams_greeting_format,
		pair_nonce, deaf->n, g_get_monotonic_time() + LONG_US, NULL, deaf->channels, NULL));
	return NULL;
}

static gboolean deaf_open(Deaf *deaf, guint streams)
{
	GThread *thread;
	gboolean ok;

	*deaf = (Deaf){ .answer = { streams, FERRY_STREAMS_URGENT }, .n = streams + 1 };
	pair_open_postcopy(&deaf->pair, streams);
	deaf->pair.source.swallow = 1;
	deaf->source = deaf->pair.source.carrier;
	thread = g_thread_new("answer", answer_thread, deaf);
	ok = pair_connect(&deaf->pair);
	g_thread_join(thread);
	deaf->urgent = deaf->channels[streams];
	for (guint i = 0; ok && i < deaf->n; i++)
		ferry_socket_tune_urgent(((FerryFdChannel *)deaf->channels[i])->in);
	for (guint i = 0; i < PAIR_BLOCKS; i++)
		for (guint64 at = 0; at < deaf->pair.source.blocks[i].size; at += FERRY_PAGE_SIZE)
			ferry_store_be64(deaf->pair.source.blocks[i].host + at, i << 24 | at);
	return ok;
}

static void deaf_close(Deaf *deaf)
{
	for (guint i = 0; i < deaf->n; i++)
		g_clear_pointer(&deaf->channels[i], ferry_channel_close);
	pair_close(&deaf->pair);
}

static guint64 sent_bytes(Deaf *deaf)
{
	FerryCarrierStats stats;

	deaf->source->ops->get_stats(deaf->source, &stats);
	return stats.bytes;
}

/* Puts until the bulk streams take no more, and for a while nothing moves: all between the two is
 * full. */
static void block_bulk(Deaf *deaf)
{
	guint64 at = 0, before = 0;
	guint still = 0;

	while (at < 12345 && still < 5) {
		FerryRun run = { 2, at, MIN(URGENT_PAGES, 12345 - at) };
		gboolean full;
		size_t taken;

		full = deaf->source->ops->put(deaf->source, &run, 1, &taken) == FERRY_IO_AGAIN;
		at += taken ? run.pages : 0;
		if (full)
			deaf->source->ops->wait(deaf->source, 50000);
		still = full && sent_bytes(deaf) == before ? still + 1 : 0;
		before = sent_bytes(deaf);
	}
	CU_ASSERT_EQUAL(still, 5);
}

/* Reads a PAGES record of exactly @run and its pages, which must be the source's. */
static void read_run(Deaf *deaf, FerryChannel *channel, const FerryRun *run)
{
	g_autofree guint8 *bytes = g_malloc(HEADER + ferry_run_bytes(run));
	size_t len = HEADER + ferry_run_bytes(run);

	CU_ASSERT_EQUAL(read_up_to(channel, bytes, len), len);
	CU_ASSERT_EQUAL(ferry_load_be16(bytes + 5), FERRY_RECORD_PAGES);
	CU_ASSERT_EQUAL(ferry_load_be32(bytes + 13), run->block);
	CU_ASSERT_EQUAL(ferry_load_be64(bytes + 17), run->first);
	CU_ASSERT_EQUAL(ferry_load_be64(bytes + 25), run->pages);
	CU_ASSERT(!memcmp(bytes + HEADER, ferry_run_host(&deaf->pair.source.ram, run),
			  ferry_run_bytes(run)));
}

static void read_fence(FerryChannel *channel, guint32 fence)
{
	guint8 bytes[FERRY_STREAMS_FENCE_SIZE], expected[sizeof(bytes)];

	ferry_streams_put_fence(expected, fence);
	CU_ASSERT_EQUAL(read_up_to(channel, bytes, sizeof(bytes)), sizeof(bytes));
	CU_ASSERT(!memcmp(bytes, expected, sizeof(bytes)));
}

static FerryRun nth_run(guint n)
{
	return (FerryRun){ 1, n * 10 % 700, URGENT_PAGES };
}

/* Urgent runs until there is no room; how many were taken. */
static guint fill_urgent(Deaf *deaf)
{
	for (guint n = 0; n < RUNS_MAX; n++) {
		FerryRun run = nth_run(n);

		if (deaf->source->ops->urgent(deaf->source, &run) == FERRY_IO_AGAIN)
			return n;
	}
	CU_FAIL("the urgent stream takes everything: a page can wait behind a lot");
	return RUNS_MAX;
}

static void urgent__bulk_is_blocked__comes_first(void)
{
	FerryRun run = { 1, 700, 1 };
	Deaf deaf;

	if (deaf_open(&deaf, 1)) {
		block_bulk(&deaf);
		CU_ASSERT_EQUAL(deaf.source->ops->urgent(deaf.source, &run), FERRY_IO_OK);
		/* It is here, and of what was put before not a byte was taken. */
		read_run(&deaf, deaf.urgent, &run);
		read_run(&deaf, deaf.channels[0], &(FerryRun){ 2, 0, URGENT_PAGES });
		CU_ASSERT_EQUAL(deaf.source->ops->urgent(deaf.source, &run), FERRY_IO_OK);
	}
	deaf_close(&deaf);
}

static void urgent__socket_is_full__again_and_the_rest_follows_by_itself(void)
{
	FerryRun run;
	guint n;
	Deaf deaf;

	if (deaf_open(&deaf, 1)) {
		n = fill_urgent(&deaf);
		CU_ASSERT(n > 0);
		CU_ASSERT_EQUAL(deaf.source->ops->progress(deaf.source), FERRY_IO_AGAIN);
		CU_ASSERT_EQUAL(deaf.source->ops->settle(deaf.source, 1), FERRY_IO_AGAIN);
		/* Nobody calls the source meanwhile. */
		for (guint i = 0; i < n; i++) {
			run = nth_run(i);
			read_run(&deaf, deaf.urgent, &run);
		}
		CU_ASSERT_EQUAL(pair_settle(&deaf.pair, 1), FERRY_IO_OK);
		read_fence(deaf.urgent, 1);
		read_fence(deaf.channels[0], 1);
		run = nth_run(n);
		CU_ASSERT_EQUAL(deaf.source->ops->urgent(deaf.source, &run), FERRY_IO_OK);
		read_run(&deaf, deaf.urgent, &run);
	}
	deaf_close(&deaf);
}

static void wait_long(gpointer user)
{
	Deaf *deaf = user;

	deaf->source->ops->wait(deaf->source, LONG_US);
}

static gboolean sleeps_in_the_end(Deaf *deaf)
{
	for (guint i = 0; i < 10; i++) {
		gint64 since;

		block_bulk(deaf);
		since = g_get_monotonic_time();
		deaf->source->ops->wait(deaf->source, 30000);
		if (g_get_monotonic_time() - since >= 30000)
			return TRUE;
	}
	return FALSE;
}

/* Room in the urgent stream ends a wait, though there is none in the others. */
static void urgent__again__wait_ends_when_there_is_room(void)
{
	Sleeper sleeper;
	gint64 since = g_get_monotonic_time();
	guint n;
	Deaf deaf;

	if (deaf_open(&deaf, 1)) {
		block_bulk(&deaf);
		n = fill_urgent(&deaf);
		sleeper_start(&sleeper, wait_long, &deaf);
		sleeper_wait_asleep(&sleeper);
		for (guint i = 0; i < n; i++) {
			FerryRun run = nth_run(i);

			read_run(&deaf, deaf.urgent, &run);
		}
		CU_ASSERT(sleeper_join(&sleeper, since) < LONG_US / 1000.0);
		/* The same, if it came before the wait. */
		n = fill_urgent(&deaf);
		for (guint i = 0; i < n; i++) {
			FerryRun run = nth_run(i);

			read_run(&deaf, deaf.urgent, &run);
		}
		wait_long(&deaf);
		CU_ASSERT(g_get_monotonic_time() - since < LONG_US);
		/* And it is not told for ever: when what was under way has woken it, it sleeps. */
		CU_ASSERT(sleeps_in_the_end(&deaf));
	}
	deaf_close(&deaf);
}

static void urgent__fence__behind_every_run(void)
{
	FerryRun run = { 1, 3, 1 }, bulk = { 2, 5, 2 };
	FerryCarrierStats stats;
	Deaf deaf;

	if (deaf_open(&deaf, 1)) {
		CU_ASSERT_EQUAL(pair_settle(&deaf.pair, 1), FERRY_IO_OK);
		CU_ASSERT_EQUAL(pair_put(&deaf.pair, &bulk, 1), FERRY_IO_OK);
		CU_ASSERT_EQUAL(deaf.source->ops->urgent(deaf.source, &run), FERRY_IO_OK);
		CU_ASSERT_EQUAL(pair_settle(&deaf.pair, 2), FERRY_IO_OK);
		CU_ASSERT_EQUAL(pair_settle(&deaf.pair, 2), FERRY_IO_OK);
		read_fence(deaf.urgent, 1);
		read_run(&deaf, deaf.urgent, &run);
		read_fence(deaf.urgent, 2);
		read_fence(deaf.channels[0], 1);
		read_run(&deaf, deaf.channels[0], &bulk);
		read_fence(deaf.channels[0], 2);
		deaf.source->ops->get_stats(deaf.source, &stats);
		CU_ASSERT_EQUAL(stats.pages, 3);
		CU_ASSERT_EQUAL(stats.bytes, 2 * FERRY_STREAMS_GREETING_SIZE +
						     4 * FERRY_STREAMS_FENCE_SIZE + 2 * HEADER +
						     3 * FERRY_PAGE_SIZE);
	}
	deaf_close(&deaf);
}

static void urgent__connection_ends__source_names_it(void)
{
	Deaf deaf;

	/* idle */
	if (deaf_open(&deaf, 2)) {
		g_clear_pointer(&deaf.channels[2], ferry_channel_close);
		pair_check_source_dead(&deaf.pair, "urgent stream: ");
	}
	deaf_close(&deaf);
	/* with a run that is out in part */
	if (deaf_open(&deaf, 2)) {
		fill_urgent(&deaf);
		g_clear_pointer(&deaf.channels[2], ferry_channel_close);
		pair_check_source_dead(&deaf.pair, "urgent stream: ");
	}
	deaf_close(&deaf);
}

static void urgent__closed_in_mid_run__ends_at_once(void)
{
	Deaf deaf;

	if (deaf_open(&deaf, 2)) {
		block_bulk(&deaf);
		fill_urgent(&deaf);
		deaf.source->ops->settle(deaf.source, 1);
	}
	deaf_close(&deaf);
}

/* ---- agreeing ---- */

static void urgent__not_asked_for__no_way_for_it(void)
{
	Pair pair;

	pair_open(&pair, 2, NULL);
	CU_ASSERT_PTR_NULL(pair.source.carrier->ops->urgent);
	CU_ASSERT_PTR_NULL(pair.destination.carrier->ops->begin_postcopy);
	if (pair_connect(&pair)) {
		CU_ASSERT_EQUAL(pair.source.said->len, 4);
		CU_ASSERT_EQUAL(pair.destination.said->len, 4);
	}
	pair_close(&pair);
}

static void urgent__asked_for__agreed(void)
{
	Pair pair;

	pair_open_postcopy(&pair, 2);
	CU_ASSERT_PTR_NOT_NULL(pair.source.carrier->ops->urgent);
	CU_ASSERT_PTR_NOT_NULL(pair.destination.carrier->ops->begin_postcopy);
	CU_ASSERT_PTR_NULL(pair.source.carrier->ops->pulls);
	if (pair_connect(&pair)) {
		CU_ASSERT_EQUAL(pair.source.said->len, 8);
		CU_ASSERT(!memcmp(pair.source.said->data, "\0\0\0\2\0\0\0\1", 8));
		CU_ASSERT_EQUAL(pair.destination.said->len, 8);
		CU_ASSERT(!memcmp(pair.destination.said->data, "\0\0\0\2\0\0\0\1", 8));
	}
	pair_close(&pair);
}

/* A destination that has none, as one of an older version. */
static void urgent__destination_has_none__another_way_is_taken(void)
{
	g_autoptr(GError) error = NULL;
	Pair pair;

	pair_open_postcopy(&pair, 2);
	pair.destination.session.postcopy = FALSE;
	CU_ASSERT(!pair.source.carrier->ops->share_ram(pair.source.carrier, &pair.source.ram,
						       &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_NOSUPP, "gives no parallel stream to pages"));
	CU_ASSERT_EQUAL(pair.destination.said->len, 4);
	pair_close(&pair);
}

static void check_terms(const guint8 *payload, size_t len, const FerryStreamsTerms *most,
			const char *text)
{
	g_autoptr(GError) error = NULL;
	FerryStreamsTerms terms = { 77, 77 };

	CU_ASSERT(!ferry_streams_get_terms("STREAMS_ANSWER", payload, len, most, &terms, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_PEER, text));
	CU_ASSERT(terms.streams == 77 && terms.flags == 77);
}

static void urgent__hostile_terms__refused(void)
{
	static const FerryStreamsTerms asked = { 4, FERRY_STREAMS_URGENT }, not_asked = { 4, 0 };
	static const guint8 bytes[] = { 0, 0, 0, 4, 0, 0, 0, 1, 0 };
	static const guint8 unknown[] = { 0, 0, 0, 4, 0x80, 0, 0, 1 };
	FerryStreamsTerms terms;

	for (size_t len = 0; len <= sizeof(bytes); len++)
		if (len != 4 && len != 8)
			check_terms(bytes, len, &asked, "instead of 4 or 8");
	check_terms(bytes, 8, &not_asked, "of flags 0x1 only 0x0 were offered");
	check_terms(unknown, 8, &asked, "of flags 0x80000001 only 0x1 were offered");
	check_terms(unknown + 4, 4, &asked, "not from 1 to 4");
	CU_ASSERT(ferry_streams_get_terms("STREAMS_ANSWER", bytes, 8, &asked, &terms, NULL));
	CU_ASSERT(terms.streams == 4 && terms.flags == FERRY_STREAMS_URGENT);
}

/* A source of a later version may want what this one does not know. */
static void urgent__offer_of_unknown_flags__known_ones_are_answered(void)
{
	static const guint8 offer[] = { 0, 0, 0, 1, 0xff, 0, 0, 3 };
	FerryCarrier *destination;
	Pair pair;

	pair_open_postcopy(&pair, 1);
	destination = pair.destination.carrier;
	pair.destination.swallow = 1;
	CU_ASSERT(destination->ops->hear(destination, FERRY_RECORD_STREAMS_OFFER, offer,
					 sizeof(offer), NULL));
	while (!g_atomic_int_get(&pair.destination.says))
		g_thread_yield();
	destination->ops->quiesce(destination);
	CU_ASSERT_EQUAL(pair.destination.said->len, 8);
	CU_ASSERT(!memcmp(pair.destination.said->data, "\0\0\0\1\0\0\0\1", 8));
	pair_close(&pair);
}

static CU_TestInfo cases[] = {
	CASE(urgent__bulk_is_blocked__comes_first),
	CASE(urgent__socket_is_full__again_and_the_rest_follows_by_itself),
	CASE(urgent__again__wait_ends_when_there_is_room),
	CASE(urgent__fence__behind_every_run),
	CASE(urgent__connection_ends__source_names_it),
	CASE(urgent__closed_in_mid_run__ends_at_once),
	CASE(urgent__not_asked_for__no_way_for_it),
	CASE(urgent__asked_for__agreed),
	CASE(urgent__destination_has_none__another_way_is_taken),
	CASE(urgent__hostile_terms__refused),
	CASE(urgent__offer_of_unknown_flags__known_ones_are_answered),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "streams-urgent", cases);
}
