/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "engine/cpu-wait.h"

#include <sched.h>

#define BUSY_US (100 * G_TIME_SPAN_MILLISECOND)

static void spin(gint64 us)
{
	gint64 end = g_get_monotonic_time() + us;

	while (g_get_monotonic_time() < end)
		;
}

static gpointer compete(gpointer data)
{
	while (!g_atomic_int_get((gint *)data))
		;
	return NULL;
}

static void wait__nobody_else_in_the_process_runs__is_none(void)
{
	FerryCpuWait begin;

	ferry_cpu_wait_begin(&begin);
	spin(BUSY_US);
	CU_ASSERT(ferry_cpu_wait_us(&begin) <= 1000);
}

/* Both on one CPU: each has about half of it. */
static void wait__another_thread_on_the_same_cpu__is_what_it_took(void)
{
	cpu_set_t before, one;
	FerryCpuWait begin;
	GThread *thread;
	gint64 wait_us;
	gint stop = 0;

	if (!g_file_test("/proc/thread-self/schedstat", G_FILE_TEST_EXISTS))
		SKIP("the kernel does not say how long a thread waited");
	sched_getaffinity(0, sizeof(before), &before);
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	thread = g_thread_new("compete", compete, &stop);
	ferry_cpu_wait_begin(&begin);
	spin(4 * BUSY_US);
	wait_us = ferry_cpu_wait_us(&begin);
	g_atomic_int_set(&stop, 1);
	g_thread_join(thread);
	sched_setaffinity(0, sizeof(before), &before);
	CU_ASSERT(wait_us >= BUSY_US / 2);
	CU_ASSERT(wait_us <= 4 * BUSY_US);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(wait__nobody_else_in_the_process_runs__is_none),
		CASE(wait__another_thread_on_the_same_cpu__is_what_it_took),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "waiting for a CPU", cases);
}
