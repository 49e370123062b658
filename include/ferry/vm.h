/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/dirty.h>
#include <ferry/ram.h>
#include <ferry/settings.h>
#include <ferry/state.h>
#include <ferry/vmstate.h>

G_BEGIN_DECLS

/*
 * The guest as the engine sees it: RAM, devices, a dirty-page source, a run state, and callbacks
 * into the monitor. The hub that a FerrySource, a FerryDestination and a FerryQmp share.
 */
typedef struct FerryVm FerryVm;

/*
 * Called from whichever thread stops or starts the guest: the embedder's own (ferry_vm_stop()), or
 * a migration thread. Never two at once. They must not call back into ferry.
 */
typedef struct {
	/* Stops every vCPU and everything else that writes RAM; when it returns nothing writes. */
	gboolean (*pause)(gpointer user, GError **error);
	/* Starts them (again). */
	gboolean (*resume)(gpointer user, GError **error);
	/* For auto-converge: takes @percent of their time, 0 to 99, away from all vCPUs; 0 is full
	 * speed. From the migration thread, while the guest runs or somebody pauses it; 0 comes
	 * before the guest stops for the switchover, and after a migration that failed or was
	 * cancelled. It must act soon (a guest is back to full speed within a second), and not wait
	 * for the vCPUs. May be NULL: auto-converge is then refused. */
	void (*throttle)(gpointer user, guint percent);
	/* The guest has arrived here: tell the network. Called announce-rounds times, the first
	 * time once it runs, and also where it arrives paused; from a thread of the destination's,
	 * and no more once the guest leaves again. May be NULL. */
	void (*announce)(gpointer user);
	/* For dirty-limit; without both of them it is refused. How many pages each of the first
	 * @max vCPUs, FERRY_VCPUS_MAX of ferry/status.h, has dirtied since some fixed moment, and
	 * how many vCPUs there are: KVM's dirty ring tells, for one. Called every
	 * x-vcpu-dirty-limit-period, from a thread of the migration's, also beside another
	 * callback. */
	guint (*vcpu_dirty_pages)(gpointer user, guint64 *pages, guint max);
	/* Takes @percent of its time away from one vCPU, as throttle() from all of them, but up to
	 * 99.99, and fractions count: a vCPU that dirties 2 GiB/s has 0.05 % left where the limit
	 * is 1 MiB/s. */
	void (*throttle_vcpu)(gpointer user, guint vcpu, double percent);
	/* The thread ids (gettid(2)) of the vCPUs, at most @max, and how many there are: whose time
	 * in faults postcopy counts. After resume(), and, as the counts, also beside another
	 * callback. May be NULL: none is told apart. */
	guint (*vcpu_threads)(gpointer user, gint32 *ids, guint max);
} FerryVmCallbacks;

/**
 * Creates the guest object, in run state PRELAUNCH.
 * @machine: the machine's name; both sides must have the same. Copied.
 * @ram, @devices, @dirty: taken over, also freed by ferry_vm_free(). @dirty may be NULL for a guest
 *     that never migrates away while running.
 * @callbacks is copied, @user borrowed.
 */
FerryVm *ferry_vm_new(const char *machine, FerryRam *ram, FerryDevices *devices,
		      FerryDirtySource *dirty, const FerryVmCallbacks *callbacks, gpointer user);
/* No source, destination or QMP of this guest may be left. */
void ferry_vm_free(FerryVm *vm);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryVm, ferry_vm_free)

FerryRam *ferry_vm_ram(FerryVm *vm);
FerryDevices *ferry_vm_devices(FerryVm *vm);
FerrySettings *ferry_vm_settings(FerryVm *vm);
const char *ferry_vm_machine(FerryVm *vm);
/* The guest's UUID, which validate-uuid compares; none at first. Copied; NULL: none. Not while a
 * migration runs. */
void ferry_vm_set_uuid(FerryVm *vm, const guint8 uuid[16]);
/* NULL: none. Owned by @vm. */
const guint8 *ferry_vm_uuid(FerryVm *vm);
/* The name of the dirty source: "wp-async", ...; NULL without one. */
const char *ferry_vm_dirty_source_name(FerryVm *vm);

/* ---- run state; any thread ---- */

FerryRunState ferry_vm_run_state(FerryVm *vm);
gboolean ferry_vm_is_running(FerryVm *vm);

/* Runs the guest: FERRY_ERROR_STATE where a migration owns it (finish-migrate, a hand-over in
 * doubt) or after it moved away, unless that migration failed or was cancelled. After a save to a
 * file (one-way), "cont" on a postmigrate guest is allowed, as QEMU allows it. In inmigrate it
 * takes back a ferry_vm_stop(). No-op when it runs. */
gboolean ferry_vm_start(FerryVm *vm, GError **error);

/* Pauses it (run state PAUSED). In inmigrate it means: arrive paused. FERRY_ERROR_STATE while it is
 * being handed over. No-op when it is stopped. */
gboolean ferry_vm_stop(FerryVm *vm, GError **error);

/* Reports a write to guest RAM that the dirty source does not see (see ferry/dirty.h). Any thread;
 * cheap, lock-free; a no-op when no migration runs. Call it after the write. */
void ferry_vm_mark_dirty(FerryVm *vm, guint block, guint64 offset, guint64 len);

/* ---- blockers; any thread ---- */

/* Refuses migration away while registered; @reason is the error that "migrate" then gives. Returns
 * an id for removal, or 0 with FERRY_ERROR_STATE while a migration runs. */
guint ferry_vm_add_blocker(FerryVm *vm, const char *reason,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;
void ferry_vm_remove_blocker(FerryVm *vm, guint id);
/* The reasons, newest first, and last an unmigratable device; free with g_strfreev(). NULL where
 * there is none. */
char **ferry_vm_blocked_reasons(FerryVm *vm);

/* ---- notifiers ---- */

typedef enum {
	FERRY_EVENT_MIGRATION,      /* the migration's state changed to @state */
	FERRY_EVENT_MIGRATION_PASS, /* precopy round @pass begins, counted from 1 */
	FERRY_EVENT_STOP,           /* the guest stopped */
	FERRY_EVENT_RESUME,         /* the guest runs */
	/* the pages do not go by the fabric that the URI names, but by @transport, for @reason */
	FERRY_EVENT_FALLBACK,
} FerryEventType;

typedef struct {
	FerryEventType type;
	FerryState state;  /* MIGRATION */
	gboolean incoming; /* MIGRATION: the destination's */
	guint64 pass;      /* MIGRATION_PASS */
	/* FALLBACK; valid during the call */
	const char *reason;
	const char *transport;
} FerryEvent;

/* Called in the thread where it happens, in order; must be quick and must not call back into
 * ferry. */
typedef void (*FerryEventFunc)(const FerryEvent *event, gpointer user);
guint ferry_vm_add_notifier(FerryVm *vm, FerryEventFunc func, gpointer user);
/* When it returns the function does not run and will not be called again. */
void ferry_vm_remove_notifier(FerryVm *vm, guint id);

G_END_DECLS
