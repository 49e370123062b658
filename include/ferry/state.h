/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/*
 * The states of a migration, under the names that query-migrate and the event MIGRATION show.
 * docs/states.md has the diagram; engine/state.c the one table of allowed changes.
 */
typedef enum {
	FERRY_STATE_NONE,
	FERRY_STATE_SETUP,
	FERRY_STATE_ACTIVE,
	FERRY_STATE_PRE_SWITCHOVER, /* guest stopped, waits for migrate-continue */
	FERRY_STATE_DEVICE,         /* guest stopped, last pages and device state on their way */
	/* source: committed, never resumes by itself. destination: everything loaded, waits for the
	 * commit */
	FERRY_STATE_HANDOVER,
	/* the link died in handover: RAM kept, guest paused, asks again */
	FERRY_STATE_HANDOVER_LOST,
	FERRY_STATE_POSTCOPY_ACTIVE,
	FERRY_STATE_POSTCOPY_PAUSED,
	FERRY_STATE_POSTCOPY_RECOVER,
	FERRY_STATE_COMPLETED,
	FERRY_STATE_FAILED,
	FERRY_STATE_CANCELLING,
	FERRY_STATE_CANCELLED,
	FERRY_STATE__N,
} FerryState;

/* The name as in QMP: "pre-switchover". Static. */
const char *ferry_state_name(FerryState state);

/* The guest's run states, named as in QEMU's RunState. */
typedef enum {
	FERRY_RUN_STATE_PRELAUNCH,
	FERRY_RUN_STATE_INMIGRATE,
	FERRY_RUN_STATE_RUNNING,
	FERRY_RUN_STATE_PAUSED,
	FERRY_RUN_STATE_FINISH_MIGRATE,
	FERRY_RUN_STATE_POSTMIGRATE,
	FERRY_RUN_STATE_SUSPENDED,
	FERRY_RUN_STATE_SHUTDOWN,
	FERRY_RUN_STATE_INTERNAL_ERROR,
	FERRY_RUN_STATE_IO_ERROR,
	FERRY_RUN_STATE_DEBUG,
	FERRY_RUN_STATE_WATCHDOG,
	FERRY_RUN_STATE_GUEST_PANICKED,
	FERRY_RUN_STATE__N,
} FerryRunState;

const char *ferry_run_state_name(FerryRunState state);
/* FALSE if no run state has this name. */
gboolean ferry_run_state_from_name(const char *name, FerryRunState *state);

G_END_DECLS
