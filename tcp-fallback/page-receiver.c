/* SPDX-License-Identifier: BSD-2-Clause */
#include "page-receiver.h"

#include <string.h>
#include "fd-channel.h"
#include "pages.h"
#include "streams-messages.h"

/* Bytes read ahead, so that records of single pages need not cost two system calls each; what is
 * read ahead is copied. */
#define AHEAD (16u << 10)

struct FerryPageReceiver {
	FerryChannel *channel; /* owned */
	FerryPageGate *gate;
	guint index;
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
	    !ferry_streams_get_number("STREAMS_FENCE", payload, len, r->passed + 1, G_MAXUINT32,
				      &fence, error))
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

static gboolean receive_pages(FerryPageReceiver *r, const guint8 *payload, size_t len,
			      GError **error)
{
	FerryRun run;
	gboolean zero;

	if (!ferry_pages_receive(r->gate->ram, NULL, FERRY_RECORD_PAGES, payload, len, read_exactly,
				 r, &run, &zero, error))
		return FALSE;
	count(&r->pages, run.pages);
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
	g_prefix_error(&error, "stream %u, %s: ", r->index, ((FerryFdChannel *)r->channel)->peer);
	ferry_page_gate_fail(r->gate, error);
	return NULL;
}

FerryPageReceiver *ferry_page_receiver_new(FerryChannel *channel, guint index, guint64 received,
					   FerryPageGate *gate, GError **error)
{
	FerryPageReceiver *r = g_new0(FerryPageReceiver, 1);

	r->channel = channel;
	r->gate = gate;
	r->index = index;
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
	g_free(r);
}

guint32 ferry_page_receiver_fence(FerryPageReceiver *r)
{
	return r->fence;
}

guint64 ferry_page_receiver_bytes(FerryPageReceiver *r)
{
	return __atomic_load_n(&r->bytes, __ATOMIC_RELAXED);
}

guint64 ferry_page_receiver_pages(FerryPageReceiver *r)
{
	return __atomic_load_n(&r->pages, __ATOMIC_RELAXED);
}
