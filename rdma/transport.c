/* SPDX-License-Identifier: BSD-2-Clause */
#include "transport.h"

#include <string.h>

#define TRANSPORTS_MAX 15

/* The control channel of rdma:HOST:PORT is that of tcp:HOST:PORT. */
static char *tcp_uri(const char *uri)
{
	return g_strconcat("tcp", strchr(uri, ':'), NULL);
}

static char *rdma_uri(const char *tcp)
{
	return g_strconcat("rdma", strchr(tcp, ':'), NULL);
}

/* Errors are to name the URI that the user gave. */
static void rename_error(GError **error, const char *tcp, const char *uri)
{
	GString *message;

	if (!error || !*error)
		return;
	message = g_string_new((*error)->message);
	g_string_replace(message, tcp, uri, 0);
	g_free((*error)->message);
	(*error)->message = g_string_free(message, FALSE);
}

/* "rdma:HOST:PORT", "rdma:[ADDRESS]:PORT": of a URI that tcp: has taken. Caller frees. */
static char *host_of(const char *uri)
{
	const char *rest = strchr(uri, ':') + 1;
	const char *end = strrchr(rest, ':');

	if (*rest == '[')
		return g_strndup(rest + 1, end - rest - 2);
	return g_strndup(rest, end - rest);
}

static guint16 port_of(const char *uri)
{
	return (guint16)g_ascii_strtoull(strrchr(uri, ':') + 1, NULL, 10);
}

static const FerryTransport *tcp_transport(void)
{
	return ferry_transport_find(ferry_socket_transports(), "tcp:", NULL);
}

static FerryChannel *rdma_connect_channel(const char *uri, guint timeout_ms,
					  GCancellable *cancellable, GError **error)
{
	g_autofree char *tcp = tcp_uri(uri);
	FerryChannel *channel = tcp_transport()->connect(tcp, timeout_ms, cancellable, error);

	if (!channel)
		rename_error(error, tcp, uri);
	return channel;
}

static FerryFabric *rdma_fabric(const char *uri)
{
	g_autofree char *host = host_of(uri), *tcp = tcp_uri(uri);
	FerryFabric *fabric = ferry_rdma_fabric_to(host, port_of(uri));

	fabric->next = tcp_transport()->fabric(tcp);
	return fabric;
}

/* ---- listening ---- */

typedef struct {
	FerryListener base;
	FerryListener *tcp;
} RdmaListener;

static FerryChannel *listener_accept(FerryListener *listener, GCancellable *cancellable,
				     GError **error)
{
	RdmaListener *l = (RdmaListener *)listener;
	FerryChannel *channel = l->tcp->ops->accept(l->tcp, cancellable, error);

	if (!channel)
		rename_error(error, l->tcp->uri, listener->uri);
	return channel;
}

static void listener_close(FerryListener *listener)
{
	RdmaListener *l = (RdmaListener *)listener;

	/* The connections of the next one come in on the listener's sockets. */
	ferry_fabric_close(listener->fabric);
	ferry_listener_close(l->tcp);
	g_free(listener->uri);
	g_free(l);
}

static FerryListener *rdma_listen_channel(const char *uri, GCancellable *cancellable,
					  GError **error)
{
	static const FerryListenerOps ops = { listener_accept, listener_close };
	g_autofree char *tcp = tcp_uri(uri), *host = NULL;
	FerryListener *listener = tcp_transport()->listen(tcp, cancellable, error);
	RdmaListener *l;

	if (!listener) {
		rename_error(error, tcp, uri);
		return NULL;
	}
	host = host_of(uri);
	l = g_new0(RdmaListener, 1);
	l->tcp = listener;
	l->base = (FerryListener){
		.ops = &ops,
		.uri = rdma_uri(listener->uri),
		.again = listener->again,
		.fabric = ferry_rdma_fabric_at(host, port_of(listener->uri)),
	};
	l->base.fabric->next = g_steal_pointer(&listener->fabric);
	return &l->base;
}

static const FerryTransport rdma_transport = {
	.scheme = "rdma",
	.names_place = TRUE,
	.prefers_fabric = TRUE,
	.connect = rdma_connect_channel,
	.fabric = rdma_fabric,
	.listen = rdma_listen_channel,
};

const FerryTransport *const *ferry_transports(void)
{
	/* Written once; the sockets' are known only at run time, by a function. */
	static const FerryTransport *all[TRANSPORTS_MAX + 1];
	static gsize made;

	if (g_once_init_enter(&made)) {
		const FerryTransport *const *sockets = ferry_socket_transports();
		guint n = 0;

		while (n < TRANSPORTS_MAX - 1 && sockets[n]) {
			all[n] = sockets[n];
			n++;
		}
		all[n] = &rdma_transport;
		g_once_init_leave(&made, 1);
	}
	return all;
}
