/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The link breaks at every byte of the conversation, in both directions. Whatever happens: the
 * guest never runs on two sides, and in the end it runs on exactly one, or is held on a side that
 * says so.
 */
#include "cutter.h"
#include "fake-fabric.h"
#include "harness.h"
#include "mini-guest.h"

#include <glib/gstdio.h>

#define SETTLE_MS 20000u

typedef struct {
	MiniGuest *source;
	MiniGuest *destination;
	Cutter cutter;
	char *dir;
	char *uri; /* the destination's */
} Pair;

static void pair_open_guest(Pair *pair, Cutter cutter, gboolean running)
{
	g_autofree char *listening = NULL, *cut = NULL;
	g_autoptr(GError) error = NULL;

	*pair = (Pair){ .cutter = cutter };
	mini_guest_most_running();
	pair->source = mini_guest_new(&(MiniGuestConfig){
		.ram_size = 256 << 10, .transports = cutter_transports(&pair->cutter) });
	pair->destination = mini_guest_new(
		&(MiniGuestConfig){ .ram_size = 256 << 10, .transports = cutter.under });
	pair->dir = g_dir_make_tmp("ferry-cut-XXXXXX", NULL);
	listening = g_strdup_printf("%sunix:%s/socket", cutter.under ? "fake:" : "", pair->dir);
	pair->uri = mini_guest_listen(pair->destination, listening);
	cut = g_strconcat("cut:", pair->uri, NULL);
	if (!ferry_vm_start(pair->source->vm, &error) ||
	    (!running && !ferry_vm_stop(pair->source->vm, &error)) ||
	    !ferry_source_migrate(pair->source->source, cut, &error))
		g_error("%s", error->message);
}

/* Where the pages go. */
typedef enum {
	IN_STREAM,
	BESIDE_STREAM,
} Way;

static const FerryTransport *const *fake_fabric(void)
{
	static FakeFabric fabric;

	fabric = (FakeFabric){ 0 };
	return fake_fabric_transports(&fabric);
}

/* @at: byte of the cut; later connections are whole if @once, else dead from the start. */
static void pair_open(Pair *pair, Way way, CutWhere where, guint64 at, gboolean once)
{
	pair_open_guest(pair,
			(Cutter){ .where = where,
				  .at = at,
				  .whole_from = once,
				  .later = 1,
				  .under = way == BESIDE_STREAM ? fake_fabric() : NULL },
			TRUE);
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

/* Nothing more happens by itself, but for a source that goes on asking. */
static gboolean settled(gpointer user)
{
	FerryState s = source_state(user), d = destination_state(user);

	if (s == FERRY_STATE_COMPLETED)
		return d == FERRY_STATE_COMPLETED;
	if (s == FERRY_STATE_FAILED || s == FERRY_STATE_CANCELLED)
		return d != FERRY_STATE_ACTIVE && d != FERRY_STATE_HANDOVER;
	return s == FERRY_STATE_HANDOVER_LOST &&
	       (d == FERRY_STATE_HANDOVER_LOST || d == FERRY_STATE_COMPLETED);
}

/* The rule of all rules. */
static gboolean one_owner(Pair *pair)
{
	gboolean here = g_atomic_int_get(&pair->source->running);
	gboolean there = g_atomic_int_get(&pair->destination->running);
	gboolean held = source_state(pair) == FERRY_STATE_HANDOVER_LOST ||
			destination_state(pair) == FERRY_STATE_HANDOVER_LOST;

	return mini_guest_most_running() <= 1 && (here != there || (!here && !there && held));
}

static void show(Pair *pair, const char *what)
{
	FerryMigrationStatus status;

	ferry_source_get_status(pair->source->source, &status);
	printf("# %s: cut %s at %" G_GUINT64_FORMAT ": source %s (%s), destination %s\n", what,
	       pair->cutter.where == CUT_FORTH ? "forth" : "back", pair->cutter.at,
	       ferry_state_name(status.state), status.error_desc ? status.error_desc : "-",
	       ferry_state_name(destination_state(pair)));
	ferry_migration_status_clear(&status);
}

/* One migration with a cut; whether the rule held. */
static gboolean survives(Way way, CutWhere where, guint64 at, gboolean once, gboolean *completed)
{
	gboolean ok;
	Pair pair;

	pair_open(&pair, way, where, at, once);
	ok = mini_guest_await(settled, &pair, SETTLE_MS);
	if (!ok)
		show(&pair, "does not settle");
	if (ok && !one_owner(&pair)) {
		ok = FALSE;
		show(&pair, "not exactly one owner");
	}
	*completed = source_state(&pair) == FERRY_STATE_COMPLETED;
	pair_close(&pair);
	return ok;
}

/* How many bytes go each way when nothing is cut. */
static gboolean whole_conversation(Way way, guint64 *forth, guint64 *back)
{
	gboolean ok;
	Pair pair;

	pair_open(&pair, way, CUT_NOTHING, 0, FALSE);
	ok = mini_guest_await(settled, &pair, SETTLE_MS) && one_owner(&pair) &&
	     source_state(&pair) == FERRY_STATE_COMPLETED;
	if (!ok)
		show(&pair, "whole");
	*forth = pair.cutter.forth;
	*back = pair.cutter.back;
	pair_close(&pair);
	return ok;
}

/* Cuts at every byte of the last @tail and at every @step-th before it. */
static void cut_everywhere(Way way, CutWhere where, guint64 bytes, guint64 tail, guint64 step,
			   gboolean once)
{
	guint cuts = 0, bad = 0, completed_count = 0;
	guint64 edge = bytes - MIN(tail, bytes);
	gboolean completed;

	for (guint64 at = 1; at < bytes; at += at < edge ? MIN(step, edge - at) : 1, cuts++) {
		bad += !survives(way, where, at, once, &completed);
		completed_count += completed;
	}
	printf("# %u cuts in %" G_GUINT64_FORMAT " bytes, %u migrations completed all the same\n",
	       cuts, bytes, completed_count);
	CU_ASSERT_EQUAL(bad, 0);
}

static void conversation__whole__guest_moves(void)
{
	guint64 forth, back;

	CU_ASSERT(whole_conversation(IN_STREAM, &forth, &back));
	printf("# %" G_GUINT64_FORMAT " bytes forth, %" G_GUINT64_FORMAT " back\n", forth, back);
}

static void link__cut_forth_at_every_byte_of_the_hand_over__one_owner(void)
{
	guint64 forth, back;

	CU_ASSERT(whole_conversation(IN_STREAM, &forth, &back));
	cut_everywhere(IN_STREAM, CUT_FORTH, forth, 160, 37, TRUE);
}

static void link__cut_back_at_every_byte__one_owner(void)
{
	guint64 forth, back;

	CU_ASSERT(whole_conversation(IN_STREAM, &forth, &back));
	cut_everywhere(IN_STREAM, CUT_BACK, back, 120, 7, TRUE);
}

static void link__cut_forth_with_pages_beside_it__one_owner(void)
{
	guint64 forth, back;

	CU_ASSERT(whole_conversation(BESIDE_STREAM, &forth, &back));
	cut_everywhere(BESIDE_STREAM, CUT_FORTH, forth, 160, 37, TRUE);
}

static void link__cut_back_with_pages_beside_it__one_owner(void)
{
	guint64 forth, back;

	CU_ASSERT(whole_conversation(BESIDE_STREAM, &forth, &back));
	cut_everywhere(BESIDE_STREAM, CUT_BACK, back, 120, 7, TRUE);
}

static gboolean source_completed(gpointer user)
{
	return source_state(user) == FERRY_STATE_COMPLETED;
}

/* RUNNING is lost, and so is the answer to the first question: the next one is answered still. */
static void link__cut_again_in_the_answer__source_learns_it_later(void)
{
	guint64 forth, back;
	Pair pair;

	CU_ASSERT(whole_conversation(IN_STREAM, &forth, &back));
	/* PONG and HELLO are 52 bytes, the answer 16. */
	pair_open_guest(
		&pair, (Cutter){ .where = CUT_BACK, .at = back - 28, .later = 60, .whole_from = 2 },
		TRUE);
	CU_ASSERT(mini_guest_await(source_completed, &pair, SETTLE_MS));
	CU_ASSERT_EQUAL(g_atomic_int_get(&pair.cutter.cuts), 2);
	CU_ASSERT(one_owner(&pair));
	pair_close(&pair);
}

/* The link stays cut: a guest in doubt waits for the operator, whose word ends it on both sides. */
static void link__stays_cut_in_the_hand_over__operator_decides(void)
{
	guint64 forth, back;
	gboolean ok;
	Pair pair;

	CU_ASSERT(whole_conversation(IN_STREAM, &forth, &back));
	/* READY has arrived; RUNNING breaks off, and no later connection brings anything. */
	pair_open(&pair, IN_STREAM, CUT_BACK, back - 28, FALSE);
	ok = mini_guest_await(settled, &pair, SETTLE_MS);
	CU_ASSERT(ok);
	show(&pair, "for ever");
	CU_ASSERT(source_state(&pair) == FERRY_STATE_HANDOVER_LOST);
	CU_ASSERT_FALSE(g_atomic_int_get(&pair.source->running));
	CU_ASSERT_FALSE(ferry_vm_start(pair.source->vm, NULL));
	CU_ASSERT(ferry_source_resolve(pair.source->source, FERRY_RESOLVE_DISCARD, NULL));
	CU_ASSERT(mini_guest_await(source_completed, &pair, SETTLE_MS));
	CU_ASSERT(mini_guest_most_running() <= 1);
	pair_close(&pair);
}

static gboolean both_in_doubt(gpointer user)
{
	return source_state(user) == FERRY_STATE_HANDOVER_LOST &&
	       destination_state(user) == FERRY_STATE_HANDOVER_LOST;
}

/* A guest in doubt stays as it was loaded, whoever else comes: it is paused, the other one runs. */
static void doubt__another_guest_comes__refused_and_nothing_changes(void)
{
	MiniGuest *other = mini_guest_new(&(MiniGuestConfig){ .ram_size = 256 << 10 });
	guint64 forth, back;
	Pair pair;

	CU_ASSERT(whole_conversation(IN_STREAM, &forth, &back));
	/* Behind COMMIT come the 13 bytes of DONE. */
	pair_open_guest(&pair, (Cutter){ .where = CUT_FORTH, .at = forth - 14, .later = 1 }, FALSE);
	CU_ASSERT(mini_guest_await(both_in_doubt, &pair, SETTLE_MS));
	CU_ASSERT(ferry_vm_start(other->vm, NULL));
	CU_ASSERT(ferry_source_migrate(other->source, pair.uri, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(other->source), FERRY_STATE_FAILED);
	CU_ASSERT(g_atomic_int_get(&other->running));
	CU_ASSERT(ferry_destination_resolve(pair.destination->destination, FERRY_RESOLVE_RUN_HERE,
					    NULL));
	CU_ASSERT_EQUAL(ferry_vm_run_state(pair.destination->vm), FERRY_RUN_STATE_PAUSED);
	CU_ASSERT_FALSE(g_atomic_int_get(&pair.destination->running));
	mini_guest_free(other);
	pair_close(&pair);
}

static void cancel(gpointer user)
{
	ferry_source_cancel(((Pair *)user)->source->source);
}

/* A peer that knows no hand-over has the guest: it is too late, and the migration ends all the
 * same. */
static void cancel__comes_when_all_is_written__completed(void)
{
	g_autofree char *dir = g_dir_make_tmp("ferry-cut-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(dir, "guest", NULL);
	g_autofree char *uri = g_strconcat("cut:file:", path, NULL);
	Pair pair = { .cutter = { .finished = cancel, .user = &pair } };

	pair.source = mini_guest_new(&(MiniGuestConfig){
		.ram_size = 256 << 10, .transports = cutter_transports(&pair.cutter) });
	CU_ASSERT(ferry_vm_start(pair.source->vm, NULL));
	CU_ASSERT(ferry_source_migrate(pair.source->source, uri, NULL));
	CU_ASSERT(mini_guest_await(source_completed, &pair, SETTLE_MS));
	CU_ASSERT_FALSE(g_atomic_int_get(&pair.source->running));
	mini_guest_free(pair.source);
	g_unlink(path);
	g_rmdir(dir);
}

static CU_TestInfo cases[] = {
	CASE(conversation__whole__guest_moves),
	CASE(link__cut_forth_at_every_byte_of_the_hand_over__one_owner),
	CASE(link__cut_back_at_every_byte__one_owner),
	CASE(link__cut_forth_with_pages_beside_it__one_owner),
	CASE(link__cut_back_with_pages_beside_it__one_owner),
	CASE(link__stays_cut_in_the_hand_over__operator_decides),
	CASE(link__cut_again_in_the_answer__source_learns_it_later),
	CASE(doubt__another_guest_comes__refused_and_nothing_changes),
	CASE(cancel__comes_when_all_is_written__completed),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "a cut at every byte", cases);
}
