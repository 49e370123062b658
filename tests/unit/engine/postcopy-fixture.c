/* SPDX-License-Identifier: BSD-2-Clause */
#include "postcopy-fixture.h"

#include "engine/uffd.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE (2ull << 20)
#define SMALL_BYTES (2ull << 20)
#define HUGE_BYTES (4 * HUGE_PAGE)
#define PATIENCE_US (10 * G_USEC_PER_SEC)

static gboolean is_hugetlb(PostcopyBacking backing)
{
	return backing == POSTCOPY_HUGETLB || backing == POSTCOPY_HUGETLB_PRIVATE;
}

static gboolean is_file(PostcopyBacking backing)
{
	return backing == POSTCOPY_MEMFD || backing == POSTCOPY_HUGETLB;
}

#define HUGE_PAGES_PATH "/proc/sys/vm/nr_hugepages"

static gboolean huge_pages_raised;
static guint64 huge_pages_before;

static void set_huge_pages(guint64 pages)
{
	g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, pages);

	g_file_set_contents_full(HUGE_PAGES_PATH, text, -1, G_FILE_SET_CONTENTS_NONE, 0644, NULL);
}

static void lower_huge_pages(void)
{
	set_huge_pages(huge_pages_before);
}

/* A root may, until the program ends; whoever else has what is there. */
static void raise_huge_pages(guint64 pages)
{
	g_autofree char *text = NULL;

	if (huge_pages_raised || !g_file_get_contents(HUGE_PAGES_PATH, &text, NULL, NULL) ||
	    g_ascii_strtoull(text, NULL, 10) >= pages || access(HUGE_PAGES_PATH, W_OK) < 0)
		return;
	huge_pages_before = g_ascii_strtoull(text, NULL, 10);
	huge_pages_raised = TRUE;
	set_huge_pages(pages);
	atexit(lower_huge_pages);
}

/* A huge page begins where the first block does. */
static guint8 *map_aligned(guint64 size)
{
	guint8 *p = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	guint64 before;

	if (p == MAP_FAILED)
		return p;
	before = -(guintptr)p & (HUGE_PAGE - 1);
	munmap(p, before);
	munmap(p + before + size, HUGE_PAGE - before);
	return p + before;
}

static gboolean map_file(PostcopyFixture *f, PostcopyBacking backing)
{
	guint flags = MFD_CLOEXEC | (is_hugetlb(backing) ? MFD_HUGETLB : 0);

	f->fd = memfd_create("postcopy", flags);
	if (f->fd < 0 || ftruncate(f->fd, (off_t)f->size) < 0)
		return FALSE;
	f->host = mmap(NULL, f->size, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	return f->host != MAP_FAILED;
}

static gboolean map_private(PostcopyFixture *f, PostcopyBacking backing)
{
	if (backing == POSTCOPY_HUGETLB_PRIVATE) {
		f->host = mmap(NULL, f->size, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
		return f->host != MAP_FAILED;
	}
	f->host = map_aligned(f->size);
	if (f->host == MAP_FAILED)
		return FALSE;
	if (backing == POSTCOPY_THP) {
		madvise(f->host, f->size, MADV_HUGEPAGE);
		memset(f->host, 0xee, f->size);
	}
	return TRUE;
}

static gboolean add_blocks(PostcopyFixture *f, PostcopyBacking backing)
{
	guint64 half = f->size / 2, page = is_hugetlb(backing) ? HUGE_PAGE : FERRY_PAGE_SIZE;

	f->ram = ferry_ram_new();
	return ferry_ram_add(f->ram, "low", f->host, half, page, f->fd, 0, NULL) &&
	       ferry_ram_add(f->ram, "high", f->host + half, half, page, f->fd, half, NULL);
}

static gboolean may_use_uffd(PostcopyFixture *f)
{
	g_autoptr(GError) error = NULL;
	guint64 features;
	int fd = ferry_uffd_open(0, 0, TRUE, &features, &error);

	if (fd >= 0)
		close(fd);
	else
		f->skip = g_strdup(error->message);
	return fd >= 0;
}

gboolean postcopy_fixture_set_up(PostcopyFixture *f, PostcopyBacking backing)
{
	g_autoptr(GError) error = NULL;

	*f = (PostcopyFixture){ .fd = -1, .quit = -1, .host = MAP_FAILED };
	f->size = is_hugetlb(backing) ? HUGE_BYTES : SMALL_BYTES;
	f->told = g_async_queue_new_full(g_free);
	if (!may_use_uffd(f))
		return FALSE;
	if (is_hugetlb(backing))
		raise_huge_pages(8);
	if (!(is_file(backing) ? map_file(f, backing) : map_private(f, backing))) {
		f->skip = g_strdup("no memory of this backing "
				   "(echo 8 > /proc/sys/vm/nr_hugepages)");
		return FALSE;
	}
	if (!add_blocks(f, backing))
		return FALSE;
	f->postcopy = ferry_postcopy_ram_new(f->ram, &error);
	if (!f->postcopy)
		g_test_message("%s", error->message);
	return f->postcopy != NULL;
}

void postcopy_fixture_tear_down(PostcopyFixture *f)
{
	if (f->faults) {
		eventfd_write(f->quit, 1);
		g_thread_join(f->faults);
	}
	if (f->quit >= 0)
		close(f->quit);
	ferry_postcopy_ram_free(f->postcopy);
	ferry_ram_free(f->ram);
	if (f->host != MAP_FAILED)
		munmap(f->host, f->size);
	if (f->fd >= 0)
		close(f->fd);
	g_async_queue_unref(f->told);
	g_free(f->skip);
}

guint64 postcopy_fixture_pages(const PostcopyFixture *f, guint block)
{
	return ferry_ram_block_pages(&f->ram->blocks[block]);
}

guint64 postcopy_fixture_host_pages(const PostcopyFixture *f)
{
	return f->ram->blocks[0].page_size >> FERRY_PAGE_SHIFT;
}

gboolean postcopy_fixture_discard_all(PostcopyFixture *f)
{
	for (guint i = 0; i < f->ram->n_blocks; i++) {
		FerryRun all = { i, 0, postcopy_fixture_pages(f, i) };

		if (!ferry_postcopy_ram_discard(f->postcopy, &all, NULL))
			return FALSE;
	}
	return TRUE;
}

static gpointer take_faults(gpointer data)
{
	PostcopyFixture *f = data;
	struct pollfd fds[] = {
		{ ferry_postcopy_ram_fault_fd(f->postcopy), POLLIN, 0 },
		{ f->quit, POLLIN, 0 },
	};
	FerryRun run;

	for (;;) {
		poll(fds, G_N_ELEMENTS(fds), -1);
		if (fds[1].revents)
			return NULL;
		if (ferry_postcopy_ram_take_fault(f->postcopy, &run))
			g_async_queue_push(f->told, g_memdup2(&run, sizeof(run)));
	}
}

gboolean postcopy_fixture_listen(PostcopyFixture *f)
{
	if (!ferry_postcopy_ram_listen(f->postcopy, NULL))
		return FALSE;
	f->quit = eventfd(0, EFD_CLOEXEC);
	f->faults = g_thread_new("faults", take_faults, f);
	return TRUE;
}

/* Word @i of a page. */
static guint64 content(guint block, guint64 page, guint i, guint8 version)
{
	guint64 seed = ((guint64)version << 56) + ((guint64)block << 48) + page * 512 + i;

	return version ? seed * 0x9e3779b97f4a7c15 : 0;
}

void postcopy_fixture_fill(const FerryRam *ram, const FerryRun *run, guint8 version)
{
	guint64 *words = (guint64 *)ferry_run_host(ram, run);

	for (guint64 page = run->first; page < run->first + run->pages; page++)
		for (guint i = 0; i < FERRY_PAGE_SIZE / sizeof(*words); i++)
			*words++ = content(run->block, page, i, version);
}

void postcopy_fixture_deliver(PostcopyFixture *f, const FerryRun *run, guint8 version)
{
	FerryArrivals arrivals = ferry_postcopy_ram_arrivals(f->postcopy);

	postcopy_fixture_fill(ferry_postcopy_ram_target(f->postcopy), run, version);
	arrivals.landed(arrivals.user, run);
}

gboolean postcopy_fixture_await_told(PostcopyFixture *f, FerryRun *run)
{
	g_autofree FerryRun *told = g_async_queue_timeout_pop(f->told, PATIENCE_US);

	if (told)
		*run = *told;
	return told != NULL;
}

gboolean postcopy_fixture_await_latencies(PostcopyFixture *f, guint64 count)
{
	gint64 deadline = g_get_monotonic_time() + PATIENCE_US;
	FerryPostcopyStatus status = { 0 };

	do {
		ferry_postcopy_ram_get_status(f->postcopy, &status);
		if (status.latency.count == count)
			return TRUE;
		g_thread_yield();
	} while (g_get_monotonic_time() < deadline);
	return FALSE;
}

static gpointer touch_pages(gpointer data)
{
	PostcopyTouch *t = data;
	const guint64 *words = (const guint64 *)ferry_run_host(t->f->ram, &t->run);

	t->id = gettid();
	g_async_queue_push(t->started, t);
	t->right = TRUE;
	for (guint64 page = t->run.first; page < t->run.first + t->run.pages; page++)
		for (guint i = 0; i < FERRY_PAGE_SIZE / sizeof(*words); i++)
			t->right &= *words++ == content(t->run.block, page, i, t->version);
	g_atomic_int_set(&t->done, TRUE);
	return NULL;
}

void postcopy_touch_start(PostcopyTouch *touch, PostcopyFixture *f, const FerryRun *run,
			  guint8 version)
{
	*touch = (PostcopyTouch){ .f = f, .run = *run, .version = version };
	touch->started = g_async_queue_new();
	touch->thread = g_thread_new("touch", touch_pages, touch);
	g_async_queue_pop(touch->started);
}

gboolean postcopy_touch_end(PostcopyTouch *touch)
{
	g_thread_join(touch->thread);
	g_async_queue_unref(touch->started);
	return touch->right;
}

gboolean postcopy_touch_now(PostcopyFixture *f, const FerryRun *run, guint8 version)
{
	PostcopyTouch touch;

	postcopy_touch_start(&touch, f, run, version);
	return postcopy_touch_end(&touch);
}

gboolean postcopy_fixture_await_fault(PostcopyFixture *f, gint timeout_ms)
{
	struct pollfd fd = { ferry_postcopy_ram_fault_fd(f->postcopy), POLLIN, 0 };

	return poll(&fd, 1, timeout_ms) == 1;
}

FerryPostcopyStatus postcopy_fixture_status(PostcopyFixture *f)
{
	FerryPostcopyStatus status = { 0 };

	ferry_postcopy_ram_get_status(f->postcopy, &status);
	return status;
}
