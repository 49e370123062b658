/* SPDX-License-Identifier: BSD-2-Clause */
/* The reference guests whole, as the command line uses them: guest.h and the public API alone. */
#include <ferry/destination.h>
#include <ferry/source.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/guest.h"
#include "harness.h"

#define RAM (16u << 20)

static FerryGuest *new_guest(const FerryGuestConfig *config)
{
	g_autoptr(GError) error = NULL;
	FerryGuest *guest = ferry_guest_new(config, &error);

	CU_ASSERT_PTR_NOT_NULL(guest);
	if (!guest)
		printf("# %s\n", error->message);
	return guest;
}

/* Why two guests of this kind cannot be had here; NULL if they can. */
static char *lacking(FerryGuestKind kind, const char *backing, const char *dirty_source)
{
	const FerryGuestConfig config = { .ram_size = RAM,
					  .kind = kind,
					  .backing = backing,
					  .dirty_source = dirty_source,
					  .incoming = TRUE };
	g_autoptr(GError) error = NULL;
	g_autoptr(FerryGuest) one = ferry_guest_new(&config, &error);
	g_autoptr(FerryGuest) other = one ? ferry_guest_new(&config, &error) : NULL;

	if (other || !g_error_matches(error, FERRY_ERROR, FERRY_ERROR_NOSUPP))
		return NULL;
	return g_strdup(error->message);
}

#define NEED(kind, backing, dirty_source)                                                          \
	do {                                                                                       \
		g_autofree char *why = lacking(kind, backing, dirty_source);                       \
		if (why)                                                                           \
			SKIP("%s", why);                                                           \
	} while (0)

static void start(FerryGuest *guest)
{
	CU_ASSERT_TRUE(ferry_vm_start(ferry_guest_vm(guest), NULL));
}

static FerryGuestReport check(FerryGuest *guest)
{
	FerryGuestReport report = { 0 };

	CU_ASSERT_TRUE(ferry_guest_check(guest, &report, NULL));
	CU_ASSERT_TRUE(report.passed);
	for (guint i = 0; i < report.n_findings; i++)
		printf("# %s\n", report.findings[i]);
	return report;
}

/* Until the guest wrote @pages since it was made; FALSE after ten seconds. */
static gboolean await_written(FerryGuest *guest, guint64 pages)
{
	const gint64 deadline = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

	while (check(guest).written < pages) {
		if (g_get_monotonic_time() > deadline)
			return FALSE;
		g_usleep(2000);
	}
	return TRUE;
}

/* ---- making one ---- */

static void guest__wrong_setting__refused(void)
{
	const FerryGuestConfig bad[] = {
		{ .ram_size = 0, .kind = FERRY_GUEST_PROCESS },
		{ .ram_size = RAM + 1, .kind = FERRY_GUEST_PROCESS },
		{ .ram_size = RAM, .kind = FERRY_GUEST_PROCESS, .vcpus = 9 },
		{ .ram_size = RAM, .kind = FERRY_GUEST_PROCESS, .workload = "busy" },
		{ .ram_size = RAM, .kind = FERRY_GUEST_PROCESS, .workload = "hotset:1G" },
		{ .ram_size = RAM, .kind = FERRY_GUEST_PROCESS, .dirty_source = "kvm-log" },
		{ .ram_size = RAM, .kind = FERRY_GUEST_PROCESS, .dirty_source = "guess" },
		{ .ram_size = RAM, .kind = FERRY_GUEST_PROCESS, .fill = 9 },
	};

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;

		CU_ASSERT_PTR_NULL(ferry_guest_new(&bad[i], &error));
		CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID));
	}
}

static void guest__kind_left_open__says_which_and_why(void)
{
	g_autofree char *no_kvm = lacking(FERRY_GUEST_KVM, NULL, NULL);
	g_autoptr(FerryGuest) guest = new_guest(&(FerryGuestConfig){ .ram_size = RAM });
	const char *reason = guest ? ferry_guest_kind_reason(guest) : "";

	if (!no_kvm)
		CU_ASSERT_STRING_EQUAL(reason, "KVM guest");
	if (no_kvm)
		CU_ASSERT_TRUE(g_str_has_prefix(reason, "process guest: /dev/kvm"));
}

static void guest__file_backing__extended_and_kept(void)
{
	g_autofree char *dir = g_dir_make_tmp("ferry-guest-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(dir, "ram", NULL);
	g_autoptr(FerryGuest) guest = new_guest(&(FerryGuestConfig){
		.ram_size = RAM, .kind = FERRY_GUEST_PROCESS, .backing = path });
	struct stat st = { 0 };

	CU_ASSERT_EQUAL(stat(path, &st), 0);
	CU_ASSERT_EQUAL(st.st_size, RAM);
	if (guest)
		check(guest);
	g_unlink(path);
	g_rmdir(dir);
}

static void guest__incoming__touches_no_ram(void)
{
	static const FerryGuestKind kinds[] = { FERRY_GUEST_PROCESS, FERRY_GUEST_KVM };

	for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
		g_autofree char *why = lacking(kinds[i], NULL, NULL);
		g_autoptr(FerryGuest) guest = NULL;
		g_autoptr(GError) error = NULL;
		FerryGuestReport report;
		struct stat st = { 0 };

		if (why)
			continue;
		guest = new_guest(
			&(FerryGuestConfig){ .ram_size = RAM, .kind = kinds[i], .incoming = TRUE });
		if (!guest)
			return;
		CU_ASSERT_EQUAL(fstat(ferry_vm_ram(ferry_guest_vm(guest))->blocks[0].fd, &st), 0);
		CU_ASSERT_EQUAL(st.st_blocks, 0);
		CU_ASSERT_FALSE(ferry_guest_check(guest, &report, &error));
		CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_STATE));
		CU_ASSERT_FALSE(ferry_vm_start(ferry_guest_vm(guest), NULL));
	}
}

static void guest__preallocated__has_memory_behind_every_page_and_keeps_its_content(void)
{
	g_autofree char *dir = g_dir_make_tmp("ferry-guest-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(dir, "ram", NULL);
	g_autofree char *content = g_strnfill(RAM, 'x');
	FerryGuestConfig config = {
		.ram_size = RAM, .kind = FERRY_GUEST_PROCESS, .incoming = TRUE, .prealloc = TRUE
	};
	g_autoptr(FerryGuest) fresh = new_guest(&config), kept = NULL;
	struct stat st = { 0 };

	if (!fresh)
		return;
	CU_ASSERT_EQUAL(fstat(ferry_vm_ram(ferry_guest_vm(fresh))->blocks[0].fd, &st), 0);
	CU_ASSERT_EQUAL(st.st_blocks, RAM / 512);
	CU_ASSERT_FALSE(
		ferry_ram_block_is_filled_by_file(&ferry_vm_ram(ferry_guest_vm(fresh))->blocks[0]));
	CU_ASSERT_TRUE(g_file_set_contents(path, content, RAM, NULL));
	config.backing = path;
	kept = new_guest(&config);
	if (kept)
		CU_ASSERT_EQUAL(
			memcmp(ferry_vm_ram(ferry_guest_vm(kept))->blocks[0].host, content, RAM),
			0);
	g_unlink(path);
	g_rmdir(dir);
}

static void check__guest_running__runs_on(void)
{
	g_autoptr(FerryGuest) guest = new_guest(
		&(FerryGuestConfig){ .ram_size = RAM, .workload = "random", .vcpus = 2 });

	if (!guest)
		return;
	start(guest);
	CU_ASSERT_TRUE(await_written(guest, 100));
	CU_ASSERT_TRUE(await_written(guest, check(guest).written + 100));
	CU_ASSERT_TRUE(ferry_vm_is_running(ferry_guest_vm(guest)));
}

/* ---- moving ---- */

/* A guest on each side of a socket; they change roles with each move. */
typedef struct {
	FerryGuest *guest;
	FerrySource *source;
	FerryDestination *destination;
} Host;

static gboolean host_init(Host *host, const FerryGuestConfig *config)
{
	*host = (Host){ .guest = new_guest(config) };
	if (!host->guest)
		return FALSE;
	host->source = ferry_source_new(ferry_guest_vm(host->guest), ferry_transports());
	host->destination = ferry_destination_new(ferry_guest_vm(host->guest), ferry_transports());
	return ferry_settings_set_capability(ferry_vm_settings(ferry_guest_vm(host->guest)),
					     FERRY_CAPABILITY_VERIFY_RAM, TRUE, NULL);
}

static void host_clear(Host *host)
{
	g_clear_pointer(&host->source, ferry_source_free);
	g_clear_pointer(&host->destination, ferry_destination_free);
	g_clear_pointer(&host->guest, ferry_guest_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Host, host_clear)

static gboolean move(Host *from, Host *to)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *uri = NULL;
	g_auto(FerryMigrationStatus) status = { 0 };

	if (!ferry_destination_start(to->destination, "tcp:127.0.0.1:0", &error)) {
		printf("# %s\n", error->message);
		return FALSE;
	}
	uri = ferry_destination_uri(to->destination);
	if (!ferry_source_migrate(from->source, uri, &error)) {
		printf("# %s\n", error->message);
		return FALSE;
	}
	if (ferry_source_wait(from->source) == FERRY_STATE_COMPLETED)
		return ferry_destination_wait(to->destination) == FERRY_STATE_COMPLETED;
	ferry_source_get_status(from->source, &status);
	printf("# %s: %s\n", ferry_state_name(status.state), status.error_desc);
	return FALSE;
}

/* Moves a guest @times to and fro while it runs, and checks it after each move. */
static void to_and_fro(FerryGuestKind kind, const char *backing, const char *dirty, guint times)
{
	FerryGuestConfig config = { .ram_size = RAM,
				    .kind = kind,
				    .backing = backing,
				    .dirty_source = dirty,
				    .workload = "random:50",
				    .vcpus = 2,
				    .seed = 9 };
	g_auto(Host) a = { 0 }, b = { 0 };
	guint64 written = 0, heartbeat = 0;

	if (!host_init(&a, &config))
		return;
	config = (FerryGuestConfig){ .ram_size = RAM,
				     .kind = kind,
				     .backing = backing,
				     .dirty_source = dirty,
				     .incoming = TRUE };
	if (!host_init(&b, &config))
		return;
	start(a.guest);
	for (guint i = 0; i < times; i++) {
		Host *from = i % 2 ? &b : &a, *to = i % 2 ? &a : &b;
		FerryGuestReport report;

		CU_ASSERT_TRUE(await_written(from->guest, written + 200));
		if (!move(from, to)) {
			CU_FAIL("the guest did not move");
			return;
		}
		report = check(to->guest);
		CU_ASSERT_TRUE(report.written >= written + 200 && report.heartbeat > heartbeat);
		written = report.written;
		heartbeat = report.heartbeat;
	}
}

static void move__process_guest__checks_at_every_stop(void)
{
	NEED(FERRY_GUEST_PROCESS, NULL, NULL);
	to_and_fro(FERRY_GUEST_PROCESS, NULL, NULL, 6);
}

static void move__process_guest_anonymous__checks_at_every_stop(void)
{
	NEED(FERRY_GUEST_PROCESS, "anon", NULL);
	to_and_fro(FERRY_GUEST_PROCESS, "anon", NULL, 2);
}

static void move__process_guest_of_huge_pages__checks_at_every_stop(void)
{
	NEED(FERRY_GUEST_PROCESS, "hugetlb", NULL);
	to_and_fro(FERRY_GUEST_PROCESS, "hugetlb", NULL, 2);
}

static void move__kvm_guest__checks_at_every_stop(void)
{
	NEED(FERRY_GUEST_KVM, NULL, NULL);
	to_and_fro(FERRY_GUEST_KVM, NULL, NULL, 6);
}

static void move__kvm_guest_under_wp_async__checks_at_every_stop(void)
{
	NEED(FERRY_GUEST_KVM, NULL, "wp-async");
	to_and_fro(FERRY_GUEST_KVM, NULL, "wp-async", 2);
}

static void move__process_guest_under_soft_dirty__checks_at_every_stop(void)
{
	NEED(FERRY_GUEST_PROCESS, NULL, "soft-dirty");
	to_and_fro(FERRY_GUEST_PROCESS, NULL, "soft-dirty", 4);
}

static void move__kvm_guest_under_soft_dirty__checks_at_every_stop(void)
{
	NEED(FERRY_GUEST_KVM, NULL, "soft-dirty");
	to_and_fro(FERRY_GUEST_KVM, NULL, "soft-dirty", 2);
}

static guint64 resident_pages(void)
{
	g_autofree char *text = NULL;
	g_auto(GStrv) part = NULL;

	if (!g_file_get_contents("/proc/self/statm", &text, NULL, NULL))
		return 0;
	part = g_strsplit(text, " ", -1);
	return g_ascii_strtoull(part[1], NULL, 10);
}

static guint open_files(void)
{
	g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
	guint n = 0;

	while (dir && g_dir_read_name(dir))
		n++;
	return n;
}

static void move__fifty_times__nothing_grows(void)
{
	guint files;
	guint64 resident;

	to_and_fro(FERRY_GUEST_AUTO, NULL, NULL, 4);
	files = open_files();
	resident = resident_pages();
	to_and_fro(FERRY_GUEST_AUTO, NULL, NULL, 50);
	CU_ASSERT_EQUAL(open_files(), files);
#if !defined(__SANITIZE_ADDRESS__) /* which keeps freed memory for a while */
	CU_ASSERT_TRUE(resident_pages() < resident + 1024);
#else
	CU_ASSERT_TRUE(resident > 0);
#endif
}

static void move__to_the_other_kind__refused_and_source_runs_on(void)
{
	g_auto(Host) a = { 0 }, b = { 0 };

	NEED(FERRY_GUEST_KVM, NULL, NULL);
	NEED(FERRY_GUEST_PROCESS, NULL, NULL);
	if (!host_init(&a, &(FerryGuestConfig){ .ram_size = RAM,
						.kind = FERRY_GUEST_KVM,
						.workload = "sweep:20" }) ||
	    !host_init(&b, &(FerryGuestConfig){ .ram_size = RAM,
						.kind = FERRY_GUEST_PROCESS,
						.incoming = TRUE }))
		return;
	start(a.guest);
	CU_ASSERT_FALSE(move(&a, &b));
	CU_ASSERT_TRUE(await_written(a.guest, check(a.guest).written + 10));
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(guest__wrong_setting__refused),
		CASE(guest__kind_left_open__says_which_and_why),
		CASE(guest__file_backing__extended_and_kept),
		CASE(guest__incoming__touches_no_ram),
		CASE(guest__preallocated__has_memory_behind_every_page_and_keeps_its_content),
		CASE(check__guest_running__runs_on),
		CASE(move__process_guest__checks_at_every_stop),
		CASE(move__process_guest_anonymous__checks_at_every_stop),
		CASE(move__process_guest_of_huge_pages__checks_at_every_stop),
		CASE(move__kvm_guest__checks_at_every_stop),
		CASE(move__kvm_guest_under_wp_async__checks_at_every_stop),
		CASE(move__process_guest_under_soft_dirty__checks_at_every_stop),
		CASE(move__kvm_guest_under_soft_dirty__checks_at_every_stop),
		CASE(move__fifty_times__nothing_grows),
		CASE(move__to_the_other_kind__refused_and_source_runs_on),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "reference guests", cases);
}
