/* SPDX-License-Identifier: BSD-2-Clause */
#include "postcopy-backing.h"

#include "mapping.h"
#include "uffd.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24 /* Linux 5.18 */
#endif
#define HUGETLBFS_MAGIC 0x958458f6
/* So that second mappings can use transparent huge pages as the first do. */
#define ALIGNMENT (2ull << 20)

static gboolean unsupported(const FerryRamBlock *block, const char *what, const char *remedy,
			    GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "postcopy: RAM block '%s': %s; %s",
		    block->name, what, remedy);
	return FALSE;
}

/* ---- what is behind a block ---- */

static gboolean find_file(const FerryRamBlock *block, const FerryMapping *mapping,
			  FerryPostcopyBacking *backing, GError **error)
{
	struct stat st;
	struct statfs fs;

	if (!mapping->shared)
		return unsupported(block, "it is a private mapping of its file",
				   "map it MAP_SHARED, or use anonymous memory", error);
	if (fstat(block->fd, &st) < 0 || fstatfs(block->fd, &fs) < 0)
		return unsupported(block, g_strerror(errno), "give it the file that it is of",
				   error);
	if (mapping->inode != st.st_ino || mapping->device != st.st_dev ||
	    mapping->offset != block->fd_offset)
		return unsupported(block, "it is not of the file and offset that it was added with",
				   "give those that it is mapped from", error);
	backing->shared = TRUE;
	backing->hugetlb = fs.f_type == HUGETLBFS_MAGIC;
	return TRUE;
}

static gboolean find_backing(const char *maps, const FerryRamBlock *block,
			     FerryPostcopyBacking *backing, GError **error)
{
	guint64 start = (guintptr)block->host;
	FerryMapping mapping;

	if (!ferry_mapping_find(maps, start, start + block->size, &mapping))
		return unsupported(block, "it is more than one mapping", "map it in one piece",
				   error);
	if (block->fd >= 0) {
		if (!find_file(block, &mapping, backing, error))
			return FALSE;
	} else if (mapping.shared) {
		return unsupported(block, "it is shared memory without a file",
				   "back it with a memfd, and add it with that", error);
	} else if (mapping.inode && !mapping.hugetlb) {
		return unsupported(block, "it is a private mapping of a file",
				   "map it MAP_SHARED, or use anonymous memory", error);
	} else {
		backing->hugetlb = mapping.hugetlb;
	}
	if (backing->hugetlb && block->page_size == FERRY_PAGE_SIZE)
		return unsupported(block, "it is of huge pages, but was added with small ones",
				   "add it with the page size of its backing", error);
	backing->step = backing->hugetlb ? block->page_size : FERRY_PAGE_SIZE;
	return TRUE;
}

gboolean ferry_postcopy_backing_find(const FerryRam *ram, FerryPostcopyBacking *backings,
				     GError **error)
{
	g_autofree char *maps = NULL;
	g_autoptr(GError) cause = NULL;

	if (!g_file_get_contents("/proc/self/maps", &maps, NULL, &cause)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "postcopy: %s; mount /proc",
			    cause->message);
		return FALSE;
	}
	for (guint i = 0; i < ram->n_blocks; i++)
		if (!find_backing(maps, &ram->blocks[i], &backings[i], error))
			return FALSE;
	return TRUE;
}

/* ---- second mappings ---- */

/* Address space whose start is aligned; MAP_FAILED with errno. */
static guint8 *reserve(guint64 size, guint64 align)
{
	guint8 *p = mmap(NULL, size + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			 -1, 0);
	guint64 before, after;

	if (p == MAP_FAILED)
		return p;
	before = -(guintptr)p & (align - 1);
	after = align - before;
	if (before)
		munmap(p, before);
	munmap(p + before + size, after);
	return p + before;
}

/* Frees what it reserved when it fails. */
static gboolean map_at(guint8 *at, const FerryRamBlock *block, gboolean shared)
{
	int flags = shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, failure;

	if (mmap(at, block->size, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
		 shared ? block->fd : -1, shared ? (off_t)block->fd_offset : 0) != MAP_FAILED) {
		/* A core dump has the guest's mapping. */
		madvise(at, block->size, MADV_DONTDUMP);
		/* Staging is written and freed in pieces. */
		if (!shared)
			madvise(at, block->size, MADV_NOHUGEPAGE);
		return TRUE;
	}
	failure = errno;
	munmap(at, block->size);
	errno = failure;
	return FALSE;
}

gboolean ferry_postcopy_backing_map(FerryPostcopyBacking *backing, const FerryRamBlock *block,
				    GError **error)
{
	guint8 *at = reserve(block->size, MAX(block->page_size, ALIGNMENT));
	g_autofree char *what = NULL;

	if (at != MAP_FAILED && map_at(at, block, backing->shared)) {
		backing->second = at;
		return TRUE;
	}
	what = g_strdup_printf("cannot map it a second time: %s", g_strerror(errno));
	if (errno == EACCES)
		return unsupported(block, what, "open its file for reading and writing", error);
	return unsupported(block, what,
			   backing->hugetlb ? "raise vm.nr_hugepages"
					    : "raise the limit of address space",
			   error);
}

/* ---- what the kernel must be able to do ---- */

guint64 ferry_postcopy_backing_features(const FerryPostcopyBacking *backing)
{
	if (backing->hugetlb)
		return UFFD_FEATURE_MISSING_HUGETLBFS |
		       (backing->shared ? UFFD_FEATURE_MINOR_HUGETLBFS : 0);
	return backing->shared ? UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM : 0;
}

gboolean ferry_postcopy_let_go(guint8 *at, guint64 len)
{
	return madvise(at, len, MADV_DONTNEED) == 0 ||
	       (errno == EINVAL && madvise(at, len, MADV_DONTNEED_LOCKED) == 0);
}

/* Tries it on huge pages of its own, which it does not touch: those of the RAM may be in use. */
static gboolean can_let_go(guint64 page_size)
{
	int size = __builtin_ctzll(page_size) << MAP_HUGE_SHIFT;
	void *p = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE | size, -1, 0);
	gboolean ok;

	if (p == MAP_FAILED)
		return FALSE;
	ok = ferry_postcopy_let_go(p, page_size);
	munmap(p, page_size);
	return ok;
}

gboolean ferry_postcopy_backing_check(const FerryPostcopyBacking *backing,
				      const FerryRamBlock *block, GError **error)
{
	return !backing->hugetlb || can_let_go(block->page_size) ||
	       unsupported(block, "its huge pages cannot be taken back (MADV_DONTNEED)",
			   "use Linux 5.18 or later, or ordinary pages", error);
}

gboolean ferry_postcopy_backing_watch(const FerryPostcopyBacking *backing,
				      const FerryRamBlock *block, int uffd, GError **error)
{
	gboolean shared = backing->shared;
	guint64 mode = UFFDIO_REGISTER_MODE_MISSING | (shared ? UFFDIO_REGISTER_MODE_MINOR : 0);
	guint64 ioctls = 1ull << (shared ? _UFFDIO_CONTINUE : _UFFDIO_COPY) | 1ull << _UFFDIO_WAKE;
	g_autofree char *what = NULL;

	if (ferry_uffd_register(uffd, (guintptr)block->host, block->size, mode, ioctls))
		return TRUE;
	what = g_strdup_printf("userfaultfd cannot watch it: %s", g_strerror(errno));
	return unsupported(block, what,
			   errno == EBUSY
				   ? "another userfaultfd does: end that first"
				   : "back it with a memfd, tmpfs, hugetlb or anonymous memory",
			   error);
}
