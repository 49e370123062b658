/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/rehearsal-model.h"
#include "harness.h"

#include <ferry/ram.h>
#include <math.h>

#define PAGES_PER_MIB (1048576 / FERRY_PAGE_SIZE)
#define MIB (1048576.0)

/* A guest that writes @mib a second all over a working set of @set_mib, as a curve. */
static guint make_curve(FerryDirtyPoint *points, double mib, double set_mib)
{
	guint n = 0;

	for (double at = 1.0 / 16; at <= 8; at *= 2)
		points[n++] = (FerryDirtyPoint){ at, set_mib * PAGES_PER_MIB *
							     (1 - exp(-mib * at / set_mib)) };
	return n;
}

static FerryRehearsalModel make(FerryDirtyPoint *points, double mib, double set_mib,
				double link_mib)
{
	return (FerryRehearsalModel){
		.points = points,
		.n_points = make_curve(points, mib, set_mib),
		.ram_pages = 1024 * PAGES_PER_MIB,
		.first_pages = 1024 * PAGES_PER_MIB,
		.bandwidth = link_mib * MIB,
		.limit_ms = 300,
		.million = { .pages_us = 1e6 * FERRY_PAGE_SIZE / link_mib / MIB * 1e6 },
	};
}

static void written__between_behind_and_without_points__follows_the_curve(void)
{
	const FerryDirtyPoint points[] = { { 1, 100 }, { 2, 150 } };
	FerryRehearsalModel model = { .points = points, .n_points = 2, .ram_pages = 1000 };

	CU_ASSERT_EQUAL(ferry_rehearsal_model_written(&model, 0), 0);
	CU_ASSERT_DOUBLE_EQUAL(ferry_rehearsal_model_written(&model, 0.5), 50, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(ferry_rehearsal_model_written(&model, 1.5), 125, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(ferry_rehearsal_model_written(&model, 4), 250, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(ferry_rehearsal_model_written(&model, 1e9), 1000, 1e-9);
	model.n_points = 0;
	CU_ASSERT_EQUAL(ferry_rehearsal_model_written(&model, 5), 0);
}

static void make__idle_guest__one_round_and_no_downtime(void)
{
	FerryDirtyPoint points[8];
	FerryRehearsalModel model = make(points, 0, 64, 512);
	FerryRehearsal rehearsal = { .on = TRUE };

	ferry_rehearsal_model_run(&model, &rehearsal);
	CU_ASSERT_TRUE(rehearsal.converges);
	CU_ASSERT_EQUAL(rehearsal.rounds, 1);
	CU_ASSERT_DOUBLE_EQUAL(rehearsal.total_seconds, 2, 0.01);
	CU_ASSERT_DOUBLE_EQUAL(rehearsal.downtime_ms, 0, 0.01);
	CU_ASSERT_FALSE(rehearsal.needed_downtime_limit_ms || rehearsal.needed_throttle);
}

static void make__slower_than_the_link__converges_in_some_rounds(void)
{
	FerryDirtyPoint points[8];
	FerryRehearsalModel model = make(points, 100, 1024, 200);
	FerryRehearsal rehearsal = { .on = TRUE };

	ferry_rehearsal_model_run(&model, &rehearsal);
	CU_ASSERT_TRUE(rehearsal.converges);
	CU_ASSERT(rehearsal.rounds > 1 && rehearsal.rounds < 10);
	CU_ASSERT(rehearsal.downtime_ms <= 300 && rehearsal.downtime_ms > 0);
	CU_ASSERT(rehearsal.total_seconds > 1024.0 / 200 && rehearsal.total_seconds < 15);
}

/* Each piece of advice, taken, makes it converge; a little less than half of it would not. */
static void make__half_as_fast_again_as_the_link__advice_is_enough_each(void)
{
	FerryDirtyPoint points[8];
	FerryRehearsalModel model = make(points, 150, 512, 100);
	FerryRehearsal rehearsal = { .on = TRUE, .bandwidth_limit = 100 << 20 }, other;
	FerryRehearsalModel changed = model;

	ferry_rehearsal_model_run(&model, &rehearsal);
	CU_ASSERT_FALSE(rehearsal.converges);
	CU_ASSERT_EQUAL(rehearsal.total_seconds, 0);
	CU_ASSERT(rehearsal.downtime_ms > 300);
	CU_ASSERT(rehearsal.needed_throttle > 33 && rehearsal.needed_throttle < 99);
	CU_ASSERT(rehearsal.needed_bandwidth > 150 << 20);

	other = rehearsal;
	changed.limit_ms = rehearsal.needed_downtime_limit_ms;
	ferry_rehearsal_model_run(&changed, &other);
	CU_ASSERT_TRUE(other.converges);
	changed.limit_ms = rehearsal.needed_downtime_limit_ms / 2.0;
	ferry_rehearsal_model_run(&changed, &other);
	CU_ASSERT_FALSE(other.converges);

	changed = model;
	changed.bandwidth = (double)rehearsal.needed_bandwidth;
	ferry_rehearsal_model_run(&changed, &other);
	CU_ASSERT_TRUE(other.converges);

	changed = model;
	changed.n_points = make_curve(points, 150 * (1 - rehearsal.needed_throttle / 100.0), 512);
	ferry_rehearsal_model_run(&changed, &other);
	CU_ASSERT_TRUE(other.converges);
}

static void make__no_limit_of_ours__no_advice_on_bandwidth(void)
{
	FerryDirtyPoint points[8];
	FerryRehearsalModel model = make(points, 150, 512, 100);
	FerryRehearsal rehearsal = { .on = TRUE };

	ferry_rehearsal_model_run(&model, &rehearsal);
	CU_ASSERT_FALSE(rehearsal.converges);
	CU_ASSERT_EQUAL(rehearsal.needed_bandwidth, 0);
}

/* What it takes beside the pages counts, and leaves them a quarter of the limit at least. */
static void make__digest_longer_than_the_limit__pages_get_a_quarter(void)
{
	FerryDirtyPoint points[8];
	FerryRehearsalModel model = make(points, 0, 64, 512);
	FerryRehearsal rehearsal = { .on = TRUE };

	model.million.rest_us = 900e3;
	ferry_rehearsal_model_run(&model, &rehearsal);
	CU_ASSERT_TRUE(rehearsal.converges);
	CU_ASSERT_DOUBLE_EQUAL(rehearsal.downtime_ms, 900, 0.01);
	model = make(points, 4000, 64, 512);
	model.million.rest_us = 290e3;
	ferry_rehearsal_model_run(&model, &rehearsal);
	CU_ASSERT_FALSE(rehearsal.converges);
	CU_ASSERT(rehearsal.needed_downtime_limit_ms > 390);
}

static void make__nothing_helps_but_time__no_number_is_made_up(void)
{
	FerryDirtyPoint points[8];
	FerryRehearsalModel model = make(points, 1e6, 1024, 0.001);
	FerryRehearsal rehearsal = { .on = TRUE, .bandwidth_limit = 1000 };

	ferry_rehearsal_model_run(&model, &rehearsal);
	CU_ASSERT_FALSE(rehearsal.converges);
	CU_ASSERT_EQUAL(rehearsal.needed_downtime_limit_ms, 0);
	CU_ASSERT_EQUAL(rehearsal.needed_throttle, 0);
	CU_ASSERT_EQUAL(rehearsal.needed_bandwidth, 0);
}

static CU_TestInfo cases[] = {
	CASE(written__between_behind_and_without_points__follows_the_curve),
	CASE(make__idle_guest__one_round_and_no_downtime),
	CASE(make__slower_than_the_link__converges_in_some_rounds),
	CASE(make__half_as_fast_again_as_the_link__advice_is_enough_each),
	CASE(make__no_limit_of_ours__no_advice_on_bandwidth),
	CASE(make__digest_longer_than_the_limit__pages_get_a_quarter),
	CASE(make__nothing_helps_but_time__no_number_is_made_up),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "rehearsal-model", cases);
}
