/* SPDX-License-Identifier: BSD-2-Clause */
#include "course.h"
#include "harness.h"
#include "rdma/destination.h"
#include "rdma/source-private.h"
#include "switched.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

static const char *const side_names[] = { "source", "destination" };

/* A course whose guest is switched over behind its rounds. */
static void open_course(Ends *ends, FakeNic *nic, gboolean pull)
{
	course_open(ends, nic);
	if (pull)
		ends_set(&ends->source, FERRY_PARAMETER_RDMA_PIN_LIMIT, 0);
	switched_ask(ends, pull);
	ends->then = switched_run;
}

/* ---- verbs ---- */

/* Those that are called again, or in another way, for the switch. */
static const FakeVerb verbs[] = {
	FAKE_CREATE_QP,     FAKE_REG_MR,  FAKE_CREATE_COMP_CHANNEL, FAKE_CREATE_CQ,
	FAKE_REQ_NOTIFY_CQ, FAKE_POLL_CQ, FAKE_POST_SEND,           FAKE_POST_RECV,
};

static void fail_verb(FakeSide side, gboolean pull, FakeVerb verb, guint nth, gint64 *worst_us)
{
	g_autofree char *what = g_strdup_printf("%s of a %s, call %u of %s", side_names[side],
						pull ? "pull" : "push", nth, fake_verb_name(verb));
	FakeNic *nic = fake_nic_new(nth);
	Course course;
	Ends ends;

	open_course(&ends, nic, pull);
	fake_fail(nic, side, verb, nth, verb == FAKE_REG_MR ? ENOMEM : EIO);
	course_run(&ends, TRUE, &course);
	if (fake_happened(nic, side, verb))
		course_expect(&course, !course.late, fake_verb_name(verb), what);
	*worst_us = MAX(*worst_us, course.us);
	course_clear(&course);
	course_expect_gone(nic, what);
	fake_nic_free(nic);
}

/* While setting up, in the rounds, and behind the switch: near its begin and at the end. */
static void fail_verbs_of(FakeSide side, gboolean pull)
{
	FakeNic *nic = fake_nic_new(1);
	gint64 worst_us = 0;
	Course rounds, sound;
	Ends ends;

	open_course(&ends, nic, pull);
	ends.then = NULL;
	course_run(&ends, FALSE, &rounds);
	course_expect(&rounds, FALSE, NULL, "without a switch");
	fake_nic_free(nic);
	nic = fake_nic_new(1);
	open_course(&ends, nic, pull);
	course_run(&ends, FALSE, &sound);
	course_expect(&sound, FALSE, NULL, "without a fault");
	fake_nic_free(nic);
	for (guint i = 0; i < G_N_ELEMENTS(verbs); i++) {
		guint a = rounds.set_up[side][verbs[i]], b = rounds.calls[side][verbs[i]];
		guint c = sound.calls[side][verbs[i]];
		const guint nths[] = { a, b + 1, b + 3, (b + c) / 2, c };
		guint last = 0;

		for (guint j = 0; j < G_N_ELEMENTS(nths); j++)
			if (nths[j] > last && nths[j] <= c)
				fail_verb(side, pull, verbs[i], last = nths[j], &worst_us);
	}
	printf("# detected in %d ms\n", (int)(worst_us / 1000));
	course_clear(&rounds);
	course_clear(&sound);
}

static void push__each_verb_fails_at_the_source__dies_by_name(void)
{
	fail_verbs_of(FAKE_SOURCE, FALSE);
}

static void push__each_verb_fails_at_the_destination__dies_by_name(void)
{
	fail_verbs_of(FAKE_DESTINATION, FALSE);
}

static void pull__each_verb_fails_at_the_source__dies_by_name(void)
{
	fail_verbs_of(FAKE_SOURCE, TRUE);
}

static void pull__each_verb_fails_at_the_destination__dies_by_name(void)
{
	fail_verbs_of(FAKE_DESTINATION, TRUE);
}

/* ---- work completions ---- */

typedef struct {
	FakeSide side;
	guint nth;
	enum ibv_wc_status status;
} BadWork;

static gboolean switch_with_bad_work(Ends *ends, GError **error)
{
	const BadWork *bad = ends->user;

	fake_fail_work(ends->nic, bad->side, bad->nth, bad->status);
	return switched_run(ends, error);
}

static void fail_work(gboolean pull, FakeSide side, guint nth, enum ibv_wc_status status)
{
	g_autofree char *what = g_strdup_printf("%s of a %s, work request %u: %s", side_names[side],
						pull ? "pull" : "push", nth,
						ferry_rdma_wc_name(status));
	BadWork bad = { side, nth, status };
	FakeNic *nic = fake_nic_new(nth);
	const char *name = ferry_rdma_wc_name(status);
	Course course;
	Ends ends;

	open_course(&ends, nic, pull);
	ends.then = switch_with_bad_work;
	ends.user = &bad;
	course_run(&ends, TRUE, &course);
	/* A receive that fails shows at the sender, too, as it does with devices. */
	if (course.error && strstr(course.error->message, "IBV_WC_REM_OP_ERR"))
		name = NULL;
	course_expect(&course, TRUE, name, what);
	CU_ASSERT_EQUAL(course.end, COURSE_DIED);
	course_clear(&course);
	course_expect_gone(nic, what);
	fake_nic_free(nic);
}

static void fail_work_of(gboolean pull, FakeSide side, guint most)
{
	for (guint status = IBV_WC_SUCCESS + 1; status <= IBV_WC_GENERAL_ERR; status++)
		fail_work(pull, side, 1 + status * 5 % most, status);
}

static void push__each_status_at_the_source__dies_by_name(void)
{
	fail_work_of(FALSE, FAKE_SOURCE, 40);
}

static void push__each_status_at_the_destination__dies_by_name(void)
{
	fail_work_of(FALSE, FAKE_DESTINATION, 40);
}

static void pull__each_status_at_the_destination__dies_by_name(void)
{
	fail_work_of(TRUE, FAKE_DESTINATION, 20);
}

/* ---- what happens to the wire and the peer ---- */

typedef struct {
	void (*happen)(FakeNic *nic, FakeSide side);
	FakeSide side;
	guint nth; /* call of ibv_post_send of the side that moves pages */
	FakeSide mover;
} Mishap;

static void cut(FakeNic *nic, FakeSide side)
{
	fake_cut(nic);
}

static void disconnect(FakeNic *nic, FakeSide side)
{
	fake_cm_event(nic, side, 1, RDMA_CM_EVENT_DISCONNECTED, 0);
}

static void lose_device(FakeNic *nic, FakeSide side)
{
	fake_async_event(nic, side, IBV_EVENT_DEVICE_FATAL);
}

typedef struct {
	const Mishap *mishap;
	FakeNic *nic;
} Due;

static void happen(gpointer user)
{
	const Due *due = user;

	due->mishap->happen(due->nic, due->mishap->side);
}

static gboolean switch_with_mishap(Ends *ends, GError **error)
{
	const Due *due = ends->user;

	fake_at(ends->nic, due->mishap->mover, FAKE_POST_SEND, due->mishap->nth, happen,
		ends->user);
	return switched_run(ends, error);
}

static void run_mishap(gboolean pull, Mishap mishap, const char *name)
{
	FakeNic *nic = fake_nic_new(5);
	Due due = { &mishap, nic };
	Course course;
	Ends ends;

	mishap.mover = pull ? FAKE_DESTINATION : FAKE_SOURCE;
	mishap.nth = 12;
	open_course(&ends, nic, pull);
	ends.then = switch_with_mishap;
	ends.user = &due;
	course_run(&ends, TRUE, &course);
	course_expect(&course, TRUE, name, name);
	CU_ASSERT_EQUAL(course.end, COURSE_DIED);
	course_clear(&course);
	course_expect_next(nic, name);
	fake_nic_free(nic);
}

static void link__ends_behind_the_switch__is_noticed_by_name(void)
{
	for (guint pull = 0; pull < 2; pull++) {
		run_mishap(pull, (Mishap){ .happen = cut }, "IBV_WC_RETRY_EXC_ERR");
		for (guint side = 0; side < FAKE_SIDES; side++) {
			run_mishap(pull, (Mishap){ .happen = disconnect, .side = side },
				   "RDMA_CM_EVENT_DISCONNECTED");
			run_mishap(pull, (Mishap){ .happen = lose_device, .side = side },
				   "IBV_EVENT_DEVICE_FATAL");
			run_mishap(pull, (Mishap){ .happen = fake_kill, .side = side }, "RDMA");
		}
	}
}

/* ---- a hostile source ---- */

/* What it writes, from its first chunk into the destination's, past its own carrier. */
typedef struct {
	guint32 number;
	guint32 bytes;
	gboolean early; /* before the switch */
	gboolean pull;
	const char *says;
} Write;

static void write_raw(End *end, guint32 number, guint32 bytes)
{
	FerryRdmaSource *s = (FerryRdmaSource *)end->carrier;
	const struct ibv_mr *mr = ferry_rdma_regions_get(s->regions, 0, 0);
	FerryRdmaWay way = { 0 };
	struct ibv_sge data = { (guintptr)mr->addr, bytes, mr->lkey };
	struct ibv_send_wr *bad, request = {
		.sg_list = &data,
		.num_sge = 1,
		.opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
		.imm_data = htonl(number),
	};

	CU_ASSERT_TRUE(ferry_rdma_reach_find(s->reach, 0, 0, &way));
	request.wr.rdma.remote_addr = way.address;
	request.wr.rdma.rkey = way.rkey;
	CU_ASSERT_EQUAL(s->verbs->post_send(s->link->queues[0].id->qp, &request, &bad), 0);
}

static void expect_death(Ends *ends, const char *says)
{
	g_autoptr(GError) error = NULL;

	CU_ASSERT_TRUE(ends_linger(ends, 2 * G_TIME_SPAN_SECOND, &error));
	/* The source may have heard of it before the test did. */
	if (!g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER)) {
		g_clear_error(&error);
		error = ends->destination.carrier->ops->take_error(ends->destination.carrier);
	}
	if (!error || error->code != FERRY_ERROR_PEER || !strstr(error->message, says))
		printf("# \"%s\" instead of \"%s\"\n", error ? error->message : "no error", says);
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
	CU_ASSERT(error && strstr(error->message, says));
}

static const guint hostile_blocks[] = { 37, 5, 0 };

static void open_hostile(Ends *ends, gboolean pull)
{
	g_autoptr(GError) error = NULL;

	ends_open(ends, fake_nic_new(71), hostile_blocks);
	switched_ask(ends, pull);
	CU_ASSERT_TRUE(ends_connect(ends, &error) && ends_round(ends, 5, 30, FALSE, &error));
}

static void close_hostile(Ends *ends, const char *what)
{
	FakeNic *nic = ends->nic;

	ends_close(ends);
	course_expect_gone(nic, what);
	fake_nic_free(nic);
}

static void expect_stray(const Write *write)
{
	g_autoptr(GError) error = NULL;
	Switched *switched;
	Ends ends;

	open_hostile(&ends, write->pull);
	if (write->early) {
		write_raw(&ends.source, write->number, write->bytes);
		expect_death(&ends, write->says);
	} else {
		switched = switched_begin(&ends, &error);
		CU_ASSERT_PTR_NOT_NULL(switched);
		switched->refuses = TRUE;
		write_raw(&ends.source, write->number, write->bytes);
		expect_death(&ends, write->says);
		CU_ASSERT_EQUAL(switched->missing, switched->total);
	}
	close_hostile(&ends, write->says);
}

static void immediates__hostile__end_the_link_by_name(void)
{
	static const Write writes[] = {
		{ 42, 4096, .says = "no pages of one block" },
		{ G_MAXUINT32, 4096, .says = "no pages of one block" },
		{ 36, 8192, .says = "no pages of one block" },
		{ 41, 8192, .says = "no pages of one block" },
		{ 0, 4095, .says = "no pages of one block" },
		{ 0, 1, .says = "no pages of one block" },
		{ 36, 4096, .says = "which are here already" },
		{ 0, 4096, .early = TRUE, .says = "after a switch that was not made" },
		{ 0, 4096, .pull = TRUE, .says = "though pages are to be read" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(writes); i++)
		expect_stray(&writes[i]);
}

/* ---- a hostile destination ---- */

/* Gives back what the source never took. */
static void give_back_raw(End *end, guint32 n)
{
	FerryRdmaDestination *d = (FerryRdmaDestination *)end->carrier;
	struct ibv_send_wr *bad, request = {
		.opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
		.imm_data = htonl(n),
	};

	CU_ASSERT_EQUAL(d->verbs->post_send(d->link->queues[0].id->qp, &request, &bad), 0);
}

static void given_back__more_than_was_taken__ends_the_link(void)
{
	static const guint32 numbers[] = { 0, 1, FERRY_RDMA_CREDITS, G_MAXUINT32 };

	for (guint i = 0; i < G_N_ELEMENTS(numbers); i++) {
		g_autoptr(GError) error = NULL;
		Switched *switched;
		Ends ends;

		open_hostile(&ends, FALSE);
		switched = switched_begin(&ends, &error);
		CU_ASSERT_PTR_NOT_NULL(switched);
		give_back_raw(&ends.destination, numbers[i]);
		expect_death(&ends, "gives back");
		close_hostile(&ends, "given back");
	}
}

/* ---- hostile records ---- */

typedef struct {
	guint8 payload[20];
	size_t len;
	gboolean push;
	const char *says;
} Region;

static void source_regions__hostile__are_refused(void)
{
	static const Region regions[] = {
		{ { 0, 0, 0, 2 }, 20, .says = "there is not" },
		{ { 255, 255, 255, 255 }, 20, .says = "there is not" },
		{ { 0, 0, 0, 0, 0, 0, 0, 1 }, 20, .says = "there is not" },
		{ { 0, 0, 0, 1, 255, 255, 255, 255 }, 20, .says = "there is not" },
		{ { 0, 0, 0, 1 }, 20, .says = "told before" },
		{ { 0 }, 19, .says = "19 bytes" },
		{ { 0 }, 20, TRUE, "not agreed" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(regions); i++) {
		Ends ends;

		open_hostile(&ends, !regions[i].push);
		/* Those of the source itself are told by now, or it has none. */
		while (!regions[i].push &&
		       ((FerryRdmaDestination *)ends.destination.carrier)->readable &&
		       ferry_rdma_readable_count(
			       ((FerryRdmaDestination *)ends.destination.carrier)->readable) < 2)
			g_thread_yield();
		ends_send(&ends.destination, FERRY_RECORD_RDMA_SOURCE_REGION, regions[i].payload,
			  regions[i].len);
		expect_death(&ends, regions[i].says);
		close_hostile(&ends, regions[i].says);
	}
}

static void readable__address_at_the_end_of_all__is_refused(void)
{
	static FerryRamBlock block = { .name = (char *)"ram", .size = 8 * FERRY_PAGE_SIZE };
	const FerryRam ram = { 1, &block, 8 * FERRY_PAGE_SIZE };
	g_autoptr(FerryRdmaReadable) readable = ferry_rdma_readable_new(&ram, 4 * FERRY_PAGE_SIZE);
	g_autoptr(GError) error = NULL;
	FerryRdmaRegion region = { 0, 1, G_MAXUINT64 - 4 * FERRY_PAGE_SIZE + 1, 7 };
	guint64 address;
	guint32 key;

	CU_ASSERT_FALSE(ferry_rdma_readable_hear(readable, &region, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
	CU_ASSERT_FALSE(ferry_rdma_readable_find(readable, 0, 1, &address, &key));
	region.address--;
	CU_ASSERT_TRUE(ferry_rdma_readable_hear(readable, &region, NULL));
	CU_ASSERT_TRUE(ferry_rdma_readable_find(readable, 0, 1, &address, &key));
	CU_ASSERT_EQUAL(address, region.address);
	CU_ASSERT_EQUAL(key, 7);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(push__each_verb_fails_at_the_source__dies_by_name),
		CASE(push__each_verb_fails_at_the_destination__dies_by_name),
		CASE(pull__each_verb_fails_at_the_source__dies_by_name),
		CASE(pull__each_verb_fails_at_the_destination__dies_by_name),
		CASE(push__each_status_at_the_source__dies_by_name),
		CASE(push__each_status_at_the_destination__dies_by_name),
		CASE(pull__each_status_at_the_destination__dies_by_name),
		CASE(link__ends_behind_the_switch__is_noticed_by_name),
		CASE(immediates__hostile__end_the_link_by_name),
		CASE(given_back__more_than_was_taken__ends_the_link),
		CASE(source_regions__hostile__are_refused),
		CASE(readable__address_at_the_end_of_all__is_refused),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "carrier-postcopy-faults", cases);
}
