/* SPDX-License-Identifier: BSD-2-Clause */
/* The controller against vCPUs that are models: a clock that counts, and no guest. */
#include "harness.h"
#include "engine/dirty-limit.h"

#include <math.h>
#include <ferry/ram.h>

#define MIB 1048576.0

/* A vCPU whose writing follows its share of time by this power: 1 is in proportion. */
typedef struct {
	double full; /* bytes a second at full speed */
	double power;
	double most; /* it writes no more, whatever its share; 0: none such */
	double written;
} Model;

static double rate(const Model *model, double left)
{
	double bytes = model->full * pow(left, model->power);

	return model->most ? MIN(bytes, model->most) : bytes;
}

/* Runs @periods of @period_us; the rate that it then has. */
static double settle(Model *model, FerryDirtyLimit *vcpu, guint periods, gint64 period_us,
		     double limit)
{
	gint64 now = vcpu->since_us;

	for (guint i = 0; i < periods; i++) {
		model->written += rate(model, vcpu->left) * period_us / 1e6;
		now += period_us;
		ferry_dirty_limit_measure(vcpu, now, model->written / FERRY_PAGE_SIZE, limit);
	}
	return rate(model, vcpu->left);
}

static gboolean is_near(double rate, double limit)
{
	if (rate > 0.8 * limit && rate < 1.2 * limit)
		return TRUE;
	printf("# %.2f MiB/s for a limit of %.2f\n", rate / MIB, limit / MIB);
	return FALSE;
}

static void limit__busy_vcpu__settles_within_three_periods(void)
{
	const double powers[] = { 0.8, 1, 1.3 };

	for (guint i = 0; i < G_N_ELEMENTS(powers); i++) {
		Model model = { .full = 2048 * MIB, .power = powers[i] };
		FerryDirtyLimit vcpu;

		ferry_dirty_limit_begin(&vcpu, 5, 0);
		CU_ASSERT(is_near(settle(&model, &vcpu, 3, 100000, 50 * MIB), 50 * MIB));
		/* And follows one that changes. */
		CU_ASSERT(is_near(settle(&model, &vcpu, 3, 100000, 5 * MIB), 5 * MIB));
		CU_ASSERT(is_near(settle(&model, &vcpu, 3, 100000, 200 * MIB), 200 * MIB));
	}
}

/* One that is idle for most of its time loses that first. */
static void limit__vcpu_that_needs_little_of_its_time__still_settles(void)
{
	Model model = { .full = 1000 * MIB, .power = 1, .most = 100 * MIB };
	FerryDirtyLimit vcpu;

	ferry_dirty_limit_begin(&vcpu, 0, 0);
	CU_ASSERT(is_near(settle(&model, &vcpu, 3, 1000000, 20 * MIB), 20 * MIB));
}

static void limit__vcpu_below_it__full_speed(void)
{
	Model model = { .full = 9 * MIB, .power = 1 };
	FerryDirtyLimit vcpu;

	ferry_dirty_limit_begin(&vcpu, 0, 1000);
	model.written = 1000 * FERRY_PAGE_SIZE;
	for (guint i = 0; i < 5; i++) {
		settle(&model, &vcpu, 1, 1000000, 10 * MIB);
		CU_ASSERT_EQUAL(vcpu.left, 1);
	}
	/* It comes above, and back below. */
	model.full = 40 * MIB;
	CU_ASSERT(is_near(settle(&model, &vcpu, 3, 1000000, 10 * MIB), 10 * MIB));
	model.full = 4 * MIB;
	settle(&model, &vcpu, 3, 1000000, 10 * MIB);
	CU_ASSERT_EQUAL(vcpu.left, 1);
	model.full = 0;
	settle(&model, &vcpu, 3, 1000000, 10 * MIB);
	CU_ASSERT_EQUAL(vcpu.left, 1);
}

/* A period that is shorter than the time between two bursts sees most of the time nothing. */
static void measure__between_bursts__waits_for_the_next(void)
{
	FerryDirtyLimit vcpu;
	guint64 pages = 0;
	gint64 now = 0;

	ferry_dirty_limit_begin(&vcpu, 0, 0);
	for (guint i = 0; i < 1000; i++) {
		now += 1000;
		/* 1000 MiB/s at full speed, in a burst every 10 ms. */
		if (i % 10 == 9)
			pages += (guint64)(1000 * 256 * 0.01 * vcpu.left);
		ferry_dirty_limit_measure(&vcpu, now, pages, 50 * MIB);
		if (i > 100)
			CU_ASSERT(vcpu.left > 0.04 && vcpu.left < 0.06);
	}
	/* But not for ever. */
	CU_ASSERT(ferry_dirty_limit_measure(&vcpu, now + 100000, pages, 50 * MIB));
	CU_ASSERT_EQUAL(vcpu.left, 1);
}

static void measure__count_goes_back__begins_anew(void)
{
	FerryDirtyLimit vcpu;

	ferry_dirty_limit_begin(&vcpu, 0, 1u << 20);
	CU_ASSERT_FALSE(ferry_dirty_limit_measure(&vcpu, 1000000, 10, MIB));
	CU_ASSERT_TRUE(ferry_dirty_limit_measure(&vcpu, 2000000, 10 + 2560, MIB));
	CU_ASSERT_DOUBLE_EQUAL(vcpu.left, 0.1, 1e-9);
}

static void limit__far_below_what_is_written__something_is_left(void)
{
	FerryDirtyLimit vcpu;

	ferry_dirty_limit_begin(&vcpu, 0, 0);
	ferry_dirty_limit_measure(&vcpu, 1000000, G_MAXUINT32, MIB);
	CU_ASSERT_DOUBLE_EQUAL(vcpu.left, 1e-4, 1e-12);
	CU_ASSERT_FALSE(ferry_dirty_limit_measure(&vcpu, 1000000, G_MAXUINT32, MIB));
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(limit__busy_vcpu__settles_within_three_periods),
		CASE(limit__vcpu_that_needs_little_of_its_time__still_settles),
		CASE(limit__vcpu_below_it__full_speed),
		CASE(measure__between_bursts__waits_for_the_next),
		CASE(measure__count_goes_back__begins_anew),
		CASE(limit__far_below_what_is_written__something_is_left),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "dirty-limit", cases);
}
