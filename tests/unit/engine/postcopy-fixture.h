/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "engine/postcopy-ram.h"
#include "harness.h"

/*
 * A FerryPostcopyRam with a thread that takes its faults, threads that touch its pages as a guest
 * would, and a content for each page that is known beforehand.
 */
typedef enum {
	POSTCOPY_MEMFD,
	POSTCOPY_ANONYMOUS,
	POSTCOPY_THP, /* anonymous, and populated with huge pages before listen() */
	POSTCOPY_HUGETLB,
	POSTCOPY_HUGETLB_PRIVATE,
	POSTCOPY_N_BACKINGS,
} PostcopyBacking;

typedef struct {
	FerryRam *ram; /* blocks "low" and "high", a half each */
	guint8 *host;
	guint64 size;
	int fd;
	FerryPostcopyRam *postcopy;
	char *skip;        /* why it cannot run here; NULL: it can, or it is wrong */
	GAsyncQueue *told; /* FerryRun *, by the thread of the faults */
	GThread *faults;
	int quit; /* eventfd */
} PostcopyFixture;

/* Nothing is discarded yet. FALSE: see @skip. Tear down in any case. */
gboolean postcopy_fixture_set_up(PostcopyFixture *f, PostcopyBacking backing);
void postcopy_fixture_tear_down(PostcopyFixture *f);

/* Sets up, or leaves the case where that cannot be. */
#define NEED(f, backing)                                                                           \
	if (!postcopy_fixture_set_up(f, backing)) {                                                \
		if ((f)->skip)                                                                     \
			harness_skip("%s", (f)->skip);                                             \
		else                                                                               \
			CU_FAIL("set up");                                                         \
		postcopy_fixture_tear_down(f);                                                     \
		return;                                                                            \
	}

/* Pages of a block, and of its host pages. */
guint64 postcopy_fixture_pages(const PostcopyFixture *f, guint block);
guint64 postcopy_fixture_host_pages(const PostcopyFixture *f);

/* Discards both blocks whole. */
gboolean postcopy_fixture_discard_all(PostcopyFixture *f);

/* Calls listen() and starts the thread. */
gboolean postcopy_fixture_listen(PostcopyFixture *f);

/* Puts content number @version (0: zeros) into the run of @ram. */
void postcopy_fixture_fill(const FerryRam *ram, const FerryRun *run, guint8 version);

/* Fills it in the target, and lands it. */
void postcopy_fixture_deliver(PostcopyFixture *f, const FerryRun *run, guint8 version);

/* The next run that the thread was told; FALSE after 10 s. */
gboolean postcopy_fixture_await_told(PostcopyFixture *f, FerryRun *run);

/* Until all faults that were open are over. */
gboolean postcopy_fixture_await_latencies(PostcopyFixture *f, guint64 count);

/* A thread that reads @run through the guest's mapping, page by page. */
typedef struct {
	PostcopyFixture *f;
	FerryRun run;
	guint8 version; /* the content to find */
	gint done;      /* atomic */
	gint32 id;      /* of the thread; set when postcopy_touch_start() returns */
	gboolean right;
	GAsyncQueue *started;
	GThread *thread;
} PostcopyTouch;

void postcopy_touch_start(PostcopyTouch *touch, PostcopyFixture *f, const FerryRun *run,
			  guint8 version);
/* Joins it; whether every page was right. */
gboolean postcopy_touch_end(PostcopyTouch *touch);

/* Reads the run so, and waits for the end. */
gboolean postcopy_touch_now(PostcopyFixture *f, const FerryRun *run, guint8 version);

/* Whether the module's descriptor is readable within @timeout_ms. */
gboolean postcopy_fixture_await_fault(PostcopyFixture *f, gint timeout_ms);

FerryPostcopyStatus postcopy_fixture_status(PostcopyFixture *f);

static inline gboolean run_equals(const FerryRun *run, guint block, guint64 first, guint64 pages)
{
	return run->block == block && run->first == first && run->pages == pages;
}
