/* SPDX-License-Identifier: BSD-2-Clause */
/* What doctor reads of RDMA devices, from a made-up /sys. */
#include "cli/doctor.h"
#include "harness.h"

#include <glib/gstdio.h>

#define PORT "class/infiniband/mlx5_0/ports/1/"
#define NO_GID "0000:0000:0000:0000:0000:0000:0000:0000\n"

typedef struct {
	char *sysfs;
	GPtrArray *files;
	FerryDoctor doctor;
} Host;

static void check_clear(gpointer data)
{
	FerryCheck *check = data;

	g_free(check->finding);
	g_free(check->remedy);
	g_free(check);
}

static Host host_new(void)
{
	return (Host){ g_dir_make_tmp("ferry-sys-XXXXXX", NULL),
		       g_ptr_array_new_with_free_func(g_free),
		       { g_ptr_array_new_with_free_func(check_clear) } };
}

static void put(Host *host, const char *name, const char *text)
{
	char *path = g_build_filename(host->sysfs, name, NULL);
	g_autofree char *folder = g_path_get_dirname(path);

	CU_ASSERT(g_mkdir_with_parents(folder, 0700) == 0);
	CU_ASSERT(g_file_set_contents(path, text, -1, NULL));
	g_ptr_array_add(host->files, path);
}

static void host_clear(Host *host)
{
	for (guint i = 0; i < host->files->len; i++) {
		g_autofree char *path = g_strdup(host->files->pdata[i]);

		g_unlink(path);
		/* Each folder goes with its last file. */
		while (!g_str_equal(path, host->sysfs)) {
			*strrchr(path, '/') = '\0';
			g_rmdir(path);
		}
	}
	g_rmdir(host->sysfs);
	g_ptr_array_unref(host->files);
	g_ptr_array_unref(host->doctor.checks);
	g_free(host->sysfs);
}

/* The one check that doctor makes of @host. */
static const FerryCheck *look(Host *host)
{
	ferry_doctor_rdma(&host->doctor, host->sysfs);
	CU_ASSERT_EQUAL(host->doctor.checks->len, 1);
	return host->doctor.checks->pdata[0];
}

static void rdma__no_device__missing_with_a_way_to_try(void)
{
	Host host = host_new();
	const FerryCheck *check = look(&host);

	CU_ASSERT_EQUAL(check->verdict, FERRY_CHECK_MISSING);
	CU_ASSERT(strstr(check->finding, "TCP") && strstr(check->remedy, "rdma_rxe"));
	CU_ASSERT_FALSE(check->required);
	host_clear(&host);
}

static void put_roce(Host *host, const char *state)
{
	put(host, PORT "state", state);
	put(host, PORT "gids/0", NO_GID);
	put(host, PORT "gids/1", "0000:0000:0000:0000:0000:ffff:c000:0201\n");
	put(host, PORT "gid_attrs/types/1", "RoCE v2\n");
	put(host, PORT "gid_attrs/ndevs/1", "eth7\n");
	put(host, "class/net/eth7/mtu", "9000\n");
}

static void rdma__active_roce_port__ok_with_gid_and_mtu(void)
{
	Host host = host_new();
	const FerryCheck *check;

	put_roce(&host, "4: ACTIVE\n");
	check = look(&host);
	CU_ASSERT_EQUAL(check->verdict, FERRY_CHECK_OK);
	CU_ASSERT_STRING_EQUAL(check->finding,
			       "mlx5_0 port 1, 4: ACTIVE, [1] RoCE v2 "
			       "0000:0000:0000:0000:0000:ffff:c000:0201 on eth7 (MTU 9000)");
	CU_ASSERT_PTR_NULL(check->remedy);
	host_clear(&host);
}

static void rdma__port_down__warns(void)
{
	Host host = host_new();
	const FerryCheck *check;

	put_roce(&host, "1: DOWN\n");
	check = look(&host);
	CU_ASSERT_EQUAL(check->verdict, FERRY_CHECK_WARN);
	CU_ASSERT(check->remedy && strstr(check->remedy, "cable"));
	host_clear(&host);
}

static void rdma__no_gid__warns_that_an_address_is_missing(void)
{
	Host host = host_new();
	const FerryCheck *check;

	put(&host, PORT "state", "4: ACTIVE\n");
	put(&host, PORT "gids/0", NO_GID);
	check = look(&host);
	CU_ASSERT_EQUAL(check->verdict, FERRY_CHECK_WARN);
	CU_ASSERT(strstr(check->finding, "no GID") && strstr(check->remedy, "IP address"));
	host_clear(&host);
}

static CU_TestInfo cases[] = {
	CASE(rdma__no_device__missing_with_a_way_to_try),
	CASE(rdma__active_roce_port__ok_with_gid_and_mtu),
	CASE(rdma__port_down__warns),
	CASE(rdma__no_gid__warns_that_an_address_is_missing),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "cli-rdma", cases);
}
