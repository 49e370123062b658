/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "engine/forecast.h"

#include <math.h>

#define MIB_PAGES 256u

static gboolean is_near(double value, double expected)
{
	return fabs(value - expected) <= 0.01 * expected;
}

/* One answer of 100 us, rounds of 2 us a page, a collect of 1 ms. */
static FerryForecast measured(void)
{
	FerryForecast f = { .answer_us = 0 };

	ferry_forecast_answered(&f, 100);
	ferry_forecast_sent(&f, TRUE, 1u << 20, 0, 2u << 20);
	ferry_forecast_sent(&f, FALSE, 10000, 0, 20100);
	ferry_forecast_collected(&f, 1000, 5000, 100000);
	return f;
}

static void downtime__nothing_measured__is_nothing(void)
{
	FerryForecast f = { .answer_us = 0 };
	FerryForecastDowntime downtime = ferry_forecast_downtime(&f, 1000, 0, 0);

	CU_ASSERT_EQUAL(ferry_forecast_total_us(&downtime), 0);
	CU_ASSERT_FALSE(downtime.known);
}

static void downtime__of_measured_rounds__is_the_sum_of_its_parts(void)
{
	FerryForecast f = measured();
	FerryForecastDowntime downtime = ferry_forecast_downtime(&f, 3000, 0, 0);

	CU_ASSERT(is_near(downtime.pages_us, 3000 * 2.0));
	/* 5000 pages in 100 ms, unseen for 1 ms, at 2 us each. */
	CU_ASSERT(is_near(downtime.more_us, 50 * 2.0));
	CU_ASSERT(is_near(downtime.rest_us, 2 * 1000 + 3 * 100));
	CU_ASSERT_TRUE(downtime.known);
	f.digest_us = 70000;
	downtime = ferry_forecast_downtime(&f, 3000, 0, 0);
	CU_ASSERT(is_near(ferry_forecast_total_us(&downtime), 6000 + 100 + 2300 + 70000));
}

/* The first round touches memory there, and later ones do not. */
static void sent__first_round_alone__counts_until_another_is_known(void)
{
	FerryForecast f = { .answer_us = 0 };
	FerryForecastDowntime downtime;

	ferry_forecast_sent(&f, TRUE, 1u << 20, 0, 5u << 20);
	downtime = ferry_forecast_downtime(&f, 100, 0, 0);
	CU_ASSERT(is_near(downtime.pages_us, 500));
	CU_ASSERT_FALSE(downtime.known);
	ferry_forecast_sent(&f, FALSE, 50000, 0, 50000);
	downtime = ferry_forecast_downtime(&f, 100, 0, 0);
	CU_ASSERT(downtime.pages_us > 100 && downtime.pages_us < 105);
	CU_ASSERT_TRUE(downtime.known);
}

static void sent__pages_that_went_before__are_a_kind_of_their_own(void)
{
	FerryForecast f = measured();
	FerryForecastDowntime downtime = ferry_forecast_downtime(&f, 1000, 800, 0);

	CU_ASSERT_FALSE(downtime.known);
	CU_ASSERT(is_near(downtime.pages_us, 1000 * 2.0));
	ferry_forecast_sent(&f, FALSE, 2000, 1900, 1100);
	downtime = ferry_forecast_downtime(&f, 1000, 800, 0);
	CU_ASSERT_TRUE(downtime.known);
	CU_ASSERT(is_near(downtime.pages_us, 200 * 2.0 + 800 * 0.5));
}

static void sent__link_that_slows_down__is_followed_within_a_few_rounds(void)
{
	FerryForecast f = measured();
	FerryForecastDowntime downtime;

	for (guint i = 0; i < 6; i++)
		ferry_forecast_sent(&f, FALSE, 10000, 0, 80100);
	downtime = ferry_forecast_downtime(&f, 1000, 0, 0);
	CU_ASSERT(downtime.pages_us > 7800 && downtime.pages_us <= 8000);
}

static void downtime__bandwidth_is_given__it_is_what_counts(void)
{
	FerryForecast f = measured();
	FerryForecastDowntime downtime = ferry_forecast_downtime(&f, 100 * MIB_PAGES,
								 50 * MIB_PAGES, 100u << 20);

	CU_ASSERT(is_near(downtime.pages_us, 1e6));
	CU_ASSERT_TRUE(downtime.known);
}

static void budget__is_what_all_else_leaves_but_a_quarter_at_least(void)
{
	FerryForecastDowntime downtime = { .more_us = 10000, .rest_us = 40000 };

	CU_ASSERT_EQUAL(ferry_forecast_budget_us(&downtime, 300000), 250000);
	CU_ASSERT_EQUAL(ferry_forecast_budget_us(&downtime, 40000), 10000);
	CU_ASSERT_EQUAL(ferry_forecast_budget_us(&downtime, 0), 0);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(downtime__nothing_measured__is_nothing),
		CASE(downtime__of_measured_rounds__is_the_sum_of_its_parts),
		CASE(sent__first_round_alone__counts_until_another_is_known),
		CASE(sent__pages_that_went_before__are_a_kind_of_their_own),
		CASE(sent__link_that_slows_down__is_followed_within_a_few_rounds),
		CASE(downtime__bandwidth_is_given__it_is_what_counts),
		CASE(budget__is_what_all_else_leaves_but_a_quarter_at_least),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "forecast of the downtime", cases);
}
