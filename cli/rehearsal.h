/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <json-glib/json-glib.h>

/* --dry-run's value, seconds. FERRY_ERROR_INVALID for anything but 1 to 600. */
gboolean ferry_cli_rehearsal_parse(const char *text, guint *seconds, GError **error);

/* The rehearsal in query-migrate's answer, NULL where there is none that came to its end. */
JsonObject *ferry_cli_rehearsal_find(JsonNode *answer);

/* Tells what it found, and what would help; by @uri and @transport (may be NULL). */
void ferry_cli_rehearsal_report(JsonObject *rehearsal, const char *uri, const char *transport);

/* FERRY_EXIT_DONE where it converges, else FERRY_EXIT_NOT_CONVERGING. */
int ferry_cli_rehearsal_status(JsonObject *rehearsal);
