/* SPDX-License-Identifier: BSD-2-Clause */
/* That a throttle takes away what it says: measured as what the vCPUs write in windows with and
 * without it, in turn, so that a busy host weighs on both alike. */
#include "fixture.h"

#define WINDOW_US 40000
#define WINDOWS 5u
#define TRIES 4u

typedef struct {
	guint64 full;      /* pages written without it */
	guint64 throttled; /* and with it */
	guint64 ran_us;    /* that its thread ran with it, in all the windows */
} Written;

/* us that the thread of vCPU @vcpu has run. */
static guint64 ran(FerryMachine *machine, guint vcpu)
{
	gint32 ids[FERRY_VCPUS_MAX];
	g_autofree char *path = NULL, *text = NULL;

	if (ferry_vcpus_threads(machine->vcpus, ids, FERRY_VCPUS_MAX) > vcpu)
		path = g_strdup_printf("/proc/self/task/%d/schedstat", ids[vcpu]);
	if (!path || !g_file_get_contents(path, &text, NULL, NULL))
		return 0;
	return g_ascii_strtoull(text, NULL, 10) / 1000;
}

typedef void (*Set)(FerryClock *clock, double percent);

static void set_all(FerryClock *clock, double percent)
{
	ferry_clock_throttle(clock, (guint)percent);
}

static void set_vcpu_1(FerryClock *clock, double percent)
{
	ferry_clock_throttle_vcpu(clock, 1, percent);
}

/* What vCPU @vcpu writes in a window, once it goes at the speed that @percent less is: what was
 * granted at full speed, 2 ms at most, is paid for first. */
static void watch(FerryMachine *machine, guint vcpu, Set set, double percent, Written *written)
{
	guint64 pages, time;

	set(&machine->clock, percent);
	g_usleep(FERRY_CLOCK_BEAT_US + (gulong)(3000 * 100 / (100 - percent)));
	pages = ferry_clock_pages(&machine->clock, vcpu);
	time = ran(machine, vcpu);
	g_usleep(WINDOW_US);
	pages = ferry_clock_pages(&machine->clock, vcpu) - pages;
	if (percent > 0) {
		written->throttled += pages;
		written->ran_us += ran(machine, vcpu) - time;
	} else {
		written->full += pages;
	}
}

static Written compare(FerryMachine *machine, guint vcpu, Set set, double percent)
{
	Written written = { 0 };

	for (guint i = 0; i < WINDOWS; i++) {
		watch(machine, vcpu, set, percent, &written);
		watch(machine, vcpu, set, 0, &written);
	}
	return written;
}

/* Whether about 1 / @divisor of the full speed of vCPU @vcpu is left, by a factor of two. Where the
 * host had no time for the guest it is looked at again. */
static gboolean is_left(FerryMachine *machine, guint vcpu, Set set, double percent, guint64 divisor)
{
	gboolean ok = FALSE;

	for (guint i = 0; i < TRIES && !ok; i++) {
		Written written = compare(machine, vcpu, set, percent);

		ok = written.full && written.throttled * divisor < 2 * written.full &&
		     written.throttled * divisor * 2 > written.full;
		if (!ok)
			printf("# %" G_GUINT64_FORMAT " pages, throttled %" G_GUINT64_FORMAT "\n",
			       written.full, written.throttled);
	}
	return ok;
}

/* The same of one that writes as fast as it can: how many pages that is depends on what the host
 * has left, but not the time that it runs. The doorbell takes some, too. */
static gboolean runs_less(FerryMachine *machine, guint percent)
{
	const guint64 left_us = WINDOWS * WINDOW_US * (100 - percent) / 100;
	gboolean ok = FALSE;

	for (guint i = 0; i < TRIES && !ok; i++) {
		Written written = compare(machine, 0, set_all, percent);

		ok = written.ran_us > 0 && written.ran_us < 2 * left_us && written.throttled > 0 &&
		     written.throttled < written.full;
		if (!ok)
			printf("# ran %" G_GUINT64_FORMAT " us of %" G_GUINT64_FORMAT "\n",
			       written.ran_us, left_us);
	}
	return ok;
}

static void at_a_rate(Kind kind, const char *workload)
{
	g_autoptr(FerryMachine) machine = fixture_machine(kind, workload, FERRY_FILL_PAGES, 1);

	if (!machine)
		return;
	CU_ASSERT_TRUE(ferry_machine_start(machine, NULL));
	CU_ASSERT(is_left(machine, 0, set_all, 75, 4));
	CU_ASSERT(is_left(machine, 0, set_all, 95, 20));
	ferry_machine_stop(machine);
	fixture_check(machine, TRUE);
}

static void at_full_speed(Kind kind, const char *workload)
{
	g_autoptr(FerryMachine) machine = fixture_machine(kind, workload, FERRY_FILL_PAGES, 1);

	if (!machine)
		return;
	CU_ASSERT_TRUE(ferry_machine_start(machine, NULL));
	CU_ASSERT(runs_less(machine, 75));
	CU_ASSERT(runs_less(machine, 95));
	ferry_machine_stop(machine);
	fixture_check(machine, TRUE);
}

static void throttle__process_guest_at_full_speed__runs_less_by_the_share(void)
{
	at_full_speed(PROCESS, "sweep");
}

static void throttle__process_guest_at_a_rate__rate_is_cut_by_the_share(void)
{
	at_a_rate(PROCESS, "random:40");
}

static void throttle__kvm_guest_at_full_speed__runs_less_by_the_share(void)
{
	NEED(KVM);
	at_full_speed(KVM, "random");
}

static void throttle__kvm_guest_at_a_rate__rate_is_cut_by_the_share(void)
{
	NEED(KVM);
	at_a_rate(KVM, "hotset:1M:40");
}

static void one_of_two(Kind kind)
{
	g_autoptr(FerryMachine) machine = fixture_machine(kind, "sweep:80", FERRY_FILL_PAGES, 2);

	if (!machine)
		return;
	CU_ASSERT_TRUE(ferry_machine_start(machine, NULL));
	CU_ASSERT(is_left(machine, 1, set_vcpu_1, 97.5, 40));
	CU_ASSERT(is_left(machine, 0, set_vcpu_1, 97.5, 1));
	ferry_machine_stop(machine);
	fixture_check(machine, TRUE);
}

static void throttle__one_vcpu_of_a_process_guest__the_other_at_full_speed(void)
{
	one_of_two(PROCESS);
}

static void throttle__one_vcpu_of_a_kvm_guest__the_other_at_full_speed(void)
{
	NEED(KVM);
	one_of_two(KVM);
}

/* The most that there is, and then none: what was put off meanwhile must not hold it up. */
static void lift(Kind kind, const char *workload)
{
	g_autoptr(FerryMachine) machine = fixture_machine(kind, workload, FERRY_FILL_PAGES, 1);
	guint64 before;

	if (!machine)
		return;
	CU_ASSERT_TRUE(ferry_machine_start(machine, NULL));
	ferry_clock_throttle_vcpu(&machine->clock, 0, 99.99);
	g_usleep(100000);
	ferry_clock_throttle_vcpu(&machine->clock, 0, 0);
	before = ferry_clock_pages(&machine->clock, 0);
	/* 5 ms to the next heartbeat, 25 ms for 256 pages at 40 MiB/s; the rest is the host's. At
	 * the throttle's speed they would take minutes. */
	for (guint i = 0; i < 5000 && ferry_clock_pages(&machine->clock, 0) < before + 256; i++)
		g_usleep(1000);
	CU_ASSERT(ferry_clock_pages(&machine->clock, 0) >= before + 256);
	ferry_machine_stop(machine);
}

static void throttle__lifted__full_speed_at_once(void)
{
	lift(PROCESS, "sweep");
	lift(PROCESS, "sweep:40");
}

static void throttle__kvm_guest_lifted__full_speed_at_once(void)
{
	NEED(KVM);
	lift(KVM, "sweep");
	lift(KVM, "sweep:40");
}

static void pages__counted__are_those_that_were_written(void)
{
	g_autoptr(FerryMachine) machine = fixture_machine(PROCESS, "random", FERRY_FILL_PAGES, 2);
	guint64 counted, written;

	if (!machine)
		return;
	CU_ASSERT_TRUE(fixture_run(machine, 20000));
	written = fixture_progress(machine);
	counted = ferry_clock_pages(&machine->clock, 0) + ferry_clock_pages(&machine->clock, 1);
	CU_ASSERT_EQUAL(counted, written);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(throttle__process_guest_at_full_speed__runs_less_by_the_share),
		CASE(throttle__process_guest_at_a_rate__rate_is_cut_by_the_share),
		CASE(throttle__kvm_guest_at_full_speed__runs_less_by_the_share),
		CASE(throttle__kvm_guest_at_a_rate__rate_is_cut_by_the_share),
		CASE(throttle__one_vcpu_of_a_process_guest__the_other_at_full_speed),
		CASE(throttle__one_vcpu_of_a_kvm_guest__the_other_at_full_speed),
		CASE(throttle__lifted__full_speed_at_once),
		CASE(throttle__kvm_guest_lifted__full_speed_at_once),
		CASE(pages__counted__are_those_that_were_written),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "throttle", cases);
}
