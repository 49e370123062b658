/* SPDX-License-Identifier: BSD-2-Clause */
/* What both sides must have the same before a guest moves: RAM in a file that both map
 * (x-ignore-shared), and its UUID. */
#include "harness.h"
#include "mini-guest.h"

#include <glib/gstdio.h>
#include <unistd.h>

#define MIB (1u << 20)

typedef struct {
	char *dir, *path; /* of the RAM's file */
	MiniGuest *source, *destination;
} Pair;

static void set(MiniGuest *guest, FerryCapability capability, gboolean on)
{
	if (!ferry_settings_set_capability(ferry_vm_settings(guest->vm), capability, on, NULL))
		g_assert_not_reached();
}

/* Each side's own addresses; without @shared the destination has memory of its own. */
static Pair pair_new(guint64 source_address, guint64 destination_address, gboolean shared)
{
	Pair pair = { .dir = g_dir_make_tmp("ferry-shared-XXXXXX", NULL) };
	MiniGuestConfig config = { .write = TRUE, .guest_address = source_address };

	/* A file system in memory: others cannot always be write-protected. */
	pair.path = g_strdup_printf("/dev/shm/ferry-shared-%d", getpid());
	config.file = pair.path;
	mini_guest_most_running();
	pair.source = mini_guest_new(&config);
	config.guest_address = destination_address;
	config.file = shared ? pair.path : NULL;
	pair.destination = mini_guest_new(&config);
	set(pair.source, FERRY_CAPABILITY_X_IGNORE_SHARED, TRUE);
	set(pair.destination, FERRY_CAPABILITY_X_IGNORE_SHARED, TRUE);
	return pair;
}

static void pair_free(Pair *pair)
{
	mini_guest_free(pair->source);
	mini_guest_free(pair->destination);
	g_unlink(pair->path);
	g_rmdir(pair->dir);
	g_free(pair->dir);
	g_free(pair->path);
}

static gboolean wrote(gpointer user)
{
	return *(volatile guint64 *)&((MiniGuest *)user)->state.counter > 1000;
}

static void begin(Pair *pair)
{
	CU_ASSERT(ferry_vm_start(pair->source->vm, NULL));
	CU_ASSERT(mini_guest_await(wrote, pair->source, 10000));
}

/* The guest moves, and what went is less than @most bytes. */
static void check_moves(Pair *pair, const char *listen, guint64 most)
{
	g_autofree char *uri = mini_guest_listen(pair->destination, listen);
	g_autoptr(GError) error = NULL;
	FerryMigrationStatus status;

	CU_ASSERT(ferry_source_migrate(pair->source->source, uri, &error));
	CU_ASSERT_EQUAL(ferry_source_wait(pair->source->source), FERRY_STATE_COMPLETED);
	ferry_source_get_status(pair->source->source, &status);
	printf("# %" G_GUINT64_FORMAT " bytes, %s\n", status.wire_bytes,
	       status.error_desc ? status.error_desc : "well");
	CU_ASSERT(status.wire_bytes < most);
	CU_ASSERT_EQUAL(status.ram.normal + status.ram.duplicate, 0);
	ferry_migration_status_clear(&status);
	CU_ASSERT_EQUAL(ferry_destination_wait(pair->destination->destination),
			FERRY_STATE_COMPLETED);
	CU_ASSERT(mini_guest_await(wrote, pair->destination, 10000));
	CU_ASSERT(ferry_vm_stop(pair->destination->vm, NULL));
	CU_ASSERT(mini_guest_is_right(pair->destination));
	CU_ASSERT(mini_guest_most_running() == 1);
}

static gboolean has_said(gpointer user)
{
	FerryMigrationStatus status;
	gboolean said;

	ferry_destination_get_status(((MiniGuest *)user)->destination, &status);
	said = status.error_desc != NULL;
	ferry_migration_status_clear(&status);
	return said;
}

/* It fails before the first page; both sides say @what (the destination's may be NULL: it only
 * sees the source leave), and the guest runs on. */
static void check_refused(Pair *pair, const char *what, gboolean destination_says)
{
	g_autofree char *uri = mini_guest_listen(pair->destination, "tcp:127.0.0.1:0");
	FerryMigrationStatus status;

	CU_ASSERT(ferry_source_migrate(pair->source->source, uri, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(pair->source->source), FERRY_STATE_FAILED);
	ferry_source_get_status(pair->source->source, &status);
	printf("# source: %s\n", status.error_desc);
	CU_ASSERT(status.error_desc && strstr(status.error_desc, what));
	CU_ASSERT_EQUAL(status.ram.normal + status.ram.duplicate, 0);
	ferry_migration_status_clear(&status);
	CU_ASSERT(g_atomic_int_get(&pair->source->running));
	/* It says it after it told the source. */
	CU_ASSERT(!destination_says || mini_guest_await(has_said, pair->destination, 10000));
	ferry_destination_get_status(pair->destination->destination, &status);
	printf("# destination: %s\n", status.error_desc);
	CU_ASSERT(!destination_says || (status.error_desc && strstr(status.error_desc, what)));
	ferry_migration_status_clear(&status);
}

/* ---- x-ignore-shared ---- */

static void guest__ram_in_a_shared_file__moves_without_a_page(void)
{
	Pair pair = pair_new(0x100000, 0x100000, TRUE);

	begin(&pair);
	check_moves(&pair, "tcp:127.0.0.1:0", 4 * MIB);
	pair_free(&pair);
}

static void guest__ram_in_a_shared_file_and_verify_ram__moves_without_a_page(void)
{
	Pair pair = pair_new(0, 0, TRUE);

	set(pair.source, FERRY_CAPABILITY_VERIFY_RAM, TRUE);
	begin(&pair);
	check_moves(&pair, "tcp:127.0.0.1:0", 4 * MIB);
	pair_free(&pair);
}

static void guest__ram_in_a_shared_file__moves_beside_the_channel(void)
{
	Pair pair = pair_new(0, 0, TRUE);

	begin(&pair);
	check_moves(&pair, "rdma:127.0.0.1:0", 4 * MIB);
	pair_free(&pair);
}

/* Through a one-way stream: a file that holds no page. */
static void guest__ram_in_a_shared_file_saved_with_mapped_ram__loads(void)
{
	Pair pair = pair_new(0, 0, TRUE);
	g_autofree char *path = g_build_filename(pair.dir, "guest", NULL);
	g_autofree char *uri = g_strconcat("file:", path, NULL), *listening = NULL;

	set(pair.source, FERRY_CAPABILITY_MAPPED_RAM, TRUE);
	set(pair.destination, FERRY_CAPABILITY_MAPPED_RAM, TRUE);
	set(pair.source, FERRY_CAPABILITY_VERIFY_RAM, TRUE);
	begin(&pair);
	CU_ASSERT(ferry_source_migrate(pair.source->source, uri, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_COMPLETED);
	listening = mini_guest_listen(pair.destination, uri);
	CU_ASSERT_EQUAL(ferry_destination_wait(pair.destination->destination),
			FERRY_STATE_COMPLETED);
	CU_ASSERT(ferry_vm_stop(pair.destination->vm, NULL));
	CU_ASSERT(mini_guest_is_right(pair.destination));
	g_unlink(path);
	pair_free(&pair);
}

static void capability__on_at_one_side_only__both_sides_say_so(void)
{
	for (guint i = 0; i < 2; i++) {
		Pair pair = pair_new(0, 0, TRUE);

		set(i ? pair.source : pair.destination, FERRY_CAPABILITY_X_IGNORE_SHARED, FALSE);
		begin(&pair);
		check_refused(&pair,
			      i ? "'x-ignore-shared' is off at the source, and on"
				: "'x-ignore-shared' is on at the source, and off",
			      TRUE);
		pair_free(&pair);
	}
}

static void block__at_another_address__both_sides_say_so(void)
{
	Pair pair = pair_new(0x100000, 0x200000, TRUE);

	begin(&pair);
	check_refused(&pair, "at guest address 0x100000 at the source, at 0x200000", TRUE);
	pair_free(&pair);
}

static void block__shared_at_the_source_only__source_refuses(void)
{
	Pair pair = pair_new(0, 0, FALSE);

	begin(&pair);
	check_refused(&pair, "4096 pages are in files here that both sides share, 0", FALSE);
	pair_free(&pair);
}

static void shared__of_a_block_without_a_file__is_refused(void)
{
	g_autoptr(FerryRam) ram = ferry_ram_new();
	g_autoptr(GError) error = NULL, unknown = NULL;

	CU_ASSERT(
		ferry_ram_add(ram, "a", GSIZE_TO_POINTER(MIB), MIB, FERRY_PAGE_SIZE, -1, 0, NULL));
	CU_ASSERT_FALSE(ferry_ram_set_shared(ram, "a", 0, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID));
	CU_ASSERT_FALSE(ferry_ram_set_shared(ram, "b", 0, &unknown));
	CU_ASSERT(g_error_matches(unknown, FERRY_ERROR, FERRY_ERROR_INVALID));
}

static gboolean waits(gpointer user)
{
	return ferry_source_state(((MiniGuest *)user)->source) == FERRY_STATE_PRE_SWITCHOVER;
}

/* While the source still has the guest, nothing at the destination writes the file. */
static void migration__cancelled__source_runs_on_with_its_ram(void)
{
	Pair pair = pair_new(0, 0, TRUE);
	g_autofree char *uri = NULL;

	set(pair.source, FERRY_CAPABILITY_PAUSE_BEFORE_SWITCHOVER, TRUE);
	begin(&pair);
	uri = mini_guest_listen(pair.destination, "tcp:127.0.0.1:0");
	CU_ASSERT(ferry_source_migrate(pair.source->source, uri, NULL));
	CU_ASSERT(mini_guest_await(waits, pair.source, 10000));
	ferry_source_cancel(pair.source->source);
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_CANCELLED);
	CU_ASSERT(g_atomic_int_get(&pair.source->running));
	CU_ASSERT(ferry_vm_stop(pair.source->vm, NULL));
	CU_ASSERT(mini_guest_is_right(pair.source));
	pair_free(&pair);
}

/* ---- validate-uuid ---- */

static const guint8 one[16] = { 0x6c, 0x9b, 0x9d, 0x1e, 0x0c, 0x4f, 0x4a, 0x8e,
				0x9a, 0x37, 0x2f, 0x1b, 0x0e, 0x5d, 0x7c, 0x43 };
static const guint8 other[16] = { 1 };

/* @source and @destination may be NULL; @on: at the source. */
static void check_uuid(const guint8 *source, const guint8 *destination, gboolean on, gboolean moves)
{
	Pair pair = { .source = mini_guest_new(&(MiniGuestConfig){ 0 }),
		      .destination = mini_guest_new(&(MiniGuestConfig){ 0 }) };
	g_autofree char *uri = NULL;

	set(pair.source, FERRY_CAPABILITY_VALIDATE_UUID, on);
	ferry_vm_set_uuid(pair.source->vm, source);
	ferry_vm_set_uuid(pair.destination->vm, destination);
	CU_ASSERT(ferry_vm_start(pair.source->vm, NULL));
	if (moves) {
		uri = mini_guest_listen(pair.destination, "tcp:127.0.0.1:0");
		CU_ASSERT(ferry_source_migrate(pair.source->source, uri, NULL));
		CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_COMPLETED);
	} else {
		check_refused(&pair,
			      "6c9b9d1e-0c4f-4a8e-9a37-2f1b0e5d7c43, the destination is for "
			      "01000000-0000-0000-0000-000000000000",
			      TRUE);
	}
	mini_guest_free(pair.source);
	mini_guest_free(pair.destination);
}

static void uuid__the_same__guest_moves(void)
{
	check_uuid(one, one, TRUE, TRUE);
}

static void uuid__another__both_sides_name_both(void)
{
	check_uuid(one, other, TRUE, FALSE);
}

static void uuid__of_one_side_only__guest_moves(void)
{
	check_uuid(one, NULL, TRUE, TRUE);
	check_uuid(NULL, other, TRUE, TRUE);
	check_uuid(NULL, NULL, TRUE, TRUE);
}

static void uuid__another_but_nobody_asked__guest_moves(void)
{
	check_uuid(one, other, FALSE, TRUE);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(guest__ram_in_a_shared_file__moves_without_a_page),
		CASE(guest__ram_in_a_shared_file_and_verify_ram__moves_without_a_page),
		CASE(guest__ram_in_a_shared_file__moves_beside_the_channel),
		CASE(guest__ram_in_a_shared_file_saved_with_mapped_ram__loads),
		CASE(capability__on_at_one_side_only__both_sides_say_so),
		CASE(block__at_another_address__both_sides_say_so),
		CASE(block__shared_at_the_source_only__source_refuses),
		CASE(shared__of_a_block_without_a_file__is_refused),
		CASE(migration__cancelled__source_runs_on_with_its_ram),
		CASE(uuid__the_same__guest_moves),
		CASE(uuid__another__both_sides_name_both),
		CASE(uuid__of_one_side_only__guest_moves),
		CASE(uuid__another_but_nobody_asked__guest_moves),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "shared", cases);
}
