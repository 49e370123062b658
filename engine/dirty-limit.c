/* SPDX-License-Identifier: BSD-2-Clause */
#include "dirty-limit.h"

#include <ferry/ram.h>

#define BURST_US (100 * G_TIME_SPAN_MILLISECOND)

/* What FerryVmCallbacks.throttle_vcpu has to be able to leave. */
#define LEFT_MIN 1e-4

void ferry_dirty_limit_begin(FerryDirtyLimit *vcpu, gint64 now_us, guint64 pages)
{
	*vcpu = (FerryDirtyLimit){ .left = 1, .pages = pages, .since_us = now_us };
}

gboolean ferry_dirty_limit_measure(FerryDirtyLimit *vcpu, gint64 now_us, guint64 pages,
				   double limit)
{
	/* A count that went back is another guest's, and begins anew. */
	guint64 written = pages > vcpu->pages ? pages - vcpu->pages : 0;
	double elapsed = (now_us - vcpu->since_us) / 1e6, before = vcpu->left;

	if (elapsed <= 0 || (!written && vcpu->left < 1 && now_us - vcpu->since_us < BURST_US))
		return FALSE;
	vcpu->pages = pages;
	vcpu->since_us = now_us;
	vcpu->left = 1;
	if (written)
		vcpu->left = CLAMP(before * limit * elapsed / (written << FERRY_PAGE_SHIFT),
				   LEFT_MIN, 1);
	return vcpu->left != before;
}
