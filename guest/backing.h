/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/error.h>

/* Guest RAM as the monitor maps it. */
typedef struct {
	guint8 *host;
	guint64 size;
	guint64 page_size; /* of the memory behind it */
	gboolean named;    /* a file that another process can map too, by its name */
	int fd; /* the memfd or file, mapped shared from offset 0; -1 for anonymous memory */
} FerryBacking;

/*
 * Maps @size bytes of "memfd" (also NULL), "anon", "hugetlb" (a memfd of 2 MiB pages) or else of
 * the file of that path, which is created or extended as needed and keeps its content. Touches no
 * page. FERRY_ERROR_INVALID for a size that the backing cannot have; FERRY_ERROR_NOSUPP without
 * huge pages; FERRY_ERROR_IO.
 */
gboolean ferry_backing_open(FerryBacking *backing, const char *kind, guint64 size, GError **error);

/* Puts memory behind every page, and maps it: what a page holds stays. FERRY_ERROR_IO where
 * there is none left; FERRY_ERROR_NOSUPP before Linux 5.14. */
gboolean ferry_backing_populate(const FerryBacking *backing, GError **error);

/* Unmaps and closes; a zeroed struct with fd -1 is allowed. */
void ferry_backing_close(FerryBacking *backing);
