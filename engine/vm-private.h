/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/mapped.h>
#include <ferry/transport.h>
#include <ferry/vm.h>
#include "bitmap.h"

/*
 * What the source and the destination may do to the guest beyond the public API: they own it for
 * the time of a migration. The run state has one lock, held across the embedder's callbacks, so
 * that there are never two at once.
 */

FerryDirtySource *ferry_vm_dirty_source(FerryVm *vm);

/* Pages reported by ferry_vm_mark_dirty() since the last take are ORed into @into and forgotten. */
void ferry_vm_take_marked(FerryVm *vm, FerryBitmap *into);

/* The capabilities that a stream's configuration names, and that both sides must have; in QEMU's
 * order. */
#define FERRY_COMPARED_CAPABILITIES FERRY_CAPABILITY_X_IGNORE_SHARED, FERRY_CAPABILITY_MAPPED_RAM

/* Whether x-ignore-shared is on and the block is in a shared file: then none of it goes. */
gboolean ferry_vm_leaves_out(FerryVm *vm, guint block);
/* Bytes of the blocks that go. */
guint64 ferry_vm_moving_bytes(FerryVm *vm);
/* What a carrier with @places is made from, by the settings. */
FerryMapping ferry_vm_mapping(FerryVm *vm, const FerryMappedPlace *places);

/* FERRY_ERROR_INVALID where a capability that is on cannot work with @transport. transport.c */
gboolean ferry_vm_fits_transport(FerryVm *vm, const char *uri, const FerryTransport *transport,
				 GError **error);
/* The same of mapped-ram, where the URI names no file after all. */
gboolean ferry_vm_refuse_mapped(const char *uri, GError **error);

/* The embedder's callbacks, and their argument. */
const FerryVmCallbacks *ferry_vm_callbacks(FerryVm *vm, gpointer *user);
/* The run state's lock: while it is held no callback runs that is not said to run beside others. */
void ferry_vm_lock_callbacks(FerryVm *vm);
void ferry_vm_unlock_callbacks(FerryVm *vm);

void ferry_vm_emit(FerryVm *vm, const FerryEvent *event);

/* ---- the source's ---- */

/* Claims the guest for a migration away, or says why not. */
gboolean ferry_vm_outgoing_begin(FerryVm *vm, GError **error);

/* Stops the guest for the switchover (run state finish-migrate) and remembers what it was. */
gboolean ferry_vm_outgoing_stop(FerryVm *vm, GError **error);

/* The run state that travels: the one before outgoing_stop(). */
FerryRunState ferry_vm_outgoing_run_state(FerryVm *vm);

typedef enum {
	FERRY_OUTGOING_STAYED, /* failed or cancelled: back to what it was */
	FERRY_OUTGOING_COPIED, /* saved one-way: postmigrate, and may be continued here */
	FERRY_OUTGOING_MOVED,  /* runs at the destination: never again here */
} FerryOutgoingFate;

/* Whether the embedder can slow the guest down; and, to limit single vCPUs, count what they
 * dirty. */
gboolean ferry_vm_has_throttle(FerryVm *vm);
gboolean ferry_vm_has_vcpu_throttle(FerryVm *vm);
/* The callbacks; no-ops without them. The numbers of at most @max vCPUs: how many there are. */
void ferry_vm_throttle(FerryVm *vm, guint percent);
void ferry_vm_throttle_vcpu(FerryVm *vm, guint vcpu, double percent);
guint ferry_vm_vcpu_dirty_pages(FerryVm *vm, guint64 *pages, guint max);

/* Ends the claim. STAYED resumes a guest that ran; its failure is the error and leaves it
 * paused. */
gboolean ferry_vm_outgoing_end(FerryVm *vm, FerryOutgoingFate fate, GError **error);

/* ---- the destination's ---- */

/* Makes the guest wait: run state inmigrate. Allowed where it never ran, or has moved away. */
gboolean ferry_vm_incoming_begin(FerryVm *vm, GError **error);

/* Everything is loaded: takes over the run state that travelled, and runs the guest if that is
 * running and nobody asked for a stop meanwhile. Where that fails it goes on waiting. */
gboolean ferry_vm_incoming_run(FerryVm *vm, FerryRunState arrived, gboolean autostart,
			       GError **error);

/* Tells the network that the guest is here; not while it is being handed over. FALSE where there is
 * nothing to tell any more: it is not here, or the embedder has no callback. */
gboolean ferry_vm_announce(FerryVm *vm);

/* The threads of the vCPUs, as FerryVmCallbacks.vcpu_threads tells them; 0 without it. */
guint ferry_vm_vcpu_threads(FerryVm *vm, gint32 *ids, guint max);

/* The run state as it lies in the device "globalstate". */
void ferry_vm_save_run_state(FerryVm *vm, FerryRunState state);
/* FERRY_ERROR_DEVICE for a name that no run state has; RUNNING where none was sent. */
gboolean ferry_vm_loaded_run_state(FerryVm *vm, FerryRunState *state, GError **error);
/* Forgets what an earlier load left. */
void ferry_vm_clear_loaded_run_state(FerryVm *vm);
