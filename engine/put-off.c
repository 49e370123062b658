/* SPDX-License-Identifier: BSD-2-Clause */
#include "put-off.h"

struct FerryPutOff {
	FerryBitmap *last;  /* what the last collect found */
	FerryBitmap *twice; /* and the one before it too; while a round goes, what is put off */
};

FerryPutOff *ferry_put_off_new(const FerryRam *ram)
{
	FerryPutOff *put_off = g_new0(FerryPutOff, 1);

	put_off->last = ferry_bitmap_new(ram);
	put_off->twice = ferry_bitmap_new(ram);
	return put_off;
}

void ferry_put_off_free(FerryPutOff *put_off)
{
	if (!put_off)
		return;
	ferry_bitmap_free(put_off->twice);
	ferry_bitmap_free(put_off->last);
	g_free(put_off);
}

void ferry_put_off_collected(FerryPutOff *put_off, const FerryBitmap *dirtied)
{
	FerryBitmap *swap = put_off->twice;

	ferry_bitmap_keep(put_off->last, dirtied);
	put_off->twice = put_off->last;
	put_off->last = swap;
	ferry_bitmap_copy(put_off->last, dirtied);
}

guint64 ferry_put_off_take(FerryPutOff *put_off, FerryBitmap *pending, guint64 most)
{
	guint64 taken = 0;

	for (FerryRun run = { 0 }; ferry_bitmap_next_run(put_off->twice, &run, G_MAXUINT64);) {
		FerryRun part = run;

		part.pages = MIN(run.pages, most - taken);
		ferry_bitmap_clear_run(put_off->twice, &run);
		if (!part.pages)
			continue;
		ferry_bitmap_set_run(put_off->twice, &part);
		ferry_bitmap_clear_run(pending, &part);
		taken += part.pages;
	}
	return taken;
}

void ferry_put_off_give_back(FerryPutOff *put_off, FerryBitmap *pending)
{
	ferry_bitmap_move(pending, put_off->twice);
}
