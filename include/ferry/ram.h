/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>
#include <ferry/error.h>

G_BEGIN_DECLS

/* The stream's page size, and the unit of every dirty bitmap and run. */
#define FERRY_PAGE_SIZE 4096u
#define FERRY_PAGE_SHIFT 12u

/* One length byte in the stream's block list. */
#define FERRY_RAM_NAME_MAX 255u

/* One block of guest RAM. Read-only outside of ferry_ram_add()
 * and ferry_ram_set_shared(). */
typedef struct {
	char *name;        /* unique; 1 to FERRY_RAM_NAME_MAX bytes */
	guint8 *host;      /* page-aligned mapping, borrowed from the embedder */
	guint64 size;      /* bytes, a multiple of page_size */
	guint64 page_size; /* bytes of the backing's page: 4096, or 2 MiB / 1 GiB for hugetlb */
	int fd;            /* the memfd or file behind @host, borrowed; -1 when there is none */
	guint64 fd_offset; /* where in @fd the block begins, bytes */
	gboolean shared;   /* ferry_ram_set_shared() */
	guint64 guest_address;
} FerryRamBlock;

/*
 * The guest's RAM: a list of blocks that is complete before the first migration and does not change
 * after it. Carriers and dirty sources read the fields; block numbers are indices into @blocks.
 */
typedef struct {
	guint n_blocks;
	FerryRamBlock *blocks;
	guint64 total; /* bytes, the sum of all sizes */
} FerryRam;

/* A run of consecutive pages of one block: the unit of everything that moves RAM. */
typedef struct {
	guint32 block; /* index into FerryRam.blocks */
	guint64 first; /* first page */
	guint64 pages; /* at least 1 */
} FerryRun;

/* Returns an empty RAM; free with ferry_ram_free(). */
FerryRam *ferry_ram_new(void);

/* Frees the list, not the mappings. NULL is allowed. */
void ferry_ram_free(FerryRam *ram);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryRam, ferry_ram_free)

/**
 * Adds one block of guest RAM.
 * @host: page-aligned mapping. Borrowed: the embedder keeps it mapped until ferry_ram_free(), and
 *        ferry never unmaps it.
 * @size: bytes, a multiple of @page_size.
 * @page_size: of the backing, a power of two of at least FERRY_PAGE_SIZE.
 * @fd: memfd or file of a MAP_SHARED mapping, so that holes can be found without touching pages;
 *      -1 for anonymous memory. Borrowed like @host.
 * One thread, before the RAM is given to a FerryVm only.
 * Returns FALSE with FERRY_ERROR_INVALID if @name is taken or a number is wrong; @ram is then
 * unchanged.
 */
gboolean ferry_ram_add(FerryRam *ram, const char *name, void *host, guint64 size, guint64 page_size,
		       int fd, guint64 fd_offset, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * Says that a block's content is in a named file (no memfd) which the destination maps too, shared,
 * and where the block lies in guest-physical memory. With x-ignore-shared such a block does not go:
 * the destination leaves it alone, and finds in the file what the guest last wrote. Both sides say
 * it of the same blocks, with the same addresses.
 * As ferry_ram_add(): before the RAM is given to a FerryVm. FALSE with FERRY_ERROR_INVALID where
 * there is no such block, or it has no file.
 */
gboolean ferry_ram_set_shared(FerryRam *ram, const char *name, guint64 guest_address,
			      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The index of the block called @name, or -1. Any thread. */
int ferry_ram_find(const FerryRam *ram, const char *name);

static inline guint64 ferry_ram_block_pages(const FerryRamBlock *block)
{
	return block->size >> FERRY_PAGE_SHIFT;
}

/* Whether pages that arrive get into the block more cheaply through its file (pwrite(2), splice(2))
 * than through its mapping: a memfd or tmpfs file that may be written, of 4 KiB pages, whose memory
 * is not mapped here yet, as a preallocated guest's is. It may fail all the same (a seal): the
 * mapping always works. Any thread; it makes system calls. */
gboolean ferry_ram_block_is_filled_by_file(const FerryRamBlock *block);

static inline guint8 *ferry_run_host(const FerryRam *ram, const FerryRun *run)
{
	return ram->blocks[run->block].host + (run->first << FERRY_PAGE_SHIFT);
}

static inline guint64 ferry_run_bytes(const FerryRun *run)
{
	return run->pages << FERRY_PAGE_SHIFT;
}

G_END_DECLS
