/* SPDX-License-Identifier: BSD-2-Clause */
/* A postcopy that pauses, and what becomes of it beside being recovered: in one process. */
#include "cutter.h"
#include "harness.h"
#include "mini-guest.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>

#define SETTLE_MS 20000u
#define RAM_SIZE (16u << 20)
#define TRICKLE (256u << 10)
/* A guest that fetches page by page has all of them after more than two seconds then. */
#define SLOW_GUEST_PERCENT 95

typedef struct {
	MiniGuest *source;
	MiniGuest *destination;
	Cutter cutter;
	char *dir;
	char *uri;          /* for the source */
	FerryState awaited; /* for the predicates */
	guint64 counted;
} Pair;

static guint64 stores(const MiniGuest *guest)
{
	return __atomic_load_n(&guest->state.counter, __ATOMIC_RELAXED);
}

static gboolean has_filled_ram(gpointer user)
{
	return stores(user) > 4 * (RAM_SIZE >> FERRY_PAGE_SHIFT);
}

/* Neither precopy nor the guest there must have all pages before a test cuts the link, however
 * late that comes: nearly no page is zero, and nobody gets them fast. */
static void delay_the_end(Pair *pair)
{
	FerrySettings *settings = ferry_vm_settings(pair->source->vm);
	g_autoptr(GError) error = NULL;

	if (!ferry_settings_set_parameter(settings, FERRY_PARAMETER_DOWNTIME_LIMIT, 0, &error) ||
	    !ferry_settings_set_parameter(settings, FERRY_PARAMETER_MAX_BANDWIDTH, TRICKLE,
					  &error) ||
	    !ferry_settings_set_parameter(settings, FERRY_PARAMETER_MAX_POSTCOPY_BANDWIDTH, TRICKLE,
					  &error))
		g_error("%s", error->message);
	g_atomic_int_set(&pair->destination->throttled, SLOW_GUEST_PERCENT);
	CU_ASSERT(mini_guest_await(has_filled_ram, pair->source, SETTLE_MS));
}

/* @listen: NULL for a socket in the pair's directory. */
static void pair_open_on(Pair *pair, const char *listen)
{
	g_autofree char *listening = NULL, *there = NULL;
	g_autoptr(GError) error = NULL;
	FerrySettings *settings;

	*pair = (Pair){ .dir = g_dir_make_tmp("ferry-flow-XXXXXX", NULL) };
	mini_guest_most_running();
	pair->source = mini_guest_new(
		&(MiniGuestConfig){ .ram_size = RAM_SIZE,
				    .write = TRUE,
				    .transports = cutter_transports(&pair->cutter) });
	pair->destination = mini_guest_new(
		&(MiniGuestConfig){ .ram_size = RAM_SIZE, .write = TRUE });
	listening = g_strdup_printf("unix:%s/socket", pair->dir);
	there = mini_guest_listen(pair->destination, listen ? listen : listening);
	pair->uri = g_strconcat("cut:", there, NULL);
	settings = ferry_vm_settings(pair->source->vm);
	if (!ferry_settings_set_capability(settings, FERRY_CAPABILITY_POSTCOPY_RAM, TRUE, &error) ||
	    !ferry_vm_start(pair->source->vm, &error))
		g_error("%s", error->message);
	delay_the_end(pair);
}

static void pair_open(Pair *pair)
{
	pair_open_on(pair, NULL);
}

static void pair_close(Pair *pair)
{
	mini_guest_free(pair->source);
	mini_guest_free(pair->destination);
	g_rmdir(pair->dir);
	g_free(pair->dir);
	g_free(pair->uri);
}

static gboolean source_is(gpointer user)
{
	Pair *pair = user;

	return ferry_source_state(pair->source->source) == pair->awaited;
}

static gboolean destination_is(gpointer user)
{
	Pair *pair = user;

	return ferry_destination_state(pair->destination->destination) == pair->awaited;
}

static gboolean await_source(Pair *pair, FerryState state)
{
	pair->awaited = state;
	return mini_guest_await(source_is, pair, SETTLE_MS);
}

static gboolean await_destination(Pair *pair, FerryState state)
{
	pair->awaited = state;
	return mini_guest_await(destination_is, pair, SETTLE_MS);
}

static gboolean await_both(Pair *pair, FerryState state)
{
	return await_source(pair, state) && await_destination(pair, state);
}

static void hurry(Pair *pair)
{
	CU_ASSERT(ferry_settings_set_parameter(ferry_vm_settings(pair->source->vm),
					       FERRY_PARAMETER_MAX_POSTCOPY_BANDWIDTH, 0, NULL));
}

static void migrate(Pair *pair)
{
	CU_ASSERT(ferry_source_migrate(pair->source->source, pair->uri, NULL));
	CU_ASSERT(ferry_source_start_postcopy(pair->source->source, NULL));
}

static gboolean is_switched(Pair *pair)
{
	migrate(pair);
	return await_both(pair, FERRY_STATE_POSTCOPY_ACTIVE);
}

static gboolean is_paused(Pair *pair)
{
	return is_switched(pair) && ferry_source_pause(pair->source->source, NULL) &&
	       await_both(pair, FERRY_STATE_POSTCOPY_PAUSED);
}

static gboolean source_says(Pair *pair, const char *words)
{
	g_auto(FerryMigrationStatus) status = { 0 };
	gboolean says;

	ferry_source_get_status(pair->source->source, &status);
	says = status.error_desc && strstr(status.error_desc, words);
	if (!says)
		printf("# the source says: %s\n", status.error_desc);
	return says;
}

static gboolean arrives(Pair *pair)
{
	hurry(pair);
	return ferry_source_recover(pair->source->source, pair->uri, NULL) &&
	       await_both(pair, FERRY_STATE_COMPLETED) && mini_guest_most_running() == 1 &&
	       ferry_vm_stop(pair->destination->vm, NULL) && mini_guest_is_right(pair->destination);
}

/* ---- freed ---- */

static void source__freed_in_postcopy__does_not_run_the_guest(void)
{
	Pair pair;

	pair_open(&pair);
	CU_ASSERT(is_switched(&pair));
	mini_guest_free(pair.source);
	pair.source = NULL;
	CU_ASSERT(await_destination(&pair, FERRY_STATE_POSTCOPY_PAUSED));
	CU_ASSERT_EQUAL(mini_guest_most_running(), 1);
	pair.source = mini_guest_new(&(MiniGuestConfig){ .ram_size = RAM_SIZE });
	pair_close(&pair);
}

static void sides__freed_while_paused__end(void)
{
	Pair pair;

	pair_open(&pair);
	CU_ASSERT(is_paused(&pair));
	pair_close(&pair);
	CU_ASSERT_EQUAL(mini_guest_most_running(), 1);
}

/* Its destination does not answer: it would wait for ten seconds. */
static void source__freed_in_recovery__ends_at_once(void)
{
	g_autofree char *path = NULL, *deaf = NULL;
	FerryListener *listener;
	gint64 begin;
	Pair pair;

	pair_open(&pair);
	CU_ASSERT(is_paused(&pair));
	path = g_strdup_printf("unix:%s/deaf", pair.dir);
	deaf = g_strconcat("cut:", path, NULL);
	listener = ferry_transport_find(ferry_transports(), path, NULL)->listen(path, NULL, NULL);
	CU_ASSERT(ferry_source_recover(pair.source->source, deaf, NULL));
	CU_ASSERT(await_source(&pair, FERRY_STATE_POSTCOPY_RECOVER));
	begin = g_get_monotonic_time();
	mini_guest_free(pair.source);
	CU_ASSERT(g_get_monotonic_time() - begin < 2 * G_TIME_SPAN_SECOND);
	ferry_listener_close(listener);
	pair.source = mini_guest_new(&(MiniGuestConfig){ .ram_size = RAM_SIZE });
	pair_close(&pair);
}

/* ---- what else may be asked of it ---- */

static void source__paused__takes_nothing_but_recovery(void)
{
	g_autoptr(GError) error = NULL;
	Pair pair;

	pair_open(&pair);
	CU_ASSERT_FALSE(ferry_source_recover(pair.source->source, pair.uri, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_STATE));
	CU_ASSERT_FALSE(ferry_source_pause(pair.source->source, NULL));
	CU_ASSERT_FALSE(ferry_destination_pause(pair.destination->destination, NULL));
	CU_ASSERT_FALSE(ferry_destination_recover(pair.destination->destination, "unix:x", NULL));
	CU_ASSERT(is_paused(&pair));
	CU_ASSERT_FALSE(ferry_source_migrate(pair.source->source, pair.uri, NULL));
	CU_ASSERT_FALSE(ferry_source_resolve(pair.source->source, FERRY_RESOLVE_RUN_HERE, NULL));
	CU_ASSERT_FALSE(ferry_destination_resolve(pair.destination->destination,
						  FERRY_RESOLVE_DISCARD, NULL));
	CU_ASSERT_FALSE(ferry_vm_start(pair.source->vm, NULL));
	ferry_source_cancel(pair.source->source);
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_POSTCOPY_PAUSED);
	CU_ASSERT_EQUAL(ferry_destination_wait(pair.destination->destination),
			FERRY_STATE_POSTCOPY_PAUSED);
	CU_ASSERT(arrives(&pair));
	pair_close(&pair);
}

static void destination__cannot_listen_elsewhere__can_be_told_again(void)
{
	g_autofree char *there = NULL;
	Pair pair;

	pair_open(&pair);
	CU_ASSERT(is_paused(&pair));
	CU_ASSERT_FALSE(ferry_destination_recover(pair.destination->destination,
						  "unix:/nowhere/at/all", NULL));
	CU_ASSERT_EQUAL(ferry_destination_state(pair.destination->destination),
			FERRY_STATE_POSTCOPY_PAUSED);
	there = g_strdup(pair.uri + strlen("cut:"));
	CU_ASSERT(ferry_destination_recover(pair.destination->destination, there, NULL));
	CU_ASSERT(arrives(&pair));
	pair_close(&pair);
}

static gboolean arrives_by(Pair *pair, const char *there)
{
	g_free(pair->uri);
	pair->uri = g_strconcat("cut:", there, NULL);
	return ferry_destination_recover(pair->destination->destination, there, NULL) &&
	       arrives(pair);
}

static gboolean guest_goes_on(gpointer user)
{
	Pair *pair = user;

	return stores(pair->destination) > pair->counted;
}

/* Not a byte goes by itself: it gets on by asking alone, and has to ask anew for what it asked on
 * the connection before. */
static void guest__waits_for_a_page_at_the_cut__gets_it_when_recovered(void)
{
	Pair pair;

	pair_open(&pair);
	CU_ASSERT(ferry_settings_set_parameter(ferry_vm_settings(pair.source->vm),
					       FERRY_PARAMETER_MAX_POSTCOPY_BANDWIDTH, 1, NULL));
	CU_ASSERT(is_switched(&pair));
	for (guint i = 0; i < 5; i++) {
		CU_ASSERT(ferry_source_pause(pair.source->source, NULL));
		CU_ASSERT(await_both(&pair, FERRY_STATE_POSTCOPY_PAUSED));
		/* By now it waits, or has everything that it wants. */
		g_usleep(50 * G_TIME_SPAN_MILLISECOND);
		pair.counted = stores(pair.destination);
		CU_ASSERT(ferry_source_recover(pair.source->source, pair.uri, NULL));
		CU_ASSERT(mini_guest_await(guest_goes_on, &pair, SETTLE_MS));
		if (!await_both(&pair, FERRY_STATE_POSTCOPY_ACTIVE))
			break;
	}
	CU_ASSERT(ferry_source_pause(pair.source->source, NULL));
	CU_ASSERT(await_both(&pair, FERRY_STATE_POSTCOPY_PAUSED));
	CU_ASSERT(arrives(&pair));
	pair_close(&pair);
}

/* A descriptor is one connection, and cannot be listened on again. */
static void link__by_descriptor__recovered_by_another_way(void)
{
	g_autofree char *here = NULL, *there = NULL;
	int fds[2];
	Pair pair;

	CU_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	here = g_strdup_printf("fd:%d", fds[0]);
	pair_open_on(&pair, here);
	there = g_strdup_printf("unix:%s/socket", pair.dir);
	g_free(pair.uri);
	pair.uri = g_strdup_printf("cut:fd:%d", fds[1]);
	CU_ASSERT(is_paused(&pair));
	CU_ASSERT(arrives_by(&pair, there));
	pair_close(&pair);
}

/* ---- the commit ---- */

/* The guest is nobody's while it cannot be started, and the source's word starts it later. */
static void vcpus__do_not_start__recovery_tries_again(void)
{
	Pair pair;

	pair_open(&pair);
	g_atomic_int_set(&pair.destination->refuse_resume, 1);
	migrate(&pair);
	CU_ASSERT(await_source(&pair, FERRY_STATE_POSTCOPY_PAUSED));
	CU_ASSERT(await_destination(&pair, FERRY_STATE_HANDOVER_LOST));
	CU_ASSERT(ferry_source_recover(pair.source->source, pair.uri, NULL));
	CU_ASSERT(await_source(&pair, FERRY_STATE_POSTCOPY_PAUSED));
	CU_ASSERT(await_destination(&pair, FERRY_STATE_HANDOVER_LOST));
	CU_ASSERT_EQUAL(mini_guest_most_running(), 1);
	g_atomic_int_set(&pair.destination->refuse_resume, 0);
	CU_ASSERT(arrives(&pair));
	pair_close(&pair);
}

static void destination__not_started_yet__recovered_elsewhere(void)
{
	g_autofree char *there = NULL;
	Pair pair;

	pair_open(&pair);
	there = g_strdup_printf("unix:%s/elsewhere", pair.dir);
	g_atomic_int_set(&pair.destination->refuse_resume, 1);
	migrate(&pair);
	CU_ASSERT(await_source(&pair, FERRY_STATE_POSTCOPY_PAUSED));
	CU_ASSERT(await_destination(&pair, FERRY_STATE_HANDOVER_LOST));
	g_atomic_int_set(&pair.destination->refuse_resume, 0);
	CU_ASSERT(arrives_by(&pair, there));
	pair_close(&pair);
}

static void destination__discards_before_it_runs__source_hears_of_it(void)
{
	Pair pair;

	pair_open(&pair);
	g_atomic_int_set(&pair.destination->refuse_resume, 1);
	migrate(&pair);
	CU_ASSERT(await_source(&pair, FERRY_STATE_POSTCOPY_PAUSED));
	CU_ASSERT(await_destination(&pair, FERRY_STATE_HANDOVER_LOST));
	CU_ASSERT_FALSE(ferry_destination_resolve(pair.destination->destination,
						  FERRY_RESOLVE_RUN_HERE, NULL));
	CU_ASSERT(ferry_destination_resolve(pair.destination->destination, FERRY_RESOLVE_DISCARD,
					    NULL));
	CU_ASSERT(await_destination(&pair, FERRY_STATE_FAILED));
	CU_ASSERT(ferry_source_recover(pair.source->source, pair.uri, NULL));
	CU_ASSERT(await_source(&pair, FERRY_STATE_POSTCOPY_PAUSED));
	CU_ASSERT(source_says(&pair, "nothing is known here: the state is failed"));
	CU_ASSERT_FALSE(g_atomic_int_get(&pair.source->running));
	CU_ASSERT_FALSE(g_atomic_int_get(&pair.destination->running));
	pair_close(&pair);
}

static CU_TestInfo cases[] = {
	CASE(source__freed_in_postcopy__does_not_run_the_guest),
	CASE(sides__freed_while_paused__end),
	CASE(source__freed_in_recovery__ends_at_once),
	CASE(source__paused__takes_nothing_but_recovery),
	CASE(destination__cannot_listen_elsewhere__can_be_told_again),
	CASE(guest__waits_for_a_page_at_the_cut__gets_it_when_recovered),
	CASE(link__by_descriptor__recovered_by_another_way),
	CASE(vcpus__do_not_start__recovery_tries_again),
	CASE(destination__not_started_yet__recovered_elsewhere),
	CASE(destination__discards_before_it_runs__source_hears_of_it),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "a postcopy that pauses", cases);
}
