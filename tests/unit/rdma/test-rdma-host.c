/* SPDX-License-Identifier: BSD-2-Clause */
#include <harness.h>
#include <arpa/inet.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "rdma/cm.h"
#include "rdma/devices.h"
#include "rdma/link.h"
#include "rdma/quota.h"

/* ---- names ---- */

static void rdma_names__every_number__its_constant(void)
{
	CU_ASSERT_STRING_EQUAL(ferry_rdma_wc_name(IBV_WC_SUCCESS), "IBV_WC_SUCCESS");
	CU_ASSERT_STRING_EQUAL(ferry_rdma_wc_name(IBV_WC_RETRY_EXC_ERR), "IBV_WC_RETRY_EXC_ERR");
	CU_ASSERT_STRING_EQUAL(ferry_rdma_cm_name(RDMA_CM_EVENT_REJECTED),
			       "RDMA_CM_EVENT_REJECTED");
	CU_ASSERT_STRING_EQUAL(ferry_rdma_async_name(IBV_EVENT_QP_FATAL), "IBV_EVENT_QP_FATAL");
	for (guint i = 0; i <= IBV_WC_TM_RNDV_INCOMPLETE; i++)
		CU_ASSERT(g_str_has_prefix(ferry_rdma_wc_name(i), "IBV_WC_"));
	for (guint i = 0; i <= RDMA_CM_EVENT_TIMEWAIT_EXIT; i++)
		CU_ASSERT(g_str_has_prefix(ferry_rdma_cm_name(i), "RDMA_CM_EVENT_"));
	for (guint i = 0; i <= IBV_EVENT_WQ_FATAL; i++)
		CU_ASSERT(g_str_has_prefix(ferry_rdma_async_name(i), "IBV_EVENT_"));
}

static void rdma_names__a_number_of_a_later_library__no_crash(void)
{
	CU_ASSERT_PTR_NOT_NULL(ferry_rdma_wc_name(1000));
	CU_ASSERT_PTR_NOT_NULL(ferry_rdma_cm_name(1000));
	CU_ASSERT_PTR_NOT_NULL(ferry_rdma_async_name(-1));
}

static void rdma_mtu__of_each_size__bytes(void)
{
	CU_ASSERT_EQUAL(ferry_rdma_mtu_bytes(IBV_MTU_256), 256);
	CU_ASSERT_EQUAL(ferry_rdma_mtu_bytes(IBV_MTU_1024), 1024);
	CU_ASSERT_EQUAL(ferry_rdma_mtu_bytes(IBV_MTU_4096), 4096);
	CU_ASSERT_EQUAL(ferry_rdma_mtu_bytes(0), 0);
	CU_ASSERT_EQUAL(ferry_rdma_mtu_bytes(6), 0);
}

/* ---- errors ---- */

static FerryErrorCode code_of(int error_number)
{
	g_autoptr(GError) error = NULL;

	CU_ASSERT_FALSE(ferry_verbs_failed(&error, "ibv_reg_mr", error_number));
	CU_ASSERT(g_str_has_prefix(error->message, "ibv_reg_mr: "));
	return error->code;
}

static void rdma_verbs_failed__by_errno__sorted_by_remedy(void)
{
	CU_ASSERT_EQUAL(code_of(0), FERRY_ERROR_LINK);
	CU_ASSERT_EQUAL(code_of(EIO), FERRY_ERROR_LINK);
	CU_ASSERT_EQUAL(code_of(EOPNOTSUPP), FERRY_ERROR_NOSUPP);
	CU_ASSERT_EQUAL(code_of(ENODEV), FERRY_ERROR_NOSUPP);
	CU_ASSERT_EQUAL(code_of(ENOMEM), FERRY_ERROR_IO);
	CU_ASSERT_EQUAL(code_of(EPERM), FERRY_ERROR_IO);
}

static void rdma_verbs_failed__registration_without_memory__speaks_of_the_limit(void)
{
	g_autoptr(GError) error = NULL;

	ferry_verbs_failed(&error, "ibv_reg_mr", ENOMEM);
	CU_ASSERT_PTR_NOT_NULL(strstr(error->message, "RLIMIT_MEMLOCK"));
}

static void rdma_event_failed__rejected_and_errno__named(void)
{
	struct rdma_cm_id id = { 0 };
	FerryRdmaEvent event = { .id = &id, .type = RDMA_CM_EVENT_REJECTED, .status = 8 };
	g_autoptr(GError) rejected = NULL, unreachable = NULL;
	struct sockaddr_in *peer = &id.route.addr.dst_sin;

	*peer = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(4444) };
	inet_pton(AF_INET, "192.0.2.1", &peer->sin_addr);
	ferry_rdma_event_failed(&rejected, &event, 2);
	CU_ASSERT(g_error_matches(rejected, FERRY_ERROR, FERRY_ERROR_LINK));
	CU_ASSERT_PTR_NOT_NULL(strstr(rejected->message, "queue pair 2, peer 192.0.2.1:4444"));
	CU_ASSERT_PTR_NOT_NULL(strstr(rejected->message, "RDMA_CM_EVENT_REJECTED (status 8)"));
	CU_ASSERT_PTR_NOT_NULL(strstr(rejected->message, "nobody listens"));
	event.type = RDMA_CM_EVENT_UNREACHABLE;
	event.status = -ETIMEDOUT;
	ferry_rdma_event_failed(&unreachable, &event, 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(unreachable->message, g_strerror(ETIMEDOUT)));
}

/* ---- addresses ---- */

static void expect_addresses(const char *host, guint n, const char *first)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GArray) found = ferry_rdma_addresses(host, 4444, NULL, &error);
	g_autofree char *text = NULL;

	CU_ASSERT_PTR_NOT_NULL(found);
	if (!found)
		return;
	CU_ASSERT_EQUAL(found->len, n);
	text = ferry_rdma_address_text(&g_array_index(found, struct sockaddr, 0));
	CU_ASSERT_STRING_EQUAL(text, first);
}

static void rdma_addresses__literals__as_they_are(void)
{
	expect_addresses("192.0.2.1", 1, "192.0.2.1:4444");
	expect_addresses("2001:db8::1", 1, "[2001:db8::1]:4444");
	expect_addresses("", 2, "[::]:4444");
}

static void rdma_addresses__numeric_scope__kept(void)
{
	g_autoptr(GArray) found = ferry_rdma_addresses("fe80::1%1", 4444, NULL, NULL);

	CU_ASSERT(found && found->len == 1);
	if (found && found->len)
		CU_ASSERT_EQUAL(g_array_index(found, struct sockaddr_in6, 0).sin6_scope_id, 1);
}

static void rdma_await__cancelled__within_20_ms(void)
{
	g_autoptr(GCancellable) cancellable = g_cancellable_new();
	gint64 start = g_get_monotonic_time();
	g_autoptr(GError) error = NULL;

	g_cancellable_cancel(cancellable);
	CU_ASSERT_EQUAL(ferry_rdma_await(NULL, 0, start + 5 * G_USEC_PER_SEC, cancellable, &error),
			-1);
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_CANCELLED));
	CU_ASSERT(g_get_monotonic_time() - start < 20 * G_TIME_SPAN_MILLISECOND);
}

/* ---- what is missing ---- */

static void make_folder(const char *root, const char *path)
{
	g_autofree char *whole = g_strconcat(root, path, NULL);

	CU_ASSERT_EQUAL(g_mkdir_with_parents(whole, 0700), 0);
}

static void make_file(const char *root, const char *path)
{
	g_autofree char *whole = g_strconcat(root, path, NULL);

	CU_ASSERT(g_file_set_contents(whole, "", 0, NULL));
}

static void expect_missing(const char *root, const char *part)
{
	g_autofree char *text = ferry_rdma_missing(root);

	if (!strstr(text, part))
		printf("# no '%s' in: %s\n", part, text);
	CU_ASSERT_PTR_NOT_NULL(strstr(text, part));
}

static void remove_all(const char *path)
{
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	const char *name;

	while (dir && (name = g_dir_read_name(dir))) {
		g_autofree char *entry = g_build_filename(path, name, NULL);

		remove_all(entry);
	}
	g_remove(path);
}

/* A host that gets one part of RDMA after the other. */
static void rdma_missing__each_part_absent__its_remedy(void)
{
	g_autofree char *root = g_dir_make_tmp("ferry-rdma-XXXXXX", NULL);

	expect_missing(root, "rdma link add rxe0 type rxe netdev");
	make_folder(root, "/sys/class/infiniband/rxe0");
	expect_missing(root, "modprobe ib_uverbs");
	make_folder(root, "/sys/class/infiniband_verbs/uverbs0");
	expect_missing(root, "no file in /dev/infiniband");
	make_folder(root, "/dev/infiniband");
	make_file(root, "/dev/infiniband/uverbs0");
	expect_missing(root, "modprobe rdma_ucm");
	make_file(root, "/dev/infiniband/rdma_cm");
	expect_missing(root, "ibverbs-providers");
	remove_all(root);
}

static void rdma_missing__no_right_to_the_device__says_so(void)
{
	g_autofree char *root = g_dir_make_tmp("ferry-rdma-XXXXXX", NULL);
	g_autofree char *node = g_strconcat(root, "/dev/infiniband/uverbs0", NULL);

	make_folder(root, "/sys/class/infiniband/rxe0");
	make_folder(root, "/sys/class/infiniband_verbs/uverbs0");
	make_folder(root, "/dev/infiniband");
	make_file(root, "/dev/infiniband/uverbs0");
	g_chmod(node, 0);
	if (access(node, R_OK) == 0) {
		remove_all(root);
		SKIP("this user may open everything");
	}
	expect_missing(root, "may not open /dev/infiniband/uverbs0");
	remove_all(root);
}

static void rdma_list_ports__this_host__a_list_or_a_reason(void)
{
	g_autofree char *why = NULL;
	g_autoptr(GPtrArray) ports = ferry_rdma_list_ports(&why);

	CU_ASSERT_EQUAL(ports->len == 0, why != NULL);
	CU_ASSERT(ports->len || strlen(why) > 20);
}

/* ---- quota ---- */

#define CHUNK 8192u

/* Blocks of 3 and of 1 1/2 chunks. */
static FerryRam *quota_ram(guint8 *memory)
{
	FerryRam *ram = ferry_ram_new();

	CU_ASSERT(ferry_ram_add(ram, "a", memory, 3 * CHUNK, 4096, -1, 0, NULL));
	CU_ASSERT(ferry_ram_add(ram, "b", memory + 3 * CHUNK, CHUNK + 4096, 4096, -1, 0, NULL));
	return ram;
}

static gboolean ask(FerryRdmaQuota *quota, guint32 block, guint32 first, guint32 n)
{
	g_autoptr(GError) error = NULL;

	if (ferry_rdma_quota_ask(quota, &(FerryRdmaChunks){ block, first, n }, &error))
		return TRUE;
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
	return FALSE;
}

static void with_quota(guint64 limit, void (*test)(FerryRdmaQuota *quota))
{
	g_autofree guint8 *memory = g_malloc(6 * CHUNK);
	guint8 *aligned = (guint8 *)(((guintptr)memory + 4095) & ~(guintptr)4095);
	g_autoptr(FerryRam) ram = quota_ram(aligned);
	g_autoptr(FerryRdmaQuota) quota = ferry_rdma_quota_new(ram, CHUNK, limit);

	CU_ASSERT_EQUAL(ferry_rdma_count_chunks(ram, CHUNK), 5);
	test(quota);
}

static void ask_outside(FerryRdmaQuota *quota)
{
	CU_ASSERT_FALSE(ask(quota, 2, 0, 1));
	CU_ASSERT_FALSE(ask(quota, G_MAXUINT32, 0, 1));
	CU_ASSERT_FALSE(ask(quota, 0, 3, 1));
	CU_ASSERT_FALSE(ask(quota, 0, 0, 4));
	CU_ASSERT_FALSE(ask(quota, 0, 2, G_MAXUINT32 - 2));
	CU_ASSERT_FALSE(ferry_rdma_quota_release(quota, &(FerryRdmaChunks){ 1, 2, 1 }, NULL));
	CU_ASSERT_EQUAL(ferry_rdma_quota_bytes(quota), 0);
	CU_ASSERT(ask(quota, 0, 0, 3));
	CU_ASSERT(ask(quota, 1, 0, 2));
	CU_ASSERT_EQUAL(ferry_rdma_quota_bytes(quota), 4 * CHUNK + 4096);
}

static void rdma_quota__outside_of_the_ram__refused(void)
{
	with_quota(0, ask_outside);
}

static void ask_to_the_limit(FerryRdmaQuota *quota)
{
	CU_ASSERT(ask(quota, 0, 0, 2));
	CU_ASSERT(ask(quota, 0, 1, 1));
	CU_ASSERT_FALSE(ask(quota, 0, 1, 2));
	CU_ASSERT_EQUAL(ferry_rdma_quota_bytes(quota), 2 * CHUNK);
	CU_ASSERT(ask(quota, 1, 1, 1));
	CU_ASSERT_FALSE(ask(quota, 1, 0, 1));
	CU_ASSERT(ferry_rdma_quota_release(quota, &(FerryRdmaChunks){ 0, 0, 3 }, NULL));
	CU_ASSERT_EQUAL(ferry_rdma_quota_bytes(quota), 4096);
	CU_ASSERT(ask(quota, 0, 1, 2));
}

static void rdma_quota__more_than_the_limit__refused_until_released(void)
{
	with_quota(2 * CHUNK + 4096, ask_to_the_limit);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(rdma_names__every_number__its_constant),
		CASE(rdma_names__a_number_of_a_later_library__no_crash),
		CASE(rdma_mtu__of_each_size__bytes),
		CASE(rdma_verbs_failed__by_errno__sorted_by_remedy),
		CASE(rdma_verbs_failed__registration_without_memory__speaks_of_the_limit),
		CASE(rdma_event_failed__rejected_and_errno__named),
		CASE(rdma_addresses__literals__as_they_are),
		CASE(rdma_addresses__numeric_scope__kept),
		CASE(rdma_await__cancelled__within_20_ms),
		CASE(rdma_missing__each_part_absent__its_remedy),
		CASE(rdma_missing__no_right_to_the_device__says_so),
		CASE(rdma_list_ports__this_host__a_list_or_a_reason),
		CASE(rdma_quota__outside_of_the_ram__refused),
		CASE(rdma_quota__more_than_the_limit__refused_until_released),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "rdma-host", cases);
}
