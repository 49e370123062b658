/* SPDX-License-Identifier: BSD-2-Clause */
#include "streams.h"

#include <string.h>
#include "page-receiver.h"
#include "pages.h"

/* Bytes read ahead, so that records of single pages need not cost two system calls each; what is
 * read ahead is copied. */
#define AHEAD (16u << 10)
/* In postcopy a run lands in pieces of this many pages: who waits for the first need not wait for
 * the last. */
#define LANDING_PAGES 64u

typedef struct {
	FerryPageReceiver base;
	size_t first, end; /* of ahead that is not used yet */
	guint8 ahead[AHEAD];
} FerryStreamReceiver;

/* A FerryReadExactly over a FerryStreamReceiver. */
static gboolean read_exactly(gpointer user, void *buf, size_t len, GError **error)
{
	FerryStreamReceiver *r = user;
	size_t here = MIN(len, r->end - r->first);
	guint8 *to = buf;

	memcpy(to, r->ahead + r->first, here);
	r->first += here;
	for (to += here, len -= here; len;) {
		struct iovec iov[] = { { to, len }, { r->ahead, AHEAD } };
		gssize n = r->base.channel->ops->read(r->base.channel, iov, G_N_ELEMENTS(iov),
						      error);
		size_t got = (size_t)n;

		if (n < 0)
			return FALSE;
		if (!n) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
				    "the source closed the connection, its own log says why");
			return FALSE;
		}
		ferry_page_count(&r->base.bytes, got);
		r->first = 0;
		r->end = got - MIN(got, len);
		to += MIN(got, len);
		len -= MIN(got, len);
	}
	return TRUE;
}

static gboolean stand(FerryStreamReceiver *r, const guint8 *payload, size_t len, GError **error)
{
	guint32 fence;

	return r->base.passed != G_MAXUINT32 &&
	       ferry_streams_get_fence(payload, len, r->base.passed + 1, &fence, error) &&
	       ferry_page_receiver_stand(&r->base, fence);
}

/* Whether somebody else is filling a part of @run; *@page is its first. */
static gboolean find_overlap(const FerryPageGate *gate, const FerryRun *run, guint64 *page)
{
	for (guint i = 0; i < G_N_ELEMENTS(gate->filling); i++) {
		const FerryRun *other = &gate->filling[i];

		*page = MAX(run->first, other->first);
		if (other->pages && other->block == run->block &&
		    *page < MIN(run->first + run->pages, other->first + other->pages))
			return TRUE;
	}
	return FALSE;
}

/* In postcopy each page comes once: the guest may have written there. With the lock held. */
static gboolean is_missing(FerryPageGate *gate, const FerryRun *run, GError **error)
{
	const FerryArrivals *arrivals = &gate->place.arrivals;
	guint64 page;

	if (!arrivals->wanted)
		return TRUE;
	if (!find_overlap(gate, run, &page)) {
		FerryRun one = { run->block, run->first, 1 };

		if (arrivals->wanted(arrivals->user, run))
			return TRUE;
		while (one.first < run->first + run->pages - 1 &&
		       arrivals->wanted(arrivals->user, &one))
			one.first++;
		page = one.first;
	}
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "record of pages: page %" G_GUINT64_FORMAT
		    " of block '%s' came a second time, and the guest may have written it",
		    page, gate->place.ram->blocks[run->block].name);
	return FALSE;
}

/* The run is this stream's to fill until end_filling(). */
static gboolean begin_filling(FerryStreamReceiver *r, const guint8 *payload, size_t len,
			      FerryRun *run, FerryPagePlace *place, GError **error)
{
	FerryPageGate *gate = r->base.gate;
	gboolean ok;

	g_mutex_lock(&gate->link.lock);
	*place = gate->place;
	ok = ferry_pages_get_run(place->ram, payload, len, run, error) &&
	     is_missing(gate, run, error);
	if (ok)
		gate->filling[r->base.index] = *run;
	g_mutex_unlock(&gate->link.lock);
	return ok;
}

static void end_filling(FerryStreamReceiver *r)
{
	g_mutex_lock(&r->base.gate->link.lock);
	r->base.gate->filling[r->base.index].pages = 0;
	g_mutex_unlock(&r->base.gate->link.lock);
}

/* Each piece that landed is told before the run is nobody's: in between it is never wanted. */
static gboolean fill(FerryStreamReceiver *r, const FerryPagePlace *place, const FerryRun *run,
		     GError **error)
{
	const FerryArrivals *arrivals = &place->arrivals;
	FerryRun piece = *run;

	for (guint64 left = run->pages; left; left -= piece.pages) {
		piece.pages = arrivals->landed ? MIN(left, LANDING_PAGES) : left;
		if (!read_exactly(r, ferry_run_host(place->ram, &piece), ferry_run_bytes(&piece),
				  error))
			return FALSE;
		if (arrivals->landed)
			arrivals->landed(arrivals->user, &piece);
		ferry_page_count(&r->base.pages, piece.pages);
		piece.first += piece.pages;
	}
	return TRUE;
}

static gboolean receive_pages(FerryStreamReceiver *r, const guint8 *payload, size_t len,
			      GError **error)
{
	FerryPagePlace place;
	FerryRun run;

	if (!begin_filling(r, payload, len, &run, &place, error) || !fill(r, &place, &run, error))
		return FALSE;
	end_filling(r);
	return TRUE;
}

static gboolean receive_record(FerryPageReceiver *receiver, GError **error)
{
	FerryStreamReceiver *r = (FerryStreamReceiver *)receiver;
	guint8 header[FERRY_STREAMS_FRAME_HEADER], payload[FERRY_PAGES_PAYLOAD];
	guint16 type;
	size_t len;

	if (!read_exactly(r, header, sizeof(header), error))
		return FALSE;
	g_atomic_int_set(&r->base.gate->used, 1);
	if (!ferry_streams_get_frame(header, sizeof(payload), &type, &len, error) ||
	    !read_exactly(r, payload, len, error))
		return FALSE;
	if (type == FERRY_RECORD_PAGES)
		return receive_pages(r, payload, len, error);
	if (type == FERRY_RECORD_STREAMS_FENCE)
		return stand(r, payload, len, error);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "record 0x%04x does not belong into a stream of pages", type);
	return FALSE;
}

static void stream_receiver_free(FerryPageReceiver *receiver)
{
	g_free(receiver);
}

FerryPageReceiver *ferry_stream_receiver_new(gboolean urgent, guint index)
{
	FerryStreamReceiver *r = g_new0(FerryStreamReceiver, 1);

	r->base.name = urgent ? g_strdup("urgent stream") : g_strdup_printf("stream %u", index);
	r->base.bytes = FERRY_STREAMS_GREETING_SIZE;
	r->base.receive = receive_record;
	r->base.free = stream_receiver_free;
	return &r->base;
}
