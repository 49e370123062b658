/* SPDX-License-Identifier: BSD-2-Clause */
#include "streams.h"

#include <errno.h>
#include <string.h>
#include "fd-channel.h"
#include "fd-util.h"

/* Connections whose greeting is not complete. One that comes when all places are taken pushes out
 * the one that has been there for longest. */
#define GUESTS_MAX 32u
#define GREETING_US (5 * G_TIME_SPAN_SECOND)

typedef struct {
	int fd; /* owned; -1: a free place */
	FerryAddress peer;
	gint64 deadline;
	guint8 bytes[FERRY_GREETING_MAX];
	size_t got;
} Guest;

typedef struct {
	FerrySocketListener *listener;
	const FerryGreetingFormat *format;
	const guint8 *nonce;
	guint n, taken;
	FerryChannel **channels;
	Guest guests[GUESTS_MAX];
} Door;

static void show_out(Guest *guest)
{
	ferry_fd_close(guest->fd);
	guest->fd = -1;
}

static Guest *find_place(Door *door)
{
	Guest *oldest = &door->guests[0];

	for (guint i = 0; i < GUESTS_MAX; i++) {
		if (door->guests[i].fd < 0)
			return &door->guests[i];
		if (door->guests[i].deadline < oldest->deadline)
			oldest = &door->guests[i];
	}
	show_out(oldest);
	return oldest;
}

static gboolean let_in(Door *door, int listening, GError **error)
{
	FerryAddress peer = { .len = sizeof(peer.storage) };
	int fd = accept4(listening, (gpointer)&peer.storage, &peer.len,
			 SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return errno == EAGAIN || errno == ECONNABORTED || errno == EINTR ||
		       ferry_fd_failed(error, FERRY_ERROR_IO, door->listener->base.uri, errno);
	*find_place(door) = (Guest){ .fd = fd,
				     .peer = peer,
				     .deadline = g_get_monotonic_time() + GREETING_US };
	return TRUE;
}

static gboolean echo(const Door *door, const Guest *guest)
{
	return !door->format->echo || send(guest->fd, guest->bytes, guest->got,
					   MSG_NOSIGNAL | MSG_DONTWAIT) == (gssize)guest->got;
}

/* The whole greeting came: one of this session becomes a stream, any other is shown out. */
static gboolean greet(Door *door, Guest *guest, GError **error)
{
	g_autofree char *address = NULL, *name = NULL;
	guint8 nonce[FERRY_NONCE_SIZE];
	FerryChannel *channel;
	guint32 index;

	if (!door->format->get(guest->bytes, nonce, &index) ||
	    memcmp(nonce, door->nonce, FERRY_NONCE_SIZE) != 0 || index >= door->n ||
	    door->channels[index] || !echo(door, guest))
		return show_out(guest), TRUE;
	address = ferry_address_to_string(&guest->peer);
	name = g_strdup_printf("%s:%s", door->listener->channel_ops->name, address);
	channel = ferry_fd_channel_new(door->listener->channel_ops, FERRY_FD_SOCKET, guest->fd,
				       guest->fd, name, error);
	if (!channel)
		return FALSE;
	ferry_socket_tune(guest->fd);
	guest->fd = -1;
	door->channels[index] = channel;
	door->taken++;
	return TRUE;
}

static gboolean listen_to(Door *door, Guest *guest, GError **error)
{
	gssize n = recv(guest->fd, guest->bytes + guest->got, door->format->size - guest->got, 0);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		return show_out(guest), TRUE;
	guest->got += (size_t)MAX(n, 0);
	return guest->got < door->format->size || greet(door, guest, error);
}

/* One sleep, and all that it brought. */
static gboolean attend(Door *door, gint64 deadline, GCancellable *cancellable, GError **error)
{
	struct pollfd fds[FERRY_LISTEN_MAX + GUESTS_MAX + 1];
	guint n = door->listener->n_fds;
	gint64 next = deadline, now;
	gboolean ok = TRUE;

	for (guint i = 0; i < n; i++)
		fds[i] = (struct pollfd){ .fd = door->listener->fds[i], .events = POLLIN };
	for (guint i = 0; i < GUESTS_MAX; i++) {
		fds[n + i] = (struct pollfd){ .fd = door->guests[i].fd, .events = POLLIN };
		if (door->guests[i].fd >= 0)
			next = MIN(next, door->guests[i].deadline);
	}
	if (ferry_fd_poll(fds, n + GUESTS_MAX, next, cancellable, door->listener->base.uri, error) <
	    0)
		return FALSE;
	now = g_get_monotonic_time();
	for (guint i = 0; ok && i < GUESTS_MAX; i++) {
		Guest *guest = &door->guests[i];

		if (fds[n + i].revents)
			ok = listen_to(door, guest, error);
		else if (guest->fd >= 0 && guest->deadline <= now)
			show_out(guest);
	}
	for (guint i = 0; ok && i < n; i++)
		if (fds[i].revents)
			ok = let_in(door, fds[i].fd, error);
	return ok;
}

gboolean ferry_streams_accept(FerrySocketListener *listener, const FerryGreetingFormat *format,
			      const guint8 *nonce, guint n, gint64 deadline,
			      GCancellable *cancellable, FerryChannel **channels, GError **error)
{
	Door door = {
		.listener = listener, .format = format, .nonce = nonce, .n = n, .channels = channels
	};
	gboolean ok = TRUE;

	memset(channels, 0, n * sizeof(*channels));
	for (guint i = 0; i < GUESTS_MAX; i++)
		door.guests[i].fd = -1;
	while (ok && door.taken < n && g_get_monotonic_time() < deadline)
		ok = attend(&door, deadline, cancellable, error);
	for (guint i = 0; i < GUESTS_MAX; i++)
		show_out(&door.guests[i]);
	if (ok && door.taken == n)
		return TRUE;
	if (ok)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "%s: of %u parallel connections only %u came in time",
			    listener->base.uri, n, door.taken);
	for (guint i = 0; i < n; i++)
		g_clear_pointer(&channels[i], ferry_channel_close);
	return FALSE;
}
