/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The link breaks at every byte of a switch and of what follows it, in both directions, and once
 * more while it is recovered. Whatever happens: the guest never runs on two sides; before the
 * commit it stays, and after it arrives whole as soon as a link holds.
 */
#include "cutter.h"
#include "harness.h"
#include "mini-guest.h"

#include <glib/gstdio.h>

#define SETTLE_MS 20000u
#define RAM_SIZE (128u << 10)
/* Connections of one case at most; more is no progress. */
#define TRIES 4u

typedef struct {
	MiniGuest *source;
	MiniGuest *destination;
	Cutter cutter;
	char *dir;
	char *uri;
	/* it paused while the destination still waited for the commit, or was done */
	gboolean lost_run, lost_shut;
} Pair;

/* @rate: bytes a second of pages that nobody asks for; 0: as fast as they go. */
static void pair_open(Pair *pair, Cutter cutter, guint64 rate)
{
	g_autofree char *listening = NULL, *there = NULL;
	g_autoptr(GError) error = NULL;

	*pair = (Pair){ .cutter = cutter };
	mini_guest_most_running();
	pair->source = mini_guest_new(
		&(MiniGuestConfig){ .ram_size = RAM_SIZE,
				    .write = TRUE,
				    .transports = cutter_transports(&pair->cutter) });
	pair->destination = mini_guest_new(
		&(MiniGuestConfig){ .ram_size = RAM_SIZE, .write = TRUE });
	pair->dir = g_dir_make_tmp("ferry-cut-XXXXXX", NULL);
	listening = g_strdup_printf("unix:%s/socket", pair->dir);
	there = mini_guest_listen(pair->destination, listening);
	pair->uri = g_strconcat("cut:", there, NULL);
	if (!ferry_settings_set_capability(ferry_vm_settings(pair->source->vm),
					   FERRY_CAPABILITY_POSTCOPY_RAM, TRUE, &error) ||
	    !ferry_settings_set_parameter(ferry_vm_settings(pair->source->vm),
					  FERRY_PARAMETER_MAX_POSTCOPY_BANDWIDTH, rate, &error) ||
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
		if (!ferry_source_recover(pair->source->source, pair->uri, NULL))
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

static void try_one(const Cutter *cutter, guint64 rate, Tally *tally)
{
	Pair pair;

	pair_open(&pair, *cutter, rate);
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
static gboolean whole_conversation(guint64 *forth, guint64 *back)
{
	gboolean ok;
	Pair pair;

	pair_open(&pair, (Cutter){ .where = CUT_NOTHING }, 0);
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
		try_one(&(Cutter){ .where = where, .at = at, .whole_from = 1 }, 0, &tally);
		at += at < head || at >= edge ? 1 : MIN(step, edge - at);
	}
	conclude(&tally);
	return tally;
}

static void link__cut_forth__guest_stays_or_is_recovered(void)
{
	guint64 forth = 0, back = 0;

	CU_ASSERT(whole_conversation(&forth, &back));
	printf("# %" G_GUINT64_FORMAT " bytes forth, %" G_GUINT64_FORMAT " back\n", forth, back);
	/* RUN, which may be lost as a whole or in part, lies behind the package and before the
	 * pages. */
	CU_ASSERT(cut_everywhere(CUT_FORTH, forth, forth - RAM_SIZE, 64, 521).lost_run > 0);
}

static void link__cut_back_at_every_byte__guest_stays_or_is_recovered(void)
{
	guint64 forth = 0, back = 0;

	CU_ASSERT(whole_conversation(&forth, &back));
	CU_ASSERT(cut_everywhere(CUT_BACK, back, 0, 100, 3).lost_shut > 0);
}

/* At random places, on the first connection and on the second; the third is whole. */
static void cut_twice(CutWhere where, guint64 bytes, guint64 later)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(where);
	Tally tally = { 0 };

	for (guint i = 0; i < 150; i++)
		try_one(&(Cutter){ .where = where,
				   .at = g_rand_int_range(rand, bytes / 20, bytes),
				   .later = g_rand_int_range(rand, 1, later),
				   .whole_from = 2 },
			0, &tally);
	conclude(&tally);
}

static void link__cut_forth_again_in_the_recovery__recovered_later(void)
{
	guint64 forth = 0, back = 0;

	CU_ASSERT(whole_conversation(&forth, &back));
	cut_twice(CUT_FORTH, forth, 600);
	cut_twice(CUT_FORTH, forth, forth);
}

static void link__cut_back_again_in_the_recovery__recovered_later(void)
{
	guint64 forth = 0, back = 0;

	CU_ASSERT(whole_conversation(&forth, &back));
	cut_twice(CUT_BACK, back, 250);
}

/* The guest waits for most of its pages, and asks for them. */
static void link__cut_while_the_guest_asks__recovered(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(7);
	Tally tally = { 0 };

	for (guint i = 0; i < 60; i++)
		try_one(&(Cutter){ .where = i % 2 ? CUT_BACK : CUT_FORTH,
				   .at = i % 2 ? g_rand_int_range(rand, 150, 500)
					       : g_rand_int_range(rand, 700, RAM_SIZE),
				   .whole_from = 1 },
			1u << 20, &tally);
	conclude(&tally);
}

static CU_TestInfo cases[] = {
	CASE(link__cut_forth__guest_stays_or_is_recovered),
	CASE(link__cut_back_at_every_byte__guest_stays_or_is_recovered),
	CASE(link__cut_while_the_guest_asks__recovered),
	CASE(link__cut_forth_again_in_the_recovery__recovered_later),
	CASE(link__cut_back_again_in_the_recovery__recovered_later),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "a cut at every byte of postcopy", cases);
}
