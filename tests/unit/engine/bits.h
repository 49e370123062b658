/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "engine/bitmap.h"

/* What only tests ask of a bitmap. */

static inline gboolean bit_is_set(const FerryBitmap *bitmap, guint block, guint64 page)
{
	FerryRun run = { .block = block, .first = page };

	return ferry_bitmap_next_run(bitmap, &run, 1) && run.block == block && run.first == page;
}

static inline void clear_bits(FerryBitmap *bitmap, const FerryRam *ram)
{
	for (guint i = 0; i < ram->n_blocks; i++)
		ferry_bitmap_clear_run(bitmap,
				       &(FerryRun){ i, 0, ferry_ram_block_pages(&ram->blocks[i]) });
}
