/* SPDX-License-Identifier: BSD-2-Clause */
#include "mapping.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

typedef struct {
	guint64 start, end;
	FerryMapping is;
} Line;

/* "7f0000000000-7f0000200000 rw-s 00001000 00:01 1037    /memfd:ram (deleted)" */
static gboolean parse_line(const char *text, Line *line)
{
	unsigned int device_major, device_minor;
	char sharing;
	int path = 0;

	if (sscanf(text, "%" SCNx64 "-%" SCNx64 " %*3c%c %" SCNx64 " %x:%x %" SCNu64 "%*[ ]%n",
		   &line->start, &line->end, &sharing, &line->is.offset, &device_major,
		   &device_minor, &line->is.inode, &path) != 7)
		return FALSE;
	line->is.shared = sharing == 's';
	line->is.device = makedev(device_major, device_minor);
	line->is.hugetlb = sharing == 'p' && path &&
			   g_str_has_prefix(text + path, "/anon_hugepage");
	return TRUE;
}

/* Whether @next, whose first byte follows that of @sum by @distance, goes on with it. */
static gboolean continues(const FerryMapping *sum, const FerryMapping *next, guint64 distance)
{
	return next->shared == sum->shared && next->device == sum->device &&
	       next->inode == sum->inode && (!sum->inode || next->offset == sum->offset + distance);
}

gboolean ferry_mapping_find(const char *text, guint64 start, guint64 end, FerryMapping *mapping)
{
	guint64 at = start;
	FerryMapping sum = { 0 };

	for (const char *p = text; p && at < end; p = strchr(p, '\n')) {
		Line line;

		p += *p == '\n';
		if (!parse_line(p, &line) || line.end <= at)
			continue;
		if (line.start > at)
			return FALSE;
		if (at == start) {
			sum = line.is;
			sum.offset += sum.inode ? start - line.start : 0;
		} else if (!continues(&sum, &line.is, at - start)) {
			return FALSE;
		}
		at = line.end;
	}
	if (at < end || start >= end)
		return FALSE;
	*mapping = sum;
	return TRUE;
}
