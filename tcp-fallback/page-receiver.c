/* SPDX-License-Identifier: BSD-2-Clause */
#include "page-receiver.h"

#include <string.h>
#include "fd-channel.h"
#include "pages.h"
#include "streams-messages.h"

/* Bytes read ahead, so that records of single pages need not cost two system calls each; what is
 * read ahead is copied. */
#define AHEAD (16u << 10)
/* In postcopy a run lands in pieces of this many pages: who waits for the first need not wait for
 * the last. */
#define LANDING_PAGES 64u

struct FerryPageReceiver {
	FerryChannel *channel; /* owned */
	FerryPageGate *gate;
	guint index;
	char *name;
	GThread *thread;
	guint32 fence;        /* where it stands, 0: at none; guarded by gate->link.lock */
	guint32 passed;       /* the last fence; this thread's */
	guint64 bytes, pages; /* stored by this thread, loaded by any: relaxed */
	size_t first, end;    /* of ahead that is not used yet */
	guint8 ahead[AHEAD];
};

void ferry_page_gate_fail(FerryPageGate *gate, GError *error)
{
	gboolean tell;

	ferry_streams_link_fail(&gate->link, error);
	g_mutex_lock(&gate->link.lock);
	/* Not by the first failure, where no page had come then, but by one after. */
	tell = !gate->stopping && !gate->told && g_atomic_int_get(&gate->used);
	gate->told |= tell;
	g_cond_broadcast(&gate->changed);
	g_mutex_unlock(&gate->link.lock);
	if (tell)
		gate->died(gate->user);
}

/* What some stream is filling; pages 0: none is. With the lock held. */
static FerryRun find_filling(const FerryPageGate *gate)
{
	for (guint i = 0; i < G_N_ELEMENTS(gate->filling); i++)
		if (gate->filling[i].pages)
			return gate->filling[i];
	return (FerryRun){ 0 };
}

gboolean ferry_page_gate_begin_postcopy(FerryPageGate *gate, const FerryRam *ram,
					const FerryArrivals *arrivals, GError **error)
{
	gboolean dead;
	FerryRun run;

	g_mutex_lock(&gate->link.lock);
	dead = ferry_streams_link_is_dead(&gate->link);
	run = find_filling(gate);
	if (!dead && !run.pages) {
		gate->place = (FerryPagePlace){ ram, *arrivals };
		/* From here on a death is always told. */
		g_atomic_int_set(&gate->used, 1);
	}
	g_mutex_unlock(&gate->link.lock);
	if (dead)
		return ferry_streams_link_why(&gate->link, error);
	if (run.pages)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "parallel streams: page %" G_GUINT64_FORMAT
			    " of block '%s' came behind the last fence and before the switch",
			    run.first, ram->blocks[run.block].name);
	return !run.pages;
}

static void count(guint64 *counter, guint64 n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* A FerryReadExactly over a FerryPageReceiver. */
static gboolean read_exactly(gpointer user, void *buf, size_t len, GError **error)
{
	FerryPageReceiver *r = user;
	size_t here = MIN(len, r->end - r->first);
	guint8 *to = buf;

	memcpy(to, r->ahead + r->first, here);
	r->first += here;
	for (to += here, len -= here; len;) {
		struct iovec iov[] = { { to, len }, { r->ahead, AHEAD } };
		gssize n = r->channel->ops->read(r->channel, iov, G_N_ELEMENTS(iov), error);
		size_t got = (size_t)n;

		if (n < 0)
			return FALSE;
		if (!n) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
				    "the source closed the connection, its own log says why");
			return FALSE;
		}
		count(&r->bytes, got);
		r->first = 0;
		r->end = got - MIN(got, len);
		to += MIN(got, len);
		len -= MIN(got, len);
	}
	return TRUE;
}

/* Stands at the fence until all others do and the engine has taken the round. */
static gboolean stand(FerryPageReceiver *r, const guint8 *payload, size_t len, GError **error)
{
	FerryPageGate *gate = r->gate;
	guint32 fence;
	gboolean ok;

	if (r->passed == G_MAXUINT32 ||
	    !ferry_streams_get_fence(payload, len, r->passed + 1, &fence, error))
		return FALSE;
	g_mutex_lock(&gate->link.lock);
	r->fence = fence;
	ferry_wake_signal(&gate->link.wake);
	while (gate->released != fence && !gate->stopping && !gate->link.dead)
		g_cond_wait(&gate->changed, &gate->link.lock);
	ok = gate->released == fence;
	r->fence = 0;
	g_mutex_unlock(&gate->link.lock);
	r->passed = fence;
	return ok;
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
static gboolean begin_filling(FerryPageReceiver *r, const guint8 *payload, size_t len,
			      FerryRun *run, FerryPagePlace *place, GError **error)
{
	FerryPageGate *gate = r->gate;
	gboolean ok;

	g_mutex_lock(&gate->link.lock);
	*place = gate->place;
	ok = ferry_pages_get_run(place->ram, payload, len, run, error) &&
	     is_missing(gate, run, error);
	if (ok)
		gate->filling[r->index] = *run;
	g_mutex_unlock(&gate->link.lock);
	return ok;
}

static void end_filling(FerryPageReceiver *r)
{
	g_mutex_lock(&r->gate->link.lock);
	r->gate->filling[r->index].pages = 0;
	g_mutex_unlock(&r->gate->link.lock);
}

/* Each piece that landed is told before the run is nobody's: in between it is never wanted. */
static gboolean fill(FerryPageReceiver *r, const FerryPagePlace *place, const FerryRun *run,
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
		count(&r->pages, piece.pages);
		piece.first += piece.pages;
	}
	return TRUE;
}

static gboolean receive_pages(FerryPageReceiver *r, const guint8 *payload, size_t len,
			      GError **error)
{
	FerryPagePlace place;
	FerryRun run;

	if (!begin_filling(r, payload, len, &run, &place, error) || !fill(r, &place, &run, error))
		return FALSE;
	end_filling(r);
	return TRUE;
}

static gboolean receive_record(FerryPageReceiver *r, GError **error)
{
	guint8 header[FERRY_STREAMS_FRAME_HEADER], payload[FERRY_PAGES_PAYLOAD];
	guint16 type;
	size_t len;

	if (!read_exactly(r, header, sizeof(header), error))
		return FALSE;
	g_atomic_int_set(&r->gate->used, 1);
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

static gpointer receiver_thread(gpointer data)
{
	FerryPageReceiver *r = data;
	GError *error = NULL;

	while (receive_record(r, &error))
		continue;
	/* None: the gate was shut while it stood at a fence. */
	if (!error)
		return NULL;
	g_prefix_error(&error, "%s, %s: ", r->name, ((FerryFdChannel *)r->channel)->peer);
	ferry_page_gate_fail(r->gate, error);
	return NULL;
}

FerryPageReceiver *ferry_page_receiver_new(FerryChannel *channel, guint index, gboolean urgent,
					   guint64 received, FerryPageGate *gate, GError **error)
{
	FerryPageReceiver *r = g_new0(FerryPageReceiver, 1);

	r->channel = channel;
	r->gate = gate;
	r->index = index;
	r->name = urgent ? g_strdup("urgent stream") : g_strdup_printf("stream %u", index);
	r->bytes = received;
	r->thread = ferry_streams_thread("ferry-stream", receiver_thread, r, error);
	if (r->thread)
		return r;
	ferry_page_receiver_free(r);
	return NULL;
}

void ferry_page_receiver_stop(FerryPageReceiver *r)
{
	ferry_channel_shutdown(r->channel);
	if (r->thread)
		g_thread_join(r->thread);
	r->thread = NULL;
}

void ferry_page_receiver_free(FerryPageReceiver *r)
{
	if (!r)
		return;
	ferry_channel_close(r->channel);
	g_free(r->name);
	g_free(r);
}

guint32 ferry_page_receiver_fence(FerryPageReceiver *r)
{
	return r->fence;
}

const char *ferry_page_receiver_name(FerryPageReceiver *r)
{
	return r->name;
}

guint64 ferry_page_receiver_bytes(FerryPageReceiver *r)
{
	return __atomic_load_n(&r->bytes, __ATOMIC_RELAXED);
}

guint64 ferry_page_receiver_pages(FerryPageReceiver *r)
{
	return __atomic_load_n(&r->pages, __ATOMIC_RELAXED);
}
