/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/* A guest's RAM in a memfd of its own. Its fields are there to be read. */
typedef struct {
	int fd;
	guint8 *host; /* MAP_FAILED: not mapped */
	guint64 size;
} FerryBenchRam;

/* @filled: with bytes that nothing compresses; else untouched. */
FerryBenchRam *ferry_bench_ram_new(guint64 size, gboolean filled, GError **error);
void ferry_bench_ram_free(FerryBenchRam *ram);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryBenchRam, ferry_bench_ram_free)
