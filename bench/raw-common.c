/* SPDX-License-Identifier: BSD-2-Clause */
#include "raw-cm.h"

#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <ferry/error.h>

#define STEP_MS 3000 /* the deadline of each step of connecting */
#define ACK_TIMEOUT 15

gboolean ferry_bench_raw_failed(GError **error, const char *call)
{
	int why = errno;

	g_set_error(error, FERRY_ERROR, why == ENODEV ? FERRY_ERROR_NOSUPP : FERRY_ERROR_LINK,
		    "raw verbs: %s: %s%s", call, g_strerror(why),
		    why == ENOMEM ? " (is RLIMIT_MEMLOCK large enough? ulimit -l)" : "");
	return FALSE;
}

void *ferry_bench_raw_map(guint64 bytes, GError **error)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (at == MAP_FAILED) {
		ferry_bench_raw_failed(error, "mmap");
		return NULL;
	}
	return at;
}

gboolean ferry_bench_raw_await(struct rdma_event_channel *events, enum rdma_cm_event_type wanted,
			       guint8 *said, GError **error)
{
	struct pollfd fd = { events->fd, POLLIN, 0 };
	struct rdma_cm_event *event;
	enum rdma_cm_event_type type;
	int status;

	if (poll(&fd, 1, STEP_MS) != 1) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "raw verbs: no %s within %d s; does the fabric pass UDP port 4791, and "
			    "is the listener's address on an RDMA port?",
			    rdma_event_str(wanted), STEP_MS / 1000);
		return FALSE;
	}
	if (rdma_get_cm_event(events, &event))
		return ferry_bench_raw_failed(error, "rdma_get_cm_event");
	type = event->event;
	status = event->status;
	if (type == wanted && said &&
	    event->param.conn.private_data_len >= FERRY_BENCH_RAW_REGION_SIZE)
		memcpy(said, event->param.conn.private_data, FERRY_BENCH_RAW_REGION_SIZE);
	rdma_ack_cm_event(event);
	if (type == wanted)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
		    "raw verbs: expected %s, but there was %s (status %d)", rdma_event_str(wanted),
		    rdma_event_str(type), status);
	return FALSE;
}

static gboolean resolve(struct rdma_event_channel *events, struct rdma_cm_id *id,
			const struct sockaddr *local, const struct sockaddr *peer, GError **error)
{
	uint8_t timeout = ACK_TIMEOUT;

	if (rdma_resolve_addr(id, (struct sockaddr *)local, (struct sockaddr *)peer, STEP_MS))
		return ferry_bench_raw_failed(error, "rdma_resolve_addr");
	if (!ferry_bench_raw_await(events, RDMA_CM_EVENT_ADDR_RESOLVED, NULL, error))
		return FALSE;
	/* Old kernels do not know it and keep the fabric's own. */
	rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout, sizeof(timeout));
	if (rdma_resolve_route(id, STEP_MS))
		return ferry_bench_raw_failed(error, "rdma_resolve_route");
	return ferry_bench_raw_await(events, RDMA_CM_EVENT_ROUTE_RESOLVED, NULL, error);
}

struct rdma_cm_id *ferry_bench_raw_resolve(struct rdma_event_channel *events,
					   const struct sockaddr *local,
					   const struct sockaddr *peer, GError **error)
{
	struct rdma_cm_id *id;

	if (rdma_create_id(events, &id, NULL, RDMA_PS_TCP))
		return ferry_bench_raw_failed(error, "rdma_create_id"), NULL;
	if (resolve(events, id, local, peer, error))
		return id;
	rdma_destroy_id(id);
	return NULL;
}
