/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "rdma/regions.h"

#include <errno.h>
#include <ferry/error.h>

#define CHUNK (64u << 10)
#define EVENTS_MAX 256

/*
 * Registration without a device: what is asked of verbs is written down. The table of verbs has no
 * user pointer, so the one device of the test program lives here.
 */
static struct {
	GMutex lock;
	GCond changed;
	gboolean held;    /* reg_mr() waits while it is set */
	gboolean waiting; /* it does */
	guint fail_at;    /* which registration fails, from 1; 0: none */
	int fail_errno;
	guint registered, deregistered;
	struct {
		gboolean release;
		const void *address;
		size_t len;
		int access;
	} events[EVENTS_MAX];
	guint n_events;
	guint advised;
	guint64 advised_bytes;
	guint64 longest_advice;
	enum ibv_advise_mr_advice advice;
} device;

/* What the owner of the regions was told. */
static struct {
	guint told, failures;
	guint32 block, chunk, key;
	char message[512];
	int code;
} owner;

static void note(gboolean release, const void *address, size_t len, int access)
{
	if (device.n_events < EVENTS_MAX) {
		device.events[device.n_events].release = release;
		device.events[device.n_events].address = address;
		device.events[device.n_events].len = len;
		device.events[device.n_events].access = access;
	}
	device.n_events++;
	g_cond_broadcast(&device.changed);
}

static struct ibv_mr *reg_mr(struct ibv_pd *pd, void *address, size_t len, int access)
{
	struct ibv_mr *mr = NULL;

	g_mutex_lock(&device.lock);
	device.waiting = TRUE;
	g_cond_broadcast(&device.changed);
	while (device.held)
		g_cond_wait(&device.changed, &device.lock);
	device.waiting = FALSE;
	note(FALSE, address, len, access);
	if (++device.registered == device.fail_at) {
		errno = device.fail_errno;
	} else {
		mr = g_new0(struct ibv_mr, 1);
		mr->addr = address;
		mr->length = len;
		mr->lkey = mr->rkey = device.registered;
	}
	g_mutex_unlock(&device.lock);
	return mr;
}

static int dereg_mr(struct ibv_mr *mr)
{
	g_mutex_lock(&device.lock);
	device.deregistered++;
	note(TRUE, mr->addr, mr->length, 0);
	g_mutex_unlock(&device.lock);
	g_free(mr);
	return 0;
}

static int advise_mr(struct ibv_pd *pd, enum ibv_advise_mr_advice advice, uint32_t flags,
		     struct ibv_sge *list, uint32_t n)
{
	g_mutex_lock(&device.lock);
	device.advised++;
	device.advice = advice;
	for (uint32_t i = 0; i < n; i++) {
		device.advised_bytes += list[i].length;
		device.longest_advice = MAX(device.longest_advice, list[i].length);
	}
	g_mutex_unlock(&device.lock);
	return 0;
}

static const FerryVerbs verbs = { .reg_mr = reg_mr, .dereg_mr = dereg_mr, .advise_mr = advise_mr };

static void on_registered(gpointer user, guint32 block, guint32 chunk, const struct ibv_mr *mr,
			  const GError *error)
{
	g_mutex_lock(&device.lock);
	owner.told++;
	owner.block = block;
	owner.chunk = chunk;
	if (mr) {
		owner.key = mr->rkey;
	} else {
		owner.failures++;
		owner.code = error->code;
		g_strlcpy(owner.message, error->message, sizeof(owner.message));
	}
	g_cond_broadcast(&device.changed);
	g_mutex_unlock(&device.lock);
}

static void reset(void)
{
	memset(&device.held, 0, sizeof(device) - offsetof(__typeof__(device), held));
	memset(&owner, 0, sizeof(owner));
}

static void hold(gboolean held)
{
	g_mutex_lock(&device.lock);
	device.held = held;
	g_cond_broadcast(&device.changed);
	g_mutex_unlock(&device.lock);
}

/* Waits until *@number is @n; the deadline only ends a test that has failed. */
static void await(const guint *number, guint n)
{
	gint64 deadline = g_get_monotonic_time() + 10 * G_TIME_SPAN_SECOND;

	g_mutex_lock(&device.lock);
	while (*number < n && g_cond_wait_until(&device.changed, &device.lock, deadline))
		;
	CU_ASSERT_EQUAL(*number, n);
	g_mutex_unlock(&device.lock);
}

static void await_helper_in_device(void)
{
	g_mutex_lock(&device.lock);
	while (!device.waiting)
		g_cond_wait(&device.changed, &device.lock);
	g_mutex_unlock(&device.lock);
}

/* Two blocks: three chunks, the last of one page, and two chunks. Nothing is dereferenced. */
static FerryRamBlock blocks[] = {
	{ .name = (char *)"a", .host = (guint8 *)(1ull << 32), .size = 2 * CHUNK + 4096 },
	{ .name = (char *)"b", .host = (guint8 *)(2ull << 32), .size = 2 * CHUNK },
};
static const FerryRam ram = { 2, blocks, 4 * CHUNK + 4096 };

static FerryRdmaRegions *make(int access)
{
	reset();
	return ferry_rdma_regions_new(&verbs, NULL, &ram, CHUNK, access, on_registered, NULL);
}

static void request(FerryRdmaRegions *regions, guint32 block, guint32 first, guint32 n)
{
	const FerryRdmaChunks chunks = { block, first, n };

	CU_ASSERT_TRUE(ferry_rdma_regions_request(regions, &chunks, NULL));
}

static void release(FerryRdmaRegions *regions, guint32 block, guint32 first, guint32 n)
{
	const FerryRdmaChunks chunks = { block, first, n };

	CU_ASSERT_TRUE(ferry_rdma_regions_release(regions, &chunks, NULL));
}

static gboolean is_event(guint i, gboolean released, guint block, guint chunk)
{
	return device.events[i].release == released &&
	       device.events[i].address == blocks[block].host + chunk * CHUNK;
}

static void request__chunks_of_two_blocks__are_registered_in_order_and_whole(void)
{
	g_autoptr(FerryRdmaRegions) regions = make(IBV_ACCESS_LOCAL_WRITE);

	CU_ASSERT_EQUAL(ferry_rdma_regions_chunks(regions, 0), 3);
	CU_ASSERT_EQUAL(ferry_rdma_regions_chunks(regions, 1), 2);
	request(regions, 1, 1, 1);
	request(regions, 0, 0, 3);
	await(&owner.told, 4);
	CU_ASSERT_TRUE(is_event(0, FALSE, 1, 1));
	for (guint i = 0; i < 3; i++)
		CU_ASSERT_TRUE(is_event(1 + i, FALSE, 0, i));
	CU_ASSERT_EQUAL(device.events[2].len, CHUNK);
	CU_ASSERT_EQUAL(device.events[3].len, 4096);
	CU_ASSERT_EQUAL(device.events[0].access, IBV_ACCESS_LOCAL_WRITE);
	CU_ASSERT_EQUAL(owner.block, 0);
	CU_ASSERT_EQUAL(owner.chunk, 2);
	CU_ASSERT_PTR_NULL(ferry_rdma_regions_get(regions, 1, 0));
	CU_ASSERT_PTR_NOT_NULL(ferry_rdma_regions_get(regions, 1, 1));
	CU_ASSERT_EQUAL(ferry_rdma_regions_get(regions, 0, 2)->length, 4096);
}

static void request__numbers_outside_of_ram__are_refused(void)
{
	static const FerryRdmaChunks wrong[] = {
		{ 2, 0, 1 }, { 0, 3, 1 },           { 0, 0, 4 },           { 0, 2, 2 },
		{ 1, 2, 1 }, { 0, G_MAXUINT32, 1 }, { 0, 1, G_MAXUINT32 }, { G_MAXUINT32, 0, 1 },
	};
	g_autoptr(FerryRdmaRegions) regions = make(0);

	for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
		g_autoptr(GError) error = NULL;

		CU_ASSERT_FALSE(ferry_rdma_regions_request(regions, &wrong[i], &error));
		CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
		CU_ASSERT_FALSE(ferry_rdma_regions_release(regions, &wrong[i], NULL));
	}
	request(regions, 0, 2, 1);
	await(&owner.told, 1);
	CU_ASSERT_EQUAL(device.registered, 1);
}

/* A peer that asks without end must not make the queue grow either: it has a place a chunk. */
static void request__overlapping_and_again__each_chunk_once(void)
{
	g_autoptr(FerryRdmaRegions) regions = make(0);

	hold(TRUE);
	request(regions, 0, 0, 1);
	await_helper_in_device();
	for (guint i = 0; i < 1000; i++) {
		request(regions, 0, 0, 3);
		request(regions, 0, 1, 2);
	}
	request(regions, 1, 0, 1);
	hold(FALSE);
	await(&owner.told, 4);
	request(regions, 0, 0, 3);
	request(regions, 1, 0, 2);
	await(&owner.told, 5);
	CU_ASSERT_EQUAL(device.registered, 5);
	CU_ASSERT_TRUE(is_event(3, FALSE, 1, 0));
	CU_ASSERT_TRUE(is_event(4, FALSE, 1, 1));
}

static void release__of_registered_chunk__deregisters_on_the_helper(void)
{
	g_autoptr(FerryRdmaRegions) regions = make(0);
	FerryRdmaRegionStats stats;

	request(regions, 0, 0, 3);
	await(&owner.told, 3);
	release(regions, 0, 1, 2);
	request(regions, 1, 0, 1); /* comes after: then the releases are done */
	await(&owner.told, 4);
	CU_ASSERT_PTR_NOT_NULL(ferry_rdma_regions_get(regions, 0, 0));
	CU_ASSERT_PTR_NULL(ferry_rdma_regions_get(regions, 0, 1));
	CU_ASSERT_PTR_NULL(ferry_rdma_regions_get(regions, 0, 2));
	CU_ASSERT_TRUE(is_event(3, TRUE, 0, 1));
	CU_ASSERT_TRUE(is_event(4, TRUE, 0, 2));
	ferry_rdma_regions_get_stats(regions, &stats);
	CU_ASSERT_EQUAL(stats.bytes, 2 * CHUNK);
	CU_ASSERT_EQUAL(stats.peak_bytes, 2 * CHUNK + 4096);
	CU_ASSERT_EQUAL(stats.total_bytes, 3 * CHUNK + 4096);
	CU_ASSERT_EQUAL(stats.registrations, 4);
	CU_ASSERT_EQUAL(stats.releases, 2);
}

static void release__then_request_behind_it__gives_a_new_key_and_tells_again(void)
{
	g_autoptr(FerryRdmaRegions) regions = make(0);
	guint32 key;

	request(regions, 0, 0, 1);
	await(&owner.told, 1);
	key = owner.key;
	hold(TRUE);
	request(regions, 1, 0, 1);
	await_helper_in_device();
	release(regions, 0, 0, 1);
	request(regions, 0, 0, 1);
	hold(FALSE);
	await(&owner.told, 3);
	CU_ASSERT_NOT_EQUAL(owner.key, key);
	CU_ASSERT_EQUAL(ferry_rdma_regions_get(regions, 0, 0)->rkey, owner.key);
	CU_ASSERT_EQUAL(device.deregistered, 1);
}

/* Whoever keeps to a limit of two chunks asks in an order that keeps it; so must the helper. */
static void release__between_requests__keeps_its_place_among_all_chunks(void)
{
	g_autoptr(FerryRdmaRegions) regions = make(0);
	FerryRdmaRegionStats stats;

	request(regions, 0, 0, 2);
	await(&owner.told, 2);
	hold(TRUE);
	release(regions, 0, 0, 1);
	request(regions, 1, 0, 1);
	await_helper_in_device();
	release(regions, 0, 1, 1);
	request(regions, 0, 0, 1);
	release(regions, 1, 0, 1);
	request(regions, 0, 1, 1);
	hold(FALSE);
	await(&owner.told, 5);
	CU_ASSERT_TRUE(is_event(4, TRUE, 0, 1));
	CU_ASSERT_TRUE(is_event(5, FALSE, 0, 0));
	CU_ASSERT_TRUE(is_event(6, TRUE, 1, 0));
	CU_ASSERT_TRUE(is_event(7, FALSE, 0, 1));
	ferry_rdma_regions_get_stats(regions, &stats);
	CU_ASSERT_EQUAL(stats.peak_bytes, 2 * CHUNK);
}

static void release__of_chunk_that_still_waits__registers_nothing(void)
{
	g_autoptr(FerryRdmaRegions) regions = make(0);

	hold(TRUE);
	request(regions, 0, 0, 1);
	await_helper_in_device();
	request(regions, 0, 1, 1);
	release(regions, 0, 1, 1);
	request(regions, 1, 1, 1);
	hold(FALSE);
	await(&owner.told, 2);
	CU_ASSERT_TRUE(is_event(1, FALSE, 1, 1));
	CU_ASSERT_EQUAL(device.n_events, 2);
}

static void registering__fails_in_the_middle__is_told_once_and_ends_it(void)
{
	g_autoptr(FerryRdmaRegions) regions = make(0);

	device.fail_at = 3;
	device.fail_errno = ENOMEM;
	request(regions, 0, 0, 3);
	request(regions, 1, 0, 2);
	await(&owner.told, 3);
	release(regions, 0, 0, 1);
	await(&device.deregistered, 1);
	CU_ASSERT_EQUAL(owner.told, 3);
	CU_ASSERT_EQUAL(owner.failures, 1);
	CU_ASSERT_EQUAL(device.registered, 3);
	CU_ASSERT_PTR_NULL(ferry_rdma_regions_get(regions, 0, 2));
	CU_ASSERT_PTR_NOT_NULL(ferry_rdma_regions_get(regions, 0, 1));
	CU_ASSERT_PTR_NOT_NULL(strstr(owner.message, "4096 bytes at offset 131072 of block 'a'"));
	CU_ASSERT_PTR_NOT_NULL(strstr(owner.message, "RLIMIT_MEMLOCK"));
	CU_ASSERT_EQUAL(owner.code, FERRY_ERROR_IO);
}

static void registering__fails_without_errno__is_an_error_nevertheless(void)
{
	g_autoptr(FerryRdmaRegions) regions = make(0);

	device.fail_at = 1;
	request(regions, 0, 0, 1);
	await(&owner.failures, 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(owner.message, g_strerror(EIO)));
}

static void free__with_requests_left__deregisters_what_is_registered(void)
{
	FerryRdmaRegions *regions = make(0);

	request(regions, 0, 0, 2);
	await(&owner.told, 2);
	hold(TRUE);
	request(regions, 0, 2, 1);
	request(regions, 1, 0, 2);
	await_helper_in_device();
	hold(FALSE);
	ferry_rdma_regions_free(regions);
	CU_ASSERT_EQUAL(device.registered, device.deregistered);
}

/* The region that get() gives is whole, whatever the helper is at. */
static void get__against_the_helper__sees_whole_regions(void)
{
	for (guint round = 0; round < 200; round++) {
		g_autoptr(FerryRdmaRegions) regions = make(0);
		const struct ibv_mr *mr;

		request(regions, 0, 0, 3);
		for (guint i = 0; i < 3; i++) {
			while (!(mr = ferry_rdma_regions_get(regions, 0, i)))
				g_thread_yield();
			if (mr->addr != blocks[0].host + i * CHUNK || mr->lkey != i + 1)
				CU_FAIL("half a region was seen");
		}
		await(&owner.told, 3);
	}
}

static void on_demand__block_of_five_gib__is_prefetched_in_pieces(void)
{
	FerryRamBlock large = { .name = (char *)"large",
				.host = (guint8 *)(1ull << 40),
				.size = 5ull << 30,
				.page_size = 4096 };
	const FerryRam one = { 1, &large, large.size };
	const FerryRdmaChunks all = { 0, 0, 1 };
	g_autoptr(FerryRdmaRegions) regions = NULL;

	reset();
	regions = ferry_rdma_regions_new(&verbs, NULL, &one, 8ull << 30,
					 IBV_ACCESS_ON_DEMAND | IBV_ACCESS_LOCAL_WRITE |
						 IBV_ACCESS_REMOTE_WRITE,
					 on_registered, NULL);
	CU_ASSERT_TRUE(ferry_rdma_regions_request(regions, &all, NULL));
	await(&owner.told, 1);
	CU_ASSERT_EQUAL(device.advised, 5);
	CU_ASSERT_EQUAL(device.advised_bytes, 5ull << 30);
	CU_ASSERT_EQUAL(device.longest_advice, 1ull << 30);
	CU_ASSERT_EQUAL(device.advice, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(request__chunks_of_two_blocks__are_registered_in_order_and_whole),
		CASE(request__numbers_outside_of_ram__are_refused),
		CASE(request__overlapping_and_again__each_chunk_once),
		CASE(release__of_registered_chunk__deregisters_on_the_helper),
		CASE(release__then_request_behind_it__gives_a_new_key_and_tells_again),
		CASE(release__between_requests__keeps_its_place_among_all_chunks),
		CASE(release__of_chunk_that_still_waits__registers_nothing),
		CASE(registering__fails_in_the_middle__is_told_once_and_ends_it),
		CASE(registering__fails_without_errno__is_an_error_nevertheless),
		CASE(free__with_requests_left__deregisters_what_is_registered),
		CASE(get__against_the_helper__sees_whole_regions),
		CASE(on_demand__block_of_five_gib__is_prefetched_in_pieces),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "rdma regions", cases);
}
