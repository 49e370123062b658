/* SPDX-License-Identifier: BSD-2-Clause */
/* What the guest tells of its heartbeats on one side. */
#include "fixture.h"

#define MS 1000000ll /* ns */
#define BEGIN (1700000000000ll * MS)

static void beats__none_yet__all_zero_but_the_number(void)
{
	FerryBeats beats = { 0 };
	FerryBeatTimes times;

	ferry_beats_begin(&beats, 41);
	times = ferry_beats_read(&beats);
	CU_ASSERT_EQUAL(times.heartbeat, 41);
	CU_ASSERT_EQUAL(times.count, 0);
	CU_ASSERT_EQUAL(times.first_ns, 0);
	CU_ASSERT_EQUAL(times.last_ns, 0);
	CU_ASSERT_EQUAL(times.gap_us, 0);
	CU_ASSERT_EQUAL(times.gap_begin_ns, 0);
}

static void beats__one__is_first_and_last_without_a_gap(void)
{
	FerryBeats beats = { 0 };
	FerryBeatTimes times;

	ferry_beats_begin(&beats, 41);
	ferry_beats_add_at(&beats, 42, BEGIN, 7000000);
	times = ferry_beats_read(&beats);
	CU_ASSERT_EQUAL(times.heartbeat, 42);
	CU_ASSERT_EQUAL(times.count, 1);
	CU_ASSERT_EQUAL(times.first_ns, BEGIN);
	CU_ASSERT_EQUAL(times.last_ns, BEGIN);
	CU_ASSERT_EQUAL(times.gap_us, 0);
}

/* The first of two equal ones is kept, and shorter ones change nothing. */
static void beats__longest_gap__with_when_it_began(void)
{
	static const gint64 at_ms[] = { 0, 5, 10, 47, 52, 89, 94 };
	FerryBeats beats = { 0 };
	FerryBeatTimes times;

	for (guint i = 0; i < G_N_ELEMENTS(at_ms); i++)
		ferry_beats_add_at(&beats, i + 1, BEGIN + at_ms[i] * MS, 500 + at_ms[i] * 1000);
	times = ferry_beats_read(&beats);
	CU_ASSERT_EQUAL(times.count, G_N_ELEMENTS(at_ms));
	CU_ASSERT_EQUAL(times.first_ns, BEGIN);
	CU_ASSERT_EQUAL(times.last_ns, BEGIN + 94 * MS);
	CU_ASSERT_EQUAL(times.gap_us, 37000);
	CU_ASSERT_EQUAL(times.gap_begin_ns, BEGIN + 10 * MS);
}

static void beats__host_clock_set_ahead__no_gap_of_the_guest(void)
{
	FerryBeats beats = { 0 };
	FerryBeatTimes times;

	ferry_beats_add_at(&beats, 1, BEGIN, 1000);
	ferry_beats_add_at(&beats, 2, BEGIN + 3600000 * MS, 6000);
	times = ferry_beats_read(&beats);
	CU_ASSERT_EQUAL(times.gap_us, 5000);
	CU_ASSERT_EQUAL(times.last_ns, BEGIN + 3600000 * MS);
}

static void beats__begun_again__nothing_left_of_before(void)
{
	FerryBeats beats = { 0 };
	FerryBeatTimes times;

	ferry_beats_add_at(&beats, 1, BEGIN, 1000);
	ferry_beats_add_at(&beats, 2, BEGIN + 90 * MS, 91000);
	ferry_beats_begin(&beats, 70);
	ferry_beats_add_at(&beats, 71, BEGIN + 900 * MS, 901000);
	ferry_beats_add_at(&beats, 72, BEGIN + 905 * MS, 906000);
	times = ferry_beats_read(&beats);
	CU_ASSERT_EQUAL(times.count, 2);
	CU_ASSERT_EQUAL(times.first_ns, BEGIN + 900 * MS);
	CU_ASSERT_EQUAL(times.gap_us, 5000);
}

#define WRITES 5000000u

static gpointer write_many(gpointer data)
{
	for (guint64 i = 1; i <= WRITES; i++)
		ferry_beats_add_at(data, i, (gint64)i, (gint64)i * 2);
	return NULL;
}

/* Every answer is of one moment: number, count and time say the same. */
static void beats__read_while_they_come__never_torn(void)
{
	FerryBeats beats = { 0 };
	GThread *writer = g_thread_new("writer", write_many, &beats);
	FerryBeatTimes times;
	guint64 before = 0;
	gboolean whole = TRUE;

	do {
		times = ferry_beats_read(&beats);
		whole &= times.count == times.heartbeat && times.last_ns == (gint64)times.count;
		whole &= times.count >= before;
		before = times.count;
	} while (times.count < WRITES);
	g_thread_join(writer);
	CU_ASSERT_TRUE(whole);
}

/* What the guest's program did is what its beats say; over a stop they go on. */
static void watch_guest(Kind kind)
{
	g_autoptr(FerryMachine) machine = fixture_machine(kind, "random:20", FERRY_FILL_PAGES, 2);
	gint64 began = g_get_real_time() * 1000;
	FerryBeatTimes before, after;

	if (!machine)
		return;
	machine->clock.beat_us = 1000;
	CU_ASSERT_TRUE(fixture_run(machine, 400));
	before = ferry_beats_read(&machine->clock.lines[1].beats);
	CU_ASSERT_EQUAL(before.heartbeat, machine->clock.lines[1].beat);
	CU_ASSERT_EQUAL(before.count, before.heartbeat);
	CU_ASSERT_TRUE(before.count > 1);
	CU_ASSERT_TRUE(before.first_ns >= began && before.last_ns > before.first_ns);
	g_usleep(30000);
	CU_ASSERT_TRUE(fixture_run(machine, 400));
	after = ferry_beats_read(&machine->clock.lines[1].beats);
	CU_ASSERT_EQUAL(after.first_ns, before.first_ns);
	CU_ASSERT_TRUE(after.count > before.count);
	CU_ASSERT_TRUE(after.gap_us >= 30000);
	CU_ASSERT_EQUAL(g_atomic_int_get(&machine->clock.vcpus), 2);
	CU_ASSERT_FALSE(g_atomic_int_get(&machine->clock.running));
	fixture_check(machine, TRUE);
}

static void beats__of_a_process_guest__go_on_over_a_stop(void)
{
	watch_guest(PROCESS);
}

static void beats__of_a_kvm_guest__go_on_over_a_stop(void)
{
	NEED(KVM);
	watch_guest(KVM);
}

/* An arrival: times of this side alone, numbers and pages that go on, intervals that differ. */
static void arrive(Kind kind)
{
	g_autoptr(FerryMachine) here = fixture_machine(kind, "random:20", FERRY_FILL_PAGES, 1);
	g_autoptr(FerryMachine) there = fixture_machine(kind, NULL, FERRY_FILL_ZERO, 1);
	FerryBeatTimes left, came;
	guint64 pages;
	gint64 arrived;

	if (!here || !there)
		return;
	here->clock.beat_us = 10000;
	there->clock.beat_us = 1000;
	CU_ASSERT_TRUE(fixture_run(here, 400));
	CU_ASSERT_TRUE(fixture_move(here, there, NULL));
	left = ferry_beats_read(&here->clock.lines[0].beats);
	pages = ferry_clock_pages(&here->clock, 0);
	CU_ASSERT_EQUAL(pages, fixture_progress(here));
	arrived = g_get_real_time() * 1000;
	CU_ASSERT_TRUE(fixture_run(there, 400));
	came = ferry_beats_read(&there->clock.lines[0].beats);
	CU_ASSERT_TRUE(came.first_ns >= arrived);
	CU_ASSERT_TRUE(came.count > 0);
	CU_ASSERT_EQUAL(came.heartbeat, left.heartbeat + came.count);
	CU_ASSERT_TRUE(ferry_clock_pages(&there->clock, 0) >= pages + 400);
	CU_ASSERT_EQUAL(ferry_clock_pages(&there->clock, 0), fixture_progress(there));
	fixture_check(there, TRUE);

	/* And back, where it has been before. */
	left = came;
	CU_ASSERT_TRUE(fixture_move(there, here, NULL));
	arrived = g_get_real_time() * 1000;
	CU_ASSERT_TRUE(fixture_run(here, 400));
	came = ferry_beats_read(&here->clock.lines[0].beats);
	CU_ASSERT_TRUE(came.first_ns >= arrived);
	CU_ASSERT_EQUAL(came.heartbeat, left.heartbeat + came.count);
}

static void beats__of_a_process_guest_that_moved_there_and_back__begin_anew(void)
{
	arrive(PROCESS);
}

static void beats__of_a_kvm_guest_that_moved_there_and_back__begin_anew(void)
{
	NEED(KVM);
	arrive(KVM);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(beats__none_yet__all_zero_but_the_number),
		CASE(beats__one__is_first_and_last_without_a_gap),
		CASE(beats__longest_gap__with_when_it_began),
		CASE(beats__host_clock_set_ahead__no_gap_of_the_guest),
		CASE(beats__begun_again__nothing_left_of_before),
		CASE(beats__read_while_they_come__never_torn),
		CASE(beats__of_a_process_guest__go_on_over_a_stop),
		CASE(beats__of_a_kvm_guest__go_on_over_a_stop),
		CASE(beats__of_a_process_guest_that_moved_there_and_back__begin_anew),
		CASE(beats__of_a_kvm_guest_that_moved_there_and_back__begin_anew),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "beats", cases);
}
