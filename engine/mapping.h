/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/* What /proc/self/maps (proc_pid_maps(5)) tells of a stretch of memory that has one backing. */
typedef struct {
	gboolean shared;  /* MAP_SHARED */
	gboolean hugetlb; /* MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB */
	guint64 device;   /* of the file, as st_dev; 0 without */
	guint64 inode;    /* 0 for ordinary anonymous memory */
	guint64 offset;   /* in the file, of the stretch's first byte */
} FerryMapping;

/* Looks up in @text, all of the file, the addresses from @start to @end. FALSE if some of them are
 * not mapped, or not all are of one file, in order and with the same sharing. */
gboolean ferry_mapping_find(const char *text, guint64 start, guint64 end, FerryMapping *mapping);
