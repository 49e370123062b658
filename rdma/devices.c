/* SPDX-License-Identifier: BSD-2-Clause */
#include "devices.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <string.h>

guint ferry_rdma_mtu_bytes(enum ibv_mtu mtu)
{
	return mtu >= IBV_MTU_256 && mtu <= IBV_MTU_4096 ? 128u << mtu : 0;
}

const char *ferry_rdma_gid_type_name(guint32 type)
{
	static const char *const names[] = {
		[IBV_GID_TYPE_IB] = "IB",
		[IBV_GID_TYPE_ROCE_V1] = "RoCE v1",
		[IBV_GID_TYPE_ROCE_V2] = "RoCE v2",
	};

	return type < G_N_ELEMENTS(names) ? names[type] : "unknown";
}

char *ferry_rdma_gid_text(const union ibv_gid *gid)
{
	char text[INET6_ADDRSTRLEN] = "";

	(void)!inet_ntop(AF_INET6, gid->raw, text, sizeof(text));
	return g_strdup(text);
}

gboolean ferry_rdma_writes_on_demand(const struct ibv_device_attr_ex *device)
{
	return device->odp_caps.general_caps & IBV_ODP_SUPPORT &&
	       device->odp_caps.per_transport_caps.rc_odp_caps & IBV_ODP_SUPPORT_WRITE;
}

/* ---- what all can do ---- */

static void narrow(const FerryVerbs *verbs, struct ibv_context *context, FerryRdmaLimits *limits)
{
	struct ibv_device_attr_ex device = { 0 };
	struct ibv_port_attr port;

	if (verbs->query_device_ex(context, NULL, &device) != 0)
		return;
	limits->n++;
	limits->max_queue_pairs = MIN(limits->max_queue_pairs,
				      (guint)MAX(device.orig_attr.max_qp, 1));
	limits->max_region = MIN(limits->max_region, device.orig_attr.max_mr_size);
	limits->on_demand = limits->on_demand && ferry_rdma_writes_on_demand(&device);
	for (guint i = 1; i <= device.orig_attr.phys_port_cnt; i++) {
		guint mtu;

		if (verbs->query_port(context, (uint8_t)i, &port) != 0 ||
		    port.state != IBV_PORT_ACTIVE)
			continue;
		mtu = ferry_rdma_mtu_bytes(port.active_mtu);
		limits->mtu = limits->mtu ? MIN(limits->mtu, mtu) : mtu;
	}
}

void ferry_rdma_get_limits(const FerryVerbs *verbs, FerryRdmaLimits *limits)
{
	FerryRdmaLimits all = {
		.max_queue_pairs = G_MAXUINT,
		.max_region = G_MAXUINT64,
		.on_demand = TRUE,
	};
	int n = 0;
	struct ibv_context **devices = verbs->get_devices(&n);

	for (int i = 0; devices && i < n; i++)
		narrow(verbs, devices[i], &all);
	if (devices)
		verbs->free_devices(devices);
	all.on_demand = all.on_demand && all.n;
	*limits = all;
}

/* ---- the list ---- */

static void port_free(gpointer data)
{
	FerryRdmaPort *port = data;

	g_free(port->device);
	g_free(port->gid);
	g_free(port->gid_type);
	g_free(port->interface);
	g_free(port);
}

static FerryRdmaPort *port_new(struct ibv_context *context, guint number,
			       const struct ibv_device_attr_ex *device,
			       const struct ibv_port_attr *attr, const struct ibv_gid_entry *gid)
{
	FerryRdmaPort *port = g_new0(FerryRdmaPort, 1);
	char interface[IF_NAMESIZE];

	port->device = g_strdup(context->device->name);
	port->port = (guint8)number;
	port->active = attr->state == IBV_PORT_ACTIVE;
	port->active_mtu = port->active ? ferry_rdma_mtu_bytes(attr->active_mtu) : 0;
	port->gid_index = gid->gid_index;
	port->gid = ferry_rdma_gid_text(&gid->gid);
	port->gid_type = g_strdup(ferry_rdma_gid_type_name(gid->gid_type));
	if (gid->ndev_ifindex && if_indextoname(gid->ndev_ifindex, interface))
		port->interface = g_strdup(interface);
	port->on_demand = ferry_rdma_writes_on_demand(device);
	port->max_region = device->orig_attr.max_mr_size;
	port->max_queue_pairs = (guint)MAX(device->orig_attr.max_qp, 0);
	return port;
}

static void list_port(const FerryVerbs *verbs, struct ibv_context *context, guint number,
		      const struct ibv_device_attr_ex *device, GPtrArray *ports)
{
	struct ibv_port_attr attr;

	if (verbs->query_port(context, (uint8_t)number, &attr) != 0)
		return;
	for (int i = 0; i < attr.gid_tbl_len; i++) {
		struct ibv_gid_entry gid = { 0 };

		if (verbs->query_gid_ex(context, number, (uint32_t)i, &gid, 0) == 0)
			g_ptr_array_add(ports, port_new(context, number, device, &attr, &gid));
	}
}

GPtrArray *ferry_rdma_list_ports_of(const FerryVerbs *verbs, char **why)
{
	GPtrArray *ports = g_ptr_array_new_with_free_func(port_free);
	int n = 0;
	struct ibv_context **devices = verbs->get_devices(&n);

	for (int i = 0; devices && i < n; i++) {
		struct ibv_device_attr_ex device = { 0 };

		if (verbs->query_device_ex(devices[i], NULL, &device) != 0)
			continue;
		for (guint port = 1; port <= device.orig_attr.phys_port_cnt; port++)
			list_port(verbs, devices[i], port, &device, ports);
	}
	if (devices)
		verbs->free_devices(devices);
	if (!ports->len && why)
		*why = ferry_rdma_missing("");
	return ports;
}

GPtrArray *ferry_rdma_list_ports(char **why)
{
	return ferry_rdma_list_ports_of(&ferry_verbs, why);
}

void ferry_rdma_warm_up(void)
{
	g_autoptr(GDir) devices = g_dir_open("/sys/class/infiniband", 0, NULL);
	struct ibv_context **list;
	int n;

	if (!devices || !g_dir_read_name(devices))
		return;
	list = ferry_verbs.get_devices(&n);
	if (list)
		ferry_verbs.free_devices(list);
}
