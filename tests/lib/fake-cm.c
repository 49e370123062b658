/* SPDX-License-Identifier: BSD-2-Clause */
#include "fake-private.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int failed(int error)
{
	errno = error;
	return -1;
}

/* ---- events ---- */

struct rdma_event_channel *fake_create_event_channel(FakeDevice *device)
{
	int error = fake_enter(device, FAKE_CREATE_EVENT_CHANNEL);
	FakeChannel *channel;

	if (error) {
		errno = error;
		return NULL;
	}
	channel = g_new0(FakeChannel, 1);
	channel->device = device;
	channel->channel.fd = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
	g_queue_init(&channel->events);
	g_mutex_lock(&device->nic->lock);
	device->counts.channels++;
	g_mutex_unlock(&device->nic->lock);
	return &channel->channel;
}

void fake_destroy_event_channel(struct rdma_event_channel *rdma_channel)
{
	FakeChannel *channel = (FakeChannel *)rdma_channel;
	FakeNic *nic = channel->device->nic;

	fake_enter(channel->device, FAKE_DESTROY_EVENT_CHANNEL);
	g_mutex_lock(&nic->lock);
	if (channel->ids || channel->unacked)
		fake_problem(nic, "rdma_destroy_event_channel: %u ids, %u events not acked",
			     channel->ids, channel->unacked);
	channel->device->counts.channels--;
	close(rdma_channel->fd);
	if (!channel->ids && !channel->unacked)
		g_free(channel);
	g_mutex_unlock(&nic->lock);
}

void fake_push_event(FakeId *id, FakeId *counted, enum rdma_cm_event_type type, int status,
		     const struct rdma_conn_param *param, guint data_len)
{
	FakeEvent *event = g_new0(FakeEvent, 1);
	FakeChannel *channel = (FakeChannel *)counted->id.channel;

	event->counted = counted;
	event->event.id = &id->id;
	event->event.listen_id = id == counted ? NULL : &counted->id;
	event->event.event = type;
	event->event.status = status;
	if (param) {
		event->event.param.conn = *param;
		if (param->private_data)
			memcpy(event->data, param->private_data, param->private_data_len);
		event->event.param.conn.private_data = event->data;
		event->event.param.conn.private_data_len = data_len;
	}
	g_queue_push_tail(&channel->events, event);
	fake_signal(channel->channel.fd);
}

int fake_get_cm_event(struct rdma_event_channel *rdma_channel, struct rdma_cm_event **event)
{
	FakeChannel *channel = (FakeChannel *)rdma_channel;
	int error = fake_enter(channel->device, FAKE_GET_CM_EVENT);
	FakeEvent *first;

	if (error)
		return failed(error);
	if (!fake_take(rdma_channel->fd))
		return -1;
	g_mutex_lock(&channel->device->nic->lock);
	first = g_queue_pop_head(&channel->events);
	if (first) {
		first->channel = channel;
		first->counted->unacked++;
		((FakeId *)first->event.id)->unseen = FALSE;
		channel->unacked++;
		channel->device->counts.unacked++;
	}
	g_mutex_unlock(&channel->device->nic->lock);
	if (!first)
		return failed(EAGAIN);
	*event = &first->event;
	return 0;
}

int fake_ack_cm_event(struct rdma_cm_event *rdma_event)
{
	FakeEvent *event = (FakeEvent *)rdma_event;
	FakeDevice *device = event->channel->device;
	int error = fake_enter(device, FAKE_ACK_CM_EVENT);

	g_mutex_lock(&device->nic->lock);
	event->counted->unacked--;
	event->channel->unacked--;
	device->counts.unacked--;
	g_mutex_unlock(&device->nic->lock);
	/* Whoever uses private data behind the ack reads this. */
	memset(event->data, 0xdd, sizeof(event->data));
	g_free(event);
	return error ? failed(error) : 0;
}

/* ---- ids ---- */

FakeId *fake_new_id(FakeDevice *device, struct rdma_event_channel *channel, void *context,
		    enum rdma_port_space ps)
{
	FakeId *id = g_new0(FakeId, 1);

	id->id.channel = channel;
	id->id.context = context;
	id->id.ps = ps;
	id->device = device;
	device->counts.ids++;
	((FakeChannel *)channel)->ids++;
	g_ptr_array_add(device->nic->ids, id);
	return id;
}

int fake_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **id, void *context,
		   enum rdma_port_space ps)
{
	FakeDevice *device = ((FakeChannel *)channel)->device;
	int error = fake_enter(device, FAKE_CREATE_ID);

	if (error || ps != RDMA_PS_TCP)
		return failed(error ? error : EINVAL);
	g_mutex_lock(&device->nic->lock);
	*id = &fake_new_id(device, channel, context, ps)->id;
	g_mutex_unlock(&device->nic->lock);
	return 0;
}

static void remove_id(FakeId *id)
{
	FakeNic *nic = id->device->nic;

	for (guint i = nic->timers->len; i-- > 0;)
		if (g_array_index(nic->timers, FakeTimer, i).id == id)
			g_array_remove_index(nic->timers, i);
	if (id->peer)
		id->peer->peer = NULL;
	((FakeChannel *)id->id.channel)->ids--;
	id->device->counts.ids--;
	g_ptr_array_remove(nic->ids, id);
}

void fake_tell_disconnected(FakeId *id)
{
	if (!id->connected || id->told)
		return;
	id->told = TRUE;
	fake_push_event(id, id, RDMA_CM_EVENT_DISCONNECTED, 0, NULL, 0);
}

void fake_leave(FakeId *id)
{
	FakeId *peer = id->peer;

	if (!peer)
		return;
	id->peer = peer->peer = NULL;
	if (id->device->nic->cut || peer->unseen)
		return;
	if (peer->connected)
		fake_tell_disconnected(peer);
	else
		fake_push_event(peer, peer, RDMA_CM_EVENT_REJECTED, FAKE_REJECTED_BY_PEER, NULL, 0);
}

/* Takes the events of @id out of its channel's queue. Requests that nobody took are rejected. */
static GList *take_events(FakeId *id)
{
	FakeChannel *channel = (FakeChannel *)id->id.channel;
	struct pollfd fd = { .fd = channel->channel.fd, .events = POLLIN };
	GList *taken = NULL;

	for (GList *link = channel->events.head, *next; link; link = next) {
		FakeEvent *event = link->data;

		next = link->next;
		if (event->counted != id)
			continue;
		g_queue_delete_link(&channel->events, link);
		if (poll(&fd, 1, 0) == 1)
			fake_take(fd.fd);
		taken = g_list_append(taken, event);
	}
	return taken;
}

static void drop_event(gpointer data)
{
	FakeEvent *event = data;
	FakeId *request = (FakeId *)event->event.id;

	if (request != event->counted) {
		fake_leave(request);
		remove_id(request);
		g_free(request);
	}
	g_free(event);
}

int fake_destroy_id(struct rdma_cm_id *rdma_id)
{
	FakeId *id = (FakeId *)rdma_id;
	FakeDevice *device = id->device;
	FakeNic *nic = device->nic;
	int error = fake_enter(device, FAKE_DESTROY_ID);

	g_mutex_lock(&nic->lock);
	if (id->unacked)
		fake_problem(nic, "rdma_destroy_id hangs: %u events not acked", id->unacked);
	if (rdma_id->qp)
		fake_problem(nic, "rdma_destroy_id: the id has a queue pair");
	g_list_free_full(take_events(id), drop_event);
	fake_leave(id);
	remove_id(id);
	if (!id->unacked && !rdma_id->qp)
		g_free(id);
	g_cond_signal(&nic->work);
	g_mutex_unlock(&nic->lock);
	return error ? failed(error) : 0;
}

int fake_migrate_id(struct rdma_cm_id *rdma_id, struct rdma_event_channel *rdma_channel)
{
	FakeId *id = (FakeId *)rdma_id;
	FakeNic *nic = id->device->nic;
	FakeChannel *channel = (FakeChannel *)rdma_channel;
	int error = fake_enter(id->device, FAKE_MIGRATE_ID);
	GList *events;

	if (error)
		return failed(error);
	g_mutex_lock(&nic->lock);
	if (id->unacked)
		fake_problem(nic, "rdma_migrate_id hangs: %u events not acked", id->unacked);
	events = take_events(id);
	((FakeChannel *)rdma_id->channel)->ids--;
	channel->ids++;
	rdma_id->channel = rdma_channel;
	for (GList *link = events; link; link = link->next) {
		g_queue_push_tail(&channel->events, link->data);
		fake_signal(rdma_channel->fd);
	}
	g_list_free(events);
	g_mutex_unlock(&nic->lock);
	return 0;
}

int fake_set_option(struct rdma_cm_id *id, int level, int name, void *value, size_t len)
{
	int error = fake_enter(((FakeId *)id)->device, FAKE_SET_OPTION);

	if (!error && (level != RDMA_OPTION_ID || name < RDMA_OPTION_ID_TOS ||
		       name > RDMA_OPTION_ID_ACK_TIMEOUT))
		error = EINVAL;
	return error ? failed(error) : 0;
}

/* ---- addresses ---- */

static gboolean is_any(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
		return ((const struct sockaddr_in *)address)->sin_addr.s_addr == INADDR_ANY;
	return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

/* The same place in both families. */
static in_port_t *port_of(struct sockaddr *address)
{
	return &((struct sockaddr_in *)address)->sin_port;
}

static size_t length_of(const struct sockaddr *address)
{
	return address->sa_family == AF_INET ? sizeof(struct sockaddr_in)
					     : sizeof(struct sockaddr_in6);
}

static gboolean same_host(const struct sockaddr *a, const struct sockaddr *b)
{
	if (a->sa_family != b->sa_family)
		return FALSE;
	if (a->sa_family == AF_INET)
		return ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
		       ((const struct sockaddr_in *)b)->sin_addr.s_addr;
	return IN6_ARE_ADDR_EQUAL(&((const struct sockaddr_in6 *)a)->sin6_addr,
				  &((const struct sockaddr_in6 *)b)->sin6_addr);
}

FakeId *fake_find_listener(FakeNic *nic, struct sockaddr *address)
{
	for (guint i = 0; i < nic->ids->len; i++) {
		FakeId *id = nic->ids->pdata[i];
		struct sockaddr *bound = &id->id.route.addr.src_addr;

		if (!id->listening || *port_of(bound) != *port_of(address) ||
		    bound->sa_family != address->sa_family)
			continue;
		if (same_host(bound, address) || is_any(bound) || is_any(address))
			return id;
	}
	return NULL;
}

int fake_bind_addr(struct rdma_cm_id *rdma_id, struct sockaddr *address)
{
	FakeId *id = (FakeId *)rdma_id;
	FakeNic *nic = id->device->nic;
	struct sockaddr *own = &rdma_id->route.addr.src_addr;
	int error = fake_enter(id->device, FAKE_BIND_ADDR);

	if (!error && id->device->absent)
		error = ENODEV;
	if (error)
		return failed(error);
	g_mutex_lock(&nic->lock);
	memcpy(own, address, length_of(address));
	if (!*port_of(own))
		*port_of(own) = htons(20000 + nic->ports++);
	if (fake_find_listener(nic, own))
		error = EADDRINUSE;
	id->bound = !error;
	if (id->bound && !is_any(own)) {
		rdma_id->verbs = &id->device->context;
		rdma_id->port_num = 1;
	}
	g_mutex_unlock(&nic->lock);
	return error ? failed(error) : 0;
}

int fake_listen(struct rdma_cm_id *rdma_id, int backlog)
{
	FakeId *id = (FakeId *)rdma_id;
	int error = fake_enter(id->device, FAKE_LISTEN);

	if (!error && !id->bound)
		error = EINVAL;
	if (error)
		return failed(error);
	g_mutex_lock(&id->device->nic->lock);
	id->listening = TRUE;
	g_mutex_unlock(&id->device->nic->lock);
	return 0;
}

/* Takes the planned refusal if it is for this step. */
static gboolean take_refusal(FakeRefusal *refusal, gboolean route, FakeRefusal *taken)
{
	if (!refusal->set || route != (refusal->type == RDMA_CM_EVENT_ROUTE_ERROR))
		return FALSE;
	*taken = *refusal;
	refusal->set = FALSE;
	fake_nic_here()->fault_us = g_get_monotonic_time();
	return TRUE;
}

int fake_resolve_addr(struct rdma_cm_id *rdma_id, struct sockaddr *source,
		      struct sockaddr *destination, int timeout_ms)
{
	FakeId *id = (FakeId *)rdma_id;
	FakeNic *nic = id->device->nic;
	FakeRefusal refusal = { .type = RDMA_CM_EVENT_ADDR_RESOLVED };
	int error = fake_enter(id->device, FAKE_RESOLVE_ADDR);

	if (error)
		return failed(error);
	g_mutex_lock(&nic->lock);
	memcpy(&rdma_id->route.addr.dst_addr, destination, length_of(destination));
	rdma_id->route.addr.src_addr.sa_family = destination->sa_family;
	if (id->device->absent)
		refusal = (FakeRefusal){ RDMA_CM_EVENT_ADDR_ERROR, -ENODEV, TRUE };
	else
		take_refusal(&nic->resolve, FALSE, &refusal);
	if (refusal.type == RDMA_CM_EVENT_ADDR_RESOLVED) {
		rdma_id->verbs = &id->device->context;
		rdma_id->port_num = 1;
	}
	fake_push_event(id, id, refusal.type, refusal.status, NULL, 0);
	g_mutex_unlock(&nic->lock);
	return 0;
}

int fake_resolve_route(struct rdma_cm_id *rdma_id, int timeout_ms)
{
	FakeId *id = (FakeId *)rdma_id;
	FakeNic *nic = id->device->nic;
	FakeRefusal refusal = { .type = RDMA_CM_EVENT_ROUTE_RESOLVED };
	int error = fake_enter(id->device, FAKE_RESOLVE_ROUTE);

	if (!error && !rdma_id->verbs)
		error = EINVAL;
	if (error)
		return failed(error);
	g_mutex_lock(&nic->lock);
	take_refusal(&nic->resolve, TRUE, &refusal);
	id->resolved = refusal.type == RDMA_CM_EVENT_ROUTE_RESOLVED;
	fake_push_event(id, id, refusal.type, refusal.status, NULL, 0);
	g_mutex_unlock(&nic->lock);
	return 0;
}
