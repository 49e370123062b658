/* SPDX-License-Identifier: BSD-2-Clause */
#include "fake-private.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static FakeNic *nic_of(const FakeQp *qp)
{
	return qp->device->nic;
}

/* ---- completion channels and queues ---- */

struct ibv_comp_channel *fake_create_comp_channel(struct ibv_context *context)
{
	FakeDevice *device = fake_device(context);
	int error = fake_enter(device, FAKE_CREATE_COMP_CHANNEL);
	FakeCompChannel *channel;

	if (error) {
		errno = error;
		return NULL;
	}
	channel = g_new0(FakeCompChannel, 1);
	channel->device = device;
	channel->channel.context = context;
	channel->channel.fd = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
	g_queue_init(&channel->events);
	g_mutex_lock(&device->nic->lock);
	device->counts.comp_channels++;
	g_mutex_unlock(&device->nic->lock);
	return &channel->channel;
}

int fake_destroy_comp_channel(struct ibv_comp_channel *ibv_channel)
{
	FakeCompChannel *channel = (FakeCompChannel *)ibv_channel;
	FakeDevice *device = channel->device;
	int error = fake_enter(device, FAKE_DESTROY_COMP_CHANNEL);

	g_mutex_lock(&device->nic->lock);
	if (ibv_channel->refcnt) {
		fake_problem(device->nic, "ibv_destroy_comp_channel: EBUSY: %d queues use it",
			     ibv_channel->refcnt);
		error = EBUSY;
	} else {
		device->counts.comp_channels--;
		close(ibv_channel->fd);
		g_queue_clear(&channel->events);
		g_free(channel);
	}
	g_mutex_unlock(&device->nic->lock);
	return error;
}

struct ibv_cq *fake_create_cq(struct ibv_context *context, int n, void *user,
			      struct ibv_comp_channel *channel, int vector)
{
	FakeDevice *device = fake_device(context);
	int error = fake_enter(device, FAKE_CREATE_CQ);
	FakeCq *cq;

	if (!error && (n < 1 || (guint)n > device->nic->config.max_cqe || vector))
		error = EINVAL;
	if (error) {
		errno = error;
		return NULL;
	}
	cq = g_new0(FakeCq, 1);
	cq->device = device;
	cq->channel = (FakeCompChannel *)channel;
	cq->cq = (struct ibv_cq){
		.context = context, .channel = channel, .cq_context = user, .cqe = n
	};
	g_queue_init(&cq->entries);
	g_mutex_lock(&device->nic->lock);
	device->counts.cqs++;
	if (channel)
		channel->refcnt++;
	g_mutex_unlock(&device->nic->lock);
	return &cq->cq;
}

static void destroy_cq(FakeCq *cq)
{
	guint in_channel = 0;

	if (cq->channel) {
		while (g_queue_remove(&cq->channel->events, cq))
			in_channel++;
		for (; in_channel; in_channel--)
			fake_take(cq->channel->channel.fd);
		cq->channel->channel.refcnt--;
	}
	fake_forget_asyncs(cq->device, cq);
	cq->device->counts.cqs--;
	g_queue_clear_full(&cq->entries, g_free);
	g_free(cq);
}

int fake_destroy_cq(struct ibv_cq *ibv_cq)
{
	FakeCq *cq = (FakeCq *)ibv_cq;
	FakeNic *nic = cq->device->nic;
	int error = fake_enter(cq->device, FAKE_DESTROY_CQ);

	g_mutex_lock(&nic->lock);
	if (cq->unacked)
		fake_problem(nic, "ibv_destroy_cq hangs: %u events not acked", cq->unacked);
	if (cq->users) {
		fake_problem(nic, "ibv_destroy_cq: EBUSY: queue pairs use it");
		error = EBUSY;
	} else if (!cq->unacked) {
		destroy_cq(cq);
	}
	g_mutex_unlock(&nic->lock);
	return error;
}

int fake_req_notify_cq(struct ibv_cq *ibv_cq, int solicited_only)
{
	FakeCq *cq = (FakeCq *)ibv_cq;
	int error = fake_enter(cq->device, FAKE_REQ_NOTIFY_CQ);

	if (error)
		return error;
	g_mutex_lock(&cq->device->nic->lock);
	cq->armed = TRUE;
	g_mutex_unlock(&cq->device->nic->lock);
	return 0;
}

int fake_get_cq_event(struct ibv_comp_channel *ibv_channel, struct ibv_cq **ibv_cq, void **user)
{
	FakeCompChannel *channel = (FakeCompChannel *)ibv_channel;
	int error = fake_enter(channel->device, FAKE_GET_CQ_EVENT);
	FakeCq *cq;

	if (error) {
		errno = error;
		return -1;
	}
	if (!fake_take(ibv_channel->fd))
		return -1;
	g_mutex_lock(&channel->device->nic->lock);
	cq = g_queue_pop_head(&channel->events);
	cq->unacked++;
	channel->device->counts.unacked++;
	*ibv_cq = &cq->cq;
	*user = cq->cq.cq_context;
	g_mutex_unlock(&channel->device->nic->lock);
	return 0;
}

void fake_ack_cq_events(struct ibv_cq *ibv_cq, unsigned int n)
{
	FakeCq *cq = (FakeCq *)ibv_cq;

	fake_enter(cq->device, FAKE_ACK_CQ_EVENTS);
	g_mutex_lock(&cq->device->nic->lock);
	if (n > cq->unacked)
		fake_problem(cq->device->nic, "ibv_ack_cq_events: %u of %u", n, cq->unacked);
	n = MIN(n, cq->unacked);
	cq->unacked -= n;
	cq->device->counts.unacked -= n;
	g_mutex_unlock(&cq->device->nic->lock);
}

int fake_poll_cq(struct ibv_cq *ibv_cq, int n, struct ibv_wc *wc)
{
	FakeCq *cq = (FakeCq *)ibv_cq;
	int error = fake_enter(cq->device, FAKE_POLL_CQ);
	int done;

	if (error)
		return -error;
	g_mutex_lock(&cq->device->nic->lock);
	for (done = 0; done < n && !g_queue_is_empty(&cq->entries); done++) {
		FakeEntry *entry = g_queue_pop_head(&cq->entries);

		wc[done] = entry->wc;
		if (entry->frees)
			entry->qp->sends_held -= entry->frees;
		else
			entry->qp->receives_held--;
		g_free(entry);
	}
	g_mutex_unlock(&cq->device->nic->lock);
	return done;
}

void fake_complete(FakeQp *qp, struct ibv_cq *ibv_cq, const struct ibv_wc *wc, guint frees)
{
	FakeCq *cq = (FakeCq *)ibv_cq;
	FakeEntry *entry;

	if (cq->entries.length >= (guint)cq->cq.cqe) {
		fake_problem(nic_of(qp), "completion queue overrun: more than %d entries",
			     cq->cq.cqe);
		fake_async(qp->device, IBV_EVENT_CQ_ERR, qp);
		return;
	}
	entry = g_new0(FakeEntry, 1);
	entry->wc = *wc;
	entry->wc.qp_num = qp->qp.qp_num;
	entry->qp = qp;
	entry->frees = frees;
	g_queue_push_tail(&cq->entries, entry);
	if (cq->armed && cq->channel) {
		cq->armed = FALSE;
		g_queue_push_tail(&cq->channel->events, cq);
		fake_signal(cq->channel->channel.fd);
	}
}

/* ---- queue pairs ---- */

static int check_attributes(const FakeDevice *device, const struct ibv_qp_init_attr *attr)
{
	const FakeConfig *config = &device->nic->config;

	if (attr->qp_type != IBV_QPT_RC || !attr->send_cq || !attr->recv_cq ||
	    attr->cap.max_send_wr > config->max_qp_wr ||
	    attr->cap.max_recv_wr > config->max_qp_wr || attr->cap.max_send_sge > 4 ||
	    attr->cap.max_recv_sge > 4)
		return EINVAL;
	return device->counts.qps >= config->max_qp ? ENOMEM : 0;
}

int fake_create_qp(struct rdma_cm_id *rdma_id, struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
	FakeId *id = (FakeId *)rdma_id;
	FakeDevice *device = id->device;
	int error = fake_enter(device, FAKE_CREATE_QP);
	FakeQp *qp;

	if (!error)
		error = !rdma_id->verbs || rdma_id->qp ? EINVAL : check_attributes(device, attr);
	if (error) {
		errno = error;
		return -1;
	}
	qp = g_new0(FakeQp, 1);
	g_mutex_lock(&device->nic->lock);
	qp->qp = (struct ibv_qp){ .context = rdma_id->verbs,
				  .qp_context = attr->qp_context,
				  .pd = pd,
				  .send_cq = attr->send_cq,
				  .recv_cq = attr->recv_cq,
				  .qp_num = 17 + device->nic->made++,
				  .state = IBV_QPS_INIT,
				  .qp_type = IBV_QPT_RC };
	qp->device = device;
	qp->id = id;
	qp->cap = attr->cap;
	qp->all_signalled = attr->sq_sig_all;
	qp->kept = g_ptr_array_new_with_free_func(fake_kept_free);
	g_queue_init(&qp->sends);
	g_queue_init(&qp->receives);
	g_queue_init(&qp->fences);
	((FakePd *)pd)->users++;
	((FakeCq *)attr->send_cq)->users++;
	((FakeCq *)attr->recv_cq)->users++;
	device->counts.qps++;
	g_ptr_array_add(device->nic->qps, qp);
	rdma_id->qp = &qp->qp;
	rdma_id->pd = pd;
	g_mutex_unlock(&device->nic->lock);
	return 0;
}

/* Completions of a queue pair that is gone are gone too. */
static void forget_entries(FakeCq *cq, FakeQp *qp)
{
	for (GList *link = cq->entries.head, *next; link; link = next) {
		FakeEntry *entry = link->data;

		next = link->next;
		if (entry->qp != qp)
			continue;
		g_queue_delete_link(&cq->entries, link);
		g_free(entry);
	}
	cq->users--;
}

void fake_destroy_qp(struct rdma_cm_id *rdma_id)
{
	FakeQp *qp = (FakeQp *)rdma_id->qp;
	FakeNic *nic = nic_of(qp);

	fake_enter(qp->device, FAKE_DESTROY_QP);
	g_mutex_lock(&nic->lock);
	if (qp->unacked)
		fake_problem(nic, "rdma_destroy_qp hangs: %u events not acked", qp->unacked);
	fake_forget_asyncs(qp->device, qp);
	forget_entries((FakeCq *)qp->qp.send_cq, qp);
	forget_entries((FakeCq *)qp->qp.recv_cq, qp);
	((FakePd *)qp->qp.pd)->users--;
	qp->device->counts.qps--;
	g_ptr_array_remove(nic->qps, qp);
	g_queue_clear_full(&qp->sends, g_free);
	g_queue_clear_full(&qp->receives, g_free);
	g_queue_clear_full(&qp->fences, g_free);
	g_ptr_array_unref(qp->kept);
	g_free(qp);
	rdma_id->qp = NULL;
	g_mutex_unlock(&nic->lock);
}

int fake_query_qp(struct ibv_qp *ibv_qp, struct ibv_qp_attr *attr, int mask,
		  struct ibv_qp_init_attr *init)
{
	FakeQp *qp = (FakeQp *)ibv_qp;
	int error = fake_enter(qp->device, FAKE_QUERY_QP);

	if (error)
		return error;
	g_mutex_lock(&nic_of(qp)->lock);
	*attr = (struct ibv_qp_attr){ .qp_state = ibv_qp->state,
				      .cur_qp_state = ibv_qp->state,
				      .path_mtu = nic_of(qp)->config.active_mtu,
				      .cap = qp->cap,
				      .min_rnr_timer = 0,
				      .timeout = 18,
				      .retry_cnt = 7,
				      .rnr_retry = qp->id->rnr_retry,
				      .port_num = 1 };
	*init = (struct ibv_qp_init_attr){ .send_cq = ibv_qp->send_cq,
					   .recv_cq = ibv_qp->recv_cq,
					   .cap = qp->cap,
					   .qp_type = IBV_QPT_RC,
					   .sq_sig_all = qp->all_signalled };
	g_mutex_unlock(&nic_of(qp)->lock);
	return 0;
}

int fake_modify_qp(struct ibv_qp *ibv_qp, struct ibv_qp_attr *attr, int mask)
{
	FakeQp *qp = (FakeQp *)ibv_qp;
	int error = fake_enter(qp->device, FAKE_MODIFY_QP);

	if (error)
		return error;
	g_mutex_lock(&nic_of(qp)->lock);
	if (mask & IBV_QP_STATE && attr->qp_state == IBV_QPS_ERR)
		fake_flush(qp);
	else if ((mask & IBV_QP_STATE && attr->qp_state != IBV_QPS_RTS) ||
		 ibv_qp->state != IBV_QPS_RTS)
		error = EINVAL;
	g_mutex_unlock(&nic_of(qp)->lock);
	return error;
}

/* ---- work ---- */

void fake_complete_send(FakeQp *qp, enum ibv_wc_status status)
{
	g_autofree FakeWork *work = g_queue_pop_head(&qp->sends);
	struct ibv_wc wc = { .wr_id = work->id,
			     .status = status,
			     .opcode = work->opcode == IBV_WR_RDMA_READ ? IBV_WC_RDMA_READ
									: IBV_WC_RDMA_WRITE,
			     .vendor_err = status == IBV_WC_SUCCESS ? 0 : 0x99 };

	qp->silent_done++;
	if (!work->signalled && status == IBV_WC_SUCCESS)
		return;
	fake_complete(qp, qp->qp.send_cq, &wc, qp->silent_done);
	qp->silent_done = 0;
}

void fake_flush(FakeQp *qp)
{
	qp->qp.state = IBV_QPS_ERR;
	g_ptr_array_set_size(qp->kept, 0);
	while (!g_queue_is_empty(&qp->sends))
		fake_complete_send(qp, IBV_WC_WR_FLUSH_ERR);
	/* The id comes first in both. */
	while (!g_queue_is_empty(&qp->fences))
		g_queue_push_head(&qp->receives, g_queue_pop_tail(&qp->fences));
	while (!g_queue_is_empty(&qp->receives)) {
		g_autofree guint64 *id = g_queue_pop_head(&qp->receives);

		fake_complete(qp, qp->qp.recv_cq,
			      &(struct ibv_wc){ .wr_id = *id, .status = IBV_WC_WR_FLUSH_ERR }, 0);
	}
}

/* What a device refuses at once. */
static int check_send(FakeQp *qp, const struct ibv_send_wr *wr)
{
	if (qp->qp.state != IBV_QPS_RTS && qp->qp.state != IBV_QPS_ERR)
		return EINVAL;
	if (wr->opcode != IBV_WR_RDMA_WRITE && wr->opcode != IBV_WR_RDMA_WRITE_WITH_IMM &&
	    wr->opcode != IBV_WR_RDMA_READ) {
		fake_problem(nic_of(qp), "ibv_post_send: opcode %d is not made", wr->opcode);
		return EOPNOTSUPP;
	}
	if (wr->num_sge < 0 || (guint)wr->num_sge > qp->cap.max_send_sge)
		return EINVAL;
	if (qp->sends_held < qp->cap.max_send_wr)
		return 0;
	fake_problem(nic_of(qp), "send queue overrun: more than %u posted", qp->cap.max_send_wr);
	return ENOMEM;
}

static FakeWork *new_work(FakeQp *qp, const struct ibv_send_wr *wr)
{
	FakeNic *nic = nic_of(qp);
	const FakeConfig *config = &nic->config;
	FakeWork *work = g_new0(FakeWork, 1);

	work->id = wr->wr_id;
	work->opcode = wr->opcode;
	work->signalled = qp->all_signalled || wr->send_flags & IBV_SEND_SIGNALED;
	work->n_sge = wr->num_sge;
	for (guint i = 0; i < work->n_sge; i++) {
		work->sge[i] = wr->sg_list[i];
		work->length += wr->sg_list[i].length;
	}
	work->address = wr->wr.rdma.remote_addr;
	work->key = wr->wr.rdma.rkey;
	work->imm = wr->imm_data;
	if (config->delay_max_us)
		work->ready = g_get_monotonic_time() + g_rand_int_range(nic->random,
									config->delay_min_us,
									config->delay_max_us + 1);
	return work;
}

int fake_post_send(struct ibv_qp *ibv_qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	FakeQp *qp = (FakeQp *)ibv_qp;
	int error = 0;

	for (; wr && !error; wr = error ? wr : wr->next) {
		error = fake_enter(qp->device, FAKE_POST_SEND);
		g_mutex_lock(&nic_of(qp)->lock);
		if (!error)
			error = check_send(qp, wr);
		if (!error) {
			qp->sends_held++;
			g_queue_push_tail(&qp->sends, new_work(qp, wr));
			if (ibv_qp->state == IBV_QPS_ERR)
				fake_complete_send(qp, IBV_WC_WR_FLUSH_ERR);
		}
		g_cond_signal(&nic_of(qp)->work);
		g_mutex_unlock(&nic_of(qp)->lock);
	}
	if (error)
		*bad = wr;
	return error;
}

int fake_post_recv(struct ibv_qp *ibv_qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	FakeQp *qp = (FakeQp *)ibv_qp;
	int error = 0;

	for (; wr && !error; wr = error ? wr : wr->next) {
		error = fake_enter(qp->device, FAKE_POST_RECV);
		g_mutex_lock(&nic_of(qp)->lock);
		if (!error && qp->receives_held >= qp->cap.max_recv_wr) {
			fake_problem(nic_of(qp), "receive queue overrun: more than %u posted",
				     qp->cap.max_recv_wr);
			error = ENOMEM;
		}
		if (!error) {
			qp->receives_held++;
			g_queue_push_tail(&qp->receives, g_memdup2(&wr->wr_id, sizeof(wr->wr_id)));
			if (ibv_qp->state == IBV_QPS_ERR)
				fake_flush(qp);
		}
		g_cond_signal(&nic_of(qp)->work);
		g_mutex_unlock(&nic_of(qp)->lock);
	}
	if (error)
		*bad = wr;
	return error;
}
