/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/* Works on items @first to @first + @count - 1. */
typedef void (*FerryParallelFunc)(guint64 first, guint64 count, gpointer user);

/* Calls @func for all of 0..@items-1, cut into one stretch a thread, and returns when all are done. Few
 * items are done in the calling thread. */
void ferry_parallel_for(guint64 items, FerryParallelFunc func, gpointer user);
