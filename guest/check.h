/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "guest.h"
#include "machine.h"

/* ferry_guest_check() of a stopped machine. */
gboolean ferry_machine_check(FerryMachine *machine, FerryGuestReport *report, GError **error);
