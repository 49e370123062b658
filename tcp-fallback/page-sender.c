/* SPDX-License-Identifier: BSD-2-Clause */
#include "page-sender.h"

#include <errno.h>
#include <poll.h>
#include "fd-channel.h"
#include "fd-util.h"
#include "streams-messages.h"

/* A power of two: the positions run on and wrap. One slot is kept for a fence. */
#define SLOTS 512u
/* 8 MiB under way: enough to keep a socket busy while the engine looks for zeros, and little enough
 * to be gone soon where a fence waits for it. */
#define BACKLOG_PAGES 2048u

/*
 * The ring has one thread at each end: positions only grow, and each is stored by one side. A slot
 * without pages is a fence, its number in first. What the two sides write lies on both sides of the
 * slots, and so never in one cache line.
 */
struct FerryPageSender {
	guint32 head; /* next slot to fill; the engine's thread stores */
	guint64 put;  /* pages handed over; the engine's thread stores */
	FerryWake work;
	gint stopping; /* atomic */
	FerryRun slots[SLOTS];
	guint32 tail;    /* next slot to take; this thread stores */
	guint32 written; /* all slots before it are in the socket; this thread stores */
	guint64 taken;   /* pages taken; this thread stores */
	guint64 beside;  /* bytes that the page carrier does not count; this thread stores */

	FerryChannel *channel; /* owned */
	FerryCarrier *pages;   /* owned: frames and writes, on this thread */
	FerryStreamsLink *link;
	guint index;
	GThread *thread;
};

static void add(guint64 *counter, guint64 n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* What is handed over and not taken. Either thread: it stores one side of each difference. */
static guint32 filled(FerryPageSender *s)
{
	return __atomic_load_n(&s->head, __ATOMIC_SEQ_CST) -
	       __atomic_load_n(&s->tail, __ATOMIC_SEQ_CST);
}

static guint64 backlog(FerryPageSender *s)
{
	return __atomic_load_n(&s->put, __ATOMIC_SEQ_CST) -
	       __atomic_load_n(&s->taken, __ATOMIC_SEQ_CST);
}

/* ---- the engine's thread ---- */

guint64 ferry_page_sender_room(FerryPageSender *s)
{
	guint64 under_way = backlog(s);

	return filled(s) >= SLOTS - 1 || under_way >= BACKLOG_PAGES ? 0 : BACKLOG_PAGES - under_way;
}

gboolean ferry_page_sender_is_low(FerryPageSender *s)
{
	return filled(s) <= SLOTS / 2 && backlog(s) <= BACKLOG_PAGES / 2;
}

gboolean ferry_page_sender_is_empty(FerryPageSender *s)
{
	return __atomic_load_n(&s->written, __ATOMIC_SEQ_CST) == s->head;
}

static void push(FerryPageSender *s, const FerryRun *slot)
{
	s->slots[s->head % SLOTS] = *slot;
	__atomic_store_n(&s->head, s->head + 1, __ATOMIC_SEQ_CST);
	ferry_wake_signal(&s->work);
}

void ferry_page_sender_push(FerryPageSender *s, const FerryRun *run)
{
	__atomic_store_n(&s->put, s->put + run->pages, __ATOMIC_SEQ_CST);
	push(s, run);
}

void ferry_page_sender_push_fence(FerryPageSender *s, guint32 round)
{
	push(s, &(FerryRun){ .first = round });
}

guint64 ferry_page_sender_bytes(FerryPageSender *s)
{
	FerryCarrierStats stats;

	s->pages->ops->get_stats(s->pages, &stats);
	return stats.bytes + __atomic_load_n(&s->beside, __ATOMIC_RELAXED);
}

/* ---- the stream's thread ---- */

/* Takes over @error. Returns FALSE. What fails because the carrier is closed is no failure. */
static gboolean fail(FerryPageSender *s, GError *error)
{
	if (g_atomic_int_get(&s->stopping)) {
		g_clear_error(&error);
		return FALSE;
	}
	if (!error)
		error = g_error_new(FERRY_ERROR, FERRY_ERROR_LINK, "the stream is dead");
	g_prefix_error(&error, "stream %u: ", s->index);
	ferry_streams_link_fail(s->link, error);
	return FALSE;
}

/* Waits where the socket is full. FALSE: the thread is to end. */
static gboolean go_on(FerryPageSender *s, FerryIo io)
{
	if (io == FERRY_IO_DEAD)
		return fail(s, s->pages->ops->take_error(s->pages));
	if (io == FERRY_IO_AGAIN)
		s->pages->ops->wait(s->pages, -1);
	return TRUE;
}

/* The engine waits for room only where no stream is low, so that not every slot wakes it. */
static void release(FerryPageSender *s, guint32 slots, guint64 pages)
{
	__atomic_store_n(&s->taken, s->taken + pages, __ATOMIC_SEQ_CST);
	__atomic_store_n(&s->tail, s->tail + slots, __ATOMIC_SEQ_CST);
	if (ferry_page_sender_is_low(s))
		ferry_wake_signal(&s->link->wake);
}

static gboolean send_runs(FerryPageSender *s, guint32 used)
{
	guint32 at = s->tail % SLOTS, n = 0;
	guint64 pages = 0;
	size_t taken;
	FerryIo io;

	while (n < used && at + n < SLOTS && s->slots[at + n].pages)
		n++;
	io = s->pages->ops->put(s->pages, &s->slots[at], n, &taken);
	for (size_t i = 0; i < taken; i++)
		pages += s->slots[at + i].pages;
	if (taken)
		release(s, (guint32)taken, pages);
	return go_on(s, io);
}

static gboolean send_fence(FerryPageSender *s)
{
	guint8 frame[FERRY_STREAMS_FENCE_SIZE];
	GError *error = NULL;
	FerryIo io = s->pages->ops->progress(s->pages);

	if (io != FERRY_IO_OK)
		return go_on(s, io);
	ferry_streams_put_fence(frame, (guint32)s->slots[s->tail % SLOTS].first);
	if (!ferry_channel_write_all(s->channel, frame, sizeof(frame), &error))
		return fail(s, error);
	add(&s->beside, sizeof(frame));
	release(s, 1, 0);
	return TRUE;
}

/* The destination never speaks here: what can be read is the end, or the reason for it. */
static gboolean hear_end(FerryPageSender *s)
{
	GError *error = NULL;
	guint8 byte;
	struct iovec iov = { &byte, 1 };
	gssize n = s->channel->ops->read(s->channel, &iov, 1, &error);

	if (n >= 0)
		g_set_error(&error, FERRY_ERROR, n ? FERRY_ERROR_PEER : FERRY_ERROR_LINK, "%s: %s",
			    ((FerryFdChannel *)s->channel)->peer,
			    n ? "the destination spoke where it must not"
			      : "the destination closed the connection, its own log says why");
	return fail(s, error);
}

static gboolean sleep_until_work(FerryPageSender *s)
{
	struct pollfd fds[] = {
		{ .fd = s->work.fd, .events = POLLIN },
		{ .fd = ((FerryFdChannel *)s->channel)->in, .events = POLLIN | POLLRDHUP },
	};

	ferry_wake_begin(&s->work);
	if (!filled(s) && !g_atomic_int_get(&s->stopping))
		poll(fds, G_N_ELEMENTS(fds), -1);
	ferry_wake_end(&s->work);
	return !fds[1].revents || hear_end(s);
}

static gboolean flush(FerryPageSender *s)
{
	FerryIo io = s->pages->ops->progress(s->pages);

	if (io != FERRY_IO_OK)
		return go_on(s, io);
	__atomic_store_n(&s->written, s->tail, __ATOMIC_SEQ_CST);
	ferry_wake_signal(&s->link->wake);
	return sleep_until_work(s);
}

static gpointer sender_thread(gpointer data)
{
	FerryPageSender *s = data;
	gboolean ok = TRUE;

	while (ok && !g_atomic_int_get(&s->stopping) && !ferry_streams_link_is_dead(s->link)) {
		guint32 used = filled(s);

		if (!used)
			ok = flush(s);
		else if (s->slots[s->tail % SLOTS].pages)
			ok = send_runs(s, used);
		else
			ok = send_fence(s);
	}
	return NULL;
}

FerryPageSender *ferry_page_sender_new(FerryChannel *channel, guint index, guint64 sent,
				       const FerryRam *ram, FerryStreamsLink *link, GError **error)
{
	g_autoptr(FerryPageSender) s = g_new0(FerryPageSender, 1);

	s->channel = channel;
	s->index = index;
	s->beside = sent;
	s->link = link;
	s->pages = ferry_page_carrier_new(channel, FERRY_PAGE_FORMAT_RUNS);
	if (!ferry_wake_open(&s->work)) {
		ferry_fd_failed(error, FERRY_ERROR_IO, "parallel streams: eventfd", errno);
		return NULL;
	}
	if (!s->pages->ops->share_ram(s->pages, ram, error))
		return NULL;
	s->thread = ferry_streams_thread("ferry-stream", sender_thread, s, error);
	return s->thread ? g_steal_pointer(&s) : NULL;
}

void ferry_page_sender_free(FerryPageSender *s)
{
	if (!s)
		return;
	__atomic_store_n(&s->stopping, 1, __ATOMIC_SEQ_CST);
	ferry_channel_shutdown(s->channel);
	ferry_wake_signal(&s->work);
	if (s->thread)
		g_thread_join(s->thread);
	ferry_carrier_close(s->pages);
	ferry_channel_close(s->channel);
	ferry_wake_close(&s->work);
	g_free(s);
}
