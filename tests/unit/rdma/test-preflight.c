/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "rdma/regions.h"

#include <linux/capability.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <ferry/error.h>

#define MIB (1ull << 20)
#define CHUNK (MIB / 4)
/* What an ordinary user may lock, at least. */
#define LIMIT (8 * MIB)

static const FerryRam ram = { .total = 64 * MIB };

/* The limit as the process had it, and its capability, of which only the effective one is
 * dropped. */
static struct {
	struct rlimit limit;
	struct __user_cap_data_struct capabilities[_LINUX_CAPABILITY_U32S_3];
} before;

static gboolean set_capabilities(struct __user_cap_data_struct *data)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };

	return syscall(SYS_capset, &header, data) == 0;
}

/* Binds this thread to @bytes of locked memory beside what it has pinned. FALSE: not possible. */
static gboolean bind_to(guint64 bytes)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	struct rlimit limit;

	if (syscall(SYS_capget, &header, before.capabilities) ||
	    getrlimit(RLIMIT_MEMLOCK, &before.limit) || before.limit.rlim_max < bytes)
		return FALSE;
	limit = (struct rlimit){ bytes, before.limit.rlim_max };
	memcpy(data, before.capabilities, sizeof(data));
	data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective &= ~CAP_TO_MASK(CAP_IPC_LOCK);
	return setrlimit(RLIMIT_MEMLOCK, &limit) == 0 && set_capabilities(data);
}

static void unbind(void)
{
	CU_ASSERT_TRUE(set_capabilities(before.capabilities));
	CU_ASSERT_EQUAL(setrlimit(RLIMIT_MEMLOCK, &before.limit), 0);
}

static void preflight__limit_below_ram__gives_what_fits(void)
{
	guint64 limit = 1;
	gboolean ok;

	if (!bind_to(LIMIT))
		SKIP("RLIMIT_MEMLOCK or CAP_IPC_LOCK cannot be changed here");
	ok = ferry_rdma_pin_preflight(&ram, CHUNK, 0, FALSE, &limit, NULL);
	unbind();
	CU_ASSERT_TRUE(ok);
	CU_ASSERT_TRUE(limit >= 4 * MIB && limit < LIMIT);
}

static void preflight__all_beyond_the_limit__tells_both_numbers_and_the_remedy(void)
{
	g_autoptr(GError) error = NULL;
	guint64 limit = 1;
	gboolean ok;

	if (!bind_to(LIMIT))
		SKIP("RLIMIT_MEMLOCK or CAP_IPC_LOCK cannot be changed here");
	ok = ferry_rdma_pin_preflight(&ram, CHUNK, 0, TRUE, &limit, &error);
	unbind();
	CU_ASSERT_FALSE(ok);
	CU_ASSERT_EQUAL(limit, 1);
	CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_NOSUPP));
	CU_ASSERT_PTR_NOT_NULL(strstr(error->message, "67108864"));
	CU_ASSERT_PTR_NOT_NULL(strstr(error->message, "8388608"));
	CU_ASSERT_PTR_NOT_NULL(strstr(error->message, "ulimit -l"));
}

static void preflight__limit_below_two_chunks__fails(void)
{
	g_autoptr(GError) error = NULL;
	guint64 limit;
	gboolean ok;

	if (!bind_to(LIMIT))
		SKIP("RLIMIT_MEMLOCK or CAP_IPC_LOCK cannot be changed here");
	ok = ferry_rdma_pin_preflight(&ram, 16 * MIB, 0, FALSE, &limit, &error);
	unbind();
	CU_ASSERT_FALSE(ok);
	CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_NOSUPP));
	CU_ASSERT_PTR_NOT_NULL(strstr(error->message, "two chunks"));
}

static void preflight__limit_above_ram__is_none(void)
{
	const FerryRam small = { .total = 4 * MIB };
	guint64 limit = 1, all_limit = 1;
	gboolean ok, all_ok;

	if (!bind_to(LIMIT))
		SKIP("RLIMIT_MEMLOCK or CAP_IPC_LOCK cannot be changed here");
	ok = ferry_rdma_pin_preflight(&small, CHUNK, 0, FALSE, &limit, NULL);
	all_ok = ferry_rdma_pin_preflight(&small, CHUNK, 0, TRUE, &all_limit, NULL);
	unbind();
	CU_ASSERT_TRUE(ok);
	CU_ASSERT_TRUE(all_ok);
	CU_ASSERT_EQUAL(limit, 0);
	CU_ASSERT_EQUAL(all_limit, 0);
}

static void preflight__own_limit__holds_below_the_systems(void)
{
	g_autoptr(GError) error = NULL;
	guint64 limit = 1;

	CU_ASSERT_TRUE(ferry_rdma_pin_preflight(&ram, CHUNK, 4 * MIB, FALSE, &limit, NULL));
	CU_ASSERT_EQUAL(limit, 4 * MIB);
	CU_ASSERT_FALSE(ferry_rdma_pin_preflight(&ram, CHUNK, CHUNK, FALSE, &limit, &error));
	CU_ASSERT_PTR_NOT_NULL(strstr(error->message, "rdma-pin-limit is 262144 bytes"));
}

static void fit__own_limit_below_the_chunks__makes_them_smaller(void)
{
	guint64 limit = 1, size = 16 * MIB, one = 16 * MIB;
	g_autoptr(GError) error = NULL;

	CU_ASSERT_TRUE(ferry_rdma_fit_pinning(&ram, &size, 16 * MIB, FALSE, &limit, NULL));
	CU_ASSERT_EQUAL(size, 4 * MIB);
	CU_ASSERT_EQUAL(limit, 16 * MIB);
	CU_ASSERT_TRUE(ferry_rdma_fit_pinning(&ram, &size, 3 * MIB, FALSE, &limit, NULL));
	CU_ASSERT_EQUAL(size, MIB);
	CU_ASSERT_EQUAL(limit, 3 * MIB);
	CU_ASSERT_FALSE(ferry_rdma_fit_pinning(&ram, &one, MIB, FALSE, &limit, &error));
	CU_ASSERT_PTR_NOT_NULL(strstr(error->message, "two chunks of 1048576 bytes"));
	CU_ASSERT_EQUAL(one, 16 * MIB);
	CU_ASSERT_EQUAL(limit, 3 * MIB);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(preflight__limit_below_ram__gives_what_fits),
		CASE(preflight__all_beyond_the_limit__tells_both_numbers_and_the_remedy),
		CASE(preflight__limit_below_two_chunks__fails),
		CASE(preflight__limit_above_ram__is_none),
		CASE(preflight__own_limit__holds_below_the_systems),
		CASE(fit__own_limit_below_the_chunks__makes_them_smaller),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "rdma preflight", cases);
}
