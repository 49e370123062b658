/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest whose pages go beside the control channel, and everything that can keep them from it. */
#include "fake-fabric.h"
#include "harness.h"
#include "mini-guest.h"

#define WAIT_MS 20000u

typedef struct {
	FakeFabric fabric;
	MiniGuest *source;
	MiniGuest *destination;
	char *uri;
	gint fallbacks; /* events */
} Pair;

static void on_event(const FerryEvent *event, gpointer user)
{
	if (event->type == FERRY_EVENT_FALLBACK && *event->reason && *event->transport)
		g_atomic_int_inc(&((Pair *)user)->fallbacks);
}

static void listen_again(Pair *pair, gboolean fabric)
{
	g_autofree char *uri = mini_guest_listen(pair->destination, fabric ? "fake:tcp:127.0.0.1:0"
									   : "tcp:127.0.0.1:0");

	g_free(pair->uri);
	pair->uri = fabric ? g_steal_pointer(&uri) : g_strconcat("fake:", uri, NULL);
}

/* A running guest, half zero, and a destination that listens with the fabric or without. */
static void pair_open(Pair *pair, const FakeFabric *fabric, gboolean there, gboolean write)
{
	g_autoptr(GError) error = NULL;

	*pair = (Pair){ .fabric = *fabric };
	mini_guest_most_running();
	pair->source = mini_guest_new(&(MiniGuestConfig){
		.write = write, .transports = fake_fabric_transports(&pair->fabric) });
	pair->destination = mini_guest_new(&(MiniGuestConfig){
		.write = write,
		.transports = there ? fake_fabric_transports(&pair->fabric) : NULL });
	ferry_vm_add_notifier(pair->source->vm, on_event, pair);
	memset(pair->source->ram, 0x5a, pair->source->size / 2);
	/* What the source sends as zero must become zero. */
	memset(pair->destination->ram, 0xa5, pair->destination->size);
	listen_again(pair, there);
	if (!ferry_vm_start(pair->source->vm, &error))
		g_error("%s", error->message);
}

static void pair_close(Pair *pair)
{
	mini_guest_free(pair->source);
	mini_guest_free(pair->destination);
	g_free(pair->uri);
}

static void set(Pair *pair, FerryCapability capability)
{
	if (!ferry_settings_set_capability(ferry_vm_settings(pair->source->vm), capability, TRUE,
					   NULL))
		g_assert_not_reached();
}

static FerryState migrate(Pair *pair)
{
	g_autoptr(GError) error = NULL;

	if (!ferry_source_migrate(pair->source->source, pair->uri, &error))
		g_error("%s", error->message);
	return ferry_source_wait(pair->source->source);
}

static gboolean source_says(Pair *pair, const char *words)
{
	g_auto(FerryMigrationStatus) status = { 0 };

	ferry_source_get_status(pair->source->source, &status);
	printf("# source: %s\n", status.error_desc);
	return status.error_desc && strstr(status.error_desc, words);
}

static gboolean destination_is_done(gpointer user)
{
	FerryState state = ferry_destination_state(((Pair *)user)->destination->destination);

	return state == FERRY_STATE_FAILED || state == FERRY_STATE_COMPLETED;
}

static gboolean destination_says(Pair *pair, const char *words)
{
	g_auto(FerryMigrationStatus) status = { 0 };

	if (!mini_guest_await(destination_is_done, pair, WAIT_MS))
		return FALSE;
	ferry_destination_get_status(pair->destination->destination, &status);
	printf("# destination: %s\n", status.error_desc);
	return status.error_desc && strstr(status.error_desc, words);
}

static gboolean went_by(Pair *pair, const char *there, const char *here, const char *fallback)
{
	g_auto(FerryMigrationStatus) s = { 0 }, d = { 0 };

	ferry_source_get_status(pair->source->source, &s);
	ferry_destination_get_status(pair->destination->destination, &d);
	printf("# %s, %s: %s\n", s.transport, d.transport, s.fallback ? s.fallback : "no fallback");
	return g_str_equal(s.transport, here) && g_str_equal(d.transport, there) &&
	       (fallback ? s.fallback && strstr(s.fallback, fallback) != NULL : !s.fallback) &&
	       !s.carrier == (fallback != NULL);
}

/* ---- pages beside the channel ---- */

static void check_moves(Pair *pair)
{
	CU_ASSERT(ferry_vm_stop(pair->destination->vm, NULL));
	CU_ASSERT_EQUAL(migrate(pair), FERRY_STATE_COMPLETED);
	CU_ASSERT_EQUAL(ferry_destination_wait(pair->destination->destination),
			FERRY_STATE_COMPLETED);
	CU_ASSERT(mini_guest_same_ram(pair->source, pair->destination));
	CU_ASSERT(mini_guest_most_running() <= 1);
	CU_ASSERT_FALSE(g_atomic_int_get(&pair->source->running));
}

static void guest__moves_by_a_fabric__ram_is_the_same(void)
{
	g_auto(FerryMigrationStatus) status = { 0 };
	guint64 wire;
	Pair pair;

	pair_open(&pair, &(FakeFabric){ 0 }, TRUE, TRUE);
	check_moves(&pair);
	CU_ASSERT(went_by(&pair, "fake", "fake", NULL));
	ferry_source_get_status(pair.source->source, &status);
	wire = status.ram.transferred;
	CU_ASSERT(status.ram.duplicate > 0 && status.ram.normal > 0);
	CU_ASSERT(wire >= status.ram.normal << FERRY_PAGE_SHIFT);
	CU_ASSERT(status.carrier && g_variant_n_children(status.carrier) == 2);
	CU_ASSERT_EQUAL(pair.fallbacks, 0);
	CU_ASSERT_EQUAL(pair.fabric.late, 0);
	CU_ASSERT_EQUAL(pair.fabric.quiesced, 1);
	/* A fence a round, each awaited: nothing is visible without. */
	CU_ASSERT_EQUAL((guint)pair.fabric.fences, status.n_rounds);
	pair_close(&pair);
}

static void guest__verified_over_a_fabric__digest_is_made_whole(void)
{
	g_auto(FerryMigrationStatus) status = { 0 };
	Pair pair;

	pair_open(&pair, &(FakeFabric){ 0 }, TRUE, TRUE);
	set(&pair, FERRY_CAPABILITY_VERIFY_RAM);
	CU_ASSERT_EQUAL(migrate(&pair), FERRY_STATE_COMPLETED);
	ferry_source_get_status(pair.source->source, &status);
	CU_ASSERT_EQUAL(status.verified, FERRY_VERIFIED_YES);
	CU_ASSERT(went_by(&pair, "fake", "fake", NULL));
	pair_close(&pair);
}

static void fabric__slow_to_close__delays_neither_side(void)
{
	Pair pair;

	pair_open(&pair, &(FakeFabric){ .close_ms = 3000 }, TRUE, FALSE);
	CU_ASSERT_EQUAL(migrate(&pair), FERRY_STATE_COMPLETED);
	CU_ASSERT_EQUAL(ferry_destination_wait(pair.destination->destination),
			FERRY_STATE_COMPLETED);
	CU_ASSERT_EQUAL(g_atomic_int_get(&pair.fabric.closed), 0);
	pair_close(&pair);
}

/* ---- not to be had ---- */

static void check_falls_back(const FakeFabric *fabric, gboolean there, const char *why)
{
	Pair pair;

	pair_open(&pair, fabric, there, TRUE);
	check_moves(&pair);
	CU_ASSERT(went_by(&pair, "tcp", "under-fake", why));
	CU_ASSERT_EQUAL(pair.fallbacks, 1);
	CU_ASSERT_EQUAL(pair.fabric.puts, 0);
	pair_close(&pair);
}

static void destination__without_a_fabric__falls_back_and_says_so(void)
{
	check_falls_back(&(FakeFabric){ 0 }, FALSE, "the destination listens without fake");
}

static void destination__refuses__falls_back_and_says_so(void)
{
	check_falls_back(&(FakeFabric){ .refuse = TRUE }, TRUE, "refused there");
}

static void source__has_no_device__falls_back_and_says_so(void)
{
	check_falls_back(&(FakeFabric){ .unable = TRUE }, TRUE, "no device here");
}

static void check_required(const FakeFabric *fabric, gboolean there, const char *why)
{
	Pair pair;

	pair_open(&pair, fabric, there, TRUE);
	set(&pair, FERRY_CAPABILITY_RDMA_REQUIRE);
	CU_ASSERT_EQUAL(migrate(&pair), FERRY_STATE_FAILED);
	CU_ASSERT(source_says(&pair, "rdma-require"));
	CU_ASSERT(source_says(&pair, why));
	CU_ASSERT(g_atomic_int_get(&pair.source->running));
	CU_ASSERT_EQUAL(pair.fallbacks, 0);
	/* One that was refused before the block list may be asked again. */
	if (!there)
		CU_ASSERT_EQUAL(ferry_destination_state(pair.destination->destination),
				FERRY_STATE_SETUP);
	pair_close(&pair);
}

static void fabric__required_and_not_there__fails(void)
{
	check_required(&(FakeFabric){ 0 }, FALSE, "the destination listens without fake");
}

static void fabric__required_and_refused__fails(void)
{
	check_required(&(FakeFabric){ .refuse = TRUE }, TRUE, "refused there");
}

static void fabric__without_return_path__falls_back(void)
{
	Pair pair;

	pair_open(&pair, &(FakeFabric){ 0 }, TRUE, FALSE);
	CU_ASSERT(ferry_settings_set_capability(ferry_vm_settings(pair.source->vm),
						FERRY_CAPABILITY_RETURN_PATH, FALSE, NULL));
	CU_ASSERT_EQUAL(migrate(&pair), FERRY_STATE_COMPLETED);
	CU_ASSERT_EQUAL(ferry_destination_wait(pair.destination->destination),
			FERRY_STATE_COMPLETED);
	CU_ASSERT(went_by(&pair, "tcp", "under-fake", "return-path"));
	pair_close(&pair);
}

/* ---- death ---- */

/* The guest runs on at the source, both sides say @why, and the next try works. */
static void check_dies(const FakeFabric *fabric, const char *here, const char *there)
{
	Pair pair;

	pair_open(&pair, fabric, TRUE, TRUE);
	CU_ASSERT_EQUAL(migrate(&pair), FERRY_STATE_FAILED);
	CU_ASSERT(g_atomic_int_get(&pair.source->running));
	CU_ASSERT(source_says(&pair, here));
	CU_ASSERT(destination_says(&pair, there));
	CU_ASSERT_FALSE(g_atomic_int_get(&pair.destination->running));
	pair.fabric.die_at = pair.fabric.die_there_at = pair.fabric.put_us = 0;
	pair.fabric.die_in_fence = FALSE;
	g_atomic_int_set(&pair.fabric.silent, 0);
	listen_again(&pair, TRUE);
	CU_ASSERT_EQUAL(migrate(&pair), FERRY_STATE_COMPLETED);
	CU_ASSERT_EQUAL(ferry_destination_wait(pair.destination->destination),
			FERRY_STATE_COMPLETED);
	CU_ASSERT(went_by(&pair, "fake", "fake", NULL));
	CU_ASSERT(mini_guest_most_running() == 1);
	pair_close(&pair);
}

static void carrier__dies_before_the_first_page__guest_runs_on_and_next_works(void)
{
	check_dies(&(FakeFabric){ .die_at = 1 }, "the source's queue broke", "");
}

static void carrier__dies_in_mid_round__guest_runs_on_and_next_works(void)
{
	check_dies(&(FakeFabric){ .die_at = 2 }, "the source's queue broke", "");
}

static void carrier__dies_while_nobody_looks__guest_runs_on_and_next_works(void)
{
	check_dies(&(FakeFabric){ .die_in_fence = TRUE }, "the fence broke", "");
}

static void carrier__dies_at_the_destination__both_say_why_and_next_works(void)
{
	check_dies(&(FakeFabric){ .die_there_at = 2, .put_us = 20000 },
		   "the destination's queue broke", "the destination's queue broke");
}

/* Both have a reason: the source's own first, then the destination's words. */
static void carriers__both_die__source_says_both(void)
{
	check_dies(&(FakeFabric){ .die_at = 2, .die_there_at = 1, .put_us = 100000 },
		   "destination's queue broke", "the destination's queue broke");
}

/* ---- cancel ---- */

static gboolean in_setup(gpointer user)
{
	g_auto(FerryMigrationStatus) status = { 0 };

	ferry_source_get_status(((Pair *)user)->source->source, &status);
	return status.state == FERRY_STATE_SETUP && status.transport;
}

static gboolean has_put(gpointer user)
{
	return g_atomic_int_get(&((Pair *)user)->fabric.puts) > 1;
}

/* Cancels, sees that all is as before, and migrates again; how long the cancel took. */
static gint64 cancel_once(const FakeFabric *fabric, gboolean (*where)(gpointer))
{
	gint64 begin, took;
	Pair pair;

	pair_open(&pair, fabric, TRUE, TRUE);
	CU_ASSERT(ferry_source_migrate(pair.source->source, pair.uri, NULL));
	CU_ASSERT(mini_guest_await(where, &pair, WAIT_MS));
	begin = g_get_monotonic_time();
	ferry_source_cancel(pair.source->source);
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_CANCELLED);
	took = g_get_monotonic_time() - begin;
	printf("# cancelled in %" G_GINT64_FORMAT " us\n", took);
	CU_ASSERT(g_atomic_int_get(&pair.source->running));
	CU_ASSERT(mini_guest_await(destination_is_done, &pair, WAIT_MS));
	pair.fabric.hang = FALSE;
	pair.fabric.put_us = 0;
	listen_again(&pair, TRUE);
	CU_ASSERT_EQUAL(migrate(&pair), FERRY_STATE_COMPLETED);
	pair_close(&pair);
	return took;
}

/* One of three tries has to be quick: the others may meet a busy machine. */
static void check_cancel(const FakeFabric *fabric, gboolean (*where)(gpointer))
{
	gint64 took = G_MAXINT64;

	for (guint i = 0; i < 3 && took >= 100 * G_TIME_SPAN_MILLISECOND; i++)
		took = cancel_once(fabric, where);
	CU_ASSERT(took < 100 * G_TIME_SPAN_MILLISECOND);
}

static void migration__cancelled_while_it_connects__guest_runs_on_and_next_works(void)
{
	check_cancel(&(FakeFabric){ .hang = TRUE, .close_ms = 200 }, in_setup);
}

static void migration__cancelled_in_transfer__guest_runs_on_and_next_works(void)
{
	check_cancel(&(FakeFabric){ .put_us = 20000, .close_ms = 200 }, has_put);
}

static gpointer cut_later(gpointer user)
{
	g_usleep(50000);
	g_atomic_int_set(&((FakeFabric *)user)->silent, 1);
	return NULL;
}

/* ---- silence ---- */

/* One-sided writes would go on for ever: put_us makes the round last. */
static void link__falls_silent__both_sides_notice_within_2_s(void)
{
	FakeFabric fabric = { .put_us = 400000 };
	GThread *thread;
	gint64 begin;
	Pair pair;

	pair_open(&pair, &fabric, TRUE, FALSE);
	CU_ASSERT(ferry_source_migrate(pair.source->source, pair.uri, NULL));
	CU_ASSERT(mini_guest_await(has_put, &pair, WAIT_MS));
	thread = g_thread_new("cut", cut_later, &pair.fabric);
	begin = g_get_monotonic_time();
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_FAILED);
	printf("# source: after %" G_GINT64_FORMAT " us\n", g_get_monotonic_time() - begin);
	CU_ASSERT(mini_guest_await(destination_is_done, &pair, WAIT_MS));
	printf("# destination: after %" G_GINT64_FORMAT " us\n", g_get_monotonic_time() - begin);
	CU_ASSERT(g_get_monotonic_time() - begin < 2500 * G_TIME_SPAN_MILLISECOND);
	CU_ASSERT(source_says(&pair, "no sign of life from the destination"));
	CU_ASSERT(g_atomic_int_get(&pair.source->running));
	g_thread_join(thread);
	pair_close(&pair);
}

/* A loader that is busy reads nothing, and its heartbeat goes on. */
static void destination__busy_for_long__nobody_gives_up(void)
{
	Pair pair;

	pair_open(&pair, &(FakeFabric){ .busy_ms = 2500 }, TRUE, FALSE);
	CU_ASSERT_EQUAL(migrate(&pair), FERRY_STATE_COMPLETED);
	CU_ASSERT(went_by(&pair, "fake", "fake", NULL));
	pair_close(&pair);
}

static CU_TestInfo cases[] = {
	CASE(guest__moves_by_a_fabric__ram_is_the_same),
	CASE(guest__verified_over_a_fabric__digest_is_made_whole),
	CASE(fabric__slow_to_close__delays_neither_side),
	CASE(destination__without_a_fabric__falls_back_and_says_so),
	CASE(destination__refuses__falls_back_and_says_so),
	CASE(source__has_no_device__falls_back_and_says_so),
	CASE(fabric__required_and_not_there__fails),
	CASE(fabric__required_and_refused__fails),
	CASE(fabric__without_return_path__falls_back),
	CASE(carrier__dies_before_the_first_page__guest_runs_on_and_next_works),
	CASE(carrier__dies_in_mid_round__guest_runs_on_and_next_works),
	CASE(carrier__dies_while_nobody_looks__guest_runs_on_and_next_works),
	CASE(carrier__dies_at_the_destination__both_say_why_and_next_works),
	CASE(carriers__both_die__source_says_both),
	CASE(migration__cancelled_while_it_connects__guest_runs_on_and_next_works),
	CASE(migration__cancelled_in_transfer__guest_runs_on_and_next_works),
	CASE(link__falls_silent__both_sides_notice_within_2_s),
	CASE(destination__busy_for_long__nobody_gives_up),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "pages beside the channel", cases);
}
