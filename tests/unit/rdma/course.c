/* SPDX-License-Identifier: BSD-2-Clause */
#include "course.h"
#include "harness.h"

#include <string.h>

#define ROUNDS 3u
#define PIN_LIMIT (2ull << 20)
#define CLOSE_US G_USEC_PER_SEC

static const guint blocks[] = { 37, 300, 270, 0 };

void course_open(Ends *ends, FakeNic *nic)
{
	ends_open(ends, nic, blocks);
	fake_config(nic)->retry_us = 20000;
	ends_set(&ends->source, FERRY_PARAMETER_RDMA_QUEUE_PAIRS, 2);
	ends_set(&ends->source, FERRY_PARAMETER_RDMA_PIN_LIMIT, PIN_LIMIT);
}

static void count_calls(FakeNic *nic, guint calls[FAKE_SIDES][FAKE__N])
{
	for (guint side = 0; side < FAKE_SIDES; side++)
		for (guint verb = 0; verb < FAKE__N; verb++)
			calls[side][verb] = fake_calls(nic, side, verb);
}

/* When the end that failed first did. */
static gint64 notice_time(Ends *ends)
{
	gint64 source = ends->source.failed_us, destination = ends->destination.failed_us;

	if (!source || !destination)
		return source + destination;
	return MIN(source, destination);
}

void course_run(Ends *ends, gboolean fatal, Course *course)
{
	FakeNic *nic = ends->nic;
	gint64 fault;
	gboolean ok;

	*course = (Course){ 0 };
	ok = ends_connect(ends, &course->error);
	course->end = ok ? COURSE_WORKED : COURSE_FELL_BACK;
	course->us = g_get_monotonic_time();
	count_calls(nic, course->set_up);
	for (guint i = 0; ok && i < ROUNDS; i++)
		ok = ends_round(ends, 6, 40, FALSE, &course->error);
	if (ok && ends->then)
		ok = ends->then(ends, &course->error);
	if (ok && fatal && fake_fault_time(nic))
		ok = !ends_linger(ends, COURSE_NOTICE_US, &course->error);
	if (!ok && course->end == COURSE_WORKED) {
		course->end = COURSE_DIED;
		g_mutex_lock(&ends->lock);
		course->us = notice_time(ends);
		g_mutex_unlock(&ends->lock);
	}
	fault = fake_fault_time(nic);
	course->us = course->end == COURSE_WORKED || !fault ? 0 : MAX(course->us - fault, 0);
	count_calls(nic, course->calls);
	ends_close(ends);
	course->late = !fault;
	if (ends->close_us > CLOSE_US)
		printf("# closing took %d ms\n", (int)(ends->close_us / 1000));
	CU_ASSERT(ends->close_us <= CLOSE_US);
}

void course_clear(Course *course)
{
	g_clear_error(&course->error);
}

void course_expect(const Course *course, gboolean fatal, const char *name, const char *what)
{
	static const char *const ends[] = { "worked", "fell back", "died" };
	const char *says = course->error ? course->error->message : "no error";
	gboolean named = !name || strstr(says, name);
	gboolean right = course->end == COURSE_WORKED ? !course->error : course->error != NULL;

	if (course->end == COURSE_WORKED)
		right &= !fatal;
	else
		right &= course->us < COURSE_NOTICE_US && (!fatal || named) &&
			 course->error->code != FERRY_ERROR_STATE;
	if (!right)
		printf("# %s: %s after %d ms: %s\n", what, ends[course->end],
		       (int)(course->us / 1000), says);
	CU_ASSERT(right);
}

void course_expect_gone(FakeNic *nic, const char *what)
{
	g_autofree char *found = fake_nic_check(nic);

	if (found) {
		g_auto(GStrv) lines = g_strsplit(g_strchomp(found), "\n", -1);

		for (guint i = 0; lines[i]; i++)
			printf("# %s: %s\n", what, lines[i]);
	}
	CU_ASSERT_PTR_NULL(found);
}

void course_expect_next(FakeNic *nic, const char *what)
{
	Course course;
	Ends ends;

	course_expect_gone(nic, what);
	fake_heal(nic);
	course_open(&ends, nic);
	course_run(&ends, FALSE, &course);
	course_expect(&course, FALSE, NULL, "the session after");
	CU_ASSERT_EQUAL(course.end, COURSE_WORKED);
	course_clear(&course);
	course_expect_gone(nic, what);
}
