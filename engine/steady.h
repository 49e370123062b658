/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>

/*
 * Keeps the pages of guest RAM in this process's page table, where their soft-dirty bits are.
 *
 * What takes a page out and puts it back without its bit makes a write unseen (measured on Linux
 * 6.1 and 6.12): paging out of shared memory, which a lock prevents; collapsing and splitting its
 * transparent huge pages; merging by KSM. And hugetlb pages have no such bit at all.
 */
typedef struct FerrySteady FerrySteady;

/* Checks @ram, which is borrowed, and locks its shared memory as it is touched. FERRY_ERROR_NOSUPP
 * with the remedy for what cannot be kept. */
FerrySteady *ferry_steady_new(const FerryRam *ram, GError **error);

/* Unlocks what was not locked before. NULL is allowed. */
void ferry_steady_free(FerrySteady *steady);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerrySteady, ferry_steady_free)
