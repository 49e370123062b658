/* SPDX-License-Identifier: BSD-2-Clause */
#include "doctor.h"
#include "common.h"

#include <string.h>
#include <ferry/rdma.h>

#define GIDS_SHOWN 4u

static gboolean same_port(const FerryRdmaPort *a, const FerryRdmaPort *b)
{
	return a->port == b->port && g_str_equal(a->device, b->device);
}

/* A GID by which rdma: can reach the port: it stands for an address, and its packets are routed. */
static gboolean is_usable(const FerryRdmaPort *entry)
{
	return entry->gid && (g_strcmp0(entry->gid_type, "RoCE v2") == 0 ||
			      g_strcmp0(entry->gid_type, "IB") == 0);
}

/* The GIDs of one port, a few of them in words; *@usable: what stands for it in a URI, or NULL. */
static char *describe_gids(const GPtrArray *entries, guint first, guint end, const char **usable)
{
	GString *text = g_string_new(NULL);

	for (guint i = first; i < end; i++) {
		const FerryRdmaPort *entry = entries->pdata[i];

		if (!*usable && is_usable(entry))
			*usable = entry->gid;
		if (!entry->gid || i - first >= GIDS_SHOWN)
			continue;
		g_string_append_printf(text, ", [%u] %s %s", entry->gid_index, entry->gid_type,
				       entry->gid);
		if (entry->interface)
			g_string_append_printf(text, " on %s", entry->interface);
	}
	if (end - first > GIDS_SHOWN)
		g_string_append_printf(text, ", and %u more", end - first - GIDS_SHOWN);
	if (!text->len)
		g_string_append(text, ", no GID");
	return g_string_free(text, FALSE);
}

/* The address that a GID was made of. */
static const char *address_of(const char *gid)
{
	return g_str_has_prefix(gid, "::ffff:") ? gid + strlen("::ffff:") : gid;
}

static void check_port(FerryDoctor *doctor, const GPtrArray *entries, guint first, guint end)
{
	const FerryRdmaPort *port = entries->pdata[first];
	g_autofree char *region = ferry_cli_format_bytes(port->max_region);
	const char *usable = NULL;
	g_autofree char *gids = describe_gids(entries, first, end, &usable);
	const char *remedy =
		!port->active ? "connect the cable and bring the interface up"
		: !usable     ? "give the interface an IP address: RoCE takes its GIDs from it"
			      : NULL;
	GString *text = g_string_new(NULL);

	g_string_append_printf(text, "%s port %u, ", port->device, port->port);
	if (port->active)
		g_string_append_printf(text, "active, MTU %u", port->active_mtu);
	else
		g_string_append(text, "not active");
	g_string_append_printf(text, "%s; %u queue pairs, regions of %s, %s on-demand paging", gids,
			       port->max_queue_pairs, region, port->on_demand ? "with" : "no");
	if (!remedy)
		g_string_append_printf(text, "; serves rdma: by %s", address_of(usable));
	ferry_doctor_add(doctor, "RDMA", remedy ? FERRY_CHECK_WARN : FERRY_CHECK_OK,
			 g_string_free(text, FALSE), remedy);
}

void ferry_doctor_rdma(FerryDoctor *doctor, const GPtrArray *ports, char *why)
{
	g_autofree char *owned = why;

	if (!ports->len)
		ferry_doctor_add(doctor, "RDMA", FERRY_CHECK_MISSING,
				 g_strdup("no device: with rdma: pages go over TCP"),
				 why ? why : "see rdma link show");
	for (guint first = 0, end; first < ports->len; first = end) {
		for (end = first + 1;
		     end < ports->len && same_port(ports->pdata[first], ports->pdata[end]);)
			end++;
		check_port(doctor, ports, first, end);
	}
}
