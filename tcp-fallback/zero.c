/* SPDX-License-Identifier: BSD-2-Clause */
#include "zero.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define PAGEMAP_PRESENT (G_GUINT64_CONSTANT(1) << 63)
#define PAGEMAP_SWAPPED (G_GUINT64_CONSTANT(1) << 62)
#define PAGEMAP_BATCH 512u

FerryZeroer ferry_zeroer_open(void)
{
	return (FerryZeroer){ .pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC) };
}

void ferry_zeroer_close(FerryZeroer *zeroer)
{
	if (zeroer->pagemap >= 0)
		close(zeroer->pagemap);
	zeroer->pagemap = -1;
}

static gboolean is_zero(const guint8 *page)
{
	/* Each byte equals the one 16 before it, back to 16 that are zero: memcmp() is the fastest
	 * there is. */
	static const guint8 zeros[16];

	return !memcmp(page, zeros, sizeof(zeros)) &&
	       !memcmp(page, page + sizeof(zeros), FERRY_PAGE_SIZE - sizeof(zeros));
}

static void clear_page(guint8 *page)
{
	if (!is_zero(page))
		memset(page, 0, FERRY_PAGE_SIZE);
}

static void clear_pages(guint8 *host, guint64 pages)
{
	for (guint64 i = 0; i < pages; i++)
		clear_page(host + (i << FERRY_PAGE_SHIFT));
}

/*
 * Shared memory: a hole in the file reads as zero. Asked page by page, since SEEK_HOLE would go
 * through all that follows the run to find an end that does not matter. lseek() moves the position
 * of the embedder's descriptor, which nobody can rely on while the file is guest RAM.
 */
static void clear_file_pages(const FerryRamBlock *block, guint64 first, guint64 pages)
{
	for (guint64 page = first; page < first + pages; page++) {
		gint64 at = (gint64)(block->fd_offset + (page << FERRY_PAGE_SHIFT));
		gint64 data = lseek(block->fd, at, SEEK_DATA);

		if (data < 0 && errno == ENXIO)
			return;
		/* A file that cannot tell is all data. */
		if (data > at)
			page += (guint64)(data - at) >> FERRY_PAGE_SHIFT;
		if (page < first + pages)
			clear_page(block->host + (page << FERRY_PAGE_SHIFT));
	}
}

/* Anonymous memory: what is neither present nor swapped was never touched. */
static void clear_anonymous_pages(int pagemap, guint8 *host, guint64 pages)
{
	guint64 entries[PAGEMAP_BATCH];

	while (pages) {
		guint64 n = MIN(pages, PAGEMAP_BATCH);
		off_t at = (off_t)((guintptr)host / (guintptr)getpagesize() * sizeof(guint64));
		gssize got = pread(pagemap, entries, n * sizeof(guint64), at);

		if (got != (gssize)(n * sizeof(guint64)))
			return clear_pages(host, pages);
		for (guint64 i = 0; i < n; i++)
			if (entries[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED))
				clear_page(host + (i << FERRY_PAGE_SHIFT));
		host += n << FERRY_PAGE_SHIFT;
		pages -= n;
	}
}

void ferry_zeroer_clear(const FerryZeroer *zeroer, const FerryRam *ram, const FerryRun *run)
{
	const FerryRamBlock *block = &ram->blocks[run->block];

	if (block->fd >= 0)
		clear_file_pages(block, run->first, run->pages);
	else if (zeroer->pagemap >= 0 && getpagesize() == (int)FERRY_PAGE_SIZE)
		clear_anonymous_pages(zeroer->pagemap, ferry_run_host(ram, run), run->pages);
	else
		clear_pages(ferry_run_host(ram, run), run->pages);
}
