/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/* What every subcommand shares: exit statuses, options, and how quantities are read and shown. */

typedef enum {
	FERRY_EXIT_DONE = 0,
	FERRY_EXIT_FAILED = 1,         /* and the guest still runs at the source */
	FERRY_EXIT_USAGE = 2,          /* nothing was done */
	FERRY_EXIT_IN_DOUBT = 3,       /* an operator must look before the guest runs anywhere */
	FERRY_EXIT_NOT_CONVERGING = 4, /* a rehearsal's finding; nothing moved */
} FerryExit;

/* The help of a subcommand. */
typedef struct {
	const char *command;     /* "migrate" */
	const char *operands;    /* what follows the options: "URI" */
	const char *summary;     /* what it does */
	const char *description; /* examples and exit statuses */
} FerryCliHelp;

/**
 * Parses the options of a subcommand; --help prints and exits. What is left in *@argv are the
 * command's name and its operands.
 * @least, @most: how many operands there must be.
 * Returns FALSE after it said on stderr what is wrong: exit with FERRY_EXIT_USAGE.
 */
gboolean ferry_cli_parse(const FerryCliHelp *help, const GOptionEntry *entries, int *argc,
			 char ***argv, int least, int most);

/* Says "ferry COMMAND: ..." on stderr and where help is; returns FERRY_EXIT_USAGE. */
int ferry_cli_usage(const char *command, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Says "ferry COMMAND: ..." on stderr; returns FERRY_EXIT_FAILED. */
int ferry_cli_fail(const char *command, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* "512M", "4G", "65536": bytes, with K, M, G or T for powers of 1024 and nothing after it but "iB"
 * or "B". FERRY_ERROR_INVALID otherwise. */
gboolean ferry_cli_parse_size(const char *text, guint64 *bytes, GError **error);

/* on, true, yes, 1; off, false, no, 0. FALSE for anything else. */
gboolean ferry_cli_parse_boolean(const char *text, gboolean *value);

/* "512 MiB", "1.25 GiB"; free with g_free(). */
char *ferry_cli_format_bytes(double bytes);
/* "12 ms", "3.42 s", "2 min 5 s"; free with g_free(). */
char *ferry_cli_format_ms(double ms);
