/* SPDX-License-Identifier: BSD-2-Clause */
#include "page-cursor.h"

void ferry_page_cursor_init(FerryPageCursor *cursor, const FerryRam *ram, FerryBitmap *missing)
{
	*cursor = (FerryPageCursor){ .ram = ram, .missing = missing };
}

void ferry_page_cursor_jump(FerryPageCursor *cursor, const FerryRun *run)
{
	cursor->at = *run;
}

gboolean ferry_page_cursor_claim(FerryPageCursor *cursor, const FerryRun *range, guint64 max,
				 FerryRun *run)
{
	FerryRun found = { .block = range->block, .first = range->first };
	guint64 end = range->first + range->pages;

	if (!ferry_bitmap_next_run(cursor->missing, &found, max) || found.block != range->block ||
	    found.first >= end)
		return FALSE;
	found.pages = MIN(found.pages, end - found.first);
	ferry_bitmap_clear_run(cursor->missing, &found);
	*run = found;
	return TRUE;
}

/* All of the host page that @run begins in. */
static FerryRun host_page(const FerryPageCursor *cursor, const FerryRun *run)
{
	guint64 pages = cursor->ram->blocks[run->block].page_size >> FERRY_PAGE_SHIFT;

	return (FerryRun){ run->block, run->first / pages * pages, pages };
}

gboolean ferry_page_cursor_next(FerryPageCursor *cursor, guint64 max, FerryRun *run)
{
	FerryRun found;

	if (cursor->whole.pages && ferry_page_cursor_claim(cursor, &cursor->whole, max, run))
		return TRUE;
	cursor->whole.pages = 0;
	found = cursor->at;
	if (!ferry_bitmap_next_run(cursor->missing, &found, max)) {
		found = (FerryRun){ 0 };
		if (!ferry_bitmap_next_run(cursor->missing, &found, max))
			return FALSE;
	}
	if (cursor->ram->blocks[found.block].page_size > FERRY_PAGE_SIZE) {
		cursor->whole = host_page(cursor, &found);
		found.pages = MIN(found.pages,
				  cursor->whole.first + cursor->whole.pages - found.first);
	}
	ferry_bitmap_clear_run(cursor->missing, &found);
	cursor->at = *run = found;
	return TRUE;
}

void ferry_page_cursor_return(FerryPageCursor *cursor, const FerryRun *run)
{
	ferry_bitmap_set_run(cursor->missing, run);
}
