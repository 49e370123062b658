/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "queue-bench.h"

/* Writes that are told to the peer, which gives back what they took. */

static void tell__a_write__carries_the_number_of_its_page_through_all_blocks(void)
{
	g_autoptr(Bench) bench = bench_new(1);
	FerryRdmaWrite write = { .len = 4096, .block = 1, .page = 5 };

	ferry_rdma_queues_tell(bench->queues, WINDOW, CHAIN_SIZE);
	CU_ASSERT_EQUAL(device.n_receives, FERRY_RDMA_BACKS);
	CU_ASSERT_TRUE(ferry_rdma_queues_write(bench->queues, &write));
	CU_ASSERT_EQUAL(device.log[0].opcode, IBV_WR_RDMA_WRITE_WITH_IMM);
	CU_ASSERT_EQUAL(ntohl(device.log[0].imm), (1u << 18) + 5);
	CU_ASSERT_EQUAL(device.log[0].len, 4096);
}

/* Writes @n of them one after the other, as far as there is room. */
static guint write_and_complete(Bench *bench, guint n)
{
	guint i;

	for (i = 0; i < n && put(bench, i, 4096); i++) {
		complete(device.n - 1, IBV_WC_SUCCESS);
		ferry_rdma_queues_poll(bench->queues);
	}
	return i;
}

static void give_back(guint32 n)
{
	device.done[device.n_done++] = (struct ibv_wc){
		.wr_id = device.receives[0],
		.opcode = IBV_WC_RECV_RDMA_WITH_IMM,
		.imm_data = htonl(n),
	};
}

static void tell__writes_not_given_back__have_no_room(void)
{
	g_autoptr(Bench) bench = bench_new(1);

	ferry_rdma_queues_tell(bench->queues, WINDOW, CHAIN_SIZE);
	CU_ASSERT_EQUAL(write_and_complete(bench, 2 * FERRY_RDMA_CREDITS), FERRY_RDMA_CREDITS);
	CU_ASSERT_FALSE(ferry_rdma_queues_has_room(bench->queues, 1, 4096));
	/* A fence has a receive of its own. */
	CU_ASSERT_TRUE(ferry_rdma_queues_fence(bench->queues, 3));
	give_back(16);
	CU_ASSERT_EQUAL(ferry_rdma_queues_poll(bench->queues), 1);
	CU_ASSERT_EQUAL(device.n_receives, FERRY_RDMA_BACKS + 1);
	CU_ASSERT_TRUE(ferry_rdma_queues_has_room(bench->queues, 8, 8 * 4096));
	CU_ASSERT_FALSE(ferry_rdma_queues_has_room(bench->queues, 17, 17 * 4096));
	CU_ASSERT_EQUAL(write_and_complete(bench, 17), 16);
	CU_ASSERT_PTR_NULL(bench->link->error);
}

static void tell__given_back_more_than_was_taken__fails_the_link(void)
{
	g_autoptr(Bench) bench = bench_new(1);

	ferry_rdma_queues_tell(bench->queues, WINDOW, CHAIN_SIZE);
	write_and_complete(bench, 5);
	give_back(6);
	ferry_rdma_queues_poll(bench->queues);
	CU_ASSERT_TRUE(says(bench, "gives back 6 writes"));
}

static void tell__receive_fails__fails_the_link_by_name(void)
{
	g_autoptr(Bench) bench = bench_new(1);

	ferry_rdma_queues_tell(bench->queues, WINDOW, CHAIN_SIZE);
	give_back(0);
	device.done[0].status = IBV_WC_LOC_LEN_ERR;
	ferry_rdma_queues_poll(bench->queues);
	CU_ASSERT_TRUE(says(bench, "IBV_WC_LOC_LEN_ERR"));
}

static void tell__no_receive_can_be_posted__fails_the_link(void)
{
	g_autoptr(Bench) bench = bench_new(1);

	device.receive_result = ENOMEM;
	ferry_rdma_queues_tell(bench->queues, WINDOW, CHAIN_SIZE);
	CU_ASSERT_TRUE(says(bench, "ibv_post_recv"));
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(tell__a_write__carries_the_number_of_its_page_through_all_blocks),
		CASE(tell__writes_not_given_back__have_no_room),
		CASE(tell__given_back_more_than_was_taken__fails_the_link),
		CASE(tell__receive_fails__fails_the_link_by_name),
		CASE(tell__no_receive_can_be_posted__fails_the_link),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "rdma queues that tell", cases);
}
