/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "switched.h"

#include <stdlib.h>

/* Both ends in this process, over two devices with a wire between them. */
#define FAR_END "10.77.0.2"
#define FAULTS 150u
#define FAULT_US G_USEC_PER_SEC

static const guint blocks[] = { 37, 1, 515, 12000, 0 };

static gboolean expect_ok(gboolean ok, GError *const *error)
{
	if (!ok)
		printf("# %s\n", *error ? (*error)->message : "failed without an error");
	CU_ASSERT(ok);
	return ok;
}

static gboolean open_wire(Ends *ends, gboolean pull)
{
	g_autoptr(GError) error = NULL;

	ends_open(ends, NULL, blocks);
	ends->host = FAR_END;
	switched_ask(ends, pull);
	return expect_ok(ends_connect(ends, &error) && ends_round(ends, 5, 128, FALSE, &error),
			 &error);
}

#define ONLY_THERE()                                                                               \
	if (!getenv("FERRY_SOFTROCE"))                                                             \
	SKIP("no wire of soft-RoCE here: tests/softroce/run makes one")

static void move(gboolean pull)
{
	g_autoptr(GError) error = NULL;
	Ends ends;

	if (open_wire(&ends, pull)) {
		gint64 begin = g_get_monotonic_time();

		CU_ASSERT_EQUAL(ends.source.carrier->ops->pulls(ends.source.carrier), pull);
		if (expect_ok(switched_run(&ends, &error), &error))
			printf("# %" G_GUINT64_FORMAT " pages, %" G_GUINT64_FORMAT
			       " of them urgent, in %d ms\n",
			       ends.switched->total, ends.switched->urgent,
			       (int)((g_get_monotonic_time() - begin) / 1000));
	}
	ends_close(&ends);
}

static void push__over_the_wire__every_page_lands_once(void)
{
	ONLY_THERE();
	move(FALSE);
}

static void pull__over_the_wire__every_page_lands_once(void)
{
	ONLY_THERE();
	move(TRUE);
}

/* ---- how long a page takes that is waited for ---- */

static gboolean is_here(Switched *s, const FerryRun *run)
{
	gboolean here;

	g_mutex_lock(&s->lock);
	here = s->pages[run->block][run->first] == 0;
	g_mutex_unlock(&s->lock);
	return here;
}

/* As much in the background as there is room for; @rest was claimed and found none. */
static void fill(Switched *s, FerryRun *rest)
{
	FerryCarrier *carrier = s->ends->destination.carrier;

	while ((rest->pages || switched_claim(s, FALSE, 16, rest)) &&
	       carrier->ops->fetch(carrier, rest, FALSE) == FERRY_IO_OK)
		rest->pages = 0;
}

static gint64 fetch_one(Switched *s, gboolean background, FerryRun *rest)
{
	FerryCarrier *carrier = s->ends->destination.carrier;
	gint64 begin = g_get_monotonic_time();
	gboolean asked = FALSE;
	FerryRun run;

	if (!switched_claim(s, TRUE, 1, &run))
		return -1;
	while (!is_here(s, &run)) {
		if (!asked)
			asked = carrier->ops->fetch(carrier, &run, TRUE) == FERRY_IO_OK;
		if (background)
			fill(s, rest);
		carrier->ops->wait_fetched(carrier, -1, FAULT_US);
		if (carrier->ops->progress(carrier) == FERRY_IO_DEAD)
			return -1;
	}
	return g_get_monotonic_time() - begin;
}

static gint64 push_one(Switched *s)
{
	FerryCarrier *carrier = s->ends->source.carrier;
	gint64 begin = g_get_monotonic_time();
	FerryRun run;
	FerryIo io;

	if (!switched_claim(s, TRUE, 1, &run))
		return -1;
	while ((io = carrier->ops->urgent(carrier, &run)) == FERRY_IO_AGAIN)
		g_usleep(20);
	g_mutex_lock(&s->lock);
	while (io == FERRY_IO_OK && s->pages[run.block][run.first] &&
	       g_cond_wait_until(&s->changed, &s->lock, begin + FAULT_US))
		;
	g_mutex_unlock(&s->lock);
	return io == FERRY_IO_OK ? g_get_monotonic_time() - begin : -1;
}

static int compare(const void *a, const void *b)
{
	gint64 x = *(const gint64 *)a, y = *(const gint64 *)b;

	return (x > y) - (x < y);
}

/* Sorts @us, and returns the median. */
static gint64 report(gint64 *us, const char *what)
{
	qsort(us, FAULTS, sizeof(*us), compare);
	printf("# %s: p50 %d us, p90 %d us, worst %d us\n", what, (int)us[FAULTS / 2],
	       (int)us[FAULTS * 9 / 10], (int)us[FAULTS - 1]);
	return us[FAULTS / 2];
}

static void pull__a_fault__in_what_time(void)
{
	g_autoptr(GError) error = NULL;
	gint64 us[FAULTS], idle, busy;
	FerryRun rest = { 0 };
	Switched *switched;
	Ends ends;

	ONLY_THERE();
	if (open_wire(&ends, TRUE) && (switched = switched_begin(&ends, &error))) {
		for (guint i = 0; i < 20; i++)
			fetch_one(switched, FALSE, &rest);
		for (guint i = 0; i < FAULTS; i++)
			us[i] = fetch_one(switched, FALSE, &rest);
		idle = report(us, "pull, idle");
		for (guint i = 0; i < FAULTS; i++)
			us[i] = fetch_one(switched, TRUE, &rest);
		busy = report(us, "pull, beside the background");
		printf("# %.2f times\n", (double)busy / (double)idle);
		CU_ASSERT(idle > 0 && busy > 0);
	}
	ends_close(&ends);
}

typedef struct {
	Ends *ends;
	int stop; /* atomic */
} Bulk;

static gpointer put_bulk(gpointer user)
{
	Bulk *bulk = user;
	FerryCarrier *carrier = bulk->ends->source.carrier;
	FerryRun run;

	while (!g_atomic_int_get(&bulk->stop)) {
		size_t taken = 0;

		if (!switched_claim(bulk->ends->switched, FALSE, 128, &run))
			return NULL;
		while (!taken && !g_atomic_int_get(&bulk->stop)) {
			if (carrier->ops->put(carrier, &run, 1, &taken) == FERRY_IO_AGAIN)
				carrier->ops->wait(carrier, 1000);
			carrier->ops->progress(carrier);
		}
	}
	return NULL;
}

static gpointer put_nothing(gpointer user)
{
	Bulk *bulk = user;
	FerryCarrier *carrier = bulk->ends->source.carrier;

	while (!g_atomic_int_get(&bulk->stop)) {
		carrier->ops->progress(carrier);
		carrier->ops->wait(carrier, 20000);
	}
	return NULL;
}

static gint64 push_beside(Ends *ends, GThreadFunc beside, const char *what)
{
	Bulk bulk = { ends, FALSE };
	GThread *thread = g_thread_new("bulk", beside, &bulk);
	gint64 us[FAULTS];

	for (guint i = 0; i < FAULTS; i++)
		us[i] = push_one(ends->switched);
	g_atomic_int_set(&bulk.stop, TRUE);
	g_thread_join(thread);
	return report(us, what);
}

static void push__a_fault__in_what_time(void)
{
	g_autoptr(GError) error = NULL;
	gint64 idle, busy;
	Ends ends;

	ONLY_THERE();
	if (open_wire(&ends, FALSE) && switched_begin(&ends, &error)) {
		idle = push_beside(&ends, put_nothing, "push, idle");
		busy = push_beside(&ends, put_bulk, "push, beside bulk");
		printf("# %.2f times\n", (double)busy / (double)idle);
		CU_ASSERT(idle > 0 && busy > 0);
	}
	ends_close(&ends);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(push__over_the_wire__every_page_lands_once),
		CASE(pull__over_the_wire__every_page_lands_once),
		CASE(pull__a_fault__in_what_time),
		CASE(push__a_fault__in_what_time),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "postcopy-wire", cases);
}
