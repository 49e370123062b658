/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "migration-info.h"
#include "qmp-client.h"

/* What `ferry migrate --postcopy[=AFTER]` asks for. */
typedef struct {
	gboolean wanted;
	gint64 after_ms; /* since the migration began */
	gint64 rounds;   /* so many are over; 0: @after_ms decides */
	gboolean started;
} FerryCliPostcopy;

/* @after: "now", "2s", "500ms", "round:3"; NULL: not wanted. FERRY_ERROR_INVALID otherwise. */
gboolean ferry_cli_postcopy_parse(const char *after, FerryCliPostcopy *postcopy, GError **error);

/* Switches the capability on, before the migration begins. */
gboolean ferry_cli_postcopy_enable(const FerryCliPostcopy *postcopy, FerryQmpClient *client,
				   GError **error);

/* Starts it once its time has come, @running_ms after the migration began. */
gboolean ferry_cli_postcopy_step(FerryCliPostcopy *postcopy, FerryQmpClient *client,
				 const FerryCliMigration *migration, gint64 running_ms,
				 GError **error);

/* How long to wait for the next look, at most @poll_ms. */
guint ferry_cli_postcopy_wait_ms(const FerryCliPostcopy *postcopy, gint64 running_ms,
				 guint poll_ms);
