/* SPDX-License-Identifier: BSD-2-Clause */
#include "first-touch.h"
#include "bitmap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Large enough to make the system calls cheap, small enough to stay in the second-level cache. */
#define BOUNCE (256u << 10)

/* Linux 5.14; Debian 12's C library has it. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

struct FerryFirstTouch {
	const FerryRam *ram;
	FerryBitmap *touched;
	gboolean *by_file; /* one for each block */
	guint8 *bounce; /* BOUNCE bytes, page-aligned */
};

/* With O_APPEND pwrite() ignores the offset (pwrite(2), BUGS). Hugetlb files have no write(). */
static gboolean can_write_file(const FerryRamBlock *block)
{
	struct statfs fs;
	int flags;

	if (block->fd < 0 || block->page_size != FERRY_PAGE_SIZE)
		return FALSE;
	flags = fcntl(block->fd, F_GETFL);
	return flags >= 0 && (flags & O_ACCMODE) == O_RDWR && !(flags & O_APPEND) &&
	       fstatfs(block->fd, &fs) == 0 && (guint64)fs.f_type == TMPFS_MAGIC;
}

FerryFirstTouch *ferry_first_touch_new(const FerryRam *ram)
{
	FerryFirstTouch *touch = g_new0(FerryFirstTouch, 1);

	touch->ram = ram;
	touch->touched = ferry_bitmap_new(ram);
	touch->by_file = g_new0(gboolean, ram->n_blocks);
	touch->bounce = g_aligned_alloc(1, BOUNCE, FERRY_PAGE_SIZE);
	for (guint i = 0; i < ram->n_blocks; i++)
		touch->by_file[i] = can_write_file(&ram->blocks[i]);
	return touch;
}

void ferry_first_touch_free(FerryFirstTouch *touch)
{
	if (!touch)
		return;
	g_aligned_free(touch->bounce);
	g_free(touch->by_file);
	ferry_bitmap_free(touch->touched);
	g_free(touch);
}

/* Whether all of @buf lies in whole pages of one block; *@run is where. */
static gboolean find_run(const FerryRam *ram, const guint8 *buf, size_t len, FerryRun *run)
{
	for (guint i = 0; i < ram->n_blocks; i++) {
		const FerryRamBlock *block = &ram->blocks[i];

		if (buf < block->host || buf >= block->host + block->size)
			continue;
		*run = (FerryRun){
			.block = i,
			.first = (guint64)(buf - block->host) >> FERRY_PAGE_SHIFT,
			.pages = len >> FERRY_PAGE_SHIFT,
		};
		return len && (buf - block->host) % FERRY_PAGE_SIZE == 0 &&
		       len % FERRY_PAGE_SIZE == 0 &&
		       len <= block->size - (guint64)(buf - block->host);
	}
	return FALSE;
}

static gboolean has_touched(const FerryFirstTouch *touch, const FerryRun *run)
{
	FerryRun next = { .block = run->block, .first = run->first };

	return ferry_bitmap_next_run(touch->touched, &next, 1) && next.block == run->block &&
	       next.first < run->first + run->pages;
}

static gboolean write_file(FerryFirstTouch *touch, guint block_index, guint64 offset, size_t len,
			   GError **error)
{
	const FerryRamBlock *block = &touch->ram->blocks[block_index];
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(block->fd, touch->bounce + done, len - done,
				   (off_t)(block->fd_offset + offset + done));

		if (n > 0) {
			done += (size_t)n;
		} else if (n < 0 && (errno == ENOSPC || errno == ENOMEM || errno == EFBIG)) {
			g_set_error(
				error, FERRY_ERROR, FERRY_ERROR_IO,
				"RAM block '%s': no memory for the page at offset 0x%" G_GINT64_MODIFIER
				"x: %s; enlarge the file system or the memory limit",
				block->name, offset + done, g_strerror(errno));
			return FALSE;
		} else if (n == 0 || errno != EINTR) {
			/* A sealed file, a filter of system calls, ...: through the mapping, then.
			 */
			touch->by_file[block_index] = FALSE;
			memcpy(block->host + offset + done, touch->bounce + done, len - done);
			done = len;
		}
	}
	return TRUE;
}

gboolean ferry_first_touch_read(FerryFirstTouch *touch, void *buf, size_t len,
				FerryReadExactly read, gpointer user, GError **error)
{
	FerryRun run;
	guint64 offset;

	if (!find_run(touch->ram, buf, len, &run) || has_touched(touch, &run))
		return read(user, buf, len, error);
	ferry_bitmap_set_run(touch->touched, &run);
	offset = run.first << FERRY_PAGE_SHIFT;
	while (len && touch->by_file[run.block]) {
		size_t n = MIN(len, BOUNCE);

		if (!read(user, touch->bounce, n, error) ||
		    !write_file(touch, run.block, offset, n, error))
			return FALSE;
		offset += n;
		len -= n;
	}
	if (!len)
		return TRUE;
	buf = touch->ram->blocks[run.block].host + offset;
	madvise(buf, len, MADV_POPULATE_WRITE);
	return read(user, buf, len, error);
}
