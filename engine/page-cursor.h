/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "bitmap.h"

/*
 * In which order missing pages go once the guest runs at the destination: forward through RAM from
 * where it last asked, since it will soon want what lies behind; round the end of RAM once; a huge
 * page in one go, as it shows only when all of it is there. Each page is given once. One thread at
 * a time.
 */
typedef struct {
	const FerryRam *ram;  /* borrowed */
	FerryBitmap *missing; /* borrowed: bits are cleared as the pages are given */
	FerryRun at;          /* the search goes on behind it */
	FerryRun whole;       /* what is still to give of a huge page that was begun; or no pages */
} FerryPageCursor;

void ferry_page_cursor_init(FerryPageCursor *cursor, const FerryRam *ram, FerryBitmap *missing);

/* The guest asked for @run: what lies behind it is next, once a huge page that was begun is
 * given. */
void ferry_page_cursor_jump(FerryPageCursor *cursor, const FerryRun *run);

/* Gives the next run, of at most @max pages. FALSE: all were given. */
gboolean ferry_page_cursor_next(FerryPageCursor *cursor, guint64 max, FerryRun *run);

/* Gives the first run of what is missing in @range, at most @max pages. FALSE: all of it was
 * given. */
gboolean ferry_page_cursor_claim(FerryPageCursor *cursor, const FerryRun *range, guint64 max,
				 FerryRun *run);

/* Takes a run back that was given. */
void ferry_page_cursor_return(FerryPageCursor *cursor, const FerryRun *run);
