/* SPDX-License-Identifier: BSD-2-Clause */
#include "fake-verbs.h"
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>

/* The fake device itself: what the tests of the carrier rely on. */

#define PORT 4444
#define SIZE 65536u
#define DEPTH 8u

typedef struct {
	const FerryVerbs *verbs;
	struct rdma_event_channel *channel;
	struct rdma_cm_id *listener; /* destination */
	struct rdma_cm_id *id;
	struct ibv_pd *pd;
	struct ibv_comp_channel *comp_channel;
	struct ibv_cq *cq;
	struct ibv_mr *mr;
	guint8 *memory;
} Side;

typedef struct {
	FakeNic *nic;
	Side source, destination;
} Pair;

/* The next event's type; -1: none. What it carried is in *@out. */
static int take_event(Side *side, struct rdma_cm_event *out)
{
	struct rdma_cm_event *event;
	int type;

	if (side->verbs->get_cm_event(side->channel, &event))
		return -1;
	type = event->event;
	if (out)
		*out = *event;
	side->verbs->ack_cm_event(event);
	return type;
}

static void make_side(Side *side, FakeSide which)
{
	side->verbs = fake_verbs(which);
	side->channel = side->verbs->create_event_channel();
	fcntl(side->channel->fd, F_SETFL, O_NONBLOCK);
	side->memory = g_malloc0(SIZE);
}

static void make_queue(Side *side, int access)
{
	struct ibv_qp_init_attr attr = { .qp_type = IBV_QPT_RC,
					 .cap = { .max_send_wr = DEPTH,
						  .max_recv_wr = DEPTH,
						  .max_send_sge = 1,
						  .max_recv_sge = 1 } };

	side->pd = side->verbs->alloc_pd(side->id->verbs);
	side->comp_channel = side->verbs->create_comp_channel(side->id->verbs);
	fcntl(side->comp_channel->fd, F_SETFL, O_NONBLOCK);
	side->cq = side->verbs->create_cq(side->id->verbs, 2 * DEPTH, NULL, side->comp_channel, 0);
	side->mr = side->verbs->reg_mr(side->pd, side->memory, SIZE, access);
	attr.send_cq = attr.recv_cq = side->cq;
	CU_ASSERT_EQUAL(side->verbs->create_qp(side->id, side->pd, &attr), 0);
}

static void free_side(Side *side)
{
	if (side->id->qp)
		side->verbs->destroy_qp(side->id);
	side->verbs->destroy_id(side->id);
	if (side->listener)
		side->verbs->destroy_id(side->listener);
	side->verbs->dereg_mr(side->mr);
	side->verbs->destroy_cq(side->cq);
	side->verbs->destroy_comp_channel(side->comp_channel);
	side->verbs->dealloc_pd(side->pd);
	side->verbs->destroy_event_channel(side->channel);
	g_free(side->memory);
}

static void pair_open(Pair *pair)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons(PORT),
				       .sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct rdma_conn_param param = { .private_data = "hello",
					 .private_data_len = 5,
					 .rnr_retry_count = 7 };
	Side *s = &pair->source, *d = &pair->destination;
	struct rdma_cm_event event = { 0 };

	memset(pair, 0, sizeof(*pair));
	pair->nic = fake_nic_new(1);
	make_side(s, FAKE_SOURCE);
	make_side(d, FAKE_DESTINATION);
	d->verbs->create_id(d->channel, &d->listener, NULL, RDMA_PS_TCP);
	CU_ASSERT_EQUAL(d->verbs->bind_addr(d->listener, (struct sockaddr *)&address), 0);
	CU_ASSERT_EQUAL(d->verbs->listen(d->listener, 1), 0);
	s->verbs->create_id(s->channel, &s->id, NULL, RDMA_PS_TCP);
	s->verbs->resolve_addr(s->id, NULL, (struct sockaddr *)&address, 100);
	CU_ASSERT_EQUAL(take_event(s, NULL), RDMA_CM_EVENT_ADDR_RESOLVED);
	s->verbs->resolve_route(s->id, 100);
	CU_ASSERT_EQUAL(take_event(s, NULL), RDMA_CM_EVENT_ROUTE_RESOLVED);
	make_queue(s, 0);
	CU_ASSERT_EQUAL(s->verbs->connect(s->id, &param), 0);
	CU_ASSERT_EQUAL(take_event(d, &event), RDMA_CM_EVENT_CONNECT_REQUEST);
	CU_ASSERT_EQUAL(event.param.conn.private_data_len, 56);
	d->id = event.id;
	make_queue(d, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	CU_ASSERT_EQUAL(d->verbs->accept(d->id, &param), 0);
	CU_ASSERT_EQUAL(take_event(s, NULL), RDMA_CM_EVENT_ESTABLISHED);
	CU_ASSERT_EQUAL(take_event(d, NULL), RDMA_CM_EVENT_ESTABLISHED);
	CU_ASSERT_EQUAL(take_event(d, NULL), -1);
	CU_ASSERT_EQUAL(errno, EAGAIN);
}

/* NULL: nothing forbidden was done, nothing is left. */
static void pair_close(Pair *pair, const char *problem)
{
	g_autofree char *found = NULL;

	free_side(&pair->source);
	free_side(&pair->destination);
	found = fake_nic_check(pair->nic);
	if (problem ? !found || !strstr(found, problem) : found != NULL)
		printf("# %s\n", found ? found : "nothing found");
	CU_ASSERT(problem ? found && strstr(found, problem) : !found);
	fake_nic_free(pair->nic);
}

/* Page @page of the source to the same place; @fence: and tells it. */
static int post(Pair *pair, guint page, gboolean fence, gboolean signalled)
{
	struct ibv_sge sge = { (guintptr)pair->source.memory + page * 4096, 4096,
			       pair->source.mr->lkey };
	struct ibv_send_wr *bad,
		wr = { .wr_id = page,
		       .sg_list = &sge,
		       .num_sge = fence ? 0 : 1,
		       .opcode = fence ? IBV_WR_RDMA_WRITE_WITH_IMM : IBV_WR_RDMA_WRITE,
		       .send_flags = signalled ? IBV_SEND_SIGNALED : 0,
		       .imm_data = htonl(page) };

	wr.wr.rdma.remote_addr = (guintptr)pair->destination.memory + page * 4096;
	wr.wr.rdma.rkey = pair->destination.mr->rkey;
	return pair->source.verbs->post_send(pair->source.id->qp, &wr, &bad);
}

static int post_receive(Side *side, guint64 id)
{
	struct ibv_recv_wr *bad, wr = { .wr_id = id };

	return side->verbs->post_recv(side->id->qp, &wr, &bad);
}

/* The next completion within 2 s. */
static struct ibv_wc take_completion(Side *side)
{
	gint64 end = g_get_monotonic_time() + 2 * G_USEC_PER_SEC;
	struct ibv_wc wc;

	while (g_get_monotonic_time() < end) {
		if (side->verbs->poll_cq(side->cq, 1, &wc) == 1)
			return wc;
		g_thread_yield();
	}
	CU_FAIL("no completion");
	return (struct ibv_wc){ .status = IBV_WC_GENERAL_ERR };
}

static void write__to_a_region__lands_and_completes_in_order(void)
{
	struct ibv_cq *cq;
	void *user;
	Pair pair;

	pair_open(&pair);
	memset(pair.source.memory, 0xa5, SIZE);
	pair.source.verbs->req_notify_cq(pair.source.cq, 0);
	for (guint i = 0; i < 4; i++)
		CU_ASSERT_EQUAL(post(&pair, i, FALSE, i == 3), 0);
	CU_ASSERT_EQUAL(poll(&(struct pollfd){ pair.source.comp_channel->fd, POLLIN, 0 }, 1, 2000),
			1);
	CU_ASSERT_EQUAL(pair.source.verbs->get_cq_event(pair.source.comp_channel, &cq, &user), 0);
	CU_ASSERT_EQUAL(pair.source.verbs->get_cq_event(pair.source.comp_channel, &cq, &user), -1);
	CU_ASSERT_EQUAL(errno, EAGAIN);
	pair.source.verbs->ack_cq_events(pair.source.cq, 1);
	CU_ASSERT_EQUAL(take_completion(&pair.source).wr_id, 3);
	CU_ASSERT_EQUAL(memcmp(pair.destination.memory, pair.source.memory, 4 * 4096), 0);
	CU_ASSERT_EQUAL(pair.destination.memory[4 * 4096], 0);
	pair_close(&pair, NULL);
}

static void write__visibility_delayed__lands_at_the_fence(void)
{
	struct ibv_wc wc;
	Pair pair;

	pair_open(&pair);
	fake_config(pair.nic)->delay_visibility = TRUE;
	memset(pair.source.memory, 0x5a, SIZE);
	post_receive(&pair.destination, 77);
	post(&pair, 0, FALSE, FALSE);
	post(&pair, 1, FALSE, TRUE);
	CU_ASSERT_EQUAL(take_completion(&pair.source).status, IBV_WC_SUCCESS);
	CU_ASSERT_EQUAL(pair.destination.memory[0], 0);
	post(&pair, 9, TRUE, TRUE);
	wc = take_completion(&pair.destination);
	CU_ASSERT_EQUAL(wc.wr_id, 77);
	CU_ASSERT_EQUAL(ntohl(wc.imm_data), 9);
	CU_ASSERT_EQUAL(wc.opcode, IBV_WC_RECV_RDMA_WITH_IMM);
	CU_ASSERT_EQUAL(memcmp(pair.destination.memory, pair.source.memory, 2 * 4096), 0);
	pair_close(&pair, NULL);
}

static void write__fence_void__stays_aside(void)
{
	Pair pair;

	pair_open(&pair);
	fake_config(pair.nic)->delay_visibility = TRUE;
	fake_config(pair.nic)->void_fences = TRUE;
	memset(pair.source.memory, 0x5a, SIZE);
	post_receive(&pair.destination, 77);
	post(&pair, 0, FALSE, FALSE);
	post(&pair, 9, TRUE, TRUE);
	CU_ASSERT_EQUAL(take_completion(&pair.destination).status, IBV_WC_SUCCESS);
	CU_ASSERT_EQUAL(pair.destination.memory[0], 0);
	pair_close(&pair, NULL);
}

static void write__wrong_key__fails_both_ends(void)
{
	struct ibv_async_event event;
	Pair pair;

	pair_open(&pair);
	post_receive(&pair.destination, 77);
	pair.destination.mr->rkey ^= 0x40;
	post(&pair, 0, FALSE, FALSE);
	post(&pair, 1, FALSE, FALSE);
	CU_ASSERT_EQUAL(take_completion(&pair.source).status, IBV_WC_REM_ACCESS_ERR);
	CU_ASSERT_EQUAL(take_completion(&pair.source).status, IBV_WC_WR_FLUSH_ERR);
	CU_ASSERT_EQUAL(take_completion(&pair.destination).status, IBV_WC_WR_FLUSH_ERR);
	CU_ASSERT_EQUAL(pair.destination.verbs->get_async_event(pair.destination.id->verbs, &event),
			0);
	CU_ASSERT_EQUAL(event.event_type, IBV_EVENT_QP_ACCESS_ERR);
	pair.destination.verbs->ack_async_event(&event);
	pair.destination.mr->rkey ^= 0x40;
	pair_close(&pair, NULL);
}

static void write__past_the_region__fails(void)
{
	Pair pair;

	pair_open(&pair);
	pair.destination.memory += SIZE - 4096;
	post(&pair, 1, FALSE, FALSE);
	CU_ASSERT_EQUAL(take_completion(&pair.source).status, IBV_WC_REM_ACCESS_ERR);
	pair.destination.memory -= SIZE - 4096;
	pair_close(&pair, NULL);
}

static void fence__no_receive__waits_for_one(void)
{
	Pair pair;

	pair_open(&pair);
	post(&pair, 5, TRUE, TRUE);
	CU_ASSERT_EQUAL(poll(&(struct pollfd){ pair.source.comp_channel->fd, POLLIN, 0 }, 1, 20),
			0);
	post_receive(&pair.destination, 78);
	CU_ASSERT_EQUAL(take_completion(&pair.source).status, IBV_WC_SUCCESS);
	CU_ASSERT_EQUAL(take_completion(&pair.destination).wr_id, 78);
	pair_close(&pair, NULL);
}

static void queue__overrun__is_found(void)
{
	Pair pair;

	pair_open(&pair);
	for (guint i = 0; i < DEPTH; i++)
		CU_ASSERT_EQUAL(post(&pair, i, FALSE, FALSE), 0);
	CU_ASSERT_EQUAL(post(&pair, 9, FALSE, FALSE), ENOMEM);
	pair_close(&pair, "send queue overrun");
}

static void wire__cut__ends_work_and_tells_nobody(void)
{
	Pair pair;

	pair_open(&pair);
	fake_cut(pair.nic);
	post(&pair, 0, FALSE, FALSE);
	CU_ASSERT_EQUAL(take_completion(&pair.source).status, IBV_WC_RETRY_EXC_ERR);
	CU_ASSERT_EQUAL(take_event(&pair.destination, NULL), -1);
	pair_close(&pair, NULL);
}

static void side__killed__other_is_told(void)
{
	Pair pair;

	pair_open(&pair);
	fake_kill(pair.nic, FAKE_DESTINATION);
	CU_ASSERT_EQUAL(take_event(&pair.source, NULL), RDMA_CM_EVENT_DISCONNECTED);
	post(&pair, 0, FALSE, FALSE);
	CU_ASSERT_EQUAL(take_completion(&pair.source).status, IBV_WC_RETRY_EXC_ERR);
	pair_close(&pair, NULL);
}

static void queue_pair__to_the_error_state__flushes_and_lets_nothing_in(void)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };
	Pair pair;

	pair_open(&pair);
	fake_config(pair.nic)->retry_us = 1000;
	post_receive(&pair.destination, 77);
	CU_ASSERT_EQUAL(
		pair.destination.verbs->modify_qp(pair.destination.id->qp, &attr, IBV_QP_STATE), 0);
	CU_ASSERT_EQUAL(take_completion(&pair.destination).status, IBV_WC_WR_FLUSH_ERR);
	memset(pair.source.memory, 1, SIZE);
	post(&pair, 0, FALSE, FALSE);
	CU_ASSERT_EQUAL(take_completion(&pair.source).status, IBV_WC_RETRY_EXC_ERR);
	CU_ASSERT_EQUAL(pair.destination.memory[0], 0);
	pair_close(&pair, NULL);
}

static void faults__of_calls_and_work__happen_once(void)
{
	Pair pair;

	pair_open(&pair);
	fake_fail(pair.nic, FAKE_SOURCE, FAKE_REG_MR, 2, ENOMEM);
	CU_ASSERT_FALSE(fake_happened(pair.nic, FAKE_SOURCE, FAKE_REG_MR));
	pair.source.verbs->dereg_mr(pair.source.mr);
	pair.source.mr = pair.source.verbs->reg_mr(pair.source.pd, pair.source.memory, SIZE, 0);
	CU_ASSERT_PTR_NOT_NULL(pair.source.mr);
	CU_ASSERT_PTR_NULL(pair.source.verbs->reg_mr(pair.source.pd, pair.source.memory, SIZE, 0));
	CU_ASSERT_EQUAL(errno, ENOMEM);
	CU_ASSERT_TRUE(fake_happened(pair.nic, FAKE_SOURCE, FAKE_REG_MR));
	fake_fail_work(pair.nic, FAKE_SOURCE, 2, IBV_WC_LOC_LEN_ERR);
	for (guint i = 0; i < 3; i++)
		post(&pair, i, FALSE, FALSE);
	CU_ASSERT_EQUAL(take_completion(&pair.source).status, IBV_WC_LOC_LEN_ERR);
	CU_ASSERT_EQUAL(take_completion(&pair.source).status, IBV_WC_WR_FLUSH_ERR);
	pair_close(&pair, NULL);
}

static void destroying__in_a_wrong_order__is_found(void)
{
	struct rdma_cm_event *event;
	Pair pair;

	pair_open(&pair);
	CU_ASSERT_EQUAL(pair.source.verbs->dealloc_pd(pair.source.pd), EBUSY);
	CU_ASSERT_EQUAL(pair.source.verbs->destroy_cq(pair.source.cq), EBUSY);
	fake_cm_event(pair.nic, FAKE_SOURCE, 0, RDMA_CM_EVENT_ADDR_CHANGE, 0);
	CU_ASSERT_EQUAL(pair.source.verbs->get_cm_event(pair.source.channel, &event), 0);
	CU_ASSERT_EQUAL(pair.source.verbs->migrate_id(pair.source.id, pair.source.channel), 0);
	pair.source.verbs->ack_cm_event(event);
	pair_close(&pair, "rdma_migrate_id hangs");
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(write__to_a_region__lands_and_completes_in_order),
		CASE(write__visibility_delayed__lands_at_the_fence),
		CASE(write__fence_void__stays_aside),
		CASE(write__wrong_key__fails_both_ends),
		CASE(write__past_the_region__fails),
		CASE(fence__no_receive__waits_for_one),
		CASE(queue__overrun__is_found),
		CASE(wire__cut__ends_work_and_tells_nobody),
		CASE(side__killed__other_is_told),
		CASE(queue_pair__to_the_error_state__flushes_and_lets_nothing_in),
		CASE(faults__of_calls_and_work__happen_once),
		CASE(destroying__in_a_wrong_order__is_found),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "fake-verbs", cases);
}
