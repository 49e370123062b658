/* SPDX-License-Identifier: BSD-2-Clause */
#include "raw-floor.h"
#include "fault-touch.h"
#include "raw-cm.h"
#include "raw-minor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>
#include <ferry/bytes.h>
#include <ferry/error.h>
#include <ferry/ram.h>

#define SILENCE_MS 5000 /* for one page: the retries are used up well before */
#define ACCEPT_MS 10000

/* Freed from the last field to the first, but the userfaultfd before the thread that it may hold
 * up. */
struct FerryBenchFloor {
	FerryBenchRam *ram; /* what is touched */
	guint8 *alias;      /* the same memory: what the READs fill */
	FerryBenchTouch *touch;
	int uffd; /* -1: none */
	struct rdma_event_channel *events;
	struct rdma_cm_id *listener;
	struct rdma_cm_id *id;
	gboolean connected;
	guint64 address; /* of the memory that is read from */
	guint32 key;
	struct ibv_pd *pd;
	struct ibv_mr *region;
	struct ibv_comp_channel *completions;
	struct ibv_cq *cq;
};

static gboolean make_memory(FerryBenchFloor *floor, guint64 ram, guint64 faults, GError **error)
{
	floor->ram = ferry_bench_ram_new(ram, FALSE, error);
	if (!floor->ram)
		return FALSE;
	floor->alias = mmap(NULL, ram, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			    floor->ram->fd, 0);
	if (floor->alias == MAP_FAILED)
		return ferry_bench_raw_failed(error, "mmap");
	floor->touch = ferry_bench_touch_new(floor->ram->host, ram, faults, error);
	return floor->touch != NULL;
}

FerryBenchFloor *ferry_bench_floor_new(const struct sockaddr *local, guint64 ram, guint64 faults,
				       guint16 *port, GError **error)
{
	g_autoptr(FerryBenchFloor) floor = g_new0(FerryBenchFloor, 1);

	floor->uffd = -1;
	floor->alias = MAP_FAILED;
	if (!make_memory(floor, ram, faults, error))
		return NULL;
	floor->events = rdma_create_event_channel();
	if (!floor->events)
		return ferry_bench_raw_failed(error, "rdma_create_event_channel"), NULL;
	if (rdma_create_id(floor->events, &floor->listener, NULL, RDMA_PS_TCP))
		return ferry_bench_raw_failed(error, "rdma_create_id"), NULL;
	if (rdma_bind_addr(floor->listener, (struct sockaddr *)local))
		return ferry_bench_raw_failed(error, "rdma_bind_addr"), NULL;
	if (rdma_listen(floor->listener, 1))
		return ferry_bench_raw_failed(error, "rdma_listen"), NULL;
	*port = g_ntohs(rdma_get_src_port(floor->listener));
	return g_steal_pointer(&floor);
}

static gboolean set_up(FerryBenchFloor *floor, GError **error)
{
	struct ibv_qp_init_attr attributes = {
		.qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = 1, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1 },
	};

	floor->pd = ibv_alloc_pd(floor->id->verbs);
	if (!floor->pd)
		return ferry_bench_raw_failed(error, "ibv_alloc_pd");
	/* The alias, on which no fault can wait. */
	floor->region = ibv_reg_mr(floor->pd, floor->alias, floor->ram->size,
				   IBV_ACCESS_LOCAL_WRITE);
	if (!floor->region)
		return ferry_bench_raw_failed(error, "ibv_reg_mr");
	floor->completions = ibv_create_comp_channel(floor->id->verbs);
	if (!floor->completions)
		return ferry_bench_raw_failed(error, "ibv_create_comp_channel");
	floor->cq = ibv_create_cq(floor->id->verbs, 2, NULL, floor->completions, 0);
	if (!floor->cq)
		return ferry_bench_raw_failed(error, "ibv_create_cq");
	attributes.send_cq = attributes.recv_cq = floor->cq;
	return !rdma_create_qp(floor->id, floor->pd, &attributes) ||
	       ferry_bench_raw_failed(error, "rdma_create_qp");
}

/* Takes @id over. @place: what the peer says of its memory. */
static gboolean take_request(FerryBenchFloor *floor, struct rdma_cm_id *id, const guint8 *place,
			     GError **error)
{
	struct rdma_conn_param param = { .initiator_depth = 1 };

	floor->id = id;
	floor->address = ferry_load_be64(place);
	floor->key = ferry_load_be32(place + 8);
	if (!set_up(floor, error))
		return FALSE;
	return !rdma_accept(id, &param) || ferry_bench_raw_failed(error, "rdma_accept");
}

static gboolean take_event(FerryBenchFloor *floor, GError **error)
{
	guint8 place[FERRY_BENCH_RAW_REGION_SIZE] = { 0 };
	struct rdma_cm_event *event;
	enum rdma_cm_event_type type;
	struct rdma_cm_id *id;

	if (rdma_get_cm_event(floor->events, &event))
		return ferry_bench_raw_failed(error, "rdma_get_cm_event");
	type = event->event;
	id = event->id;
	if (type == RDMA_CM_EVENT_CONNECT_REQUEST &&
	    event->param.conn.private_data_len >= sizeof(place))
		memcpy(place, event->param.conn.private_data, sizeof(place));
	rdma_ack_cm_event(event);
	if (type == RDMA_CM_EVENT_CONNECT_REQUEST && !floor->id)
		return take_request(floor, id, place, error);
	if (type == RDMA_CM_EVENT_CONNECT_REQUEST) {
		rdma_reject(id, NULL, 0);
		rdma_destroy_id(id);
		return TRUE;
	}
	floor->connected = type == RDMA_CM_EVENT_ESTABLISHED;
	if (!floor->connected)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK, "raw verbs: %s",
			    rdma_event_str(type));
	return floor->connected;
}

gboolean ferry_bench_floor_accept(FerryBenchFloor *floor, int until, GError **error)
{
	struct pollfd fds[] = { { floor->events->fd, POLLIN, 0 }, { until, POLLIN, 0 } };

	while (!floor->connected) {
		int n = poll(fds, G_N_ELEMENTS(fds), ACCEPT_MS);

		if (n == 0)
			errno = ETIMEDOUT;
		if (n == 0 || (n < 0 && errno != EINTR))
			return ferry_bench_raw_failed(error, "waiting for the connection");
		if (fds[0].revents && !take_event(floor, error))
			return FALSE;
		if (!fds[0].revents && fds[1].revents)
			return TRUE;
	}
	return TRUE;
}

/* Sleeps for the completion of the one READ, which was armed before it was posted. */
static gboolean await_completion(FerryBenchFloor *floor, GError **error)
{
	struct pollfd fd = { floor->completions->fd, POLLIN, 0 };
	struct ibv_wc wc = { .status = IBV_WC_GENERAL_ERR };
	struct ibv_cq *cq;
	void *context;

	if (poll(&fd, 1, SILENCE_MS) != 1) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "raw verbs: no completion of a READ within %d s", SILENCE_MS / 1000);
		return FALSE;
	}
	if (ibv_get_cq_event(floor->completions, &cq, &context))
		return ferry_bench_raw_failed(error, "ibv_get_cq_event");
	ibv_ack_cq_events(cq, 1);
	if (ibv_poll_cq(cq, 1, &wc) == 1 && wc.status == IBV_WC_SUCCESS)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK, "raw verbs: READ: %s",
		    ibv_wc_status_str(wc.status));
	return FALSE;
}

static gboolean fetch(FerryBenchFloor *floor, guint64 offset, GError **error)
{
	struct ibv_sge piece = { (guintptr)floor->alias + offset, FERRY_PAGE_SIZE,
				 floor->region->lkey };
	struct ibv_send_wr request = { .sg_list = &piece,
				       .num_sge = 1,
				       .opcode = IBV_WR_RDMA_READ,
				       .send_flags = IBV_SEND_SIGNALED,
				       .wr.rdma = { floor->address + offset, floor->key } };
	struct ibv_send_wr *bad;

	errno = ibv_req_notify_cq(floor->cq, 0);
	if (errno)
		return ferry_bench_raw_failed(error, "ibv_req_notify_cq");
	errno = ibv_post_send(floor->id->qp, &request, &bad);
	if (errno)
		return ferry_bench_raw_failed(error, "ibv_post_send");
	return await_completion(floor, error);
}

static gboolean serve_faults(FerryBenchFloor *floor, GError **error)
{
	struct pollfd fds[] = { { floor->uffd, POLLIN, 0 },
				{ ferry_bench_touch_fd(floor->touch), POLLIN, 0 } };

	for (;;) {
		GError *why = NULL;
		guint64 offset;

		if (poll(fds, G_N_ELEMENTS(fds), -1) < 0 && errno != EINTR)
			return ferry_bench_raw_failed(error, "poll");
		if (fds[1].revents)
			return TRUE;
		while (ferry_bench_minor_take(floor->uffd, floor->ram, &offset, &why))
			if (!fetch(floor, offset, error) ||
			    !ferry_bench_minor_continue(floor->uffd, floor->ram, offset, error))
				return FALSE;
		if (why) {
			g_propagate_error(error, why);
			return FALSE;
		}
	}
}

gboolean ferry_bench_floor_measure(FerryBenchFloor *floor, FerryBenchLatency *felt, GError **error)
{
	/* The peer may hear of the connection before this side. */
	if (!ferry_bench_floor_accept(floor, -1, error))
		return FALSE;
	floor->uffd = ferry_bench_minor_open(floor->ram, error);
	if (floor->uffd < 0)
		return FALSE;
	ferry_bench_touch_start(floor->touch);
	return serve_faults(floor, error) && ferry_bench_touch_result(floor->touch, felt, error);
}

void ferry_bench_floor_free(FerryBenchFloor *floor)
{
	if (floor->id && floor->id->qp) {
		rdma_disconnect(floor->id);
		rdma_destroy_qp(floor->id);
	}
	if (floor->cq)
		ibv_destroy_cq(floor->cq);
	if (floor->completions)
		ibv_destroy_comp_channel(floor->completions);
	if (floor->region)
		ibv_dereg_mr(floor->region);
	if (floor->pd)
		ibv_dealloc_pd(floor->pd);
	if (floor->id)
		rdma_destroy_id(floor->id);
	if (floor->listener)
		rdma_destroy_id(floor->listener);
	if (floor->events)
		rdma_destroy_event_channel(floor->events);
	if (floor->uffd >= 0)
		close(floor->uffd);
	if (floor->touch)
		ferry_bench_touch_free(floor->touch);
	if (floor->alias != MAP_FAILED)
		munmap(floor->alias, floor->ram->size);
	if (floor->ram)
		ferry_bench_ram_free(floor->ram);
	g_free(floor);
}
