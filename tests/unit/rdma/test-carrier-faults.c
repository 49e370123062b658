/* SPDX-License-Identifier: BSD-2-Clause */
#include "course.h"
#include "harness.h"
#include "rdma/link.h"

#include <errno.h>
#include <string.h>

static const char *const side_names[] = { "source", "destination" };

/* ---- verbs ---- */

/* What has no result, or whose failing stops nothing: a device that is gone says so elsewhere. */
static gboolean may_fail(FakeVerb verb)
{
	switch (verb) {
	case FAKE_ACK_CM_EVENT:
	case FAKE_DESTROY_ID:
	case FAKE_SET_OPTION:
	case FAKE_REJECT:
	case FAKE_DISCONNECT:
	case FAKE_QUERY_GID_EX:
	case FAKE_DEALLOC_PD:
	case FAKE_DEREG_MR:
	case FAKE_ADVISE_MR:
	case FAKE_DESTROY_COMP_CHANNEL:
	case FAKE_DESTROY_CQ:
	case FAKE_GET_CQ_EVENT:
	case FAKE_QUERY_QP:
	case FAKE_MODIFY_QP:
	case FAKE_GET_ASYNC_EVENT:
		return TRUE;
	default:
		return FALSE;
	}
}

static gboolean has_no_result(FakeVerb verb)
{
	return verb == FAKE_DESTROY_EVENT_CHANNEL || verb == FAKE_DESTROY_QP ||
	       verb == FAKE_FREE_DEVICES || verb == FAKE_ACK_CQ_EVENTS ||
	       verb == FAKE_ACK_ASYNC_EVENT;
}

/* The destination's first look at its devices passes over one that does not answer. */
static gboolean is_survey(FakeSide side, FakeVerb verb, guint nth)
{
	return side == FAKE_DESTINATION &&
	       (verb == FAKE_GET_DEVICES ||
		(nth == 1 && (verb == FAKE_QUERY_DEVICE_EX || verb == FAKE_QUERY_PORT)));
}

typedef struct {
	guint faults;
	gint64 worst_us;
} Tally;

static void fail_verb(FakeSide side, FakeVerb verb, guint nth, Tally *tally)
{
	g_autofree char *what = g_strdup_printf("%s, call %u of %s", side_names[side], nth,
						fake_verb_name(verb));
	FakeNic *nic = fake_nic_new(nth);
	gboolean fatal = !may_fail(verb) && !is_survey(side, verb, nth);
	Course course;
	Ends ends;

	course_open(&ends, nic);
	fake_fail(nic, side, verb, nth, verb == FAKE_REG_MR ? ENOMEM : EIO);
	course_run(&ends, fatal, &course);
	if (fake_happened(nic, side, verb)) {
		course_expect(&course, fatal && !course.late, fake_verb_name(verb), what);
		tally->faults++;
		tally->worst_us = MAX(tally->worst_us, course.us);
	}
	course_clear(&course);
	course_expect_next(nic, what);
	fake_nic_free(nic);
}

/* The first, a middle and the last call while setting up, while moving pages, and while closing. */
static void fail_verb_at_each_stage(const Course *sound, const guint *total, FakeSide side,
				    FakeVerb verb)
{
	guint a = sound->set_up[side][verb], b = sound->calls[side][verb], c = total[verb];
	const guint nths[] = { 1, (a + 1) / 2, a, a + 1, (a + b + 1) / 2, b, c };
	Tally tally = { 0 };
	guint last = 0;

	for (guint i = 0; i < G_N_ELEMENTS(nths); i++) {
		if (nths[i] <= last || nths[i] > c)
			continue;
		last = nths[i];
		fail_verb(side, verb, last, &tally);
	}
	if (tally.faults)
		printf("# %s, %s: %u faults, detected in %d ms\n", side_names[side],
		       fake_verb_name(verb), tally.faults, (int)(tally.worst_us / 1000));
}

static void fail_verbs_of(FakeSide side)
{
	FakeNic *nic = fake_nic_new(1);
	guint total[FAKE__N];
	Course sound;
	Ends ends;

	course_open(&ends, nic);
	course_run(&ends, FALSE, &sound);
	course_expect(&sound, FALSE, NULL, "without a fault");
	for (guint verb = 0; verb < FAKE__N; verb++)
		total[verb] = fake_calls(nic, side, verb);
	course_clear(&sound);
	fake_nic_free(nic);
	for (guint verb = 0; verb < FAKE__N; verb++)
		if (!has_no_result(verb))
			fail_verb_at_each_stage(&sound, total, side, verb);
}

static void verbs__each_fails_at_the_source__falls_back_or_dies_by_name(void)
{
	fail_verbs_of(FAKE_SOURCE);
}

static void verbs__each_fails_at_the_destination__falls_back_or_dies_by_name(void)
{
	fail_verbs_of(FAKE_DESTINATION);
}

/* ---- work completions ---- */

static void fail_work(FakeSide side, guint nth, enum ibv_wc_status status)
{
	g_autofree char *what = g_strdup_printf("%s, work request %u: %s", side_names[side], nth,
						ferry_rdma_wc_name(status));
	FakeNic *nic = fake_nic_new(nth);
	Course course;
	Ends ends;

	course_open(&ends, nic);
	fake_fail_work(nic, side, nth, status);
	course_run(&ends, TRUE, &course);
	/* A receive that fails shows at the sender, too, as it does with devices. */
	if (side == FAKE_DESTINATION && course.error &&
	    strstr(course.error->message, "IBV_WC_REM_OP_ERR"))
		course_expect(&course, TRUE, NULL, what);
	else
		course_expect(&course, TRUE, ferry_rdma_wc_name(status), what);
	printf("# %s: detected in %d ms\n", what, (int)(course.us / 1000));
	CU_ASSERT_EQUAL(course.end, COURSE_DIED);
	course_clear(&course);
	course_expect_next(nic, what);
	fake_nic_free(nic);
}

static void completions__each_status_at_the_source__dies_by_name(void)
{
	for (guint status = IBV_WC_SUCCESS + 1; status <= IBV_WC_GENERAL_ERR; status++)
		fail_work(FAKE_SOURCE, 1 + status * 5 % 40, status);
}

static void completions__each_status_at_the_destination__dies_by_name(void)
{
	for (guint status = IBV_WC_SUCCESS + 1; status <= IBV_WC_GENERAL_ERR; status++)
		fail_work(FAKE_DESTINATION, 1 + status % 4, status);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(verbs__each_fails_at_the_source__falls_back_or_dies_by_name),
		CASE(verbs__each_fails_at_the_destination__falls_back_or_dies_by_name),
		CASE(completions__each_status_at_the_source__dies_by_name),
		CASE(completions__each_status_at_the_destination__dies_by_name),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "carrier-faults", cases);
}
