/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/* What /proc/self/smaps (proc_pid_smaps(5)) tells of the mappings of a stretch of memory. */
typedef struct {
	gboolean shared;      /* some are MAP_SHARED */
	gboolean shared_huge; /* some of those have, or may get, transparent huge pages */
	gboolean hugetlb;     /* some are of hugetlb pages */
	gboolean mergeable;   /* some are given to KSM (MADV_MERGEABLE) */
	gboolean locked;      /* all are locked (mlock) */
} FerrySmaps;

/* Sums up in @smaps what @text, all of the file, says of the addresses from @start to @end. FALSE
 * if no mapping is there. */
gboolean ferry_smaps_find(const char *text, guint64 start, guint64 end, FerrySmaps *smaps);
