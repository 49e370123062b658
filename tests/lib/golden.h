/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/* Appends what the code writes for the line called @name of a block of examples; nothing for a name
 * that it does not know, which then fails. FALSE: the line is another test's. */
typedef gboolean (*GoldenWrite)(const char *name, GByteArray *out);

/*
 * Compares the block of example bytes in docs/protocol.md whose first line is called @first, line
 * by line, with what @write writes; a line that differs fails the running case and shows both.
 * Returns how many lines were compared: 0 where there is no such block.
 */
guint golden_compare(const char *first, GoldenWrite write);
