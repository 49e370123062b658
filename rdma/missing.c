/* SPDX-License-Identifier: BSD-2-Clause */
#include "devices.h"

#include <unistd.h>

static char *first_entry(const char *root, const char *folder, const char *prefix)
{
	g_autofree char *path = g_strconcat(root, folder, NULL);
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	const char *name;

	while (dir && (name = g_dir_read_name(dir)))
		if (g_str_has_prefix(name, prefix))
			return g_strdup(name);
	return NULL;
}

static gboolean exists(const char *root, const char *path, int mode)
{
	g_autofree char *whole = g_strconcat(root, path, NULL);

	return access(whole, mode) == 0;
}

char *ferry_rdma_missing(const char *root)
{
	g_autofree char *device = first_entry(root, "/sys/class/infiniband", "");
	g_autofree char *uverbs = first_entry(root, "/dev/infiniband", "uverbs");
	g_autofree char *node = g_strconcat("/dev/infiniband/", uverbs, NULL);

	if (!device)
		return g_strdup("this host has no RDMA device: load the adapter's driver, or make "
				"a software device on an Ethernet interface: 'modprobe rdma_rxe; "
				"rdma link add rxe0 type rxe netdev eth0'");
	if (!exists(root, "/sys/class/infiniband_verbs", F_OK))
		return g_strdup_printf("the RDMA device %s is there, but the kernel module "
				       "ib_uverbs is not: 'modprobe ib_uverbs rdma_ucm'",
				       device);
	if (!uverbs)
		return g_strdup_printf("the RDMA device %s has no file in /dev/infiniband: give "
				       "this container the devices of that folder, or let udev "
				       "make them",
				       device);
	if (!exists(root, node, R_OK | W_OK))
		return g_strdup_printf("the RDMA device %s is there, but this user may not open "
				       "%s: give it read and write access",
				       device, node);
	if (!exists(root, "/dev/infiniband/rdma_cm", R_OK | W_OK))
		return g_strdup_printf("the RDMA device %s is there, but /dev/infiniband/rdma_cm "
				       "is not, or may not be opened: 'modprobe rdma_ucm', and "
				       "give this user read and write access",
				       device);
	return g_strdup_printf("the RDMA device %s could not be opened: is the rdma-core provider "
			       "for it installed (ibverbs-providers)? 'ibv_devinfo' says more",
			       device);
}
