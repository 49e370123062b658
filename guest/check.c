/* SPDX-License-Identifier: BSD-2-Clause */
#include "check.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "judge.h"
#include "parallel.h"

/* A hole is looked for after so many pages. */
#define HOLE_PAGES 512u

typedef struct {
	FerryMachine *machine;
	FerryRegisters registers[FERRY_VCPUS_MAX];
	FerrySlice slices[FERRY_VCPUS_MAX];
	guint vcpu;  /* whose slice is walked */
	GMutex lock; /* guards @report */
	FerryGuestReport *report;
} Check;

static void G_GNUC_PRINTF(2, 3) find(Check *check, const char *format, ...)
{
	FerryGuestReport *report = check->report;
	va_list args;

	va_start(args, format);
	g_mutex_lock(&check->lock);
	if (report->n_findings < FERRY_GUEST_FINDINGS_MAX)
		g_vsnprintf(report->findings[report->n_findings++], sizeof(report->findings[0]),
			    format, args);
	report->passed = FALSE;
	g_mutex_unlock(&check->lock);
	va_end(args);
}

static void count_bad_page(Check *check)
{
	g_mutex_lock(&check->lock);
	check->report->bad_pages++;
	g_mutex_unlock(&check->lock);
}

static const uint64_t *page_at(const Check *check, guint64 address)
{
	return (const uint64_t *)(check->machine->ram.host + address);
}

static void bad_page(Check *check, const uint64_t *page, const FerryPageText *text)
{
	char line[sizeof(check->report->findings[0])];

	ferry_page_judge(page, text, check->machine->plan.fill, line, sizeof(line));
	count_bad_page(check);
	find(check, "%s", line);
}

static void check_page(Check *check, guint64 address, guint64 sequence)
{
	const FerryPlan *plan = &check->machine->plan;
	const uint64_t *page = page_at(check, address);
	FerryPageText text = ferry_page_text(plan->seed, plan->fill, address, sequence);

	if (ferry_page_match(page, &text) != FERRY_PAGE_WORDS)
		bad_page(check, page, &text);
}

/* The page that the vCPU is at: a prefix of the next version over the one before. */
static void check_current_page(Check *check, guint64 address, guint64 sequence)
{
	const FerryPlan *plan = &check->machine->plan;
	const uint64_t *page = page_at(check, address);
	FerryPageText next = ferry_page_text(plan->seed, plan->fill, address, sequence + 1);
	FerryPageText before = ferry_page_text(plan->seed, plan->fill, address, sequence);

	for (guint word = ferry_page_match(page, &next); word < FERRY_PAGE_WORDS; word++) {
		if (page[word] != ferry_page_word(&before, word)) {
			bad_page(check, page, &before);
			return;
		}
	}
}

/* Positions of the pass that the vCPU is in: those before its own have been written once more. */
static void check_positions(guint64 first, guint64 count, gpointer user)
{
	Check *check = user;
	const FerrySlice *slice = &check->slices[check->vcpu];
	const guint64 progress = check->registers[check->vcpu].progress;
	const guint64 pass = progress / slice->pages, current = progress % slice->pages;

	for (guint64 position = first; position < first + count; position++) {
		guint64 address = ferry_slice_address(slice, pass, position);

		if (position == current)
			check_current_page(check, address, pass);
		else
			check_page(check, address, pass + (position < current));
	}
}

static gboolean is_in_a_slice(const Check *check, guint64 address)
{
	for (guint i = 0; i < check->machine->plan.vcpus; i++) {
		const FerrySlice *slice = &check->slices[i];

		if (address >= slice->first &&
		    address < slice->first + slice->pages * FERRY_PAGE_BYTES)
			return TRUE;
	}
	return FALSE;
}

/* The first page at or after @page, before @end, that may be other than zero: of a file's holes
 * none is read, as reading takes memory for it. */
static guint64 skip_hole(const Check *check, guint64 page, guint64 end)
{
	const FerryMachine *machine = check->machine;
	guint64 base = ferry_plan_work_address(machine->ram.size);
	off_t at = (off_t)(base + page * FERRY_PAGE_BYTES), data;

	if (machine->ram.fd < 0 || machine->plan.fill != FERRY_FILL_ZERO)
		return page;
	data = lseek(machine->ram.fd, at, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? end : page;
	return MIN(page + (guint64)(data - at) / FERRY_PAGE_BYTES, end);
}

/* Pages that no vCPU ever writes. */
static void check_cold_pages(guint64 first, guint64 count, gpointer user)
{
	Check *check = user;
	guint64 base = ferry_plan_work_address(check->machine->ram.size), end = first + count;

	for (guint64 page = first; page < end;) {
		page = skip_hole(check, page, end);
		for (guint64 stop = MIN(page + HOLE_PAGES, end); page < stop; page++)
			if (!is_in_a_slice(check, base + page * FERRY_PAGE_BYTES))
				check_page(check, base + page * FERRY_PAGE_BYTES, 0);
	}
}

/* ---- what lies below the pages that vCPUs write ---- */

static gboolean is_stack(const Check *check, guint64 address)
{
	return check->machine->ops->write_system && address >= FERRY_AT_STACK &&
	       address < FERRY_AT_STACK + check->machine->plan.vcpus * FERRY_PAGE_BYTES;
}

/* What has changed in the mailboxes since boot is checked with the vCPUs: take it over. */
static void copy_mailboxes(const Check *check, guint8 *expected)
{
	for (guint i = 0; i < check->machine->plan.vcpus; i++) {
		const FerryMailbox *box = ferry_machine_mailbox(check->machine->ram.host, i);
		FerryMailbox *copy = ferry_machine_mailbox(expected, i);

		copy->beat = box->beat;
		copy->device_bursts = box->device_bursts;
		copy->fault_address = box->fault_address;
		copy->fault_sequence = box->fault_sequence;
	}
}

static void check_system(Check *check)
{
	FerryMachine *machine = check->machine;
	guint64 size = ferry_plan_work_address(machine->ram.size);
	g_autofree guint8 *expected = g_malloc(size);

	ferry_machine_fill(machine, expected, size);
	ferry_machine_write_system(machine, expected);
	copy_mailboxes(check, expected);
	for (guint64 at = 0; at < size; at += FERRY_PAGE_BYTES) {
		if (is_stack(check, at) ||
		    !memcmp(machine->ram.host + at, expected + at, FERRY_PAGE_BYTES))
			continue;
		count_bad_page(check);
		find(check,
		     "page 0x%" G_GINT64_MODIFIER "x: differs; it belongs to the machine, "
		     "which never changes it",
		     at);
	}
}

/* ---- vCPUs, mailboxes and the clock device: three counts of the same things ---- */

static void check_vcpu(Check *check, guint i)
{
	const FerryRegisters *regs = &check->registers[i];
	const FerryClockLine *line = &check->machine->clock.lines[i];
	const FerryMailbox *box = ferry_machine_mailbox(check->machine->ram.host, i);

	if (regs->cookie != ferry_program_cookie(check->machine->plan.seed, i))
		find(check, "vCPU %u: its cookie register is wrong: its state was lost", i);
	/* The vCPU stores the beat, counts it, and tells the device, and can stop in between. */
	if (box->beat - regs->beat > 1 || regs->beat - line->beat > 1)
		find(check,
		     "vCPU %u: heartbeat %" G_GUINT64_FORMAT " in RAM, %" G_GUINT64_FORMAT
		     " in the vCPU, %" G_GUINT64_FORMAT " in the clock device",
		     i, box->beat, regs->beat, line->beat);
	if (line->bursts - regs->bursts > 1 || box->device_bursts != line->bursts)
		find(check,
		     "vCPU %u: burst %" G_GUINT64_FORMAT " in RAM, %" G_GUINT64_FORMAT
		     " in the vCPU, %" G_GUINT64_FORMAT " in the clock device",
		     i, box->device_bursts, regs->bursts, line->bursts);
	if (line->breaks)
		find(check,
		     "vCPU %u: the heartbeat went back or jumped %" G_GUINT64_FORMAT " times", i,
		     line->breaks);
	if (regs->faults && box->fault_address)
		find(check,
		     "vCPU %u: its program found %" G_GUINT64_FORMAT
		     " faults; the last bad page was 0x%" G_GINT64_MODIFIER
		     "x, version %" G_GUINT64_FORMAT " expected",
		     i, regs->faults, box->fault_address, box->fault_sequence);
	else if (regs->faults)
		find(check,
		     "vCPU %u: its program found %" G_GUINT64_FORMAT
		     " times that its registers and its mailbox differ: state was lost",
		     i, regs->faults);
}

static void check_ram(Check *check)
{
	const guint64 size = check->machine->ram.size;
	const guint64 base = ferry_plan_work_address(size);

	check_system(check);
	for (check->vcpu = 0; check->vcpu < check->machine->plan.vcpus; check->vcpu++)
		ferry_parallel_for(check->slices[check->vcpu].pages, check_positions, check);
	ferry_parallel_for((size - base) / FERRY_PAGE_BYTES, check_cold_pages, check);
}

static gboolean read_vcpus(Check *check, GError **error)
{
	FerryMachine *machine = check->machine;

	for (guint i = 0; i < machine->plan.vcpus; i++) {
		FerryRegisters *regs = &check->registers[i];

		if (!machine->ops->vcpu_registers(machine, i, regs, error))
			return FALSE;
		check->slices[i] = ferry_plan_slice(&machine->plan, machine->ram.size, i);
		check->report->written += regs->progress;
		check->report->faults += regs->faults;
	}
	check->report->heartbeat = check->registers[0].beat;
	return TRUE;
}

gboolean ferry_machine_check(FerryMachine *machine, FerryGuestReport *report, GError **error)
{
	FerryGuestReport result = { .passed = TRUE, .pages = machine->ram.size / FERRY_PAGE_BYTES };
	Check check = { .machine = machine, .report = &result };

	if (!ferry_machine_has_guest(machine)) {
		g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_STATE,
				    "there is nothing to check: no guest has arrived yet");
		return FALSE;
	}
	if (!read_vcpus(&check, error))
		return FALSE;
	g_mutex_init(&check.lock);
	if (machine->broken)
		find(&check, "%s", machine->broken);
	for (guint i = 0; i < machine->plan.vcpus; i++)
		check_vcpu(&check, i);
	check_ram(&check);
	g_mutex_clear(&check.lock);
	*report = result;
	return TRUE;
}
