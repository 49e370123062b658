/* SPDX-License-Identifier: BSD-2-Clause */
#include "fake-private.h"

#include <string.h>

/* The thread that is both devices and the wire. */

/* How much later a fence may complete than at its sender. */
#define FENCE_LATE_US 2000

void fake_kept_free(gpointer data)
{
	FakeKept *kept = data;

	g_bytes_unref(kept->data);
	g_free(kept);
}

static gpointer host_pointer(guint64 address)
{
	return (gpointer)(guintptr)address;
}

void fake_land(FakeQp *qp, guint32 key, guint epoch)
{
	GRand *random = qp->device->nic->random;
	GPtrArray *kept = qp->kept;

	for (guint i = kept->len; i > 1; i--) {
		guint other = g_rand_int_range(random, 0, i);
		gpointer swap = kept->pdata[i - 1];

		kept->pdata[i - 1] = kept->pdata[other];
		kept->pdata[other] = swap;
	}
	for (guint i = kept->len; i-- > 0;) {
		FakeKept *one = kept->pdata[i];

		if ((key && one->key != key) || one->epoch >= epoch)
			continue;
		memcpy(host_pointer(one->address), g_bytes_get_data(one->data, NULL),
		       g_bytes_get_size(one->data));
		g_ptr_array_remove_index_fast(kept, i);
	}
}

gboolean fake_is_about_qp(enum ibv_event_type type)
{
	return type == IBV_EVENT_QP_LAST_WQE_REACHED ||
	       (type <= IBV_EVENT_PATH_MIG_ERR && type != IBV_EVENT_CQ_ERR);
}

void fake_async(FakeDevice *device, enum ibv_event_type type, FakeQp *qp)
{
	struct ibv_async_event *event;

	if (!qp && (type == IBV_EVENT_CQ_ERR || fake_is_about_qp(type)))
		return;
	event = g_new0(struct ibv_async_event, 1);
	event->event_type = type;
	if (type == IBV_EVENT_CQ_ERR)
		event->element.cq = qp->qp.send_cq;
	else if (fake_is_about_qp(type))
		event->element.qp = &qp->qp;
	else
		event->element.port_num = 1;
	g_queue_push_tail(&device->asyncs, event);
	fake_signal(device->context.async_fd);
}

void fake_forget_asyncs(FakeDevice *device, gpointer object)
{
	for (GList *link = device->asyncs.head, *next; link; link = next) {
		struct ibv_async_event *event = link->data;

		next = link->next;
		if (event->element.qp != object)
			continue;
		fake_take(device->context.async_fd);
		g_queue_delete_link(&device->asyncs, link);
		g_free(event);
	}
}

/* ---- one work request ---- */

static FakeQp *peer_of(FakeQp *qp)
{
	FakeId *peer = qp->id->peer;

	return peer ? (FakeQp *)peer->id.qp : NULL;
}

static void fail_work(FakeQp *qp, enum ibv_wc_status status)
{
	fake_complete_send(qp, status);
	fake_flush(qp);
}

/* The responder's side of a request that it could not serve. */
static void fail_responder(FakeQp *peer, enum ibv_event_type type)
{
	fake_flush(peer);
	fake_async(peer->device, type, peer);
}

/* Counts what a device executes; TRUE when this is the one to fail. */
static gboolean is_chosen(FakeDevice *device)
{
	if (++device->work != device->work_n)
		return FALSE;
	device->nic->fault_us = g_get_monotonic_time();
	return TRUE;
}

static gboolean local_memory_is_right(FakeQp *qp, const FakeWork *work)
{
	int access = work->opcode == IBV_WR_RDMA_READ ? IBV_ACCESS_LOCAL_WRITE : 0;

	for (guint i = 0; i < work->n_sge; i++)
		if (!fake_find_mr(qp->qp.pd, work->sge[i].lkey, FALSE, work->sge[i].addr,
				  work->sge[i].length, access))
			return FALSE;
	return TRUE;
}

/* Keeps the data aside or writes it. */
static void move_data(FakeNic *nic, FakeQp *peer, const FakeWork *work)
{
	guint8 *data = g_malloc(work->length);
	FakeKept *kept = g_new0(FakeKept, 1);
	guint32 done = 0;

	for (guint i = 0; i < work->n_sge; i++) {
		memcpy(data + done, host_pointer(work->sge[i].addr), work->sge[i].length);
		done += work->sge[i].length;
	}
	kept->address = work->address;
	kept->key = work->key;
	kept->data = g_bytes_new_take(data, work->length);
	kept->epoch = peer->epoch;
	g_ptr_array_add(peer->kept, kept);
	if (!nic->config.delay_visibility)
		fake_land(peer, 0, G_MAXUINT);
	nic->writes++;
	nic->bytes += work->length;
}

/* The data of a read is there when it completes. */
static void fetch_data(FakeNic *nic, const FakeWork *work)
{
	guint64 from = work->address;

	for (guint i = 0; i < work->n_sge; i++) {
		memcpy(host_pointer(work->sge[i].addr), host_pointer(from), work->sge[i].length);
		from += work->sge[i].length;
	}
	nic->reads++;
	nic->bytes_read += work->length;
}

/* Completes the first fence that came to @peer. FALSE: that ended in an error. */
static gboolean complete_fence(FakeNic *nic, FakeQp *peer)
{
	g_autofree FakeFence *fence = g_queue_pop_head(&peer->fences);
	struct ibv_wc wc = { .wr_id = fence->id,
			     .opcode = IBV_WC_RECV_RDMA_WITH_IMM,
			     .byte_len = fence->length,
			     .imm_data = fence->imm,
			     .wc_flags = IBV_WC_WITH_IMM };

	if (is_chosen(peer->device)) {
		wc.status = peer->device->work_status;
		fake_complete(peer, peer->qp.recv_cq, &wc, 0);
		fake_flush(peer);
		return FALSE;
	}
	if (!nic->config.void_fences)
		fake_land(peer, 0, fence->epoch);
	nic->fences += !fence->length;
	fake_complete(peer, peer->qp.recv_cq, &wc, 0);
	return TRUE;
}

/* Takes a receive at @peer for the fence. FALSE: it ended in an error there. */
static gboolean deliver_fence(FakeNic *nic, FakeQp *peer, const FakeWork *work, gint64 now)
{
	g_autofree guint64 *id = g_queue_pop_head(&peer->receives);
	FakeFence *fence = g_new0(FakeFence, 1);

	*fence = (FakeFence){ .id = *id,
			      .length = work->length,
			      .imm = work->imm,
			      .epoch = ++peer->epoch,
			      .ready = now };
	g_queue_push_tail(&peer->fences, fence);
	if (!nic->config.delay_visibility)
		return complete_fence(nic, peer);
	fence->ready += g_rand_int_range(nic->random, 0, FENCE_LATE_US);
	return TRUE;
}

static void complete_fences(FakeNic *nic, gint64 now, gint64 *next)
{
	for (guint i = 0; i < nic->qps->len; i++) {
		FakeQp *qp = nic->qps->pdata[i];
		FakeFence *fence;

		while ((fence = g_queue_peek_head(&qp->fences)) && fence->ready <= now)
			complete_fence(nic, qp);
		if (fence)
			*next = MIN(*next, fence->ready);
	}
}

/* Nobody answers: the request stays until its retries are used up. */
static void wait_for_answer(FakeNic *nic, FakeQp *qp, FakeWork *work, gint64 now)
{
	if (!work->silent)
		work->silent = now;
	work->ready = work->silent + nic->config.retry_us;
	if (now >= work->ready)
		fail_work(qp, IBV_WC_RETRY_EXC_ERR);
}

/* No receive is posted: 7 tries for ever, other counts are used up. */
static void wait_for_receive(FakeQp *qp, FakeWork *work, gint64 now)
{
	qp->device->nic->not_ready++;
	if (qp->id->rnr_retry < 7 && qp->rnr_tries++ >= qp->id->rnr_retry)
		fail_work(qp, IBV_WC_RNR_RETRY_EXC_ERR);
	else
		work->ready = now + 200;
}

static void execute(FakeNic *nic, FakeQp *qp, gint64 now)
{
	FakeWork *work = g_queue_peek_head(&qp->sends);
	FakeQp *peer = peer_of(qp);
	gboolean fence = work->opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
	gboolean read = work->opcode == IBV_WR_RDMA_READ;

	if (!work->counted && is_chosen(qp->device))
		return fail_work(qp, qp->device->work_status);
	work->counted = TRUE;
	if (nic->cut || !peer || peer->qp.state != IBV_QPS_RTS)
		return wait_for_answer(nic, qp, work, now);
	work->silent = 0;
	if (read && !qp->id->reads)
		return fail_work(qp, IBV_WC_LOC_QP_OP_ERR);
	if (!local_memory_is_right(qp, work))
		return fail_work(qp, IBV_WC_LOC_PROT_ERR);
	if (work->length &&
	    !fake_find_mr(peer->qp.pd, work->key, TRUE, work->address, work->length,
			  read ? IBV_ACCESS_REMOTE_READ : IBV_ACCESS_REMOTE_WRITE)) {
		fail_responder(peer, IBV_EVENT_QP_ACCESS_ERR);
		return fail_work(qp, IBV_WC_REM_ACCESS_ERR);
	}
	if (fence && g_queue_is_empty(&peer->receives))
		return wait_for_receive(qp, work, now);
	qp->rnr_tries = 0;
	if (read)
		fetch_data(nic, work);
	else if (work->length)
		move_data(nic, peer, work);
	if (fence && !deliver_fence(nic, peer, work, now))
		return fail_work(qp, IBV_WC_REM_OP_ERR);
	fake_complete_send(qp, IBV_WC_SUCCESS);
}

/* ---- the thread ---- */

/* A queue pair, any, whose first request is due. */
static FakeQp *choose(FakeNic *nic, gint64 now, gint64 *next)
{
	guint n = nic->qps->len;
	guint begin = n ? g_rand_int_range(nic->random, 0, n) : 0;

	for (guint i = 0; i < n; i++) {
		FakeQp *qp = nic->qps->pdata[(begin + i) % n];
		FakeWork *work = g_queue_peek_head(&qp->sends);

		if (!work || qp->qp.state != IBV_QPS_RTS)
			continue;
		if (work->ready <= now)
			return qp;
		*next = MIN(*next, work->ready);
	}
	return NULL;
}

gpointer fake_wire(gpointer data)
{
	FakeNic *nic = data;

	g_mutex_lock(&nic->lock);
	while (!nic->ending) {
		gint64 now = g_get_monotonic_time(), next = now + G_USEC_PER_SEC;
		FakeQp *qp;

		fake_run_timers(nic, now, &next);
		complete_fences(nic, now, &next);
		qp = choose(nic, now, &next);
		if (!qp) {
			g_cond_wait_until(&nic->work, &nic->lock, next);
			continue;
		}
		execute(nic, qp, now);
		/* Others need the lock as well. */
		g_mutex_unlock(&nic->lock);
		g_thread_yield();
		g_mutex_lock(&nic->lock);
	}
	g_mutex_unlock(&nic->lock);
	return NULL;
}
