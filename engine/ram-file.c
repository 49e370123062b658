/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/ram.h>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "pagemap.h"

/* Pages that are looked at to tell whether a block is mapped. */
#define SAMPLES 64u

static gboolean is_present(int pagemap, const guint8 *page)
{
	guint64 entry;
	off_t at = (off_t)((guintptr)page / FERRY_PAGE_SIZE * sizeof(entry));

	return pread(pagemap, &entry, sizeof(entry), at) == sizeof(entry) &&
	       (entry & FERRY_PAGEMAP_PRESENT);
}

/* All over the block: somebody touched it all, as preallocating does. A guess is enough. */
static gboolean is_mapped(const FerryRamBlock *block)
{
	guint64 pages = ferry_ram_block_pages(block);
	int pagemap = ferry_pagemap_open();
	guint i = 0;

	if (pagemap < 0)
		return FALSE;
	while (i < SAMPLES &&
	       is_present(pagemap, block->host + (pages * i / SAMPLES << FERRY_PAGE_SHIFT)))
		i++;
	close(pagemap);
	return i == SAMPLES;
}

/* With O_APPEND pwrite() ignores the offset (pwrite(2), BUGS). Hugetlb files have no write(). */
static gboolean takes_writes(const FerryRamBlock *block)
{
	struct statfs fs;
	int flags;

	if (block->fd < 0 || block->page_size != FERRY_PAGE_SIZE)
		return FALSE;
	flags = fcntl(block->fd, F_GETFL);
	return flags >= 0 && (flags & O_ACCMODE) == O_RDWR && !(flags & O_APPEND) &&
	       fstatfs(block->fd, &fs) == 0 && (guint64)fs.f_type == TMPFS_MAGIC;
}

gboolean ferry_ram_block_is_filled_by_file(const FerryRamBlock *block)
{
	return takes_writes(block) && !is_mapped(block);
}
