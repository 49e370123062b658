/* SPDX-License-Identifier: BSD-2-Clause */
#include "dirty-fixture.h"

#include <CUnit/CUnit.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static gboolean map_ram(DirtyFixture *f, DirtyBacking backing)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;

	f->fd = -1;
	if (backing != DIRTY_ANONYMOUS) {
		f->fd = memfd_create("test-dirty",
				     MFD_CLOEXEC | (backing == DIRTY_HUGETLB ? MFD_HUGETLB : 0));
		flags = MAP_SHARED;
		if (f->fd < 0 || ftruncate(f->fd, (off_t)f->size) < 0)
			return FALSE;
	}
	f->host = mmap(NULL, f->size, PROT_READ | PROT_WRITE, flags, f->fd, 0);
	return f->host != MAP_FAILED;
}

gboolean dirty_fixture_set_up(DirtyFixture *f, DirtyBacking backing, guint64 size)
{
	guint64 half = size / 2, page = backing == DIRTY_HUGETLB ? 2 << 20 : FERRY_PAGE_SIZE;

	*f = (DirtyFixture){ .size = size };
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
	if (!map_ram(f, backing))
		return FALSE;
	f->ram = ferry_ram_new();
	if (!ferry_ram_add(f->ram, "low", f->host, half, page, f->fd, 0, NULL) ||
	    !ferry_ram_add(f->ram, "high", f->host + half, half, page, f->fd, half, NULL))
		return FALSE;
	f->dirty = ferry_bitmap_new(f->ram);
	f->shadow = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	f->random_fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	return TRUE;
}

void dirty_fixture_tear_down(DirtyFixture *f)
{
	if (f->host && f->host != MAP_FAILED)
		munmap(f->host, f->size);
	if (f->shadow)
		munmap(f->shadow, f->size);
	if (f->fd >= 0)
		close(f->fd);
	if (f->random_fd > 0)
		close(f->random_fd);
	ferry_bitmap_free(f->dirty);
	ferry_ram_free(f->ram);
	pthread_cond_destroy(&f->changed);
	pthread_mutex_destroy(&f->lock);
}

static guint64 next_random(guint64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

void dirty_fixture_hold(DirtyFixture *f)
{
	pthread_mutex_lock(&f->lock);
	g_atomic_int_set(&f->held, TRUE);
	while (f->parked < f->running)
		pthread_cond_wait(&f->changed, &f->lock);
	pthread_mutex_unlock(&f->lock);
}

void dirty_fixture_release(DirtyFixture *f)
{
	pthread_mutex_lock(&f->lock);
	g_atomic_int_set(&f->held, FALSE);
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

static void park(DirtyFixture *f)
{
	pthread_mutex_lock(&f->lock);
	f->parked++;
	pthread_cond_broadcast(&f->changed);
	while (f->held)
		pthread_cond_wait(&f->changed, &f->lock);
	f->parked--;
	pthread_mutex_unlock(&f->lock);
}

static void count_running(DirtyFixture *f, int by)
{
	pthread_mutex_lock(&f->lock);
	f->running += (guint)by;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

/* Each writer has its own half, and its first word of a page grows with every write. */
static gpointer writer(gpointer data)
{
	DirtyFixture *f = data;
	static gint ids;
	guint id = (guint)g_atomic_int_add(&ids, 1) % DIRTY_FIXTURE_WRITERS;
	guint64 state = 88172645463325252ull + id,
		pages = f->size / FERRY_PAGE_SIZE / DIRTY_FIXTURE_WRITERS;
	guint64 count = 0;

	while (!g_atomic_int_get(&f->quit)) {
		guint64 r = next_random(&state),
			offset = (id * pages + r % pages) * FERRY_PAGE_SIZE;

		if (g_atomic_int_get(&f->held))
			park(f);
		if (++count % 64 == 0 && read(f->random_fd, f->host + offset + 64, 64) != 64)
			break;
		__atomic_store_n((guint64 *)(f->host + offset + (r >> 40) % 8 * 8), count,
				 __ATOMIC_RELAXED);
		g_atomic_int_inc(&f->writes);
	}
	count_running(f, -1);
	return NULL;
}

static void start_writers(DirtyFixture *f)
{
	g_atomic_int_set(&f->quit, 0);
	count_running(f, DIRTY_FIXTURE_WRITERS);
	for (guint i = 0; i < DIRTY_FIXTURE_WRITERS; i++)
		f->writers[i] = g_thread_new("writer", writer, f);
}

static void stop_writers(DirtyFixture *f)
{
	g_atomic_int_set(&f->quit, 1);
	for (guint i = 0; i < DIRTY_FIXTURE_WRITERS; i++)
		g_thread_join(f->writers[i]);
}

/* A torn read is what a migration does too. */
__attribute__((no_sanitize("thread"))) static void copy_page(guint64 *to, const guint64 *from)
{
	for (guint i = 0; i < FERRY_PAGE_SIZE / sizeof(*to); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

gboolean dirty_fixture_collect(DirtyFixture *f, FerryDirtySource *source)
{
	for (guint i = 0; i < f->ram->n_blocks; i++)
		if (!source->ops->collect(source, i, ferry_bitmap_block(f->dirty, i), NULL))
			return FALSE;
	return TRUE;
}

/* Copies what is dirty and clears it; returns the number of pages. */
static guint64 copy_dirty(DirtyFixture *f)
{
	guint64 pages = 0;

	for (FerryRun run = { 0 }; ferry_bitmap_next_run(f->dirty, &run, 1); pages++) {
		guint64 offset = (guint64)(ferry_run_host(f->ram, &run) - f->host);

		ferry_bitmap_clear_run(f->dirty, &run);
		copy_page((guint64 *)(f->shadow + offset), (const guint64 *)(f->host + offset));
	}
	return pages;
}

/* One migration's worth of rounds; returns the pages copied after the first one. */
guint64 dirty_fixture_track(DirtyFixture *f, FerryDirtySource *source, guint rounds)
{
	g_autoptr(GError) error = NULL;
	guint64 pages = 0;

	CU_ASSERT_TRUE(source->ops->start(source, f->ram, &error));
	if (error)
		return 0;
	start_writers(f);
	ferry_bitmap_set_all(f->dirty);
	copy_dirty(f);
	for (guint i = 0; i < rounds; i++) {
		gint before = g_atomic_int_get(&f->writes);

		CU_ASSERT_TRUE(dirty_fixture_collect(f, source));
		pages += copy_dirty(f);
		while (g_atomic_int_get(&f->writes) - before < 100)
			g_thread_yield();
	}
	stop_writers(f);
	CU_ASSERT_TRUE(dirty_fixture_collect(f, source));
	pages += copy_dirty(f);
	return pages;
}

guint64 dirty_fixture_count_lost(const DirtyFixture *f)
{
	guint64 lost = 0;

	for (guint64 at = 0; at < f->size; at += FERRY_PAGE_SIZE)
		lost += memcmp(f->host + at, f->shadow + at, FERRY_PAGE_SIZE) != 0;
	return lost;
}
