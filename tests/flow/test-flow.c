/* SPDX-License-Identifier: BSD-2-Clause */
/* The public API end to end, in one process: a guest moves over every transport, and what must not
 * move it. */
#include "harness.h"
#include "mini-guest.h"
#include "tape.h"

#include <glib/gstdio.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
	MiniGuest *source;
	MiniGuest *destination;
} Pair;

static Pair pair_new(const MiniGuestConfig *source, const MiniGuestConfig *destination)
{
	mini_guest_most_running();
	return (Pair){ mini_guest_new(source), mini_guest_new(destination) };
}

static void pair_free(Pair *pair)
{
	mini_guest_free(pair->source);
	mini_guest_free(pair->destination);
}

static void start(MiniGuest *guest)
{
	g_autoptr(GError) error = NULL;

	if (!ferry_vm_start(guest->vm, &error))
		g_error("%s", error->message);
}

static void set(MiniGuest *guest, FerryCapability capability, gboolean on)
{
	if (!ferry_settings_set_capability(ferry_vm_settings(guest->vm), capability, on, NULL))
		g_assert_not_reached();
}

/* Migrates and waits for both ends. TRUE when both completed. */
static gboolean move(Pair *pair, const char *uri)
{
	g_autoptr(GError) error = NULL;
	FerryMigrationStatus status;
	gboolean ok;

	if (!ferry_source_migrate(pair->source->source, uri, &error)) {
		printf("# %s: %s\n", uri, error->message);
		return FALSE;
	}
	ok = ferry_source_wait(pair->source->source) == FERRY_STATE_COMPLETED;
	if (!ok) {
		ferry_source_get_status(pair->source->source, &status);
		printf("# %s: %s: %s\n", uri, ferry_state_name(status.state), status.error_desc);
		ferry_migration_status_clear(&status);
		return FALSE;
	}
	return ferry_destination_wait(pair->destination->destination) == FERRY_STATE_COMPLETED;
}

static gboolean wrote(gpointer user)
{
	return *(volatile guint64 *)&((Pair *)user)->source->state.counter > 1000;
}

/* Moves a writing guest that arrives stopped, so that both sides can be compared byte by byte. */
static void check_move(const char *listen, const char *connect)
{
	Pair pair = pair_new(&(MiniGuestConfig){ .write = TRUE },
			     &(MiniGuestConfig){ .write = TRUE });
	g_autofree char *uri = NULL;

	start(pair.source);
	uri = mini_guest_listen(pair.destination, listen);
	CU_ASSERT(ferry_vm_stop(pair.destination->vm, NULL));
	CU_ASSERT(mini_guest_await(wrote, &pair, 10000));
	CU_ASSERT(move(&pair, connect ? connect : uri));
	CU_ASSERT(mini_guest_same_ram(pair.source, pair.destination));
	CU_ASSERT_FALSE(g_atomic_int_get(&pair.source->running));
	CU_ASSERT(ferry_vm_start(pair.destination->vm, NULL));
	CU_ASSERT(mini_guest_most_running() == 1);
	pair_free(&pair);
}

/* ---- transports ---- */

static void guest__moves_by_tcp__ram_is_the_same(void)
{
	check_move("tcp:127.0.0.1:0", NULL);
}

static void guest__moves_by_tcp6__ram_is_the_same(void)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		SKIP("no IPv6 in this kernel");
	close(fd);
	check_move("tcp:[::1]:0", NULL);
}

static void guest__moves_by_unix__ram_is_the_same(void)
{
	g_autofree char *dir = g_dir_make_tmp("ferry-flow-XXXXXX", NULL);
	g_autofree char *uri = g_strdup_printf("unix:%s/socket", dir);

	check_move(uri, NULL);
	g_rmdir(dir);
}

static void guest__moves_by_fd__ram_is_the_same(void)
{
	g_autofree char *listen = NULL, *connect = NULL;
	int fds[2];

	CU_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	listen = g_strdup_printf("fd:%d", fds[0]);
	connect = g_strdup_printf("fd:%d", fds[1]);
	check_move(listen, connect);
}

static void guest__saved_to_a_file_and_loaded__ram_is_the_same(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ .write = TRUE }, &(MiniGuestConfig){ 0 });
	g_autofree char *dir = g_dir_make_tmp("ferry-flow-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(dir, "guest", NULL);
	g_autofree char *uri = g_strconcat("file:", path, NULL), *listening = NULL;
	FerryMigrationStatus status;

	start(pair.source);
	set(pair.source, FERRY_CAPABILITY_VERIFY_RAM, TRUE);
	CU_ASSERT(ferry_source_migrate(pair.source->source, uri, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_COMPLETED);
	CU_ASSERT_EQUAL(ferry_vm_run_state(pair.source->vm), FERRY_RUN_STATE_POSTMIGRATE);
	ferry_source_get_status(pair.source->source, &status);
	CU_ASSERT_EQUAL(status.verified, FERRY_VERIFIED_YES);
	ferry_migration_status_clear(&status);
	listening = mini_guest_listen(pair.destination, uri);
	CU_ASSERT_EQUAL(ferry_destination_wait(pair.destination->destination),
			FERRY_STATE_COMPLETED);
	CU_ASSERT(mini_guest_same_ram(pair.source, pair.destination));
	/* What is only saved may go on here. */
	CU_ASSERT(ferry_vm_start(pair.source->vm, NULL));
	g_unlink(path);
	g_rmdir(dir);
	pair_free(&pair);
}

static void file__read_back_with_a_wrong_byte__save_fails_and_guest_runs_on(void)
{
	g_autoptr(GByteArray) kept = g_byte_array_new();
	MiniGuest *guest = mini_guest_new(
		&(MiniGuestConfig){ .transports = recorder_transports(kept) });
	FerryMigrationStatus status;

	memset(guest->ram, 0x5a, guest->size);
	start(guest);
	set(guest, FERRY_CAPABILITY_VERIFY_RAM, TRUE);
	for (guint i = 0; i < 2; i++) {
		recorder_spoil(i ? 1 << 20 : -1);
		CU_ASSERT(ferry_vm_start(guest->vm, NULL));
		CU_ASSERT(ferry_source_migrate(guest->source, "record:file:/dev/null", NULL));
		CU_ASSERT_EQUAL(ferry_source_wait(guest->source),
				i ? FERRY_STATE_FAILED : FERRY_STATE_COMPLETED);
	}
	ferry_source_get_status(guest->source, &status);
	printf("# %s\n", status.error_desc);
	CU_ASSERT_EQUAL(status.verified, FERRY_VERIFIED_NO);
	CU_ASSERT(g_atomic_int_get(&guest->running));
	ferry_migration_status_clear(&status);
	recorder_spoil(-1);
	mini_guest_free(guest);
}

/* ---- run states ---- */

static void guest__paused__arrives_paused(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ 0 }, &(MiniGuestConfig){ 0 });
	g_autofree char *uri = mini_guest_listen(pair.destination, "tcp:127.0.0.1:0");

	start(pair.source);
	CU_ASSERT(ferry_vm_stop(pair.source->vm, NULL));
	CU_ASSERT(move(&pair, uri));
	CU_ASSERT_EQUAL(ferry_vm_run_state(pair.destination->vm), FERRY_RUN_STATE_PAUSED);
	CU_ASSERT_FALSE(g_atomic_int_get(&pair.destination->running));
	pair_free(&pair);
}

static gboolean is_announced(gpointer user)
{
	return g_atomic_int_get(&((Pair *)user)->destination->announced) >= 1;
}

static void guest__running__runs_there_and_never_here_again(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ .write = TRUE },
			     &(MiniGuestConfig){ .write = TRUE });
	g_autofree char *uri = mini_guest_listen(pair.destination, "tcp:127.0.0.1:0");
	g_autoptr(GError) error = NULL;

	start(pair.source);
	CU_ASSERT(move(&pair, uri));
	CU_ASSERT(g_atomic_int_get(&pair.destination->running));
	CU_ASSERT(mini_guest_await(is_announced, &pair, 10000));
	CU_ASSERT_FALSE(ferry_vm_start(pair.source->vm, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_STATE));
	CU_ASSERT_FALSE(ferry_source_migrate(pair.source->source, uri, NULL));
	CU_ASSERT(mini_guest_most_running() == 1);
	pair_free(&pair);
}

static void guest__there_and_back_ten_times__goes_on(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ .write = TRUE },
			     &(MiniGuestConfig){ .write = TRUE });
	guint64 last = 0;

	start(pair.source);
	for (guint i = 0; i < 10; i++) {
		g_autofree char *uri = mini_guest_listen(pair.destination, "tcp:127.0.0.1:0");
		Pair back = { pair.destination, pair.source };

		CU_ASSERT(move(&pair, uri));
		CU_ASSERT(pair.destination->state.counter >= last);
		last = pair.destination->state.counter;
		pair = back;
	}
	CU_ASSERT(mini_guest_most_running() == 1);
	pair_free(&pair);
}

static void ram__verified__status_says_so(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ .write = TRUE }, &(MiniGuestConfig){ 0 });
	g_autofree char *uri = mini_guest_listen(pair.destination, "tcp:127.0.0.1:0");
	FerryMigrationStatus status;

	start(pair.source);
	set(pair.source, FERRY_CAPABILITY_VERIFY_RAM, TRUE);
	CU_ASSERT(move(&pair, uri));
	ferry_source_get_status(pair.source->source, &status);
	CU_ASSERT_EQUAL(status.verified, FERRY_VERIFIED_YES);
	CU_ASSERT_EQUAL(status.ram.remaining, 0);
	CU_ASSERT(status.ram.normal + status.ram.duplicate >= status.ram.total >> FERRY_PAGE_SHIFT);
	CU_ASSERT(status.n_rounds >= 1 &&
		  status.rounds[0].dirty_pages == status.ram.total >> FERRY_PAGE_SHIFT);
	ferry_migration_status_clear(&status);
	pair_free(&pair);
}

/* ---- refusals ---- */

/* The migration fails with both words in its reason, the source guest runs on, and so does the
 * listening. */
static void check_refused(const MiniGuestConfig *there, const char *ours, const char *theirs)
{
	Pair pair = pair_new(&(MiniGuestConfig){ .write = TRUE }, there);
	g_autofree char *uri = mini_guest_listen(pair.destination, "tcp:127.0.0.1:0");
	FerryMigrationStatus status;

	start(pair.source);
	CU_ASSERT(ferry_source_migrate(pair.source->source, uri, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_FAILED);
	ferry_source_get_status(pair.source->source, &status);
	printf("# %s\n", status.error_desc);
	CU_ASSERT(strstr(status.error_desc, ours) && strstr(status.error_desc, theirs));
	CU_ASSERT_EQUAL(status.ram.transferred, 0);
	CU_ASSERT(g_atomic_int_get(&pair.source->running));
	CU_ASSERT_EQUAL(ferry_destination_state(pair.destination->destination), FERRY_STATE_SETUP);
	ferry_migration_status_clear(&status);
	pair_free(&pair);
}

static void ram__sizes_differ__refused_with_both(void)
{
	check_refused(&(MiniGuestConfig){ .ram_size = 32 << 20 }, "16777216", "33554432");
}

static void ram__names_differ__refused_with_both(void)
{
	check_refused(&(MiniGuestConfig){ .block = "pc.ram" }, "'ram'", "'pc.ram'");
}

static void machine__names_differ__refused_with_both(void)
{
	check_refused(&(MiniGuestConfig){ .machine = "other" }, "'mini'", "'other'");
}

/* A source of another age: what the destination says to its HELLO. */
static char *answer_to_hello(guint32 version, guint32 page_size)
{
	MiniGuest *guest = mini_guest_new(&(MiniGuestConfig){ 0 });
	g_autofree char *uri = mini_guest_listen(guest, "tcp:127.0.0.1:0");
	FerryChannel *channel =
		ferry_transport_find(ferry_transports(), uri, NULL)->connect(uri, 5000, NULL, NULL);
	g_autoptr(GByteArray) out = g_byte_array_new(), record = g_byte_array_new();
	GString *answer = g_string_new(NULL);
	guint8 ping[4], bytes[512], nonce[16] = { 1 };
	struct iovec iov = { bytes, sizeof(bytes) };
	gssize n;

	ferry_store_be32(ping, FERRY_PING_HELLO);
	ferry_stream_put_header(out);
	ferry_stream_put_configuration(out, "mini", NULL);
	ferry_stream_put_command(out, FERRY_COMMAND_OPEN_RETURN_PATH, NULL, 0);
	ferry_stream_put_command(out, FERRY_COMMAND_PING, ping, 4);
	ferry_put_record_header(record, FERRY_RECORD_HELLO, 0, 32);
	ferry_put_be32(record, version);
	ferry_put_be64(record, 0);
	ferry_put_be32(record, page_size);
	g_byte_array_append(record, nonce, 16);
	ferry_stream_put_command(out, FERRY_COMMAND_FERRY, record->data, record->len);
	CU_ASSERT(ferry_channel_write_all(channel, out->data, out->len, NULL));
	while ((n = channel->ops->read(channel, &iov, 1, NULL)) > 0)
		for (gssize i = 0; i < n; i++)
			g_string_append_c(answer,
					  bytes[i] >= ' ' && bytes[i] < 127 ? bytes[i] : '.');
	ferry_channel_close(channel);
	CU_ASSERT_EQUAL(ferry_destination_state(guest->destination), FERRY_STATE_SETUP);
	mini_guest_free(guest);
	printf("# %s\n", answer->str);
	return g_string_free(answer, FALSE);
}

static void peer__other_version__refused_with_both(void)
{
	g_autofree char *answer = answer_to_hello(77, FERRY_PAGE_SIZE);

	CU_ASSERT(strstr(answer, "version 77") && strstr(answer, "version 1"));
}

static void peer__other_page_size__refused_with_both(void)
{
	g_autofree char *answer = answer_to_hello(1, 16384);

	CU_ASSERT(strstr(answer, "16384") && strstr(answer, "4096"));
}

static void check_fails(const char *uri, const char *word)
{
	MiniGuest *guest = mini_guest_new(&(MiniGuestConfig){ .write = TRUE });
	FerryMigrationStatus status;

	start(guest);
	CU_ASSERT(ferry_source_migrate(guest->source, uri, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(guest->source), FERRY_STATE_FAILED);
	ferry_source_get_status(guest->source, &status);
	printf("# %s\n", status.error_desc);
	CU_ASSERT(strstr(status.error_desc, word) != NULL);
	CU_ASSERT(g_atomic_int_get(&guest->running));
	ferry_migration_status_clear(&status);
	mini_guest_free(guest);
}

static void destination__nobody_listens__fails_and_runs_on(void)
{
	check_fails("tcp:127.0.0.1:1", "127.0.0.1:1");
}

static void destination__name_does_not_resolve__fails_and_runs_on(void)
{
	check_fails("tcp:nobody.invalid:4444", "nobody.invalid");
}

static void uri__unknown_scheme__refused(void)
{
	MiniGuest *guest = mini_guest_new(&(MiniGuestConfig){ 0 });
	g_autoptr(GError) error = NULL;

	CU_ASSERT_FALSE(ferry_source_migrate(guest->source, "carrier-pigeon:x", &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID));
	CU_ASSERT_EQUAL(ferry_source_state(guest->source), FERRY_STATE_NONE);
	mini_guest_free(guest);
}

static void blocker__registered__is_the_reason(void)
{
	MiniGuest *guest = mini_guest_new(&(MiniGuestConfig){ 0 });
	g_autoptr(GError) error = NULL;
	guint id = ferry_vm_add_blocker(guest->vm, "the device 'tape' cannot move", NULL);

	start(guest);
	CU_ASSERT_FALSE(ferry_source_migrate(guest->source, "tcp:127.0.0.1:1", &error));
	CU_ASSERT(error && strstr(error->message, "'tape'"));
	ferry_vm_remove_blocker(guest->vm, id);
	CU_ASSERT(ferry_source_migrate(guest->source, "tcp:127.0.0.1:1", NULL));
	ferry_source_wait(guest->source);
	mini_guest_free(guest);
}

static void connection__garbage__destination_goes_on_listening(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ 0 }, &(MiniGuestConfig){ 0 });
	g_autofree char *uri = mini_guest_listen(pair.destination, "tcp:127.0.0.1:0");
	const FerryTransport *transport = ferry_transport_find(ferry_transports(), uri, NULL);
	FerryChannel *stranger = transport->connect(uri, 5000, NULL, NULL);
	guint8 byte;
	struct iovec iov = { &byte, 1 };

	CU_ASSERT(stranger &&
		  ferry_channel_write_all(stranger, "GET / HTTP/1.1\r\n\r\n", 18, NULL));
	while (stranger && stranger->ops->read(stranger, &iov, 1, NULL) > 0)
		;
	ferry_channel_close(stranger);
	start(pair.source);
	CU_ASSERT(move(&pair, uri));
	pair_free(&pair);
}

/* ---- steering ---- */

static gboolean in_pre_switchover(gpointer user)
{
	return ferry_source_state(((Pair *)user)->source->source) == FERRY_STATE_PRE_SWITCHOVER;
}

static gboolean in_active(gpointer user)
{
	return ferry_source_state(((Pair *)user)->source->source) == FERRY_STATE_ACTIVE;
}

static gboolean destination_failed(gpointer user)
{
	return ferry_destination_state(((Pair *)user)->destination->destination) ==
	       FERRY_STATE_FAILED;
}

/* Cancels where @where holds; how long it took, microseconds. */
static gint64 cancel_in(Pair *pair, const char *uri, gboolean (*where)(gpointer))
{
	gint64 begin;

	CU_ASSERT(ferry_source_migrate(pair->source->source, uri, NULL));
	CU_ASSERT(mini_guest_await(where, pair, 10000));
	begin = g_get_monotonic_time();
	ferry_source_cancel(pair->source->source);
	CU_ASSERT_EQUAL(ferry_source_wait(pair->source->source), FERRY_STATE_CANCELLED);
	return g_get_monotonic_time() - begin;
}

static void check_cancel(gboolean pause_before, guint64 bandwidth, gboolean (*where)(gpointer))
{
	Pair pair = pair_new(&(MiniGuestConfig){ .write = TRUE }, &(MiniGuestConfig){ 0 });
	g_autofree char *uri = mini_guest_listen(pair.destination, "tcp:127.0.0.1:0"),
			*again = NULL;
	gint64 took;

	start(pair.source);
	set(pair.source, FERRY_CAPABILITY_PAUSE_BEFORE_SWITCHOVER, pause_before);
	CU_ASSERT(ferry_settings_set_parameter(ferry_vm_settings(pair.source->vm),
					       FERRY_PARAMETER_MAX_BANDWIDTH, bandwidth, NULL));
	took = cancel_in(&pair, uri, where);
	printf("# cancelled in %" G_GINT64_FORMAT " us\n", took);
	CU_ASSERT(took < 100 * G_TIME_SPAN_MILLISECOND);
	CU_ASSERT(g_atomic_int_get(&pair.source->running));
	CU_ASSERT(mini_guest_await(destination_failed, &pair, 10000));
	/* The next try works, to the same destination. */
	set(pair.source, FERRY_CAPABILITY_PAUSE_BEFORE_SWITCHOVER, FALSE);
	CU_ASSERT(ferry_settings_set_parameter(ferry_vm_settings(pair.source->vm),
					       FERRY_PARAMETER_MAX_BANDWIDTH, 0, NULL));
	again = mini_guest_listen(pair.destination, "tcp:127.0.0.1:0");
	CU_ASSERT(move(&pair, again));
	CU_ASSERT(mini_guest_most_running() == 1);
	pair_free(&pair);
}

static void migration__cancelled_in_active__guest_runs_on_and_next_works(void)
{
	check_cancel(FALSE, 1 << 20, in_active);
}

static void migration__cancelled_in_pre_switchover__guest_runs_on_and_next_works(void)
{
	check_cancel(TRUE, 0, in_pre_switchover);
}

static void migration__paused_before_switchover__continues(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ .write = TRUE }, &(MiniGuestConfig){ 0 });
	g_autofree char *uri = mini_guest_listen(pair.destination, "tcp:127.0.0.1:0");

	start(pair.source);
	set(pair.source, FERRY_CAPABILITY_PAUSE_BEFORE_SWITCHOVER, TRUE);
	CU_ASSERT_FALSE(ferry_source_continue(pair.source->source, NULL));
	CU_ASSERT(ferry_source_migrate(pair.source->source, uri, NULL));
	CU_ASSERT(mini_guest_await(in_pre_switchover, &pair, 10000));
	CU_ASSERT_FALSE(g_atomic_int_get(&pair.source->running));
	CU_ASSERT_FALSE(ferry_settings_set_capability(ferry_vm_settings(pair.source->vm),
						      FERRY_CAPABILITY_VERIFY_RAM, TRUE, NULL));
	CU_ASSERT(ferry_source_continue(pair.source->source, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_COMPLETED);
	pair_free(&pair);
}

/* The destination digests along with the rounds: what comes after a page was digested must count.
 * */
static void ram__verified__pages_zeroed_and_written_last__count(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ 0 }, &(MiniGuestConfig){ 0 });
	g_autofree char *uri = mini_guest_listen(pair.destination, "tcp:127.0.0.1:0");

	start(pair.source);
	set(pair.source, FERRY_CAPABILITY_VERIFY_RAM, TRUE);
	set(pair.source, FERRY_CAPABILITY_PAUSE_BEFORE_SWITCHOVER, TRUE);
	memset(pair.source->ram + (4 << 20), 0xa5, 4 * FERRY_PAGE_SIZE);
	CU_ASSERT(ferry_source_migrate(pair.source->source, uri, NULL));
	CU_ASSERT(mini_guest_await(in_pre_switchover, &pair, 10000));
	memset(pair.source->ram + (4 << 20), 0, FERRY_PAGE_SIZE);
	memset(pair.source->ram + (8 << 20), 0x5a, FERRY_PAGE_SIZE);
	CU_ASSERT(ferry_source_continue(pair.source->source, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_COMPLETED);
	pair_free(&pair);
}

static void bandwidth__limited__is_kept(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ .ram_size = 32 << 20 },
			     &(MiniGuestConfig){ .ram_size = 32 << 20 });
	g_autofree char *uri = mini_guest_listen(pair.destination, "tcp:127.0.0.1:0");
	FerryMigrationStatus status;
	gint64 begin, took;

	memset(pair.source->ram, 0x5a, pair.source->size);
	CU_ASSERT(ferry_settings_set_parameter(ferry_vm_settings(pair.source->vm),
					       FERRY_PARAMETER_MAX_BANDWIDTH, 64 << 20, NULL));
	start(pair.source);
	begin = g_get_monotonic_time();
	CU_ASSERT(move(&pair, uri));
	took = g_get_monotonic_time() - begin;
	ferry_source_get_status(pair.source->source, &status);
	printf("# 32 MiB at 64 MiB/s took %.3f s\n", took / 1e6);
	CU_ASSERT(took > 450 * G_TIME_SPAN_MILLISECOND);
	CU_ASSERT(took < 1500 * G_TIME_SPAN_MILLISECOND);
	ferry_migration_status_clear(&status);
	pair_free(&pair);
}

static void guest__without_a_dirty_source__moves_standing_still(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ .no_dirty_source = TRUE, .write = TRUE },
			     &(MiniGuestConfig){ 0 });
	g_autofree char *uri = mini_guest_listen(pair.destination, "tcp:127.0.0.1:0");

	start(pair.source);
	CU_ASSERT(move(&pair, uri));
	CU_ASSERT(mini_guest_same_ram(pair.source, pair.destination));
	CU_ASSERT(mini_guest_most_running() == 1);
	pair_free(&pair);
}

static gboolean vcpus_failed(gpointer user)
{
	return ferry_source_state(((Pair *)user)->source->source) == FERRY_STATE_HANDOVER_LOST &&
	       ferry_destination_state(((Pair *)user)->destination->destination) ==
		       FERRY_STATE_HANDOVER_LOST;
}

static void destination__vcpus_do_not_start__guest_is_held_then_runs(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ 0 }, &(MiniGuestConfig){ 0 });
	g_autofree char *uri = mini_guest_listen(pair.destination, "tcp:127.0.0.1:0");

	start(pair.source);
	g_atomic_int_set(&pair.destination->refuse_resume, 1);
	CU_ASSERT(ferry_source_migrate(pair.source->source, uri, NULL));
	CU_ASSERT(mini_guest_await(vcpus_failed, &pair, 10000));
	CU_ASSERT_FALSE(g_atomic_int_get(&pair.source->running));
	g_atomic_int_set(&pair.destination->refuse_resume, 0);
	/* The source goes on asking, and the next answer is that it runs. */
	CU_ASSERT_EQUAL(ferry_destination_wait(pair.destination->destination),
			FERRY_STATE_HANDOVER_LOST);
	ferry_source_resolve(pair.source->source, FERRY_RESOLVE_RETRY, NULL);
	while (ferry_source_state(pair.source->source) == FERRY_STATE_HANDOVER_LOST)
		g_usleep(1000);
	CU_ASSERT_EQUAL(ferry_source_state(pair.source->source), FERRY_STATE_COMPLETED);
	CU_ASSERT(g_atomic_int_get(&pair.destination->running));
	CU_ASSERT(mini_guest_most_running() == 1);
	pair_free(&pair);
}

static gboolean source_runs_again(gpointer user)
{
	return ferry_source_state(((Pair *)user)->source->source) == FERRY_STATE_FAILED &&
	       g_atomic_int_get(&((Pair *)user)->source->running);
}

static gboolean discarded(gpointer user)
{
	return ferry_destination_resolve(((Pair *)user)->destination->destination,
					 FERRY_RESOLVE_DISCARD, NULL);
}

/* The source has the guest again: nothing makes the destination run it. */
static void destination__discarded_as_vcpus_do_not_start__cont_does_not_run_it(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ 0 }, &(MiniGuestConfig){ 0 });
	g_autofree char *uri = mini_guest_listen(pair.destination, "tcp:127.0.0.1:0"),
			*again = NULL;

	start(pair.source);
	g_atomic_int_set(&pair.destination->refuse_resume, 1);
	CU_ASSERT(ferry_source_migrate(pair.source->source, uri, NULL));
	CU_ASSERT(mini_guest_await(vcpus_failed, &pair, 10000));
	CU_ASSERT(mini_guest_await(discarded, &pair, 10000));
	CU_ASSERT(mini_guest_await(source_runs_again, &pair, 10000));
	g_atomic_int_set(&pair.destination->refuse_resume, 0);
	ferry_vm_start(pair.destination->vm, NULL);
	CU_ASSERT_FALSE(g_atomic_int_get(&pair.destination->running));
	CU_ASSERT(mini_guest_most_running() == 1);
	/* It can be filled anew. */
	again = mini_guest_listen(pair.destination, "tcp:127.0.0.1:0");
	CU_ASSERT(move(&pair, again));
	pair_free(&pair);
}

static CU_TestInfo cases[] = {
	CASE(guest__moves_by_tcp__ram_is_the_same),
	CASE(guest__moves_by_tcp6__ram_is_the_same),
	CASE(guest__moves_by_unix__ram_is_the_same),
	CASE(guest__moves_by_fd__ram_is_the_same),
	CASE(guest__saved_to_a_file_and_loaded__ram_is_the_same),
	CASE(file__read_back_with_a_wrong_byte__save_fails_and_guest_runs_on),
	CASE(guest__paused__arrives_paused),
	CASE(guest__running__runs_there_and_never_here_again),
	CASE(guest__there_and_back_ten_times__goes_on),
	CASE(ram__verified__status_says_so),
	CASE(ram__sizes_differ__refused_with_both),
	CASE(ram__names_differ__refused_with_both),
	CASE(machine__names_differ__refused_with_both),
	CASE(peer__other_version__refused_with_both),
	CASE(peer__other_page_size__refused_with_both),
	CASE(destination__nobody_listens__fails_and_runs_on),
	CASE(destination__name_does_not_resolve__fails_and_runs_on),
	CASE(uri__unknown_scheme__refused),
	CASE(blocker__registered__is_the_reason),
	CASE(connection__garbage__destination_goes_on_listening),
	CASE(migration__cancelled_in_active__guest_runs_on_and_next_works),
	CASE(migration__cancelled_in_pre_switchover__guest_runs_on_and_next_works),
	CASE(migration__paused_before_switchover__continues),
	CASE(ram__verified__pages_zeroed_and_written_last__count),
	CASE(bandwidth__limited__is_kept),
	CASE(guest__without_a_dirty_source__moves_standing_still),
	CASE(destination__vcpus_do_not_start__guest_is_held_then_runs),
	CASE(destination__discarded_as_vcpus_do_not_start__cont_does_not_run_it),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "a guest moves", cases);
}
