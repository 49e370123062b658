/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>

/*
 * A set of pages of a FerryRam that any thread may read and change at any time; a FerryBitmap has
 * one owner. Every function is lock-free and sequentially consistent: of two threads that each add
 * to a set and then look into one, at least one sees what the other added. What a thread wrote
 * before it added a page is seen by whoever finds the page.
 */
typedef struct FerryPageSet FerryPageSet;

/* Empty, or full. @ram is only read here. */
FerryPageSet *ferry_page_set_new(const FerryRam *ram, gboolean full);
/* NULL is allowed. */
void ferry_page_set_free(FerryPageSet *set);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryPageSet, ferry_page_set_free)

/* Takes a part off the front of *@rest that ferry_page_set_add() and _remove() can do in one step:
 * at most 64 pages. FALSE: *@rest is empty. */
gboolean ferry_page_set_split(FerryRun *rest, FerryRun *part);

/* @part is of ferry_page_set_split(). Return which pages were changed: bit n is the n-th of
 * @part. */
guint64 ferry_page_set_add(FerryPageSet *set, const FerryRun *part);
guint64 ferry_page_set_remove(FerryPageSet *set, const FerryRun *part);

void ferry_page_set_clear(FerryPageSet *set);

gboolean ferry_page_set_has(const FerryPageSet *set, guint block, guint64 page);
gboolean ferry_page_set_has_all(const FerryPageSet *set, const FerryRun *run);
gboolean ferry_page_set_has_any(const FerryPageSet *set, const FerryRun *run);

/* The first stretch of pages in, or for @in FALSE not in, the set from page @from of @block on, at
 * most @max long and within the block. FALSE: there is none. */
gboolean ferry_page_set_find(const FerryPageSet *set, gboolean in, guint block, guint64 from,
			     guint64 max, FerryRun *run);

/* A copy of a block's words: bit n of word n/64 is page n. Free with g_free(). */
guint64 *ferry_page_set_copy(const FerryPageSet *set, guint block, gsize *words);
