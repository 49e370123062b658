/* SPDX-License-Identifier: BSD-2-Clause */
#include "machine.h"

/* The KVM guest's program is x86-64 code: on any other processor there is the process guest. */
static gboolean refuse(GError **error)
{
	g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "the KVM guest is for x86-64 alone; use the process guest");
	return FALSE;
}

FerryMachine *ferry_machine_new_kvm(const FerryBacking *ram, const FerryPlan *plan, GError **error)
{
	refuse(error);
	return NULL;
}

gboolean ferry_kvm_probe(GError **error)
{
	return refuse(error);
}

int ferry_machine_kvm_fd(const FerryMachine *machine)
{
	return -1;
}
