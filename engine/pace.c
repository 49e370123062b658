/* SPDX-License-Identifier: BSD-2-Clause */
#include "pace.h"

#include <ferry/ram.h>

void ferry_pace_init(FerryPace *pace, gint64 now_us)
{
	*pace = (FerryPace){ .allowed = 0 };
	ferry_token_bucket_init(&pace->bucket, now_us);
}

void ferry_pace_begin(FerryPace *pace, guint64 pages)
{
	pace->left = pages;
	pace->held_us = pace->tail_us = 0;
	pace->data = pace->tail_data = 0;
}

/* What has to be there before anything goes: a page; or, for the last pages of a round that was
 * held back, all of them. */
static guint64 threshold(FerryPace *pace)
{
	guint64 rest = pace->left << FERRY_PAGE_SHIFT;
	gboolean last = rest <= ferry_token_bucket_burst(&pace->bucket);

	return last && pace->held_us && !pace->tail_us ? MAX(rest, FERRY_PAGE_SIZE)
						       : FERRY_PAGE_SIZE;
}

static gboolean has_saved(FerryPace *pace, gint64 now_us, guint64 bytes)
{
	return ferry_token_bucket_delay_us(&pace->bucket, now_us, bytes) == 0;
}

guint64 ferry_pace_allow(FerryPace *pace, gint64 now_us, guint64 bytes)
{
	guint64 least = threshold(pace), got;

	if (!has_saved(pace, now_us, least))
		return 0;
	if (least > FERRY_PAGE_SIZE) {
		pace->tail_us = now_us;
		ferry_cpu_wait_begin(&pace->tail_wait);
	}
	if (!bytes)
		return 1;
	got = ferry_token_bucket_take(&pace->bucket, now_us, bytes);
	ferry_token_bucket_spend(&pace->bucket, -(gint64)(got % FERRY_PAGE_SIZE));
	got -= got % FERRY_PAGE_SIZE;
	pace->allowed += got;
	return got;
}

gint64 ferry_pace_delay_us(FerryPace *pace, gint64 now_us)
{
	guint64 batch = ferry_token_bucket_batch(&pace->bucket);

	return ferry_token_bucket_delay_us(&pace->bucket, now_us, MAX(batch, threshold(pace)));
}

void ferry_pace_held(FerryPace *pace, gint64 us)
{
	pace->held_us += us;
}

void ferry_pace_put(FerryPace *pace, guint64 pages, gboolean zero)
{
	pace->left -= MIN(pages, pace->left);
	if (zero)
		return;
	pace->data += pages;
	if (pace->tail_us)
		pace->tail_data += pages;
}

void ferry_pace_left(FerryPace *pace, guint64 bytes, gboolean all)
{
	/* What is still on its way here has been paid for. */
	if (bytes <= pace->allowed && !all) {
		pace->allowed -= bytes;
		return;
	}
	ferry_token_bucket_spend(&pace->bucket, (gint64)bytes - (gint64)pace->allowed);
	pace->allowed = 0;
}
