/* SPDX-License-Identifier: BSD-2-Clause */
#include "raw-link.h"
#include "raw-cm.h"

#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <ferry/bytes.h>
#include <ferry/error.h>

/* Freed from the last field to the first. */
struct FerryBenchRawServer {
	FerryBenchRawShape shape;
	struct rdma_event_channel *events;
	struct rdma_cm_id *listener;
	void *buffer;
	struct ibv_pd *pd;
	struct ibv_mr *region;
	struct ibv_cq *cq;
	guint n; /* ids that connected */
	struct rdma_cm_id **ids;
};

FerryBenchRawServer *ferry_bench_raw_server_new(const struct sockaddr *local,
						const FerryBenchRawShape *shape, guint16 *port,
						GError **error)
{
	g_autoptr(FerryBenchRawServer) server = g_new0(FerryBenchRawServer, 1);

	server->shape = *shape;
	server->ids = g_new0(struct rdma_cm_id *, shape->queue_pairs);
	server->buffer = ferry_bench_raw_map(ferry_bench_raw_bytes(shape), error);
	if (!server->buffer)
		return NULL;
	server->events = rdma_create_event_channel();
	if (!server->events)
		return ferry_bench_raw_failed(error, "rdma_create_event_channel"), NULL;
	if (rdma_create_id(server->events, &server->listener, NULL, RDMA_PS_TCP))
		return ferry_bench_raw_failed(error, "rdma_create_id"), NULL;
	if (rdma_bind_addr(server->listener, (struct sockaddr *)local))
		return ferry_bench_raw_failed(error, "rdma_bind_addr"), NULL;
	if (rdma_listen(server->listener, shape->queue_pairs))
		return ferry_bench_raw_failed(error, "rdma_listen"), NULL;
	*port = g_ntohs(rdma_get_src_port(server->listener));
	return g_steal_pointer(&server);
}

/* What hangs on the device of the first connection. */
static gboolean set_up(FerryBenchRawServer *server, struct ibv_context *context, GError **error)
{
	server->pd = ibv_alloc_pd(context);
	if (!server->pd)
		return ferry_bench_raw_failed(error, "ibv_alloc_pd");
	server->region = ibv_reg_mr(server->pd, server->buffer,
				    ferry_bench_raw_bytes(&server->shape),
				    IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	if (!server->region)
		return ferry_bench_raw_failed(error, "ibv_reg_mr");
	server->cq = ibv_create_cq(context, server->shape.queue_pairs, NULL, NULL, 0);
	return server->cq || ferry_bench_raw_failed(error, "ibv_create_cq");
}

/* Takes @id over, also on failure. */
static gboolean accept_one(FerryBenchRawServer *server, struct rdma_cm_id *id, GError **error)
{
	guint64 part = server->shape.size * server->shape.depth;
	guint number = server->n;
	guint8 place[FERRY_BENCH_RAW_REGION_SIZE];
	struct ibv_qp_init_attr attributes = { .qp_type = IBV_QPT_RC };
	struct rdma_conn_param param = { .private_data = place, .private_data_len = sizeof(place) };

	server->ids[server->n++] = id;
	if (!server->pd && !set_up(server, id->verbs, error))
		return FALSE;
	attributes.send_cq = attributes.recv_cq = server->cq;
	attributes.cap.max_send_wr = attributes.cap.max_recv_wr = 1;
	attributes.cap.max_send_sge = attributes.cap.max_recv_sge = 1;
	if (rdma_create_qp(id, server->pd, &attributes))
		return ferry_bench_raw_failed(error, "rdma_create_qp");
	ferry_store_be64(place, (guintptr)server->buffer + number * part);
	ferry_store_be32(place + 8, server->region->rkey);
	return !rdma_accept(id, &param) || ferry_bench_raw_failed(error, "rdma_accept");
}

static gboolean take_event(FerryBenchRawServer *server, GError **error)
{
	struct rdma_cm_event *event;
	enum rdma_cm_event_type type;
	struct rdma_cm_id *id;

	if (rdma_get_cm_event(server->events, &event))
		return ferry_bench_raw_failed(error, "rdma_get_cm_event");
	type = event->event;
	id = event->id;
	rdma_ack_cm_event(event);
	if (type == RDMA_CM_EVENT_CONNECT_REQUEST && server->n < server->shape.queue_pairs)
		return accept_one(server, id, error);
	if (type == RDMA_CM_EVENT_CONNECT_REQUEST) {
		rdma_reject(id, NULL, 0);
		rdma_destroy_id(id);
	} else if (type == RDMA_CM_EVENT_DISCONNECTED) {
		rdma_disconnect(id);
	} else if (type == RDMA_CM_EVENT_DEVICE_REMOVAL || type == RDMA_CM_EVENT_CONNECT_ERROR) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK, "raw verbs: %s",
			    rdma_event_str(type));
		return FALSE;
	}
	return TRUE;
}

gboolean ferry_bench_raw_server_run(FerryBenchRawServer *server, int until, GError **error)
{
	struct pollfd fds[] = { { until, POLLIN, 0 }, { server->events->fd, POLLIN, 0 } };

	for (;;) {
		if (poll(fds, G_N_ELEMENTS(fds), -1) < 0 && errno != EINTR)
			return ferry_bench_raw_failed(error, "poll");
		if (fds[0].revents)
			return TRUE;
		if (fds[1].revents && !take_event(server, error))
			return FALSE;
	}
}

void ferry_bench_raw_server_free(FerryBenchRawServer *server)
{
	for (guint i = 0; i < server->n; i++) {
		if (server->ids[i]->qp)
			rdma_destroy_qp(server->ids[i]);
		rdma_destroy_id(server->ids[i]);
	}
	g_free(server->ids);
	if (server->cq)
		ibv_destroy_cq(server->cq);
	if (server->region)
		ibv_dereg_mr(server->region);
	if (server->pd)
		ibv_dealloc_pd(server->pd);
	if (server->listener)
		rdma_destroy_id(server->listener);
	if (server->events)
		rdma_destroy_event_channel(server->events);
	if (server->buffer)
		munmap(server->buffer, ferry_bench_raw_bytes(&server->shape));
	g_free(server);
}
