/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "migration-info.h"

/* The last words of `ferry migrate` on stdout, for people; @uri is where the guest went. */
void ferry_cli_report(const FerryCliMigration *migration, const char *uri);

/* The same for programs: one JSON object, @answer and the members that --json promises. NULL
 * @answer: the migration did not begin or cannot be seen, because of @why. */
void ferry_cli_report_json(JsonNode *answer, const char *status, const char *why);
