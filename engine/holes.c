/* SPDX-License-Identifier: BSD-2-Clause */
#include "holes.h"
#include "pagemap.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

/* How far the page table is walked at a time at most, 32 MiB: the next page waits for it. */
#define WALK_PAGES 8192u

typedef enum {
	BACKING_UNKNOWN, /* everything is data */
	BACKING_FILE,    /* what is mapped is data; of the rest the file's own map of holes tells */
	BACKING_ANONYMOUS, /* private: what is neither present nor swapped was never written */
} Backing;

/* The stretch of a block that was found last: pages @first to @end are all @hole. */
typedef struct {
	Backing backing;
	gboolean hole;
	guint64 first;
	guint64 end;
} Known;

struct FerryHoles {
	const FerryRam *ram;
	int pagemap;
	Known *known; /* one for each block */
};

/*
 * Whether the kernel's list of mappings says that all of the block is private and has no file. Only
 * then does the page table tell: shared memory can be swapped out, or not be mapped here, and leave
 * an empty entry.
 */
static gboolean is_private_anonymous(const FerryRamBlock *block)
{
	guint64 covered = (guintptr)block->host, block_end = covered + block->size;
	FILE *maps = fopen("/proc/self/maps", "re");
	char *line = NULL;
	size_t room = 0;

	while (maps && covered < block_end && getline(&line, &room, maps) > 0) {
		unsigned long long start, end, inode;
		char permissions[5];

		if (sscanf(line, "%llx-%llx %4s %*x %*s %llu", &start, &end, permissions, &inode) !=
		    4)
			break;
		if (end <= covered)
			continue;
		if (start > covered || permissions[3] != 'p' || inode != 0)
			break;
		covered = end;
	}
	free(line);
	if (maps)
		fclose(maps);
	return covered >= block_end;
}

FerryHoles *ferry_holes_new(const FerryRam *ram)
{
	FerryHoles *holes = g_new0(FerryHoles, 1);

	holes->ram = ram;
	holes->pagemap = ferry_pagemap_open();
	holes->known = g_new0(Known, ram->n_blocks);
	for (guint i = 0; i < ram->n_blocks; i++) {
		if (ram->blocks[i].fd >= 0)
			holes->known[i].backing = BACKING_FILE;
		else if (holes->pagemap >= 0 && is_private_anonymous(&ram->blocks[i]))
			holes->known[i].backing = BACKING_ANONYMOUS;
	}
	return holes;
}

void ferry_holes_free(FerryHoles *holes)
{
	if (!holes)
		return;
	g_free(holes->known);
	if (holes->pagemap >= 0)
		close(holes->pagemap);
	g_free(holes);
}

static void know(Known *known, guint64 first, guint64 end, gboolean hole)
{
	known->first = first;
	known->end = end;
	known->hole = hole;
}

/* A file that has no map of holes says that all is data, or fails: then it is. */
static void ask_file(const FerryRamBlock *block, Known *known, guint64 first)
{
	guint64 pages = ferry_ram_block_pages(block);
	off_t at = (off_t)(block->fd_offset + (first << FERRY_PAGE_SHIFT)), next;

	next = lseek(block->fd, at, SEEK_DATA);
	if (next < 0) {
		know(known, first, pages, errno == ENXIO);
	} else if (next - at >= (off_t)FERRY_PAGE_SIZE) {
		know(known, first, MIN(first + (guint64)(next - at) / FERRY_PAGE_SIZE, pages),
		     TRUE);
	} else {
		next = lseek(block->fd, MAX(at, next), SEEK_HOLE);
		next = next < 0 ? G_MAXINT64 - (off_t)FERRY_PAGE_SIZE : next;
		/* Rounded up: a page with any data is data. */
		know(known, first,
		     MIN(first + ((guint64)(next - at) + FERRY_PAGE_SIZE - 1) / FERRY_PAGE_SIZE,
			 pages),
		     FALSE);
	}
}

/* Without PAGEMAP_SCAN: the entries themselves, one word a page, a buffer at a time. */
static void ask_entries(const FerryHoles *holes, const FerryRamBlock *block, gboolean swapped,
			Known *known, guint64 first)
{
	guint64 entries[1024], n = MIN(ferry_ram_block_pages(block) - first, G_N_ELEMENTS(entries)),
			       i;
	guint64 page = ((guintptr)block->host >> FERRY_PAGE_SHIFT) + first;
	const guint64 content = FERRY_PAGEMAP_PRESENT | (swapped ? FERRY_PAGEMAP_SWAPPED : 0);
	gssize got = pread(holes->pagemap, entries, n * sizeof(guint64),
			   (off_t)(page * sizeof(guint64)));

	if (got < (gssize)sizeof(guint64)) {
		know(known, first, first + n, FALSE);
		return;
	}
	for (i = 1; i < (guint64)got / sizeof(guint64); i++)
		if (!(entries[i] & content) != !(entries[0] & content))
			break;
	know(known, first, first + i, !(entries[0] & content));
}

/* Data is what is present and, with @swapped, what is swapped out. No further than @most pages: who
 * forgets what is beyond them would have it walked again. */
static void ask_pagemap(const FerryHoles *holes, const FerryRamBlock *block, gboolean swapped,
			Known *known, guint64 first, guint64 most)
{
	const guint64 content = FERRY_PAGE_IS_PRESENT | (swapped ? FERRY_PAGE_IS_SWAPPED : 0);
	const FerryPagemapQuery query = { .any_of = content, .report = content };
	guint64 base = (guintptr)block->host, at = base + (first << FERRY_PAGE_SHIFT), walked;
	guint64 pages = MIN(most, WALK_PAGES);
	FerryPagemapRegion region;
	int n = ferry_pagemap_scan(holes->pagemap, at, at + (pages << FERRY_PAGE_SHIFT), &query,
				   &region, 1, &walked);

	if (n < 0)
		ask_entries(holes, block, swapped, known, first);
	else if (n > 0 && region.start == at)
		know(known, first, (region.end - base) >> FERRY_PAGE_SHIFT, FALSE);
	else
		know(known, first, ((n > 0 ? region.start : walked) - base) >> FERRY_PAGE_SHIFT,
		     TRUE);
}

/* The file walks to its next hole, which may be the end of RAM, before it tells of any data: so it
 * is asked only of what is not mapped. A swapped entry is no sign of content here: write protection
 * leaves its mark in the same way. */
static void ask_mapped_file(const FerryHoles *holes, const FerryRamBlock *block, Known *known,
			    guint64 first, guint64 most)
{
	if (holes->pagemap >= 0) {
		ask_pagemap(holes, block, FALSE, known, first, most);
		if (!known->hole)
			return;
	}
	ask_file(block, known, first);
}

static void ask(const FerryHoles *holes, const FerryRamBlock *block, Known *known, guint64 first,
		guint64 most)
{
	switch (known->backing) {
	case BACKING_FILE:
		ask_mapped_file(holes, block, known, first, most);
		break;
	case BACKING_ANONYMOUS:
		ask_pagemap(holes, block, TRUE, known, first, most);
		break;
	case BACKING_UNKNOWN:
		know(known, 0, ferry_ram_block_pages(block), FALSE);
		break;
	}
}

void ferry_holes_forget(FerryHoles *holes)
{
	for (guint i = 0; i < holes->ram->n_blocks; i++)
		if (holes->known[i].hole)
			know(&holes->known[i], 0, 0, FALSE);
}

guint64 ferry_holes_split(FerryHoles *holes, guint block, guint64 first, guint64 pages,
			  gboolean *hole)
{
	Known *known = &holes->known[block];

	if (first < known->first || first >= known->end)
		ask(holes, &holes->ram->blocks[block], known, first, pages);
	*hole = known->hole;
	return MIN(pages, known->end - first);
}
