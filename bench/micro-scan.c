/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/bitmap.h"
#include "micro.h"

/* As engine/round.c walks it. */
#define RUN_MAX 1024u

enum {
	NONE,
	SPARSE,
	MIXED,
	EVERY_OTHER,
	ALL
};

typedef struct {
	FerryRam *ram; /* of a guest that is not there: only its size counts */
	FerryBitmap *bitmap;
	guint64 *scrap; /* borrowed */
} Scan;

/* One page in @of, evenly and then shifted by a little, so that no stride shows. */
static void set_one_in(FerryBitmap *bitmap, guint64 pages, guint64 of)
{
	for (guint64 i = 0; i + of <= pages; i += of) {
		FerryRun run = { .first = i + (i * 2654435761u >> 7) % of, .pages = 1 };

		ferry_bitmap_set_run(bitmap, &run);
	}
}

static gpointer scan_begin(const FerryMicroMemory *memory, guint variant)
{
	Scan *scan = g_new0(Scan, 1);
	guint64 pages = memory->guest / FERRY_PAGE_SIZE;

	scan->ram = ferry_ram_new();
	scan->scrap = memory->scrap;
	if (!ferry_ram_add(scan->ram, "ram", memory->zero, memory->guest, FERRY_PAGE_SIZE, -1, 0,
			   NULL))
		g_error("a guest of %" G_GUINT64_FORMAT " bytes", memory->guest);
	scan->bitmap = ferry_bitmap_new(scan->ram);
	switch (variant) {
	case SPARSE:
		set_one_in(scan->bitmap, pages, 1000);
		break;
	case MIXED:
		set_one_in(scan->bitmap, pages, 10);
		break;
	case EVERY_OTHER:
		for (guint64 w = 0; w < pages / 64; w++)
			ferry_bitmap_block(scan->bitmap, 0)[w] = 0x5555555555555555ull;
		break;
	case ALL:
		ferry_bitmap_set_all(scan->bitmap);
		break;
	}
	return scan;
}

static guint64 scan_pass(gpointer state)
{
	Scan *scan = state;
	guint64 found = 0;

	for (FerryRun run = { 0 }; ferry_bitmap_next_run(scan->bitmap, &run, RUN_MAX);)
		found += run.pages;
	*scan->scrap += found;
	return scan->ram->total / FERRY_PAGE_SIZE;
}

static guint64 count_pass(gpointer state)
{
	Scan *scan = state;

	*scan->scrap += ferry_bitmap_count(scan->bitmap);
	return scan->ram->total / FERRY_PAGE_SIZE;
}

static void scan_end(gpointer state)
{
	Scan *scan = state;

	ferry_bitmap_free(scan->bitmap);
	ferry_ram_free(scan->ram);
	g_free(scan);
}

const FerryMicroCase ferry_micro_scan_cases[] = {
	{ "scan/none-dirty", scan_begin, scan_pass, scan_end, NONE },
	{ "scan/1-in-1000", scan_begin, scan_pass, scan_end, SPARSE },
	{ "scan/1-in-10", scan_begin, scan_pass, scan_end, MIXED },
	{ "scan/every-other", scan_begin, scan_pass, scan_end, EVERY_OTHER },
	{ "scan/all-dirty", scan_begin, scan_pass, scan_end, ALL },
	{ "count/1-in-10", scan_begin, count_pass, scan_end, MIXED },
	{ NULL },
};
