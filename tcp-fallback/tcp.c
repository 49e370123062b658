/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include "address.h"
#include "fd-channel.h"
#include "fd-util.h"
#include "multifd.h"
#include "streams.h"
#include "transports.h"

#define BACKLOG 16
#define PORT_TRIES 8

static const FerryChannelOps channel_ops = { FERRY_FD_CHANNEL_OPS("tcp") };

/* Gives each address its share of the time left, so that one that swallows packets leaves some to
 * the others. Fills @failures with what failed for each. */
static int connect_any(const GArray *addresses, gint64 deadline, GCancellable *cancellable,
		       GString *failures, GError **error)
{
	for (guint i = 0; i < addresses->len; i++) {
		g_autoptr(GError) cause = NULL;
		gint64 now = g_get_monotonic_time();
		gint64 share = MAX(deadline - now, 0) / (addresses->len - i);
		int fd = ferry_socket_connect(&g_array_index(addresses, FerryAddress, i),
					      now + share, cancellable, &cause);

		if (fd >= 0)
			return fd;
		if (g_error_matches(cause, FERRY_ERROR, FERRY_ERROR_CANCELLED)) {
			g_propagate_error(error, g_steal_pointer(&cause));
			return -1;
		}
		g_string_append_printf(failures, "%s%s", failures->len ? "; " : "", cause->message);
	}
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK, "no connection: %s", failures->str);
	return -1;
}

int ferry_socket_connect_uri(const char *uri, gint64 deadline, GCancellable *cancellable,
			     GError **error)
{
	g_autoptr(GString) failures = g_string_new(NULL);
	g_autoptr(GArray) addresses = NULL;
	g_autofree char *host = NULL;
	guint16 port;
	int fd = -1;

	if (!ferry_address_parse(uri, &host, &port, error))
		return -1;
	if (!*host || !port) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "%s: names no %s to connect to", uri, *host ? "port" : "host");
		return -1;
	}
	addresses = ferry_address_resolve(host, port, deadline, cancellable, error);
	if (addresses)
		fd = connect_any(addresses, deadline, cancellable, failures, error);
	if (fd < 0)
		g_prefix_error(error, "%s: ", uri);
	return fd;
}

static FerryChannel *tcp_connect(const char *uri, guint timeout_ms, GCancellable *cancellable,
				 GError **error)
{
	gint64 deadline = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
	g_auto(FerryFd) fd = ferry_socket_connect_uri(uri, deadline, cancellable, error);
	FerryChannel *channel;

	if (fd < 0)
		return NULL;
	channel = ferry_fd_channel_new(&channel_ops, FERRY_FD_SOCKET, fd, fd, uri, error);
	if (channel)
		ferry_fd_steal(&fd);
	return channel;
}

/* Returns 0 and gives the socket to @l, or the errno. Sets the address's port to the one it got. */
static int listen_on(FerrySocketListener *l, FerryAddress *address)
{
	int family = address->storage.ss_family, on = 1, off = 0;
	g_auto(FerryFd) fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return errno;
	/* [::] takes IPv4 too, whatever the host's default. */
	if (family == AF_INET6 && ferry_address_is_any(address) &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0)
		return errno;
	if (bind(fd, (gpointer)&address->storage, address->len) < 0 || listen(fd, BACKLOG) < 0 ||
	    getsockname(fd, (gpointer)&address->storage, &address->len) < 0)
		return errno;
	l->fds[l->n_fds++] = ferry_fd_steal(&fd);
	return 0;
}

/* An address that this host does not have now is passed over if another of the name works. */
static gboolean is_absent(int error_number)
{
	return error_number == EADDRNOTAVAIL || error_number == EAFNOSUPPORT;
}

/* Listens on all of @addresses with one port. Returns 0 and the port, or the errno and @where. */
static int listen_on_all(FerrySocketListener *l, const GArray *addresses, guint16 *port,
			 char **where)
{
	guint16 chosen = *port;
	int absent = 0;

	for (guint i = 0; i < MIN(addresses->len, FERRY_LISTEN_MAX); i++) {
		FerryAddress address = g_array_index(addresses, FerryAddress, i);
		int outcome;

		ferry_address_set_port(&address, chosen);
		outcome = listen_on(l, &address);
		if (outcome) {
			g_free(*where);
			*where = ferry_address_to_string(&address);
		}
		if (outcome && !is_absent(outcome))
			return outcome;
		if (outcome)
			absent = outcome;
		else
			chosen = ferry_address_port(&address);
	}
	if (!l->n_fds)
		return absent;
	*port = chosen;
	return 0;
}

static void close_all(FerrySocketListener *l)
{
	while (l->n_fds)
		close(l->fds[--l->n_fds]);
}

/* As listen_on_all(), but with port 0 tries again when another process has the port at one of
 * several addresses: a source that tries them all could end up there. */
static gboolean listen_on_host(FerrySocketListener *l, const char *host, guint16 *port,
			       GCancellable *cancellable, GError **error)
{
	g_autoptr(GArray) addresses = ferry_address_resolve(host, *port, -1, cancellable, error);
	g_autofree char *where = NULL;
	int outcome = EADDRINUSE;

	if (!addresses)
		return FALSE;
	for (guint i = 0; outcome == EADDRINUSE && i < (*port ? 1 : PORT_TRIES); i++) {
		close_all(l);
		outcome = listen_on_all(l, addresses, port, &where);
	}
	if (outcome == EADDRINUSE)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO,
			    "cannot listen on %s: the port is in use by another process", where);
	else if (outcome)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO, "cannot listen on %s: %s", where,
			    g_strerror(outcome));
	return !outcome;
}

/* The host part of the URI that a source is to use. */
static char *reachable_host(const FerrySocketListener *l, const char *host)
{
	FerryAddress address = { .len = sizeof(address.storage) };

	if (getsockname(l->fds[0], (gpointer)&address.storage, &address.len) == 0 &&
	    ferry_address_is_any(&address))
		return ferry_address_of_this_host(address.storage.ss_family);
	return g_strdup(host);
}

/* [::] takes IPv4 too, but a host may have been booted without IPv6. */
static const char *any_host(void)
{
	g_auto(FerryFd) probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return probe < 0 ? "0.0.0.0" : "::";
}

static FerryListener *tcp_listen(const char *uri, GCancellable *cancellable, GError **error)
{
	FerrySocketListener *l = ferry_socket_listener_new(&channel_ops);
	g_autoptr(FerryListener) listener = &l->base;
	g_autofree char *host = NULL, *reachable = NULL;
	guint16 port;

	if (!ferry_address_parse(uri, &host, &port, error))
		return NULL;
	if (!listen_on_host(l, *host ? host : any_host(), &port, cancellable, error)) {
		g_prefix_error(error, "%s: ", uri);
		return NULL;
	}
	reachable = reachable_host(l, host);
	l->base.uri = g_strdup_printf(strchr(reachable, ':') ? "tcp:[%s]:%u" : "tcp:%s:%u",
				      reachable, port);
	l->base.fabric = ferry_streams_destination_fabric_new(l);
	l->base.multifd = ferry_multifd_destination_fabric_new(l);
	return g_steal_pointer(&listener);
}

static FerryFabric *tcp_multifd(const char *uri)
{
	return ferry_multifd_source_fabric_new(&ferry_tcp_transport, uri);
}

const FerryTransport ferry_tcp_transport = {
	.scheme = "tcp",
	.names_place = TRUE,
	.connect = tcp_connect,
	.fabric = ferry_streams_source_fabric_new,
	.multifd = tcp_multifd,
	.zero_copy = TRUE,
	.listen = tcp_listen,
};
