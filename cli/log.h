/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/*
 * Where the library's log goes in this command: to stderr, a line a message, or to the journal
 * where stderr is its. Off until a level is chosen, or G_MESSAGES_DEBUG has "ferry" or "all".
 */

/* Once, in main(), before any thread. */
void ferry_cli_log_init(void);

/* "off", "warning", "message", "info" or "debug": this and all that is more severe. FALSE for
 * anything else. */
gboolean ferry_cli_log_set_level(const char *name);
