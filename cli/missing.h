/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ferry.h>

/*
 * What postcopy has still to bring: one bit for each page of the guest's RAM. Offsets and lengths
 * are bytes, page-aligned, and within the block: the caller has looked.
 */
typedef struct FerryMissing FerryMissing;

/* Nothing is missing. @blocks: of FerryStreamRamBlock. NULL if there is no memory for it. */
FerryMissing *ferry_missing_new(const GArray *blocks);
/* NULL is allowed. */
void ferry_missing_free(FerryMissing *missing);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryMissing, ferry_missing_free)

/* The pages are missing, whether or not they were before. */
void ferry_missing_add(FerryMissing *missing, guint block, guint64 start, guint64 length);

/* The page came: FALSE if it was not missing. */
gboolean ferry_missing_take(FerryMissing *missing, guint block, guint64 offset);

guint64 ferry_missing_pages(const FerryMissing *missing);

/* The first run of missing pages at or after *@start of *@block, at most @max bytes; it is stored
 * there. FALSE: there is none up to the end of RAM. */
gboolean ferry_missing_next(const FerryMissing *missing, guint *block, guint64 *start,
			    guint64 *length, guint64 max);

/* Bit n of word n/64 is set if page n of the block is here; @words of them. Free with g_free(). */
guint64 *ferry_missing_received(const FerryMissing *missing, guint block, gsize *words);
