/* SPDX-License-Identifier: BSD-2-Clause */
#include "cm.h"

static void append(GArray *addresses, GSocketAddress *address)
{
	struct sockaddr_storage storage = { 0 };

	if (g_socket_address_to_native(address, &storage, sizeof(storage), NULL))
		g_array_append_val(addresses, storage);
}

/* Both families: a host may have been booted without IPv6, or keep the two apart. */
static void append_any(GArray *addresses, guint16 port)
{
	const GSocketFamily families[] = { G_SOCKET_FAMILY_IPV6, G_SOCKET_FAMILY_IPV4 };

	for (guint i = 0; i < G_N_ELEMENTS(families); i++) {
		g_autoptr(GInetAddress) any = g_inet_address_new_any(families[i]);
		g_autoptr(GSocketAddress) address = g_inet_socket_address_new(any, port);

		append(addresses, address);
	}
}

static gboolean append_name(GArray *addresses, const char *host, guint16 port,
			    GCancellable *cancellable, GError **error)
{
	g_autoptr(GResolver) resolver = g_resolver_get_default();
	g_autoptr(GError) cause = NULL;
	GList *found = g_resolver_lookup_by_name(resolver, host, cancellable, &cause);

	for (GList *l = found; l; l = l->next) {
		g_autoptr(GSocketAddress) address = g_inet_socket_address_new(l->data, port);

		append(addresses, address);
	}
	g_resolver_free_addresses(found);
	if (addresses->len)
		return TRUE;
	if (cancellable && g_cancellable_is_cancelled(cancellable))
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED, "look-up of '%s': cancelled",
			    host);
	else
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "cannot look up the host '%s': %s", host,
			    cause ? cause->message : "no address");
	return FALSE;
}

GArray *ferry_rdma_addresses(const char *host, guint16 port, GCancellable *cancellable,
			     GError **error)
{
	g_autoptr(GArray) addresses = g_array_new(FALSE, FALSE, sizeof(struct sockaddr_storage));
	/* Knows scopes, by number and by name, which a GInetAddress does not. */
	g_autoptr(GSocketAddress)
		literal = *host ? g_inet_socket_address_new_from_string(host, port) : NULL;

	if (!*host)
		append_any(addresses, port);
	else if (literal)
		append(addresses, literal);
	else if (!append_name(addresses, host, port, cancellable, error))
		return NULL;
	return g_steal_pointer(&addresses);
}
