/* SPDX-License-Identifier: BSD-2-Clause */
#include "postcopy-ram.h"

#include "fault-times.h"
#include "page-set.h"
#include "postcopy-memory.h"
#include "uffd.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/*
 * Why nobody is left waiting. A page that lands is added to @here, then shown to the guest, which
 * wakes the waiters, those too whose fault was not read yet. A fault that was read is added to
 * @asked, then @here is looked at again: if the page landed meanwhile, it is shown again. Whether
 * the fault's time ends, and whether a page of zeros is shown at all, is decided by @asked after
 * the page is in @here. The sets are sequentially consistent: one of the two sees the other.
 */
struct FerryPostcopyRam {
	const FerryRam *ram;
	FerryPostcopyMemory *memory;
	FerryFaultTimes *times;
	FerryPageSet *here;  /* landed, or never missing */
	FerryPageSet *asked; /* somebody waited for it since listen() */
	gint listening;      /* atomic */
	guint64 missing;     /* these five are atomic; a page leaves @missing once it was shown */
	guint64 requests;
	guint64 urgent;
	guint64 background;
	guint64 repeated;
	guint64 discarded; /* set by listen() */
	/* of the thread of the faults */
	FerryPageSet *told;
	int epoll; /* the userfaultfd, and @again */
	int again; /* eventfd: @retell is on */
	gboolean retell;
	FerryRun next; /* where to look on for pages to tell again */
};

static guint64 load(const guint64 *count)
{
	return __atomic_load_n(count, __ATOMIC_SEQ_CST);
}

static void count(guint64 *counter, guint64 n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* ---- making it ---- */

static gboolean watch_fd(int epoll, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static gboolean open_fds(FerryPostcopyRam *p, GError **error)
{
	p->epoll = epoll_create1(EPOLL_CLOEXEC);
	p->again = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->epoll >= 0 && p->again >= 0 &&
	    watch_fd(p->epoll, ferry_postcopy_memory_uffd(p->memory)) &&
	    watch_fd(p->epoll, p->again))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO,
		    "postcopy: epoll or eventfd: %s; raise the limit of open files",
		    g_strerror(errno));
	return FALSE;
}

FerryPostcopyRam *ferry_postcopy_ram_new(const FerryRam *ram, GError **error)
{
	g_autoptr(FerryPostcopyRam) p = g_new0(FerryPostcopyRam, 1);

	p->ram = ram;
	p->epoll = p->again = -1;
	p->times = ferry_fault_times_new();
	p->here = ferry_page_set_new(ram, TRUE);
	p->asked = ferry_page_set_new(ram, FALSE);
	p->told = ferry_page_set_new(ram, FALSE);
	p->memory = ferry_postcopy_memory_new(ram, error);
	if (!p->memory || !open_fds(p, error))
		return NULL;
	return g_steal_pointer(&p);
}

void ferry_postcopy_ram_free(FerryPostcopyRam *p)
{
	if (!p)
		return;
	if (p->again >= 0)
		close(p->again);
	if (p->epoll >= 0)
		close(p->epoll);
	ferry_postcopy_memory_free(p->memory);
	ferry_page_set_free(p->told);
	ferry_page_set_free(p->asked);
	ferry_page_set_free(p->here);
	ferry_fault_times_free(p->times);
	g_free(p);
}

const FerryRam *ferry_postcopy_ram_view(FerryPostcopyRam *p)
{
	return ferry_postcopy_memory_view(p->memory);
}

const FerryRam *ferry_postcopy_ram_target(FerryPostcopyRam *p)
{
	return ferry_postcopy_memory_target(p->memory);
}

/* ---- before the switch ---- */

static gboolean is_inside(const FerryRam *ram, const FerryRun *run)
{
	guint64 pages;

	if (run->block >= ram->n_blocks)
		return FALSE;
	pages = ferry_ram_block_pages(&ram->blocks[run->block]);
	return run->pages && run->first < pages && run->pages <= pages - run->first;
}

/* Of the host pages of the run's block. */
static guint64 host_pages(const FerryRam *ram, guint block)
{
	return ram->blocks[block].page_size >> FERRY_PAGE_SHIFT;
}

static gboolean check_discard(FerryPostcopyRam *p, const FerryRun *run, GError **error)
{
	const char *what = NULL;

	if (ferry_postcopy_ram_is_listening(p))
		what = "it came after LISTEN";
	else if (!is_inside(p->ram, run))
		what = "outside of the RAM";
	else if ((run->first | run->pages) % host_pages(p->ram, run->block))
		what = "not whole pages of the block's backing";
	if (!what)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "RAM_DISCARD of block %u, page %" G_GUINT64_FORMAT ", %" G_GUINT64_FORMAT
		    " pages: %s; the source is broken",
		    run->block, run->first, run->pages, what);
	return FALSE;
}

gboolean ferry_postcopy_ram_discard(FerryPostcopyRam *p, const FerryRun *run, GError **error)
{
	if (!check_discard(p, run, error))
		return FALSE;
	for (FerryRun rest = *run, part; ferry_page_set_split(&rest, &part);)
		count(&p->missing,
		      (guint64)__builtin_popcountll(ferry_page_set_remove(p->here, &part)));
	return TRUE;
}

static gboolean drop_missing(FerryPostcopyRam *p, guint block, GError **error)
{
	for (FerryRun run = { 0 };
	     ferry_page_set_find(p->here, FALSE, block, run.first + run.pages, G_MAXUINT64, &run);)
		if (!ferry_postcopy_memory_drop(p->memory, &run, error))
			return FALSE;
	return TRUE;
}

gboolean ferry_postcopy_ram_listen(FerryPostcopyRam *p, GError **error)
{
	const FerryRam *view = ferry_postcopy_ram_view(p);

	if (!ferry_postcopy_memory_watch(p->memory, error))
		return FALSE;
	/* Blocks that are their own view: watch() left them their pages. */
	for (guint i = 0; i < p->ram->n_blocks; i++)
		if (view->blocks[i].host == p->ram->blocks[i].host && !drop_missing(p, i, error)) {
			ferry_postcopy_memory_unwatch(p->memory);
			return FALSE;
		}
	p->discarded = load(&p->missing);
	g_atomic_int_set(&p->listening, TRUE);
	return TRUE;
}

gboolean ferry_postcopy_ram_is_listening(FerryPostcopyRam *p)
{
	return g_atomic_int_get(&p->listening);
}

/* ---- pages that land ---- */

/* The host page that page @page of @block lies in. */
static FerryRun host_page(const FerryRam *ram, guint block, guint64 page)
{
	guint64 pages = host_pages(ram, block);

	return (FerryRun){ .block = block, .first = page & ~(pages - 1), .pages = pages };
}

/* Pages of the run whose host page somebody waits for; their faults end if @over. */
static guint64 count_asked(FerryPostcopyRam *p, const FerryRun *run, gboolean over)
{
	guint64 end = run->first + run->pages, asked = 0;

	for (guint64 page = run->first, next; page < end; page = next) {
		FerryRun host = host_page(p->ram, run->block, page);

		next = MIN(host.first + host.pages, end);
		if (!ferry_page_set_has(p->asked, run->block, host.first))
			continue;
		asked += next - page;
		if (over)
			ferry_fault_times_end(p->times, run->block, host.first,
					      g_get_monotonic_time());
	}
	return asked;
}

/* Shows whole host pages; a page of zeros that nobody waits for is left to the first access. */
static void show(FerryPostcopyRam *p, const FerryRun *run, gboolean zero)
{
	if (!zero || !ferry_postcopy_memory_zero_keeps(p->memory, run->block) ||
	    count_asked(p, run, FALSE))
		ferry_postcopy_memory_show(p->memory, run);
	count_asked(p, run, TRUE);
}

/* The run is in @here since just now, by this thread alone. */
static void arrived(FerryPostcopyRam *p, const FerryRun *run, gboolean zero)
{
	guint64 urgent = count_asked(p, run, FALSE), end = run->first + run->pages;

	count(&p->urgent, urgent);
	count(&p->background, run->pages - urgent);
	if (host_pages(p->ram, run->block) == 1) {
		show(p, run, zero);
	} else {
		for (guint64 page = run->first; page < end;) {
			FerryRun host = host_page(p->ram, run->block, page);

			if (ferry_page_set_has_all(p->here, &host))
				show(p, &host, zero);
			page = host.first + host.pages;
		}
	}
	/* Not before: who finds that none is missing may call finish(). */
	__atomic_fetch_sub(&p->missing, run->pages, __ATOMIC_SEQ_CST);
}

/* A run of those pages of @part that @fresh names; takes it out of @fresh. */
static FerryRun take_fresh(const FerryRun *part, guint64 *fresh)
{
	guint first = (guint)__builtin_ctzll(*fresh);
	guint64 up = ~(*fresh >> first);
	guint n = up ? (guint)__builtin_ctzll(up) : 64;

	*fresh &= first + n < 64 ? ~0ull << (first + n) : 0;
	return (FerryRun){ .block = part->block, .first = part->first + first, .pages = n };
}

static void land(FerryPostcopyRam *p, const FerryRun *run, gboolean zero)
{
	for (FerryRun rest = *run, part; ferry_page_set_split(&rest, &part);) {
		guint64 fresh = ferry_page_set_add(p->here, &part);

		count(&p->repeated, part.pages - (guint64)__builtin_popcountll(fresh));
		while (fresh) {
			FerryRun now = take_fresh(&part, &fresh);

			arrived(p, &now, zero);
		}
	}
}

static void on_landed(gpointer user, const FerryRun *run)
{
	FerryPostcopyRam *p = user;

	g_return_if_fail(ferry_postcopy_ram_is_listening(p) && is_inside(p->ram, run));
	land(p, run, FALSE);
}

static gboolean on_wanted(gpointer user, const FerryRun *run)
{
	return ferry_postcopy_ram_wants(user, run);
}

FerryArrivals ferry_postcopy_ram_arrivals(FerryPostcopyRam *p)
{
	return (FerryArrivals){ .wanted = on_wanted, .landed = on_landed, .user = p };
}

void ferry_postcopy_ram_land_zero(FerryPostcopyRam *p, const FerryRun *run)
{
	guint64 end = run->first + run->pages;
	FerryRun wanted = { .first = run->first };

	g_return_if_fail(ferry_postcopy_ram_is_listening(p) && is_inside(p->ram, run));
	/* What is here belongs to the guest. */
	while (ferry_page_set_find(p->here, FALSE, run->block, wanted.first + wanted.pages,
				   run->pages, &wanted) &&
	       wanted.first < end) {
		wanted.pages = MIN(wanted.pages, end - wanted.first);
		ferry_postcopy_memory_make_zero(p->memory, &wanted);
	}
	land(p, run, TRUE);
}

gboolean ferry_postcopy_ram_wants(FerryPostcopyRam *p, const FerryRun *run)
{
	return is_inside(p->ram, run) && !ferry_page_set_has_any(p->here, run);
}

guint64 ferry_postcopy_ram_missing(FerryPostcopyRam *p)
{
	return load(&p->missing);
}

static gboolean find_missing(FerryPostcopyRam *p, guint from, guint to, guint64 first, guint64 max,
			     FerryRun *run)
{
	for (guint i = from; i < to; i++, first = 0)
		if (ferry_page_set_find(p->here, FALSE, i, first, max, run))
			return TRUE;
	return FALSE;
}

gboolean ferry_postcopy_ram_next_missing(FerryPostcopyRam *p, FerryRun *run, guint64 max)
{
	guint n = p->ram->n_blocks;

	return find_missing(p, run->block, n, run->first, max, run) ||
	       find_missing(p, 0, MIN(run->block + 1, n), 0, max, run);
}

guint64 *ferry_postcopy_ram_received(FerryPostcopyRam *p, guint block, gsize *words)
{
	return ferry_page_set_copy(p->here, block, words);
}

/* ---- faults ---- */

int ferry_postcopy_ram_fault_fd(FerryPostcopyRam *p)
{
	return p->epoll;
}

static gboolean find_page(const FerryRam *ram, guint64 address, FerryRun *run)
{
	for (guint i = 0; i < ram->n_blocks; i++) {
		guint64 offset = address - (guintptr)ram->blocks[i].host;

		if (address < (guintptr)ram->blocks[i].host || offset >= ram->blocks[i].size)
			continue;
		*run = host_page(ram, i, offset >> FERRY_PAGE_SHIFT);
		return TRUE;
	}
	return FALSE;
}

/* Somebody waits for pages that are here: they were not shown before, or have just been. The pages
 * behind them that are here too are likely next. */
static void show_here(FerryPostcopyRam *p, const FerryRun *host)
{
	FerryRun ahead;

	ferry_postcopy_memory_show(p->memory, host);
	if (host->pages > 1 || (host->first + 1) % 64 == 0)
		return;
	if (ferry_page_set_find(p->here, TRUE, host->block, host->first + 1, 63 - host->first % 64,
				&ahead) &&
	    ahead.first == host->first + 1)
		ferry_postcopy_memory_show_ahead(p->memory, &ahead);
}

/* TRUE: the page is told for the first time. */
static gboolean ask(FerryPostcopyRam *p, const FerryRun *host, gint32 thread)
{
	FerryRun first = { .block = host->block, .first = host->first, .pages = 1 };

	if (ferry_page_set_has_all(p->here, host)) {
		show_here(p, host);
		return FALSE;
	}
	ferry_fault_times_begin(p->times, host->block, host->first, thread, g_get_monotonic_time());
	count(&p->requests, 1);
	ferry_page_set_add(p->asked, &first);
	if (ferry_page_set_has_all(p->here, host)) {
		show_here(p, host);
		count_asked(p, host, TRUE);
		return FALSE;
	}
	return ferry_page_set_add(p->told, &first) != 0;
}

/* Pages that were told on a former connection, and are not here yet. */
static gboolean take_again(FerryPostcopyRam *p, FerryRun *run)
{
	while (p->next.block < p->ram->n_blocks) {
		FerryRun first;

		if (!ferry_page_set_find(p->asked, TRUE, p->next.block, p->next.first, 1, &first)) {
			p->next = (FerryRun){ .block = p->next.block + 1 };
			continue;
		}
		p->next.first = first.first + 1;
		*run = host_page(p->ram, first.block, first.first);
		if (!ferry_page_set_has_all(p->here, run) && ferry_page_set_add(p->told, &first))
			return TRUE;
	}
	return FALSE;
}

gboolean ferry_postcopy_ram_take_fault(FerryPostcopyRam *p, FerryRun *run)
{
	guint64 address;
	gint32 thread;
	FerryRun host;

	if (p->retell) {
		if (take_again(p, run))
			return TRUE;
		p->retell = FALSE;
		eventfd_read(p->again, &(eventfd_t){ 0 });
	}
	while (ferry_uffd_read_fault(ferry_postcopy_memory_uffd(p->memory), &address, &thread)) {
		if (!find_page(p->ram, address, &host) || !ask(p, &host, thread))
			continue;
		*run = host;
		return TRUE;
	}
	return FALSE;
}

void ferry_postcopy_ram_tell_again(FerryPostcopyRam *p)
{
	ferry_page_set_clear(p->told);
	p->next = (FerryRun){ 0 };
	if (!p->retell)
		eventfd_write(p->again, 1);
	p->retell = TRUE;
}

/* ---- the end ---- */

void ferry_postcopy_ram_give_up(FerryPostcopyRam *p)
{
	ferry_postcopy_memory_unwatch(p->memory);
}

gboolean ferry_postcopy_ram_finish(FerryPostcopyRam *p, GError **error)
{
	guint64 missing = ferry_postcopy_ram_missing(p);

	if (missing) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
			    "postcopy: %" G_GUINT64_FORMAT
			    " pages are missing; finish when they came",
			    missing);
		return FALSE;
	}
	if (!ferry_postcopy_memory_settle(p->memory, error))
		return FALSE;
	ferry_postcopy_memory_unwatch(p->memory);
	return TRUE;
}

void ferry_postcopy_ram_set_vcpus(FerryPostcopyRam *p, const gint32 *ids, guint n)
{
	ferry_fault_times_set_vcpus(p->times, ids, n);
}

void ferry_postcopy_ram_get_status(FerryPostcopyRam *p, FerryPostcopyStatus *status)
{
	gboolean listening = ferry_postcopy_ram_is_listening(p);

	status->discarded = listening ? p->discarded : 0;
	status->missing = listening ? load(&p->missing) : 0;
	status->requests = load(&p->requests);
	status->urgent_pages = load(&p->urgent);
	status->background_pages = load(&p->background);
	status->repeated_pages = load(&p->repeated);
	ferry_fault_times_get(p->times, g_get_monotonic_time(), status);
}
