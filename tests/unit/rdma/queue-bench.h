/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "rdma/queue.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ferry/error.h>

#define QUEUES 3u
#define DEPTH 16u /* a chain is a quarter: 4 */
#define WINDOW (64u << 10)
#define CHAIN_SIZE (32u << 10)
#define LOG_MAX 256u

/*
 * Queue pairs without a device: what is posted is written down, and completes when and how a case
 * says. The table of verbs has no user pointer, so the one device lives here.
 */
static struct {
	struct {
		guint queue;
		guint64 id;
		enum ibv_wr_opcode opcode;
		guint flags;
		guint32 imm;
		guint len, sges;
		guint64 from, to;
	} log[LOG_MAX];
	guint n;
	guint posts;
	int post_result;
	guint64 receives[LOG_MAX]; /* ids */
	guint n_receives;
	int receive_result;
	struct ibv_wc done[LOG_MAX];
	guint n_done, taken;
	int poll_result;
	gboolean disconnected; /* an event of that is there */
	struct rdma_cm_event event;
} device;

static struct ibv_qp qps[QUEUES];
static struct rdma_cm_id ids[QUEUES];
static struct rdma_event_channel channel = { .fd = -1 };
static struct ibv_cq cq;
static struct ibv_context context;

static int post_send(struct ibv_qp *qp, struct ibv_send_wr *request, struct ibv_send_wr **bad)
{
	device.posts++;
	if (device.post_result) {
		*bad = request;
		return device.post_result;
	}
	for (; request && device.n < LOG_MAX; request = request->next, device.n++) {
		device.log[device.n].queue = (guint)(qp - qps);
		device.log[device.n].id = request->wr_id;
		device.log[device.n].opcode = request->opcode;
		device.log[device.n].flags = request->send_flags;
		device.log[device.n].imm = request->imm_data;
		device.log[device.n].sges = (guint)request->num_sge;
		device.log[device.n].len = request->num_sge ? request->sg_list->length : 0;
		device.log[device.n].from = request->num_sge ? request->sg_list->addr : 0;
		device.log[device.n].to = request->wr.rdma.remote_addr;
	}
	return 0;
}

static int poll_cq(struct ibv_cq *queue, int n, struct ibv_wc *wc)
{
	int got = 0;

	if (device.poll_result)
		return device.poll_result;
	for (; got < n && device.taken < device.n_done; got++)
		wc[got] = device.done[device.taken++];
	return got;
}

static int post_recv(struct ibv_qp *qp, struct ibv_recv_wr *request, struct ibv_recv_wr **bad)
{
	if (!device.receive_result)
		device.receives[device.n_receives++] = request->wr_id;
	return device.receive_result;
}

static int get_cm_event(struct rdma_event_channel *events, struct rdma_cm_event **event)
{
	errno = EAGAIN;
	if (!device.disconnected)
		return -1;
	device.disconnected = FALSE;
	device.event = (struct rdma_cm_event){ .id = &ids[0], .event = RDMA_CM_EVENT_DISCONNECTED };
	*event = &device.event;
	return 0;
}

static int ack_cm_event(struct rdma_cm_event *event)
{
	return 0;
}

static int get_async_event(struct ibv_context *of, struct ibv_async_event *event)
{
	errno = EAGAIN;
	return -1;
}

static const FerryVerbs verbs = {
	.post_send = post_send,
	.post_recv = post_recv,
	.poll_cq = poll_cq,
	.get_cm_event = get_cm_event,
	.ack_cm_event = ack_cm_event,
	.get_async_event = get_async_event,
};

static FerryRamBlock blocks[] = { { .name = (char *)"ram", .size = 1u << 30 },
				  { .name = (char *)"more", .size = 1u << 20 } };
static const FerryRam ram = { 2, blocks, (1u << 30) + (1u << 20) };

typedef struct {
	FerryRdmaLink *link;
	FerryRdmaQueues *queues;
	guint busy;
} Bench;

static Bench *bench_new(guint n)
{
	const FerryRdmaQueueLimits limits = { DEPTH, WINDOW, CHAIN_SIZE };
	Bench *bench = g_new0(Bench, 1);

	memset(&device, 0, sizeof(device));
	bench->link = ferry_rdma_link_new(&verbs);
	bench->link->n = n;
	bench->link->bulk.cq = &cq;
	bench->link->events = &channel;
	bench->link->context = &context;
	for (guint i = 0; i < n; i++) {
		ids[i].qp = &qps[i];
		bench->link->queues[i].id = &ids[i];
	}
	bench->queues = ferry_rdma_queues_new(bench->link, 0, n, &ram, &limits);
	return bench;
}

/* What is a test's own is not the link's to destroy. */
static void bench_free(Bench *bench)
{
	ferry_rdma_queues_free(bench->queues);
	memset(bench->link->queues, 0, sizeof(bench->link->queues));
	bench->link->bulk.cq = NULL;
	bench->link->events = NULL;
	ferry_rdma_link_free(bench->link);
	g_free(bench);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Bench, bench_free)

static gboolean put(Bench *bench, guint64 page, guint32 len)
{
	const FerryRdmaWrite write = {
		.from = 0x1000 + page,
		.to = 0x2000 + page,
		.len = len,
		.page = page,
		.busy = &bench->busy,
	};

	return ferry_rdma_queues_write(bench->queues, &write);
}

/* The @nth posted work request completes. */
static void complete(guint nth, enum ibv_wc_status status)
{
	device.done[device.n_done++] = (struct ibv_wc){
		.wr_id = device.log[nth].id,
		.status = status,
		.vendor_err = 0x81,
	};
}

/* Of the newest link error. */
static const char *message(const Bench *bench)
{
	return bench->link->error ? bench->link->error->message : "";
}

static gboolean says(const Bench *bench, const char *what)
{
	if (strstr(message(bench), what))
		return TRUE;
	g_printerr("# \"%s\" is not in \"%s\"\n", what, message(bench));
	return FALSE;
}
