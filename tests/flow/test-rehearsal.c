/* SPDX-License-Identifier: BSD-2-Clause */
/* Rehearsals, in one process: nothing moves, the guest runs on, and the next migration finds
 * everything as if there had been none. */
#include "harness.h"
#include "mini-guest.h"
#include "tape.h"

#include <glib/gstdio.h>
#include <string.h>

typedef struct {
	MiniGuest *source;
	MiniGuest *destination;
	guint notifier;
	gint stops; /* atomic: times that the source's guest was stopped */
	char *uri;
} Pair;

static void on_event(const FerryEvent *event, gpointer user)
{
	Pair *pair = user;

	if (event->type == FERRY_EVENT_STOP)
		g_atomic_int_inc(&pair->stops);
}

static void set_up(Pair *pair, gboolean write, const char *listen)
{
	const MiniGuestConfig config = { .write = write };

	*pair = (Pair){ mini_guest_new(&config), mini_guest_new(&config) };
	pair->notifier = ferry_vm_add_notifier(pair->source->vm, on_event, pair);
	if (!ferry_vm_start(pair->source->vm, NULL))
		g_assert_not_reached();
	pair->uri = mini_guest_listen(pair->destination, listen);
	/* So that both sides can be compared. */
	CU_ASSERT(ferry_vm_stop(pair->destination->vm, NULL));
}

static void tear_down(Pair *pair)
{
	ferry_vm_remove_notifier(pair->source->vm, pair->notifier);
	mini_guest_free(pair->source);
	if (pair->destination)
		mini_guest_free(pair->destination);
	g_free(pair->uri);
}

static FerryMigrationStatus status_of(Pair *pair)
{
	FerryMigrationStatus status;

	ferry_source_get_status(pair->source->source, &status);
	return status;
}

/* A whole rehearsal of a second, after which the guest runs as before. */
static void rehearse(Pair *pair, FerryMigrationStatus *status)
{
	g_autoptr(GError) error = NULL;

	CU_ASSERT(ferry_source_rehearse(pair->source->source, pair->uri, 1, &error));
	if (error)
		printf("# %s\n", error->message);
	CU_ASSERT_EQUAL(ferry_source_wait(pair->source->source), FERRY_STATE_CANCELLED);
	*status = status_of(pair);
	CU_ASSERT(status->rehearsal.on && status->rehearsal.done);
	CU_ASSERT(ferry_vm_is_running(pair->source->vm));
	CU_ASSERT(g_atomic_int_get(&pair->source->running));
	CU_ASSERT_EQUAL(g_atomic_int_get(&pair->stops), 0);
	CU_ASSERT_EQUAL(ferry_destination_state(pair->destination->destination), FERRY_STATE_SETUP);
	CU_ASSERT_FALSE(g_atomic_int_get(&pair->destination->running));
}

/* However slow the machine is: what was rehearsed may not have converged here. */
static void check_next_moves(Pair *pair)
{
	FerrySettings *settings = ferry_vm_settings(pair->source->vm);

	CU_ASSERT(ferry_settings_set_capability(settings, FERRY_CAPABILITY_VERIFY_RAM, TRUE, NULL));
	CU_ASSERT(ferry_settings_set_parameter(settings, FERRY_PARAMETER_DOWNTIME_LIMIT, 20000,
					       NULL));
	CU_ASSERT(ferry_source_migrate(pair->source->source, pair->uri, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(pair->source->source), FERRY_STATE_COMPLETED);
	CU_ASSERT_EQUAL(ferry_destination_wait(pair->destination->destination),
			FERRY_STATE_COMPLETED);
	CU_ASSERT(mini_guest_same_ram(pair->source, pair->destination));
}

static void check_rehearsal(const char *listen)
{
	g_auto(FerryMigrationStatus) status = { 0 };
	Pair pair;

	set_up(&pair, TRUE, listen);
	rehearse(&pair, &status);
	CU_ASSERT(status.rehearsal.bandwidth > 0 && status.rehearsal.n_points >= 5);
	CU_ASSERT(status.rehearsal.first_second_pages > 0);
	for (guint i = 1; i < status.rehearsal.n_points; i++)
		CU_ASSERT(status.rehearsal.points[i].pages >= status.rehearsal.points[i - 1].pages);
	check_next_moves(&pair);
	tear_down(&pair);
}

static void rehearsal__by_tcp__the_next_moves(void)
{
	check_rehearsal("tcp:127.0.0.1:0");
}

static void rehearsal__by_unix__the_next_moves(void)
{
	g_autofree char *dir = g_dir_make_tmp("ferry-rehearsal-XXXXXX", NULL);
	g_autofree char *uri = g_strdup_printf("unix:%s/socket", dir);

	check_rehearsal(uri);
	g_rmdir(dir);
}

static void rehearsal__by_rdma_or_what_it_falls_back_to__the_next_moves(void)
{
	check_rehearsal("rdma:127.0.0.1:0");
}

static void rehearsal__twice__both_come_to_their_end(void)
{
	g_auto(FerryMigrationStatus) first = { 0 }, second = { 0 };
	Pair pair;

	set_up(&pair, TRUE, "tcp:127.0.0.1:0");
	rehearse(&pair, &first);
	rehearse(&pair, &second);
	check_next_moves(&pair);
	tear_down(&pair);
}

static void rehearsal__idle_guest__converges_at_once(void)
{
	g_auto(FerryMigrationStatus) status = { 0 };
	Pair pair;

	set_up(&pair, FALSE, "tcp:127.0.0.1:0");
	rehearse(&pair, &status);
	CU_ASSERT_TRUE(status.rehearsal.converges);
	CU_ASSERT_EQUAL(status.rehearsal.first_second_pages, 0);
	CU_ASSERT_EQUAL(status.rehearsal.needed_downtime_limit_ms, 0);
	tear_down(&pair);
}

/* What the rehearsal left at the destination must not show through. */
static void rehearsal__pages_become_zero_afterwards__are_zero_there(void)
{
	g_auto(FerryMigrationStatus) status = { 0 };
	Pair pair;

	set_up(&pair, FALSE, "tcp:127.0.0.1:0");
	memset(pair.source->ram, 0x55, pair.source->size);
	rehearse(&pair, &status);
	memset(pair.source->ram, 0, pair.source->size / 2);
	check_next_moves(&pair);
	CU_ASSERT(!pair.destination->ram[FERRY_PAGE_SIZE]);
	tear_down(&pair);
}

static gboolean is_active(gpointer user)
{
	return ferry_source_state(((Pair *)user)->source->source) == FERRY_STATE_ACTIVE;
}

static void rehearsal__cancelled__has_no_result_and_the_next_moves(void)
{
	g_auto(FerryMigrationStatus) status = { 0 };
	Pair pair;

	set_up(&pair, TRUE, "tcp:127.0.0.1:0");
	CU_ASSERT(ferry_source_rehearse(pair.source->source, pair.uri, 600, NULL));
	CU_ASSERT(mini_guest_await(is_active, &pair, 10000));
	ferry_source_cancel(pair.source->source);
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_CANCELLED);
	status = status_of(&pair);
	CU_ASSERT(status.rehearsal.on && !status.rehearsal.done);
	CU_ASSERT(ferry_vm_is_running(pair.source->vm));
	check_next_moves(&pair);
	tear_down(&pair);
}

static void rehearsal__destination_goes_away__fails_and_the_guest_runs(void)
{
	g_auto(FerryMigrationStatus) status = { 0 };
	Pair pair;

	set_up(&pair, TRUE, "tcp:127.0.0.1:0");
	CU_ASSERT(ferry_source_rehearse(pair.source->source, pair.uri, 600, NULL));
	CU_ASSERT(mini_guest_await(is_active, &pair, 10000));
	mini_guest_free(g_steal_pointer(&pair.destination));
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_FAILED);
	status = status_of(&pair);
	CU_ASSERT_PTR_NOT_NULL(status.error_desc);
	CU_ASSERT(ferry_vm_is_running(pair.source->vm) && !g_atomic_int_get(&pair.stops));
	tear_down(&pair);
}

static void rehearsal__postcopy_is_on__moves_nothing_either(void)
{
	g_auto(FerryMigrationStatus) status = { 0 };
	Pair pair;

	set_up(&pair, TRUE, "tcp:127.0.0.1:0");
	CU_ASSERT(ferry_settings_set_capability(ferry_vm_settings(pair.source->vm),
						FERRY_CAPABILITY_POSTCOPY_RAM, TRUE, NULL));
	rehearse(&pair, &status);
	tear_down(&pair);
}

static void check_with(FerryCapability capability)
{
	g_auto(FerryMigrationStatus) status = { 0 };
	Pair pair;

	set_up(&pair, TRUE, "tcp:127.0.0.1:0");
	CU_ASSERT(ferry_settings_set_capability(ferry_vm_settings(pair.source->vm), capability,
						TRUE, NULL));
	rehearse(&pair, &status);
	check_next_moves(&pair);
	tear_down(&pair);
}

static void rehearsal__with_xbzrle__the_next_moves(void)
{
	check_with(FERRY_CAPABILITY_XBZRLE);
}

static void rehearsal__with_compress__the_next_moves(void)
{
	check_with(FERRY_CAPABILITY_COMPRESS);
}

/* It would slow the guest down, but not in a rehearsal. */
static void rehearsal__with_a_limit_that_nothing_converges_at__guest_keeps_its_speed(void)
{
	g_auto(FerryMigrationStatus) status = { 0 };
	Pair pair;

	set_up(&pair, TRUE, "tcp:127.0.0.1:0");
	CU_ASSERT(ferry_settings_set_parameter(ferry_vm_settings(pair.source->vm),
					       FERRY_PARAMETER_MAX_BANDWIDTH, 1 << 20, NULL));
	CU_ASSERT(ferry_settings_set_parameter(ferry_vm_settings(pair.source->vm),
					       FERRY_PARAMETER_AVAIL_SWITCHOVER_BANDWIDTH, 1 << 20,
					       NULL));
	rehearse(&pair, &status);
	CU_ASSERT_FALSE(status.rehearsal.converges);
	CU_ASSERT_EQUAL(status.rehearsal.total_seconds, 0);
	CU_ASSERT_EQUAL(status.throttle_percentage, 0);
	tear_down(&pair);
}

/* ---- what cannot be ---- */

static gboolean is_refused(MiniGuest *guest, const char *uri, guint seconds, FerryErrorCode code)
{
	g_autoptr(GError) error = NULL;

	return !ferry_source_rehearse(guest->source, uri, seconds, &error) &&
	       g_error_matches(error, FERRY_ERROR, (int)code) &&
	       ferry_source_state(guest->source) == FERRY_STATE_NONE;
}

static void rehearsal__of_what_cannot_be__is_refused_before_it_begins(void)
{
	MiniGuest *guest = mini_guest_new(&(MiniGuestConfig){ 0 });
	MiniGuest *still = mini_guest_new(&(MiniGuestConfig){ .no_dirty_source = TRUE });

	CU_ASSERT(is_refused(guest, "file:/tmp/x", 1, FERRY_ERROR_NOSUPP));
	CU_ASSERT(is_refused(guest, "exec:cat", 1, FERRY_ERROR_NOSUPP));
	CU_ASSERT(is_refused(guest, "fd:0", 1, FERRY_ERROR_NOSUPP));
	CU_ASSERT(is_refused(guest, "pigeon:home", 1, FERRY_ERROR_INVALID));
	CU_ASSERT(is_refused(guest, "tcp:127.0.0.1:1", 0, FERRY_ERROR_INVALID));
	CU_ASSERT(is_refused(guest, "tcp:127.0.0.1:1", 601, FERRY_ERROR_INVALID));
	CU_ASSERT(is_refused(still, "tcp:127.0.0.1:1", 1, FERRY_ERROR_NOSUPP));
	mini_guest_free(guest);
	mini_guest_free(still);
}

static void rehearsal__nobody_answers__fails_and_says_what_it_needs(void)
{
	g_auto(FerryMigrationStatus) status = { 0 };
	Pair pair;

	set_up(&pair, FALSE, "tcp:127.0.0.1:0");
	CU_ASSERT(ferry_settings_set_capability(ferry_vm_settings(pair.source->vm),
						FERRY_CAPABILITY_RETURN_PATH, FALSE, NULL));
	CU_ASSERT(ferry_source_rehearse(pair.source->source, pair.uri, 1, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_FAILED);
	status = status_of(&pair);
	CU_ASSERT_PTR_NOT_NULL(strstr(status.error_desc, "cannot rehearse"));
	CU_ASSERT_PTR_NOT_NULL(strstr(status.error_desc, "return-path"));
	CU_ASSERT_EQUAL(ferry_destination_state(pair.destination->destination), FERRY_STATE_SETUP);
	tear_down(&pair);
}

/* ---- a source that lies ---- */

#define LIAR_RAM (512u << 10)

/* The bytes of a whole migration, with the feature REHEARSAL in their HELLO. */
static GByteArray *record_liar(void)
{
	static const guint8 hello[] = { 0, 1, 1, 0, 0, 0, 0, 32, 0, 0, 0, 1 };
	GByteArray *stream = g_byte_array_new();
	MiniGuest *source = mini_guest_new(&(MiniGuestConfig){
		.ram_size = LIAR_RAM, .transports = recorder_transports(stream) });
	MiniGuest *destination = mini_guest_new(&(MiniGuestConfig){ .ram_size = LIAR_RAM });
	g_autofree char *uri = mini_guest_listen(destination, "tcp:127.0.0.1:0");
	g_autofree char *record = g_strconcat("record:", uri, NULL);
	guint8 *at;

	CU_ASSERT(ferry_vm_start(source->vm, NULL));
	CU_ASSERT(ferry_source_migrate(source->source, record, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(source->source), FERRY_STATE_COMPLETED);
	mini_guest_free(source);
	mini_guest_free(destination);
	at = memmem(stream->data, stream->len, hello, sizeof(hello));
	CU_ASSERT_PTR_NOT_NULL(at);
	if (at)
		ferry_store_be64(at + sizeof(hello), FERRY_FEATURE_REHEARSAL);
	return stream;
}

/* What a destination at @uri answers to @bytes. */
static GString *say(const char *uri, const GByteArray *bytes)
{
	FerryChannel *channel =
		ferry_transport_find(ferry_transports(), uri, NULL)->connect(uri, 5000, NULL, NULL);
	GString *answer = g_string_new(NULL);
	guint8 buffer[512];
	struct iovec iov = { buffer, sizeof(buffer) };
	gssize n;

	CU_ASSERT(ferry_channel_write_all(channel, bytes->data, bytes->len, NULL));
	while ((n = channel->ops->read(channel, &iov, 1, NULL)) > 0)
		g_string_append_len(answer, (const char *)buffer, n);
	ferry_channel_close(channel);
	return answer;
}

static void rehearsal__that_would_hand_the_guest_over__is_refused(void)
{
	g_autoptr(GByteArray) stream = record_liar();
	MiniGuest *guest = mini_guest_new(&(MiniGuestConfig){ .ram_size = LIAR_RAM });
	g_autofree char *uri = mini_guest_listen(guest, "tcp:127.0.0.1:0");
	GString *answer = say(uri, stream);

	CU_ASSERT_PTR_NOT_NULL(
		memmem(answer->str, answer->len, "hands the guest", strlen("hands the guest")));
	CU_ASSERT_EQUAL(ferry_destination_state(guest->destination), FERRY_STATE_SETUP);
	CU_ASSERT_FALSE(g_atomic_int_get(&guest->running));
	g_string_free(answer, TRUE);
	mini_guest_free(guest);
}

static CU_TestInfo cases[] = {
	CASE(rehearsal__by_tcp__the_next_moves),
	CASE(rehearsal__by_unix__the_next_moves),
	CASE(rehearsal__by_rdma_or_what_it_falls_back_to__the_next_moves),
	CASE(rehearsal__twice__both_come_to_their_end),
	CASE(rehearsal__idle_guest__converges_at_once),
	CASE(rehearsal__pages_become_zero_afterwards__are_zero_there),
	CASE(rehearsal__cancelled__has_no_result_and_the_next_moves),
	CASE(rehearsal__destination_goes_away__fails_and_the_guest_runs),
	CASE(rehearsal__postcopy_is_on__moves_nothing_either),
	CASE(rehearsal__with_xbzrle__the_next_moves),
	CASE(rehearsal__with_compress__the_next_moves),
	CASE(rehearsal__with_a_limit_that_nothing_converges_at__guest_keeps_its_speed),
	CASE(rehearsal__of_what_cannot_be__is_refused_before_it_begins),
	CASE(rehearsal__nobody_answers__fails_and_says_what_it_needs),
	CASE(rehearsal__that_would_hand_the_guest_over__is_refused),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "rehearsal", cases);
}
