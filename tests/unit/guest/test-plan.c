/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include "guest/plan.h"
#include "harness.h"

#define MIB (1ull << 20)

static void workload__every_form__read(void)
{
	static const struct {
		const char *spec;
		guint32 order;
		guint64 hot, rate;
	} rows[] = {
		{ NULL, FERRY_ORDER_NONE, 0, 0 },
		{ "idle", FERRY_ORDER_NONE, 0, 0 },
		{ "sweep", FERRY_ORDER_SWEEP, 0, 0 },
		{ "sweep:100", FERRY_ORDER_SWEEP, 0, 100 },
		{ "random", FERRY_ORDER_RANDOM, 0, 0 },
		{ "random:1048576", FERRY_ORDER_RANDOM, 0, 1048576 },
		{ "hotset:64M", FERRY_ORDER_RANDOM, 64 * MIB, 0 },
		{ "hotset:1g:5", FERRY_ORDER_RANDOM, 1024 * MIB, 5 },
		{ "hotset:4096:0", FERRY_ORDER_RANDOM, 4096, 0 },
	};

	for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
		FerryPlan plan = { .seed = 3, .rate = 9, .hot = 9, .order = 9 };

		CU_ASSERT_TRUE(ferry_plan_parse_workload(&plan, rows[i].spec, NULL));
		CU_ASSERT_EQUAL(plan.order, rows[i].order);
		CU_ASSERT_EQUAL(plan.hot, rows[i].hot);
		CU_ASSERT_EQUAL(plan.rate, rows[i].rate);
		CU_ASSERT_EQUAL(plan.seed, 3);
	}
}

static void workload__malformed__refused_and_plan_unchanged(void)
{
	static const char *const specs[] = {
		"busy",          "sweep:",        "sweep:fast", "sweep:-1",
		"sweep:1048577", "sweep:1:2",     "idle:1",     "hotset",
		"hotset:",       "hotset:64X",    "hotset:0",   "hotset:64MB",
		"hotset:-4M",    "hotset:4M:1:2", "hotset: 4M", "hotset:99999999999T",
	};

	for (guint i = 0; i < G_N_ELEMENTS(specs); i++) {
		FerryPlan plan = { .seed = 3, .rate = 9, .hot = 9, .order = 9 }, before = plan;
		g_autoptr(GError) error = NULL;

		CU_ASSERT_FALSE(ferry_plan_parse_workload(&plan, specs[i], &error));
		CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID));
		CU_ASSERT_EQUAL(memcmp(&plan, &before, sizeof(plan)), 0);
	}
}

static void plan__number_out_of_range__refused(void)
{
	const FerryPlan good = { .order = FERRY_ORDER_SWEEP, .vcpus = 2 };
	FerryPlan bad[] = { good, good, good, good, good, good };

	bad[0].vcpus = 0;
	bad[1].vcpus = FERRY_VCPUS_MAX + 1;
	bad[2].fill = FERRY_FILL__N;
	bad[3].order = FERRY_ORDER__N;
	bad[4].rate = FERRY_PLAN_RATE_MAX + 1;
	bad[5].hot = 8 * MIB;
	CU_ASSERT_TRUE(ferry_plan_check(&good, 8 * MIB, NULL));
	for (guint i = 0; i < G_N_ELEMENTS(bad); i++)
		CU_ASSERT_FALSE(ferry_plan_check(&bad[i], 8 * MIB, NULL));
	CU_ASSERT_FALSE(ferry_plan_check(&good, 8 * MIB + 1, NULL));
	CU_ASSERT_FALSE(ferry_plan_check(&good, 0, NULL));
	CU_ASSERT_FALSE(ferry_plan_check(&good, G_MAXUINT64 & ~4095ull, NULL));
}

static void slices__any_number_of_vcpus__apart_and_inside_ram(void)
{
	for (guint vcpus = 1; vcpus <= FERRY_VCPUS_MAX; vcpus++) {
		FerryPlan plan = { .order = FERRY_ORDER_SWEEP, .vcpus = vcpus };
		guint64 end = ferry_plan_work_address(9 * MIB);

		for (guint i = 0; i < vcpus; i++) {
			FerrySlice slice = ferry_plan_slice(&plan, 9 * MIB, i);

			CU_ASSERT_TRUE(slice.first >= end && slice.pages > 0);
			end = slice.first + slice.pages * FERRY_PAGE_BYTES;
		}
		CU_ASSERT_TRUE(end <= 9 * MIB && end > 9 * MIB - vcpus * FERRY_PAGE_BYTES);
	}
}

static void permutation__any_size__visits_each_once(void)
{
	static const guint sizes[] = { 1, 2, 3, 4, 5, 63, 64, 65, 1000, 4096, 5000 };

	for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
		g_autofree guint8 *seen = g_malloc0(sizes[i]);
		guint in_place = 0;

		for (guint x = 0; x < sizes[i]; x++) {
			guint64 y = ferry_program_permute(x, sizes[i], 77 + i);

			CU_ASSERT_TRUE(y < sizes[i] && !seen[y]);
			if (y < sizes[i])
				seen[y] = 1;
			in_place += x == y;
		}
		CU_ASSERT_TRUE(sizes[i] < 63 || in_place < sizes[i] / 8);
	}
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(workload__every_form__read),
		CASE(workload__malformed__refused_and_plan_unchanged),
		CASE(plan__number_out_of_range__refused),
		CASE(slices__any_number_of_vcpus__apart_and_inside_ram),
		CASE(permutation__any_size__visits_each_once),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "guest plan", cases);
}
