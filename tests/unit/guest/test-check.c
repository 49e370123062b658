/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>
#include <sys/stat.h>

#include "fixture.h"
#include "guest/judge.h"

/* More than one pass over the pages, so that there are older versions to be stale with. */
#define PAGES 5000u

/* A page that the vCPU has written, well behind where it is. */
static guint64 written_page(FerryMachine *machine)
{
	FerrySlice slice = ferry_plan_slice(&machine->plan, machine->ram.size, 0);
	guint64 progress = fixture_progress(machine);

	return ferry_slice_address(&slice, (progress - 9) / slice.pages,
				   (progress - 9) % slice.pages);
}

static uint64_t *page_at(FerryMachine *machine, guint64 address)
{
	return (uint64_t *)(machine->ram.host + address);
}

/* Puts version @back before the present one of the page @address into @page. */
static void write_version(FerryMachine *machine, uint64_t *page, guint64 address, guint64 back)
{
	guint64 sequence = page_at(machine, address)[FERRY_PAGE_SEQUENCE] - back;
	FerryPageText text = ferry_page_text(machine->plan.seed, machine->plan.fill, address,
					     sequence);

	ferry_page_write(page, &text);
}

/* ---- damages ---- */

static void lose(FerryMachine *machine, guint64 at)
{
	memset(page_at(machine, at), 0, FERRY_PAGE_BYTES);
}

static void make_stale(FerryMachine *machine, guint64 at)
{
	write_version(machine, page_at(machine, at), at, 1);
}

static void make_ahead(FerryMachine *machine, guint64 at)
{
	write_version(machine, page_at(machine, at), at, (guint64)-1);
}

static void misplace(FerryMachine *machine, guint64 at)
{
	memcpy(page_at(machine, at), page_at(machine, at + FERRY_PAGE_BYTES), FERRY_PAGE_BYTES);
}

static void tear(FerryMachine *machine, guint64 at)
{
	uint64_t old[FERRY_PAGE_WORDS];

	write_version(machine, old, at, 1);
	memcpy(page_at(machine, at) + 100, old + 100, sizeof(old) - 100 * sizeof(old[0]));
}

static void flip_bit(FerryMachine *machine, guint64 at)
{
	page_at(machine, at)[311] ^= 1ull << 17;
}

static void make_foreign(FerryMachine *machine, guint64 at)
{
	FerryPageText text = ferry_page_text(8, FERRY_FILL_PAGES, at,
					     page_at(machine, at)[FERRY_PAGE_SEQUENCE]);

	ferry_page_write(page_at(machine, at), &text);
}

static const struct {
	const char *name;
	void (*damage)(FerryMachine *machine, guint64 address);
} damages[] = {
	{ "lost", lose },
	{ "stale", make_stale },
	{ "ahead", make_ahead },
	{ "misplaced", misplace },
	{ "torn", tear },
	{ "corrupt", flip_bit },
	{ "foreign", make_foreign },
};

/* Whether some finding names the page and the damage. */
static gboolean is_found(const FerryGuestReport *report, guint64 address, const char *damage)
{
	g_autofree char *want = g_strdup_printf("page 0x%" G_GINT64_MODIFIER "x: %s,", address,
						damage);

	for (guint i = 0; i < report->n_findings; i++)
		if (strstr(report->findings[i], want))
			return TRUE;
	return FALSE;
}

static void damage_one_by_one(Kind kind, guint32 fill)
{
	g_autoptr(FerryMachine) machine = fixture_machine(kind, "random", fill, 1);
	guint64 at;
	uint64_t keep[FERRY_PAGE_WORDS];

	if (!machine || !fixture_run(machine, PAGES)) {
		CU_FAIL("no machine that runs");
		return;
	}
	at = written_page(machine);
	memcpy(keep, page_at(machine, at), sizeof(keep));
	fixture_check(machine, TRUE);
	for (guint i = 0; i < G_N_ELEMENTS(damages); i++) {
		FerryGuestReport report;

		damages[i].damage(machine, at);
		report = fixture_check(machine, FALSE);
		CU_ASSERT_EQUAL(report.bad_pages, 1);
		CU_ASSERT_TRUE(is_found(&report, at, damages[i].name));
		memcpy(page_at(machine, at), keep, sizeof(keep));
	}
	fixture_check(machine, TRUE);
}

static void check__process_page_damaged__named(void)
{
	damage_one_by_one(PROCESS, FERRY_FILL_PAGES);
	damage_one_by_one(PROCESS, FERRY_FILL_RANDOM);
}

static void check__kvm_page_damaged__named(void)
{
	NEED(KVM);
	damage_one_by_one(KVM, FERRY_FILL_PAGES);
}

/* The program looks at a page before it writes over it. */
static void program_finds(Kind kind)
{
	g_autoptr(FerryMachine) machine = fixture_machine(kind, "sweep", FERRY_FILL_PAGES, 1);
	FerryGuestReport report;

	if (!machine || !fixture_run(machine, PAGES)) {
		CU_FAIL("no machine that runs");
		return;
	}
	make_stale(machine, written_page(machine));
	CU_ASSERT_TRUE(fixture_run(machine, 2 * PAGES));
	report = fixture_check(machine, FALSE);
	CU_ASSERT_EQUAL(report.faults, 1);
	CU_ASSERT_EQUAL(report.bad_pages, 0);
}

static void program__process_page_damaged__counts_fault(void)
{
	program_finds(PROCESS);
}

static void program__kvm_page_damaged__counts_fault(void)
{
	NEED(KVM);
	program_finds(KVM);
}

static void check_untouched(guint32 fill)
{
	g_autoptr(FerryMachine) machine = fixture_machine(PROCESS, "hotset:1M", fill, 2);
	guint64 cold = FIXTURE_RAM - FERRY_PAGE_BYTES;
	FerryGuestReport report;

	if (!machine)
		return;
	fixture_check(machine, TRUE);
	CU_ASSERT_TRUE(fixture_run(machine, 1000));
	report = fixture_check(machine, TRUE);
	CU_ASSERT_EQUAL(report.pages, FIXTURE_RAM / FERRY_PAGE_BYTES);
	page_at(machine, cold)[511] ^= 1;
	page_at(machine, 0)[0] ^= 1;
	report = fixture_check(machine, FALSE);
	CU_ASSERT_EQUAL(report.bad_pages, 2);
}

static void check__page_that_no_vcpu_writes_damaged__found(void)
{
	for (guint32 fill = 0; fill < FERRY_FILL__N; fill++)
		check_untouched(fill);
}

static void check__holes__are_left_by_boot_and_check_and_looked_at(void)
{
	g_autoptr(FerryMachine) machine = fixture_machine(PROCESS, NULL, FERRY_FILL_ZERO, 1);
	struct stat file = { 0 };

	if (!machine)
		return;
	machine->holes = TRUE;
	CU_ASSERT_TRUE(ferry_plan_parse_workload(&machine->plan, "hotset:1M", NULL));
	CU_ASSERT_TRUE(ferry_machine_boot(machine, NULL));
	CU_ASSERT_TRUE(fixture_run(machine, 1000));
	fixture_check(machine, TRUE);
	CU_ASSERT_EQUAL(fstat(machine->ram.fd, &file), 0);
	CU_ASSERT(file.st_blocks * 512 < (gint64)FIXTURE_RAM / 2);
	page_at(machine, FIXTURE_RAM - FERRY_PAGE_BYTES)[511] ^= 1;
	page_at(machine, FIXTURE_RAM / 2)[0] ^= 1;
	CU_ASSERT_EQUAL(fixture_check(machine, FALSE).bad_pages, 2);
}

static void check__kvm_program_or_tables_damaged__found(void)
{
	static const guint64 places[] = { FERRY_AT_TSS,     FERRY_AT_PML4,    FERRY_AT_PDPT,
					  FERRY_AT_PROGRAM, FERRY_AT_MAILBOX, FERRY_AT_PD };
	g_autoptr(FerryMachine) machine = NULL;

	NEED(KVM);
	machine = fixture_machine(KVM, "sweep", FERRY_FILL_ZERO, 1);
	if (!machine)
		return;
	CU_ASSERT_TRUE(fixture_run(machine, 100));
	fixture_check(machine, TRUE);
	for (guint i = 0; i < G_N_ELEMENTS(places); i++) {
		machine->ram.host[places[i]] ^= 1;
		CU_ASSERT_EQUAL(fixture_check(machine, FALSE).bad_pages, 1);
		machine->ram.host[places[i]] ^= 1;
	}
}

static void check__heartbeat_differs__found(void)
{
	g_autoptr(FerryMachine) machine = fixture_machine(PROCESS, "idle", FERRY_FILL_ZERO, 1);

	if (!machine)
		return;
	machine->clock.lines[0].beat = 5;
	fixture_check(machine, FALSE);
	machine->clock.lines[0].beat = 0;
	fixture_check(machine, TRUE);
	ferry_clock_beat(&machine->clock, 0, 1);
	ferry_clock_beat(&machine->clock, 0, 3);
	CU_ASSERT_EQUAL(machine->clock.lines[0].breaks, 1);
	fixture_check(machine, FALSE);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(check__process_page_damaged__named),
		CASE(check__kvm_page_damaged__named),
		CASE(program__process_page_damaged__counts_fault),
		CASE(program__kvm_page_damaged__counts_fault),
		CASE(check__page_that_no_vcpu_writes_damaged__found),
		CASE(check__holes__are_left_by_boot_and_check_and_looked_at),
		CASE(check__kvm_program_or_tables_damaged__found),
		CASE(check__heartbeat_differs__found),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "guest check", cases);
}
