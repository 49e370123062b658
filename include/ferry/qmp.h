/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <json-glib/json-glib.h>
#include <ferry/destination.h>
#include <ferry/source.h>

G_BEGIN_DECLS

/*
 * A QMP server for one guest: QEMU's protocol (docs/interop/qmp-spec of QEMU; greeting,
 * capabilities negotiation, ids, errors, events), with the migration commands of QEMU's schema and
 * ours; docs/qmp.md lists them. "quit" is not among them: what it means is the embedder's to say,
 * with ferry_qmp_add_command(). Runs in the thread-default GMainContext of ferry_qmp_new(); so do
 * the commands.
 */
typedef struct FerryQmp FerryQmp;

/* All borrowed until ferry_qmp_free(). @destination may be NULL for a monitor that never takes a
 * guest in. */
FerryQmp *ferry_qmp_new(FerryVm *vm, FerrySource *source, FerryDestination *destination);
void ferry_qmp_free(FerryQmp *qmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryQmp, ferry_qmp_free)

/* Listens on @address, "unix:PATH"; a stale socket file is replaced, one that answers is an error.
 * Any number of clients. */
gboolean ferry_qmp_listen(FerryQmp *qmp, const char *address, GError **error);

/**
 * A command of the embedder's. @arguments may be NULL. Returns the answer (taken over), or NULL for
 * {} without @error set, or NULL with @error, which becomes a GenericError.
 */
typedef JsonNode *(*FerryQmpFunc)(JsonObject *arguments, gpointer user, GError **error);
void ferry_qmp_add_command(FerryQmp *qmp, const char *name, FerryQmpFunc func, gpointer user);

/* Sends an event of the embedder's to every client; @data may be NULL and is taken over. Any
 * thread. */
void ferry_qmp_send_event(FerryQmp *qmp, const char *name, JsonNode *data);

G_END_DECLS
