/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest is switched over before its pages, in one process: over every channel, at every moment,
 * and what must not be switched. */
#include "fake-fabric.h"
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

/* Slow enough that precopy is not over before the switch is asked for. */
static MiniGuest *new_guest(const MiniGuestConfig *config)
{
	MiniGuest *guest = mini_guest_new(config);

	set_number(guest, FERRY_PARAMETER_MAX_BANDWIDTH, 64u << 20);
	return guest;
}

static Pair pair_new(const MiniGuestConfig *config)
{
	mini_guest_most_running();
	return (Pair){ new_guest(config), new_guest(config), 0 };
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
	gboolean is_pulled;

	ferry_source_get_status(pair->source->source, &here);
	ferry_destination_get_status(pair->destination->destination, &there);
	printf("# %s: downtime %" G_GINT64_FORMAT " ms; missing at the switch %" G_GUINT64_FORMAT
	       ", urgent %" G_GUINT64_FORMAT ", background %" G_GUINT64_FORMAT
	       "; there: faults %" G_GUINT64_FORMAT ", repeated %" G_GUINT64_FORMAT
	       ", latency us p50 %" G_GUINT64_FORMAT " p99 %" G_GUINT64_FORMAT
	       " max %" G_GUINT64_FORMAT "\n",
	       here.postcopy.mode, here.downtime_ms, here.postcopy.discarded,
	       here.postcopy.urgent_pages, here.postcopy.background_pages, there.postcopy.requests,
	       there.postcopy.repeated_pages, there.postcopy.latency.p50,
	       there.postcopy.latency.p99, there.postcopy.latency.max);
	is_pulled = g_strcmp0(here.postcopy.mode, "pull") == 0;
	return here.postcopy.switched && there.postcopy.switched && here.postcopy.missing == 0 &&
	       there.postcopy.missing == 0 && there.postcopy.repeated_pages == 0 &&
	       there.postcopy.urgent_pages + there.postcopy.background_pages ==
		       here.postcopy.discarded &&
	       (is_pulled || here.postcopy.urgent_pages + here.postcopy.background_pages ==
				     here.postcopy.discarded) &&
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
	if (move->max_bandwidth)
		set_number(pair.source, FERRY_PARAMETER_MAX_BANDWIDTH, move->max_bandwidth);
	/* Precopy must not converge before, however fast its last round would go. */
	if (move->rounds || move->after_ms)
		set_number(pair.source, FERRY_PARAMETER_DOWNTIME_LIMIT, 0);
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
	check_unix(
		(Move){ .guest = { .write = TRUE }, .max_bandwidth = 20u << 20, .after_ms = 300 });
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

/* To and fro between the same two, each time switched over first. */
static void guest__there_and_back__arrives_whole(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ .write = TRUE });
	guint done = 0;

	start(pair.source);
	for (guint i = 0; i < 4; i++) {
		MiniGuest *next = pair.source;

		set(pair.source, FERRY_CAPABILITY_POSTCOPY_RAM, TRUE);
		pair.wanted = pair.source->state.counter + 2000;
		CU_ASSERT(mini_guest_await(has_written, &pair, SETTLE_MS));
		CU_ASSERT(begin(&pair, "tcp:127.0.0.1:0"));
		CU_ASSERT(ferry_source_start_postcopy(pair.source->source, NULL));
		done += completes(&pair);
		pair.source = pair.destination;
		pair.destination = next;
	}
	CU_ASSERT_EQUAL(done, 4);
	CU_ASSERT(ferry_vm_stop(pair.source->vm, NULL));
	CU_ASSERT(mini_guest_is_right(pair.source));
	CU_ASSERT(mini_guest_most_running() == 1);
	pair_free(&pair);
}

/* ---- beside the stream ---- */

static void check_beside(FakeFabric *fabric, Move move)
{
	g_autofree char *dir = g_dir_make_tmp("ferry-flow-XXXXXX", NULL);
	g_autofree char *uri = g_strdup_printf("fake:unix:%s/socket", dir);

	move.guest.transports = fake_fabric_transports(fabric);
	move.guest.write = TRUE;
	move.listen = uri;
	check_move(&move);
	CU_ASSERT_EQUAL(g_atomic_int_get(&fabric->unwanted), 0);
	CU_ASSERT(g_atomic_int_get(&fabric->urgent) > 0);
	CU_ASSERT_EQUAL(g_atomic_int_get(&fabric->closed), 2);
	fake_fabric_transports(NULL);
	g_rmdir(dir);
}

static void pages__pushed_beside_the_stream__arrive_once(void)
{
	FakeFabric fabric = { .put_us = 100 };

	check_beside(&fabric, (Move){ 0 });
}

static void pages__pulled__arrive_once(void)
{
	FakeFabric fabric = { .pulls = TRUE };

	check_beside(&fabric, (Move){ .max_bandwidth = 40u << 20, .rounds = 1 });
	CU_ASSERT_EQUAL(g_atomic_int_get(&fabric.late), 0);
}

/* Nothing that found no room is lost. */
static void lane__full_now_and_then__every_page_arrives_once(void)
{
	FakeFabric push = { .put_us = 100, .full_every = 2 },
		   pull = { .pulls = TRUE, .full_every = 3 };

	check_beside(&push, (Move){ 0 });
	check_beside(&pull, (Move){ 0 });
}

/* ---- refused, before anything happened ---- */

/* The migration fails with the words in its reason, and the guest runs on. */
static void check_refused(Pair *pair, const char *uri, const char *words)
{
	g_auto(FerryMigrationStatus) status = { 0 };

	set(pair->source, FERRY_CAPABILITY_POSTCOPY_RAM, TRUE);
	start(pair->source);
	CU_ASSERT(ferry_source_migrate(pair->source->source, uri, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(pair->source->source), FERRY_STATE_FAILED);
	ferry_source_get_status(pair->source->source, &status);
	printf("# %s\n", status.error_desc);
	CU_ASSERT(status.error_desc && strstr(status.error_desc, words));
	CU_ASSERT_EQUAL(status.n_rounds, 0);
	CU_ASSERT(g_atomic_int_get(&pair->source->running));
}

static void channel__without_a_way_back__refused(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ 0 });

	check_refused(&pair, "file:/dev/null", "return-path");
	pair_free(&pair);
}

/* A destination of another kind at the other end of a socket. */
typedef struct {
	int fd;
	gboolean ferry;
} Stranger;

static void answer_hello(int fd)
{
	guint8 hello[5 + 8 + 32];
	g_autoptr(GByteArray) answer = g_byte_array_new();

	g_assert(recv(fd, hello, sizeof(hello), MSG_WAITALL) == sizeof(hello));
	/* No feature at all. */
	ferry_store_be64(hello + 5 + 8 + 4, 0);
	ferry_put_be16(answer, FERRY_RETURN_FERRY);
	ferry_put_be16(answer, 8 + 32);
	g_byte_array_append(answer, hello + 5, 8 + 32);
	g_assert(write(fd, answer->data, answer->len) == answer->len);
}

static gpointer be_stranger(gpointer data)
{
	const Stranger *stranger = data;
	g_autoptr(GByteArray) answer = g_byte_array_new();
	guint32 last = 0;
	guint8 byte;

	while (last != FERRY_PING_HELLO && read(stranger->fd, &byte, 1) == 1)
		last = last << 8 | byte;
	ferry_put_be16(answer, FERRY_RETURN_PONG);
	ferry_put_be16(answer, 4);
	ferry_put_be32(answer, stranger->ferry ? ~FERRY_PING_HELLO : FERRY_PING_HELLO);
	g_assert(write(stranger->fd, answer->data, answer->len) == answer->len);
	if (stranger->ferry)
		answer_hello(stranger->fd);
	while (read(stranger->fd, &byte, 1) == 1)
		;
	close(stranger->fd);
	return NULL;
}

static void check_stranger(gboolean ferry, const char *words)
{
	Pair pair = pair_new(&(MiniGuestConfig){ 0 });
	g_autofree char *uri = NULL;
	Stranger stranger = { .ferry = ferry };
	GThread *thread;
	int fds[2];

	g_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	uri = g_strdup_printf("fd:%d", fds[0]);
	stranger.fd = fds[1];
	thread = g_thread_new("stranger", be_stranger, &stranger);
	check_refused(&pair, uri, words);
	g_thread_join(thread);
	pair_free(&pair);
}

static void destination__no_ferry__refused(void)
{
	check_stranger(FALSE, "no Ferry");
}

static void destination__without_the_feature__refused(void)
{
	check_stranger(TRUE, "the same release on both sides");
}

static void destination__in_memory_that_cannot__refused_with_the_block(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ .private_file = TRUE });
	g_autofree char *uri = mini_guest_listen(pair.destination, "tcp:127.0.0.1:0");

	check_refused(&pair, uri, "'ram'");
	CU_ASSERT_EQUAL(ferry_destination_state(pair.destination->destination), FERRY_STATE_SETUP);
	pair_free(&pair);
}

static void start_postcopy__without_capability_or_migration__refused(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ 0 });
	g_autoptr(GError) error = NULL;

	start(pair.source);
	CU_ASSERT_FALSE(ferry_source_start_postcopy(pair.source->source, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_STATE));
	CU_ASSERT(error && strstr(error->message, "postcopy-ram"));
	g_clear_error(&error);
	set(pair.source, FERRY_CAPABILITY_POSTCOPY_RAM, TRUE);
	CU_ASSERT_FALSE(ferry_source_start_postcopy(pair.source->source, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_STATE));
	pair_free(&pair);
}

/* ---- errors before the commit, and what comes too late ---- */

/* One that was only advised goes as always, also over the streams that it made the source try. */
static void postcopy__advised_and_not_started__moves_as_always(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ 0 });
	g_auto(FerryMigrationStatus) status = { 0 };

	set(pair.source, FERRY_CAPABILITY_POSTCOPY_RAM, TRUE);
	set(pair.source, FERRY_CAPABILITY_VERIFY_RAM, TRUE);
	start(pair.source);
	CU_ASSERT(begin(&pair, "tcp:127.0.0.1:0"));
	CU_ASSERT(completes(&pair));
	ferry_source_get_status(pair.source->source, &status);
	CU_ASSERT_EQUAL(status.verified, FERRY_VERIFIED_YES);
	CU_ASSERT_FALSE(status.postcopy.switched);
	CU_ASSERT_PTR_NULL(status.fallback);
	CU_ASSERT(mini_guest_same_ram(pair.source, pair.destination));
	CU_ASSERT(ferry_source_start_postcopy(pair.source->source, NULL));
	pair_free(&pair);
}

static void destination__cannot_load_the_devices__guest_runs_on_here(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ .write = TRUE });
	g_auto(FerryMigrationStatus) status = { 0 };

	set(pair.source, FERRY_CAPABILITY_POSTCOPY_RAM, TRUE);
	start(pair.source);
	g_atomic_int_set(&pair.destination->refuse_load, 1);
	CU_ASSERT(begin(&pair, "tcp:127.0.0.1:0"));
	CU_ASSERT(ferry_source_start_postcopy(pair.source->source, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_FAILED);
	CU_ASSERT_EQUAL(ferry_destination_wait(pair.destination->destination), FERRY_STATE_FAILED);
	ferry_source_get_status(pair.source->source, &status);
	printf("# %s\n", status.error_desc);
	CU_ASSERT(status.error_desc && strstr(status.error_desc, "this counter is not wanted"));
	CU_ASSERT(g_atomic_int_get(&pair.source->running));
	/* The next one goes, to the same destination. */
	g_atomic_int_set(&pair.destination->refuse_load, 0);
	CU_ASSERT(begin(&pair, "tcp:127.0.0.1:0"));
	CU_ASSERT(ferry_source_start_postcopy(pair.source->source, NULL));
	CU_ASSERT(completes(&pair));
	CU_ASSERT(ferry_vm_stop(pair.destination->vm, NULL));
	CU_ASSERT(mini_guest_is_right(pair.destination));
	CU_ASSERT(mini_guest_most_running() == 1);
	pair_free(&pair);
}

/* From the commit on it is the destination's, also where it does not start there. */
static void destination__vcpus_do_not_start__recovered_and_runs(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ .write = TRUE });
	g_autofree char *uri = NULL;

	set(pair.source, FERRY_CAPABILITY_POSTCOPY_RAM, TRUE);
	start(pair.source);
	g_atomic_int_set(&pair.destination->refuse_resume, 1);
	CU_ASSERT(begin(&pair, "tcp:127.0.0.1:0"));
	CU_ASSERT(ferry_source_start_postcopy(pair.source->source, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_POSTCOPY_PAUSED);
	CU_ASSERT_EQUAL(ferry_destination_wait(pair.destination->destination),
			FERRY_STATE_HANDOVER_LOST);
	CU_ASSERT_EQUAL(mini_guest_most_running(), 1);
	CU_ASSERT_EQUAL(mini_guest_most_running(), 0);
	/* An operator cannot run a guest without its pages. */
	CU_ASSERT_FALSE(ferry_destination_resolve(pair.destination->destination,
						  FERRY_RESOLVE_RUN_HERE, NULL));
	g_atomic_int_set(&pair.destination->refuse_resume, 0);
	uri = ferry_destination_uri(pair.destination->destination);
	CU_ASSERT(ferry_source_recover(pair.source->source, uri, NULL));
	CU_ASSERT(completes(&pair));
	CU_ASSERT(ferry_vm_stop(pair.destination->vm, NULL));
	CU_ASSERT(mini_guest_is_right(pair.destination));
	CU_ASSERT_EQUAL(mini_guest_most_running(), 1);
	pair_free(&pair);
}

static gboolean is_switched(gpointer user)
{
	return ferry_source_state(((Pair *)user)->source->source) == FERRY_STATE_POSTCOPY_ACTIVE;
}

/* It lasts, as the background is slow, and the guest runs: requests are served all the same. Then
 * the limit goes, and so do the rest of the pages. */
static void background__limited__guest_is_served_and_a_cancel_comes_too_late(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ .write = TRUE });
	Pair there = { .source = pair.destination };
	g_auto(FerryMigrationStatus) status = { 0 };
	g_autofree char *dir = NULL;
	g_autofree char *uri = socket_uri(&dir);

	start(pair.source);
	set(pair.source, FERRY_CAPABILITY_POSTCOPY_RAM, TRUE);
	set_number(pair.source, FERRY_PARAMETER_MAX_POSTCOPY_BANDWIDTH, 64 << 10);
	pair.wanted = 20000;
	CU_ASSERT(mini_guest_await(has_written, &pair, SETTLE_MS));
	CU_ASSERT(begin(&pair, uri));
	CU_ASSERT(ferry_source_start_postcopy(pair.source->source, NULL));
	CU_ASSERT(mini_guest_await(is_switched, &pair, SETTLE_MS));
	ferry_source_cancel(pair.source->source);
	there.wanted = pair.source->state.counter + 2000;
	CU_ASSERT(mini_guest_await(has_written, &there, SETTLE_MS));
	CU_ASSERT_EQUAL(ferry_source_state(pair.source->source), FERRY_STATE_POSTCOPY_ACTIVE);
	/* Half a guest does not go on to the next. */
	CU_ASSERT_FALSE(ferry_source_migrate(pair.destination->source, uri, NULL));
	ferry_source_get_status(pair.source->source, &status);
	printf("# background %" G_GUINT64_FORMAT ", urgent %" G_GUINT64_FORMAT "\n",
	       status.postcopy.background_pages, status.postcopy.urgent_pages);
	CU_ASSERT(status.postcopy.urgent_pages > status.postcopy.background_pages);
	set_number(pair.source, FERRY_PARAMETER_MAX_POSTCOPY_BANDWIDTH, 0);
	CU_ASSERT(completes(&pair));
	CU_ASSERT(numbers_are_good(&pair));
	CU_ASSERT(ferry_vm_stop(pair.destination->vm, NULL));
	CU_ASSERT(mini_guest_is_right(pair.destination));
	pair_free(&pair);
	g_rmdir(dir);
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
	CASE(guest__there_and_back__arrives_whole),
	CASE(pages__pushed_beside_the_stream__arrive_once),
	CASE(pages__pulled__arrive_once),
	CASE(lane__full_now_and_then__every_page_arrives_once),
	CASE(channel__without_a_way_back__refused),
	CASE(destination__no_ferry__refused),
	CASE(destination__without_the_feature__refused),
	CASE(destination__in_memory_that_cannot__refused_with_the_block),
	CASE(start_postcopy__without_capability_or_migration__refused),
	CASE(postcopy__advised_and_not_started__moves_as_always),
	CASE(destination__cannot_load_the_devices__guest_runs_on_here),
	CASE(destination__vcpus_do_not_start__recovered_and_runs),
	CASE(background__limited__guest_is_served_and_a_cancel_comes_too_late),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "a guest is switched over first", cases);
}
