/* SPDX-License-Identifier: BSD-2-Clause */
#include "one-shot.h"

#include "fd-util.h"

typedef struct {
	FerryListener base;
	FerryChannel *channel; /* owned; NULL once it was given away */
	int ready_fd;          /* the channel's */
} OneShot;

static FerryChannel *one_shot_accept(FerryListener *listener, GCancellable *cancellable,
				     GError **error)
{
	OneShot *o = (OneShot *)listener;

	struct pollfd fds[2] = { { .fd = o->ready_fd, .events = POLLIN } };

	if (!o->channel) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
			    "%s: gives one channel only, and it is taken", listener->uri);
		return NULL;
	}
	if (ferry_fd_poll(fds, 1, o->ready_fd < 0 ? 0 : -1, cancellable, listener->uri, error) < 0)
		return NULL;
	return g_steal_pointer(&o->channel);
}

static void one_shot_close(FerryListener *listener)
{
	OneShot *o = (OneShot *)listener;

	ferry_channel_close(o->channel);
	g_free(o->base.uri);
	g_free(o);
}

static const FerryListenerOps one_shot_ops = {
	.accept = one_shot_accept,
	.close = one_shot_close,
};

FerryListener *ferry_one_shot_listener_new(const char *uri, FerryChannel *channel, int ready_fd)
{
	OneShot *o = g_new0(OneShot, 1);

	o->base = (FerryListener){ .ops = &one_shot_ops, .uri = g_strdup(uri) };
	o->channel = channel;
	o->ready_fd = ready_fd;
	return &o->base;
}
