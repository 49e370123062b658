/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/dirty.h>

typedef struct {
	FerryDirtySource base;
	FerryDirtyCallbacks callbacks;
	gpointer user;
	gboolean started;
} Callback;

static gboolean callback_start(FerryDirtySource *source, const FerryRam *ram, GError **error)
{
	Callback *s = (Callback *)source;

	if (s->callbacks.start && !s->callbacks.start(ram, s->user, error))
		return FALSE;
	s->started = TRUE;
	return TRUE;
}

static gboolean callback_collect(FerryDirtySource *source, guint block, guint64 *bitmap,
				 GError **error)
{
	Callback *s = (Callback *)source;

	return s->callbacks.collect(block, bitmap, s->user, error);
}

static void callback_stop(FerryDirtySource *source)
{
	Callback *s = (Callback *)source;

	if (s->started && s->callbacks.stop)
		s->callbacks.stop(s->user);
	s->started = FALSE;
}

static void callback_free(FerryDirtySource *source)
{
	g_free(source);
}

static const FerryDirtySourceOps callback_ops = {
	.name = "callback",
	.start = callback_start,
	.collect = callback_collect,
	.stop = callback_stop,
	.free = callback_free,
};

FerryDirtySource *ferry_dirty_source_callback(const FerryDirtyCallbacks *callbacks, gpointer user)
{
	Callback *s = g_new0(Callback, 1);

	s->base.ops = &callback_ops;
	s->callbacks = *callbacks;
	s->user = user;
	return &s->base;
}
