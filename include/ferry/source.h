/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/status.h>
#include <ferry/transport.h>
#include <ferry/vm.h>

G_BEGIN_DECLS

/*
 * Moves a guest away. One object for each guest; one migration at a time, any number one after the
 * other. Functions are safe from any thread except where they say otherwise.
 */
typedef struct FerrySource FerrySource;

/* @vm and @transports are borrowed until ferry_source_free(). */
FerrySource *ferry_source_new(FerryVm *vm, const FerryTransport *const *transports);

/* Cancels what runs, waits for it, and frees. Not from a callback. */
void ferry_source_free(FerrySource *source);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerrySource, ferry_source_free)

/**
 * Starts a migration to @uri and returns at once; progress shows in the status and the notifiers.
 * Refused with FERRY_ERROR_STATE while one runs or is in doubt, on a guest that waits for an
 * incoming one or has moved away, or while a blocker is registered (its reason is the message);
 * with FERRY_ERROR_INVALID for a URI no transport knows. On any failure before the hand-over's
 * commit the guest runs on here, untracked and unthrottled.
 */
gboolean ferry_source_migrate(FerrySource *source, const char *uri, GError **error);

/**
 * Rehearses a migration to @uri for @seconds, and returns at once: its connections and rounds over
 * its real carrier, at the settings as they are. The guest is neither stopped nor slowed down, and
 * stays; the destination goes on listening. States as of a migration, and at the end cancelled,
 * with FerryMigrationStatus.rehearsal.done where it came to its end. Refused as a migration is;
 * with FERRY_ERROR_INVALID for @seconds outside of 1 to FERRY_REHEARSAL_SECONDS_MAX, and with
 * FERRY_ERROR_NOSUPP for a URI that names one connection, or a guest without a dirty source. Fails
 * (state failed) where the destination cannot take part.
 */
gboolean ferry_source_rehearse(FerrySource *source, const char *uri, guint seconds, GError **error);

/* Asks the migration to stop, and returns at once: state cancelling, and cancelled within 100 ms
 * whatever the network does. No effect from the hand-over's commit on, or when nothing runs. */
void ferry_source_cancel(FerrySource *source);

/* Leaves pre-switchover; FERRY_ERROR_STATE in any other state. */
gboolean ferry_source_continue(FerrySource *source, GError **error);

/*
 * Switches the guest over before its pages have gone, as soon as the precopy round under way can be
 * left. From the commit on the guest is the destination's: any trouble then is state
 * postcopy-paused, never failed. FERRY_ERROR_STATE without the capability postcopy-ram, or before
 * any migration; no error, and no effect, once it has been switched or is over (QEMU's rule: it
 * would race).
 */
gboolean ferry_source_start_postcopy(FerrySource *source, GError **error);

/* Cuts the link of a migration in postcopy-active: it goes to postcopy-paused at both sides.
 * FERRY_ERROR_STATE in any other state. */
gboolean ferry_source_pause(FerrySource *source, GError **error);

/* Connects a migration in postcopy-paused anew, to @uri, by any transport; returns at once. Pages
 * that the destination has are not sent again. FERRY_ERROR_STATE in any other state. On failure it
 * is paused again, with the reason in the status. */
gboolean ferry_source_recover(FerrySource *source, const char *uri, GError **error);

/* What the operator decides about a hand-over in doubt (state handover-lost). */
typedef enum {
	FERRY_RESOLVE_RETRY, /* ask the destination again, now */
	/* the guest runs on this side; the other must be dead or told to discard */
	FERRY_RESOLVE_RUN_HERE,
	FERRY_RESOLVE_DISCARD, /* the guest does not run on this side any more */
} FerryResolve;
/* FERRY_ERROR_STATE unless in handover-lost. */
gboolean ferry_source_resolve(FerrySource *source, FerryResolve how, GError **error);

/* Fills @status; clear it with ferry_migration_status_clear(). */
void ferry_source_get_status(FerrySource *source, FerryMigrationStatus *status);
FerryState ferry_source_state(FerrySource *source);

/* Blocks until no migration runs (completed, failed, cancelled, handover-lost, postcopy-paused,
 * none). Not from a callback. */
FerryState ferry_source_wait(FerrySource *source);

G_END_DECLS
