/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "bench-ram.h"

/* Minor faults of a mapping whose file's pages are there: userfaultfd(2). */

/* Faults of @ram's mapping wait from now on; a descriptor that does not block, or -1 with
 * FERRY_ERROR_NOSUPP. Closing it lets go whoever waits. */
int ferry_bench_minor_open(const FerryBenchRam *ram, GError **error);

/* The page that somebody waits for, as an offset in @ram; FALSE without an error: none. */
gboolean ferry_bench_minor_take(int fd, const FerryBenchRam *ram, guint64 *offset, GError **error);

/* Whoever waits for that page goes on. */
gboolean ferry_bench_minor_continue(int fd, const FerryBenchRam *ram, guint64 offset,
				    GError **error);
