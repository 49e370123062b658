/* SPDX-License-Identifier: BSD-2-Clause */
#include "course.h"
#include "harness.h"
#include "rdma/link.h"

#include <errno.h>
#include <string.h>

/* ---- when ---- */

typedef struct {
	const char *name;
	FakeSide side; /* whose call it is */
	FakeVerb verb;
	guint nth;
	gboolean fatal; /* the session is not over */
} Stage;

static const Stage source_stages[] = {
	{ "resolving", FAKE_SOURCE, FAKE_RESOLVE_ROUTE, 1, TRUE },
	{ "connecting", FAKE_SOURCE, FAKE_CONNECT, 2, TRUE },
	{ "moving pages", FAKE_SOURCE, FAKE_POST_SEND, 8, TRUE },
	{ "closing", FAKE_SOURCE, FAKE_DESTROY_QP, 1, FALSE },
};

static const Stage destination_stages[] = {
	{ "migrating an id", FAKE_DESTINATION, FAKE_MIGRATE_ID, 2, TRUE },
	{ "accepting", FAKE_DESTINATION, FAKE_ACCEPT, 2, TRUE },
	/* Behind those posted before the first page: one for a fence that came. */
	{ "moving pages", FAKE_DESTINATION, FAKE_POST_RECV, 2 * 8 + 1, TRUE },
	{ "stopping", FAKE_DESTINATION, FAKE_MODIFY_QP, 4, FALSE },
	{ "closing", FAKE_DESTINATION, FAKE_DESTROY_QP, 1, FALSE },
};

/* ---- what ---- */

typedef struct {
	FakeNic *nic;
	Ends *ends;
	FakeSide side; /* to whom it happens */
	guint id;
	enum rdma_cm_event_type cm;
	enum ibv_event_type async;
} Mishap;

static void send_cm(gpointer user)
{
	Mishap *m = user;

	fake_cm_event(m->nic, m->side, m->id, m->cm, 0);
}

static void send_async(gpointer user)
{
	Mishap *m = user;

	fake_async_event(m->nic, m->side, m->async);
}

static void kill_side(gpointer user)
{
	Mishap *m = user;

	fake_kill(m->nic, m->side);
}

static void cut_wire(gpointer user)
{
	Mishap *m = user;

	fake_cut(m->nic);
}

static void cancel(gpointer user)
{
	Mishap *m = user;

	g_cancellable_cancel(m->ends->source.session.cancellable);
}

/* A session to which @m happens by @happen at @stage; @name: see course_expect(). What the course
 * was is in *@out, without the error. */
static void run_mishap(const Stage *stage, void (*happen)(gpointer), Mishap m, gboolean fatal,
		       const char *name, const char *what, Course *out)
{
	FakeNic *nic = fake_nic_new(stage->nth);
	Course course;
	Ends ends;

	m.nic = nic;
	m.ends = &ends;
	course_open(&ends, nic);
	fake_at(nic, stage->side, stage->verb, stage->nth, happen, &m);
	course_run(&ends, fatal, &course);
	course_expect(&course, fatal, name, what);
	if (!fake_happened(nic, stage->side, stage->verb))
		printf("# %s: %s never came\n", what, fake_verb_name(stage->verb));
	CU_ASSERT(fake_happened(nic, stage->side, stage->verb));
	course_clear(&course);
	course_expect_gone(nic, what);
	fake_nic_free(nic);
	*out = course;
}

static const char *side_name(FakeSide side)
{
	return side == FAKE_SOURCE ? "source" : "destination";
}

/* ---- connection events ---- */

/* What may come twice, or never comes to a connection, need not end it. */
static gboolean ends_connection(enum rdma_cm_event_type type)
{
	switch (type) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
	case RDMA_CM_EVENT_CONNECT_RESPONSE:
	case RDMA_CM_EVENT_ESTABLISHED:
	case RDMA_CM_EVENT_MULTICAST_JOIN:
	case RDMA_CM_EVENT_MULTICAST_ERROR:
		return FALSE;
	default:
		return TRUE;
	}
}

static void send_cm_events_at(const Stage *stage, FakeSide side)
{
	gint64 worst = 0;

	for (guint type = 0; type <= RDMA_CM_EVENT_TIMEWAIT_EXIT; type++) {
		g_autofree char *what = g_strdup_printf(
			"%s to the %s, %s", ferry_rdma_cm_name(type), side_name(side), stage->name);
		gboolean fatal = stage->fatal && ends_connection(type);
		Course course;

		if (type == RDMA_CM_EVENT_CONNECT_REQUEST)
			continue;
		run_mishap(stage, send_cm, (Mishap){ .side = side, .cm = type }, fatal,
			   ferry_rdma_cm_name(type), what, &course);
		worst = MAX(worst, course.us);
	}
	printf("# %s, %s: detected in %d ms\n", side_name(side), stage->name, (int)(worst / 1000));
}

static void cm_events__each_at_each_stage_of_the_source__are_noticed(void)
{
	for (guint i = 0; i < G_N_ELEMENTS(source_stages); i++)
		send_cm_events_at(&source_stages[i], FAKE_SOURCE);
}

static void cm_events__each_at_each_stage_of_the_destination__are_noticed(void)
{
	for (guint i = 0; i < G_N_ELEMENTS(destination_stages); i++)
		send_cm_events_at(&destination_stages[i], FAKE_DESTINATION);
}

static void listener__loses_its_device__does_no_harm(void)
{
	const Mishap m = { .side = FAKE_DESTINATION,
			   .id = FAKE_LISTENER,
			   .cm = RDMA_CM_EVENT_DEVICE_REMOVAL };
	Course course;

	for (guint i = 0; i < 3; i++)
		run_mishap(&source_stages[i], send_cm, m, FALSE, NULL, source_stages[i].name,
			   &course);
}

/* Instead of what was hoped for. */
static void refuse(void (*plan)(FakeNic *, enum rdma_cm_event_type, int),
		   enum rdma_cm_event_type type, int status)
{
	FakeNic *nic = fake_nic_new(1);
	Course course;
	Ends ends;

	course_open(&ends, nic);
	plan(nic, type, status);
	course_run(&ends, TRUE, &course);
	course_expect(&course, TRUE, ferry_rdma_cm_name(type), ferry_rdma_cm_name(type));
	CU_ASSERT_EQUAL(course.end, COURSE_FELL_BACK);
	course_clear(&course);
	course_expect_next(nic, ferry_rdma_cm_name(type));
	fake_nic_free(nic);
}

static void resolving__each_refusal__falls_back_by_name(void)
{
	refuse(fake_refuse_resolve, RDMA_CM_EVENT_ADDR_ERROR, -ENODEV);
	refuse(fake_refuse_resolve, RDMA_CM_EVENT_ADDR_ERROR, -ETIMEDOUT);
	refuse(fake_refuse_resolve, RDMA_CM_EVENT_ROUTE_ERROR, -EINVAL);
	refuse(fake_refuse_resolve, RDMA_CM_EVENT_ADDR_CHANGE, 0);
	refuse(fake_refuse_resolve, RDMA_CM_EVENT_DEVICE_REMOVAL, 0);
}

static void connecting__each_refusal__falls_back_by_name(void)
{
	refuse(fake_refuse_connect, RDMA_CM_EVENT_REJECTED, 8);
	refuse(fake_refuse_connect, RDMA_CM_EVENT_REJECTED, 28);
	refuse(fake_refuse_connect, RDMA_CM_EVENT_UNREACHABLE, -ETIMEDOUT);
	refuse(fake_refuse_connect, RDMA_CM_EVENT_CONNECT_ERROR, -EIO);
	refuse(fake_refuse_connect, RDMA_CM_EVENT_DISCONNECTED, 0);
	refuse(fake_refuse_connect, RDMA_CM_EVENT_DEVICE_REMOVAL, 0);
	refuse(fake_refuse_connect, RDMA_CM_EVENT_ADDR_CHANGE, 0);
	refuse(fake_refuse_connect, RDMA_CM_EVENT_TIMEWAIT_EXIT, 0);
}

/* ---- asynchronous events ---- */

/* The others tell of something that may pass; the queue pairs' own retries decide then. */
static gboolean ends_queue_pairs(enum ibv_event_type type)
{
	switch (type) {
	case IBV_EVENT_CQ_ERR:
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
	case IBV_EVENT_DEVICE_FATAL:
		return TRUE;
	default:
		return FALSE;
	}
}

static gboolean is_about_others(enum ibv_event_type type)
{
	return type == IBV_EVENT_SRQ_ERR || type == IBV_EVENT_SRQ_LIMIT_REACHED ||
	       type == IBV_EVENT_WQ_FATAL;
}

static void send_async_events_at(const Stage *stage, FakeSide side)
{
	gint64 worst = 0;

	for (guint type = 0; type <= IBV_EVENT_WQ_FATAL; type++) {
		g_autofree char *what = g_strdup_printf("%s to the %s, %s",
							ferry_rdma_async_name(type),
							side_name(side), stage->name);
		gboolean fatal = ends_queue_pairs(type);
		Course course;

		if (is_about_others(type))
			continue;
		run_mishap(stage, send_async, (Mishap){ .side = side, .async = type },
			   stage->fatal && fatal, ferry_rdma_async_name(type), what, &course);
		if (!fatal)
			CU_ASSERT_EQUAL(course.end, COURSE_WORKED);
		worst = MAX(worst, course.us);
	}
	printf("# %s, %s: detected in %d ms\n", side_name(side), stage->name, (int)(worst / 1000));
}

static void async_events__each_at_the_source__are_noticed_if_fatal(void)
{
	for (guint i = 1; i < G_N_ELEMENTS(source_stages); i++)
		send_async_events_at(&source_stages[i], FAKE_SOURCE);
}

static void async_events__each_at_the_destination__are_noticed_if_fatal(void)
{
	for (guint i = 1; i < G_N_ELEMENTS(destination_stages); i++)
		send_async_events_at(&destination_stages[i], FAKE_DESTINATION);
}

/* ---- ends that go ---- */

static void tell(const char *what, const Course *course)
{
	static const char *const ends[] = { "worked", "fell back", "died" };

	printf("# %s: %s, detected in %d ms\n", what, ends[course->end], (int)(course->us / 1000));
}

static void wire__cut_at_each_stage__is_noticed(void)
{
	static const char *const names[] = { NULL, "RDMA_CM_EVENT_UNREACHABLE",
					     "IBV_WC_RETRY_EXC_ERR" };
	Course course;

	for (guint i = 1; i < G_N_ELEMENTS(names); i++) {
		run_mishap(&source_stages[i], cut_wire, (Mishap){ 0 }, TRUE, names[i],
			   source_stages[i].name, &course);
		tell(source_stages[i].name, &course);
	}
	run_mishap(&destination_stages[2], cut_wire, (Mishap){ 0 }, FALSE, NULL, "at a fence",
		   &course);
	CU_ASSERT_NOT_EQUAL(course.end, COURSE_WORKED);
}

static void peer__gone_at_each_stage__is_noticed(void)
{
	Course course;

	for (guint side = 0; side < FAKE_SIDES; side++) {
		for (guint i = 1; i < 3; i++) {
			g_autofree char *what = g_strdup_printf("%s gone, %s", side_name(side),
								source_stages[i].name);

			run_mishap(&source_stages[i], kill_side, (Mishap){ .side = side }, TRUE,
				   NULL, what, &course);
			tell(what, &course);
		}
		run_mishap(&destination_stages[1], kill_side, (Mishap){ .side = side }, TRUE, NULL,
			   side_name(side), &course);
		run_mishap(&destination_stages[4], kill_side, (Mishap){ .side = side }, FALSE, NULL,
			   side_name(side), &course);
	}
}

static void share_ram__cancelled_at_each_step__ends_soon(void)
{
	static const FakeVerb verbs[] = { FAKE_RESOLVE_ADDR, FAKE_RESOLVE_ROUTE, FAKE_CREATE_QP,
					  FAKE_CONNECT, FAKE_REG_MR };
	Course course;

	for (guint i = 0; i < G_N_ELEMENTS(verbs); i++) {
		const Stage stage = { fake_verb_name(verbs[i]), FAKE_SOURCE, verbs[i], 1, FALSE };

		run_mishap(&stage, cancel, (Mishap){ 0 }, FALSE, NULL, stage.name, &course);
		CU_ASSERT(course.us < G_USEC_PER_SEC / 2);
		tell(stage.name, &course);
	}
}

static void share_ram__cancelled_without_an_answer__ends_soon(void)
{
	FakeNic *nic = fake_nic_new(1);
	g_autoptr(GError) error = NULL;
	gint64 begin;
	Ends ends;

	course_open(&ends, nic);
	ends.destination.deaf = TRUE;
	ends.cancels_at_say = TRUE;
	begin = g_get_monotonic_time();
	CU_ASSERT_FALSE(ends_connect(&ends, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_CANCELLED));
	printf("# cancelled in %d ms\n", (int)((g_get_monotonic_time() - begin) / 1000));
	CU_ASSERT(g_get_monotonic_time() - begin < G_USEC_PER_SEC / 2);
	ends_close(&ends);
	course_expect_gone(nic, "cancelled");
	fake_nic_free(nic);
}

/* Keeps the second queue pair from connecting until the source has asked: OFFER, and REGISTER. */
static void await_asking(gpointer user)
{
	Ends *ends = user;
	gint64 deadline = g_get_monotonic_time() + G_USEC_PER_SEC;

	while (g_atomic_int_get(&ends->source.said) < 2 && g_get_monotonic_time() < deadline)
		g_thread_yield();
	CU_ASSERT(g_atomic_int_get(&ends->source.said) >= 2);
}

static void regions__first_queue_pair_connected__asked_for_beside_the_others(void)
{
	FakeNic *nic = fake_nic_new(1);
	g_autoptr(GError) error = NULL;
	Ends ends;

	course_open(&ends, nic);
	fake_at(nic, FAKE_DESTINATION, FAKE_ACCEPT, 2, await_asking, &ends);
	CU_ASSERT(ends_connect(&ends, &error));
	CU_ASSERT(fake_happened(nic, FAKE_DESTINATION, FAKE_ACCEPT));
	ends_close(&ends);
	course_expect_gone(nic, "asked early");
	fake_nic_free(nic);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(cm_events__each_at_each_stage_of_the_source__are_noticed),
		CASE(cm_events__each_at_each_stage_of_the_destination__are_noticed),
		CASE(listener__loses_its_device__does_no_harm),
		CASE(resolving__each_refusal__falls_back_by_name),
		CASE(connecting__each_refusal__falls_back_by_name),
		CASE(async_events__each_at_the_source__are_noticed_if_fatal),
		CASE(async_events__each_at_the_destination__are_noticed_if_fatal),
		CASE(wire__cut_at_each_stage__is_noticed),
		CASE(peer__gone_at_each_stage__is_noticed),
		CASE(share_ram__cancelled_at_each_step__ends_soon),
		CASE(share_ram__cancelled_without_an_answer__ends_soon),
		CASE(regions__first_queue_pair_connected__asked_for_beside_the_others),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "carrier-events", cases);
}
