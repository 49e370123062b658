/* SPDX-License-Identifier: BSD-2-Clause */
#include "raw-floor.h"
#include "raw-cm.h"

#include <ferry/bytes.h>

/* Freed from the last field to the first. */
struct FerryBenchMemory {
	struct rdma_event_channel *events;
	struct rdma_cm_id *id;
	struct ibv_pd *pd;
	struct ibv_mr *region;
	struct ibv_cq *cq;
};

/* Nothing is ever posted here: the other side reads. */
static gboolean set_up(FerryBenchMemory *memory, const FerryBenchRam *ram, GError **error)
{
	struct ibv_qp_init_attr attributes = {
		.qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = 1, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1 },
	};

	memory->pd = ibv_alloc_pd(memory->id->verbs);
	if (!memory->pd)
		return ferry_bench_raw_failed(error, "ibv_alloc_pd");
	memory->region = ibv_reg_mr(memory->pd, ram->host, ram->size, IBV_ACCESS_REMOTE_READ);
	if (!memory->region)
		return ferry_bench_raw_failed(error, "ibv_reg_mr");
	memory->cq = ibv_create_cq(memory->id->verbs, 1, NULL, NULL, 0);
	if (!memory->cq)
		return ferry_bench_raw_failed(error, "ibv_create_cq");
	attributes.send_cq = attributes.recv_cq = memory->cq;
	return !rdma_create_qp(memory->id, memory->pd, &attributes) ||
	       ferry_bench_raw_failed(error, "rdma_create_qp");
}

FerryBenchMemory *ferry_bench_memory_new(const struct sockaddr *local, const struct sockaddr *peer,
					 const FerryBenchRam *ram, GError **error)
{
	g_autoptr(FerryBenchMemory) memory = g_new0(FerryBenchMemory, 1);
	guint8 place[FERRY_BENCH_RAW_REGION_SIZE];
	struct rdma_conn_param param = { .private_data = place,
					 .private_data_len = sizeof(place),
					 .responder_resources = 1,
					 .retry_count = FERRY_BENCH_RAW_RETRIES,
					 .rnr_retry_count = FERRY_BENCH_RAW_RETRIES };

	memory->events = rdma_create_event_channel();
	if (!memory->events)
		return ferry_bench_raw_failed(error, "rdma_create_event_channel"), NULL;
	memory->id = ferry_bench_raw_resolve(memory->events, local, peer, error);
	if (!memory->id || !set_up(memory, ram, error))
		return NULL;
	ferry_store_be64(place, (guintptr)ram->host);
	ferry_store_be32(place + 8, memory->region->rkey);
	if (rdma_connect(memory->id, &param))
		return ferry_bench_raw_failed(error, "rdma_connect"), NULL;
	return ferry_bench_raw_await(memory->events, RDMA_CM_EVENT_ESTABLISHED, NULL, error)
		       ? g_steal_pointer(&memory)
		       : NULL;
}

void ferry_bench_memory_free(FerryBenchMemory *memory)
{
	if (memory->id && memory->id->qp) {
		rdma_disconnect(memory->id);
		rdma_destroy_qp(memory->id);
	}
	if (memory->cq)
		ibv_destroy_cq(memory->cq);
	if (memory->region)
		ibv_dereg_mr(memory->region);
	if (memory->pd)
		ibv_dealloc_pd(memory->pd);
	if (memory->id)
		rdma_destroy_id(memory->id);
	if (memory->events)
		rdma_destroy_event_channel(memory->events);
	g_free(memory);
}
