/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "engine/token-bucket.h"

#define MB 1000000ull
#define HOUR (3600ll * G_USEC_PER_SEC)

static void take__no_limit__gives_all_at_once(void)
{
	FerryTokenBucket b;

	ferry_token_bucket_init(&b, 5);
	CU_ASSERT_EQUAL(ferry_token_bucket_take(&b, 5, G_MAXUINT64), G_MAXUINT64);
	CU_ASSERT_EQUAL(ferry_token_bucket_delay_us(&b, 5, G_MAXUINT64), 0);
}

/* Takes as a sender does for ten seconds of the clock; returns bytes. */
static guint64 drain(FerryTokenBucket *b, gint64 from, gint64 step_us)
{
	guint64 bytes = 0;

	for (gint64 now = from; now < from + 10 * G_USEC_PER_SEC; now += step_us)
		bytes += ferry_token_bucket_take(b, now, 1 << 20);
	return bytes;
}

static void take__limited__holds_the_rate_at_any_step(void)
{
	const gint64 steps[] = { 7, 100, 999, 5000 };

	for (guint i = 0; i < G_N_ELEMENTS(steps); i++) {
		FerryTokenBucket b;
		guint64 bytes;

		ferry_token_bucket_init(&b, 0);
		ferry_token_bucket_set_rate(&b, 100 * MB);
		bytes = drain(&b, 0, steps[i]);
		CU_ASSERT(bytes > 995 * MB && bytes < 1003 * MB);
	}
}

static void take__after_a_long_pause__burst_is_twenty_milliseconds(void)
{
	FerryTokenBucket b;

	ferry_token_bucket_init(&b, 0);
	ferry_token_bucket_set_rate(&b, 100 * MB);
	CU_ASSERT_EQUAL(ferry_token_bucket_take(&b, HOUR, 1 << 30), 2 * MB);
	CU_ASSERT_EQUAL(ferry_token_bucket_take(&b, HOUR, 1 << 30), 0);
}

static void take__slow_rate__still_saves_up_a_batch(void)
{
	FerryTokenBucket b;

	ferry_token_bucket_init(&b, 0);
	ferry_token_bucket_set_rate(&b, 1000);
	CU_ASSERT_EQUAL(ferry_token_bucket_take(&b, 0, 1 << 30), FERRY_TOKEN_BUCKET_BATCH);
	CU_ASSERT_EQUAL(ferry_token_bucket_take(&b, HOUR, 1 << 30), FERRY_TOKEN_BUCKET_BATCH);
}

static void delay__waited_for__then_take_gives_all(void)
{
	const guint64 rates[] = { 1, 1000, 33 * MB, 12345678901ull };

	for (guint i = 0; i < G_N_ELEMENTS(rates); i++) {
		FerryTokenBucket b;
		gint64 delay;

		ferry_token_bucket_init(&b, 0);
		ferry_token_bucket_set_rate(&b, rates[i]);
		while (ferry_token_bucket_take(&b, 0, 1 << 20))
			;
		delay = ferry_token_bucket_delay_us(&b, 0, 4096);
		CU_ASSERT(delay > 0);
		CU_ASSERT_EQUAL(ferry_token_bucket_take(&b, delay, 4096), 4096);
		CU_ASSERT(ferry_token_bucket_delay_us(&b, delay, G_MAXUINT64) > 0);
	}
}

static void set_rate__in_mid_flight__acts_at_the_next_take(void)
{
	FerryTokenBucket b;

	ferry_token_bucket_init(&b, 0);
	ferry_token_bucket_set_rate(&b, 100 * MB);
	drain(&b, 0, 1000);
	ferry_token_bucket_set_rate(&b, 10 * MB);
	CU_ASSERT(drain(&b, 10 * G_USEC_PER_SEC, 1000) < 102 * MB);
	ferry_token_bucket_set_rate(&b, 0);
	CU_ASSERT_EQUAL(ferry_token_bucket_take(&b, 20 * G_USEC_PER_SEC, 1 << 30), 1 << 30);
	/* No debt and no treasure is left over from the time without a limit. */
	ferry_token_bucket_set_rate(&b, 100 * MB);
	CU_ASSERT(ferry_token_bucket_take(&b, 20 * G_USEC_PER_SEC + 1000, 1 << 30) < 2 * MB);
}

static void give_back__what_was_not_sent__can_be_taken_again(void)
{
	FerryTokenBucket b;

	ferry_token_bucket_init(&b, 0);
	ferry_token_bucket_set_rate(&b, 100 * MB);
	ferry_token_bucket_take(&b, 0, 1 << 30);
	ferry_token_bucket_give_back(&b, 5000);
	CU_ASSERT_EQUAL(ferry_token_bucket_take(&b, 0, 1 << 30), 5000);
}

static void spend__more_than_there_is__is_owed(void)
{
	FerryTokenBucket b;

	ferry_token_bucket_init(&b, 0);
	ferry_token_bucket_set_rate(&b, 100 * MB);
	ferry_token_bucket_spend(&b, FERRY_TOKEN_BUCKET_BATCH + 5 * MB);
	CU_ASSERT_EQUAL(ferry_token_bucket_take(&b, 49000, 1), 0);
	CU_ASSERT_EQUAL(ferry_token_bucket_delay_us(&b, 49000, MB / 10), 2000);
	CU_ASSERT_EQUAL(ferry_token_bucket_take(&b, 51000, MB / 10), MB / 10);
	/* What is given back is no more than can be saved up. */
	ferry_token_bucket_spend(&b, -(gint64)(500 * MB));
	CU_ASSERT_EQUAL(ferry_token_bucket_take(&b, 51000, HOUR), 2 * MB);
	CU_ASSERT_EQUAL(ferry_token_bucket_burst(&b), 2 * MB);
	CU_ASSERT_EQUAL(ferry_token_bucket_batch(&b), 200000);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(take__no_limit__gives_all_at_once),
		CASE(take__limited__holds_the_rate_at_any_step),
		CASE(take__after_a_long_pause__burst_is_twenty_milliseconds),
		CASE(take__slow_rate__still_saves_up_a_batch),
		CASE(delay__waited_for__then_take_gives_all),
		CASE(set_rate__in_mid_flight__acts_at_the_next_take),
		CASE(spend__more_than_there_is__is_owed),
		CASE(give_back__what_was_not_sent__can_be_taken_again),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "token bucket", cases);
}
