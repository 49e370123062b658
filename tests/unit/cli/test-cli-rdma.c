/* SPDX-License-Identifier: BSD-2-Clause */
/* What doctor makes of RDMA ports. */
#include "cli/doctor.h"
#include "harness.h"

#include <ferry/rdma.h>

static const FerryRdmaPort roce = {
	.device = (char *)"mlx5_0",
	.port = 1,
	.active = TRUE,
	.active_mtu = 4096,
	.gid_index = 3,
	.gid = (char *)"::ffff:192.0.2.1",
	.gid_type = (char *)"RoCE v2",
	.interface = (char *)"eth7",
	.on_demand = TRUE,
	.max_region = G_GUINT64_CONSTANT(1) << 40,
	.max_queue_pairs = 1000,
};

static void check_free(gpointer data)
{
	FerryCheck *check = data;

	g_free(check->finding);
	g_free(check->remedy);
	g_free(check);
}

/* The checks for @n entries that look like @entry. */
static GPtrArray *look(FerryRdmaPort entry, guint n, const char *why)
{
	g_autofree FerryRdmaPort *entries = g_new(FerryRdmaPort, n + 1);
	g_autoptr(GPtrArray) list = g_ptr_array_new();
	FerryDoctor doctor = { g_ptr_array_new_with_free_func(check_free) };

	for (guint i = 0; i < n; i++) {
		entries[i] = entry;
		entries[i].gid_index += i;
		g_ptr_array_add(list, &entries[i]);
	}
	ferry_doctor_rdma(&doctor, list, g_strdup(why));
	for (guint i = 0; i < doctor.checks->len; i++)
		printf("# %s\n", ((FerryCheck *)doctor.checks->pdata[i])->finding);
	return doctor.checks;
}

static void rdma__no_device__missing_with_what_mends_it(void)
{
	g_autoptr(GPtrArray) checks = look(roce, 0, "no device: modprobe rdma_rxe");
	const FerryCheck *check = checks->pdata[0];

	CU_ASSERT_EQUAL(checks->len, 1);
	CU_ASSERT_EQUAL(check->verdict, FERRY_CHECK_MISSING);
	CU_ASSERT(strstr(check->finding, "TCP") && strstr(check->remedy, "modprobe rdma_rxe"));
	CU_ASSERT_FALSE(check->required);
}

static void rdma__active_roce_port__ok_with_what_a_uri_names(void)
{
	g_autoptr(GPtrArray) checks = look(roce, 1, NULL);
	const FerryCheck *check = checks->pdata[0];

	CU_ASSERT_EQUAL(check->verdict, FERRY_CHECK_OK);
	CU_ASSERT_STRING_EQUAL(check->finding,
			       "mlx5_0 port 1, active, MTU 4096, [3] RoCE v2 ::ffff:192.0.2.1 on "
			       "eth7; 1000 queue pairs, regions of 1 TiB, with on-demand paging; "
			       "serves rdma: by 192.0.2.1");
	CU_ASSERT_PTR_NULL(check->remedy);
}

static void rdma__port_with_many_gids__one_line(void)
{
	g_autoptr(GPtrArray) checks = look(roce, 9, NULL);
	const FerryCheck *check = checks->pdata[0];

	CU_ASSERT_EQUAL(checks->len, 1);
	CU_ASSERT(strstr(check->finding, "[6]") && strstr(check->finding, "and 5 more"));
	CU_ASSERT_PTR_NULL(strstr(check->finding, "[7]"));
}

static void rdma__port_down__warns(void)
{
	FerryRdmaPort down = roce;
	g_autoptr(GPtrArray) checks = NULL;
	const FerryCheck *check;

	down.active = FALSE;
	checks = look(down, 1, NULL);
	check = checks->pdata[0];
	CU_ASSERT_EQUAL(check->verdict, FERRY_CHECK_WARN);
	CU_ASSERT(check->remedy && strstr(check->remedy, "cable"));
}

static void rdma__no_gid_that_is_routed__warns_that_an_address_is_missing(void)
{
	FerryRdmaPort old = roce;
	g_autoptr(GPtrArray) checks = NULL;
	const FerryCheck *check;

	old.gid_type = (char *)"RoCE v1";
	checks = look(old, 1, NULL);
	check = checks->pdata[0];
	CU_ASSERT_EQUAL(check->verdict, FERRY_CHECK_WARN);
	CU_ASSERT(check->remedy && strstr(check->remedy, "IP address"));
}

static CU_TestInfo cases[] = {
	CASE(rdma__no_device__missing_with_what_mends_it),
	CASE(rdma__active_roce_port__ok_with_what_a_uri_names),
	CASE(rdma__port_with_many_gids__one_line),
	CASE(rdma__port_down__warns),
	CASE(rdma__no_gid_that_is_routed__warns_that_an_address_is_missing),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "cli-rdma", cases);
}
