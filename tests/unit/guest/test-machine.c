/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include "fixture.h"

static char *digest(const FerryMachine *machine)
{
	return g_compute_checksum_for_data(G_CHECKSUM_MD5, machine->ram.host, machine->ram.size);
}

static void pause_often(Kind kind)
{
	g_autoptr(FerryMachine) machine = fixture_machine(kind, "random", FERRY_FILL_PAGES, 2);

	if (!machine)
		return;
	for (guint i = 0; i < 40; i++) {
		g_autofree char *before = NULL, *after = NULL;

		CU_ASSERT_TRUE(fixture_run(machine, 1));
		before = digest(machine);
		fixture_check(machine, TRUE);
		after = digest(machine);
		CU_ASSERT_STRING_EQUAL(before, after);
	}
}

static void pause__process_guest_busy__ram_stands_still(void)
{
	pause_often(PROCESS);
}

static void pause__kvm_guest_busy__ram_stands_still(void)
{
	NEED(KVM);
	pause_often(KVM);
}

/* The same progress, the same RAM, however it was come by: the process guest stops between pages.
 */
static void workload__same_seed__same_ram(void)
{
	g_autoptr(FerryMachine) a = fixture_machine(PROCESS, "random", FERRY_FILL_RANDOM, 1);
	g_autoptr(FerryMachine) b = fixture_machine(PROCESS, "random", FERRY_FILL_RANDOM, 1);
	guint64 skip = ferry_plan_work_address(FIXTURE_RAM);
	FerrySlice slice;

	if (!a || !b)
		return;
	CU_ASSERT_EQUAL(memcmp(a->ram.host, b->ram.host, FIXTURE_RAM), 0);
	CU_ASSERT_TRUE(fixture_run(a, 3000));
	CU_ASSERT_NOT_EQUAL(memcmp(a->ram.host + skip, b->ram.host + skip, FIXTURE_RAM - skip), 0);
	slice = ferry_plan_slice(&b->plan, FIXTURE_RAM, 0);
	for (guint64 t = 0; t < fixture_progress(a); t++) {
		guint64 at = ferry_slice_address(&slice, t / slice.pages, t % slice.pages);
		FerryPageText text = ferry_slice_text(&slice, at, t / slice.pages + 1);

		ferry_page_write((uint64_t *)(b->ram.host + at), &text);
	}
	CU_ASSERT_EQUAL(memcmp(a->ram.host + skip, b->ram.host + skip, FIXTURE_RAM - skip), 0);
}

static void run_long(Kind kind, const char *workload, guint vcpus)
{
	g_autoptr(FerryMachine) machine = fixture_machine(kind, workload, FERRY_FILL_PAGES, vcpus);
	FerryGuestReport report;

	if (!machine)
		return;
	CU_ASSERT_TRUE(ferry_machine_start(machine, NULL));
	g_usleep(200000);
	ferry_machine_stop(machine);
	report = fixture_check(machine, TRUE);
	CU_ASSERT_TRUE(report.heartbeat > 1 && report.heartbeat <= 60);
}

static void run_all(Kind kind)
{
	run_long(kind, "idle", 1);
	run_long(kind, "sweep", 1);
	run_long(kind, "random:50", 2);
	run_long(kind, "hotset:1M:10", 3);
	run_long(kind, "random", FERRY_VCPUS_MAX);
}

static void run__process_guest__ram_and_heartbeat_check(void)
{
	run_all(PROCESS);
}

static void run__kvm_guest__ram_and_heartbeat_check(void)
{
	NEED(KVM);
	run_all(KVM);
}

static void dirty_at_rate(Kind kind)
{
	g_autoptr(FerryMachine) machine = fixture_machine(kind, "sweep:20", FERRY_FILL_ZERO, 1);
	gint64 began;
	guint64 at_most, throttled;

	if (!machine)
		return;
	began = g_get_monotonic_time();
	CU_ASSERT_TRUE(fixture_run(machine, 512));
	/* 2 MiB at 20 MiB/s cannot take less than 100 ms, less a burst at each of the stops. */
	at_most = (g_get_monotonic_time() - began) * 20 * 256 / 1000000;
	CU_ASSERT_TRUE(fixture_progress(machine) <= at_most * 2 + 64);

	ferry_clock_throttle(&machine->clock, 99);
	throttled = fixture_progress(machine);
	CU_ASSERT_TRUE(ferry_machine_start(machine, NULL));
	g_usleep(100000);
	ferry_machine_stop(machine);
	CU_ASSERT_TRUE(fixture_progress(machine) - throttled <= 64);
	fixture_check(machine, TRUE);
}

static void rate__process_guest__kept(void)
{
	dirty_at_rate(PROCESS);
}

static void rate__kvm_guest__kept(void)
{
	NEED(KVM);
	dirty_at_rate(KVM);
}

/* To and fro; the machine that the guest left takes it in again. */
static void ping_pong(Kind kind, guint vcpus, guint times)
{
	g_autoptr(FerryMachine) here = fixture_machine(kind, "random", FERRY_FILL_PAGES, vcpus);
	g_autoptr(FerryMachine) there = fixture_machine(kind, NULL, FERRY_FILL_ZERO, 1);

	if (!here || !there)
		return;
	for (guint i = 0; i < times; i++) {
		g_autoptr(GError) error = NULL;
		FerryMachine *left = here;
		FerryGuestReport before, after;

		CU_ASSERT_TRUE(fixture_run(here, 300));
		before = fixture_check(here, TRUE);
		CU_ASSERT_TRUE(fixture_move(here, there, &error));
		CU_ASSERT_PTR_NULL(error);
		after = fixture_check(there, TRUE);
		CU_ASSERT_EQUAL(after.written, before.written);
		CU_ASSERT_EQUAL(after.heartbeat, before.heartbeat);
		here = there;
		there = left;
		if (i == 0) { /* the cleanup frees the two variables, whatever they hold */
			CU_ASSERT_EQUAL(here->plan.vcpus, vcpus);
			CU_ASSERT_EQUAL(here->plan.seed, 7);
		}
	}
	CU_ASSERT_TRUE(fixture_run(here, 3000));
	CU_ASSERT_TRUE(fixture_check(here, TRUE).heartbeat > 0);
}

static void move__process_guest_to_and_fro__runs_on(void)
{
	ping_pong(PROCESS, 1, 50);
	ping_pong(PROCESS, 3, 5);
}

static void move__kvm_guest_to_and_fro__runs_on(void)
{
	NEED(KVM);
	ping_pong(KVM, 1, 50);
	ping_pong(KVM, 3, 5);
}

static void move__to_machine_with_other_ram_size__refused(void)
{
	const FerryPlan plan = { .vcpus = 1 };
	g_autoptr(FerryMachine) from = fixture_machine(PROCESS, "idle", FERRY_FILL_ZERO, 1);
	g_autoptr(FerryMachine) to = NULL;
	g_autoptr(GError) error = NULL;
	FerryBacking ram;

	if (!from || !ferry_backing_open(&ram, "anon", FIXTURE_RAM / 2, NULL)) {
		CU_FAIL("no machines");
		return;
	}
	to = ferry_machine_new_process(&ram, &plan);
	CU_ASSERT_FALSE(fixture_move(from, to, &error));
	CU_ASSERT_FALSE(ferry_machine_has_guest(to));
	CU_ASSERT_FALSE(ferry_machine_start(to, NULL));
}

static void machine__no_guest_arrived__neither_runs_nor_checks(void)
{
	g_autoptr(FerryMachine) machine = fixture_machine(PROCESS, NULL, FERRY_FILL_PAGES, 1);
	g_autoptr(GError) error = NULL;
	FerryGuestReport report;

	if (!machine)
		return;
	CU_ASSERT_FALSE(ferry_machine_start(machine, NULL));
	CU_ASSERT_FALSE(ferry_machine_check(machine, &report, &error));
	CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_STATE));
}

static void machine__kvm_guest_faults__reported(void)
{
	g_autoptr(FerryMachine) machine = NULL;
	g_autoptr(GError) error = NULL;

	NEED(KVM);
	machine = fixture_machine(KVM, "sweep", FERRY_FILL_PAGES, 1);
	if (!machine)
		return;
	memset(machine->ram.host + FERRY_AT_PROGRAM, 0xf4, 64); /* HLT: not at CPL 3 */
	CU_ASSERT_TRUE(ferry_machine_start(machine, NULL));
	g_usleep(20000);
	ferry_machine_stop(machine);
	CU_ASSERT_PTR_NOT_NULL(machine->broken);
	fixture_check(machine, FALSE);
	CU_ASSERT_FALSE(ferry_machine_start(machine, &error));
	CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_DEVICE));
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(pause__process_guest_busy__ram_stands_still),
		CASE(pause__kvm_guest_busy__ram_stands_still),
		CASE(workload__same_seed__same_ram),
		CASE(run__process_guest__ram_and_heartbeat_check),
		CASE(run__kvm_guest__ram_and_heartbeat_check),
		CASE(rate__process_guest__kept),
		CASE(rate__kvm_guest__kept),
		CASE(move__process_guest_to_and_fro__runs_on),
		CASE(move__kvm_guest_to_and_fro__runs_on),
		CASE(move__to_machine_with_other_ram_size__refused),
		CASE(machine__no_guest_arrived__neither_runs_nor_checks),
		CASE(machine__kvm_guest_faults__reported),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "guest machines", cases);
}
