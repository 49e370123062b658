/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/transport.h>

G_BEGIN_DECLS

/*
 * RDMA devices of this host, for those who report on it; a migration needs none of this: its URI
 * says rdma:HOST:PORT. In a build without RDMA the list is empty.
 */
typedef struct {
	char *device; /* "mlx5_0", "rxe0" */
	guint8 port;  /* from 1 */
	gboolean active;
	guint active_mtu;   /* bytes; 0 where the port is not active */
	guint gid_index;    /* the one listed; a port has one entry for each of its GIDs */
	char *gid;          /* as an IPv6 address */
	char *gid_type;     /* "IB", "RoCE v1", "RoCE v2" */
	char *interface;    /* network interface behind the GID; NULL where there is none */
	gboolean on_demand; /* on-demand paging: memory need not be pinned */
	guint64 max_region; /* bytes in one memory region */
	guint max_queue_pairs;
} FerryRdmaPort;

/* The GIDs of all ports of all devices, an entry each; free with g_ptr_array_unref(). Empty where
 * there are none; then *@why says what is missing and what mends it (free with g_free(); may be
 * NULL). Any thread. */
GPtrArray *ferry_rdma_list_ports(char **why);

/* Loads the RDMA libraries and their drivers, which each process does once, and which takes longer
 * than connecting: a monitor that may migrate calls it when it starts, in a thread of its own.
 * Returns at once where the host has no RDMA device. Any thread. */
void ferry_rdma_warm_up(void);

G_END_DECLS
