/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest is switched over before its pages, in one process: over every channel, at every moment,
 * and what must not be switched. */
#include "harness.h"
#include "mini-guest.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SETTLE_MS 30000u

typedef struct {
	MiniGuest *source;
	MiniGuest *destination;
	guint64 wanted; /* for the predicates */
} Pair;

/* How a guest moves. */
typedef struct {
	MiniGuestConfig guest; /* on both sides */
	const char *listen;    /* NULL for a socket pair */
	guint64 rounds;        /* it is switched over after as many; 0: at once */
	gint64 after_ms;       /* or, in the first round, after so long */
	guint64 max_bandwidth;
	guint64 max_postcopy_bandwidth;
	gboolean paused; /* arrives paused */
} Move;

static Pair pair_new(const MiniGuestConfig *config)
{
	mini_guest_most_running();
	return (Pair){ mini_guest_new(config), mini_guest_new(config), 0 };
}

static void pair_free(Pair *pair)
{
	mini_guest_free(pair->source);
	mini_guest_free(pair->destination);
}

static void set(MiniGuest *guest, FerryCapability capability, gboolean on)
{
	if (!ferry_settings_set_capability(ferry_vm_settings(guest->vm), capability, on, NULL))
		g_assert_not_reached();
}

static void set_number(MiniGuest *guest, FerryParameter parameter, guint64 value)
{
	if (!ferry_settings_set_parameter(ferry_vm_settings(guest->vm), parameter, value, NULL))
		g_assert_not_reached();
}

static void start(MiniGuest *guest)
{
	g_autoptr(GError) error = NULL;

	if (!ferry_vm_start(guest->vm, &error))
		g_error("%s", error->message);
}

static gboolean has_begun_round(gpointer user)
{
	Pair *pair = user;
	g_auto(FerryMigrationStatus) status = { 0 };

	ferry_source_get_status(pair->source->source, &status);
	return status.n_rounds > pair->wanted;
}

static gboolean has_written(gpointer user)
{
	Pair *pair = user;

	return *(volatile guint64 *)&pair->source->state.counter > pair->wanted;
}

/* Prints what a status says of postcopy; whether that is what a good one says. */
static gboolean numbers_are_good(Pair *pair)
{
	g_auto(FerryMigrationStatus) here = { 0 }, there = { 0 };

	ferry_source_get_status(pair->source->source, &here);
	ferry_destination_get_status(pair->destination->destination, &there);
	printf("# %s: downtime %" G_GINT64_FORMAT " ms; missing at the switch %" G_GUINT64_FORMAT
	       ", urgent %" G_GUINT64_FORMAT ", background %" G_GUINT64_FORMAT
	       "; there: faults %" G_GUINT64_FORMAT ", repeated %" G_GUINT64_FORMAT
	       ", latency us p50 %" G_GUINT64_FORMAT " p99 %" G_GUINT64_FORMAT
	       " max %" G_GUINT64_FORMAT "\n",
	       here.postcopy.mode, here.downtime_ms, here.postcopy.discarded,
	       here.postcopy.urgent_pages, here.postcopy.background_pages, there.postcopy.requests,
	       there.postcopy.repeated_pages, there.postcopy.latency.p50, there.postcopy.latency.p99,
	       there.postcopy.latency.max);
	return here.postcopy.switched && there.postcopy.switched && here.postcopy.missing == 0 &&
	       there.postcopy.missing == 0 && there.postcopy.repeated_pages == 0 &&
	       here.postcopy.urgent_pages + here.postcopy.background_pages ==
		       here.postcopy.discarded &&
	       there.postcopy.discarded == here.postcopy.discarded;
}

static gboolean completes(Pair *pair)
{
	FerryState here = ferry_source_wait(pair->source->source), there;
	g_auto(FerryMigrationStatus) status = { 0 };

	ferry_source_get_status(pair->source->source, &status);
	if (here != FERRY_STATE_COMPLETED)
		printf("# source %s: %s\n", ferry_state_name(here), status.error_desc);
	there = ferry_destination_wait(pair->destination->destination);
	ferry_migration_status_clear(&status);
	ferry_destination_get_status(pair->destination->destination, &status);
	if (there != FERRY_STATE_COMPLETED)
		printf("# destination %s: %s\n", ferry_state_name(there), status.error_desc);
	return here == FERRY_STATE_COMPLETED && there == FERRY_STATE_COMPLETED;
}

/* Listens, and connects: TRUE when the migration began. */
static gboolean begin(Pair *pair, const char *listen)
{
	g_autofree char *uri = NULL, *here = NULL;
	g_autoptr(GError) error = NULL;
	int fds[2];

	if (!listen) {
		g_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
		here = g_strdup_printf("fd:%d", fds[0]);
	}
	uri = mini_guest_listen(pair->destination, listen ? listen : here);
	if (!listen) {
		g_free(uri);
		uri = g_strdup_printf("fd:%d", fds[1]);
	}
	if (ferry_source_migrate(pair->source->source, uri, &error))
		return TRUE;
	printf("# %s\n", error->message);
	return FALSE;
}

static void check_move(const Move *move)
{
	Pair pair = pair_new(&move->guest);

	start(pair.source);
	set(pair.source, FERRY_CAPABILITY_POSTCOPY_RAM, TRUE);
	set_number(pair.source, FERRY_PARAMETER_MAX_BANDWIDTH, move->max_bandwidth);
	set_number(pair.source, FERRY_PARAMETER_MAX_POSTCOPY_BANDWIDTH,
		   move->max_postcopy_bandwidth);
	pair.wanted = 20000;
	if (move->guest.write)
		CU_ASSERT(mini_guest_await(has_written, &pair, SETTLE_MS));
	CU_ASSERT(begin(&pair, move->listen));
	if (move->paused)
		CU_ASSERT(ferry_vm_stop(pair.destination->vm, NULL));
	pair.wanted = move->rounds;
	if (move->rounds || move->after_ms)
		CU_ASSERT(mini_guest_await(has_begun_round, &pair, SETTLE_MS));
	g_usleep(move->after_ms * 1000);
	CU_ASSERT(ferry_source_start_postcopy(pair.source->source, NULL));
	CU_ASSERT(completes(&pair));
	CU_ASSERT(numbers_are_good(&pair));
	CU_ASSERT_EQUAL(g_atomic_int_get(&pair.destination->running), !move->paused);
	CU_ASSERT_FALSE(g_atomic_int_get(&pair.source->running));
	CU_ASSERT(mini_guest_most_running() == 1);
	if (move->paused)
		CU_ASSERT(mini_guest_same_ram(pair.source, pair.destination));
	CU_ASSERT(ferry_vm_stop(pair.destination->vm, NULL));
	CU_ASSERT(!move->guest.write || mini_guest_is_right(pair.destination));
	pair_free(&pair);
}

static char *socket_uri(char **dir)
{
	*dir = g_dir_make_tmp("ferry-flow-XXXXXX", NULL);
	return g_strdup_printf("unix:%s/socket", *dir);
}

static void check_unix(Move move)
{
	g_autofree char *dir = NULL;
	g_autofree char *uri = socket_uri(&dir);

	move.listen = uri;
	check_move(&move);
	g_rmdir(dir);
}

/* ---- when, and over what ---- */

static void guest__switched_at_once_by_unix__arrives_whole(void)
{
	check_unix((Move){ .guest = { .write = TRUE } });
}

static void guest__switched_at_once_by_tcp__arrives_whole(void)
{
	check_move(&(Move){ .guest = { .write = TRUE }, .listen = "tcp:127.0.0.1:0" });
}

static void guest__switched_at_once_by_fd__arrives_whole(void)
{
	check_move(&(Move){ .guest = { .write = TRUE } });
}

static void guest__idle__arrives_whole(void)
{
	check_unix((Move){ .paused = TRUE });
}

static void guest__arrives_paused__ram_is_the_same(void)
{
	check_unix((Move){ .guest = { .write = TRUE }, .paused = TRUE });
}

static void guest__switched_in_mid_round__arrives_whole(void)
{
	check_unix((Move){
		.guest = { .write = TRUE }, .max_bandwidth = 20u << 20, .after_ms = 300 });
}

static void guest__switched_in_mid_round_by_tcp__arrives_whole(void)
{
	check_move(&(Move){ .guest = { .write = TRUE },
			    .listen = "tcp:127.0.0.1:0",
			    .max_bandwidth = 20u << 20,
			    .after_ms = 300 });
}

/* It writes far more than the limit lets through: precopy alone would never end. */
static void guest__writes_faster_than_the_link__completes_after_rounds(void)
{
	check_unix((Move){ .guest = { .write = TRUE }, .max_bandwidth = 40u << 20, .rounds = 3 });
}

static void guest__in_private_memory__arrives_whole(void)
{
	check_unix((Move){ .guest = { .write = TRUE, .anonymous = TRUE } });
	check_unix((Move){ .guest = { .write = TRUE, .anonymous = TRUE },
			   .max_bandwidth = 40u << 20,
			   .rounds = 2 });
}

static CU_TestInfo cases[] = {
	CASE(guest__switched_at_once_by_unix__arrives_whole),
	CASE(guest__switched_at_once_by_tcp__arrives_whole),
	CASE(guest__switched_at_once_by_fd__arrives_whole),
	CASE(guest__idle__arrives_whole),
	CASE(guest__arrives_paused__ram_is_the_same),
	CASE(guest__switched_in_mid_round__arrives_whole),
	CASE(guest__switched_in_mid_round_by_tcp__arrives_whole),
	CASE(guest__writes_faster_than_the_link__completes_after_rounds),
	CASE(guest__in_private_memory__arrives_whole),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "a guest is switched over first", cases);
}
