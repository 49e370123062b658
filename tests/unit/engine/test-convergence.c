/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "engine/convergence.h"

#define SECOND G_USEC_PER_SEC

/* Collects one second apart; the number of the first after which the guest is to be slowed down, or
 * 0. */
static guint first_judged(const guint64 *dirtied, guint n, guint64 sent, guint threshold)
{
	FerryConvergence convergence;

	ferry_convergence_begin(&convergence, 7);
	for (guint i = 0; i < n; i++)
		if (ferry_convergence_judge(&convergence, 7 + (i + 1) * SECOND, dirtied[i], sent,
					    threshold))
			return i + 1;
	return 0;
}

static void judge__over_the_threshold_twice_in_a_row__slows_down(void)
{
	const guint64 over[] = { 51, 51 }, at[] = { 50, 50, 50, 50 }, once[] = { 99, 10, 99, 10 };
	const guint64 late[] = { 51, 0, 51, 51 };

	CU_ASSERT_EQUAL(first_judged(over, 2, 100, 50), 2);
	CU_ASSERT_EQUAL(first_judged(over, 1, 100, 50), 0);
	CU_ASSERT_EQUAL(first_judged(at, 4, 100, 50), 0);
	CU_ASSERT_EQUAL(first_judged(at, 4, 100, 49), 2);
	CU_ASSERT_EQUAL(first_judged(once, 4, 100, 50), 0);
	CU_ASSERT_EQUAL(first_judged(late, 4, 100, 50), 4);
}

static void judge__over_for_long__every_second_time(void)
{
	FerryConvergence convergence;
	guint times = 0;

	ferry_convergence_begin(&convergence, 0);
	for (guint i = 1; i <= 10; i++)
		times += ferry_convergence_judge(&convergence, i * SECOND, 150, 100, 50);
	CU_ASSERT_EQUAL(times, 5);
	CU_ASSERT_DOUBLE_EQUAL(convergence.excess, 3, 1e-9);
}

static void judge__short_rounds__taken_together(void)
{
	FerryConvergence convergence;
	guint times = 0;

	/* Each second round of 10 ms dirties much, and all together less than the threshold. */
	ferry_convergence_begin(&convergence, 0);
	for (guint i = 1; i <= 100; i++)
		times += ferry_convergence_judge(&convergence, i * 10000, i % 2 ? 90 : 0, 100, 50);
	CU_ASSERT_EQUAL(times, 0);
	for (guint i = 101; i <= 140; i++)
		times += ferry_convergence_judge(&convergence, i * 10000, 90, 100, 50);
	CU_ASSERT_EQUAL(times, 2);
}

static void judge__nothing_sent__any_page_is_too_many(void)
{
	const guint64 dirtied[] = { 1, 1 };
	const FerryThrottleSteps tailslow = { 20, 10, 99, TRUE };
	FerryConvergence convergence;

	CU_ASSERT_EQUAL(first_judged(dirtied, 2, 0, 50), 2);
	ferry_convergence_begin(&convergence, 0);
	for (guint i = 1; i <= 2; i++)
		ferry_convergence_judge(&convergence, i * SECOND, 1, 0, 50);
	CU_ASSERT_EQUAL(ferry_throttle_step(50, &tailslow, convergence.excess), 60);
}

static void step__first__initial_and_then_increments_to_the_most(void)
{
	FerryThrottleSteps steps = { .initial = 20, .increment = 30, .max = 75 };
	const guint expected[] = { 20, 50, 75, 75 };
	guint percent = 0;

	for (guint i = 0; i < G_N_ELEMENTS(expected); i++) {
		percent = ferry_throttle_step(percent, &steps, 100);
		CU_ASSERT_EQUAL(percent, expected[i]);
	}
	steps.max = 40;
	CU_ASSERT_EQUAL(ferry_throttle_step(percent, &steps, 100), 40);
	CU_ASSERT_EQUAL(ferry_throttle_step(0, &(FerryThrottleSteps){ 99, 10, 50, FALSE }, 9), 50);
}

static void step__tailslow__no_further_than_needed(void)
{
	const FerryThrottleSteps steps = {
		.initial = 20, .increment = 10, .max = 99, .tailslow = TRUE
	};

	/* 20 % are left, and dirty a tenth too much: 18.2 % would do. */
	CU_ASSERT_EQUAL(ferry_throttle_step(80, &steps, 1.1), 81);
	/* Half of 80 % would do: that is further than a step. */
	CU_ASSERT_EQUAL(ferry_throttle_step(20, &steps, 2), 30);
	/* Half of 10 %. */
	CU_ASSERT_EQUAL(ferry_throttle_step(90, &steps, 2), 95);
	CU_ASSERT_EQUAL(ferry_throttle_step(0, &steps, 1.01), 20);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(judge__over_the_threshold_twice_in_a_row__slows_down),
		CASE(judge__over_for_long__every_second_time),
		CASE(judge__short_rounds__taken_together),
		CASE(judge__nothing_sent__any_page_is_too_many),
		CASE(step__first__initial_and_then_increments_to_the_most),
		CASE(step__tailslow__no_further_than_needed),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "convergence", cases);
}
