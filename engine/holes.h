/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>

/*
 * Finds the parts of RAM that have no memory behind them, which read as zeros and would be
 * populated by reading. Never calls a page a hole that has content, swapped out or not; may call a
 * hole data where the backing does not tell (hugetlb files, anonymous memory that is shared). One
 * thread at a time. What is said holds until the guest next writes, which a dirty source sees;
 * where pages land meanwhile, ferry_holes_forget() is needed before each question.
 */
typedef struct FerryHoles FerryHoles;

/* @ram is borrowed. Never fails: without the means to know, everything is data. */
FerryHoles *ferry_holes_new(const FerryRam *ram);
/* NULL is allowed. */
void ferry_holes_free(FerryHoles *holes);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryHoles, ferry_holes_free)

/* How many of the @pages pages of block number @block, from @first on, are all hole, or all data;
 * *@hole says which. @pages and the result are at least 1. A system call for each new stretch, none
 * within one that was found before: walk forward, and take a new one for a second walk. */
guint64 ferry_holes_split(FerryHoles *holes, guint block, guint64 first, guint64 pages,
			  gboolean *hole);

/* Holes that were found may have been filled since: they are looked for anew. */
void ferry_holes_forget(FerryHoles *holes);
