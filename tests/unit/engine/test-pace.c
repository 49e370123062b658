/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "engine/pace.h"

#include <ferry/ram.h>

#define MIB (1ull << 20)
#define SECOND ((gint64)G_USEC_PER_SEC)
#define STEPS 5000u
#define BATCH (64u << 10) /* that a carrier gathers before it lets them go */

/* A carrier that takes what it is given and lets it go later, by its own clock. */
typedef struct {
	FerryPace pace;
	gint64 now;
	guint64 queued;
	guint64 header;      /* bytes that a run has beside its pages */
	guint64 percent;     /* of a page that is on the wire */
	guint64 lag_us;      /* from the first put until all leaves */
	gint64 since;        /* there is something queued */
	guint64 sent[STEPS]; /* bytes on the wire until each ms */
} Link;

static void set_up(Link *link, guint64 rate)
{
	*link = (Link){ .percent = 100 };
	ferry_pace_init(&link->pace, 0);
	ferry_token_bucket_set_rate(&link->pace.bucket, rate);
	ferry_pace_begin(&link->pace, G_MAXUINT64 >> FERRY_PAGE_SHIFT);
}

static void leave(Link *link, gboolean all)
{
	ferry_pace_left(&link->pace, link->queued, all);
	link->sent[link->now / 1000] += link->queued;
	link->queued = 0;
}

/* All that is queued leaves once it is old enough. */
static void let_go(Link *link)
{
	if (link->now >= link->since + (gint64)link->lag_us)
		leave(link, TRUE);
}

/* Puts runs of @run_pages, or of zeros, until @until. */
static void run(Link *link, gint64 until, guint64 run_pages, gboolean zero)
{
	while (link->now < until) {
		guint64 bytes = zero ? 0 : run_pages << FERRY_PAGE_SHIFT;
		guint64 got = ferry_pace_allow(&link->pace, link->now, bytes);

		if (got) {
			guint64 pages = zero ? run_pages : got >> FERRY_PAGE_SHIFT;

			ferry_pace_put(&link->pace, pages, zero);
			if (!link->queued)
				link->since = link->now;
			link->queued += (zero ? 0 : got * link->percent / 100) + link->header;
			if (!link->lag_us && link->queued >= BATCH)
				leave(link, FALSE);
			continue;
		}
		let_go(link);
		link->now += CLAMP(ferry_pace_delay_us(&link->pace, link->now), 1, 2000);
		ferry_pace_held(&link->pace, 1);
	}
}

/* Every window of half a second from @from on, in ms, has @rate within 5 %. */
static gboolean holds(const Link *link, guint from, guint to, guint64 rate)
{
	for (guint begin = from; begin + 500 <= to; begin++) {
		guint64 bytes = 0;

		for (guint ms = begin; ms < begin + 500; ms++)
			bytes += link->sent[ms];
		if (bytes < rate / 2 * 95 / 100 || bytes > rate / 2 * 105 / 100)
			return FALSE;
	}
	return TRUE;
}

static void check_rates(guint64 header, guint64 percent, guint64 lag_us, guint64 run_pages,
			gboolean zero)
{
	const guint64 rates[] = { 50 * MIB, 200 * MIB, 1000 * MIB };
	g_autofree Link *link = g_new0(Link, 1);

	for (guint i = 0; i < G_N_ELEMENTS(rates); i++) {
		set_up(link, rates[i]);
		link->header = header;
		link->percent = percent;
		link->lag_us = lag_us;
		run(link, 3 * SECOND, run_pages, zero);
		CU_ASSERT_TRUE(holds(link, 100, 3000, rates[i]));
	}
}

static void allow__whole_pages__hold_the_rate(void)
{
	check_rates(33, 100, 0, 1024, FALSE);
}

static void allow__single_pages_with_large_headers__headers_count(void)
{
	check_rates(400, 100, 0, 1, FALSE);
}

static void allow__pages_that_shrink__what_leaves_counts(void)
{
	check_rates(40, 30, 0, 64, FALSE);
}

static void allow__carrier_that_queues__what_is_queued_counts(void)
{
	check_rates(33, 100, 1500, 256, FALSE);
}

static void allow__zero_pages__their_records_count(void)
{
	check_rates(9 * 1024, 100, 0, 1024, TRUE);
}

static void allow__limit_changed_in_flight__holds_at_once(void)
{
	g_autofree Link *link = g_new0(Link, 1);

	set_up(link, 1000 * MIB);
	run(link, SECOND, 1024, FALSE);
	ferry_token_bucket_set_rate(&link->pace.bucket, 50 * MIB);
	run(link, 2 * SECOND, 1024, FALSE);
	ferry_token_bucket_set_rate(&link->pace.bucket, 200 * MIB);
	run(link, 3 * SECOND, 1024, FALSE);
	CU_ASSERT_TRUE(holds(link, 100, 995, 1000 * MIB));
	CU_ASSERT_TRUE(holds(link, 1025, 1995, 50 * MIB));
	CU_ASSERT_TRUE(holds(link, 2025, 3000, 200 * MIB));
}

static void allow__sender_held_up__catches_up_with_20_ms_at_most(void)
{
	g_autofree Link *link = g_new0(Link, 1);

	set_up(link, 200 * MIB);
	run(link, SECOND, 1024, FALSE);
	link->now += 15000;
	run(link, 2 * SECOND, 1024, FALSE);
	CU_ASSERT_TRUE(holds(link, 100, 2000, 200 * MIB));
	link->now += SECOND;
	CU_ASSERT(ferry_pace_allow(&link->pace, link->now, 100 * MIB) <= 4 * MIB);
}

static void allow__end_of_a_round_that_was_held_back__goes_at_once(void)
{
	const guint64 pages = 25 * MIB >> FERRY_PAGE_SHIFT, tail = MIB >> FERRY_PAGE_SHIFT;
	g_autofree Link *link = g_new0(Link, 1);

	set_up(link, 50 * MIB);
	ferry_pace_begin(&link->pace, pages);
	for (guint64 left = pages; left;) {
		guint64 got = ferry_pace_allow(&link->pace, link->now, left << FERRY_PAGE_SHIFT);

		if (!got) {
			link->now += CLAMP(ferry_pace_delay_us(&link->pace, link->now), 1, 2000);
			ferry_pace_held(&link->pace, 1);
			continue;
		}
		ferry_pace_put(&link->pace, got >> FERRY_PAGE_SHIFT, FALSE);
		left -= got >> FERRY_PAGE_SHIFT;
	}
	CU_ASSERT_EQUAL(link->pace.tail_us, link->now);
	CU_ASSERT(link->pace.tail_data > tail / 2 && link->pace.tail_data <= tail);
	CU_ASSERT_EQUAL(link->pace.data, pages);
	/* Half a second, less what the bucket began with. */
	CU_ASSERT(link->now > 480000 && link->now < 502000);
}

static void allow__no_limit__gives_all_and_owes_nothing(void)
{
	FerryPace pace;

	ferry_pace_init(&pace, 0);
	ferry_pace_begin(&pace, 1u << 20);
	CU_ASSERT_EQUAL(ferry_pace_allow(&pace, 0, 4 * MIB), 4 * MIB);
	ferry_pace_left(&pace, 5000 * MIB, TRUE);
	CU_ASSERT_EQUAL(ferry_pace_allow(&pace, 1, 4 * MIB), 4 * MIB);
	CU_ASSERT_EQUAL(ferry_pace_allow(&pace, 1, 0), 1);
	/* One that is set now starts with a clean slate. */
	ferry_token_bucket_set_rate(&pace.bucket, 50 * MIB);
	CU_ASSERT(ferry_pace_allow(&pace, 10000, 4 * MIB) > 0);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(allow__whole_pages__hold_the_rate),
		CASE(allow__single_pages_with_large_headers__headers_count),
		CASE(allow__pages_that_shrink__what_leaves_counts),
		CASE(allow__carrier_that_queues__what_is_queued_counts),
		CASE(allow__zero_pages__their_records_count),
		CASE(allow__limit_changed_in_flight__holds_at_once),
		CASE(allow__sender_held_up__catches_up_with_20_ms_at_most),
		CASE(allow__end_of_a_round_that_was_held_back__goes_at_once),
		CASE(allow__no_limit__gives_all_and_owes_nothing),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "pace", cases);
}
