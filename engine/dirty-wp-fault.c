/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/dirty.h>

#include "bitmap.h"
#include "uffd.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* Faults taken with one read. */
#define MESSAGES 16

/*
 * Every first write to a page waits until the thread has noted the page and let it go. The lock
 * makes each pair one step: the thread's (note, unprotect) and collect's (fetch, protect). Without
 * it, a collect between the thread's two would fetch the note and leave the page unprotected.
 */
typedef struct {
	FerryDirtySource base;
	const FerryRam *ram; /* NULL when not started */
	int uffd;
	int quit; /* eventfd */
	guint64 features;
	GThread *thread;
	pthread_mutex_t lock; /* noted, and the protection of pages */
	FerryBitmap *noted;   /* written and unprotected since the last collect */
} WpFault;

/* The page of the backing that holds @address: hugetlb is protected whole huge pages at a time. */
static gboolean find_page(const FerryRam *ram, guint64 address, FerryRun *run)
{
	for (guint i = 0; i < ram->n_blocks; i++) {
		const FerryRamBlock *b = &ram->blocks[i];
		guint64 offset = address - (guintptr)b->host;

		if (address < (guintptr)b->host || offset >= b->size)
			continue;
		run->block = i;
		run->first = (offset & ~(b->page_size - 1)) >> FERRY_PAGE_SHIFT;
		run->pages = b->page_size >> FERRY_PAGE_SHIFT;
		return TRUE;
	}
	return FALSE;
}

static void resolve(WpFault *s, guint64 address)
{
	FerryRun run;

	if (!find_page(s->ram, address, &run))
		return;
	pthread_mutex_lock(&s->lock);
	ferry_bitmap_set_run(s->noted, &run);
	ferry_uffd_set_protection(s->uffd, (guintptr)ferry_run_host(s->ram, &run),
				  ferry_run_bytes(&run), FALSE);
	pthread_mutex_unlock(&s->lock);
}

static gpointer handler_thread(gpointer data)
{
	WpFault *s = data;
	struct pollfd fds[] = { { s->uffd, POLLIN, 0 }, { s->quit, POLLIN, 0 } };
	struct uffd_msg messages[MESSAGES];

	for (;;) {
		gssize n;

		poll(fds, G_N_ELEMENTS(fds), -1);
		if (fds[1].revents)
			return NULL;
		n = read(s->uffd, messages, sizeof(messages));
		for (gssize i = 0; i < n / (gssize)sizeof(messages[0]); i++)
			if (messages[i].event == UFFD_EVENT_PAGEFAULT)
				resolve(s, messages[i].arg.pagefault.address);
	}
}

/* Before Linux 6.4 an anonymous page that was never touched cannot be protected: give it the zero
 * page. */
static gboolean populate(const FerryRam *ram, GError **error)
{
	for (guint i = 0; i < ram->n_blocks; i++) {
		const FerryRamBlock *b = &ram->blocks[i];

		if (b->fd >= 0 || madvise(b->host, b->size, MADV_POPULATE_READ) == 0)
			continue;
		g_set_error(
			error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			"wp-fault: cannot populate RAM block '%s': %s; use Linux 6.4 or later, or back it "
			"with a memfd",
			b->name, g_strerror(errno));
		return FALSE;
	}
	return TRUE;
}

static void wp_fault_stop(FerryDirtySource *source)
{
	WpFault *s = (WpFault *)source;

	if (!s->ram)
		return;
	ferry_uffd_release_ram(s->uffd, s->ram);
	eventfd_write(s->quit, 1);
	g_thread_join(s->thread);
	close(s->quit);
	g_clear_pointer(&s->noted, ferry_bitmap_free);
	s->ram = NULL;
}

static gboolean wp_fault_start(FerryDirtySource *source, const FerryRam *ram, GError **error)
{
	WpFault *s = (WpFault *)source;

	if (!(s->features & UFFD_FEATURE_WP_UNPOPULATED) && !populate(ram, error))
		return FALSE;
	s->quit = eventfd(0, EFD_CLOEXEC);
	if (s->quit < 0) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO,
			    "eventfd: %s; raise the limit of open files", g_strerror(errno));
		return FALSE;
	}
	s->ram = ram;
	s->noted = ferry_bitmap_new(ram);
	/* The thread comes first: the first protected page may stop a vCPU. */
	s->thread = g_thread_new("ferry-wp-fault", handler_thread, s);
	if (ferry_uffd_protect_ram(s->uffd, ram, error))
		return TRUE;
	wp_fault_stop(source);
	return FALSE;
}

static gboolean collect_run(WpFault *s, const FerryRun *run, guint64 *bitmap, GError **error)
{
	const FerryRamBlock *b = &s->ram->blocks[run->block];

	for (guint64 page = run->first; page < run->first + run->pages; page++)
		bitmap[page / 64] |= 1ull << (page % 64);
	ferry_bitmap_clear_run(s->noted, run);
	if (ferry_uffd_set_protection(s->uffd, (guintptr)ferry_run_host(s->ram, run),
				      ferry_run_bytes(run), TRUE))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO,
		    "wp-fault: cannot protect RAM block '%s' at page %" G_GUINT64_FORMAT
		    " again: %s; keep the block mapped while it is tracked",
		    b->name, run->first, g_strerror(errno));
	return FALSE;
}

/* The lock is let go between runs, so that a vCPU waits for one run at most. */
static gboolean wp_fault_collect(FerryDirtySource *source, guint block, guint64 *bitmap,
				 GError **error)
{
	WpFault *s = (WpFault *)source;
	FerryRun run = { .block = block };
	gboolean more = TRUE, ok = TRUE;

	while (more && ok) {
		pthread_mutex_lock(&s->lock);
		more = ferry_bitmap_next_run(s->noted, &run, G_MAXUINT64) && run.block == block;
		if (more)
			ok = collect_run(s, &run, bitmap, error);
		pthread_mutex_unlock(&s->lock);
	}
	return ok;
}

static void wp_fault_free(FerryDirtySource *source)
{
	WpFault *s = (WpFault *)source;

	close(s->uffd);
	pthread_mutex_destroy(&s->lock);
	g_free(s);
}

static const FerryDirtySourceOps wp_fault_ops = {
	.name = "wp-fault",
	.start = wp_fault_start,
	.collect = wp_fault_collect,
	.stop = wp_fault_stop,
	.free = wp_fault_free,
};

FerryDirtySource *ferry_dirty_source_wp_fault(GError **error)
{
	guint64 features;
	int uffd = ferry_uffd_open(UFFD_FEATURE_PAGEFAULT_FLAG_WP,
				   UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_WP_UNPOPULATED,
				   TRUE, &features, error);
	WpFault *s;

	if (uffd < 0)
		return NULL;
	s = g_new0(WpFault, 1);
	s->base.ops = &wp_fault_ops;
	s->uffd = uffd;
	s->features = features;
	pthread_mutex_init(&s->lock, NULL);
	return &s->base;
}
