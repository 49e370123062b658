/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "migration-info.h"

/*
 * Shows how a migration goes, on stderr: one line that redraws itself on a terminal that can, else
 * a line a round.
 */
typedef struct FerryCliProgress FerryCliProgress;

typedef enum {
	FERRY_CLI_PROGRESS_NONE,
	FERRY_CLI_PROGRESS_ROUNDS,
	FERRY_CLI_PROGRESS_LINE,
} FerryCliProgressStyle;

/* What fits this stderr. */
FerryCliProgressStyle ferry_cli_progress_style(void);

FerryCliProgress *ferry_cli_progress_new(FerryCliProgressStyle style);
void ferry_cli_progress_show(FerryCliProgress *progress, const FerryCliMigration *migration);
/* Shows what is left to show, clears the line, and frees. @migration: the last known, or NULL. */
void ferry_cli_progress_finish(FerryCliProgress *progress, const FerryCliMigration *migration);

/* The line that show() draws, exactly @width columns or less; free with g_free(). @utf8: whether
 * the bar may be drawn in block characters. */
char *ferry_cli_progress_line(const FerryCliMigration *migration, guint width, gboolean utf8);
