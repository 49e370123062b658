/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>

/* What is behind one block of RAM, and where it is mapped a second time. */
typedef struct {
	gboolean shared; /* of the block's file; else private and anonymous */
	gboolean hugetlb;
	guint64 step;   /* bytes of the smallest piece that the kernel gives */
	guint8 *second; /* the block's size; the owner unmaps it. NULL: not mapped yet */
} FerryPostcopyBacking;

/* Fills in all but @second for each block of @ram. FERRY_ERROR_NOSUPP, here and below, names block
 * and remedy. */
gboolean ferry_postcopy_backing_find(const FerryRam *ram, FerryPostcopyBacking *backings,
				     GError **error);

/* The features of userfaultfd that it cannot do without. */
guint64 ferry_postcopy_backing_features(const FerryPostcopyBacking *backing);

/* Whether the kernel can take huge pages back; others it always can. */
gboolean ferry_postcopy_backing_check(const FerryPostcopyBacking *backing,
				      const FerryRamBlock *block, GError **error);

/* A second mapping of the block's file, or staging memory that takes no room until it is
 * written. */
gboolean ferry_postcopy_backing_map(FerryPostcopyBacking *backing, const FerryRamBlock *block,
				    GError **error);

/* Registers the block's own mapping. */
gboolean ferry_postcopy_backing_watch(const FerryPostcopyBacking *backing,
				      const FerryRamBlock *block, int uffd, GError **error);

/* Takes pages out of the page tables; frees them if they are private. Locked memory (mlock) too: it
 * is locked again when its pages come. FALSE with errno. */
gboolean ferry_postcopy_let_go(guint8 *at, guint64 len);
