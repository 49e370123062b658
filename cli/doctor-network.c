/* SPDX-License-Identifier: BSD-2-Clause */
#include "doctor.h"
#include "common.h"

#include <gio/gio.h>

#define PEER_TIMEOUT_S 5
#define GIDS_MAX 256u /* entries of a port's table that we look at */
#define GIDS_SHOWN 4u

static gint by_name(gconstpointer a, gconstpointer b)
{
	return g_strcmp0(*(char *const *)a, *(char *const *)b);
}

/* Names in the folder @path, sorted; NULL-terminated. */
static char **list(const char *path)
{
	g_autoptr(GDir) folder = g_dir_open(path, 0, NULL);
	GPtrArray *names = g_ptr_array_new();
	const char *name;

	while (folder && (name = g_dir_read_name(folder)))
		g_ptr_array_add(names, g_strdup(name));
	g_ptr_array_sort(names, by_name);
	g_ptr_array_add(names, NULL);
	return (char **)g_ptr_array_free(names, FALSE);
}

static char *read_in(const char *folder, const char *format, guint index)
{
	g_autofree char *name = g_strdup_printf(format, index);
	g_autofree char *path = g_build_filename(folder, name, NULL);

	return ferry_doctor_read_line(path);
}

/* "[1] RoCE v2 ::ffff:192.0.2.1 on eth0 (MTU 9000)", or NULL for an empty entry. */
static char *describe_gid(const char *sysfs, const char *port, guint index)
{
	g_autofree char *gid = read_in(port, "gids/%u", index);
	g_autofree char *type = read_in(port, "gid_attrs/types/%u", index);
	g_autofree char *netdev = read_in(port, "gid_attrs/ndevs/%u", index);
	g_autofree char *mtu_path = NULL;
	g_autofree char *mtu = NULL;

	if (!gid || !type || g_str_equal(gid, "0000:0000:0000:0000:0000:0000:0000:0000"))
		return NULL;
	if (!netdev)
		return g_strdup_printf("[%u] %s %s", index, type, gid);
	mtu_path = g_build_filename(sysfs, "class/net", netdev, "mtu", NULL);
	mtu = ferry_doctor_read_line(mtu_path);
	return g_strdup_printf("[%u] %s %s on %s (MTU %s)", index, type, gid, netdev,
			       mtu ? mtu : "?");
}

/* The GIDs of a port, a few of them in words; *@usable: whether there is one that Ferry can use. */
static char *describe_gids(const char *sysfs, const char *port, gboolean *usable)
{
	GString *text = g_string_new(NULL);
	guint found = 0;

	for (guint i = 0; i < GIDS_MAX; i++) {
		g_autofree char *gid = describe_gid(sysfs, port, i);

		if (!gid)
			continue;
		if (found++ < GIDS_SHOWN)
			g_string_append_printf(text, ", %s", gid);
		*usable = *usable || strstr(gid, "RoCE v2") || strstr(gid, "InfiniBand") ||
			  strstr(gid, "IB/RoCE v1");
	}
	if (found > GIDS_SHOWN)
		g_string_append_printf(text, ", and %u more", found - GIDS_SHOWN);
	if (!found)
		g_string_append(text, ", no GID");
	return g_string_free(text, FALSE);
}

static void check_port(FerryDoctor *doctor, const char *sysfs, const char *device,
		       const char *number, const char *port)
{
	g_autofree char *state_path = g_build_filename(port, "state", NULL);
	g_autofree char *state = ferry_doctor_read_line(state_path);
	gboolean usable = FALSE;
	g_autofree char *gids = describe_gids(sysfs, port, &usable);
	gboolean active = state && strstr(state, "ACTIVE");
	const char *remedy =
		!active   ? "connect the cable and bring the interface up"
		: !usable ? "give the interface an IP address: RoCE takes its GIDs from it"
			  : NULL;

	ferry_doctor_add(doctor, "RDMA", remedy ? FERRY_CHECK_WARN : FERRY_CHECK_OK,
			 g_strdup_printf("%s port %s, %s%s", device, number,
					 state ? state : "no state", gids),
			 remedy);
}

void ferry_doctor_rdma(FerryDoctor *doctor, const char *sysfs)
{
	g_autofree char *folder = g_build_filename(sysfs, "class/infiniband", NULL);
	g_auto(GStrv) devices = list(folder);

	if (!*devices)
		ferry_doctor_add(
			doctor, "RDMA", FERRY_CHECK_MISSING,
			g_strdup("no device; pages go over TCP"),
			"for trials without a card: modprobe rdma_rxe, then rdma link add rxe0 "
			"type rxe netdev NAME");
	for (char **device = devices; *device; device++) {
		g_autofree char *ports = g_build_filename(folder, *device, "ports", NULL);
		g_auto(GStrv) numbers = list(ports);

		for (char **number = numbers; *number; number++) {
			g_autofree char *port = g_build_filename(ports, *number, NULL);

			check_port(doctor, sysfs, *device, *number, port);
		}
	}
}

void ferry_doctor_peer(FerryDoctor *doctor, const char *peer)
{
	g_autoptr(GSocketClient) client = g_socket_client_new();
	g_autoptr(GSocketConnection) connection = NULL;
	g_autoptr(GError) error = NULL;
	gint64 began = g_get_monotonic_time();
	FerryCheck *check;

	g_socket_client_set_timeout(client, PEER_TIMEOUT_S);
	g_socket_client_set_enable_proxy(client, FALSE);
	connection = g_socket_client_connect_to_host(client, peer, 0, NULL, &error);
	if (connection)
		check = ferry_doctor_add(doctor, "peer", FERRY_CHECK_OK,
					 g_strdup_printf("%s answers in %.1f ms", peer,
							 (g_get_monotonic_time() - began) / 1000.0),
					 NULL);
	else
		check = ferry_doctor_add(
			doctor, "peer", FERRY_CHECK_MISSING, g_strdup(error->message),
			"start the destination first, and open its port in every firewall "
			"between");
	check->required = TRUE;
}
