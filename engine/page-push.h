/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/carrier.h>
#include "bitmap.h"
#include "page-requests.h"

/*
 * What the source sends after the switch, and who sends it: the migration thread puts page after
 * page, while what the guest waits for goes at once, on the thread that heard the request, where
 * the carrier has a way for it. Each page is claimed once, under a lock that nobody holds while
 * blocking.
 */
typedef struct FerryPagePush FerryPagePush;

/* @missing: pages to send; the push's own to change until free. @carrier: whose urgent() takes what
 * the guest asks for, where it has one. All are borrowed. */
FerryPagePush *ferry_page_push_new(const FerryRam *ram, FerryBitmap *missing,
				   FerryPageRequests *requests, FerryCarrier *carrier);
/* A new connection: @missing, changed by the caller, is to be sent by @carrier. The counts of pages
 * go on. Nobody else uses the push. */
void ferry_page_push_restart(FerryPagePush *push, FerryCarrier *carrier);

/* NULL is allowed. */
void ferry_page_push_free(FerryPagePush *push);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryPagePush, ferry_page_push_free)

/* Sends what was asked for by urgent(), as far as there is room; wakes who waits. FALSE: the
 * carrier is dead. Any thread. */
gboolean ferry_page_push_serve(FerryPagePush *push);

typedef enum {
	FERRY_PUSH_URGENT,     /* the guest waits for the run: no rate holds it */
	FERRY_PUSH_BACKGROUND, /* the next of the others */
	FERRY_PUSH_WAIT,       /* there are others, but not now */
	FERRY_PUSH_DONE,       /* every page was claimed */
} FerryPushStep;

/* Claims the next run, of at most FERRY_FETCH_MAX pages, for the migration thread to put; one that
 * nobody asked for only if @background. */
FerryPushStep ferry_page_push_next(FerryPagePush *push, gboolean background, FerryRun *run);

/* Sleeps until @timeout_us passed, or somebody asks for a page. */
void ferry_page_push_sleep(FerryPagePush *push, gint64 timeout_us);

typedef struct {
	guint64 missing;  /* pages not claimed yet */
	guint64 requests; /* that came */
	guint64 urgent;   /* pages that were asked for */
	guint64 lane;     /* of these, pages that went by urgent() */
	guint64 background;
} FerryPushCounts;
/* Any thread. */
void ferry_page_push_get_counts(FerryPagePush *push, FerryPushCounts *counts);
