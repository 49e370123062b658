/* SPDX-License-Identifier: BSD-2-Clause */
#include "urgent-sender.h"

/*
 * Who may use the writer's page carrier. It is handed on, never shared: stored by whoever has it,
 * and taken with a compare-and-swap only while nobody does.
 */
typedef enum {
	FREE,
	CALLER, /* one who puts a run or a fence: never for long */
	THREAD, /* this one's: something is left to write */
} Holder;

struct FerryUrgentSender {
	FerryPageWriter writer;
	int holder;    /* atomic, a Holder */
	gint refused;  /* atomic: a put() found no room */
	guint32 fence; /* to be written last, 0: none; the holder's */
};

static gboolean take(FerryUrgentSender *u)
{
	int nobody = FREE;

	return __atomic_compare_exchange_n(&u->holder, &nobody, CALLER, FALSE, __ATOMIC_SEQ_CST,
					   __ATOMIC_SEQ_CST);
}

static void hand_to_thread(FerryUrgentSender *u)
{
	__atomic_store_n(&u->holder, THREAD, __ATOMIC_SEQ_CST);
	ferry_wake_signal(&u->writer.work);
}

static void set_free(FerryUrgentSender *u)
{
	__atomic_store_n(&u->holder, FREE, __ATOMIC_SEQ_CST);
	ferry_wake_signal(&u->writer.link->wake);
}

/* ---- the callers' threads ---- */

/* Once it was refused the room that comes will be signalled, or it came meanwhile. */
static gboolean take_or_be_told(FerryUrgentSender *u)
{
	if (take(u))
		return TRUE;
	__atomic_store_n(&u->refused, 1, __ATOMIC_SEQ_CST);
	if (!take(u))
		return FALSE;
	__atomic_store_n(&u->refused, 0, __ATOMIC_SEQ_CST);
	return TRUE;
}

FerryIo ferry_urgent_sender_put(FerryUrgentSender *u, const FerryRun *run)
{
	FerryCarrier *pages = u->writer.pages;
	size_t taken;
	FerryIo io;

	if (ferry_streams_link_is_dead(u->writer.link))
		return FERRY_IO_DEAD;
	if (!take_or_be_told(u))
		return FERRY_IO_AGAIN;
	/* It has nothing else: it takes the run. */
	io = pages->ops->put(pages, run, 1, &taken);
	if (io == FERRY_IO_OK)
		io = pages->ops->progress(pages);
	if (io == FERRY_IO_DEAD) {
		ferry_page_writer_fail(&u->writer);
		set_free(u);
		return FERRY_IO_DEAD;
	}
	if (io == FERRY_IO_AGAIN)
		hand_to_thread(u);
	else
		set_free(u);
	return FERRY_IO_OK;
}

gboolean ferry_urgent_sender_push_fence(FerryUrgentSender *u, guint32 round)
{
	if (!take(u))
		return FALSE;
	u->fence = round;
	hand_to_thread(u);
	return TRUE;
}

gboolean ferry_urgent_sender_is_empty(FerryUrgentSender *u)
{
	return __atomic_load_n(&u->holder, __ATOMIC_SEQ_CST) == FREE;
}

gboolean ferry_urgent_sender_has_room_again(FerryUrgentSender *u)
{
	return ferry_urgent_sender_is_empty(u) &&
	       __atomic_exchange_n(&u->refused, 0, __ATOMIC_SEQ_CST);
}

guint64 ferry_urgent_sender_bytes(FerryUrgentSender *u)
{
	return ferry_page_writer_bytes(&u->writer);
}

guint64 ferry_urgent_sender_pages(FerryUrgentSender *u)
{
	FerryCarrierStats stats;

	u->writer.pages->ops->get_stats(u->writer.pages, &stats);
	return stats.pages;
}

/* ---- the stream's thread ---- */

static gboolean has_work(gpointer user)
{
	FerryUrgentSender *u = user;

	return __atomic_load_n(&u->holder, __ATOMIC_SEQ_CST) == THREAD;
}

static gboolean write_rest(FerryUrgentSender *u)
{
	FerryIo io = u->writer.pages->ops->progress(u->writer.pages);

	if (io != FERRY_IO_OK)
		return ferry_page_writer_go_on(&u->writer, io);
	if (u->fence && !ferry_page_writer_fence(&u->writer, u->fence))
		return FALSE;
	u->fence = 0;
	set_free(u);
	return TRUE;
}

static gpointer sender_thread(gpointer data)
{
	FerryUrgentSender *u = data;
	gboolean ok = TRUE;

	while (ok && ferry_page_writer_lives(&u->writer))
		ok = has_work(u) ? write_rest(u) : ferry_page_writer_sleep(&u->writer, has_work, u);
	return NULL;
}

FerryUrgentSender *ferry_urgent_sender_new(FerryChannel *channel, const FerryPageFraming *framing,
					   const FerryRam *ram, FerryStreamsLink *link,
					   GError **error)
{
	g_autoptr(FerryUrgentSender) u = g_new0(FerryUrgentSender, 1);

	if (!ferry_page_writer_open(&u->writer, channel, g_strdup("urgent stream"), framing, ram,
				    link, error) ||
	    !ferry_page_writer_start(&u->writer, sender_thread, u, error))
		return NULL;
	return g_steal_pointer(&u);
}

void ferry_urgent_sender_free(FerryUrgentSender *u)
{
	if (!u)
		return;
	ferry_page_writer_close(&u->writer);
	g_free(u);
}
