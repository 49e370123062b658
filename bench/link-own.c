/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench-link.h"

#include <ferry/rdma.h>

/* The address that a source could connect to: not a link-local one, which names no host alone, and
 * not a GID of InfiniBand, which is no address of IP. */
static GInetAddress *usable_address(const FerryRdmaPort *port)
{
	g_autoptr(GInetAddress) address = NULL;

	if (!port->active || !port->gid || !g_strcmp0(port->gid_type, "IB"))
		return NULL;
	if (g_ascii_strncasecmp(port->gid, "::ffff:", 7) == 0 && strchr(port->gid, '.'))
		return g_inet_address_new_from_string(port->gid + 7);
	address = g_inet_address_new_from_string(port->gid);
	if (!address || g_inet_address_get_is_link_local(address))
		return NULL;
	return g_steal_pointer(&address);
}

char *ferry_bench_link_own_uri(GError **error)
{
	g_autofree char *why = NULL;
	g_autoptr(GPtrArray) ports = ferry_rdma_list_ports(&why);

	for (guint i = 0; i < ports->len; i++) {
		g_autoptr(GInetAddress) address = usable_address(ports->pdata[i]);
		g_autofree char *text = address ? g_inet_address_to_string(address) : NULL;

		if (text)
			return g_strdup_printf(strchr(text, ':') ? "rdma:[%s]:0" : "rdma:%s:0",
					       text);
	}
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "%s",
		    why ? why
			: "no GID of an active RDMA port of this host is an IP address; give its "
			  "Ethernet interface one (ip addr add ADDRESS/24 dev INTERFACE), or say "
			  "--listen rdma:HOST:PORT with the address of an IPoIB interface");
	return NULL;
}
