/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <gio/gio.h>
#include <ferry/error.h>

/*
 * The descriptors that one QMP client passed over its socket: those that came with the last
 * message, and those that getfd gave a name. Owned here until they are taken by a URI; the rest are
 * closed with it.
 */
typedef struct FerryQmpFds FerryQmpFds;

FerryQmpFds *ferry_qmp_fds_new(void);
void ferry_qmp_fds_free(FerryQmpFds *fds);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryQmpFds, ferry_qmp_fds_free)

/* Takes over the @n descriptors in @passed (the array stays the caller's). Those of an earlier
 * message that nobody asked for are closed. */
void ferry_qmp_fds_offer(FerryQmpFds *fds, const int *passed, int n);

/* getfd: gives the oldest unnamed descriptor the name; one that had the name is closed. */
gboolean ferry_qmp_fds_name(FerryQmpFds *fds, const char *name, GError **error);

/* closefd. */
gboolean ferry_qmp_fds_close(FerryQmpFds *fds, const char *name, GError **error);

/**
 * Turns "fd:NAME" into "fd:N" for a transport; every other URI, "fd:N" too, is copied.
 * The descriptor stays here until ferry_qmp_fds_forget() says that the transport has it.
 * FERRY_ERROR_INVALID for a name that getfd did not give. Free the result with g_free().
 */
char *ferry_qmp_fds_resolve(FerryQmpFds *fds, const char *uri, GError **error);
void ferry_qmp_fds_forget(FerryQmpFds *fds, const char *uri);
