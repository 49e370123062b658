/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/dirty.h>

#include "pagemap.h"
#include "uffd.h"

#include <errno.h>
#include <unistd.h>

/* One system call for each REGIONS runs of dirty pages. */
#define REGIONS 1024

typedef struct {
	FerryDirtySource base;
	const FerryRam *ram; /* NULL when not started */
	int uffd;
	int pagemap;
	FerryPagemapRegion regions[REGIONS];
} WpAsync;

static gboolean wp_async_start(FerryDirtySource *source, const FerryRam *ram, GError **error)
{
	WpAsync *s = (WpAsync *)source;

	if (!ferry_uffd_protect_ram(s->uffd, ram, error))
		return FALSE;
	s->ram = ram;
	return TRUE;
}

static void set_pages(guint64 *bitmap, guint64 first, guint64 end)
{
	for (; first < end && (first % 64 || end - first < 64); first++)
		bitmap[first / 64] |= 1ull << (first % 64);
	for (; end - first >= 64; first += 64)
		bitmap[first / 64] = ~0ull;
	for (; first < end; first++)
		bitmap[first / 64] |= 1ull << (first % 64);
}

/* The kernel write-protects what it reports under the page table's lock, so a write is either
 * before it, and seen by who reads the page afterwards, or faults again. A scan may stop early and
 * may report twice. */
static gboolean wp_async_collect(FerryDirtySource *source, guint block, guint64 *bitmap,
				 GError **error)
{
	const FerryPagemapQuery query = {
		.flags = FERRY_PM_SCAN_WP_MATCHING | FERRY_PM_SCAN_CHECK_WPASYNC,
		.all_of = FERRY_PAGE_IS_WRITTEN,
		.report = FERRY_PAGE_IS_WRITTEN,
	};
	WpAsync *s = (WpAsync *)source;
	const FerryRamBlock *b = &s->ram->blocks[block];
	guint64 base = (guintptr)b->host, at = base, end = base + b->size;

	while (at < end) {
		int n = ferry_pagemap_scan(s->pagemap, at, end, &query, s->regions, REGIONS, &at);

		if (n < 0) {
			g_set_error(
				error, FERRY_ERROR, FERRY_ERROR_IO,
				"PAGEMAP_SCAN of RAM block '%s' at 0x%" G_GINT64_MODIFIER
				"x: %s; keep the block mapped and registered while it is tracked",
				b->name, at, g_strerror(errno));
			return FALSE;
		}
		for (int i = 0; i < n; i++)
			set_pages(bitmap, (s->regions[i].start - base) >> FERRY_PAGE_SHIFT,
				  (s->regions[i].end - base) >> FERRY_PAGE_SHIFT);
	}
	return TRUE;
}

static void wp_async_stop(FerryDirtySource *source)
{
	WpAsync *s = (WpAsync *)source;

	if (s->ram)
		ferry_uffd_release_ram(s->uffd, s->ram);
	s->ram = NULL;
}

static void wp_async_free(FerryDirtySource *source)
{
	WpAsync *s = (WpAsync *)source;

	if (s->uffd >= 0)
		close(s->uffd);
	if (s->pagemap >= 0)
		close(s->pagemap);
	g_free(s);
}

static const FerryDirtySourceOps wp_async_ops = {
	.name = "wp-async",
	.start = wp_async_start,
	.collect = wp_async_collect,
	.stop = wp_async_stop,
	.free = wp_async_free,
};

static gboolean open_pagemap(WpAsync *s, GError **error)
{
	const FerryPagemapQuery query = {
		.any_of = FERRY_PAGE_IS_PRESENT,
		.report = FERRY_PAGE_IS_PRESENT,
	};
	guint64 page = (guintptr)s & ~(guint64)(FERRY_PAGE_SIZE - 1), walked;

	s->pagemap = ferry_pagemap_open();
	if (s->pagemap >= 0 && ferry_pagemap_scan(s->pagemap, page, page + FERRY_PAGE_SIZE, &query,
						  s->regions, 1, &walked) >= 0)
		return TRUE;
	g_set_error(
		error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
		"wp-async needs /proc/self/pagemap with PAGEMAP_SCAN: %s; mount /proc, or use Linux 6.7 or "
		"later",
		g_strerror(errno));
	return FALSE;
}

/* The kernel lets a fault go on by itself in this mode, also one of its own, so nothing is ever
 * read from the descriptor and one without privilege will do. */
FerryDirtySource *ferry_dirty_source_wp_async(GError **error)
{
	const guint64 features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED |
				 UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_PAGEFAULT_FLAG_WP;
	g_autoptr(FerryDirtySource) source = NULL;
	WpAsync *s = g_new0(WpAsync, 1);
	guint64 on;

	s->base.ops = &wp_async_ops;
	s->pagemap = s->uffd = -1;
	source = &s->base;
	s->uffd = ferry_uffd_open(features, 0, FALSE, &on, error);
	if (s->uffd < 0 || !open_pagemap(s, error))
		return NULL;
	return g_steal_pointer(&source);
}
