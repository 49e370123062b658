/* SPDX-License-Identifier: BSD-2-Clause */
#include "stopper.h"

#include <glib-unix.h>
#include <signal.h>

struct FerryCliStopper {
	GMainContext *context; /* of the thread, which does nothing but run the loop */
	GMainLoop *loop;
	GThread *thread;
	GSource *sources[2]; /* of the signals */
	GSource *deadline;   /* or NULL */
	GCancellable *cancellable;
	gulong watching; /* the handler that shuts down the channel; 0 for none */
	gint signals;    /* both atomic: set by the thread, before it cancels */
	gint expired;
};

static gpointer run_loop(gpointer data)
{
	FerryCliStopper *stopper = data;

	g_main_loop_run(stopper->loop);
	return NULL;
}

static gboolean on_signal(gpointer data)
{
	FerryCliStopper *stopper = data;

	g_atomic_int_inc(&stopper->signals);
	g_cancellable_cancel(stopper->cancellable);
	return G_SOURCE_CONTINUE;
}

static gboolean on_deadline(gpointer data)
{
	FerryCliStopper *stopper = data;

	g_atomic_int_set(&stopper->expired, TRUE);
	g_cancellable_cancel(stopper->cancellable);
	return G_SOURCE_REMOVE;
}

static gboolean on_quit(gpointer data)
{
	g_main_loop_quit(data);
	return G_SOURCE_REMOVE;
}

static GSource *attach(FerryCliStopper *stopper, GSource *source, GSourceFunc func, gpointer data)
{
	g_source_set_callback(source, func, data, NULL);
	g_source_attach(source, stopper->context);
	return source;
}

FerryCliStopper *ferry_cli_stopper_new(void)
{
	static const int numbers[] = { SIGINT, SIGTERM };
	FerryCliStopper *stopper = g_new0(FerryCliStopper, 1);

	stopper->context = g_main_context_new();
	stopper->loop = g_main_loop_new(stopper->context, FALSE);
	stopper->cancellable = g_cancellable_new();
	for (guint i = 0; i < G_N_ELEMENTS(numbers); i++)
		stopper->sources[i] = attach(stopper, g_unix_signal_source_new(numbers[i]),
					     on_signal, stopper);
	stopper->thread = g_thread_new("ferry-stopper", run_loop, stopper);
	return stopper;
}

static void drop_source(GSource *source)
{
	g_source_destroy(source);
	g_source_unref(source);
}

void ferry_cli_stopper_free(FerryCliStopper *stopper)
{
	if (!stopper)
		return;
	ferry_cli_stopper_watch(stopper, NULL);
	/* A source and not g_main_loop_quit(), which is lost on a loop that does not run yet. */
	g_source_unref(attach(stopper, g_idle_source_new(), on_quit, stopper->loop));
	g_thread_join(stopper->thread);
	for (guint i = 0; i < G_N_ELEMENTS(stopper->sources); i++)
		drop_source(stopper->sources[i]);
	g_object_unref(stopper->cancellable);
	g_main_loop_unref(stopper->loop);
	g_main_context_unref(stopper->context);
	g_free(stopper);
}

static void shut_down(GCancellable *cancellable, gpointer channel)
{
	ferry_channel_shutdown(channel);
}

void ferry_cli_stopper_watch(FerryCliStopper *stopper, FerryChannel *channel)
{
	g_clear_pointer(&stopper->deadline, drop_source);
	/* Waits for the handler, so that the old channel may go. */
	g_cancellable_disconnect(stopper->cancellable, stopper->watching);
	g_cancellable_reset(stopper->cancellable);
	g_atomic_int_set(&stopper->expired, FALSE);
	stopper->watching = channel ? g_cancellable_connect(stopper->cancellable,
							    G_CALLBACK(shut_down), channel, NULL)
				    : 0;
}

void ferry_cli_stopper_set_deadline(FerryCliStopper *stopper, guint seconds)
{
	g_clear_pointer(&stopper->deadline, drop_source);
	stopper->deadline = attach(stopper, g_timeout_source_new_seconds(seconds), on_deadline,
				   stopper);
}

gboolean ferry_cli_stopper_expired(FerryCliStopper *stopper)
{
	return g_atomic_int_get(&stopper->expired);
}

guint ferry_cli_stopper_signals(FerryCliStopper *stopper)
{
	return g_atomic_int_get(&stopper->signals);
}

GCancellable *ferry_cli_stopper_cancellable(FerryCliStopper *stopper)
{
	return stopper->cancellable;
}
