/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <gio/gio.h>
#include <ferry/error.h>

/* The socket that QMP clients connect to. Belongs to the thread of its main context. */
typedef struct FerryQmpListener FerryQmpListener;

/* A client connected; @socket is the caller's. */
typedef void (*FerryQmpAccepted)(GSocket *socket, gpointer user);

/**
 * Listens on @address, "unix:PATH". A stale socket file is replaced; the file is readable and
 * writable for its owner alone, since who can open it commands the guest. FERRY_ERROR_INVALID: not
 * such an address, or @PATH is something else than a socket. FERRY_ERROR_STATE: somebody answers
 * there. FERRY_ERROR_IO: the system's reason.
 */
FerryQmpListener *ferry_qmp_listener_new(const char *address, GMainContext *context,
					 FerryQmpAccepted accepted, gpointer user, GError **error);
/* Closes, and removes the socket file. */
void ferry_qmp_listener_free(FerryQmpListener *listener);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryQmpListener, ferry_qmp_listener_free)
