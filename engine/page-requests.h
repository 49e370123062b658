/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>

/*
 * What the destination asks for in postcopy: REQ_PAGES and REQ_PAGES_ID of the return path, checked
 * and queued. The return path's thread puts, the migration thread takes; both may be called from
 * any thread.
 */
typedef struct FerryPageRequests FerryPageRequests;

/* @ram is borrowed until free. @asked is called after each request that was queued, on the thread
 * that put it. */
FerryPageRequests *ferry_page_requests_new(const FerryRam *ram, void (*asked)(gpointer user),
					   gpointer user);
void ferry_page_requests_free(FerryPageRequests *requests);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryPageRequests, ferry_page_requests_free)

/* The data of FERRY_RETURN_REQ_PAGES_ID (@with_name) or FERRY_RETURN_REQ_PAGES. FERRY_ERROR_PEER,
 * with block, offset and length in the message, for: a length that the name does not fill, an
 * unknown block, none before the first name, start or length that is no multiple of the block's
 * host page, nothing asked, a range that is not within the block, and more requests waiting than
 * the RAM has pages. */
gboolean ferry_page_requests_put(FerryPageRequests *requests, gboolean with_name,
				 const guint8 *data, size_t len, GError **error);

/* The oldest request, at most @max pages of it; FALSE: none waits. */
gboolean ferry_page_requests_take(FerryPageRequests *requests, guint64 max, FerryRun *run);

/* Forgets what waits, and the last block: for a new connection. */
void ferry_page_requests_clear(FerryPageRequests *requests);

/* Requests that came, ever. */
guint64 ferry_page_requests_count(FerryPageRequests *requests);
