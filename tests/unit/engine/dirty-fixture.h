/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "bits.h"
#include "harness.h"

#include <ferry/dirty.h>
#include <pthread.h>

/*
 * Every case keeps a shadow copy that is only ever updated from pages that the source reported,
 * while threads write. At the end the writers stop, one more collect is taken, and the shadow must
 * equal RAM.
 */
#define DIRTY_FIXTURE_WRITERS 2
#define DIRTY_FIXTURE_BYTES (32ull << 20)

typedef enum {
	DIRTY_MEMFD,
	DIRTY_ANONYMOUS,
	DIRTY_HUGETLB,
} DirtyBacking;

typedef struct {
	FerryRam *ram; /* blocks "low" and "high", a half each */
	FerryBitmap *dirty;
	guint8 *host;
	guint8 *shadow;
	guint64 size;
	int fd;
	int random_fd; /* /dev/urandom, for read(2) into RAM */
	gint quit;     /* atomic */
	gint writes;   /* atomic */
	GThread *writers[DIRTY_FIXTURE_WRITERS];
	/* GMutex is unknown to the thread sanitizer. */
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	gint held;     /* also read without the lock, atomically */
	guint running; /* writers that have not returned */
	guint parked;  /* those that wait for held to end */
} DirtyFixture;

/* FALSE where there is no memory of this backing; tear down in any case. */
gboolean dirty_fixture_set_up(DirtyFixture *f, DirtyBacking backing, guint64 size);
void dirty_fixture_tear_down(DirtyFixture *f);

/* Sets up, or skips the case. */
#define DIRTY_FIXTURE_NEED(f, backing, size)                                                       \
	do {                                                                                       \
		if (!dirty_fixture_set_up((f), (backing), (size))) {                               \
			dirty_fixture_tear_down(f);                                                \
			SKIP("no memory of this backing (huge pages: vm.nr_hugepages of 40)");     \
		}                                                                                  \
	} while (0)

/* Returns when no writer writes, and lets them go on. */
void dirty_fixture_hold(DirtyFixture *f);
void dirty_fixture_release(DirtyFixture *f);

/* Collects all blocks into @f->dirty. */
gboolean dirty_fixture_collect(DirtyFixture *f, FerryDirtySource *source);

/* One migration's worth of rounds, with the source started and left so; returns the pages copied
 * after the first one. */
guint64 dirty_fixture_track(DirtyFixture *f, FerryDirtySource *source, guint rounds);

/* Pages in which the shadow differs from RAM. */
guint64 dirty_fixture_count_lost(const DirtyFixture *f);
