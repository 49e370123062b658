/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <json-glib/json-glib.h>

/*
 * A blocking QMP client, for any monitor that speaks QEMU's protocol. One thread. Failures are
 * FERRY_ERROR_LINK where the connection is the matter and FERRY_ERROR_STATE where the monitor
 * refused.
 */
typedef struct FerryQmpClient FerryQmpClient;

/* Connects to @address, "unix:PATH", and negotiates. FERRY_ERROR_INVALID for another kind of
 * address. */
FerryQmpClient *ferry_qmp_client_new(const char *address, GError **error);
void ferry_qmp_client_free(FerryQmpClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryQmpClient, ferry_qmp_client_free)

/* Runs @command and returns its answer, the caller's. @arguments is taken over; NULL for none.
 * Events that come meanwhile are kept for ferry_qmp_client_wait(). */
JsonNode *ferry_qmp_client_call(FerryQmpClient *client, const char *command, JsonObject *arguments,
				GError **error);

/* Passes descriptor @fd to the monitor under @name (getfd). */
gboolean ferry_qmp_client_pass_fd(FerryQmpClient *client, const char *name, int fd, GError **error);

/* The next event, the caller's; NULL after @timeout_ms or when a signal came, and NULL with @error.
 */
JsonNode *ferry_qmp_client_wait(FerryQmpClient *client, int timeout_ms, GError **error);
