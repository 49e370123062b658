/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/page-codec.h>
#include <ferry/protocol.h>

/*
 * Threads that deflate or inflate, a page each. One thread owns them: it fills jobs, hands them in
 * and takes them out again, in any order. Each thread has one page at work and one waiting.
 */
typedef struct FerryPageWorkers FerryPageWorkers;

typedef struct {
	guint32 block;
	guint64 page;
	int level;
	FerryPageForm form;                    /* what is in @bytes */
	size_t len;                            /* bytes of it */
	guint8 bytes[FERRY_PAGE_DEFLATED_MAX]; /* the encoded page */
	guint8 plain[FERRY_PAGE_SIZE];
	GError *error; /* the owner's to take over once it is finished */
	gboolean under_way;
} FerryPageJob;

/* In a thread of the workers. */
typedef void (*FerryPageWork)(gpointer user, FerryPageJob *job);

/* @name is the threads', at most 15 characters; @user is borrowed. FERRY_ERROR_IO where they cannot
 * be started. */
FerryPageWorkers *ferry_page_workers_new(const char *name, guint threads, FerryPageWork work,
					 gpointer user, GError **error);
/* What still waits is not done any more. NULL is allowed. */
void ferry_page_workers_free(FerryPageWorkers *workers);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryPageWorkers, ferry_page_workers_free)

/* A job that is not under way; NULL where all are. It stays that until it is submitted. */
FerryPageJob *ferry_page_workers_idle(FerryPageWorkers *workers);
void ferry_page_workers_submit(FerryPageWorkers *workers, FerryPageJob *job);

/* A job that is done, and no longer under way; waits for one for at most @timeout_us. NULL: none
 * was, or none is under way. Its content is the owner's until it is submitted again. */
FerryPageJob *ferry_page_workers_finished(FerryPageWorkers *workers, gint64 timeout_us);

guint ferry_page_workers_under_way(const FerryPageWorkers *workers);
/* Whether a job with this page is under way. */
gboolean ferry_page_workers_have(const FerryPageWorkers *workers, guint32 block, guint64 page);
