/* SPDX-License-Identifier: BSD-2-Clause */
#include "machine.h"

static const FerryVmstate plan_vmstate = {
	.name = "ferry-plan/plan",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = (const FerryVmstateField[]){
		FERRY_VMSTATE_UINT64(FerryPlan, seed),
		FERRY_VMSTATE_UINT64(FerryPlan, rate),
		FERRY_VMSTATE_UINT64(FerryPlan, hot),
		FERRY_VMSTATE_UINT32(FerryPlan, fill),
		FERRY_VMSTATE_UINT32(FerryPlan, order),
		FERRY_VMSTATE_UINT32(FerryPlan, vcpus),
		FERRY_VMSTATE_END,
	},
};

static gboolean save_plan(gpointer opaque, GError **error)
{
	FerryMachine *machine = opaque;

	machine->arriving.plan = machine->plan;
	machine->arriving.ram_size = machine->ram.size;
	return TRUE;
}

/* The old guest's vCPUs are as good as gone from here on, whatever becomes of the new one. */
static gboolean expect_plan(gpointer opaque, GError **error)
{
	FerryMachine *machine = opaque;

	machine->arrived = 0;
	g_clear_pointer(&machine->broken, g_free);
	return TRUE;
}

static gboolean take_plan(gpointer opaque, guint32 version_id, GError **error)
{
	FerryMachine *machine = opaque;

	if (machine->arriving.ram_size != machine->ram.size) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_MISMATCH,
			    "the guest has %" G_GUINT64_FORMAT " bytes of RAM, this side %" G_GUINT64_FORMAT
			    "; start both with the same size",
			    machine->arriving.ram_size, machine->ram.size);
		return FALSE;
	}
	if (!ferry_plan_check(&machine->arriving.plan, machine->ram.size, error))
		return FALSE;
	machine->plan = machine->arriving.plan;
	return TRUE;
}

/* Loaded first: the vCPUs that come with it are those that the plan says. */
static const FerryVmstate machine_vmstate = {
	.name = "ferry-plan",
	.version_id = 1,
	.minimum_version_id = 1,
	.priority = 100,
	.pre_save = save_plan,
	.pre_load = expect_plan,
	.post_load = take_plan,
	.fields = (const FerryVmstateField[]){
		FERRY_VMSTATE_UINT64(FerryMachine, arriving.ram_size),
		FERRY_VMSTATE_NESTED(FerryMachine, arriving.plan, FerryPlan, &plan_vmstate),
		FERRY_VMSTATE_END,
	},
};

gboolean ferry_machine_register(FerryMachine *machine, FerryDevices *devices, GError **error)
{
	if (!ferry_devices_register(devices, &machine_vmstate, 0, machine, error) ||
	    !ferry_devices_register(devices, &ferry_clock_vmstate, 0, &machine->clock, error))
		return FALSE;
	for (guint i = 0; i < FERRY_VCPUS_MAX; i++) {
		gpointer vcpu = machine->ops->vcpu_opaque(machine, i);

		if (!ferry_devices_register(devices, machine->ops->vcpu_vmstate, i, vcpu, error))
			return FALSE;
	}
	return TRUE;
}
