/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/settings.h>
#include <guest.h>

/* The command line of `ferry run`. */
typedef struct {
	FerryGuestConfig guest; /* its strings are owned by the fields below */
	gboolean paused;        /* do not start the guest */
	char *incoming;         /* a URI or "defer"; NULL for a guest that starts here */
	char *qmp;
	char **settings; /* --set, NULL-terminated; may be NULL */
	char *backing;
	char *dirty_source;
	char *workload;
	guint8 uuid[16];
} FerryCliRunOptions;

/* FALSE after it said on stderr what is wrong. Clear @options in both cases. */
gboolean ferry_cli_run_options_parse(FerryCliRunOptions *options, int argc, char **argv);
void ferry_cli_run_options_clear(FerryCliRunOptions *options);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(FerryCliRunOptions, ferry_cli_run_options_clear)
