/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/carrier.h>
#include "bitmap.h"
#include "page-requests.h"
#include "records.h"

/*
 * The return path at the source: a thread reads the destination's messages, checks type and length,
 * and keeps the latest of each kind; the migration thread waits for the kind that it needs. A
 * malformed message marks the path bad, with the type and the length in the error; every wait then
 * fails with it.
 */
typedef struct FerryReturnPath FerryReturnPath;

/* Starts the thread; @channel is borrowed, and its reading side is the thread's, until _stop(). */
FerryReturnPath *ferry_return_path_start(FerryChannel *channel);

/* Ends the thread, for which the channel must be shut down or at its end, and frees. NULL is
 * allowed. */
void ferry_return_path_stop(FerryReturnPath *path);

typedef enum {
	FERRY_REPLY_PONG,
	FERRY_REPLY_HELLO,
	FERRY_REPLY_ROUND_DONE,
	FERRY_REPLY_READY,
	FERRY_REPLY_RUNNING,
	FERRY_REPLY_STATE,
	FERRY_REPLY_RECV_BITMAP,
	FERRY_REPLY_RESUME_ACK,
	FERRY_REPLY_HAVE_ALL,
	FERRY_REPLY_SHUT,
	FERRY_REPLY__N,
} FerryReplyKind;

/* The latest message of a kind; which member is valid follows from the kind. RECV_BITMAP,
 * RESUME_ACK and HAVE_ALL say no more than that they came. */
typedef union {
	guint32 pong;
	FerryHello hello;
	FerryRoundMark round;
	FerryHandoverDigest ready;
	FerryHandoverRunning running;
	FerryHandoverAnswer state;
	guint32 shut;
} FerryReply;

/*
 * Waits until a message of @kind came, at most @timeout_us, and takes it. Fails with the
 * destination's own words if it refused (ERROR record, SHUT with a value), with the link's error,
 * or with FERRY_ERROR_LINK when time is up. SHUT 0 ends the path: a wait for anything else then
 * fails.
 */
gboolean ferry_return_path_wait(FerryReturnPath *path, FerryReplyKind kind, gint64 timeout_us,
				FerryReply *reply, GError **error);

/* Takes a message of @kind if one came; does not wait. */
gboolean ferry_return_path_take(FerryReturnPath *path, FerryReplyKind kind, FerryReply *reply);

/* Makes the present and every later wait fail with FERRY_ERROR_CANCELLED, and leaves the channel
 * alone. Any thread. */
void ferry_return_path_cancel(FerryReturnPath *path);

/* The carrier beside the channel, which hears the records of its own that come from now on, on the
 * path's thread. NULL: none any more; what comes for it after that is passed over. The carrier does
 * not hear when it returns. */
void ferry_return_path_set_carrier(FerryReturnPath *path, FerryCarrier *carrier);

/* Where requests for pages go from now on; borrowed. NULL, as at first: they are refused, as any
 * type that is not known. No request is being put when it returns. */
void ferry_return_path_set_requests(FerryReturnPath *path, FerryPageRequests *requests);

/* Before RECV_BITMAP is sent for @block: its answer goes into @received, all of whose bits for the
 * block it replaces, and FERRY_REPLY_RECV_BITMAP comes. One at a time; a bitmap that was not asked
 * for fails the path. @ram and @received are borrowed until the answer came or the path is
 * stopped. */
void ferry_return_path_expect_bitmap(FerryReturnPath *path, const FerryRam *ram, guint block,
				     FerryBitmap *received);

/* Makes the present and every later wait fail with @reason (taken over), unless the destination
 * refused, or the path had ended. Any thread. */
void ferry_return_path_fail(FerryReturnPath *path, GError *reason);

/* Cancelled as soon as no READY will come any more, for whatever cannot wait on the path itself. */
GCancellable *ferry_return_path_end(FerryReturnPath *path);

/* Whether that is so; cheap. Any thread. */
gboolean ferry_return_path_is_lost(FerryReturnPath *path);

/* Whether no READY will come any more, and why: the link died, or the destination refused. Does not
 * wait. Any thread. */
gboolean ferry_return_path_failed(FerryReturnPath *path, GError **error);
