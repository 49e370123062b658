/* SPDX-License-Identifier: BSD-2-Clause */
#include "page-writer.h"

#include <errno.h>
#include <poll.h>
#include "fd-channel.h"
#include "fd-util.h"

gboolean ferry_page_writer_open(FerryPageWriter *w, FerryChannel *channel, char *name,
				const FerryPageFraming *framing, const FerryRam *ram,
				FerryStreamsLink *link, GError **error)
{
	*w = (FerryPageWriter){
		.channel = channel,
		.framing = framing,
		.link = link,
		.name = name,
		.beside = framing->greeting,
	};
	if (!ferry_wake_open(&w->work))
		return ferry_fd_failed(error, FERRY_ERROR_IO, "parallel streams: eventfd", errno);
	w->pages = framing->open(framing, channel, error);
	return w->pages && w->pages->ops->share_ram(w->pages, ram, error);
}

gboolean ferry_page_writer_start(FerryPageWriter *w, GThreadFunc func, gpointer user,
				 GError **error)
{
	w->thread = ferry_streams_thread("ferry-stream", func, user, error);
	return w->thread != NULL;
}

void ferry_page_writer_close(FerryPageWriter *w)
{
	if (!w->channel)
		return;
	__atomic_store_n(&w->stopping, 1, __ATOMIC_SEQ_CST);
	ferry_channel_shutdown(w->channel);
	ferry_wake_signal(&w->work);
	if (w->thread)
		g_thread_join(w->thread);
	ferry_carrier_close(w->pages);
	ferry_channel_close(w->channel);
	ferry_wake_close(&w->work);
	g_free(w->name);
}

guint64 ferry_page_writer_bytes(FerryPageWriter *w)
{
	FerryCarrierStats stats;

	w->pages->ops->get_stats(w->pages, &stats);
	return stats.bytes + __atomic_load_n(&w->beside, __ATOMIC_RELAXED);
}

/* Takes over @error. Returns FALSE. What fails because the carrier is closed is no failure. */
static gboolean fail(FerryPageWriter *w, GError *error)
{
	if (g_atomic_int_get(&w->stopping)) {
		g_clear_error(&error);
		return FALSE;
	}
	if (!error)
		error = g_error_new(FERRY_ERROR, FERRY_ERROR_LINK, "the stream is dead");
	g_prefix_error(&error, "%s: ", w->name);
	ferry_streams_link_fail(w->link, error);
	return FALSE;
}

void ferry_page_writer_fail(FerryPageWriter *w)
{
	fail(w, w->pages->ops->take_error(w->pages));
}

gboolean ferry_page_writer_lives(FerryPageWriter *w)
{
	return !g_atomic_int_get(&w->stopping) && !ferry_streams_link_is_dead(w->link);
}

gboolean ferry_page_writer_go_on(FerryPageWriter *w, FerryIo io)
{
	if (io == FERRY_IO_DEAD)
		ferry_page_writer_fail(w);
	else if (io == FERRY_IO_AGAIN)
		w->pages->ops->wait(w->pages, -1);
	return io != FERRY_IO_DEAD;
}

gboolean ferry_page_writer_fence(FerryPageWriter *w, guint32 round)
{
	guint8 frame[FERRY_PAGE_FENCE_MAX];
	size_t size = w->framing->fence(w->framing, frame, round);
	GError *error = NULL;

	if (!ferry_channel_write_all(w->channel, frame, size, &error))
		return fail(w, error);
	__atomic_store_n(&w->beside, w->beside + size, __ATOMIC_RELAXED);
	return TRUE;
}

/* The destination never speaks here: what can be read is the end, or the reason for it. */
static gboolean hear_end(FerryPageWriter *w)
{
	GError *error = NULL;
	guint8 byte;
	struct iovec iov = { &byte, 1 };
	gssize n = w->channel->ops->read(w->channel, &iov, 1, &error);

	if (n >= 0)
		g_set_error(&error, FERRY_ERROR, n ? FERRY_ERROR_PEER : FERRY_ERROR_LINK, "%s: %s",
			    ((FerryFdChannel *)w->channel)->peer,
			    n ? "the destination spoke where it must not"
			      : "the destination closed the connection, its own log says why");
	return fail(w, error);
}

gboolean ferry_page_writer_sleep(FerryPageWriter *w, gboolean (*has_work)(gpointer user),
				 gpointer user)
{
	struct pollfd fds[] = {
		{ .fd = w->work.fd, .events = POLLIN },
		{ .fd = ((FerryFdChannel *)w->channel)->in, .events = POLLIN | POLLRDHUP },
	};

	ferry_wake_begin(&w->work);
	if (!has_work(user) && !g_atomic_int_get(&w->stopping))
		poll(fds, G_N_ELEMENTS(fds), -1);
	ferry_wake_end(&w->work);
	return !fds[1].revents || hear_end(w);
}
