/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/fault-times.h"
#include "harness.h"

static FerryPostcopyStatus get(FerryFaultTimes *times, gint64 now)
{
	FerryPostcopyStatus status = { 0 };

	ferry_fault_times_get(times, now, &status);
	return status;
}

static gboolean is_near(guint64 got, guint64 want)
{
	return got >= want - want * 3 / 100 && got <= want + want * 3 / 100;
}

static void latency__none__zeros(void)
{
	g_autoptr(FerryFaultTimes) times = ferry_fault_times_new();
	FerryPostcopyStatus status;

	ferry_fault_times_end(times, 0, 0, 5);
	status = get(times, 10);
	CU_ASSERT_EQUAL(status.latency.count, 0);
	CU_ASSERT_EQUAL(status.latency.p99, 0);
	CU_ASSERT_EQUAL(status.latency.max, 0);
	CU_ASSERT_EQUAL(status.n_vcpus, 0);
}

static void latency__one_to_a_thousand__percentiles(void)
{
	g_autoptr(FerryFaultTimes) times = ferry_fault_times_new();
	FerryLatency latency;

	for (gint64 us = 1; us <= 1000; us++) {
		ferry_fault_times_begin(times, 0, (guint64)us, 0, 0);
		ferry_fault_times_end(times, 0, (guint64)us, us);
	}
	latency = get(times, 2000).latency;
	CU_ASSERT_EQUAL(latency.count, 1000);
	CU_ASSERT_EQUAL(latency.max, 1000);
	CU_ASSERT_TRUE(is_near(latency.p50, 500));
	CU_ASSERT_TRUE(is_near(latency.p90, 900));
	CU_ASSERT_TRUE(is_near(latency.p99, 990));
}

static void latency__any_size__within_3_percent(void)
{
	for (guint shift = 0; shift < 62; shift++)
		for (guint64 odd = 0; odd < 3; odd++) {
			g_autoptr(FerryFaultTimes) times = ferry_fault_times_new();
			guint64 us = (1ull << shift) + (odd * ((1ull << shift) - 1)) / 2;
			FerryLatency latency;

			ferry_fault_times_begin(times, 0, 0, 0, 0);
			ferry_fault_times_end(times, 0, 0, (gint64)us);
			latency = get(times, 0).latency;
			CU_ASSERT_TRUE(is_near(latency.p50, us));
			CU_ASSERT_EQUAL(latency.max, us);
		}
}

static void begin__two_threads_one_page__both_end(void)
{
	g_autoptr(FerryFaultTimes) times = ferry_fault_times_new();

	ferry_fault_times_begin(times, 1, 7, 11, 100);
	ferry_fault_times_begin(times, 1, 7, 12, 110);
	ferry_fault_times_end(times, 0, 7, 120);
	ferry_fault_times_end(times, 1, 6, 120);
	CU_ASSERT_EQUAL(get(times, 120).latency.count, 0);
	ferry_fault_times_end(times, 1, 7, 120);
	CU_ASSERT_EQUAL(get(times, 120).latency.count, 2);
	CU_ASSERT_EQUAL(get(times, 120).latency.max, 20);
}

static void begin__the_same_fault_again__one_wait_from_the_first(void)
{
	g_autoptr(FerryFaultTimes) times = ferry_fault_times_new();

	ferry_fault_times_begin(times, 0, 7, 11, 100);
	ferry_fault_times_begin(times, 0, 7, 11, 140);
	ferry_fault_times_end(times, 0, 7, 150);
	CU_ASSERT_EQUAL(get(times, 150).latency.count, 1);
	CU_ASSERT_EQUAL(get(times, 150).latency.max, 50);
}

static void begin__another_page__the_first_wait_is_over(void)
{
	g_autoptr(FerryFaultTimes) times = ferry_fault_times_new();

	ferry_fault_times_begin(times, 0, 7, 11, 100);
	ferry_fault_times_begin(times, 0, 8, 11, 130);
	CU_ASSERT_EQUAL(get(times, 130).latency.count, 1);
	CU_ASSERT_EQUAL(get(times, 130).latency.max, 30);
	ferry_fault_times_end(times, 0, 7, 150);
	CU_ASSERT_EQUAL(get(times, 150).latency.count, 1);
}

static void blocktime__waits_overlap__of_all_only_while_all_wait(void)
{
	g_autoptr(FerryFaultTimes) times = ferry_fault_times_new();
	const gint32 ids[] = { 11, 12 };
	FerryPostcopyStatus status;

	ferry_fault_times_set_vcpus(times, ids, 2);
	ferry_fault_times_begin(times, 0, 1, 11, 100);
	ferry_fault_times_begin(times, 0, 9, 99, 110);
	ferry_fault_times_begin(times, 0, 2, 12, 150);
	status = get(times, 160);
	CU_ASSERT_EQUAL(status.blocktime_us, 10);
	CU_ASSERT_EQUAL(status.vcpu_blocktime_us[0], 60);
	ferry_fault_times_end(times, 0, 1, 200);
	ferry_fault_times_begin(times, 0, 3, 11, 240);
	ferry_fault_times_end(times, 0, 2, 260);
	ferry_fault_times_end(times, 0, 3, 300);
	status = get(times, 1000);
	CU_ASSERT_EQUAL(status.n_vcpus, 2);
	CU_ASSERT_EQUAL(status.vcpu_blocktime_us[0], 160);
	CU_ASSERT_EQUAL(status.vcpu_blocktime_us[1], 110);
	CU_ASSERT_EQUAL(status.blocktime_us, 70);
}

static void set_vcpus__they_wait_already__from_their_faults_on(void)
{
	g_autoptr(FerryFaultTimes) times = ferry_fault_times_new();
	const gint32 ids[] = { 11, 12 };
	FerryPostcopyStatus status;

	ferry_fault_times_begin(times, 0, 2, 12, 150);
	ferry_fault_times_begin(times, 0, 1, 11, 100);
	ferry_fault_times_set_vcpus(times, ids, 2);
	status = get(times, 200);
	CU_ASSERT_EQUAL(status.vcpu_blocktime_us[0], 100);
	CU_ASSERT_EQUAL(status.vcpu_blocktime_us[1], 50);
	CU_ASSERT_EQUAL(status.blocktime_us, 50);
}

static void set_vcpus__more_than_are_told__all_count(void)
{
	g_autoptr(FerryFaultTimes) times = ferry_fault_times_new();
	gint32 ids[FERRY_VCPUS_MAX + 1];

	for (guint i = 0; i < G_N_ELEMENTS(ids); i++)
		ids[i] = (gint32)i + 1;
	ferry_fault_times_set_vcpus(times, ids, G_N_ELEMENTS(ids));
	for (guint i = 0; i < FERRY_VCPUS_MAX; i++)
		ferry_fault_times_begin(times, 0, i, ids[i], 10);
	CU_ASSERT_EQUAL(get(times, 30).blocktime_us, 0);
	ferry_fault_times_begin(times, 0, 1000, ids[FERRY_VCPUS_MAX], 20);
	CU_ASSERT_EQUAL(get(times, 30).blocktime_us, 10);
	CU_ASSERT_EQUAL(get(times, 30).n_vcpus, FERRY_VCPUS_MAX);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(latency__none__zeros),
		CASE(latency__one_to_a_thousand__percentiles),
		CASE(latency__any_size__within_3_percent),
		CASE(begin__two_threads_one_page__both_end),
		CASE(begin__the_same_fault_again__one_wait_from_the_first),
		CASE(begin__another_page__the_first_wait_is_over),
		CASE(blocktime__waits_overlap__of_all_only_while_all_wait),
		CASE(set_vcpus__they_wait_already__from_their_faults_on),
		CASE(set_vcpus__more_than_are_told__all_count),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "fault-times", cases);
}
