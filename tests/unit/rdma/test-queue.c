/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "queue-bench.h"

static void write__on_an_idle_queue__is_posted_at_once_and_signalled(void)
{
	g_autoptr(Bench) bench = bench_new(1);

	CU_ASSERT_TRUE(ferry_rdma_queues_is_idle(bench->queues));
	CU_ASSERT_TRUE(put(bench, 7, 4096));
	CU_ASSERT_EQUAL(device.n, 1);
	CU_ASSERT_EQUAL(device.log[0].opcode, IBV_WR_RDMA_WRITE);
	CU_ASSERT_EQUAL(device.log[0].flags, IBV_SEND_SIGNALED);
	CU_ASSERT_EQUAL(device.log[0].from, 0x1007);
	CU_ASSERT_EQUAL(device.log[0].to, 0x2007);
	CU_ASSERT_FALSE(ferry_rdma_queues_is_idle(bench->queues));
	CU_ASSERT_EQUAL(bench->busy, 1);
	complete(0, IBV_WC_SUCCESS);
	CU_ASSERT_EQUAL(ferry_rdma_queues_poll(bench->queues), 1);
	CU_ASSERT_EQUAL(bench->busy, 0);
	CU_ASSERT_TRUE(ferry_rdma_queues_is_idle(bench->queues));
}

static void write__small_ones_behind_another__go_in_chains_with_the_last_signalled(void)
{
	g_autoptr(Bench) bench = bench_new(1);
	FerryRdmaQueueStats stats;

	for (guint i = 0; i < 10; i++)
		CU_ASSERT_TRUE(put(bench, i, 4096));
	CU_ASSERT_EQUAL(device.posts, 3); /* 1, 4, 4, and one that waits */
	CU_ASSERT_EQUAL(device.n, 9);
	for (guint i = 0; i < device.n; i++)
		CU_ASSERT_EQUAL(device.log[i].flags, i % 4 == 0 ? IBV_SEND_SIGNALED : 0);
	ferry_rdma_queues_flush(bench->queues);
	CU_ASSERT_EQUAL(device.n, 10);
	CU_ASSERT_EQUAL(device.log[9].flags, IBV_SEND_SIGNALED);
	ferry_rdma_queues_flush(bench->queues);
	CU_ASSERT_EQUAL(device.posts, 4);
	ferry_rdma_queues_get_stats(bench->queues, &stats);
	CU_ASSERT_EQUAL(stats.writes, 10);
	CU_ASSERT_EQUAL(stats.posts, 4);
	CU_ASSERT_EQUAL(stats.signalled, 4);
	CU_ASSERT_EQUAL(stats.bytes, 0);
}

static void completion__of_a_chain__frees_all_before_it(void)
{
	g_autoptr(Bench) bench = bench_new(1);
	FerryRdmaQueueStats stats;

	for (guint i = 0; i < 9; i++)
		put(bench, i, 4096);
	complete(8, IBV_WC_SUCCESS);
	CU_ASSERT_EQUAL(ferry_rdma_queues_poll(bench->queues), 1);
	CU_ASSERT_EQUAL(bench->busy, 0);
	CU_ASSERT_TRUE(ferry_rdma_queues_is_idle(bench->queues));
	ferry_rdma_queues_get_stats(bench->queues, &stats);
	CU_ASSERT_EQUAL(stats.bytes, 9 * 4096);
}

static void write__large_ones__go_round_the_queues(void)
{
	g_autoptr(Bench) bench = bench_new(QUEUES);

	for (guint i = 0; i < QUEUES; i++)
		CU_ASSERT_TRUE(put(bench, i, CHAIN_SIZE));
	for (guint i = 0; i < QUEUES; i++)
		CU_ASSERT_EQUAL(device.log[i].queue, i);
	/* The second is done first: it has the most room. */
	complete(1, IBV_WC_SUCCESS);
	ferry_rdma_queues_poll(bench->queues);
	CU_ASSERT_TRUE(put(bench, 9, CHAIN_SIZE));
	CU_ASSERT_EQUAL(device.log[QUEUES].queue, 1);
}

static void write__beyond_every_window__is_refused_until_a_completion(void)
{
	g_autoptr(Bench) bench = bench_new(QUEUES);
	guint n = 0;

	while (n < 100 && put(bench, n, 16u << 10))
		n++;
	CU_ASSERT_EQUAL(n, QUEUES * WINDOW / (16u << 10));
	CU_ASSERT_EQUAL(device.n, n); /* nothing waits where the window is full */
	CU_ASSERT_EQUAL(bench->busy, n);
	complete(0, IBV_WC_SUCCESS);
	ferry_rdma_queues_poll(bench->queues);
	CU_ASSERT_TRUE(put(bench, n, 16u << 10));
	CU_ASSERT_FALSE(put(bench, n, 16u << 10));
}

static void write__longer_than_the_window__goes_alone(void)
{
	g_autoptr(Bench) bench = bench_new(1);

	CU_ASSERT_TRUE(put(bench, 0, 2 * WINDOW));
	CU_ASSERT_FALSE(put(bench, 1, 4096));
	complete(0, IBV_WC_SUCCESS);
	ferry_rdma_queues_poll(bench->queues);
	CU_ASSERT_TRUE(put(bench, 1, 4096));
	CU_ASSERT_FALSE(put(bench, 2, 2 * WINDOW));
}

static void write__more_than_slots__is_refused_and_ids_come_round(void)
{
	g_autoptr(Bench) bench = bench_new(1);

	for (guint round = 0; round < 5; round++) {
		guint first = device.n;

		for (guint i = 0; i < DEPTH; i++)
			CU_ASSERT_TRUE(put(bench, i, 512));
		CU_ASSERT_FALSE(put(bench, 0, 512));
		ferry_rdma_queues_flush(bench->queues);
		CU_ASSERT_EQUAL(device.n, first + DEPTH);
		for (guint i = first; i < device.n; i++)
			CU_ASSERT_TRUE(device.log[i].id < DEPTH);
		complete(device.n - 1, IBV_WC_SUCCESS);
		ferry_rdma_queues_poll(bench->queues);
		CU_ASSERT_TRUE(ferry_rdma_queues_is_idle(bench->queues));
	}
}

static void completions__of_queues_in_any_order__free_each_its_own(void)
{
	g_autoptr(Bench) bench = bench_new(QUEUES);

	for (guint i = 0; i < 2 * QUEUES; i++)
		put(bench, i, CHAIN_SIZE);
	complete(5, IBV_WC_SUCCESS);
	complete(1, IBV_WC_SUCCESS);
	complete(0, IBV_WC_SUCCESS);
	CU_ASSERT_EQUAL(ferry_rdma_queues_poll(bench->queues), 3);
	CU_ASSERT_EQUAL(bench->busy, 2); /* one of queue 0, one of queue 1 */
	complete(4, IBV_WC_SUCCESS);
	complete(3, IBV_WC_SUCCESS);
	ferry_rdma_queues_poll(bench->queues);
	CU_ASSERT_TRUE(ferry_rdma_queues_is_idle(bench->queues));
	CU_ASSERT_FALSE(ferry_rdma_link_is_dead(bench->link));
}

static void completion__of_nothing_in_flight__fails_the_link(void)
{
	static const guint64 wrong[] = { 0, DEPTH, QUEUES * DEPTH, G_MAXUINT64 };

	for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
		g_autoptr(Bench) bench = bench_new(QUEUES);

		device.done[device.n_done++] = (struct ibv_wc){ .wr_id = wrong[i] };
		ferry_rdma_queues_poll(bench->queues);
		CU_ASSERT_TRUE(says(bench, "which is not in flight"));
	}
}

static void completion__twice__fails_the_link(void)
{
	g_autoptr(Bench) bench = bench_new(1);

	put(bench, 0, CHAIN_SIZE);
	put(bench, 1, CHAIN_SIZE);
	complete(0, IBV_WC_SUCCESS);
	complete(0, IBV_WC_SUCCESS);
	ferry_rdma_queues_poll(bench->queues);
	CU_ASSERT_TRUE(says(bench, "work request 0, which is not in flight"));
	CU_ASSERT_EQUAL(bench->busy, 1);
}

static void completion__with_each_status__is_told_by_name_and_place(void)
{
	for (int status = IBV_WC_LOC_LEN_ERR; status <= IBV_WC_GENERAL_ERR; status++) {
		g_autoptr(Bench) bench = bench_new(1);

		put(bench, 4711, 8192);
		complete(0, (enum ibv_wc_status)status);
		ferry_rdma_queues_poll(bench->queues);
		CU_ASSERT_TRUE(ferry_rdma_link_is_dead(bench->link));
		CU_ASSERT_TRUE(says(bench, "RDMA write of 8192 bytes to block 'ram' page 4711"));
		CU_ASSERT_TRUE(says(bench, ferry_rdma_wc_name((enum ibv_wc_status)status)));
		CU_ASSERT_TRUE(says(bench, "vendor error 0x81"));
		CU_ASSERT_TRUE(g_error_matches(bench->link->error, FERRY_ERROR, FERRY_ERROR_LINK));
		CU_ASSERT_EQUAL(bench->busy, 0);
		CU_ASSERT_TRUE(ferry_rdma_queues_is_idle(bench->queues));
	}
}

/* The second queue fails first in time; the completion queue may tell it last. */
static void completions__flushed_before_the_cause__name_the_cause(void)
{
	g_autoptr(Bench) bench = bench_new(2);

	put(bench, 0, CHAIN_SIZE);
	put(bench, 1, CHAIN_SIZE);
	complete(0, IBV_WC_WR_FLUSH_ERR);
	complete(1, IBV_WC_RETRY_EXC_ERR);
	ferry_rdma_queues_poll(bench->queues);
	CU_ASSERT_TRUE(says(bench, "page 1 failed: IBV_WC_RETRY_EXC_ERR"));
	CU_ASSERT_TRUE(says(bench, "the peer or the network to it is gone"));
	CU_ASSERT_EQUAL(bench->busy, 0);
}

static void completions__flushed_for_an_event__name_the_event(void)
{
	g_autoptr(Bench) bench = bench_new(1);

	put(bench, 0, 4096);
	device.disconnected = TRUE;
	complete(0, IBV_WC_WR_FLUSH_ERR);
	ferry_rdma_queues_poll(bench->queues);
	CU_ASSERT_TRUE(says(bench, "RDMA_CM_EVENT_DISCONNECTED"));
}

/* After an error every work request has its own completion, signalled or not. */
static void completions__flushed_without_signal__are_counted_one_by_one(void)
{
	g_autoptr(Bench) bench = bench_new(1);
	FerryRdmaQueueStats stats;

	for (guint i = 0; i < 9; i++)
		put(bench, i, 4096);
	complete(2, IBV_WC_REM_ACCESS_ERR);
	ferry_rdma_queues_poll(bench->queues);
	CU_ASSERT_EQUAL(bench->busy, 6);
	for (guint i = 3; i < 9; i++) {
		complete(i, IBV_WC_WR_FLUSH_ERR);
		ferry_rdma_queues_poll(bench->queues);
		CU_ASSERT_EQUAL(bench->busy, 8 - i);
	}
	CU_ASSERT_TRUE(ferry_rdma_queues_is_idle(bench->queues));
	CU_ASSERT_TRUE(says(bench, "page 2 failed: IBV_WC_REM_ACCESS_ERR"));
	ferry_rdma_queues_get_stats(bench->queues, &stats);
	CU_ASSERT_EQUAL(stats.bytes, 2 * 4096);
}

static void fence__with_writes_waiting__goes_behind_them_on_every_queue(void)
{
	g_autoptr(Bench) bench = bench_new(QUEUES);

	for (guint i = 0; i < 2 * QUEUES; i++)
		put(bench, i, CHAIN_SIZE / 2 - 4096);
	device.n = 0;
	put(bench, 100, 512); /* joins a chain that waits, or begins one */
	CU_ASSERT_EQUAL(device.n, 0);
	CU_ASSERT_TRUE(ferry_rdma_queues_fence(bench->queues, 0x01020304));
	CU_ASSERT_EQUAL(bench->busy, 2 * QUEUES + 1);
	for (guint i = 0, fences = 0; i < device.n; i++) {
		if (device.log[i].opcode != IBV_WR_RDMA_WRITE_WITH_IMM)
			continue;
		CU_ASSERT_EQUAL(device.log[i].queue, fences++);
		CU_ASSERT_EQUAL(device.log[i].imm, htonl(0x01020304));
		CU_ASSERT_EQUAL(device.log[i].sges, 0);
		CU_ASSERT_EQUAL(device.log[i].flags, IBV_SEND_SIGNALED);
		if (i + 1 < device.n)
			CU_ASSERT_NOT_EQUAL(device.log[i + 1].queue, device.log[i].queue);
	}
	CU_ASSERT_EQUAL(device.log[device.n - 1].opcode, IBV_WR_RDMA_WRITE_WITH_IMM);
	CU_ASSERT_FALSE(ferry_rdma_queues_is_idle(bench->queues));
}

static void fence__without_a_slot__waits_and_is_posted_once(void)
{
	g_autoptr(Bench) bench = bench_new(2);
	FerryRdmaQueueStats stats;
	guint last[2] = { 0 };

	for (guint i = 0; i < 2 * DEPTH; i++)
		CU_ASSERT_TRUE(put(bench, i, 512));
	CU_ASSERT_FALSE(ferry_rdma_queues_fence(bench->queues, 5));
	CU_ASSERT_EQUAL(device.n, 2 * DEPTH); /* what it waits for is posted */
	for (guint i = 0; i < device.n; i++)
		last[device.log[i].queue] = i;
	complete(last[0], IBV_WC_SUCCESS);
	ferry_rdma_queues_poll(bench->queues);
	CU_ASSERT_FALSE(ferry_rdma_queues_fence(bench->queues, 5));
	CU_ASSERT_FALSE(ferry_rdma_queues_fence(bench->queues, 5));
	complete(last[1], IBV_WC_SUCCESS);
	ferry_rdma_queues_poll(bench->queues);
	CU_ASSERT_TRUE(ferry_rdma_queues_fence(bench->queues, 5));
	CU_ASSERT_EQUAL(device.n, 2 * DEPTH + 2);
	CU_ASSERT_TRUE(ferry_rdma_queues_fence(bench->queues, 6));
	ferry_rdma_queues_get_stats(bench->queues, &stats);
	CU_ASSERT_EQUAL(stats.fences, 4);
	complete(device.n - 1, IBV_WC_SUCCESS);
	complete(device.n - 2, IBV_WC_REM_OP_ERR);
	ferry_rdma_queues_poll(bench->queues);
	CU_ASSERT_TRUE(says(bench, "fence 6 of queue pair 0 failed: IBV_WC_REM_OP_ERR"));
}

static void post__fails__ends_the_link_and_takes_nothing_more(void)
{
	g_autoptr(Bench) bench = bench_new(1);

	device.post_result = ENOMEM;
	put(bench, 0, 4096);
	CU_ASSERT_TRUE(says(bench, "ibv_post_send"));
	for (guint i = 0; i < 100; i++)
		CU_ASSERT_FALSE(put(bench, i, 512));
	CU_ASSERT_FALSE(ferry_rdma_queues_fence(bench->queues, 1));
	ferry_rdma_queues_flush(bench->queues);
	CU_ASSERT_EQUAL(device.posts, 1);
}

static void poll__fails__ends_the_link(void)
{
	g_autoptr(Bench) bench = bench_new(1);

	device.poll_result = -1;
	CU_ASSERT_EQUAL(ferry_rdma_queues_poll(bench->queues), 0);
	CU_ASSERT_TRUE(says(bench, "ibv_poll_cq"));
}

/* A thousand writes of any length with completions at any time: nothing is lost or counted twice.
 * */
static void queues__random_traffic__keep_count(void)
{
	g_autoptr(Bench) bench = bench_new(QUEUES);
	g_autoptr(GRand) random = g_rand_new_with_seed(20);
	guint64 written = 0;
	FerryRdmaQueueStats stats;

	for (guint i = 0; i < 1000;) {
		guint32 len = 512u * (guint32)g_rand_int_range(random, 1, 100);

		if (put(bench, i, len)) {
			written += len;
			i++;
		} else {
			ferry_rdma_queues_flush(bench->queues);
		}
		if (device.n && g_rand_int_range(random, 0, 3) == 0) {
			device.n_done = device.taken = 0;
			for (guint j = 0; j < device.n; j++)
				if (device.log[j].flags)
					complete(j, IBV_WC_SUCCESS);
			device.n = 0;
			ferry_rdma_queues_poll(bench->queues);
		}
	}
	CU_ASSERT_FALSE(ferry_rdma_link_is_dead(bench->link));
	ferry_rdma_queues_flush(bench->queues);
	device.n_done = device.taken = 0;
	for (guint j = 0; j < device.n; j++)
		if (device.log[j].flags)
			complete(j, IBV_WC_SUCCESS);
	ferry_rdma_queues_poll(bench->queues);
	CU_ASSERT_TRUE(ferry_rdma_queues_is_idle(bench->queues));
	CU_ASSERT_EQUAL(bench->busy, 0);
	ferry_rdma_queues_get_stats(bench->queues, &stats);
	CU_ASSERT_EQUAL(stats.bytes, written);
	CU_ASSERT_EQUAL(stats.writes, 1000);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(write__on_an_idle_queue__is_posted_at_once_and_signalled),
		CASE(write__small_ones_behind_another__go_in_chains_with_the_last_signalled),
		CASE(completion__of_a_chain__frees_all_before_it),
		CASE(write__large_ones__go_round_the_queues),
		CASE(write__beyond_every_window__is_refused_until_a_completion),
		CASE(write__longer_than_the_window__goes_alone),
		CASE(write__more_than_slots__is_refused_and_ids_come_round),
		CASE(completions__of_queues_in_any_order__free_each_its_own),
		CASE(completion__of_nothing_in_flight__fails_the_link),
		CASE(completion__twice__fails_the_link),
		CASE(completion__with_each_status__is_told_by_name_and_place),
		CASE(completions__flushed_before_the_cause__name_the_cause),
		CASE(completions__flushed_for_an_event__name_the_event),
		CASE(completions__flushed_without_signal__are_counted_one_by_one),
		CASE(fence__with_writes_waiting__goes_behind_them_on_every_queue),
		CASE(fence__without_a_slot__waits_and_is_posted_once),
		CASE(post__fails__ends_the_link_and_takes_nothing_more),
		CASE(poll__fails__ends_the_link),
		CASE(queues__random_traffic__keep_count),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "rdma queues", cases);
}
