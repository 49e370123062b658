/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/*
 * Migrations of one host that share one budget of bytes a second. They meet in a small file, which
 * each has a slot in: while it sends it says there what it may take by its own limit, and what it
 * holds the budget to be. The smallest budget that any of them names is the group's; who wants less
 * than an equal part leaves the rest to the others (max-min fairness).
 *
 * A member holds a lock on its slot, which ends with its process: nobody has to clean up after one
 * that died. The file is read and written, not mapped: somebody who cuts it short must not kill a
 * guest. What the others wrote there is a claim on bandwidth, and nothing else: whoever may write
 * the file can slow its members down, and do no other harm.
 *
 * One thread at a time uses a membership.
 */
typedef struct FerryBandwidthGroup FerryBandwidthGroup;

/* As many can be in a group at once. */
#define FERRY_BANDWIDTH_GROUP_MAX 256u

/*
 * Joins the group of the file @path, absolute, which is made (mode 0600) where there is none. It
 * claims nothing before the first ferry_bandwidth_group_rate(). FERRY_ERROR_INVALID for what is no
 * file of a group, FERRY_ERROR_STATE where it is full, FERRY_ERROR_IO where it cannot be opened.
 */
FerryBandwidthGroup *ferry_bandwidth_group_join(const char *path, GError **error);
/* Leaves it, which the others notice within 50 ms, and frees it; NULL is nothing. */
void ferry_bandwidth_group_leave(FerryBandwidthGroup *group);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryBandwidthGroup, ferry_bandwidth_group_leave)

/*
 * What this member may send now, bytes a second; 0: no limit. @own is its own limit, @budget what
 * it holds the group's to be; 0 each for none. Asked while it sends, at any rate: the others are
 * looked at 20 times a second, and at once where either number changed. A member that has not asked
 * for half a second is not counted until it does.
 */
guint64 ferry_bandwidth_group_rate(FerryBandwidthGroup *group, gint64 now_us, guint64 own,
				   guint64 budget);
/* How many were sending when last looked, this one among them; 0: not yet. */
guint ferry_bandwidth_group_members(const FerryBandwidthGroup *group);

/* What the first of @n members that want @demands (0: without limit) gets of @budget; not 0. */
guint64 ferry_bandwidth_group_share(guint64 budget, const guint64 *demands, guint n);
