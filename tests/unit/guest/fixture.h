/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "guest/check.h"
#include "harness.h"

#define FIXTURE_RAM (8u << 20)

typedef enum {
	PROCESS,
	KVM
} Kind;

/* Skips the case where the kind cannot run here. */
#define NEED(kind)                                                                                 \
	do {                                                                                       \
		g_autoptr(GError) why = NULL;                                                      \
		if ((kind) == KVM && !ferry_kvm_probe(&why))                                       \
			SKIP("%s", why->message);                                                  \
	} while (0)

/* A machine of FIXTURE_RAM bytes with seed 7; booted unless @workload is NULL. NULL with a CUnit
 * failure. */
FerryMachine *fixture_machine(Kind kind, const char *workload, guint32 fill, guint vcpus);

/* Runs the machine until its vCPUs wrote @pages more in all. FALSE if that takes over ten seconds.
 */
gboolean fixture_run(FerryMachine *machine, guint64 pages);

/* The pages that all vCPUs wrote; the machine is stopped. */
guint64 fixture_progress(FerryMachine *machine);

/* Checks the stopped machine; prints the findings where @want_passed is not the result. */
FerryGuestReport fixture_check(FerryMachine *machine, gboolean want_passed);

/* Saves the devices of @from, copies RAM and loads them into @to. */
gboolean fixture_move(FerryMachine *from, FerryMachine *to, GError **error);
