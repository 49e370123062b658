/* SPDX-License-Identifier: BSD-2-Clause */
#include "ends.h"
#include "harness.h"

#include <string.h>

#define MIB (1ull << 20)

/* 13 MiB and a bit, in blocks that are no multiple of anything. */
static const guint odd_blocks[] = { 37, 1, 515, 2821, 0 };
static const guint small_blocks[] = { 37, 5, 0 };
#define ODD_PAGES (37u + 1u + 515u + 2821u)

/* The rest of the life of @ends: nothing forbidden was done and nothing is left. */
static void expect_clean_end(Ends *ends)
{
	FakeNic *nic = ends->nic;
	g_autofree char *found = NULL;

	ends_close(ends);
	CU_ASSERT(ends->close_us < 2 * G_TIME_SPAN_SECOND);
	found = fake_nic_check(nic);
	if (found)
		printf("# %s", found);
	CU_ASSERT_PTR_NULL(found);
	fake_nic_free(nic);
}

static gboolean expect_ok(gboolean ok, GError *const *error)
{
	if (!ok)
		printf("# %s\n", *error ? (*error)->message : "failed without an error");
	CU_ASSERT(ok);
	CU_ASSERT(ok == !*error);
	return ok;
}

/* Connects and moves @rounds rounds, all of it compared. */
static gboolean transfer(Ends *ends, guint rounds, guint sparse, guint most, gboolean shuffle)
{
	g_autoptr(GError) error = NULL;
	gboolean ok = ends_connect(ends, &error);

	for (guint i = 0; ok && i < rounds; i++)
		ok = ends_round(ends, sparse, most, shuffle, &error);
	return expect_ok(ok, &error);
}

static guint64 number(GVariant *dict, const char *key)
{
	guint64 value = G_MAXUINT64;

	if (!g_variant_lookup(dict, key, "t", &value))
		printf("# no %s in describe()\n", key);
	CU_ASSERT_NOT_EQUAL(value, G_MAXUINT64);
	return value;
}

static guint64 described(End *end, const char *key)
{
	g_autoptr(GVariant) dict = g_variant_ref_sink(end->carrier->ops->describe(end->carrier));

	return number(dict, key);
}

static gboolean described_flag(End *end, const char *key)
{
	g_autoptr(GVariant) dict = g_variant_ref_sink(end->carrier->ops->describe(end->carrier));
	gboolean flag = FALSE;

	CU_ASSERT(g_variant_lookup(dict, key, "b", &flag));
	return flag;
}

/* ---- pages ---- */

static void transfer_over(guint queues, FakeConfig change)
{
	FakeNic *nic = fake_nic_new(queues);
	FakeConfig *config = fake_config(nic);
	Ends ends;

	config->delay_min_us = change.delay_min_us;
	config->delay_max_us = change.delay_max_us;
	config->delay_visibility = change.delay_visibility;
	if (change.max_qp_wr)
		config->max_qp_wr = change.max_qp_wr;
	ends_open(&ends, nic, odd_blocks);
	ends_set(&ends.source, FERRY_PARAMETER_RDMA_QUEUE_PAIRS, queues);
	if (transfer(&ends, 4, 5, 30, FALSE))
		CU_ASSERT_EQUAL(described(&ends.source, "queue-pairs"), queues);
	expect_clean_end(&ends);
}

static void pages__one_queue_pair__arrive(void)
{
	transfer_over(1, (FakeConfig){ 0 });
}

static void pages__two_queue_pairs_out_of_order__arrive(void)
{
	transfer_over(2, (FakeConfig){ .delay_max_us = 300 });
}

static void pages__four_queue_pairs_out_of_order__arrive(void)
{
	transfer_over(4, (FakeConfig){ .delay_min_us = 10, .delay_max_us = 500 });
}

static void pages__sixteen_queue_pairs_out_of_order__arrive(void)
{
	transfer_over(16, (FakeConfig){ .delay_max_us = 1000 });
}

static void pages__send_queue_of_eight__arrive(void)
{
	transfer_over(2, (FakeConfig){ .delay_max_us = 100, .max_qp_wr = 8 });
}

static void pages__send_queue_of_eight_visibility_delayed__arrive(void)
{
	transfer_over(
		4, (FakeConfig){ .delay_max_us = 100, .max_qp_wr = 8, .delay_visibility = TRUE });
}

static void pages__visibility_delayed__are_there_at_each_fence(void)
{
	transfer_over(4, (FakeConfig){ .delay_max_us = 500, .delay_visibility = TRUE });
}

static void fences__that_let_nothing_land__are_seen_as_differing_ram(void)
{
	FakeNic *nic = fake_nic_new(3);
	g_autoptr(GError) error = NULL;
	Ends ends;

	fake_config(nic)->delay_visibility = TRUE;
	fake_config(nic)->void_fences = TRUE;
	ends_open(&ends, nic, odd_blocks);
	CU_ASSERT_TRUE(ends_connect(&ends, NULL));
	CU_ASSERT_FALSE(ends_round(&ends, 5, 30, FALSE, &error));
	CU_ASSERT(error && strstr(error->message, "RAM differs at fence 1"));
	expect_clean_end(&ends);
}

static void round__without_a_page__passes_its_fence(void)
{
	g_autoptr(GError) error = NULL;
	Ends ends;

	ends_open(&ends, fake_nic_new(4), odd_blocks);
	if (transfer(&ends, 1, 1, 1000, FALSE)) {
		gboolean ok = TRUE;

		/* More than the receives that a queue pair has. */
		for (guint i = 0; ok && i < 40; i++)
			ok = ends_fence(&ends, &error);
		expect_ok(ok, &error);
	}
	expect_clean_end(&ends);
}

/* ---- what is agreed ---- */

static void queue_pairs__destination_wants_fewer__are_as_few(void)
{
	Ends ends;

	ends_open(&ends, fake_nic_new(5), odd_blocks);
	ends_set(&ends.source, FERRY_PARAMETER_RDMA_QUEUE_PAIRS, 8);
	ends_set(&ends.destination, FERRY_PARAMETER_RDMA_QUEUE_PAIRS, 3);
	if (transfer(&ends, 2, 5, 30, FALSE)) {
		CU_ASSERT_EQUAL(described(&ends.source, "queue-pairs"), 3);
		CU_ASSERT_EQUAL(described(&ends.destination, "queue-pairs"), 3);
		CU_ASSERT_EQUAL(fake_counts(ends.nic, FAKE_DESTINATION).qps, 3);
	}
	expect_clean_end(&ends);
}

static void pin_all__small_ram__is_registered_before_the_first_page(void)
{
	g_autoptr(GError) error = NULL;
	Ends ends;

	ends_open(&ends, fake_nic_new(6), odd_blocks);
	ends_enable(&ends.source, FERRY_CAPABILITY_RDMA_PIN_ALL);
	if (expect_ok(ends_connect(&ends, &error), &error)) {
		guint calls = fake_calls(ends.nic, FAKE_SOURCE, FAKE_REG_MR);

		CU_ASSERT_EQUAL(fake_registered_peak(ends.nic, FAKE_SOURCE), ODD_PAGES * 4096ull);
		CU_ASSERT_EQUAL(fake_registered_peak(ends.nic, FAKE_DESTINATION),
				ODD_PAGES * 4096ull);
		CU_ASSERT_TRUE(described_flag(&ends.source, "pin-all"));
		CU_ASSERT_TRUE(described_flag(&ends.destination, "pin-all"));
		for (guint i = 0; i < 3 && !error; i++)
			expect_ok(ends_round(&ends, 4, 50, TRUE, &error), &error);
		CU_ASSERT_EQUAL(fake_calls(ends.nic, FAKE_SOURCE, FAKE_REG_MR), calls);
		CU_ASSERT_EQUAL(described(&ends.source, "registered-bytes"), ODD_PAGES * 4096ull);
	}
	expect_clean_end(&ends);
}

/* Random access to much more RAM than may be registered. */
static void pin_limited(guint64 source, guint64 destination)
{
	/* 0: no limit */
	guint64 limit = MIN(source - 1, destination - 1) + 1;
	Ends ends;

	ends_open(&ends, fake_nic_new(8), odd_blocks);
	fake_config(ends.nic)->delay_max_us = 200;
	fake_config(ends.nic)->delay_visibility = TRUE;
	ends_set(&ends.source, FERRY_PARAMETER_RDMA_PIN_LIMIT, source);
	ends_set(&ends.destination, FERRY_PARAMETER_RDMA_PIN_LIMIT, destination);
	if (transfer(&ends, 12, 40, 8, TRUE)) {
		guint64 source_peak = fake_registered_peak(ends.nic, FAKE_SOURCE);
		guint64 destination_peak = fake_registered_peak(ends.nic, FAKE_DESTINATION);

		printf("# registered at most %" G_GUINT64_FORMAT " and %" G_GUINT64_FORMAT
		       " of %" G_GUINT64_FORMAT " KiB, limit %" G_GUINT64_FORMAT " KiB\n",
		       source_peak / 1024, destination_peak / 1024, ends.source.ram->total / 1024,
		       limit / 1024);
		CU_ASSERT(source_peak <= limit);
		CU_ASSERT(destination_peak <= limit);
		CU_ASSERT(described(&ends.destination, "releases") > 0);
		CU_ASSERT(described(&ends.source, "registered-peak-bytes") == source_peak);
	}
	expect_clean_end(&ends);
}

static void pin_limit__at_the_source__is_never_exceeded(void)
{
	pin_limited(4 * MIB, 0);
}

static void pin_limit__at_both__the_lower_is_never_exceeded(void)
{
	pin_limited(5 * MIB, 3 * MIB);
}

static void control_channel__without_room_mostly__pages_arrive(void)
{
	Ends ends;

	ends_open(&ends, fake_nic_new(9), odd_blocks);
	ends.crowded = 4;
	ends_set(&ends.source, FERRY_PARAMETER_RDMA_PIN_LIMIT, 6 * MIB);
	transfer(&ends, 3, 20, 30, FALSE);
	CU_ASSERT(g_atomic_int_get(&ends.source.said) > 4);
	expect_clean_end(&ends);
}

/* ---- refusals ---- */

static void expect_refusal(Ends *ends, int code, const char *says)
{
	g_autoptr(GError) error = NULL;
	gint64 begin = g_get_monotonic_time();

	CU_ASSERT_FALSE(ends_connect(ends, &error));
	printf("# in %d ms: %s\n", (int)((g_get_monotonic_time() - begin) / 1000),
	       error ? error->message : "no error");
	CU_ASSERT(g_get_monotonic_time() - begin < 2 * G_TIME_SPAN_SECOND);
	CU_ASSERT(error && error->code == code && strstr(error->message, says));
	expect_clean_end(ends);
}

static void device__none_at_the_source__is_refused(void)
{
	Ends ends;

	ends_open(&ends, fake_nic_new(10), odd_blocks);
	fake_no_device(ends.nic, FAKE_SOURCE);
	expect_refusal(&ends, FERRY_ERROR_NOSUPP, "ADDR_ERROR");
}

static void device__none_at_the_destination__is_refused(void)
{
	Ends ends;

	ends_open(&ends, fake_nic_new(11), odd_blocks);
	fake_no_device(ends.nic, FAKE_DESTINATION);
	expect_refusal(&ends, FERRY_ERROR_NOSUPP, "RDMA device");
}

static void pin_limit__too_small_at_the_source__is_refused(void)
{
	Ends ends;

	ends_open(&ends, fake_nic_new(12), odd_blocks);
	ends_set(&ends.source, FERRY_PARAMETER_RDMA_PIN_LIMIT, MIB);
	expect_refusal(&ends, FERRY_ERROR_NOSUPP, "1048576");
}

/* Beside a limit that nothing fits in. */
static void on_demand__pin_limits_too_small__pages_arrive_unpinned(void)
{
	Ends ends;

	ends_open(&ends, fake_nic_new(20), odd_blocks);
	fake_config(ends.nic)->on_demand = TRUE;
	ends_set(&ends.source, FERRY_PARAMETER_RDMA_PIN_LIMIT, MIB);
	ends_set(&ends.destination, FERRY_PARAMETER_RDMA_PIN_LIMIT, MIB);
	if (transfer(&ends, 2, 5, 30, FALSE)) {
		CU_ASSERT_TRUE(described_flag(&ends.destination, "on-demand"));
		CU_ASSERT(fake_calls(ends.nic, FAKE_DESTINATION, FAKE_ADVISE_MR) > 0);
	}
	expect_clean_end(&ends);
}

static void pin_limit__too_small_at_the_destination__is_refused(void)
{
	Ends ends;

	ends_open(&ends, fake_nic_new(13), odd_blocks);
	ends_set(&ends.destination, FERRY_PARAMETER_RDMA_PIN_LIMIT, MIB);
	expect_refusal(&ends, FERRY_ERROR_NOSUPP, "1048576");
}

static void listener__none_at_the_address__is_refused(void)
{
	Ends ends;

	ends_open(&ends, fake_nic_new(14), odd_blocks);
	fake_refuse_connect(ends.nic, RDMA_CM_EVENT_REJECTED, 8);
	expect_refusal(&ends, FERRY_ERROR_LINK, "RDMA_CM_EVENT_REJECTED");
}

/* ---- told ---- */

static void statistics__after_each_round__are_exact(void)
{
	guint64 writes, bytes, fences;
	FerryCarrierStats stats;
	Ends ends;

	ends_open(&ends, fake_nic_new(15), odd_blocks);
	ends_set(&ends.source, FERRY_PARAMETER_RDMA_QUEUE_PAIRS, 4);
	if (transfer(&ends, 3, 6, 20, FALSE)) {
		ends.source.carrier->ops->get_stats(ends.source.carrier, &stats);
		fake_written(ends.nic, &writes, &bytes, &fences);
		CU_ASSERT_EQUAL(stats.pages, ends.pages);
		CU_ASSERT_EQUAL(stats.zero_pages, 0);
		CU_ASSERT_EQUAL(bytes, ends.pages * 4096);
		CU_ASSERT_EQUAL(fences, 3 * 4);
		/* What headers cost is the wire's. */
		CU_ASSERT(stats.bytes >= bytes && stats.bytes <= bytes + bytes / 10);
		CU_ASSERT_EQUAL(described(&ends.source, "writes"), writes);
		CU_ASSERT_EQUAL(described(&ends.source, "fences"), fences);
		CU_ASSERT_EQUAL(described(&ends.destination, "fences"), fences);
	}
	expect_clean_end(&ends);
}

static void describe__of_both_ends__has_what_was_agreed(void)
{
	static const char *const keys[] = {
		"queue-pairs", "chunk-size", "write-size",       "pin-limit",     "port",
		"mtu",         "gid-index",  "registered-bytes", "registrations", "registration-us",
		"releases",    "fences"
	};
	Ends ends;

	ends_open(&ends, fake_nic_new(16), odd_blocks);
	if (transfer(&ends, 1, 1, 100, FALSE))
		for (guint i = 0; i < G_N_ELEMENTS(keys); i++)
			CU_ASSERT_EQUAL(described(&ends.source, keys[i]) == G_MAXUINT64 ||
						described(&ends.destination, keys[i]) ==
							G_MAXUINT64,
					FALSE);
	CU_ASSERT_EQUAL(described(&ends.source, "mtu"), 4096);
	expect_clean_end(&ends);
}

static void describe__before_connecting__is_harmless(void)
{
	Ends ends;

	ends_open(&ends, fake_nic_new(17), odd_blocks);
	fake_no_device(ends.nic, FAKE_SOURCE);
	CU_ASSERT_FALSE(ends_connect(&ends, NULL));
	CU_ASSERT_EQUAL(described(&ends.source, "registered-bytes"), 0);
	CU_ASSERT_EQUAL(described(&ends.destination, "fences"), 0);
	expect_clean_end(&ends);
}

/* ---- hostile peers ---- */

typedef struct {
	guint16 type;
	guint8 payload[40];
	size_t len;
} Record;

/* Each ends the session with an error about the peer, and harms nothing. */
static void expect_refused_record(gboolean to_source, const Record *record)
{
	g_autoptr(GError) error = NULL;
	Ends ends;

	ends_open(&ends, fake_nic_new(21), small_blocks);
	CU_ASSERT_TRUE(ends_connect(&ends, NULL));
	ends_send(to_source ? &ends.source : &ends.destination, record->type, record->payload,
		  record->len);
	CU_ASSERT_TRUE(ends_linger(&ends, 2 * G_TIME_SPAN_SECOND, &error));
	if (!error || error->code != FERRY_ERROR_PEER)
		printf("# record 0x%x of %zu bytes: %s\n", record->type, record->len,
		       error ? error->message : "no error");
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
	expect_clean_end(&ends);
}

static void records__hostile_to_the_source__are_refused(void)
{
	static const Record records[] = {
		{ FERRY_RECORD_RDMA_ANSWER, { 0, 0, 0, 1, 0, 0, 16, 0, 0, 0, 0, 0, 0, 16 }, 32 },
		{ FERRY_RECORD_RDMA_REGION, { 0, 0, 0, 9 }, 20 },
		{ FERRY_RECORD_RDMA_REGION, { 0, 0, 0, 0, 255, 255, 255, 255 }, 20 },
		{ FERRY_RECORD_RDMA_REGION, { 0 }, 20 }, /* a second time */
		{ FERRY_RECORD_RDMA_REGION, { 0 }, 19 },
		{ FERRY_RECORD_RDMA_OFFER, { 0 }, 32 },
		{ 0x1ff, { 0 }, 0 },
	};

	for (guint i = 0; i < G_N_ELEMENTS(records); i++)
		expect_refused_record(TRUE, &records[i]);
}

static void records__hostile_to_the_destination__are_refused(void)
{
	static const Record records[] = {
		{ FERRY_RECORD_RDMA_OFFER, { 0, 0, 0, 1, 0, 0, 16, 0, 0, 0, 0, 0, 0, 16 }, 32 },
		{ FERRY_RECORD_RDMA_REGISTER, { 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1 }, 12 },
		{ FERRY_RECORD_RDMA_REGISTER, { 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1 }, 12 },
		{ FERRY_RECORD_RDMA_REGISTER, { 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255 }, 12 },
		{ FERRY_RECORD_RDMA_REGISTER, { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 12 },
		{ FERRY_RECORD_RDMA_RELEASE, { 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 2 }, 12 },
		{ FERRY_RECORD_RDMA_RELEASE, { 0 }, 3 },
		{ FERRY_RECORD_RDMA_REGION, { 0 }, 20 },
		{ 0x1ff, { 0 }, 0 },
	};

	for (guint i = 0; i < G_N_ELEMENTS(records); i++)
		expect_refused_record(FALSE, &records[i]);
}

/* ---- one after the other ---- */

static void session__after_another__works(void)
{
	FakeNic *nic = fake_nic_new(18);
	Ends ends;

	for (guint i = 0; i < 3; i++) {
		g_autofree char *found = NULL;

		ends_open(&ends, nic, odd_blocks);
		transfer(&ends, 2, 5, 30, FALSE);
		ends_close(&ends);
		found = fake_nic_check(nic);
		CU_ASSERT_PTR_NULL(found);
	}
	fake_nic_free(nic);
}

static void writes__after_quiesce__do_not_land(void)
{
	g_autoptr(GError) error = NULL;
	Ends ends;

	ends_open(&ends, fake_nic_new(19), odd_blocks);
	fake_config(ends.nic)->retry_us = 1000;
	if (transfer(&ends, 1, 1, 100, FALSE)) {
		const FerryRamBlock *block = &ends.destination.ram->blocks[3];
		g_autofree guint8 *before = NULL;

		ends.destination.carrier->ops->quiesce(ends.destination.carrier);
		before = g_memdup2(block->host, block->size);
		CU_ASSERT_FALSE(ends_put(&ends, 2, 100, FALSE, &error) &&
				ends_fence(&ends, &error));
		CU_ASSERT_EQUAL(memcmp(before, block->host, block->size), 0);
	}
	expect_clean_end(&ends);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(pages__one_queue_pair__arrive),
		CASE(pages__two_queue_pairs_out_of_order__arrive),
		CASE(pages__four_queue_pairs_out_of_order__arrive),
		CASE(pages__sixteen_queue_pairs_out_of_order__arrive),
		CASE(pages__send_queue_of_eight__arrive),
		CASE(pages__send_queue_of_eight_visibility_delayed__arrive),
		CASE(pages__visibility_delayed__are_there_at_each_fence),
		CASE(fences__that_let_nothing_land__are_seen_as_differing_ram),
		CASE(round__without_a_page__passes_its_fence),
		CASE(queue_pairs__destination_wants_fewer__are_as_few),
		CASE(pin_all__small_ram__is_registered_before_the_first_page),
		CASE(pin_limit__at_the_source__is_never_exceeded),
		CASE(pin_limit__at_both__the_lower_is_never_exceeded),
		CASE(control_channel__without_room_mostly__pages_arrive),
		CASE(device__none_at_the_source__is_refused),
		CASE(device__none_at_the_destination__is_refused),
		CASE(pin_limit__too_small_at_the_source__is_refused),
		CASE(pin_limit__too_small_at_the_destination__is_refused),
		CASE(on_demand__pin_limits_too_small__pages_arrive_unpinned),
		CASE(records__hostile_to_the_source__are_refused),
		CASE(records__hostile_to_the_destination__are_refused),
		CASE(listener__none_at_the_address__is_refused),
		CASE(statistics__after_each_round__are_exact),
		CASE(describe__of_both_ends__has_what_was_agreed),
		CASE(describe__before_connecting__is_harmless),
		CASE(session__after_another__works),
		CASE(writes__after_quiesce__do_not_land),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "carrier", cases);
}
