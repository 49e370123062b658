/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The link breaks at every byte of a switch and of what follows it, in both directions, and once
 * more while it is recovered. Whatever happens: the guest never runs on two sides; before the
 * commit it stays, and after it arrives whole as soon as a link holds.
 */
#include "cutter.h"
#include "fake-fabric.h"
#include "harness.h"
#include "mini-guest.h"

#include <glib/gstdio.h>

#define SETTLE_MS 20000u
#define RAM_SIZE (128u << 10)
/* Connections of one case at most; more is no progress. */
#define TRIES 4u

/* How a guest moves. */
typedef struct {
	Cutter cutter;
	guint64 rate;       /* bytes a second of pages that nobody asks for; 0: no limit */
	FakeFabric *fabric; /* the pages go beside the stream; NULL: in it */
	gboolean elsewhere; /* recovered by another transport, in the stream */
} Course;

typedef struct {
	const Course *course;
	MiniGuest *source;
	MiniGuest *destination;
	Cutter cutter;
	char *dir;
	char *uri;
	/* it paused while the destination still waited for the commit, or was done */
	gboolean lost_run, lost_shut;
} Pair;

/* "fake:" and all real ones. */
static const FerryTransport *const *transports_with(FakeFabric *fabric)
{
	static const FerryTransport *table[16];
	guint n = 0;

	table[n++] = fake_fabric_transports(fabric)[0];
	for (const FerryTransport *const *real = ferry_transports(); *real; real++)
		table[n++] = *real;
	g_assert(n < G_N_ELEMENTS(table));
	return table;
}

static void pair_open(Pair *pair, const Course *course)
{
	const FerryTransport *const *under = course->fabric ? transports_with(course->fabric)
							    : NULL;
	g_autofree char *listening = NULL, *there = NULL;
	g_autoptr(GError) error = NULL;

	*pair = (Pair){ .course = course, .cutter = course->cutter };
	pair->cutter.under = under;
	mini_guest_most_running();
	pair->source = mini_guest_new(
		&(MiniGuestConfig){ .ram_size = RAM_SIZE,
				    .write = TRUE,
				    .transports = cutter_transports(&pair->cutter) });
	pair->destination = mini_guest_new(
		&(MiniGuestConfig){ .ram_size = RAM_SIZE, .write = TRUE, .transports = under });
	pair->dir = g_dir_make_tmp("ferry-cut-XXXXXX", NULL);
	listening = g_strdup_printf("%sunix:%s/socket", under ? "fake:" : "", pair->dir);
	there = mini_guest_listen(pair->destination, listening);
	pair->uri = g_strconcat("cut:", there, NULL);
	if (!ferry_settings_set_capability(ferry_vm_settings(pair->source->vm),
					   FERRY_CAPABILITY_POSTCOPY_RAM, TRUE, &error) ||
	    /* Precopy must not be over before the switch is asked for. */
	    !ferry_settings_set_parameter(ferry_vm_settings(pair->source->vm),
					  FERRY_PARAMETER_DOWNTIME_LIMIT, 0, &error) ||
	    !ferry_settings_set_parameter(ferry_vm_settings(pair->source->vm),
					  FERRY_PARAMETER_MAX_POSTCOPY_BANDWIDTH, course->rate,
					  &error) ||
	    !ferry_vm_start(pair->source->vm, &error) ||
	    !ferry_source_migrate(pair->source->source, pair->uri, &error) ||
	    !ferry_source_start_postcopy(pair->source->source, &error))
		g_error("%s", error->message);
}

static void pair_close(Pair *pair)
{
	mini_guest_free(pair->source);
	mini_guest_free(pair->destination);
	g_rmdir(pair->dir);
	g_free(pair->dir);
	g_free(pair->uri);
}

static FerryState source_state(Pair *pair)
{
	return ferry_source_state(pair->source->source);
}

static FerryState destination_state(Pair *pair)
{
	return ferry_destination_state(pair->destination->destination);
}

/* Nothing more happens by itself. */
static gboolean settled(gpointer user)
{
	FerryState s = source_state(user), d = destination_state(user);

	if (s == FERRY_STATE_COMPLETED)
		return d == FERRY_STATE_COMPLETED;
	if (s == FERRY_STATE_FAILED)
		return d != FERRY_STATE_ACTIVE && d != FERRY_STATE_HANDOVER;
	return s == FERRY_STATE_POSTCOPY_PAUSED &&
	       (d == FERRY_STATE_HANDOVER_LOST || d == FERRY_STATE_POSTCOPY_PAUSED ||
		d == FERRY_STATE_COMPLETED);
}

static void show(Pair *pair, const char *what)
{
	g_auto(FerryMigrationStatus) here = { 0 }, there = { 0 };

	ferry_source_get_status(pair->source->source, &here);
	ferry_destination_get_status(pair->destination->destination, &there);
	printf("# %s: cut %s at %" G_GUINT64_FORMAT " and %" G_GUINT64_FORMAT
	       ": source %s (%s), destination %s (%s), %d connections\n",
	       what, pair->cutter.where == CUT_FORTH ? "forth" : "back", pair->cutter.at,
	       pair->cutter.later, ferry_state_name(here.state),
	       here.error_desc ? here.error_desc : "-", ferry_state_name(there.state),
	       there.error_desc ? there.error_desc : "-",
	       g_atomic_int_get(&pair->cutter.connections));
}

static gboolean recover(Pair *pair)
{
	g_autofree char *there = g_strdup_printf("unix:%s/elsewhere", pair->dir);
	g_autofree char *uri = g_strconcat("cut:", there, NULL);

	if (!pair->course->elsewhere || destination_state(pair) == FERRY_STATE_COMPLETED)
		return ferry_source_recover(pair->source->source, pair->uri, NULL);
	return ferry_destination_recover(pair->destination->destination, there, NULL) &&
	       ferry_source_recover(pair->source->source, uri, NULL);
}

/* Recovers until both sides are at an end; FALSE says on which way that failed. */
static gboolean brought_to_an_end(Pair *pair)
{
	for (guint i = 0; i < TRIES; i++) {
		if (!mini_guest_await(settled, pair, SETTLE_MS))
			return show(pair, "does not settle"), FALSE;
		if (source_state(pair) != FERRY_STATE_POSTCOPY_PAUSED)
			return TRUE;
		pair->lost_run |= destination_state(pair) == FERRY_STATE_HANDOVER_LOST;
		pair->lost_shut |= destination_state(pair) == FERRY_STATE_COMPLETED;
		if (!recover(pair))
			return show(pair, "cannot be recovered"), FALSE;
	}
	return show(pair, "is paused again and again"), FALSE;
}

/* The rule of all rules, and a guest without a flaw. */
static gboolean one_whole_guest(Pair *pair)
{
	gboolean moved = source_state(pair) == FERRY_STATE_COMPLETED;
	MiniGuest *owner = moved ? pair->destination : pair->source;
	MiniGuest *other = moved ? pair->source : pair->destination;
	g_auto(FerryMigrationStatus) status = { 0 };

	ferry_destination_get_status(pair->destination->destination, &status);
	if (mini_guest_most_running() > 1 || !g_atomic_int_get(&owner->running) ||
	    g_atomic_int_get(&other->running))
		return show(pair, "not exactly one owner"), FALSE;
	if (!ferry_vm_stop(owner->vm, NULL) || !mini_guest_is_right(owner))
		return show(pair, "the guest is damaged"), FALSE;
	if (status.postcopy.repeated_pages)
		return show(pair, "pages came twice"), FALSE;
	return TRUE;
}

/* What became of many migrations. */
typedef struct {
	guint cuts, bad, moved, recovered, lost_run, lost_shut;
} Tally;

static void try_one(const Course *course, Tally *tally)
{
	Pair pair;

	pair_open(&pair, course);
	tally->bad += !brought_to_an_end(&pair) || !one_whole_guest(&pair);
	tally->cuts++;
	tally->moved += source_state(&pair) == FERRY_STATE_COMPLETED;
	tally->recovered += g_atomic_int_get(&pair.cutter.connections) > 1;
	tally->lost_run += pair.lost_run;
	tally->lost_shut += pair.lost_shut;
	pair_close(&pair);
}

static void conclude(const Tally *tally)
{
	printf("# %u cuts: %u guests moved, of which %u after a recovery; RUN was lost %u times, SHUT "
	       "%u\n",
	       tally->cuts, tally->moved, tally->recovered, tally->lost_run, tally->lost_shut);
	CU_ASSERT_EQUAL(tally->bad, 0);
	CU_ASSERT(tally->recovered > 0);
}

/* How many bytes go each way when nothing is cut. */
static gboolean whole_conversation(FakeFabric *fabric, guint64 *forth, guint64 *back)
{
	const Course *course = &(Course){ .fabric = fabric };
	gboolean ok;
	Pair pair;

	pair_open(&pair, course);
	ok = brought_to_an_end(&pair) && one_whole_guest(&pair);
	CU_ASSERT_EQUAL(source_state(&pair), FERRY_STATE_COMPLETED);
	*forth = pair.cutter.forth;
	*back = pair.cutter.back;
	pair_close(&pair);
	return ok;
}

/* Cuts at every byte of the first @head and of the last @tail, and at every @step-th between. */
static Tally cut_everywhere(CutWhere where, guint64 bytes, guint64 head, guint64 tail, guint64 step)
{
	guint64 edge = bytes - MIN(tail, bytes);
	Tally tally = { 0 };

	for (guint64 at = 1; at < bytes;) {
		try_one(&(Course){ .cutter = { .where = where, .at = at, .whole_from = 1 } },
			&tally);
		at += at < head || at >= edge ? 1 : MIN(step, edge - at);
	}
	conclude(&tally);
	return tally;
}

static void link__cut_forth__guest_stays_or_is_recovered(void)
{
	guint64 forth = 0, back = 0;

	CU_ASSERT(whole_conversation(NULL, &forth, &back));
	printf("# %" G_GUINT64_FORMAT " bytes forth, %" G_GUINT64_FORMAT " back\n", forth, back);
	/* RUN, which may be lost as a whole or in part, lies behind the package and before the
	 * pages. */
	CU_ASSERT(cut_everywhere(CUT_FORTH, forth, forth - RAM_SIZE, 64, 521).lost_run > 0);
}

static void link__cut_back_at_every_byte__guest_stays_or_is_recovered(void)
{
	guint64 forth = 0, back = 0;

	CU_ASSERT(whole_conversation(NULL, &forth, &back));
	CU_ASSERT(cut_everywhere(CUT_BACK, back, 0, 100, 3).lost_shut > 0);
}

/* At random places, on the first connection and on the second; the third is whole. */
static void cut_twice(CutWhere where, guint64 bytes, guint64 later)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(where);
	Tally tally = { 0 };

	for (guint i = 0; i < 150; i++)
		try_one(&(Course){ .cutter = { .where = where,
					       .at = g_rand_int_range(rand, bytes / 20, bytes),
					       .later = g_rand_int_range(rand, 1, later),
					       .whole_from = 2 } },
			&tally);
	conclude(&tally);
}

static void link__cut_forth_again_in_the_recovery__recovered_later(void)
{
	guint64 forth = 0, back = 0;

	CU_ASSERT(whole_conversation(NULL, &forth, &back));
	cut_twice(CUT_FORTH, forth, 600);
	cut_twice(CUT_FORTH, forth, forth);
}

static void link__cut_back_again_in_the_recovery__recovered_later(void)
{
	guint64 forth = 0, back = 0;

	CU_ASSERT(whole_conversation(NULL, &forth, &back));
	cut_twice(CUT_BACK, back, 250);
}

/* The guest waits for most of its pages, and asks for them. */
static void link__cut_while_the_guest_asks__recovered(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(7);
	Tally tally = { 0 };

	for (guint i = 0; i < 60; i++)
		try_one(&(Course){ .rate = 1u << 20,
				   .cutter = { .where = i % 2 ? CUT_BACK : CUT_FORTH,
					       .at = i % 2 ? g_rand_int_range(rand, 150, 500)
							   : g_rand_int_range(rand, 700, RAM_SIZE),
					       .whole_from = 1 } },
			&tally);
	conclude(&tally);
}

/* The pages go beside the stream, by themselves: nothing of the old connection may land once the
 * new one is told what is there. */
static void check_beside(FakeFabric wanted, gboolean elsewhere)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(8);
	guint64 forth = 0, back = 0;
	FakeFabric fabric = wanted;
	Tally tally = { 0 };

	CU_ASSERT(whole_conversation(&fabric, &forth, &back));
	for (guint i = 0; i < 100; i++) {
		gboolean backwards = i % 2;

		fabric = wanted;
		try_one(&(Course){ .cutter = { .where = backwards ? CUT_BACK : CUT_FORTH,
					       .at = backwards ? g_rand_int_range(rand, 60, back)
							       : g_rand_int_range(rand, forth / 2,
										  forth),
					       .whole_from = 1 },
				   .rate = 1u << 20,
				   .fabric = &fabric,
				   .elsewhere = elsewhere },
			&tally);
		CU_ASSERT_EQUAL(g_atomic_int_get(&fabric.unwanted), 0);
	}
	conclude(&tally);
	fake_fabric_transports(NULL);
}

static void pages__pushed_beside_the_stream__recovered(void)
{
	check_beside((FakeFabric){ .put_us = 100 }, FALSE);
}

static void pages__pulled__recovered(void)
{
	check_beside((FakeFabric){ .pulls = TRUE }, FALSE);
}

static void pages__beside_the_stream__recovered_in_the_stream(void)
{
	check_beside((FakeFabric){ .put_us = 100 }, TRUE);
	check_beside((FakeFabric){ .pulls = TRUE }, TRUE);
}

static CU_TestInfo cases[] = {
	CASE(link__cut_forth__guest_stays_or_is_recovered),
	CASE(link__cut_back_at_every_byte__guest_stays_or_is_recovered),
	CASE(link__cut_while_the_guest_asks__recovered),
	CASE(link__cut_forth_again_in_the_recovery__recovered_later),
	CASE(link__cut_back_again_in_the_recovery__recovered_later),
	CASE(pages__pushed_beside_the_stream__recovered),
	CASE(pages__pulled__recovered),
	CASE(pages__beside_the_stream__recovered_in_the_stream),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "a cut at every byte of postcopy", cases);
}
