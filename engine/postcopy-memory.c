/* SPDX-License-Identifier: BSD-2-Clause */
#include "postcopy-memory.h"

#include "page-set.h"
#include "postcopy-backing.h"
#include "uffd.h"
#include "zero.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct FerryPostcopyMemory {
	const FerryRam *ram;
	int uffd;
	FerryPostcopyBacking *backings; /* ram->n_blocks */
	FerryRam *view;
	FerryRam *target;
	gint watched;          /* atomic */
	gint warned;           /* atomic */
	FerryPageSet *unshown; /* of private memory: the kernel could not, and they are still in
				* the second memory */
};

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
		FerryPostcopyBacking *b = &memory->backings[i];

		if (!ferry_postcopy_backing_map(b, block, error) ||
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

	for (guint i = 0; i < memory->ram->n_blocks; i++)
		required |= ferry_postcopy_backing_features(&memory->backings[i]);
	memory->uffd = ferry_uffd_open(required, UFFD_FEATURE_THREAD_ID, TRUE, &on, error);
	return memory->uffd >= 0;
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
		if (!ferry_postcopy_backing_watch(&memory->backings[i], &memory->ram->blocks[i],
						  memory->uffd, error)) {
			unwatch(memory, i);
			return FALSE;
		}
	g_atomic_int_set(&memory->watched, TRUE);
	return TRUE;
}

static gboolean try_all(FerryPostcopyMemory *memory, GError **error)
{
	for (guint i = 0; i < memory->ram->n_blocks; i++)
		if (!ferry_postcopy_backing_check(&memory->backings[i], &memory->ram->blocks[i],
						  error))
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
	memory->backings = g_new0(FerryPostcopyBacking, ram->n_blocks);
	memory->unshown = ferry_page_set_new(ram, FALSE);
	if (!ferry_postcopy_backing_find(ram, memory->backings, error) ||
	    !open_uffd(memory, error) || !try_all(memory, error) || !map_all(memory, error))
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
	if (ferry_postcopy_let_go(ferry_run_host(memory->ram, run), ferry_run_bytes(run)))
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
	/* Once: it would take the blocks from another userfaultfd that watches them by then. */
	if (g_atomic_int_exchange(&memory->watched, FALSE))
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
static void shown(const FerryPostcopyBacking *b, Rest *rest, guint64 len)
{
	if (len && !b->shared)
		madvise(rest->second, len, MADV_DONTNEED);
	advance(rest, len);
}

static void show_some(FerryPostcopyMemory *memory, guint block, Rest *rest)
{
	const FerryPostcopyBacking *b = &memory->backings[block];
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
