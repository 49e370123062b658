/* SPDX-License-Identifier: BSD-2-Clause */
#include "backing.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h> /* before sys/mman.h, which then leaves MFD_* alone */
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "page.h"
#include "parallel.h"

#define HUGE_PAGE_BYTES (2u << 20)

static gboolean failed(GError **error, const char *kind, const char *call)
{
	int saved = errno;

	g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO, "guest RAM in %s: %s: %s", kind, call,
		    g_strerror(saved));
	return FALSE;
}

static gboolean open_memfd(FerryBacking *b, const char *kind, guint64 page_size, GError **error)
{
	guint flags = MFD_CLOEXEC;

	if (page_size == HUGE_PAGE_BYTES)
		flags |= MFD_HUGETLB | MFD_HUGE_2MB;
	b->page_size = page_size;
	b->fd = memfd_create("ferry-guest-ram", flags);
	if (b->fd < 0)
		return failed(error, kind, "memfd_create");
	if (b->size % page_size == 0 && ftruncate(b->fd, (off_t)b->size) < 0)
		return failed(error, kind, "ftruncate");
	return TRUE;
}

static gboolean open_file(FerryBacking *b, const char *path, GError **error)
{
	struct statfs fs;
	struct stat st;

	b->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (b->fd < 0)
		return failed(error, path, "open");
	if (fstat(b->fd, &st) < 0 || fstatfs(b->fd, &fs) < 0)
		return failed(error, path, "stat");
	b->page_size = fs.f_type == HUGETLBFS_MAGIC ? (guint64)fs.f_bsize : FERRY_PAGE_BYTES;
	if (S_ISREG(st.st_mode) && (guint64)st.st_size < b->size && b->size % b->page_size == 0 &&
	    ftruncate(b->fd, (off_t)b->size) < 0)
		return failed(error, path, "ftruncate");
	return TRUE;
}

static gboolean map(FerryBacking *b, const char *kind, GError **error)
{
	int flags = b->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	void *host;

	if (b->size % b->page_size) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "guest RAM in %s: %" G_GUINT64_FORMAT " bytes is not a multiple of its "
			    "page size of %" G_GUINT64_FORMAT " bytes",
			    kind, b->size, b->page_size);
		return FALSE;
	}
	host = mmap(NULL, b->size, PROT_READ | PROT_WRITE, flags, b->fd, 0);
	if (host == MAP_FAILED && errno == ENOMEM && b->page_size > FERRY_PAGE_BYTES) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "guest RAM in %s: %" G_GUINT64_FORMAT
			    " huge pages of %" G_GUINT64_FORMAT
			    " bytes are not free; raise vm.nr_hugepages",
			    kind, b->size / b->page_size, b->page_size);
		return FALSE;
	}
	if (host == MAP_FAILED)
		return failed(error, kind, "mmap");
	b->host = host;
	return TRUE;
}

gboolean ferry_backing_open(FerryBacking *backing, const char *kind, guint64 size, GError **error)
{
	FerryBacking b = { .size = size, .page_size = FERRY_PAGE_BYTES, .fd = -1 };
	gboolean ok = TRUE;

	if (!kind || !*kind)
		kind = "memfd";
	if (g_str_equal(kind, "memfd"))
		ok = open_memfd(&b, kind, FERRY_PAGE_BYTES, error);
	else if (g_str_equal(kind, "hugetlb"))
		ok = open_memfd(&b, kind, HUGE_PAGE_BYTES, error);
	else if (!g_str_equal(kind, "anon"))
		ok = b.named = open_file(&b, kind, error);
	if (!ok || !map(&b, kind, error)) {
		ferry_backing_close(&b);
		return FALSE;
	}
	*backing = b;
	return TRUE;
}

typedef struct {
	const FerryBacking *backing;
	gint error_number; /* of the first stretch that failed; atomic */
} Populating;

static void populate_stretch(guint64 first, guint64 count, gpointer user)
{
	Populating *p = user;

	if (madvise(p->backing->host + first * p->backing->page_size, count * p->backing->page_size,
		    MADV_POPULATE_WRITE) < 0)
		g_atomic_int_compare_and_exchange(&p->error_number, 0, errno);
}

gboolean ferry_backing_populate(const FerryBacking *backing, GError **error)
{
	Populating p = { .backing = backing };

	ferry_parallel_for(backing->size / backing->page_size, populate_stretch, &p);
	if (!p.error_number)
		return TRUE;
	g_set_error(error, FERRY_ERROR,
		    p.error_number == EINVAL ? FERRY_ERROR_NOSUPP : FERRY_ERROR_IO,
		    "guest RAM cannot be preallocated: %s; %s", g_strerror(p.error_number),
		    p.error_number == EINVAL ? "that takes Linux 5.14"
					     : "give it less, or free memory on this host");
	return FALSE;
}

void ferry_backing_close(FerryBacking *backing)
{
	if (backing->host)
		munmap(backing->host, backing->size);
	if (backing->fd >= 0)
		close(backing->fd);
	*backing = (FerryBacking){ .fd = -1 };
}
