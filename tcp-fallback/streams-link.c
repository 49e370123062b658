/* SPDX-License-Identifier: BSD-2-Clause */
#include "streams-link.h"

#include <errno.h>
#include "fd-util.h"

void ferry_streams_link_init(FerryStreamsLink *link)
{
	*link = (FerryStreamsLink){ .wake = { .fd = -1 } };
	g_mutex_init(&link->lock);
}

gboolean ferry_streams_link_open(FerryStreamsLink *link, GError **error)
{
	return link->wake.fd >= 0 || ferry_wake_open(&link->wake) ||
	       ferry_fd_failed(error, FERRY_ERROR_IO, "parallel streams: eventfd", errno);
}

void ferry_streams_link_clear(FerryStreamsLink *link)
{
	ferry_wake_close(&link->wake);
	g_clear_error(&link->error);
	g_mutex_clear(&link->lock);
}

void ferry_streams_link_fail(FerryStreamsLink *link, GError *error)
{
	g_mutex_lock(&link->lock);
	if (link->dead)
		g_error_free(error);
	else
		link->error = error;
	__atomic_store_n(&link->dead, 1, __ATOMIC_SEQ_CST);
	g_mutex_unlock(&link->lock);
	ferry_wake_signal(&link->wake);
}

GError *ferry_streams_link_take_error(FerryStreamsLink *link)
{
	GError *error;

	g_mutex_lock(&link->lock);
	error = g_steal_pointer(&link->error);
	g_mutex_unlock(&link->lock);
	return error;
}

gboolean ferry_streams_link_why(FerryStreamsLink *link, GError **error)
{
	g_mutex_lock(&link->lock);
	g_propagate_error(error, link->error ? g_error_copy(link->error)
					     : g_error_new(FERRY_ERROR, FERRY_ERROR_LINK,
							   "the parallel streams are dead"));
	g_mutex_unlock(&link->lock);
	return FALSE;
}

GThread *ferry_streams_thread(const char *name, GThreadFunc func, gpointer user, GError **error)
{
	g_autoptr(GError) cause = NULL;
	GThread *thread = g_thread_try_new(name, func, user, &cause);

	if (!thread)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO, "parallel streams: no thread: %s",
			    cause->message);
	return thread;
}
