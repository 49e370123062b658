/* SPDX-License-Identifier: BSD-2-Clause */
#include "cm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include "link.h"

#define FDS_MAX 4u

struct rdma_event_channel *ferry_rdma_events_new(const FerryVerbs *verbs, GError **error)
{
	struct rdma_event_channel *channel = verbs->create_event_channel();

	if (!channel && errno == ENODEV) {
		g_autofree char *why = ferry_rdma_missing("");

		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "%s", why);
		return NULL;
	}
	if (!channel)
		return ferry_verbs_failed(error, "rdma_create_event_channel", errno), NULL;
	if (fcntl(channel->fd, F_SETFL, fcntl(channel->fd, F_GETFL) | O_NONBLOCK) == 0)
		return channel;
	ferry_verbs_failed(error, "fcntl of the event channel", errno);
	verbs->destroy_event_channel(channel);
	return NULL;
}

static void copy_event(const struct rdma_cm_event *from, FerryRdmaEvent *to)
{
	const struct rdma_conn_param *conn = &from->param.conn;

	*to = (FerryRdmaEvent){ .id = from->id, .type = from->event, .status = from->status };
	if (from->event != RDMA_CM_EVENT_CONNECT_REQUEST)
		return;
	to->responder_resources = conn->responder_resources;
	to->initiator_depth = conn->initiator_depth;
	if (!conn->private_data)
		return;
	to->private_len = MIN(conn->private_data_len, FERRY_RDMA_PRIVATE_MAX);
	memcpy(to->private_data, conn->private_data, to->private_len);
}

int ferry_rdma_events_next(const FerryVerbs *verbs, struct rdma_event_channel *channel,
			   FerryRdmaEvent *event, GError **error)
{
	struct rdma_cm_event *native;

	while (verbs->get_cm_event(channel, &native) != 0) {
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return 0;
		if (errno != EINTR)
			return ferry_verbs_failed(error, "rdma_get_cm_event", errno), -1;
	}
	copy_event(native, event);
	/* At once: destroying an id blocks until its events are acknowledged. */
	verbs->ack_cm_event(native);
	return 1;
}

int ferry_rdma_await(const int *fds, guint n, gint64 deadline, GCancellable *cancellable,
		     GError **error)
{
	gint64 left = MAX(deadline - g_get_monotonic_time(), 0);
	struct timespec timeout = { left / G_USEC_PER_SEC, left % G_USEC_PER_SEC * 1000 };
	struct pollfd polled[FDS_MAX + 1];
	GPollFD cancel = { .fd = -1 };
	int ready;

	g_assert(n <= FDS_MAX);
	for (guint i = 0; i < n; i++)
		polled[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
	if (cancellable && g_cancellable_make_pollfd(cancellable, &cancel))
		polled[n] = (struct pollfd){ .fd = cancel.fd, .events = POLLIN };
	ready = ppoll(polled, n + (cancel.fd >= 0), &timeout, NULL);
	if (cancel.fd >= 0)
		g_cancellable_release_fd(cancellable);
	if (cancellable && g_cancellable_is_cancelled(cancellable)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED,
			    "RDMA connection: cancelled");
		return -1;
	}
	/* Interrupted: the caller looks, and comes again. */
	return ready != 0 ? 1 : 0;
}

static const char *hint(const FerryRdmaEvent *event)
{
	switch (event->type) {
	case RDMA_CM_EVENT_REJECTED:
		if (event->status == 8) /* invalid service ID, in the InfiniBand standard's table */
			return "nobody listens by RDMA on this address and port: is it the address "
			       "of an RDMA device of the destination?";
		return "the destination refused: it has given up this session, or serves another";
	case RDMA_CM_EVENT_UNREACHABLE:
		return "no answer: look at the route, and whether UDP port 4791 (RoCE) may pass";
	case RDMA_CM_EVENT_CONNECT_ERROR:
		return "the connection could not be completed: look at the destination's message, "
		       "and at the kernel's log";
	case RDMA_CM_EVENT_ADDR_ERROR:
		return "no RDMA device of this host has a way there: compare 'ip route get' with "
		       "'rdma link'";
	case RDMA_CM_EVENT_ROUTE_ERROR:
		return "no RDMA path: look at the link, its GIDs, and (InfiniBand) the subnet "
		       "manager";
	case RDMA_CM_EVENT_DISCONNECTED:
		return "the peer closed the connection, or its process ended";
	case RDMA_CM_EVENT_DEVICE_REMOVAL:
		return "the RDMA device was removed from this host";
	case RDMA_CM_EVENT_ADDR_CHANGE:
		return "the address moved to another device, as when a bond fails over";
	case RDMA_CM_EVENT_TIMEWAIT_EXIT:
		return "the connection has ended";
	default:
		return "it does not belong here";
	}
}

gboolean ferry_rdma_event_failed(GError **error, const FerryRdmaEvent *event, guint queue)
{
	g_autofree char *peer = ferry_rdma_address_text(&event->id->route.addr.dst_addr);
	g_autofree char *status = NULL;
	FerryErrorCode code = event->type == RDMA_CM_EVENT_ADDR_ERROR ? FERRY_ERROR_NOSUPP
								      : FERRY_ERROR_LINK;

	if (event->status < 0)
		status = g_strdup_printf(" (%s)", g_strerror(-event->status));
	else if (event->status > 0)
		status = g_strdup_printf(" (status %d)", event->status);
	g_set_error(error, FERRY_ERROR, (int)code, "RDMA queue pair %u, peer %s: %s%s: %s", queue,
		    peer, ferry_rdma_cm_name(event->type), status ?: "", hint(event));
	return FALSE;
}

char *ferry_rdma_address_text(const struct sockaddr *address)
{
	gsize len = address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
						   : sizeof(struct sockaddr_in);
	g_autoptr(GSocketAddress) native = NULL;

	if (address->sa_family == AF_INET || address->sa_family == AF_INET6)
		native = g_socket_address_new_from_native((gpointer)address, len);
	if (!native)
		return g_strdup("(unknown)");
	return g_socket_connectable_to_string(G_SOCKET_CONNECTABLE(native));
}
