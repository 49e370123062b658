/* SPDX-License-Identifier: BSD-2-Clause */
#include "steady.h"
#include "smaps.h"

#include <errno.h>
#include <sys/mman.h>

struct FerrySteady {
	const FerryRam *ram;
	gboolean *locked; /* of each block: by us */
};

static gboolean refuse(const FerryRamBlock *block, const char *why, GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
		    "soft-dirty cannot track RAM block '%s': %s", block->name, why);
	return FALSE;
}

static const char *find_obstacle(const FerryRamBlock *block, const FerrySmaps *smaps)
{
	if (smaps->hugetlb || block->page_size != FERRY_PAGE_SIZE)
		return "hugetlb pages have no soft-dirty bit; use another dirty source or backing";
	if (smaps->shared_huge)
		return "shared memory with transparent huge pages loses bits; write never to "
		       "/sys/kernel/mm/transparent_hugepage/shmem_enabled, or mount its tmpfs "
		       "with huge=never";
	if (smaps->mergeable)
		return "memory that KSM may merge loses bits; use madvise(MADV_UNMERGEABLE)";
	return NULL;
}

static gboolean keep_block(FerrySteady *steady, const char *text, guint index, GError **error)
{
	const FerryRamBlock *b = &steady->ram->blocks[index];
	const char *obstacle = "nothing is mapped there";
	g_autofree char *why = NULL;
	FerrySmaps smaps;

	if (ferry_smaps_find(text, (guintptr)b->host, (guintptr)b->host + b->size, &smaps))
		obstacle = find_obstacle(b, &smaps);
	if (obstacle)
		return refuse(b, obstacle, error);
	if (!smaps.shared || smaps.locked)
		return TRUE;
	if (mlock2(b->host, b->size, MLOCK_ONFAULT) == 0) {
		steady->locked[index] = TRUE;
		return TRUE;
	}
	why = g_strdup_printf("shared memory must not be paged out, and locking %" G_GUINT64_FORMAT
			      " bytes fails: %s; raise RLIMIT_MEMLOCK (ulimit -l)",
			      b->size, g_strerror(errno));
	return refuse(b, why, error);
}

FerrySteady *ferry_steady_new(const FerryRam *ram, GError **error)
{
	g_autoptr(FerrySteady) steady = g_new0(FerrySteady, 1);
	g_autofree char *text = NULL;
	g_autoptr(GError) local = NULL;

	steady->ram = ram;
	steady->locked = g_new0(gboolean, ram->n_blocks);
	if (!g_file_get_contents("/proc/self/smaps", &text, NULL, &local)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "soft-dirty needs smaps: %s; mount /proc", local->message);
		return NULL;
	}
	for (guint i = 0; i < ram->n_blocks; i++)
		if (!keep_block(steady, text, i, error))
			return NULL;
	return g_steal_pointer(&steady);
}

void ferry_steady_free(FerrySteady *steady)
{
	if (!steady)
		return;
	for (guint i = 0; i < steady->ram->n_blocks; i++)
		if (steady->locked[i])
			munlock(steady->ram->blocks[i].host, steady->ram->blocks[i].size);
	g_free(steady->locked);
	g_free(steady);
}
