/* SPDX-License-Identifier: BSD-2-Clause */
#include "fixture.h"

#include <ferry/protocol.h>
#include <stdio.h>
#include <string.h>

FerryMachine *fixture_machine(Kind kind, const char *workload, guint32 fill, guint vcpus)
{
	FerryPlan plan = { .seed = 7, .fill = fill, .vcpus = vcpus };
	FerryBacking ram = { .fd = -1 };
	g_autoptr(FerryMachine) machine = NULL;
	g_autoptr(GError) error = NULL;

	if (ferry_plan_parse_workload(&plan, workload, &error) &&
	    ferry_backing_open(&ram, "memfd", FIXTURE_RAM, &error))
		machine = kind == KVM ? ferry_machine_new_kvm(&ram, &plan, &error)
				      : ferry_machine_new_process(&ram, &plan);
	if (machine && workload)
		ferry_machine_boot(machine, &error);
	CU_ASSERT_PTR_NULL(error);
	if (!error)
		return g_steal_pointer(&machine);
	printf("# %s\n", error->message);
	return NULL;
}

guint64 fixture_progress(FerryMachine *machine)
{
	guint64 progress = 0;

	for (guint i = 0; i < machine->plan.vcpus; i++) {
		FerryRegisters registers = { 0 };

		CU_ASSERT_TRUE(machine->ops->vcpu_registers(machine, i, &registers, NULL));
		progress += registers.progress;
	}
	return progress;
}

gboolean fixture_run(FerryMachine *machine, guint64 pages)
{
	const gint64 deadline = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
	const guint64 goal = fixture_progress(machine) + pages;

	do {
		if (!ferry_machine_start(machine, NULL))
			return FALSE;
		g_usleep(1000);
		ferry_machine_stop(machine);
	} while (fixture_progress(machine) < goal && g_get_monotonic_time() < deadline);
	return fixture_progress(machine) >= goal;
}

FerryGuestReport fixture_check(FerryMachine *machine, gboolean want_passed)
{
	FerryGuestReport report = { 0 };
	g_autoptr(GError) error = NULL;

	CU_ASSERT_TRUE(ferry_machine_check(machine, &report, &error));
	CU_ASSERT_EQUAL(report.passed, want_passed);
	if (report.passed != want_passed)
		for (guint i = 0; i < report.n_findings; i++)
			printf("# %s\n", report.findings[i]);
	return report;
}

static gboolean load_all(FerryDevices *devices, GByteArray *bytes, GError **error)
{
	g_autoptr(FerryStreamReader)
		reader = ferry_stream_reader_new_for_data(bytes->data, bytes->len);
	FerryStreamElement element;

	while (ferry_stream_reader_offset(reader) < bytes->len)
		if (!ferry_stream_next(reader, &element, error) ||
		    !ferry_devices_load(devices, reader, &element, error))
			return FALSE;
	return TRUE;
}

gboolean fixture_move(FerryMachine *from, FerryMachine *to, GError **error)
{
	g_autoptr(FerryDevices) source = ferry_devices_new();
	g_autoptr(FerryDevices) destination = ferry_devices_new();
	g_autoptr(GByteArray) bytes = g_byte_array_new();
	g_autoptr(GString) json = g_string_new(NULL);

	memcpy(to->ram.host, from->ram.host, MIN(from->ram.size, to->ram.size));
	return ferry_machine_register(from, source, error) &&
	       ferry_machine_register(to, destination, error) &&
	       ferry_devices_save(source, 10, bytes, json, error) &&
	       load_all(destination, bytes, error);
}
