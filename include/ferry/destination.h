/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/source.h>

G_BEGIN_DECLS

/*
 * Takes a guest in. The guest must not have run here, or have moved away (postmigrate); its run
 * state is inmigrate from the start on. A connection that fails before it brought a block list that
 * fits leaves the destination listening; one that fails later is state failed, and
 * ferry_destination_start() may be called again. Functions are safe from any thread except where
 * they say otherwise.
 */
typedef struct FerryDestination FerryDestination;

/* @vm and @transports are borrowed until ferry_destination_free(). */
FerryDestination *ferry_destination_new(FerryVm *vm, const FerryTransport *const *transports);

/* Stops what runs, and frees. Not from a callback. */
void ferry_destination_free(FerryDestination *destination);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryDestination, ferry_destination_free)

/* Makes the guest wait (run state inmigrate) without listening: "-incoming defer".
 * FERRY_ERROR_STATE if it runs here, or a second time. */
gboolean ferry_destination_defer(FerryDestination *destination, GError **error);

/* Listens on @uri and loads what arrives, in threads of its own; returns at once. FERRY_ERROR_STATE
 * if the guest runs here or an incoming migration is in progress or in doubt. */
gboolean ferry_destination_start(FerryDestination *destination, const char *uri, GError **error);

/* What a source must be given, with the real port; free with g_free(). NULL before start(). */
char *ferry_destination_uri(FerryDestination *destination);

/* Whether a guest that arrives in run state running starts by itself; TRUE at first. */
void ferry_destination_set_autostart(FerryDestination *destination, gboolean autostart);

/* The operator's word on a guest that is loaded and whose source is gone before the commit (state
 * handover-lost): run it here, or discard it. RETRY is FERRY_ERROR_INVALID here: the source
 * asks. */
gboolean ferry_destination_resolve(FerryDestination *destination, FerryResolve how, GError **error);

/* Cuts the link of a migration in postcopy-active: both sides go to postcopy-paused, and the guest
 * here runs on until it needs a page that is missing. FERRY_ERROR_STATE in any other state. */
gboolean ferry_destination_pause(FerryDestination *destination, GError **error);

/* Listens on @uri, instead of where it listened before, for the source of a migration in
 * postcopy-paused (or in handover-lost, of one that was to switch over). Without it the place that
 * it listened on at first still serves, where that can take a second connection. FERRY_ERROR_STATE
 * in any other state. */
gboolean ferry_destination_recover(FerryDestination *destination, const char *uri, GError **error);

/* announce() is called @rounds times: at once, @initial ms after that, and then at waits that are
 * each @step ms longer, at most @max. The parameters of these names are what arrival uses. */
typedef struct {
	guint64 initial;
	guint64 max;
	guint64 rounds;
	guint64 step;
} FerryAnnouncement;

/* Tells the network again that the guest is here, by @times, or where NULL by the parameters;
 * returns at once. FERRY_ERROR_STATE where no guest runs here that could be announced;
 * FERRY_ERROR_INVALID for a number that the parameter could not have. */
gboolean ferry_destination_announce(FerryDestination *destination, const FerryAnnouncement *times,
				    GError **error);

void ferry_destination_get_status(FerryDestination *destination, FerryMigrationStatus *status);
FerryState ferry_destination_state(FerryDestination *destination);

/* Blocks until the incoming migration completed, failed, is in doubt, or paused in postcopy. Not
 * from a callback. */
FerryState ferry_destination_wait(FerryDestination *destination);

G_END_DECLS
