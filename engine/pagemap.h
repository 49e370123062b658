/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/*
 * The PAGEMAP_SCAN ioctl of /proc/self/pagemap (Linux 6.7;
 * Documentation/admin-guide/mm/pagemap.rst). Debian 12's headers are older than it, so its
 * definitions are here, under names of our own.
 */
#define FERRY_PM_SCAN_WP_MATCHING (1u << 0)
#define FERRY_PM_SCAN_CHECK_WPASYNC (1u << 1)

#define FERRY_PAGE_IS_WRITTEN (1u << 1)
#define FERRY_PAGE_IS_PRESENT (1u << 3)
#define FERRY_PAGE_IS_SWAPPED (1u << 4)

/* An entry of /proc/self/pagemap. */
#define FERRY_PAGEMAP_SOFT_DIRTY (1ull << 55)
#define FERRY_PAGEMAP_SWAPPED (1ull << 62)
#define FERRY_PAGEMAP_PRESENT (1ull << 63)

typedef struct {
	guint64 start;
	guint64 end;
	guint64 categories;
} FerryPagemapRegion;

typedef struct {
	guint32 flags;
	guint64 all_of; /* categories that a page must have */
	guint64 any_of; /* categories, one of which a page must have, unless 0 */
	guint64 report; /* categories to report */
} FerryPagemapQuery;

/* Opens /proc/self/pagemap; -1 with errno set. */
int ferry_pagemap_open(void);

/**
 * Scans from @start to @end, addresses, for pages that @query describes.
 * @regions, @n_regions: filled with what was found, in order, neighbours merged.
 * @walked: where the scan stopped; go on there until it is @end. It may stop early, and a scan that
 * does not write-protect may have reported pages beyond it, which the next call reports again.
 * Returns the number of regions, or -1 with errno set.
 */
int ferry_pagemap_scan(int fd, guint64 start, guint64 end, const FerryPagemapQuery *query,
		       FerryPagemapRegion *regions, guint n_regions, guint64 *walked);
