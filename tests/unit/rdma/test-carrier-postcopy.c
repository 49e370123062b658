/* SPDX-License-Identifier: BSD-2-Clause */
#include "course.h"
#include "harness.h"
#include "rdma/destination.h"
#include "switched.h"

#include <string.h>

#define MIB (1ull << 20)

/* 13 MiB and a bit, in blocks that are no multiple of anything. */
static const guint odd_blocks[] = { 37, 1, 515, 2821, 0 };

static gboolean expect_ok(gboolean ok, GError *const *error)
{
	if (!ok)
		printf("# %s\n", *error ? (*error)->message : "failed without an error");
	CU_ASSERT(ok);
	return ok;
}

static guint64 described(End *end, const char *key)
{
	g_autoptr(GVariant) dict = g_variant_ref_sink(end->carrier->ops->describe(end->carrier));
	guint64 value = G_MAXUINT64;

	CU_ASSERT(g_variant_lookup(dict, key, "t", &value));
	return value;
}

static gboolean described_as(End *end, const char *mode)
{
	g_autoptr(GVariant) dict = g_variant_ref_sink(end->carrier->ops->describe(end->carrier));
	const char *value = "none said";

	g_variant_lookup(dict, "postcopy", "&s", &value);
	if (strcmp(value, mode) != 0)
		printf("# postcopy is %s instead of %s\n", value, mode);
	return strcmp(value, mode) == 0;
}

static gboolean pulls(const End *end)
{
	return end->carrier->ops->pulls(end->carrier);
}

/* Nothing forbidden was done and nothing is left. */
static void expect_clean_end(Ends *ends)
{
	FakeNic *nic = ends->nic;

	ends_close(ends);
	course_expect_gone(nic, "the end");
	fake_nic_free(nic);
}

static void open_ends(Ends *ends, guint seed, FakeConfig change, gboolean pull)
{
	FakeConfig *config;

	ends_open(ends, fake_nic_new(seed), odd_blocks);
	config = fake_config(ends->nic);
	config->delay_min_us = change.delay_min_us;
	config->delay_max_us = change.delay_max_us;
	config->delay_visibility = change.delay_visibility;
	if (change.max_reads)
		config->max_reads = change.max_reads;
	switched_ask(ends, pull);
}

/* Connects and passes a round of precopy. */
static gboolean precopy(Ends *ends)
{
	g_autoptr(GError) error = NULL;

	return expect_ok(ends_connect(ends, &error) && ends_round(ends, 5, 30, FALSE, &error),
			 &error);
}

static gboolean switch_over(Ends *ends)
{
	g_autoptr(GError) error = NULL;

	return expect_ok(switched_run(ends, &error), &error);
}

static void move_over(guint queues, FakeConfig change, gboolean pull)
{
	Ends ends;

	open_ends(&ends, queues, change, pull);
	ends_set(&ends.source, FERRY_PARAMETER_RDMA_QUEUE_PAIRS, queues);
	if (precopy(&ends)) {
		CU_ASSERT_EQUAL(pulls(&ends.source), pull);
		CU_ASSERT_EQUAL(pulls(&ends.destination), pull);
		CU_ASSERT_TRUE(described_as(&ends.source, pull ? "pull" : "push"));
		CU_ASSERT_TRUE(described_as(&ends.destination, pull ? "pull" : "push"));
		CU_ASSERT_EQUAL(described(&ends.source, "queue-pairs"), queues);
		CU_ASSERT_EQUAL(fake_counts(ends.nic, FAKE_DESTINATION).qps, queues + 1);
		switch_over(&ends);
	}
	expect_clean_end(&ends);
}

static void push__one_queue_pair__every_page_lands_once(void)
{
	move_over(1, (FakeConfig){ 0 }, FALSE);
}

static void push__four_queue_pairs_out_of_order__every_page_lands_once(void)
{
	move_over(4, (FakeConfig){ .delay_min_us = 10, .delay_max_us = 300 }, FALSE);
}

static void push__visibility_delayed__is_whole_when_it_lands(void)
{
	move_over(4, (FakeConfig){ .delay_max_us = 300, .delay_visibility = TRUE }, FALSE);
}

static void push__sixteen_queue_pairs__every_page_lands_once(void)
{
	move_over(16, (FakeConfig){ .delay_max_us = 300 }, FALSE);
}

static void pull__one_queue_pair__every_page_lands_once(void)
{
	move_over(1, (FakeConfig){ 0 }, TRUE);
}

static void pull__four_queue_pairs_out_of_order__every_page_lands_once(void)
{
	move_over(4, (FakeConfig){ .delay_min_us = 10, .delay_max_us = 300 }, TRUE);
}

static void pull__sixteen_queue_pairs__every_page_lands_once(void)
{
	move_over(16, (FakeConfig){ .delay_max_us = 300, .delay_visibility = TRUE }, TRUE);
}

static void pull__one_read_at_a_time__every_page_lands_once(void)
{
	move_over(2, (FakeConfig){ .max_reads = 1 }, TRUE);
}

/* ---- with few regions, or none yet ---- */

static void switch_early(gboolean pull, guint64 pin_limit)
{
	g_autoptr(GError) error = NULL;
	Ends ends;

	open_ends(&ends, 31, (FakeConfig){ .delay_max_us = 100 }, pull);
	ends.crowded = 3;
	ends_set(&ends.source, FERRY_PARAMETER_RDMA_PIN_LIMIT, pin_limit);
	/* The pages that no precopy sent must be the same. */
	for (guint i = 0; i < ends.source.ram->n_blocks; i++)
		memcpy(ends.destination.ram->blocks[i].host, ends.source.ram->blocks[i].host,
		       ends.source.ram->blocks[i].size);
	if (expect_ok(ends_connect(&ends, &error) && ends_fence(&ends, &error), &error) &&
	    switch_over(&ends) && pin_limit)
		CU_ASSERT(fake_registered_peak(ends.nic, FAKE_DESTINATION) <= pin_limit);
	expect_clean_end(&ends);
}

static void push__before_any_page_went__registers_what_is_waited_for(void)
{
	switch_early(FALSE, 0);
}

static void push__under_a_pin_limit__stays_below(void)
{
	switch_early(FALSE, 3 * MIB);
}

static void pull__before_any_page_went__waits_for_regions(void)
{
	switch_early(TRUE, 0);
}

/* ---- what is agreed ---- */

/* What both sides hold it to be; "" : no connection. */
static void expect_mode(Ends *ends, const char *mode)
{
	g_autoptr(GError) error = NULL;

	if (expect_ok(ends_connect(ends, &error), &error)) {
		CU_ASSERT_TRUE(described_as(&ends->source, mode));
		CU_ASSERT_TRUE(described_as(&ends->destination, mode));
		CU_ASSERT_EQUAL(pulls(&ends->source), g_str_equal(mode, "pull"));
		CU_ASSERT_EQUAL(pulls(&ends->destination), g_str_equal(mode, "pull"));
	}
	expect_clean_end(ends);
}

static void mode__off_at_the_destination__is_push(void)
{
	Ends ends;

	open_ends(&ends, 41, (FakeConfig){ 0 }, TRUE);
	ferry_settings_set_capability(ends.destination.settings,
				      FERRY_CAPABILITY_RDMA_POSTCOPY_PULL, FALSE, NULL);
	expect_mode(&ends, "push");
}

static void mode__pin_limit_at_either_side__is_push(void)
{
	for (guint i = 0; i < 2; i++) {
		Ends ends;

		open_ends(&ends, 42, (FakeConfig){ 0 }, TRUE);
		ends_set(i ? &ends.source : &ends.destination, FERRY_PARAMETER_RDMA_PIN_LIMIT,
			 4 * MIB);
		expect_mode(&ends, "push");
	}
}

static void mode__on_demand__is_push(void)
{
	Ends ends;

	open_ends(&ends, 43, (FakeConfig){ 0 }, TRUE);
	fake_config(ends.nic)->on_demand = TRUE;
	ends_set(&ends.source, FERRY_PARAMETER_RDMA_PIN_LIMIT, MIB);
	expect_mode(&ends, "push");
}

static void mode__session_without_postcopy__is_none(void)
{
	Ends ends;

	open_ends(&ends, 44, (FakeConfig){ 0 }, TRUE);
	ends.source.session.postcopy = FALSE;
	expect_mode(&ends, "none");
}

static void mode__destination_without_postcopy__falls_back(void)
{
	g_autoptr(GError) error = NULL;
	Ends ends;

	open_ends(&ends, 45, (FakeConfig){ 0 }, TRUE);
	ends.destination.session.postcopy = FALSE;
	CU_ASSERT_FALSE(ends_connect(&ends, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_NOSUPP));
	expect_clean_end(&ends);
}

static void queue_pairs__sixteen_of_the_setting__leave_room_for_the_urgent_one(void)
{
	Ends ends;

	open_ends(&ends, 46, (FakeConfig){ 0 }, FALSE);
	ends_set(&ends.source, FERRY_PARAMETER_RDMA_QUEUE_PAIRS, 16);
	ends_set(&ends.destination, FERRY_PARAMETER_RDMA_QUEUE_PAIRS, 3);
	if (precopy(&ends)) {
		CU_ASSERT_EQUAL(described(&ends.source, "queue-pairs"), 3);
		CU_ASSERT_EQUAL(fake_counts(ends.nic, FAKE_SOURCE).qps, 4);
	}
	expect_clean_end(&ends);
}

static void source__that_is_read__is_registered_whole_without_write_access(void)
{
	Ends ends;

	open_ends(&ends, 47, (FakeConfig){ 0 }, TRUE);
	if (precopy(&ends) && switch_over(&ends)) {
		CU_ASSERT_EQUAL(described(&ends.source, "registered-bytes"),
				ends.source.ram->total);
		CU_ASSERT_EQUAL(described(&ends.destination, "registered-bytes"),
				ends.source.ram->total);
	}
	expect_clean_end(&ends);
}

/* ---- the switch ---- */

static void offer__private_memory__is_refused_with_the_remedy(void)
{
	g_autoptr(GError) error = NULL;
	Ends ends;
	int fd;

	open_ends(&ends, 53, (FakeConfig){ 0 }, FALSE);
	fd = ends.destination.ram->blocks[1].fd;
	ends.destination.ram->blocks[1].fd = -1;
	CU_ASSERT_FALSE(ends_connect(&ends, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_NOSUPP));
	CU_ASSERT(error && strstr(error->message, "'block1' is private memory"));
	ends.destination.ram->blocks[1].fd = fd;
	expect_clean_end(&ends);
}

static void begin_postcopy__private_memory_elsewhere__is_refused_with_the_remedy(void)
{
	Ends ends;
	int fd;

	open_ends(&ends, 51, (FakeConfig){ 0 }, FALSE);
	fd = ends.source.ram->blocks[0].fd;
	ends.source.ram->blocks[0].fd = -1;
	if (precopy(&ends)) {
		FerryCarrier *carrier = ends.destination.carrier;
		const FerryArrivals arrivals = { 0 };
		g_autoptr(GError) error = NULL;

		CU_ASSERT_FALSE(
			carrier->ops->begin_postcopy(carrier, ends.source.ram, &arrivals, &error));
		CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_NOSUPP));
		CU_ASSERT(error && strstr(error->message, "back the RAM with a memfd"));
	}
	ends.source.ram->blocks[0].fd = fd;
	expect_clean_end(&ends);
}

static void begin_postcopy__not_agreed__is_refused(void)
{
	Ends ends;

	open_ends(&ends, 52, (FakeConfig){ 0 }, FALSE);
	ends.source.session.postcopy = FALSE;
	if (precopy(&ends)) {
		FerryCarrier *carrier = ends.destination.carrier;
		const FerryArrivals arrivals = { 0 };
		g_autoptr(GError) error = NULL;

		CU_ASSERT_FALSE(carrier->ops->begin_postcopy(carrier, ends.destination.ram,
							     &arrivals, &error));
		CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_STATE));
	}
	expect_clean_end(&ends);
}

static void fetch__before_the_switch__reads_nothing(void)
{
	const FerryRun run = { 0, 0, 1 };
	guint64 reads, bytes;
	Ends ends;

	open_ends(&ends, 53, (FakeConfig){ 0 }, TRUE);
	if (precopy(&ends)) {
		FerryCarrier *carrier = ends.destination.carrier;

		CU_ASSERT_EQUAL(carrier->ops->fetch(carrier, &run, TRUE), FERRY_IO_AGAIN);
		CU_ASSERT_EQUAL(carrier->ops->progress(carrier), FERRY_IO_OK);
		fake_read(ends.nic, &reads, &bytes);
		CU_ASSERT_EQUAL(reads, 0);
	}
	expect_clean_end(&ends);
}

static void urgent__before_the_switch__writes_nothing(void)
{
	const FerryRun run = { 0, 0, 1 };
	Ends ends;

	open_ends(&ends, 54, (FakeConfig){ 0 }, FALSE);
	if (precopy(&ends)) {
		FerryCarrier *carrier = ends.source.carrier;

		CU_ASSERT_EQUAL(carrier->ops->urgent(carrier, &run), FERRY_IO_AGAIN);
		CU_ASSERT_EQUAL(described(&ends.source, "urgent-writes"), 0);
	}
	expect_clean_end(&ends);
}

/* ---- what is waited for ---- */

/* Bulk that fills its queue pairs, and in it an urgent run of the largest size. */
static void urgent__beside_bulk_that_has_no_room__goes_at_once(void)
{
	g_autoptr(GError) error = NULL;
	Switched *switched;
	Ends ends;

	open_ends(&ends, 61, (FakeConfig){ 0 }, FALSE);
	ends_set(&ends.source, FERRY_PARAMETER_RDMA_QUEUE_PAIRS, 2);
	if (precopy(&ends)) {
		FerryCarrier *carrier = ends.source.carrier;
		FerryRun urgent, run;
		size_t taken = 1;

		switched = switched_begin(&ends, &error);
		CU_ASSERT_PTR_NOT_NULL(switched);
		/* What is posted from now on takes long enough to fill every queue pair. */
		fake_config(ends.nic)->delay_min_us = fake_config(ends.nic)->delay_max_us = 20000;
		while (taken && switched_claim(switched, FALSE, 64, &run))
			carrier->ops->put(carrier, &run, 1, &taken);
		CU_ASSERT_EQUAL(taken, 0);
		CU_ASSERT_TRUE(switched_claim(switched, TRUE, FERRY_FETCH_MAX, &urgent));
		CU_ASSERT_EQUAL(carrier->ops->urgent(carrier, &urgent), FERRY_IO_OK);
		fake_config(ends.nic)->delay_min_us = fake_config(ends.nic)->delay_max_us = 0;
		CU_ASSERT_TRUE(ends_put_runs(&ends, &run, 1, &error));
		CU_ASSERT_TRUE(expect_ok(switched_move(switched, &error), &error));
	}
	expect_clean_end(&ends);
}

static guint64 writes_so_far(FakeNic *nic)
{
	guint64 writes, bytes, fences;

	fake_written(nic, &writes, &bytes, &fences);
	return writes;
}

/* The fences of the other queue pairs are long through. */
static void settle__with_an_urgent_page_under_way__waits_for_it(void)
{
	g_autoptr(GError) error = NULL;
	Switched *switched;
	Ends ends;

	open_ends(&ends, 62, (FakeConfig){ 0 }, FALSE);
	if (precopy(&ends) && (switched = switched_begin(&ends, &error))) {
		FerryCarrier *carrier = ends.source.carrier;
		guint64 writes = writes_so_far(ends.nic);
		gint64 end = g_get_monotonic_time() + 2 * G_USEC_PER_SEC;
		FerryRun urgent;
		FerryIo io;

		fake_config(ends.nic)->delay_min_us = fake_config(ends.nic)->delay_max_us = 50000;
		CU_ASSERT_TRUE(switched_claim(switched, TRUE, 1, &urgent));
		CU_ASSERT_EQUAL(carrier->ops->urgent(carrier, &urgent), FERRY_IO_OK);
		fake_config(ends.nic)->delay_min_us = fake_config(ends.nic)->delay_max_us = 0;
		while ((io = carrier->ops->settle(carrier, ends.fence + 1)) == FERRY_IO_AGAIN &&
		       g_get_monotonic_time() < end)
			carrier->ops->wait(carrier, G_TIME_SPAN_MILLISECOND);
		CU_ASSERT_EQUAL(io, FERRY_IO_OK);
		CU_ASSERT_EQUAL(writes_so_far(ends.nic), writes + 1);
		ends.fence++;
		CU_ASSERT_TRUE(expect_ok(switched_move(switched, &error), &error));
		CU_ASSERT_EQUAL(described(&ends.source, "urgent-writes"),
				described(&ends.destination, "urgent-writes"));
	}
	expect_clean_end(&ends);
}

/* Nothing else asks for its chunk. */
static void urgent__page_whose_chunk_is_not_registered__has_it_registered(void)
{
	g_autoptr(GError) error = NULL;
	Switched *switched;
	Ends ends;

	open_ends(&ends, 66, (FakeConfig){ 0 }, FALSE);
	ends_set(&ends.source, FERRY_PARAMETER_RDMA_PIN_LIMIT, 3 * MIB);
	if (precopy(&ends) && (switched = switched_begin(&ends, &error))) {
		FerryCarrier *carrier = ends.source.carrier;
		gint64 end = g_get_monotonic_time() + 2 * G_USEC_PER_SEC;
		const FerryRun run = { 3, 40, 1 };
		guint waits = 0;
		FerryIo io;

		switched->pages[3][40] = 2;
		while ((io = carrier->ops->urgent(carrier, &run)) == FERRY_IO_AGAIN &&
		       g_get_monotonic_time() < end) {
			carrier->ops->progress(carrier);
			carrier->ops->wait(carrier, G_TIME_SPAN_MILLISECOND);
			waits++;
		}
		CU_ASSERT_EQUAL(io, FERRY_IO_OK);
		CU_ASSERT(waits > 0);
	}
	expect_clean_end(&ends);
}

/* The source cannot run it out of receives. */
static void push__to_a_destination_that_is_slow__never_finds_it_not_ready(void)
{
	g_autoptr(GError) error = NULL;
	Switched *switched;
	Ends ends;

	open_ends(&ends, 65, (FakeConfig){ .delay_visibility = TRUE }, FALSE);
	ends_set(&ends.source, FERRY_PARAMETER_RDMA_QUEUE_PAIRS, 1);
	if (precopy(&ends)) {
		switched = switched_begin(&ends, &error);
		CU_ASSERT_PTR_NOT_NULL(switched);
		switched->slow_us = 300;
		CU_ASSERT_TRUE(expect_ok(switched_move(switched, &error), &error));
		CU_ASSERT_EQUAL(fake_not_ready(ends.nic), 0);
		CU_ASSERT(described(&ends.destination, "told-writes") >
			  2 * FERRY_RDMA_CREDITS + FERRY_RDMA_RECEIVES);
	}
	expect_clean_end(&ends);
}

/* Counts of both ends say the same. */
static void describe__after_a_pull__counts_reads(void)
{
	guint64 reads, bytes;
	Ends ends;

	open_ends(&ends, 63, (FakeConfig){ 0 }, TRUE);
	if (precopy(&ends) && switch_over(&ends)) {
		fake_read(ends.nic, &reads, &bytes);
		CU_ASSERT_EQUAL(described(&ends.destination, "urgent-reads") +
					described(&ends.destination, "background-reads"),
				reads);
		CU_ASSERT_EQUAL(described(&ends.destination, "bytes-read"), bytes);
		CU_ASSERT(described(&ends.destination, "urgent-reads") > 0);
		CU_ASSERT_EQUAL(described(&ends.source, "urgent-writes"), 0);
	}
	expect_clean_end(&ends);
}

/* Room that came from wait_fetched() itself, and was taken by progress(). */
static void wait_fetched__room_came_before__returns_at_once(void)
{
	g_autoptr(GError) error = NULL;
	Switched *switched;
	Ends ends;

	open_ends(&ends, 67, (FakeConfig){ 0 }, TRUE);
	if (precopy(&ends) && (switched = switched_begin(&ends, &error))) {
		FerryCarrier *carrier = ends.destination.carrier;
		gint64 begin = g_get_monotonic_time();
		guint64 reads = 0, bytes, missing = switched->missing;
		FerryIo io = FERRY_IO_OK;
		FerryRun run;

		/* What wakes for regions shall not wake for room. */
		while (described(&ends.destination, "registered-bytes") <
			       ends.destination.ram->total &&
		       g_get_monotonic_time() < begin + G_USEC_PER_SEC)
			g_thread_yield();
		carrier->ops->wait_fetched(carrier, -1, 100 * G_TIME_SPAN_MILLISECOND);
		while (switched_claim(switched, FALSE, 1, &run) && io == FERRY_IO_OK)
			io = carrier->ops->fetch(carrier, &run, FALSE);
		while (reads < FERRY_RDMA_READS &&
		       g_get_monotonic_time() < begin + G_USEC_PER_SEC) {
			g_thread_yield();
			fake_read(ends.nic, &reads, &bytes);
		}
		/* It polls, while every slot is still held. */
		carrier->ops->wait_fetched(carrier, -1, G_TIME_SPAN_MILLISECOND);
		CU_ASSERT_EQUAL(described(&ends.destination, "bytes-read"),
				FERRY_RDMA_READS * FERRY_PAGE_SIZE);
		CU_ASSERT_EQUAL(switched->missing, missing);
		CU_ASSERT_EQUAL(carrier->ops->fetch(carrier, &run, FALSE), FERRY_IO_AGAIN);
		CU_ASSERT_EQUAL(carrier->ops->progress(carrier), FERRY_IO_OK);
		begin = g_get_monotonic_time();
		carrier->ops->wait_fetched(carrier, -1, 2 * G_USEC_PER_SEC);
		CU_ASSERT(g_get_monotonic_time() - begin < G_USEC_PER_SEC);
		CU_ASSERT_EQUAL(carrier->ops->fetch(carrier, &run, FALSE), FERRY_IO_OK);
	}
	expect_clean_end(&ends);
}

static void quiesce__in_mid_fetch__ends_it(void)
{
	g_autoptr(GError) error = NULL;
	Switched *switched;
	Ends ends;

	open_ends(&ends, 64, (FakeConfig){ .delay_max_us = 1000 }, TRUE);
	if (precopy(&ends)) {
		FerryCarrier *carrier = ends.destination.carrier;
		guint64 landed;
		FerryRun run;

		switched = switched_begin(&ends, &error);
		CU_ASSERT_PTR_NOT_NULL(switched);
		while (switched_claim(switched, FALSE, 8, &run) &&
		       carrier->ops->fetch(carrier, &run, FALSE) != FERRY_IO_OK)
			carrier->ops->wait_fetched(carrier, -1, G_TIME_SPAN_MILLISECOND);
		carrier->ops->quiesce(carrier);
		landed = switched->missing;
		CU_ASSERT_EQUAL(carrier->ops->progress(carrier), FERRY_IO_DEAD);
		CU_ASSERT_EQUAL(carrier->ops->fetch(carrier, &run, TRUE), FERRY_IO_DEAD);
		carrier->ops->wait_fetched(carrier, -1, -1);
		CU_ASSERT_EQUAL(switched->missing, landed);
		CU_ASSERT_PTR_NULL(carrier->ops->take_error(carrier));
	}
	expect_clean_end(&ends);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(push__one_queue_pair__every_page_lands_once),
		CASE(push__four_queue_pairs_out_of_order__every_page_lands_once),
		CASE(push__visibility_delayed__is_whole_when_it_lands),
		CASE(push__sixteen_queue_pairs__every_page_lands_once),
		CASE(pull__one_queue_pair__every_page_lands_once),
		CASE(pull__four_queue_pairs_out_of_order__every_page_lands_once),
		CASE(pull__sixteen_queue_pairs__every_page_lands_once),
		CASE(pull__one_read_at_a_time__every_page_lands_once),
		CASE(push__before_any_page_went__registers_what_is_waited_for),
		CASE(push__under_a_pin_limit__stays_below),
		CASE(pull__before_any_page_went__waits_for_regions),
		CASE(mode__off_at_the_destination__is_push),
		CASE(mode__pin_limit_at_either_side__is_push),
		CASE(mode__on_demand__is_push),
		CASE(mode__session_without_postcopy__is_none),
		CASE(mode__destination_without_postcopy__falls_back),
		CASE(queue_pairs__sixteen_of_the_setting__leave_room_for_the_urgent_one),
		CASE(source__that_is_read__is_registered_whole_without_write_access),
		CASE(offer__private_memory__is_refused_with_the_remedy),
		CASE(begin_postcopy__private_memory_elsewhere__is_refused_with_the_remedy),
		CASE(begin_postcopy__not_agreed__is_refused),
		CASE(fetch__before_the_switch__reads_nothing),
		CASE(urgent__before_the_switch__writes_nothing),
		CASE(urgent__beside_bulk_that_has_no_room__goes_at_once),
		CASE(settle__with_an_urgent_page_under_way__waits_for_it),
		CASE(urgent__page_whose_chunk_is_not_registered__has_it_registered),
		CASE(push__to_a_destination_that_is_slow__never_finds_it_not_ready),
		CASE(describe__after_a_pull__counts_reads),
		CASE(wait_fetched__room_came_before__returns_at_once),
		CASE(quiesce__in_mid_fetch__ends_it),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "carrier-postcopy", cases);
}
