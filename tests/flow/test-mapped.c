/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest saved into a file in which each page has its place, and loaded from it. */
#include "harness.h"
#include "mini-guest.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (1u << 20)

typedef struct {
	char *dir, *path, *uri;
	MiniGuest *source;
} Save;

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

/* Threads: 0 for a guest without multifd. */
static void set_up(MiniGuest *guest, guint threads)
{
	set(guest, FERRY_CAPABILITY_MAPPED_RAM, TRUE);
	set(guest, FERRY_CAPABILITY_VERIFY_RAM, TRUE);
	if (!threads)
		return;
	set(guest, FERRY_CAPABILITY_MULTIFD, TRUE);
	set_number(guest, FERRY_PARAMETER_MULTIFD_CHANNELS, threads);
}

static Save save_new(const MiniGuestConfig *config, guint threads)
{
	Save save = { .dir = g_dir_make_tmp("ferry-mapped-XXXXXX", NULL) };

	save.path = g_build_filename(save.dir, "guest", NULL);
	save.uri = g_strconcat("file:", save.path, NULL);
	save.source = mini_guest_new(config);
	set_up(save.source, threads);
	return save;
}

static void save_clear(Save *save)
{
	mini_guest_free(save->source);
	g_unlink(save->path);
	CU_ASSERT(g_rmdir(save->dir) == 0);
	g_free(save->dir);
	g_free(save->path);
	g_free(save->uri);
}

/* The end of a save: TRUE where it is completed and verified; else what it says is shown. */
static gboolean await_save(Save *save)
{
	FerryState state = ferry_source_wait(save->source->source);
	FerryMigrationStatus status;
	gboolean ok;

	ferry_source_get_status(save->source->source, &status);
	ok = state == FERRY_STATE_COMPLETED && status.verified == FERRY_VERIFIED_YES;
	if (!ok)
		printf("# %s: %s\n", ferry_state_name(state), status.error_desc);
	ferry_migration_status_clear(&status);
	return ok;
}

static gboolean do_save(Save *save, const char *uri)
{
	g_autoptr(GError) error = NULL;

	if (ferry_source_migrate(save->source->source, uri, &error))
		return await_save(save);
	printf("# %s: %s\n", uri, error->message);
	return FALSE;
}

/* The error of a migration that fails; the guest must run on. Free with g_free(). */
static char *failure(MiniGuest *guest)
{
	FerryMigrationStatus status;
	char *text;

	CU_ASSERT_EQUAL(ferry_source_wait(guest->source), FERRY_STATE_FAILED);
	CU_ASSERT(g_atomic_int_get(&guest->running));
	ferry_source_get_status(guest->source, &status);
	text = g_strdup(status.error_desc ? status.error_desc : "");
	printf("# %s\n", text);
	ferry_migration_status_clear(&status);
	return text;
}

/* Loads @uri into a fresh guest that stays stopped, and compares. */
static void check_load(const Save *save, const char *uri, guint threads, guint direct)
{
	MiniGuest *guest = mini_guest_new(&(MiniGuestConfig){ .write = TRUE });
	g_autofree char *listening = NULL;
	FerryMigrationStatus status;

	set_up(guest, threads);
	set_number(guest, FERRY_PARAMETER_DIRECT_IO, direct);
	listening = mini_guest_listen(guest, uri);
	ferry_vm_stop(guest->vm, NULL);
	CU_ASSERT_EQUAL(ferry_destination_wait(guest->destination), FERRY_STATE_COMPLETED);
	ferry_destination_get_status(guest->destination, &status);
	if (status.error_desc)
		printf("# %s\n", status.error_desc);
	ferry_migration_status_clear(&status);
	CU_ASSERT(mini_guest_same_ram(save->source, guest));
	CU_ASSERT(mini_guest_is_right(guest));
	mini_guest_free(guest);
}

static gboolean wrote(gpointer user)
{
	return *(volatile guint64 *)&((Save *)user)->source->state.counter > 1000;
}

static void begin(Save *save)
{
	start(save->source);
	CU_ASSERT(mini_guest_await(wrote, save, 10000));
}

/* ---- there and back ---- */

static void check_round_trip(guint threads, guint direct)
{
	Save save = save_new(&(MiniGuestConfig){ .write = TRUE }, threads);
	struct stat st;

	set_number(save.source, FERRY_PARAMETER_DIRECT_IO, direct);
	begin(&save);
	for (guint i = 0; i < 3; i++) {
		CU_ASSERT(do_save(&save, save.uri));
		check_load(&save, save.uri, threads, direct);
		start(save.source);
	}
	CU_ASSERT(stat(save.path, &st) == 0);
	CU_ASSERT(st.st_size < (off_t)save.source->size + 2 * (off_t)MIB);
	ferry_vm_stop(save.source->vm, NULL);
	save_clear(&save);
}

static void guest__saved_while_it_writes_and_loaded__ram_is_the_same(void)
{
	check_round_trip(0, 0);
}

static void guest__saved_by_one_thread_of_multifd__ram_is_the_same(void)
{
	check_round_trip(1, 0);
}

static void guest__saved_by_four_threads__ram_is_the_same(void)
{
	check_round_trip(4, 0);
}

static void guest__saved_by_sixteen_threads__ram_is_the_same(void)
{
	check_round_trip(16, 0);
}

/* Whether files of the temporary folder can be opened around the page cache. */
static gboolean has_direct_io(void)
{
	g_autofree char *path = g_build_filename(g_get_tmp_dir(), "ferry-direct-XXXXXX", NULL);
	int fd = g_mkstemp(path), direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);

	close(fd);
	g_unlink(path);
	if (direct >= 0)
		close(direct);
	return direct >= 0;
}

static void guest__saved_with_direct_io__ram_is_the_same(void)
{
	if (!has_direct_io())
		SKIP("no O_DIRECT in %s", g_get_tmp_dir());
	check_round_trip(0, 1);
	check_round_trip(4, 1);
}

/* The loader's other way: memory without a file. */
static void guest__loaded_into_anonymous_memory__ram_is_the_same(void)
{
	Save save = save_new(&(MiniGuestConfig){ .write = TRUE }, 0);
	MiniGuest *guest = mini_guest_new(&(MiniGuestConfig){ .anonymous = TRUE });
	g_autofree char *listening = NULL;

	begin(&save);
	CU_ASSERT(do_save(&save, save.uri));
	set_up(guest, 4);
	listening = mini_guest_listen(guest, save.uri);
	CU_ASSERT_EQUAL(ferry_destination_wait(guest->destination), FERRY_STATE_COMPLETED);
	CU_ASSERT(mini_guest_same_ram(save.source, guest));
	mini_guest_free(guest);
	save_clear(&save);
}

/* A page that was there in an early round, and is zero in the end, is not there; a destination
 * whose memory is not fresh gets zeros all the same. */
static void page__zero_in_the_end__is_zero_where_memory_was_used(void)
{
	Save save = save_new(&(MiniGuestConfig){ 0 }, 0);
	MiniGuest *guest = mini_guest_new(&(MiniGuestConfig){ 0 });
	g_autofree char *listening = NULL;

	memset(save.source->ram + MIB, 0x5a, MIB);
	memset(guest->ram, 0xa5, guest->size);
	start(save.source);
	CU_ASSERT(do_save(&save, save.uri));
	set_up(guest, 2);
	listening = mini_guest_listen(guest, save.uri);
	CU_ASSERT_EQUAL(ferry_destination_wait(guest->destination), FERRY_STATE_COMPLETED);
	CU_ASSERT(mini_guest_same_ram(save.source, guest));
	mini_guest_free(guest);
	save_clear(&save);
}

static void file__offset_given__what_lies_before_it_stays(void)
{
	static const char *const suffixes[] = { ",offset=5000", ",offset=0x3000", ",offset=3M" };
	Save save = save_new(&(MiniGuestConfig){ .write = TRUE }, 2);

	begin(&save);
	for (guint i = 0; i < G_N_ELEMENTS(suffixes); i++) {
		g_autofree char *uri = g_strconcat(save.uri, suffixes[i], NULL), *head = NULL;
		gsize len;

		CU_ASSERT(g_file_set_contents(save.path, "a header that is not ours", -1, NULL));
		CU_ASSERT(do_save(&save, uri));
		CU_ASSERT(g_file_get_contents(save.path, &head, &len, NULL));
		CU_ASSERT(len > 5000 && memcmp(head, "a header that is not ours", 26) == 0);
		check_load(&save, uri, 2, 0);
		start(save.source);
	}
	ferry_vm_stop(save.source->vm, NULL);
	save_clear(&save);
}

static void file__offset_is_no_number__is_refused(void)
{
	static const char *const wrong[] = { ",offset=",
					     ",offset=-1",
					     ",offset=3X",
					     ",offset=3MM",
					     ",offset=99999999999999999999",
					     ",offset=9000000T" };
	Save save = save_new(&(MiniGuestConfig){ 0 }, 0);

	start(save.source);
	for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
		g_autofree char *uri = g_strconcat(save.uri, wrong[i], NULL), *text = NULL;

		CU_ASSERT(ferry_source_migrate(save.source->source, uri, NULL));
		text = failure(save.source);
		CU_ASSERT_PTR_NOT_NULL(strstr(text, "offset"));
	}
	save_clear(&save);
}

/* ---- what cannot be ---- */

static void file__limit_on_its_size__guest_runs_on(void)
{
	Save save = save_new(&(MiniGuestConfig){ 0 }, 4);
	struct rlimit before, small;
	g_autofree char *text = NULL;

	memset(save.source->ram, 0x5a, save.source->size);
	start(save.source);
	getrlimit(RLIMIT_FSIZE, &before);
	small = before;
	small.rlim_cur = 4 * MIB;
	CU_ASSERT(setrlimit(RLIMIT_FSIZE, &small) == 0);
	CU_ASSERT(ferry_source_migrate(save.source->source, save.uri, NULL));
	text = failure(save.source);
	CU_ASSERT(setrlimit(RLIMIT_FSIZE, &before) == 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "RLIMIT_FSIZE"));
	/* Nothing that looks complete is left. */
	CU_ASSERT_FALSE(g_file_test(save.path, G_FILE_TEST_EXISTS));
	CU_ASSERT(do_save(&save, save.uri));
	save_clear(&save);
}

static gboolean is_active(gpointer user)
{
	return ferry_source_state(((Save *)user)->source->source) == FERRY_STATE_ACTIVE;
}

/* The first write that does not fit is one of pages. */
static void file_system__full__guest_runs_on(void)
{
	Save save = save_new(&(MiniGuestConfig){ 0 }, 4);
	g_autofree char *small = g_build_filename(save.dir, "small", NULL), *uri = NULL;
	g_autofree char *text = NULL;

	CU_ASSERT(g_mkdir(small, 0700) == 0);
	if (mount("none", small, "tmpfs", 0, "size=8m") < 0) {
		g_rmdir(small);
		save_clear(&save);
		SKIP("cannot mount a small file system: %s", g_strerror(errno));
	}
	uri = g_strdup_printf("file:%s/guest", small);
	memset(save.source->ram, 0x5a, save.source->size);
	start(save.source);
	CU_ASSERT(ferry_source_migrate(save.source->source, uri, NULL));
	text = failure(save.source);
	CU_ASSERT(strstr(text, "cannot write at offset 0x") && strstr(text, "room"));
	/* Nothing is left there: it can be unmounted, and is empty. */
	CU_ASSERT(umount(small) == 0);
	CU_ASSERT(g_rmdir(small) == 0);
	save_clear(&save);
}

static void save__cancelled_in_mid_round__guest_runs_on_and_no_file_is_left(void)
{
	Save save = save_new(&(MiniGuestConfig){ .ram_size = 64 * MIB }, 4);

	memset(save.source->ram, 0x5a, save.source->size);
	start(save.source);
	set_number(save.source, FERRY_PARAMETER_MAX_BANDWIDTH, 8 * MIB);
	CU_ASSERT(ferry_source_migrate(save.source->source, save.uri, NULL));
	CU_ASSERT(mini_guest_await(is_active, &save, 10000));
	ferry_source_cancel(save.source->source);
	CU_ASSERT_EQUAL(ferry_source_wait(save.source->source), FERRY_STATE_CANCELLED);
	CU_ASSERT(g_atomic_int_get(&save.source->running));
	CU_ASSERT_FALSE(g_file_test(save.path, G_FILE_TEST_EXISTS));
	save_clear(&save);
}

static void transport__without_places__is_refused_at_once(void)
{
	static const char *const uris[] = { "tcp:127.0.0.1:1", "unix:/nonexistent", "exec:true",
					    "fd:0", "rdma:127.0.0.1:1" };
	Save save = save_new(&(MiniGuestConfig){ 0 }, 0);

	start(save.source);
	for (guint i = 0; i < G_N_ELEMENTS(uris); i++) {
		g_autoptr(GError) error = NULL, other = NULL;

		CU_ASSERT_FALSE(ferry_source_migrate(save.source->source, uris[i], &error));
		CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID));
		CU_ASSERT(error && strstr(error->message, "mapped-ram"));
		CU_ASSERT_FALSE(ferry_destination_start(save.source->destination, uris[i], &other));
		CU_ASSERT(other && strstr(other->message, "mapped-ram"));
	}
	save_clear(&save);
}

static void transport__is_a_fifo_after_all__is_refused(void)
{
	Save save = save_new(&(MiniGuestConfig){ 0 }, 0);
	g_autofree char *text = NULL;
	int fd;

	CU_ASSERT(mkfifo(save.path, 0600) == 0);
	fd = open(save.path, O_RDWR | O_CLOEXEC);
	start(save.source);
	CU_ASSERT(ferry_source_migrate(save.source->source, save.uri, NULL));
	text = failure(save.source);
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "mapped-ram"));
	close(fd);
	save_clear(&save);
}

/* What a load says that must fail. Free with g_free(). */
static char *load_failure(const char *uri, gboolean mapped, guint threads)
{
	MiniGuest *guest = mini_guest_new(&(MiniGuestConfig){ 0 });
	g_autofree char *listening = NULL;
	FerryMigrationStatus status;
	char *text;

	if (mapped)
		set_up(guest, threads);
	listening = mini_guest_listen(guest, uri);
	CU_ASSERT_EQUAL(ferry_destination_wait(guest->destination), FERRY_STATE_FAILED);
	ferry_destination_get_status(guest->destination, &status);
	text = g_strdup(status.error_desc ? status.error_desc : "");
	printf("# %s\n", text);
	ferry_migration_status_clear(&status);
	mini_guest_free(guest);
	return text;
}

static void load__capability_on_one_side_only__both_ways_are_refused(void)
{
	Save save = save_new(&(MiniGuestConfig){ 0 }, 0);
	g_autofree char *with = NULL, *without = NULL;

	start(save.source);
	CU_ASSERT(do_save(&save, save.uri));
	with = load_failure(save.uri, FALSE, 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(with, "'mapped-ram' is on at the source, and off"));
	set(save.source, FERRY_CAPABILITY_MAPPED_RAM, FALSE);
	start(save.source);
	CU_ASSERT(do_save(&save, save.uri));
	without = load_failure(save.uri, TRUE, 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(without, "'mapped-ram' is off at the source, and on"));
	save_clear(&save);
}

static void load__file_cut_anywhere__is_refused(void)
{
	Save save = save_new(&(MiniGuestConfig){ 0 }, 0);
	struct stat st;

	memset(save.source->ram, 0x5a, save.source->size);
	start(save.source);
	CU_ASSERT(do_save(&save, save.uri));
	CU_ASSERT(stat(save.path, &st) == 0);
	/* Behind the pages, among them, at their begin, and in the header. */
	for (guint i = 0; i < 5; i++) {
		const off_t ends[] = { st.st_size - 1, st.st_size - 2000, 9 * MIB, MIB, 60 };
		g_autofree char *text = NULL;

		CU_ASSERT(truncate(save.path, ends[i]) == 0);
		text = load_failure(save.uri, TRUE, 3);
		CU_ASSERT_PTR_NOT_NULL(strstr(text, "offset"));
	}
	save_clear(&save);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(guest__saved_while_it_writes_and_loaded__ram_is_the_same),
		CASE(guest__saved_by_one_thread_of_multifd__ram_is_the_same),
		CASE(guest__saved_by_four_threads__ram_is_the_same),
		CASE(guest__saved_by_sixteen_threads__ram_is_the_same),
		CASE(guest__saved_with_direct_io__ram_is_the_same),
		CASE(guest__loaded_into_anonymous_memory__ram_is_the_same),
		CASE(page__zero_in_the_end__is_zero_where_memory_was_used),
		CASE(file__offset_given__what_lies_before_it_stays),
		CASE(file__offset_is_no_number__is_refused),
		CASE(file__limit_on_its_size__guest_runs_on),
		CASE(file_system__full__guest_runs_on),
		CASE(save__cancelled_in_mid_round__guest_runs_on_and_no_file_is_left),
		CASE(transport__without_places__is_refused_at_once),
		CASE(transport__is_a_fifo_after_all__is_refused),
		CASE(load__capability_on_one_side_only__both_ways_are_refused),
		CASE(load__file_cut_anywhere__is_refused),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "mapped", cases);
}
