/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>

/*
 * One bit for each page of a FerryRam; bit n of word n/64 is page n of the block. Bits beyond a
 * block's last page are never set. One thread owns a bitmap; the functions that other threads may
 * call beside it say so.
 */
typedef struct FerryBitmap FerryBitmap;

/* All clear. @ram is only read here. */
FerryBitmap *ferry_bitmap_new(const FerryRam *ram);
/* NULL is allowed. */
void ferry_bitmap_free(FerryBitmap *bitmap);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryBitmap, ferry_bitmap_free)

/* The words of block number @block, for FerryDirtySourceOps.collect(); owned by the bitmap, to be
 * written until the next call. Anything may be set then: the next ferry_bitmap_count(), or whatever
 * comes before it, has to look at all of the block. */
guint64 *ferry_bitmap_block(FerryBitmap *bitmap, guint block);

void ferry_bitmap_set_run(FerryBitmap *bitmap, const FerryRun *run);
void ferry_bitmap_clear_run(FerryBitmap *bitmap, const FerryRun *run);

/* As ferry_bitmap_set_run(), but from any thread, beside ferry_bitmap_move() of the owner.
 * Lock-free. What the caller wrote before is seen by whoever finds the bits after a
 * ferry_bitmap_move(). */
void ferry_bitmap_set_run_atomic(FerryBitmap *bitmap, const FerryRun *run);

void ferry_bitmap_set_all(FerryBitmap *bitmap);

/* Pages set, in all blocks. Notes where none are, so that all the other functions that walk a
 * bitmap take time by what is set and not by RAM. */
guint64 ferry_bitmap_count(FerryBitmap *bitmap);

/* @dst |= @src, @src = 0; a bit that another thread sets in @src meanwhile ends in one of the two.
 * Both must be of the same FerryRam. */
void ferry_bitmap_move(FerryBitmap *dst, FerryBitmap *src);

/* @dst = @src. Both must be of the same FerryRam, as below. */
void ferry_bitmap_copy(FerryBitmap *dst, const FerryBitmap *src);
/* @dst &= @src. */
void ferry_bitmap_keep(FerryBitmap *dst, const FerryBitmap *src);

/* @dst |= @src. */
void ferry_bitmap_add(FerryBitmap *dst, const FerryBitmap *src);
/* Pages set in both. */
guint64 ferry_bitmap_count_both(const FerryBitmap *a, const FerryBitmap *b);

/*
 * Finds the next run of set pages after the end of *@run, in block order, and stores it there: at
 * most @max_pages long. Begin with a run of zeros:
 *
 *	for (FerryRun run = {0}; ferry_bitmap_next_run(bitmap, &run, max);)
 *
 * Returns FALSE at the end. Bits may be set and cleared during the walk; it sees those that are
 * ahead.
 */
gboolean ferry_bitmap_next_run(const FerryBitmap *bitmap, FerryRun *run, guint64 max_pages);
