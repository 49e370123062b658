/* SPDX-License-Identifier: BSD-2-Clause */
#include "address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include "fd-util.h"

static gboolean parse_port(const char *uri, const char *digits, guint16 *port, GError **error)
{
	guint64 value;

	if (!g_ascii_string_to_unsigned(digits, 10, 0, G_MAXUINT16, &value, NULL)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "%s: '%s' is not a port number from 0 to 65535", uri, digits);
		return FALSE;
	}
	*port = (guint16)value;
	return TRUE;
}

gboolean ferry_address_parse(const char *uri, char **host, guint16 *port, GError **error)
{
	const char *rest = ferry_uri_rest(uri);
	gboolean bracket = rest[0] == '[';
	const char *end = bracket ? strchr(rest, ']') : strrchr(rest, ':');
	const char *colon = bracket && end ? end + 1 : end;
	g_autofree char *name = NULL;

	if (!end || *colon != ':') {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "%s: expected HOST:PORT, or [IPV6]:PORT", uri);
		return FALSE;
	}
	name = bracket ? g_strndup(rest + 1, end - rest - 1) : g_strndup(rest, end - rest);
	if (!bracket && strchr(name, ':')) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "%s: an IPv6 address must be in brackets: [%s]%s", uri, name, colon);
		return FALSE;
	}
	if (bracket && !*name) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID, "%s: nothing in the brackets",
			    uri);
		return FALSE;
	}
	if (!parse_port(uri, colon + 1, port, error))
		return FALSE;
	*host = g_steal_pointer(&name);
	return TRUE;
}

/* A literal address, also one with a scope, which a GInetAddress cannot be made from. */
static gboolean append_literal(GArray *addresses, const char *host)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST };
	struct addrinfo *found = NULL;
	FerryAddress address = { 0 };

	if (getaddrinfo(host, NULL, &hints, &found) != 0)
		return FALSE;
	memcpy(&address.storage, found->ai_addr, found->ai_addrlen);
	address.len = found->ai_addrlen;
	freeaddrinfo(found);
	g_array_append_val(addresses, address);
	return TRUE;
}

typedef struct {
	GAsyncResult *result; /* set when the look-up ended */
	GCancellable *cancel; /* of the look-up: by the caller's, or by the deadline */
	gboolean late;
} Lookup;

static void lookup_done(GObject *resolver, GAsyncResult *result, gpointer user)
{
	((Lookup *)user)->result = g_object_ref(result);
}

static gboolean lookup_late(gpointer user)
{
	Lookup *lookup = user;

	lookup->late = TRUE;
	g_cancellable_cancel(lookup->cancel);
	return G_SOURCE_REMOVE;
}

static gboolean lookup_cancelled(GCancellable *cancellable, gpointer user)
{
	g_cancellable_cancel(((Lookup *)user)->cancel);
	return G_SOURCE_REMOVE;
}

static GSource *attach(GSource *source, GSourceFunc func, Lookup *lookup, GMainContext *context)
{
	g_source_set_callback(source, func, lookup, NULL);
	g_source_attach(source, context);
	return source;
}

/* Runs the look-up in a main context of its own, so that it ends at the deadline. */
static GList *look_up(const char *host, gint64 deadline, GCancellable *cancellable, Lookup *lookup,
		      GError **error)
{
	g_autoptr(GMainContext) context = g_main_context_new();
	g_autoptr(GResolver) resolver = g_resolver_get_default();
	g_autoptr(GSource) timer = NULL, watch = NULL;
	gint64 left = (deadline - g_get_monotonic_time()) / 1000;
	GList *found;

	g_main_context_push_thread_default(context);
	if (deadline >= 0)
		timer = attach(g_timeout_source_new((guint)CLAMP(left, 0, G_MAXINT)), lookup_late,
			       lookup, context);
	if (cancellable)
		watch = attach(g_cancellable_source_new(cancellable),
			       G_SOURCE_FUNC(lookup_cancelled), lookup, context);
	g_resolver_lookup_by_name_async(resolver, host, lookup->cancel, lookup_done, lookup);
	while (!lookup->result)
		g_main_context_iteration(context, TRUE);
	found = g_resolver_lookup_by_name_finish(resolver, lookup->result, error);
	if (timer)
		g_source_destroy(timer);
	if (watch)
		g_source_destroy(watch);
	g_main_context_pop_thread_default(context);
	return found;
}

static void append_found(GArray *addresses, GList *found)
{
	for (GList *l = found; l; l = l->next) {
		g_autoptr(GSocketAddress) native = g_inet_socket_address_new(l->data, 0);
		FerryAddress address = { 0 };

		address.len = (socklen_t)g_socket_address_get_native_size(native);
		if (g_socket_address_to_native(native, &address.storage, sizeof(address.storage),
					       NULL))
			g_array_append_val(addresses, address);
	}
}

static gboolean append_name(GArray *addresses, const char *host, gint64 deadline,
			    GCancellable *cancellable, GError **error)
{
	g_autoptr(GCancellable) cancel = g_cancellable_new();
	g_autoptr(GError) cause = NULL;
	Lookup lookup = { .cancel = cancel };
	GList *found = look_up(host, deadline, cancellable, &lookup, &cause);

	g_object_unref(lookup.result);
	append_found(addresses, found);
	g_resolver_free_addresses(found);
	if (found)
		return TRUE;
	if (cancellable && g_cancellable_is_cancelled(cancellable))
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED, "look-up of '%s': cancelled",
			    host);
	else
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "cannot look up the host '%s': %s", host,
			    lookup.late ? "no answer in time" : cause->message);
	return FALSE;
}

GArray *ferry_address_resolve(const char *host, guint16 port, gint64 deadline,
			      GCancellable *cancellable, GError **error)
{
	g_autoptr(GArray) addresses = g_array_new(FALSE, FALSE, sizeof(FerryAddress));

	if (!append_literal(addresses, host) &&
	    !append_name(addresses, host, deadline, cancellable, error))
		return NULL;
	for (guint i = 0; i < addresses->len; i++)
		ferry_address_set_port(&g_array_index(addresses, FerryAddress, i), port);
	return g_steal_pointer(&addresses);
}

gboolean ferry_address_is_any(const FerryAddress *address)
{
	const struct sockaddr_in *v4 = (gconstpointer)&address->storage;
	const struct sockaddr_in6 *v6 = (gconstpointer)&address->storage;

	if (address->storage.ss_family == AF_INET)
		return v4->sin_addr.s_addr == INADDR_ANY;
	return IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr);
}

/* The port is at the same place for both families. */
guint16 ferry_address_port(const FerryAddress *address)
{
	return ntohs(((const struct sockaddr_in *)&address->storage)->sin_port);
}

void ferry_address_set_port(FerryAddress *address, guint16 port)
{
	((struct sockaddr_in *)&address->storage)->sin_port = htons(port);
}

/* 0 for an interface that is of no use, else the more the better. */
static int rank(const struct ifaddrs *entry, int family)
{
	const struct sockaddr_in6 *v6 = (gconstpointer)entry->ifa_addr;

	if (!entry->ifa_addr || !(entry->ifa_flags & IFF_UP))
		return 0;
	if (entry->ifa_addr->sa_family == AF_INET)
		return entry->ifa_flags & IFF_LOOPBACK ? 1 : 3;
	if (entry->ifa_addr->sa_family != AF_INET6 || family == AF_INET)
		return 0;
	/* Another host would need a scope of its own. */
	return entry->ifa_flags & IFF_LOOPBACK || IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr) ? 0 : 2;
}

char *ferry_address_of_this_host(int family)
{
	struct ifaddrs *all = NULL;
	const struct ifaddrs *best = NULL;
	char name[NI_MAXHOST] = "127.0.0.1";

	if (getifaddrs(&all) < 0)
		return g_strdup(name);
	for (const struct ifaddrs *entry = all; entry; entry = entry->ifa_next)
		if (rank(entry, family) > (best ? rank(best, family) : 0))
			best = entry;
	if (best)
		(void)!getnameinfo(best->ifa_addr,
				   best->ifa_addr->sa_family == AF_INET
					   ? sizeof(struct sockaddr_in)
					   : sizeof(struct sockaddr_in6),
				   name, sizeof(name), NULL, 0, NI_NUMERICHOST);
	freeifaddrs(all);
	return g_strdup(name);
}
