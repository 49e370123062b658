/* SPDX-License-Identifier: BSD-2-Clause */
#include "first-touch.h"
#include "bitmap.h"
#include "write-behind.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Shorter reads are written in line: handing them to a thread would cost more. */
#define BEHIND_MIN (64u << 10)

struct FerryFirstTouch {
	const FerryRam *ram;
	FerryBitmap *touched;
	gint *by_file;            /* one for each block; atomic: a writer may find that it cannot */
	guint8 *bounce;           /* BEHIND_MIN bytes, page-aligned: for short reads */
	FerryWriteBehind *behind; /* from the first long read until settle(); else NULL */
	gboolean settled;
	FerryLandedFunc landed; /* or NULL */
	gpointer landed_user;
};

FerryFirstTouch *ferry_first_touch_new(const FerryRam *ram)
{
	FerryFirstTouch *touch = g_new0(FerryFirstTouch, 1);

	touch->ram = ram;
	touch->touched = ferry_bitmap_new(ram);
	touch->by_file = g_new0(gint, ram->n_blocks);
	touch->bounce = g_aligned_alloc(1, BEHIND_MIN, FERRY_PAGE_SIZE);
	for (guint i = 0; i < ram->n_blocks; i++)
		touch->by_file[i] = ferry_ram_block_is_filled_by_file(&ram->blocks[i]);
	return touch;
}

void ferry_first_touch_free(FerryFirstTouch *touch)
{
	if (!touch)
		return;
	ferry_write_behind_free(touch->behind);
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

void ferry_first_touch_on_landed(FerryFirstTouch *touch, FerryLandedFunc landed, gpointer user)
{
	touch->landed = landed;
	touch->landed_user = user;
}

static void landed(FerryFirstTouch *touch, guint block, guint64 offset, size_t len)
{
	const FerryRun run = { block, offset >> FERRY_PAGE_SHIFT, len >> FERRY_PAGE_SHIFT };

	if (touch->landed)
		touch->landed(touch->landed_user, &run);
}

/* Into RAM that was touched before. */
static gboolean read_directly(FerryFirstTouch *touch, guint block, guint64 offset, size_t len,
			      FerryReadExactly read, gpointer user, GError **error)
{
	if (!read(user, touch->ram->blocks[block].host + offset, len, error))
		return FALSE;
	landed(touch, block, offset, len);
	return TRUE;
}

/* A FerryWriteBehindFunc over a FerryFirstTouch. */
static gboolean write_file(gpointer user, guint block_index, guint64 offset, const guint8 *bytes,
			   size_t len, GError **error)
{
	FerryFirstTouch *touch = user;
	const FerryRamBlock *block = &touch->ram->blocks[block_index];
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(block->fd, bytes + done, len - done,
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
			g_atomic_int_set(&touch->by_file[block_index], FALSE);
			memcpy(block->host + offset + done, bytes + done, len - done);
			done = len;
		}
	}
	landed(touch, block_index, offset, len);
	return TRUE;
}

static gboolean read_in_line(FerryFirstTouch *touch, guint block, guint64 offset, size_t len,
			     FerryReadExactly read, gpointer user, GError **error)
{
	return read(user, touch->bounce, len, error) &&
	       write_file(touch, block, offset, touch->bounce, len, error);
}

static gboolean read_behind(FerryFirstTouch *touch, guint block, guint64 offset, size_t len,
			    FerryReadExactly read, gpointer user, GError **error)
{
	gboolean ok;

	if (!touch->behind)
		touch->behind = ferry_write_behind_new(write_file, touch);
	ok = read(user, ferry_write_behind_buffer(touch->behind), len, error);
	ferry_write_behind_submit(touch->behind, block, offset, ok ? len : 0);
	return ok;
}

gboolean ferry_first_touch_settle(FerryFirstTouch *touch, GError **error)
{
	gboolean ok = !touch->behind || ferry_write_behind_drain(touch->behind, error);

	touch->settled = TRUE;
	g_clear_pointer(&touch->behind, ferry_write_behind_free);
	return ok;
}

gboolean ferry_first_touch_read(FerryFirstTouch *touch, void *buf, size_t len,
				FerryReadExactly read, gpointer user, GError **error)
{
	FerryRun run;
	guint64 offset;

	if (!find_run(touch->ram, buf, len, &run))
		return read(user, buf, len, error);
	if (has_touched(touch, &run)) {
		/* What came first must not land last. */
		if (touch->behind && !ferry_write_behind_drain(touch->behind, error))
			return FALSE;
		return read_directly(touch, run.block, run.first << FERRY_PAGE_SHIFT, len, read,
				     user, error);
	}
	ferry_bitmap_set_run(touch->touched, &run);
	offset = run.first << FERRY_PAGE_SHIFT;
	while (len && g_atomic_int_get(&touch->by_file[run.block])) {
		gboolean behind = !touch->settled && len >= BEHIND_MIN;
		size_t n = MIN(len, behind ? FERRY_WRITE_BEHIND_BUFFER : BEHIND_MIN);

		if (!(behind ? read_behind : read_in_line)(touch, run.block, offset, n, read, user,
							   error))
			return FALSE;
		offset += n;
		len -= n;
	}
	if (!len)
		return TRUE;
	madvise(touch->ram->blocks[run.block].host + offset, len, MADV_POPULATE_WRITE);
	return read_directly(touch, run.block, offset, len, read, user, error);
}
