/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "bench-fault.h"

/*
 * A thread in the role of a vCPU that touches each page of a memory once, in random order, and
 * times those touches that faulted: what was there already tells nothing.
 */
typedef struct FerryBenchTouch FerryBenchTouch;

/* Gives each page of @size bytes a mark that tells it from every other page. */
void ferry_bench_touch_mark(guint8 *host, guint64 size);

/* @host is borrowed, and not touched yet. It ends after @faults faults; 0: after every page. */
FerryBenchTouch *ferry_bench_touch_new(const guint8 *host, guint64 size, guint64 faults,
				       GError **error);

/* Starts the thread, once; later calls do nothing. */
void ferry_bench_touch_start(FerryBenchTouch *touch);

/* Readable once it has ended. */
int ferry_bench_touch_fd(FerryBenchTouch *touch);

/* What it felt, after its end; FERRY_ERROR_PEER where a page had the mark of another one, or
 * none. */
gboolean ferry_bench_touch_result(FerryBenchTouch *touch, FerryBenchLatency *felt, GError **error);

/* Waits for the thread: the page that it may wait for must come, or its faults be given up. */
void ferry_bench_touch_free(FerryBenchTouch *touch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryBenchTouch, ferry_bench_touch_free)

/* Sorts @ns, of gint64. */
FerryBenchLatency ferry_bench_latency_of(GArray *ns);
