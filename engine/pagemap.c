/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>

/* The kernel's struct pm_scan_arg. */
typedef struct {
	guint64 size;
	guint64 flags;
	guint64 start;
	guint64 end;
	guint64 walk_end;
	guint64 vec;
	guint64 vec_len;
	guint64 max_pages;
	guint64 category_inverted;
	guint64 category_mask;
	guint64 category_anyof_mask;
	guint64 return_mask;
} ScanArgument;
G_STATIC_ASSERT(sizeof(ScanArgument) == 96);
G_STATIC_ASSERT(sizeof(FerryPagemapRegion) == 24);

#define SCAN_IOCTL _IOWR('f', 16, ScanArgument)

int ferry_pagemap_open(void)
{
	return open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
}

int ferry_pagemap_scan(int fd, guint64 start, guint64 end, const FerryPagemapQuery *query,
		       FerryPagemapRegion *regions, guint n_regions, guint64 *walked)
{
	ScanArgument argument = {
		.size = sizeof(argument),
		.flags = query->flags,
		.start = start,
		.end = end,
		.vec = (guintptr)regions,
		.vec_len = n_regions,
		.category_mask = query->all_of,
		.category_anyof_mask = query->any_of,
		.return_mask = query->report,
	};
	int n;

	do
		n = ioctl(fd, SCAN_IOCTL, &argument);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		*walked = argument.walk_end;
	return n;
}
