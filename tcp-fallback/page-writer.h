/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/carrier.h>
#include "streams-link.h"

/* How pages and fences are framed on a connection. */
typedef struct FerryPageFraming FerryPageFraming;
struct FerryPageFraming {
	const char *noun; /* "stream", for messages */
	size_t greeting;  /* bytes that went before the first page */
	/* What frames and writes the pages; borrows @channel. NULL with @error. */
	FerryCarrier *(*open)(const FerryPageFraming *framing, FerryChannel *channel,
			      GError **error);
	/* Fills a fence, at most FERRY_PAGE_FENCE_MAX bytes; returns how many. */
	size_t (*fence)(const FerryPageFraming *framing, guint8 *out, guint32 round);
	gpointer user;
};
#define FERRY_PAGE_FENCE_MAX 1344u

/*
 * One connection of the source: how pages and fences are framed on it, the thread that sleeps until
 * there is something to write, and how it fails. What is written, and when, is up to whoever embeds
 * this and runs the thread.
 */
typedef struct {
	FerryChannel *channel;           /* owned; NULL: not open */
	FerryCarrier *pages;             /* owned: frames and writes; one thread at a time */
	FerryStreamsLink *link;          /* borrowed */
	const FerryPageFraming *framing; /* borrowed */
	char *name;                      /* for messages: "stream 3" */
	FerryWake work;                  /* of the thread */
	gint stopping;                   /* atomic */
	guint64 beside;                  /* bytes that @pages does not count: relaxed */
	GThread *thread;
} FerryPageWriter;

/* Takes @channel and @name, also on failure; the rest is borrowed. close() follows in any case.
 * FERRY_ERROR_IO where there is no descriptor left. */
gboolean ferry_page_writer_open(FerryPageWriter *writer, FerryChannel *channel, char *name,
				const FerryPageFraming *framing, const FerryRam *ram,
				FerryStreamsLink *link, GError **error);

/* Runs @func, with @user, until it returns: what it does is between these calls. */
gboolean ferry_page_writer_start(FerryPageWriter *writer, GThreadFunc func, gpointer user,
				 GError **error);

/* Ends the thread, whatever it waits for, and closes the channel. Not opened is allowed. */
void ferry_page_writer_close(FerryPageWriter *writer);

/* On the wire so far. Any thread. */
guint64 ferry_page_writer_bytes(FerryPageWriter *writer);

/* @pages is dead: so is the link. Whoever called @pages. */
void ferry_page_writer_fail(FerryPageWriter *writer);

/* ---- the thread; FALSE: it is to end, and the link is dead if it is not closed ---- */

/* There may be something to do. */
gboolean ferry_page_writer_lives(FerryPageWriter *writer);

/* After @pages answered @io: waits where the socket is full. */
gboolean ferry_page_writer_go_on(FerryPageWriter *writer, FerryIo io);

/* Writes a fence, behind all that @pages was given. */
gboolean ferry_page_writer_fence(FerryPageWriter *writer, guint32 round);

/* Sleeps until @work is signalled, unless @has_work says that there is some. */
gboolean ferry_page_writer_sleep(FerryPageWriter *writer, gboolean (*has_work)(gpointer user),
				 gpointer user);
