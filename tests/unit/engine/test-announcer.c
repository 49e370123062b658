/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "engine/announcer.h"
#include "engine/vm-private.h"

#define MS G_TIME_SPAN_MILLISECOND
#define CALLS_MAX 32u

/* A guest that only notes when it is announced. */
typedef struct {
	FerryVm *vm;
	GMutex lock;
	GCond called;
	guint calls;
	gint64 at[CALLS_MAX];
} Guest;

static gboolean agree(gpointer user, GError **error)
{
	return TRUE;
}

static void note(gpointer user)
{
	Guest *guest = user;

	g_mutex_lock(&guest->lock);
	if (guest->calls < CALLS_MAX)
		guest->at[guest->calls] = g_get_monotonic_time();
	guest->calls++;
	g_cond_broadcast(&guest->called);
	g_mutex_unlock(&guest->lock);
}

static Guest *guest_new(gboolean told)
{
	static guint8 page[FERRY_PAGE_SIZE] __attribute__((aligned(FERRY_PAGE_SIZE)));
	const FerryVmCallbacks callbacks = { .pause = agree,
					     .resume = agree,
					     .announce = told ? note : NULL };
	Guest *guest = g_new0(Guest, 1);
	FerryRam *ram = ferry_ram_new();

	if (!ferry_ram_add(ram, "ram", page, sizeof(page), FERRY_PAGE_SIZE, -1, 0, NULL))
		g_assert_not_reached();
	guest->vm = ferry_vm_new("noted", ram, ferry_devices_new(), NULL, &callbacks, guest);
	g_mutex_init(&guest->lock);
	g_cond_init(&guest->called);
	return guest;
}

static void guest_free(Guest *guest)
{
	ferry_vm_free(guest->vm);
	g_cond_clear(&guest->called);
	g_mutex_clear(&guest->lock);
	g_free(guest);
}

/* Waits for call @n, at most 10 s. */
static gboolean await_calls(Guest *guest, guint n)
{
	gint64 deadline = g_get_monotonic_time() + 10 * G_TIME_SPAN_SECOND;
	gboolean there;

	g_mutex_lock(&guest->lock);
	while (guest->calls < n && g_cond_wait_until(&guest->called, &guest->lock, deadline))
		;
	there = guest->calls >= n;
	g_mutex_unlock(&guest->lock);
	return there;
}

static void wait__between_announcements__grows_to_the_most(void)
{
	const FerryAnnouncement initially = { 50, 550, 5, 100 }, capped = { 50, 200, 9, 100 };
	const guint64 expected[] = { 50, 150, 250, 350 };

	for (guint i = 0; i < G_N_ELEMENTS(expected); i++)
		CU_ASSERT_EQUAL(ferry_announcer_wait(&initially, i + 1), expected[i]);
	CU_ASSERT_EQUAL(ferry_announcer_wait(&capped, 2), 150);
	CU_ASSERT_EQUAL(ferry_announcer_wait(&capped, 3), 200);
	CU_ASSERT_EQUAL(ferry_announcer_wait(&capped, 9), 200);
	CU_ASSERT_EQUAL(ferry_announcer_wait(&(FerryAnnouncement){ 900, 10, 3, 0 }, 1), 10);
}

static void announcer__started__announces_so_often_at_these_times(void)
{
	const FerryAnnouncement times = { .initial = 20, .max = 50, .rounds = 4, .step = 20 };
	Guest *guest = guest_new(TRUE);
	FerryAnnouncer *announcer = ferry_announcer_new(guest->vm);
	gint64 begin = g_get_monotonic_time();

	ferry_announcer_start(announcer, &times);
	CU_ASSERT(await_calls(guest, 4));
	/* No sooner; how much later is the host's matter. */
	for (guint i = 1; i < 4; i++)
		CU_ASSERT(guest->at[i] - begin >= (i == 1   ? 20
						   : i == 2 ? 20 + 40
							    : 20 + 40 + 50) *
							  MS);
	ferry_announcer_free(announcer);
	CU_ASSERT_EQUAL(guest->calls, 4);
	guest_free(guest);
}

static void announcer__freed_between_two__ends_at_once(void)
{
	const FerryAnnouncement times = { .initial = 100000, .max = 100000, .rounds = 1000 };
	Guest *guest = guest_new(TRUE);
	FerryAnnouncer *announcer = ferry_announcer_new(guest->vm);
	gint64 begin = g_get_monotonic_time();

	ferry_announcer_start(announcer, &times);
	CU_ASSERT(await_calls(guest, 1));
	ferry_announcer_free(announcer);
	CU_ASSERT(g_get_monotonic_time() - begin < 10 * G_TIME_SPAN_SECOND);
	CU_ASSERT_EQUAL(guest->calls, 1);
	guest_free(guest);
}

static void announcer__started_again__begins_anew(void)
{
	const FerryAnnouncement slow = { .initial = 100000, .max = 100000, .rounds = 2 };
	const FerryAnnouncement fast = { .rounds = 3 };
	Guest *guest = guest_new(TRUE);
	FerryAnnouncer *announcer = ferry_announcer_new(guest->vm);

	ferry_announcer_start(announcer, &slow);
	CU_ASSERT(await_calls(guest, 1));
	ferry_announcer_start(announcer, &fast);
	CU_ASSERT(await_calls(guest, 4));
	/* And when the thread is through. */
	ferry_announcer_start(announcer, &fast);
	CU_ASSERT(await_calls(guest, 7));
	ferry_announcer_free(announcer);
	CU_ASSERT_EQUAL(guest->calls, 7);
	guest_free(guest);
}

static void announcer__no_rounds_or_nobody_to_tell__ends(void)
{
	const FerryAnnouncement none = { .initial = 50, .max = 550 }, some = { .rounds = 1000 };
	Guest *guest = guest_new(TRUE), *untold = guest_new(FALSE);
	FerryAnnouncer *announcer = ferry_announcer_new(guest->vm);
	FerryAnnouncer *silent = ferry_announcer_new(untold->vm);

	ferry_announcer_start(announcer, &none);
	ferry_announcer_start(silent, &some);
	ferry_announcer_free(announcer);
	ferry_announcer_free(silent);
	CU_ASSERT_EQUAL(guest->calls, 0);
	guest_free(guest);
	guest_free(untold);
}

/* It goes away between two: whoever is elsewhere must not be announced here. */
static void announcer__guest_leaves__no_more(void)
{
	const FerryAnnouncement often = { .initial = 1, .max = 1, .rounds = 1000 };
	Guest *guest = guest_new(TRUE);
	FerryAnnouncer *announcer = ferry_announcer_new(guest->vm);
	guint calls;

	ferry_announcer_start(announcer, &often);
	CU_ASSERT(await_calls(guest, 2));
	CU_ASSERT(ferry_vm_incoming_begin(guest->vm, NULL));
	g_mutex_lock(&guest->lock);
	calls = guest->calls;
	g_mutex_unlock(&guest->lock);
	CU_ASSERT_FALSE(ferry_vm_announce(guest->vm));
	ferry_announcer_free(announcer);
	CU_ASSERT_EQUAL(guest->calls, calls);
	guest_free(guest);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(wait__between_announcements__grows_to_the_most),
		CASE(announcer__started__announces_so_often_at_these_times),
		CASE(announcer__freed_between_two__ends_at_once),
		CASE(announcer__started_again__begins_anew),
		CASE(announcer__no_rounds_or_nobody_to_tell__ends),
		CASE(announcer__guest_leaves__no_more),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "announcer", cases);
}
