/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <sys/eventfd.h>
#include "cm.h"
#include "link.h"

#define RESOLVE_MS 2000
#define CONNECT_US (3 * G_USEC_PER_SEC)

/* 4.096 us * 2^16 = 268 ms, six times: a peer that is gone shows in 1.6 s. With half of that a busy
 * host looked like one. 7 retries would be for ever with some devices. */
#define ACK_TIMEOUT 16
#define RETRIES 5
#define RNR_RETRIES 6

typedef enum {
	STEP_NONE,
	STEP_RESOLVED,
	STEP_CONNECTED
} Step;

typedef struct {
	FerryRdmaLink *link;
	const FerryRdmaPeer *peer;
	Step steps[FERRY_RDMA_QUEUES_MAX];
} Connecting;

/* Starts the search for the device and the way to @address for queue pair @i. */
static gboolean begin(Connecting *c, guint i, struct sockaddr *address, GError **error)
{
	const FerryVerbs *verbs = c->link->verbs;
	struct rdma_cm_id **id = &c->link->queues[i].id;
	int failure;

	if (verbs->create_id(c->link->events, id, NULL, RDMA_PS_TCP) != 0) {
		*id = NULL;
		return ferry_verbs_failed(error, "rdma_create_id", errno);
	}
	if (verbs->resolve_addr(*id, NULL, address, RESOLVE_MS) != 0) {
		g_autofree char *text = ferry_rdma_address_text(address);

		failure = errno;
		ferry_verbs_failed(error, "rdma_resolve_addr", failure);
		g_prefix_error(error, "%s: ", text);
		return FALSE;
	}
	return TRUE;
}

static gboolean route(Connecting *c, struct rdma_cm_id *id, GError **error)
{
	const FerryVerbs *verbs = c->link->verbs;
	uint8_t timeout = ACK_TIMEOUT;

	/* Not every device and kernel has it; then the timeout is the path's. */
	(void)verbs->set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout,
				sizeof(timeout));
	if (verbs->resolve_route(id, RESOLVE_MS) != 0)
		return ferry_verbs_failed(error, "rdma_resolve_route", errno);
	return TRUE;
}

static guint count_at(const Connecting *c, Step goal)
{
	guint n = 0;

	for (guint i = 0; i < c->link->n; i++)
		n += c->steps[i] >= goal;
	return n;
}

static void note_connected(Connecting *c, guint i)
{
	gboolean first = !count_at(c, STEP_CONNECTED);

	c->steps[i] = STEP_CONNECTED;
	c->link->queues[i].established = TRUE;
	if (first && c->peer->on_first)
		c->peer->on_first(c->peer->user);
}

static gboolean advance(Connecting *c, const FerryRdmaEvent *event, GError **error)
{
	guint i;

	for (i = 0; i < c->link->n && c->link->queues[i].id != event->id; i++)
		;
	if (i == c->link->n)
		return TRUE;
	switch (event->type) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		return route(c, event->id, error);
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		/* Never back: an event may come twice. */
		c->steps[i] = MAX(c->steps[i], STEP_RESOLVED);
		return TRUE;
	case RDMA_CM_EVENT_ESTABLISHED:
		note_connected(c, i);
		return TRUE;
	default:
		return ferry_rdma_event_failed(error, event, i);
	}
}

/* As ferry_rdma_await(), until there is an event, or the link failed: the peer can refuse on the
 * control channel. */
static int await_news(Connecting *c, gint64 deadline, GError **error)
{
	const int fds[] = { c->link->events->fd, c->peer->wake };
	int ready = ferry_rdma_await(fds, c->peer->wake >= 0 ? 2 : 1, deadline,
				     c->peer->cancellable, error);
	eventfd_t n;

	if (ready > 0 && c->peer->wake >= 0)
		eventfd_read(c->peer->wake, &n);
	if (!ferry_rdma_link_is_dead(c->link))
		return ready;
	g_clear_error(error);
	g_propagate_error(error, ferry_rdma_link_error(c->link));
	return -1;
}

/* Handles events until all queue pairs are at @goal. */
static gboolean run(Connecting *c, Step goal, gint64 deadline, GError **error)
{
	FerryRdmaLink *link = c->link;

	while (count_at(c, goal) < link->n) {
		FerryRdmaEvent event;
		int ready = ferry_rdma_events_next(link->verbs, link->events, &event, error);

		if (ready < 0 || (ready > 0 && !advance(c, &event, error)))
			return FALSE;
		if (ready > 0)
			continue;
		ready = await_news(c, deadline, error);
		if (ready < 0)
			return FALSE;
		if (ready > 0)
			continue;
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "RDMA to %s port %u: no answer in time for %u of %u queue pairs (%s): "
			    "look at the route, and whether UDP port 4791 (RoCE) may pass",
			    c->peer->host, c->peer->port, link->n - count_at(c, goal), link->n,
			    goal == STEP_RESOLVED ? "resolving the address" : "connecting");
		return FALSE;
	}
	return TRUE;
}

/* Twice: the address, then the route. */
static gint64 resolve_deadline(void)
{
	return g_get_monotonic_time() + 2 * RESOLVE_MS * G_TIME_SPAN_MILLISECOND;
}

static gboolean resolve_one(Connecting *c, struct sockaddr *address, GError **error)
{
	FerryRdmaLink *link = c->link;

	if (begin(c, 0, address, error) && run(c, STEP_RESOLVED, resolve_deadline(), error) &&
	    ferry_rdma_link_set_up(link, link->queues[0].id, &c->peer->depths, error))
		return TRUE;
	return FALSE;
}

static void drop_id(FerryRdmaLink *link)
{
	if (link->queues[0].id)
		link->verbs->destroy_id(link->queues[0].id);
	link->queues[0].id = NULL;
}

gboolean ferry_rdma_connect_resolve(FerryRdmaLink *link, const FerryRdmaPeer *peer, GError **error)
{
	g_autoptr(GArray)
		addresses = ferry_rdma_addresses(peer->host, peer->port, peer->cancellable, error);
	Connecting c = { .link = link, .peer = peer };
	g_autoptr(GError) first = NULL;

	if (!addresses)
		return FALSE;
	link->events = ferry_rdma_events_new(link->verbs, error);
	if (!link->events)
		return FALSE;
	link->n = 1;
	for (guint i = 0; i < addresses->len; i++) {
		g_autoptr(GError) cause = NULL;
		gpointer address = &g_array_index(addresses, struct sockaddr_storage, i);

		if (resolve_one(&c, address, &cause))
			return TRUE;
		if (!first || cause->code == FERRY_ERROR_CANCELLED) {
			g_clear_error(&first);
			first = g_steal_pointer(&cause);
		}
		/* Half set up, it cannot take another device. */
		if (first->code == FERRY_ERROR_CANCELLED || link->pd)
			break;
		drop_id(link);
	}
	g_propagate_error(error, g_steal_pointer(&first));
	return FALSE;
}

static gboolean connect_queue(Connecting *c, guint i, GError **error)
{
	FerryRdmaLink *link = c->link;
	const struct ibv_device_attr *device = &link->device.orig_attr;
	guint8 private_data[FERRY_RDMA_GREETING_SIZE];
	FerryRdmaGreeting greeting = { .queue = i };
	struct rdma_conn_param param = {
		.private_data = private_data,
		.private_data_len = sizeof(private_data),
		.responder_resources = (uint8_t)MIN(device->max_qp_rd_atom, (int)c->peer->reads),
		.initiator_depth = (uint8_t)MIN(device->max_qp_init_rd_atom, 1),
		.retry_count = RETRIES,
		.rnr_retry_count = RNR_RETRIES,
	};

	memcpy(greeting.nonce, c->peer->nonce, FERRY_NONCE_SIZE);
	ferry_rdma_put_greeting(private_data, &greeting);
	if (!ferry_rdma_link_set_up(link, link->queues[i].id, &c->peer->depths, error) ||
	    !ferry_rdma_link_make_queue(link, i, &c->peer->depths, error))
		return FALSE;
	if (link->verbs->connect(link->queues[i].id, &param) != 0)
		return ferry_verbs_failed(error, "rdma_connect", errno);
	return TRUE;
}

gboolean ferry_rdma_connect(FerryRdmaLink *link, const FerryRdmaPeer *peer, GError **error)
{
	Connecting c = { .link = link, .peer = peer, .steps = { STEP_RESOLVED } };
	/* Of the first id, which keeps it. */
	struct sockaddr *address = rdma_get_peer_addr(link->queues[0].id);

	link->n = peer->queues;
	for (guint i = 1; i < peer->queues; i++)
		if (!begin(&c, i, address, error))
			return FALSE;
	if (!run(&c, STEP_RESOLVED, resolve_deadline(), error))
		return FALSE;
	for (guint i = 0; i < peer->queues; i++)
		if (!connect_queue(&c, i, error))
			return FALSE;
	return run(&c, STEP_CONNECTED, g_get_monotonic_time() + CONNECT_US, error);
}
