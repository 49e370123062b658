/* SPDX-License-Identifier: BSD-2-Clause */
#include "raw-link.h"
#include "raw-window.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <rdma/rdma_cma.h>
#include <sys/mman.h>
#include <ferry/bytes.h>
#include <ferry/error.h>

#define STEP_MS 3000 /* the deadline of each step of connecting */

/* A lost packet is sent again after 134 ms, six times at most: 0.8 s until a dead peer shows. */
#define ACK_TIMEOUT 15
#define RETRIES 5

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

/* Waits for the answer to the step that was begun last. @target gets what ESTABLISHED brings. */
static gboolean await(Client *client, enum rdma_cm_event_type wanted, FerryBenchRawTarget *target,
		      GError **error)
{
	struct pollfd fd = { client->events->fd, POLLIN, 0 };
	struct rdma_cm_event *event;
	enum rdma_cm_event_type type;
	int status;

	if (poll(&fd, 1, STEP_MS) != 1) {
		g_set_error(
			error, FERRY_ERROR, FERRY_ERROR_LINK,
			"raw writes: no %s within %d s; does the fabric pass UDP port 4791, and is "
			"the listener's address on an RDMA port?",
			rdma_event_str(wanted), STEP_MS / 1000);
		return FALSE;
	}
	if (rdma_get_cm_event(client->events, &event))
		return ferry_bench_raw_failed(error, "rdma_get_cm_event");
	type = event->event;
	status = event->status;
	if (type == wanted && target &&
	    event->param.conn.private_data_len >= FERRY_BENCH_RAW_REGION_SIZE) {
		target->address = ferry_load_be64(event->param.conn.private_data);
		target->key = ferry_load_be32((const guint8 *)event->param.conn.private_data + 8);
	}
	rdma_ack_cm_event(event);
	if (type == wanted)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
		    "raw writes: expected %s, but there was %s (status %d)", rdma_event_str(wanted),
		    rdma_event_str(type), status);
	return FALSE;
}

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
	struct rdma_conn_param param = { .retry_count = RETRIES, .rnr_retry_count = RETRIES };
	uint8_t timeout = ACK_TIMEOUT;
	struct rdma_cm_id *id;

	if (rdma_create_id(client->events, &id, NULL, RDMA_PS_TCP))
		return ferry_bench_raw_failed(error, "rdma_create_id");
	client->ids[client->n++] = id;
	if (rdma_resolve_addr(id, (struct sockaddr *)local, (struct sockaddr *)peer, STEP_MS))
		return ferry_bench_raw_failed(error, "rdma_resolve_addr");
	if (!await(client, RDMA_CM_EVENT_ADDR_RESOLVED, NULL, error))
		return FALSE;
	/* Old kernels do not know it and keep the fabric's own. */
	rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout, sizeof(timeout));
	if (rdma_resolve_route(id, STEP_MS))
		return ferry_bench_raw_failed(error, "rdma_resolve_route");
	if (!await(client, RDMA_CM_EVENT_ROUTE_RESOLVED, NULL, error) ||
	    !make_queue(client, id, error))
		return FALSE;
	if (rdma_connect(id, &param))
		return ferry_bench_raw_failed(error, "rdma_connect");
	target->qp = id->qp;
	return await(client, RDMA_CM_EVENT_ESTABLISHED, target, error);
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
