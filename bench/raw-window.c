/* SPDX-License-Identifier: BSD-2-Clause */
#include "raw-window.h"
#include "raw-cm.h"

#include <errno.h>
#include <poll.h>
#include <ferry/error.h>

#define CHAIN_MAX 16u   /* writes posted by one call, of which the last one is signalled */
#define SILENCE_MS 5000 /* with writes in flight: the retries are used up well before */

typedef struct {
	const FerryBenchRawShape *shape;
	const FerryBenchRawTarget *targets;
	const struct ibv_mr *region;
	struct ibv_cq *cq;
	guint chain;
	guint unacked;   /* completion events */
	guint in_flight; /* chains, of all queue pairs */
	guint64 done;    /* chains */
	guint *slots;    /* of each queue pair: where in its buffer the next write begins */
} Window;

static gboolean post(Window *window, guint queue, GError **error)
{
	const FerryBenchRawShape *shape = window->shape;
	const FerryBenchRawTarget *target = &window->targets[queue];
	guint8 *mine = (guint8 *)window->region->addr + queue * shape->size * shape->depth;
	struct ibv_sge pieces[CHAIN_MAX];
	struct ibv_send_wr writes[CHAIN_MAX], *bad;

	for (guint i = 0; i < window->chain; i++) {
		guint64 offset = (window->slots[queue] + i) % shape->depth * shape->size;

		pieces[i] = (struct ibv_sge){ (guintptr)mine + offset, shape->size,
					      window->region->lkey };
		writes[i] = (struct ibv_send_wr){
			.wr_id = queue,
			.next = i + 1 < window->chain ? &writes[i + 1] : NULL,
			.sg_list = &pieces[i],
			.num_sge = 1,
			.opcode = IBV_WR_RDMA_WRITE,
			.send_flags = i + 1 < window->chain ? 0 : IBV_SEND_SIGNALED,
			.wr.rdma = { target->address + offset, target->key },
		};
	}
	window->slots[queue] = (window->slots[queue] + window->chain) % shape->depth;
	errno = ibv_post_send(target->qp, writes, &bad);
	if (errno)
		return ferry_bench_raw_failed(error, "ibv_post_send");
	window->in_flight++;
	return TRUE;
}

/* Sleeps until a completion may be there. */
static gboolean sleep_on(Window *window, GError **error)
{
	struct pollfd fd = { window->cq->channel->fd, POLLIN, 0 };
	struct ibv_cq *cq;
	void *context;

	if (poll(&fd, 1, SILENCE_MS) != 1) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "raw verbs: no completion within %d s", SILENCE_MS / 1000);
		return FALSE;
	}
	while (!ibv_get_cq_event(window->cq->channel, &cq, &context))
		window->unacked++;
	return TRUE;
}

/* Takes what has completed, and posts as much again while @again. */
static gboolean reap(Window *window, gboolean again, int *n, GError **error)
{
	struct ibv_wc wcs[CHAIN_MAX];

	*n = ibv_poll_cq(window->cq, G_N_ELEMENTS(wcs), wcs);
	if (*n < 0)
		return ferry_bench_raw_failed(error, "ibv_poll_cq");
	for (int i = 0; i < *n; i++) {
		if (wcs[i].status != IBV_WC_SUCCESS) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK, "raw verbs: %s",
				    ibv_wc_status_str(wcs[i].status));
			return FALSE;
		}
		window->in_flight--;
		window->done++;
		if (again && !post(window, wcs[i].wr_id, error))
			return FALSE;
	}
	return TRUE;
}

static gboolean run(Window *window, gint64 end, GError **error)
{
	int n;

	for (guint i = 0; i < window->shape->queue_pairs; i++)
		for (guint k = 0; k < window->shape->depth / window->chain; k++)
			if (!post(window, i, error))
				return FALSE;
	while (window->in_flight) {
		if (!reap(window, g_get_monotonic_time() < end, &n, error))
			return FALSE;
		if (n)
			continue;
		/* Armed before the last look, or a completion between the two would be slept
		 * over. */
		errno = ibv_req_notify_cq(window->cq, 0);
		if (errno)
			return ferry_bench_raw_failed(error, "ibv_req_notify_cq");
		if (!reap(window, g_get_monotonic_time() < end, &n, error) ||
		    (!n && !sleep_on(window, error)))
			return FALSE;
	}
	return TRUE;
}

gboolean ferry_bench_raw_write(const FerryBenchRawShape *shape, const FerryBenchRawTarget *targets,
			       const struct ibv_mr *region, struct ibv_cq *cq, double seconds,
			       double *rate, GError **error)
{
	g_autofree guint *slots = g_new0(guint, shape->queue_pairs);
	Window window = { .shape = shape,
			  .targets = targets,
			  .region = region,
			  .cq = cq,
			  .chain = CLAMP(shape->depth / 4, 1, CHAIN_MAX),
			  .slots = slots };
	gint64 begin = g_get_monotonic_time();
	gboolean ok = run(&window, begin + (gint64)(seconds * G_TIME_SPAN_SECOND), error);
	gint64 took = g_get_monotonic_time() - begin;

	/* Destroying the queue waits for it. */
	ibv_ack_cq_events(cq, window.unacked);
	if (ok)
		*rate = (double)window.done * window.chain * shape->size * G_TIME_SPAN_SECOND /
			took;
	return ok;
}
