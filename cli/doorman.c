/* SPDX-License-Identifier: BSD-2-Clause */
#include "doorman.h"

typedef struct {
	FerryConnection connection;
	FerryDoorman *doorman;
	GThread *thread;
	gint over; /* atomic: the thread is about to end */
} Guest;

struct FerryDoorman {
	FerryListener *listener;
	guint most;
	const FerryDoormanFuncs *funcs;
	gpointer user;
	GCancellable *cancellable;
	GThread *thread;
	GPtrArray *guests; /* of Guest: of the thread, and of free() once that ended */
};

gssize ferry_connection_read(gpointer connection, const struct iovec *iov, int n, GError **error)
{
	FerryConnection *c = connection;
	guint8 begin[4];
	gsize len;

	if (c->reread == sizeof(begin))
		return c->channel->ops->read(c->channel, iov, n, error);
	ferry_store_be32(begin, c->magic);
	len = MIN(iov[0].iov_len, sizeof(begin) - c->reread);
	memcpy(iov[0].iov_base, begin + c->reread, len);
	c->reread += len;
	return (gssize)len;
}

/* FALSE: it ended before. */
static gboolean read_magic(FerryConnection *connection)
{
	guint8 begin[4];
	gsize done = 0;

	while (done < sizeof(begin)) {
		struct iovec iov = { begin + done, sizeof(begin) - done };
		gssize n = connection->channel->ops->read(connection->channel, &iov, 1, NULL);

		if (n <= 0)
			return FALSE;
		done += (gsize)n;
	}
	connection->magic = ferry_load_be32(begin);
	return TRUE;
}

static gpointer run_guest(gpointer data)
{
	Guest *guest = data;

	if (read_magic(&guest->connection))
		guest->doorman->funcs->came(guest->doorman->user, &guest->connection);
	if (!guest->connection.kept)
		ferry_channel_shutdown(guest->connection.channel);
	g_atomic_int_set(&guest->over, TRUE);
	return NULL;
}

static void show_out(gpointer data)
{
	Guest *guest = data;

	if (guest->thread)
		g_thread_join(guest->thread);
	if (!guest->connection.kept)
		ferry_channel_close(guest->connection.channel);
	g_free(guest);
}

static void let_in(FerryDoorman *doorman, FerryChannel *channel)
{
	Guest *guest = g_new0(Guest, 1);
	g_autoptr(GError) error = NULL;

	guest->connection.channel = channel;
	guest->doorman = doorman;
	guest->thread = g_thread_try_new("ferry-connection", run_guest, guest, &error);
	if (guest->thread) {
		g_ptr_array_add(doorman->guests, guest);
		return;
	}
	g_printerr("ferry receive: refused a connection: %s\n", error->message);
	show_out(guest);
}

/* Who was refused, or hung up; not the kept, whose struct is still read through. */
static void forget_the_gone(FerryDoorman *doorman)
{
	for (guint i = doorman->guests->len; i-- > 0;) {
		Guest *guest = doorman->guests->pdata[i];

		if (g_atomic_int_get(&guest->over) && !guest->connection.kept)
			g_ptr_array_remove_index_fast(doorman->guests, i);
	}
}

static gpointer run_door(gpointer data)
{
	FerryDoorman *doorman = data;
	GError *error = NULL;
	FerryChannel *channel;

	while ((channel = doorman->listener->ops->accept(doorman->listener, doorman->cancellable,
							 &error))) {
		forget_the_gone(doorman);
		if (doorman->guests->len < doorman->most) {
			let_in(doorman, channel);
			continue;
		}
		g_printerr("ferry receive: refused a connection: there are %u\n", doorman->most);
		ferry_channel_close(channel);
	}
	if (g_error_matches(error, FERRY_ERROR, FERRY_ERROR_CANCELLED))
		g_error_free(error);
	else
		doorman->funcs->broke(doorman->user, error);
	return NULL;
}

FerryDoorman *ferry_doorman_new(FerryListener *listener, guint most, const FerryDoormanFuncs *funcs,
				gpointer user)
{
	FerryDoorman *doorman = g_new0(FerryDoorman, 1);

	doorman->listener = listener;
	doorman->most = most;
	doorman->funcs = funcs;
	doorman->user = user;
	doorman->cancellable = g_cancellable_new();
	doorman->guests = g_ptr_array_new_with_free_func(show_out);
	doorman->thread = g_thread_new("ferry-doorman", run_door, doorman);
	return doorman;
}

void ferry_doorman_free(FerryDoorman *doorman)
{
	if (!doorman)
		return;
	g_cancellable_cancel(doorman->cancellable);
	g_thread_join(doorman->thread);
	for (guint i = 0; i < doorman->guests->len; i++)
		ferry_channel_shutdown(((Guest *)doorman->guests->pdata[i])->connection.channel);
	g_ptr_array_unref(doorman->guests);
	g_object_unref(doorman->cancellable);
	ferry_listener_close(doorman->listener);
	g_free(doorman);
}
