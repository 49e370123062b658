/* SPDX-License-Identifier: BSD-2-Clause */
#include "postcopy-memory.h"

#include "mapping.h"
#include "page-set.h"
#include "uffd.h"
#include "zero.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24 /* Linux 5.18 */
#endif
#define HUGETLBFS_MAGIC 0x958458f6
/* So that second mappings can use transparent huge pages as the first do. */
#define ALIGNMENT (2ull << 20)

typedef struct {
	gboolean shared;
	gboolean hugetlb;
	guint64 step;   /* bytes of what the kernel gives at least */
	guint8 *second; /* mapped here; NULL: not yet */
} Backing;

struct FerryPostcopyMemory {
	const FerryRam *ram;
	int uffd;
	Backing *backings; /* ram->n_blocks */
	FerryRam *view;
	FerryRam *target;
	gint warned;           /* atomic */
	FerryPageSet *unshown; /* of private memory: the kernel could not, and they are still in
				* the second memory */
};

static gboolean unsupported(const FerryRamBlock *block, const char *what, const char *remedy,
			    GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "postcopy: RAM block '%s': %s; %s",
		    block->name, what, remedy);
	return FALSE;
}

/* ---- what is behind a block ---- */

static gboolean find_file(const FerryRamBlock *block, const FerryMapping *mapping, Backing *backing,
			  GError **error)
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

static gboolean find_backing(const char *maps, const FerryRamBlock *block, Backing *backing,
			     GError **error)
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

static gboolean find_backings(FerryPostcopyMemory *memory, GError **error)
{
	g_autofree char *maps = NULL;
	g_autoptr(GError) cause = NULL;

	if (!g_file_get_contents("/proc/self/maps", &maps, NULL, &cause)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "postcopy: %s; mount /proc",
			    cause->message);
		return FALSE;
	}
	for (guint i = 0; i < memory->ram->n_blocks; i++)
		if (!find_backing(maps, &memory->ram->blocks[i], &memory->backings[i], error))
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

static gboolean map_second(const FerryRamBlock *block, Backing *backing, GError **error)
{
	int flags = backing->shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	guint8 *at = reserve(block->size, MAX(block->page_size, ALIGNMENT));
	g_autofree char *what = NULL;

	if (at != MAP_FAILED) {
		if (mmap(at, block->size, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
			 backing->shared ? block->fd : -1,
			 backing->shared ? (off_t)block->fd_offset : 0) != MAP_FAILED) {
			backing->second = at;
			/* A core dump has the guest's mapping. */
			madvise(at, block->size, MADV_DONTDUMP);
			return TRUE;
		}
		what = g_strdup_printf("cannot map it a second time: %s", g_strerror(errno));
		munmap(at, block->size);
		return unsupported(block, what,
				   backing->hugetlb ? "raise vm.nr_hugepages"
						    : "open its file for reading and writing",
				   error);
	}
	what = g_strdup_printf("no room for a second mapping: %s", g_strerror(errno));
	return unsupported(block, what, "raise the limit of address space", error);
}

static gboolean add_second(FerryRam *ram, const FerryRamBlock *block, guint8 *host, gboolean shared,
			   GError **error)
{
	return ferry_ram_add(ram, block->name, host, block->size, block->page_size,
			     shared ? block->fd : -1, block->fd_offset, error);
}

static gboolean map_all(FerryPostcopyMemory *memory, GError **error)
{
	memory->view = ferry_ram_new();
	memory->target = ferry_ram_new();
	for (guint i = 0; i < memory->ram->n_blocks; i++) {
		const FerryRamBlock *block = &memory->ram->blocks[i];
		Backing *b = &memory->backings[i];

		if (!map_second(block, b, error) ||
		    !add_second(memory->view, block, b->shared ? b->second : block->host, b->shared,
				error) ||
		    !add_second(memory->target, block, b->second, b->shared, error))
			return FALSE;
	}
	return TRUE;
}

/* ---- what the kernel must be able to do ---- */

static gboolean open_uffd(FerryPostcopyMemory *memory, GError **error)
{
	guint64 required = 0, on;

	for (guint i = 0; i < memory->ram->n_blocks; i++) {
		const Backing *b = &memory->backings[i];

		if (b->hugetlb)
			required |= UFFD_FEATURE_MISSING_HUGETLBFS;
		if (b->shared)
			required |= b->hugetlb
					    ? UFFD_FEATURE_MINOR_HUGETLBFS
					    : UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM;
	}
	memory->uffd = ferry_uffd_open(required, UFFD_FEATURE_THREAD_ID, TRUE, &on, error);
	return memory->uffd >= 0;
}

static gboolean watch_block(FerryPostcopyMemory *memory, guint i, GError **error)
{
	const FerryRamBlock *block = &memory->ram->blocks[i];
	const Backing *b = &memory->backings[i];
	guint64 mode = UFFDIO_REGISTER_MODE_MISSING | (b->shared ? UFFDIO_REGISTER_MODE_MINOR : 0);
	guint64 ioctls = 1ull << (b->shared ? _UFFDIO_CONTINUE : _UFFDIO_COPY) |
			 1ull << _UFFDIO_WAKE;
	g_autofree char *what = NULL;

	if (ferry_uffd_register(memory->uffd, (guintptr)block->host, block->size, mode, ioctls))
		return TRUE;
	what = g_strdup_printf("userfaultfd cannot watch it: %s", g_strerror(errno));
	return unsupported(block, what,
			   errno == EBUSY
				   ? "another userfaultfd does: end that first"
				   : "back it with a memfd, tmpfs, hugetlb or anonymous memory",
			   error);
}

static void unwatch(FerryPostcopyMemory *memory, guint n)
{
	for (guint i = 0; i < n; i++)
		ferry_uffd_unregister(memory->uffd, (guintptr)memory->ram->blocks[i].host,
				      memory->ram->blocks[i].size);
}

static gboolean watch_all(FerryPostcopyMemory *memory, GError **error)
{
	for (guint i = 0; i < memory->ram->n_blocks; i++)
		if (!watch_block(memory, i, error)) {
			unwatch(memory, i);
			return FALSE;
		}
	return TRUE;
}

/* Locked memory (mlock) is let go too: it is locked again when its page comes. */
static gboolean let_go(guint8 *at, guint64 len)
{
	return madvise(at, len, MADV_DONTNEED) == 0 ||
	       (errno == EINVAL && madvise(at, len, MADV_DONTNEED_LOCKED) == 0);
}

/* Tries it on huge pages of its own, which it does not touch: those of the RAM may be in use. */
static gboolean try_huge(const FerryRamBlock *block, GError **error)
{
	int size = __builtin_ctzll(block->page_size) << MAP_HUGE_SHIFT;
	void *p = mmap(NULL, block->page_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE | size, -1, 0);
	gboolean ok = p != MAP_FAILED && let_go(p, block->page_size);

	if (p != MAP_FAILED)
		munmap(p, block->page_size);
	return ok || unsupported(block, "its huge pages cannot be taken back (MADV_DONTNEED)",
				 "use Linux 5.18 or later, or ordinary pages", error);
}

static gboolean try_all(FerryPostcopyMemory *memory, GError **error)
{
	for (guint i = 0; i < memory->ram->n_blocks; i++)
		if (memory->backings[i].hugetlb && !try_huge(&memory->ram->blocks[i], error))
			return FALSE;
	if (!watch_all(memory, error))
		return FALSE;
	ferry_postcopy_memory_unwatch(memory);
	return TRUE;
}

FerryPostcopyMemory *ferry_postcopy_memory_new(const FerryRam *ram, GError **error)
{
	g_autoptr(FerryPostcopyMemory) memory = g_new0(FerryPostcopyMemory, 1);

	memory->ram = ram;
	memory->uffd = -1;
	memory->backings = g_new0(Backing, ram->n_blocks);
	memory->unshown = ferry_page_set_new(ram, FALSE);
	if (!find_backings(memory, error) || !open_uffd(memory, error) || !try_all(memory, error) ||
	    !map_all(memory, error))
		return NULL;
	return g_steal_pointer(&memory);
}

void ferry_postcopy_memory_free(FerryPostcopyMemory *memory)
{
	if (!memory)
		return;
	if (memory->uffd >= 0) {
		ferry_postcopy_memory_unwatch(memory);
		close(memory->uffd);
	}
	ferry_ram_free(memory->target);
	ferry_ram_free(memory->view);
	for (guint i = 0; i < memory->ram->n_blocks; i++)
		if (memory->backings[i].second)
			munmap(memory->backings[i].second, memory->ram->blocks[i].size);
	ferry_page_set_free(memory->unshown);
	g_free(memory->backings);
	g_free(memory);
}

const FerryRam *ferry_postcopy_memory_view(const FerryPostcopyMemory *memory)
{
	return memory->view;
}

const FerryRam *ferry_postcopy_memory_target(const FerryPostcopyMemory *memory)
{
	return memory->target;
}

int ferry_postcopy_memory_uffd(const FerryPostcopyMemory *memory)
{
	return memory->uffd;
}

/* ---- watching ---- */

gboolean ferry_postcopy_memory_drop(FerryPostcopyMemory *memory, const FerryRun *run,
				    GError **error)
{
	if (let_go(ferry_run_host(memory->ram, run), ferry_run_bytes(run)))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO,
		    "postcopy: cannot drop %" G_GUINT64_FORMAT
		    " pages of RAM block '%s' at page %" G_GUINT64_FORMAT
		    ": %s; unlock and unpin the guest's memory",
		    run->pages, memory->ram->blocks[run->block].name, run->first,
		    g_strerror(errno));
	return FALSE;
}

/* Shared memory keeps its pages: only the page tables go, which are empty but for what the monitor
 * touched. All of them, with one call, and not only those of missing pages. After registering: a
 * page touched in between would be there for good. */
gboolean ferry_postcopy_memory_watch(FerryPostcopyMemory *memory, GError **error)
{
	if (!watch_all(memory, error))
		return FALSE;
	for (guint i = 0; i < memory->ram->n_blocks; i++) {
		FerryRun all = { i, 0, ferry_ram_block_pages(&memory->ram->blocks[i]) };

		if (memory->backings[i].shared &&
		    !ferry_postcopy_memory_drop(memory, &all, error)) {
			ferry_postcopy_memory_unwatch(memory);
			return FALSE;
		}
	}
	return TRUE;
}

void ferry_postcopy_memory_unwatch(FerryPostcopyMemory *memory)
{
	unwatch(memory, memory->ram->n_blocks);
}

/* ---- pages ---- */

/* Gives a hole of the file a page of zeros. Not by touching it, which kills where there is no
 * room. */
static gboolean populate(guint8 *second, guint64 len)
{
	int failed;

	do
		failed = madvise(second, len, MADV_POPULATE_READ);
	while (failed && (errno == EAGAIN || errno == EINTR));
	return !failed;
}

/* What is left of a run that is being shown. */
typedef struct {
	guint64 at;     /* address in the guest's mapping */
	guint8 *second; /* the same in the second memory */
	guint64 len;
	guint8 *populated; /* last */
} Rest;

static void note_unshown(FerryPostcopyMemory *memory, guint block, const Rest *rest)
{
	FerryRun run = {
		.block = block,
		.first = (rest->at - (guintptr)memory->ram->blocks[block].host) >> FERRY_PAGE_SHIFT,
		.pages = memory->backings[block].step >> FERRY_PAGE_SHIFT,
	};

	for (FerryRun part; ferry_page_set_split(&run, &part);)
		ferry_page_set_add(memory->unshown, &part);
}

/* A page that could not be shown: whoever waits for it comes again by a new fault, and it is tried
 * again. Not so where nothing is watched any more. */
static void give_up(FerryPostcopyMemory *memory, guint block, const Rest *rest, int failure)
{
	if (failure == ENOENT || failure == ESRCH)
		return;
	if (!memory->backings[block].shared)
		note_unshown(memory, block, rest);
	if (!g_atomic_int_exchange(&memory->warned, TRUE))
		g_warning("postcopy: RAM block '%s': cannot give the guest a page: %s; it waits "
			  "until there is memory",
			  memory->ram->blocks[block].name, g_strerror(failure));
}

static void advance(Rest *rest, guint64 len)
{
	rest->at += len;
	rest->second += len;
	rest->len -= len;
}

/* The guest has them. */
static void shown(const Backing *b, Rest *rest, guint64 len)
{
	if (len && !b->shared)
		madvise(rest->second, len, MADV_DONTNEED);
	advance(rest, len);
}

static void show_some(FerryPostcopyMemory *memory, guint block, Rest *rest)
{
	const Backing *b = &memory->backings[block];
	int failure;
	guint64 done = b->shared ? ferry_uffd_continue(memory->uffd, rest->at, rest->len, &failure)
				 : ferry_uffd_copy(memory->uffd, rest->at, rest->second, rest->len,
						   &failure);

	shown(b, rest, done);
	if (!failure)
		return;
	if (failure == EFAULT && b->shared && rest->populated != rest->second) {
		rest->populated = rest->second;
		if (populate(rest->second, b->step))
			return;
		failure = errno;
	}
	ferry_uffd_wake(memory->uffd, rest->at, b->step);
	if (failure == EEXIST) {
		shown(b, rest, b->step);
	} else {
		give_up(memory, block, rest, failure);
		advance(rest, b->step);
	}
}

void ferry_postcopy_memory_show(FerryPostcopyMemory *memory, const FerryRun *run)
{
	Rest rest = {
		.at = (guintptr)ferry_run_host(memory->ram, run),
		.second = ferry_run_host(memory->target, run),
		.len = ferry_run_bytes(run),
	};

	while (rest.len)
		show_some(memory, run->block, &rest);
}

void ferry_postcopy_memory_show_ahead(FerryPostcopyMemory *memory, const FerryRun *run)
{
	int failure;

	if (memory->backings[run->block].shared)
		ferry_uffd_continue(memory->uffd, (guintptr)ferry_run_host(memory->ram, run),
				    ferry_run_bytes(run), &failure);
}

/* Whether the file has nothing there. Swapped out is not a hole. */
static gboolean is_hole(const FerryRam *ram, const FerryRun *run)
{
	const FerryRamBlock *block = &ram->blocks[run->block];
	off_t from = (off_t)(block->fd_offset + (run->first << FERRY_PAGE_SHIFT));
	off_t data = lseek(block->fd, from, SEEK_DATA);

	return data < 0 ? errno == ENXIO : data >= from + (off_t)ferry_run_bytes(run);
}

/* Never by punching a hole: memory that is registered with a NIC would not be that of the file any
 * more. */
void ferry_postcopy_memory_make_zero(FerryPostcopyMemory *memory, const FerryRun *run)
{
	guint8 *at = ferry_run_host(memory->target, run);

	if (!memory->backings[run->block].shared) {
		madvise(at, ferry_run_bytes(run), MADV_DONTNEED);
		return;
	}
	if (is_hole(memory->ram, run))
		return;
	for (guint64 i = 0; i < run->pages; i++, at += FERRY_PAGE_SIZE)
		if (!ferry_is_zero(at, FERRY_PAGE_SIZE))
			memset(at, 0, FERRY_PAGE_SIZE);
}

gboolean ferry_postcopy_memory_zero_keeps(const FerryPostcopyMemory *memory, guint block)
{
	return memory->backings[block].shared ||
	       memory->ram->blocks[block].page_size == FERRY_PAGE_SIZE;
}

static gboolean show_again(FerryPostcopyMemory *memory, guint block)
{
	guint64 step = memory->backings[block].step >> FERRY_PAGE_SHIFT;

	for (FerryRun run = { 0 }; ferry_page_set_find(memory->unshown, TRUE, block,
						       run.first + run.pages, step, &run);) {
		for (FerryRun rest = run, part; ferry_page_set_split(&rest, &part);)
			ferry_page_set_remove(memory->unshown, &part);
		ferry_postcopy_memory_show(memory, &run);
		if (ferry_page_set_has_any(memory->unshown, &run))
			return FALSE;
	}
	return TRUE;
}

gboolean ferry_postcopy_memory_settle(FerryPostcopyMemory *memory, GError **error)
{
	for (guint i = 0; i < memory->ram->n_blocks; i++) {
		if (show_again(memory, i))
			continue;
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO,
			    "postcopy: cannot give the guest all pages of RAM block '%s'; free "
			    "memory, and try again",
			    memory->ram->blocks[i].name);
		return FALSE;
	}
	return TRUE;
}
