/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/dirty.h>

#include "bitmap.h"
#include "pagemap.h"
#include "steady.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

/* Entries of /proc/self/pagemap taken with one read: those of 32 MiB. */
#define ENTRIES 8192

#define LACKS "soft-dirty does not work here: "

/*
 * The bits are read block by block, but cleared for the whole process at once: one hold of the
 * guest serves all blocks. What it found of the others waits in @found until they are collected.
 */
typedef struct {
	FerryDirtySource base;
	FerryHoldCallbacks hold;
	gpointer user;
	int pagemap;
	int clear_refs;
	const FerryRam *ram; /* NULL when not started; with it the three below */
	FerryBitmap *found;  /* read and cleared, not handed out yet */
	gboolean *fresh;     /* of each block: @found has what the last hold read */
	FerrySteady *steady;
	guint64 entries[ENTRIES];
} SoftDirty;

/* ---- a pass over all blocks ---- */

static void take_entries(const guint64 *entries, guint64 n, guint64 *bitmap, guint64 page)
{
	for (guint64 i = 0; i < n; i++, page++)
		if (entries[i] & FERRY_PAGEMAP_SOFT_DIRTY)
			bitmap[page / 64] |= 1ull << (page % 64);
}

static gboolean read_block(SoftDirty *s, guint block, GError **error)
{
	const FerryRamBlock *b = &s->ram->blocks[block];
	guint64 first = (guintptr)b->host >> FERRY_PAGE_SHIFT, pages = ferry_ram_block_pages(b);

	for (guint64 page = 0; page < pages;) {
		size_t want = MIN(pages - page, ENTRIES) * sizeof(guint64);
		ssize_t n = pread(s->pagemap, s->entries, want,
				  (off_t)((first + page) * sizeof(guint64)));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < (ssize_t)sizeof(guint64)) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO,
				    "/proc/self/pagemap at page 0x%" G_GINT64_MODIFIER
				    "x of RAM block '%s': %s; keep the block mapped and the main "
				    "thread alive",
				    page, b->name, n < 0 ? g_strerror(errno) : "it ends there");
			return FALSE;
		}
		n /= (ssize_t)sizeof(guint64);
		take_entries(s->entries, (guint64)n, ferry_bitmap_block(s->found, block), page);
		page += (guint64)n;
	}
	return TRUE;
}

static gboolean clear_all(SoftDirty *s, GError **error)
{
	ssize_t n;

	do
		n = write(s->clear_refs, "4", 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO, "writing 4 to /proc/self/clear_refs: %s",
		    g_strerror(errno));
	return FALSE;
}

static gboolean read_all(SoftDirty *s, GError **error)
{
	for (guint i = 0; i < s->ram->n_blocks; i++)
		if (!read_block(s, i, error))
			return FALSE;
	return TRUE;
}

/* On failure too, what was read stays in @found: reported once more at worst. */
static gboolean take_pass(SoftDirty *s, GError **error)
{
	gboolean ok;

	if (!s->hold.hold(s->user, error))
		return FALSE;
	ok = read_all(s, error) && clear_all(s, error);
	s->hold.release(s->user);
	for (guint i = 0; ok && i < s->ram->n_blocks; i++)
		s->fresh[i] = TRUE;
	return ok;
}

/* Block 0 begins a pass in any case, so that one that was broken off leaves nothing stale. */
static gboolean soft_dirty_collect(FerryDirtySource *source, guint block, guint64 *bitmap,
				   GError **error)
{
	SoftDirty *s = (SoftDirty *)source;
	guint64 words = (ferry_ram_block_pages(&s->ram->blocks[block]) + 63) / 64;
	guint64 *found = ferry_bitmap_block(s->found, block);

	if ((block == 0 || !s->fresh[block]) && !take_pass(s, error))
		return FALSE;
	for (guint64 w = 0; w < words; w++) {
		bitmap[w] |= found[w];
		found[w] = 0;
	}
	s->fresh[block] = FALSE;
	return TRUE;
}

/* ---- start and stop ---- */

/* Another source's clear would take our bits away, and ours its. */
static gboolean take_process(SoftDirty *s, GError **error)
{
	if (flock(s->clear_refs, LOCK_EX | LOCK_NB) == 0)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
		    "another soft-dirty source tracks this process (%s); stop it first",
		    g_strerror(errno));
	return FALSE;
}

static void soft_dirty_stop(FerryDirtySource *source)
{
	SoftDirty *s = (SoftDirty *)source;

	if (!s->ram)
		return;
	flock(s->clear_refs, LOCK_UN);
	g_clear_pointer(&s->steady, ferry_steady_free);
	g_clear_pointer(&s->found, ferry_bitmap_free);
	g_clear_pointer(&s->fresh, g_free);
	s->ram = NULL;
}

static gboolean soft_dirty_start(FerryDirtySource *source, const FerryRam *ram, GError **error)
{
	SoftDirty *s = (SoftDirty *)source;

	s->ram = ram;
	s->found = ferry_bitmap_new(ram);
	s->fresh = g_new0(gboolean, ram->n_blocks);
	if (take_process(s, error)) {
		s->steady = ferry_steady_new(ram, error);
		if (s->steady && clear_all(s, error))
			return TRUE;
	}
	soft_dirty_stop(source);
	return FALSE;
}

static void soft_dirty_free(FerryDirtySource *source)
{
	SoftDirty *s = (SoftDirty *)source;

	if (s->pagemap >= 0)
		close(s->pagemap);
	if (s->clear_refs >= 0)
		close(s->clear_refs);
	g_free(s);
}

static const FerryDirtySourceOps soft_dirty_ops = {
	.name = "soft-dirty",
	.start = soft_dirty_start,
	.collect = soft_dirty_collect,
	.stop = soft_dirty_stop,
	.free = soft_dirty_free,
};

/* ---- construction ---- */

/* A page just written has the bit wherever there is one; nothing need be cleared to know. */
static gboolean has_soft_dirty(int pagemap)
{
	volatile guint8 *page = mmap(NULL, FERRY_PAGE_SIZE, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	off_t at = (off_t)(((guintptr)page >> FERRY_PAGE_SHIFT) * sizeof(guint64));
	guint64 entry = 0;
	gboolean ok;

	if (page == MAP_FAILED)
		return FALSE;
	*page = 1;
	ok = pread(pagemap, &entry, sizeof(entry), at) == sizeof(entry) &&
	     (entry & FERRY_PAGEMAP_SOFT_DIRTY);
	munmap((void *)page, FERRY_PAGE_SIZE);
	return ok;
}

FerryDirtySource *ferry_dirty_source_soft_dirty(const FerryHoldCallbacks *hold, gpointer user,
						GError **error)
{
	g_autoptr(FerryDirtySource) source = NULL;
	SoftDirty *s = g_new0(SoftDirty, 1);

	s->base.ops = &soft_dirty_ops;
	source = &s->base;
	s->hold = *hold;
	s->user = user;
	s->pagemap = ferry_pagemap_open();
	s->clear_refs = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
	if (s->pagemap < 0 || s->clear_refs < 0) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    LACKS "/proc/self/pagemap and clear_refs: %s; mount /proc writable, "
				  "and let the process be dumpable",
			    g_strerror(errno));
		return NULL;
	}
	if (sysconf(_SC_PAGESIZE) == FERRY_PAGE_SIZE && has_soft_dirty(s->pagemap))
		return g_steal_pointer(&source);
	g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    LACKS "this kernel keeps no such bits for pages of 4096 bytes; use one "
				  "with CONFIG_MEM_SOFT_DIRTY (Debian's has it), or another dirty "
				  "source");
	return NULL;
}
