/* SPDX-License-Identifier: BSD-2-Clause */
#include "page-sender.h"

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
	FerryRun slots[SLOTS];
	guint32 tail;    /* next slot to take; this thread stores */
	guint32 written; /* all slots before it are in the socket; this thread stores */
	guint64 taken;   /* pages taken; this thread stores */
	FerryPageWriter writer;
};

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
	ferry_wake_signal(&s->writer.work);
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
	return ferry_page_writer_bytes(&s->writer);
}

/* ---- the stream's thread ---- */

/* The engine waits for room only where no stream is low, so that not every slot wakes it. */
static void release(FerryPageSender *s, guint32 slots, guint64 pages)
{
	__atomic_store_n(&s->taken, s->taken + pages, __ATOMIC_SEQ_CST);
	__atomic_store_n(&s->tail, s->tail + slots, __ATOMIC_SEQ_CST);
	if (ferry_page_sender_is_low(s))
		ferry_wake_signal(&s->writer.link->wake);
}

static gboolean send_runs(FerryPageSender *s, guint32 used)
{
	FerryCarrier *carrier = s->writer.pages;
	guint32 at = s->tail % SLOTS, n = 0;
	guint64 pages = 0;
	size_t taken;
	FerryIo io;

	while (n < used && at + n < SLOTS && s->slots[at + n].pages)
		n++;
	io = carrier->ops->put(carrier, &s->slots[at], n, &taken);
	for (size_t i = 0; i < taken; i++)
		pages += s->slots[at + i].pages;
	if (taken)
		release(s, (guint32)taken, pages);
	return ferry_page_writer_go_on(&s->writer, io);
}

static gboolean send_fence(FerryPageSender *s)
{
	FerryIo io = s->writer.pages->ops->progress(s->writer.pages);

	if (io != FERRY_IO_OK)
		return ferry_page_writer_go_on(&s->writer, io);
	if (!ferry_page_writer_fence(&s->writer, (guint32)s->slots[s->tail % SLOTS].first))
		return FALSE;
	release(s, 1, 0);
	return TRUE;
}

static gboolean has_work(gpointer user)
{
	return filled(user) != 0;
}

static gboolean flush(FerryPageSender *s)
{
	FerryIo io = s->writer.pages->ops->progress(s->writer.pages);

	if (io != FERRY_IO_OK)
		return ferry_page_writer_go_on(&s->writer, io);
	__atomic_store_n(&s->written, s->tail, __ATOMIC_SEQ_CST);
	ferry_wake_signal(&s->writer.link->wake);
	return ferry_page_writer_sleep(&s->writer, has_work, s);
}

static gpointer sender_thread(gpointer data)
{
	FerryPageSender *s = data;
	gboolean ok = TRUE;

	while (ok && ferry_page_writer_lives(&s->writer)) {
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

FerryPageSender *ferry_page_sender_new(FerryChannel *channel, guint index,
				       const FerryPageFraming *framing, const FerryRam *ram,
				       FerryStreamsLink *link, GError **error)
{
	g_autoptr(FerryPageSender) s = g_new0(FerryPageSender, 1);
	char *name = g_strdup_printf("%s %u", framing->noun, index);

	if (!ferry_page_writer_open(&s->writer, channel, name, framing, ram, link, error) ||
	    !ferry_page_writer_start(&s->writer, sender_thread, s, error))
		return NULL;
	return g_steal_pointer(&s);
}

void ferry_page_sender_free(FerryPageSender *s)
{
	if (!s)
		return;
	ferry_page_writer_close(&s->writer);
	g_free(s);
}
