/* SPDX-License-Identifier: BSD-2-Clause */
#include "fake-private.h"

#include <errno.h>

/* What the receiver sees of private data is always as long as the message has room. */
#define CONNECT_DATA 56u
#define ACCEPT_DATA 196u
#define REJECT_DATA 148u
#define REJECTED_NO_LISTENER 8

static int failed(int error)
{
	errno = error;
	return -1;
}

void fake_run_timers(FakeNic *nic, gint64 now, gint64 *next)
{
	for (guint i = 0; i < nic->timers->len;) {
		FakeTimer timer = g_array_index(nic->timers, FakeTimer, i);

		if (timer.when > now) {
			*next = MIN(*next, timer.when);
			i++;
			continue;
		}
		g_array_remove_index(nic->timers, i);
		fake_push_event(timer.id, timer.id, timer.type, timer.status, NULL, 0);
	}
}

static void request_connection(FakeId *id, struct rdma_conn_param *param)
{
	FakeNic *nic = id->device->nic;
	FakeTimer unreachable = { .when = g_get_monotonic_time() + nic->config.unreachable_us,
				  .id = id,
				  .type = RDMA_CM_EVENT_UNREACHABLE,
				  .status = -ETIMEDOUT };
	FakeId *listener = fake_find_listener(nic, &id->id.route.addr.dst_addr), *request;
	struct rdma_conn_param seen = *param;

	if (nic->cut) {
		g_array_append_val(nic->timers, unreachable);
		g_cond_signal(&nic->work);
		return;
	}
	if (!listener) {
		fake_push_event(id, id, RDMA_CM_EVENT_REJECTED, REJECTED_NO_LISTENER, NULL, 0);
		return;
	}
	request = fake_new_id(listener->device, listener->id.channel, listener->id.context,
			      listener->id.ps);
	request->id.verbs = &listener->device->context;
	request->id.port_num = 1;
	request->id.route.addr.src_storage = id->id.route.addr.dst_storage;
	request->id.route.addr.dst_storage = id->id.route.addr.src_storage;
	request->unseen = TRUE;
	request->peer = id;
	request->rnr_retry = param->rnr_retry_count;
	id->peer = request;
	/* What one side may ask is what the other answers. */
	seen.responder_resources = param->initiator_depth;
	seen.initiator_depth = param->responder_resources;
	fake_push_event(request, listener, RDMA_CM_EVENT_CONNECT_REQUEST, 0, &seen, CONNECT_DATA);
}

int fake_connect(struct rdma_cm_id *rdma_id, struct rdma_conn_param *param)
{
	FakeId *id = (FakeId *)rdma_id;
	FakeNic *nic = id->device->nic;
	int error = fake_enter(id->device, FAKE_CONNECT);

	if (!error && (!id->resolved || !rdma_id->qp || param->private_data_len > CONNECT_DATA))
		error = EINVAL;
	if (error)
		return failed(error);
	g_mutex_lock(&nic->lock);
	if (nic->connect.set) {
		nic->connect.set = FALSE;
		nic->fault_us = g_get_monotonic_time();
		fake_push_event(id, id, nic->connect.type, nic->connect.status, NULL, 0);
	} else {
		request_connection(id, param);
	}
	g_mutex_unlock(&nic->lock);
	return 0;
}

int fake_accept(struct rdma_cm_id *rdma_id, struct rdma_conn_param *param)
{
	static const struct rdma_conn_param none;
	FakeId *id = (FakeId *)rdma_id;
	FakeNic *nic = id->device->nic;
	int error = fake_enter(id->device, FAKE_ACCEPT);
	FakeId *peer;

	if (error)
		return failed(error);
	param = param ? param : (struct rdma_conn_param *)&none;
	g_mutex_lock(&nic->lock);
	peer = id->peer;
	if (!peer || !peer->id.qp || !rdma_id->qp || id->connected ||
	    param->private_data_len > ACCEPT_DATA) {
		error = EINVAL;
	} else {
		id->connected = peer->connected = TRUE;
		peer->rnr_retry = param->rnr_retry_count;
		id->reads = param->initiator_depth;
		rdma_id->qp->state = peer->id.qp->state = IBV_QPS_RTS;
		fake_push_event(peer, peer, RDMA_CM_EVENT_ESTABLISHED, 0, param, ACCEPT_DATA);
		fake_push_event(id, id, RDMA_CM_EVENT_ESTABLISHED, 0, NULL, 0);
	}
	g_mutex_unlock(&nic->lock);
	return error ? failed(error) : 0;
}

int fake_reject(struct rdma_cm_id *rdma_id, const void *data, uint8_t len)
{
	FakeId *id = (FakeId *)rdma_id;
	FakeNic *nic = id->device->nic;
	struct rdma_conn_param param = { .private_data = data, .private_data_len = len };
	int error = fake_enter(id->device, FAKE_REJECT);

	if (!error && len > REJECT_DATA)
		error = EINVAL;
	g_mutex_lock(&nic->lock);
	if (id->peer && !nic->cut)
		fake_push_event(id->peer, id->peer, RDMA_CM_EVENT_REJECTED, FAKE_REJECTED_BY_PEER,
				&param, REJECT_DATA);
	if (id->peer)
		id->peer->peer = NULL;
	id->peer = NULL;
	g_mutex_unlock(&nic->lock);
	return error ? failed(error) : 0;
}

int fake_disconnect(struct rdma_cm_id *rdma_id)
{
	FakeId *id = (FakeId *)rdma_id;
	FakeNic *nic = id->device->nic;
	int error = fake_enter(id->device, FAKE_DISCONNECT);

	g_mutex_lock(&nic->lock);
	if (!id->connected && !error)
		error = EINVAL;
	if (rdma_id->qp)
		fake_flush((FakeQp *)rdma_id->qp);
	fake_tell_disconnected(id);
	if (id->peer && !nic->cut)
		fake_tell_disconnected(id->peer);
	id->connected = FALSE;
	g_mutex_unlock(&nic->lock);
	return error ? failed(error) : 0;
}
