/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

#include "page.h"

/* What became of a page that does not hold what it should. */
typedef enum {
	FERRY_DAMAGE_LOST,      /* zero, or as it was filled: no write ever arrived */
	FERRY_DAMAGE_STALE,     /* whole, but an older version */
	FERRY_DAMAGE_AHEAD,     /* whole, but a version that the guest has not come to */
	FERRY_DAMAGE_MISPLACED, /* whole, but of another address */
	FERRY_DAMAGE_FOREIGN,   /* whole, but of a guest with another seed */
	FERRY_DAMAGE_TORN,      /* one version in front, another behind */
	FERRY_DAMAGE_CORRUPT,   /* anything else: single words are wrong */
} FerryDamage;

/*
 * Judges @page, which differs from @text, what it should hold; @fill is the guest's.
 * @line gets one line about it: the damage, where, what was expected and found.
 */
FerryDamage ferry_page_judge(const uint64_t *page, const FerryPageText *text, guint32 fill,
			     char *line, gsize line_size);
