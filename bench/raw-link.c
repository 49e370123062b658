/* SPDX-License-Identifier: BSD-2-Clause */
#include "raw-link.h"
#include "raw-cm.h"
#include "raw-window.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <ferry/bytes.h>
#include <ferry/error.h>

/* Freed from the last field to the first. */
typedef struct {
	FerryBenchRawShape shape;
	struct rdma_event_channel *events;
	void *buffer;
	struct ibv_pd *pd;
	struct ibv_mr *region;
	struct ibv_comp_channel *completions;
	struct ibv_cq *cq;
	guint n; /* ids that were made */
	struct rdma_cm_id **ids;
	FerryBenchRawTarget *targets; /* where each queue pair writes */
} Client;

static void client_free(Client *client)
{
	for (guint i = 0; i < client->n; i++) {
		if (client->ids[i]->qp) {
			rdma_disconnect(client->ids[i]);
			rdma_destroy_qp(client->ids[i]);
		}
		rdma_destroy_id(client->ids[i]);
	}
	g_free(client->ids);
	g_free(client->targets);
	if (client->cq)
		ibv_destroy_cq(client->cq);
	if (client->completions)
		ibv_destroy_comp_channel(client->completions);
	if (client->region)
		ibv_dereg_mr(client->region);
	if (client->pd)
		ibv_dealloc_pd(client->pd);
	if (client->events)
		rdma_destroy_event_channel(client->events);
	if (client->buffer)
		munmap(client->buffer, ferry_bench_raw_bytes(&client->shape));
	g_free(client);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Client, client_free)

static gboolean set_up(Client *client, struct ibv_context *context, GError **error)
{
	client->pd = ibv_alloc_pd(context);
	if (!client->pd)
		return ferry_bench_raw_failed(error, "ibv_alloc_pd");
	client->region = ibv_reg_mr(client->pd, client->buffer,
				    ferry_bench_raw_bytes(&client->shape), 0);
	if (!client->region)
		return ferry_bench_raw_failed(error, "ibv_reg_mr");
	client->completions = ibv_create_comp_channel(context);
	if (!client->completions)
		return ferry_bench_raw_failed(error, "ibv_create_comp_channel");
	fcntl(client->completions->fd, F_SETFL, O_NONBLOCK);
	client->cq = ibv_create_cq(context, client->shape.queue_pairs * client->shape.depth, NULL,
				   client->completions, 0);
	return client->cq || ferry_bench_raw_failed(error, "ibv_create_cq");
}

static gboolean make_queue(Client *client, struct rdma_cm_id *id, GError **error)
{
	struct ibv_qp_init_attr attributes = {
		.qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = client->shape.depth,
			 .max_recv_wr = 1,
			 .max_send_sge = 1,
			 .max_recv_sge = 1 },
	};

	if (!client->pd && !set_up(client, id->verbs, error))
		return FALSE;
	attributes.send_cq = attributes.recv_cq = client->cq;
	return !rdma_create_qp(id, client->pd, &attributes) ||
	       ferry_bench_raw_failed(error, "rdma_create_qp");
}

static gboolean connect_one(Client *client, const struct sockaddr *local,
			    const struct sockaddr *peer, GError **error)
{
	FerryBenchRawTarget *target = &client->targets[client->n];
	struct rdma_conn_param param = { .retry_count = FERRY_BENCH_RAW_RETRIES,
					 .rnr_retry_count = FERRY_BENCH_RAW_RETRIES };
	guint8 place[FERRY_BENCH_RAW_REGION_SIZE] = { 0 };
	struct rdma_cm_id *id = ferry_bench_raw_resolve(client->events, local, peer, error);

	if (!id)
		return FALSE;
	client->ids[client->n++] = id;
	if (!make_queue(client, id, error))
		return FALSE;
	if (rdma_connect(id, &param))
		return ferry_bench_raw_failed(error, "rdma_connect");
	if (!ferry_bench_raw_await(client->events, RDMA_CM_EVENT_ESTABLISHED, place, error))
		return FALSE;
	target->qp = id->qp;
	target->address = ferry_load_be64(place);
	target->key = ferry_load_be32(place + 8);
	return TRUE;
}

gboolean ferry_bench_raw_measure(const struct sockaddr *local, const struct sockaddr *peer,
				 const FerryBenchRawShape *shape, double seconds, double *rate,
				 GError **error)
{
	g_autoptr(Client) client = g_new0(Client, 1);

	client->shape = *shape;
	client->ids = g_new0(struct rdma_cm_id *, shape->queue_pairs);
	client->targets = g_new0(FerryBenchRawTarget, shape->queue_pairs);
	client->buffer = ferry_bench_raw_map(ferry_bench_raw_bytes(shape), error);
	if (!client->buffer)
		return FALSE;
	client->events = rdma_create_event_channel();
	if (!client->events)
		return ferry_bench_raw_failed(error, "rdma_create_event_channel");
	for (guint i = 0; i < shape->queue_pairs; i++)
		if (!connect_one(client, local, peer, error))
			return FALSE;
	return ferry_bench_raw_write(shape, client->targets, client->region, client->cq, seconds,
				     rate, error);
}
