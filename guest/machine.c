/* SPDX-License-Identifier: BSD-2-Clause */
#include "machine.h"

#include "parallel.h"

void ferry_machine_init(FerryMachine *machine, const FerryMachineOps *ops, const FerryBacking *ram,
			const FerryPlan *plan)
{
	machine->ops = ops;
	machine->ram = *ram;
	machine->plan = *plan;
	machine->vcpus = ferry_vcpus_new(&ops->vcpus, machine);
	g_mutex_init(&machine->broken_lock);
}

void ferry_machine_free(FerryMachine *machine)
{
	if (!machine)
		return;
	g_clear_pointer(&machine->vcpus, ferry_vcpus_free);
	g_mutex_clear(&machine->broken_lock);
	g_clear_pointer(&machine->broken, g_free);
	FerryBacking ram = machine->ram;
	machine->ops->free(machine);
	ferry_backing_close(&ram);
}

typedef struct {
	const FerryPlan *plan;
	guint8 *to;
} Fill;

static void fill_pages(guint64 first, guint64 count, gpointer user)
{
	const Fill *fill = user;

	for (guint64 page = first; page < first + count; page++) {
		guint64 address = page * FERRY_PAGE_BYTES;
		FerryPageText text = ferry_page_text(fill->plan->seed, fill->plan->fill, address,
						     0);

		ferry_page_write((guint64 *)(fill->to + address), &text);
	}
}

void ferry_machine_fill(const FerryMachine *machine, guint8 *to, guint64 size)
{
	Fill fill = { &machine->plan, to };

	ferry_parallel_for(size / FERRY_PAGE_BYTES, fill_pages, &fill);
}

void ferry_machine_write_system(const FerryMachine *machine, guint8 *ram)
{
	for (guint i = 0; i < machine->plan.vcpus; i++)
		*ferry_machine_mailbox(ram, i) = (FerryMailbox){
			.slice = ferry_plan_slice(&machine->plan, machine->ram.size, i),
			.cookie = ferry_program_cookie(machine->plan.seed, i),
		};
	if (machine->ops->write_system)
		machine->ops->write_system(machine, ram);
}

gboolean ferry_machine_boot(FerryMachine *machine, GError **error)
{
	ferry_machine_fill(machine, machine->ram.host,
			   machine->holes ? ferry_plan_work_address(machine->ram.size)
					  : machine->ram.size);
	ferry_machine_write_system(machine, machine->ram.host);
	for (guint i = 0; i < machine->plan.vcpus; i++) {
		FerryRegisters registers = { .cookie = ferry_program_cookie(machine->plan.seed,
									    i) };

		if (!machine->ops->vcpu_prepare(machine, i, error) ||
		    !machine->ops->vcpu_boot(machine, i, &registers, error))
			return FALSE;
		machine->arrived |= 1u << i;
	}
	return TRUE;
}

gboolean ferry_machine_has_guest(const FerryMachine *machine)
{
	const guint all = (1u << machine->plan.vcpus) - 1;

	return (machine->arrived & all) == all;
}

/* The clock counts whole bursts, and nothing that was written elsewhere. */
static void count_pages(FerryMachine *machine)
{
	for (guint i = 0; i < machine->plan.vcpus; i++) {
		FerryRegisters registers;

		if (machine->ops->vcpu_registers(machine, i, &registers, NULL))
			ferry_clock_set_pages(&machine->clock, i, registers.progress);
	}
}

gboolean ferry_machine_start(FerryMachine *machine, GError **error)
{
	if (machine->running)
		return TRUE;
	if (!ferry_machine_has_guest(machine)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE, "no guest has arrived in %s yet",
			    machine->ops->name);
		return FALSE;
	}
	if (machine->broken) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_DEVICE, "the guest cannot run on: %s",
			    machine->broken);
		return FALSE;
	}
	count_pages(machine);
	ferry_clock_resume(&machine->clock, machine->plan.vcpus);
	ferry_vcpus_start(machine->vcpus, machine->plan.vcpus);
	machine->running = TRUE;
	return TRUE;
}

void ferry_machine_stop(FerryMachine *machine)
{
	if (!machine->running)
		return;
	ferry_vcpus_stop(machine->vcpus);
	ferry_clock_pause(&machine->clock);
	count_pages(machine);
	machine->running = FALSE;
}

FERRY_PAGE_RACY static void store_bursts(FerryMailbox *box, guint64 bursts)
{
	*(volatile uint64_t *)&box->device_bursts = bursts;
}

guint32 ferry_machine_doorbell(FerryMachine *machine, guint vcpu)
{
	guint64 address = FERRY_AT_MAILBOX + vcpu * FERRY_PAGE_BYTES +
			  G_STRUCT_OFFSET(FerryMailbox, device_bursts);
	guint32 answer = ferry_clock_doorbell(&machine->clock, machine->vcpus, &machine->plan,
					      vcpu);

	store_bursts(ferry_machine_mailbox(machine->ram.host, vcpu),
		     machine->clock.lines[vcpu].bursts);
	if (machine->written)
		machine->written(machine->written_user, address, sizeof(guint64));
	return answer;
}

void ferry_machine_beat(FerryMachine *machine, guint vcpu, guint32 value)
{
	ferry_clock_beat(&machine->clock, vcpu, value);
}

void ferry_machine_break(FerryMachine *machine, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	g_mutex_lock(&machine->broken_lock);
	if (!machine->broken)
		machine->broken = g_strdup_vprintf(format, args);
	g_mutex_unlock(&machine->broken_lock);
	va_end(args);
}
