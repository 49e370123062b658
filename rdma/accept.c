/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include "cm.h"
#include "link.h"

#define BACKLOG 64
#define ACCEPT_US (5 * G_USEC_PER_SEC)
#define RNR_RETRIES 6
#define MIN_RNR_TIMER 12 /* 0.64 ms: code of the InfiniBand standard; 0 would be 655 ms */

struct FerryRdmaAcceptor {
	const FerryVerbs *verbs;
	struct rdma_event_channel *events;
	GPtrArray *ids;         /* of struct rdma_cm_id, listening */
	FerryRdmaLimits limits; /* of the devices when the listening began */
};

void ferry_rdma_acceptor_free(FerryRdmaAcceptor *acceptor)
{
	if (!acceptor)
		return;
	for (guint i = 0; i < acceptor->ids->len; i++)
		acceptor->verbs->destroy_id(g_ptr_array_index(acceptor->ids, i));
	g_ptr_array_unref(acceptor->ids);
	if (acceptor->events)
		acceptor->verbs->destroy_event_channel(acceptor->events);
	g_free(acceptor);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryRdmaAcceptor, ferry_rdma_acceptor_free)

/* ---- listening ---- */

static gboolean listen_on(FerryRdmaAcceptor *acceptor, struct sockaddr *address, GError **error)
{
	const FerryVerbs *verbs = acceptor->verbs;
	g_autofree char *text = ferry_rdma_address_text(address);
	struct rdma_cm_id *id;
	const char *call = "rdma_bind_addr";
	int on = 1, failure;

	if (verbs->create_id(acceptor->events, &id, NULL, RDMA_PS_TCP) != 0)
		return ferry_verbs_failed(error, "rdma_create_id", errno);
	/* A port whose last connections linger can be had again, as with sockets. */
	(void)verbs->set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_REUSEADDR, &on, sizeof(on));
	if (verbs->bind_addr(id, address) == 0) {
		call = "rdma_listen";
		if (verbs->listen(id, BACKLOG) == 0) {
			g_ptr_array_add(acceptor->ids, id);
			return TRUE;
		}
	}
	failure = errno;
	verbs->destroy_id(id);
	ferry_verbs_failed(error, call, failure);
	g_prefix_error(error, "%s: ", text);
	return FALSE;
}

const FerryRdmaLimits *ferry_rdma_acceptor_limits(const FerryRdmaAcceptor *acceptor)
{
	return &acceptor->limits;
}

FerryRdmaAcceptor *ferry_rdma_acceptor_new(const FerryVerbs *verbs, const char *host, guint16 port,
					   GError **error)
{
	g_autoptr(FerryRdmaAcceptor) acceptor = g_new0(FerryRdmaAcceptor, 1);
	g_autoptr(GArray) addresses = NULL;
	g_autoptr(GError) cause = NULL;

	acceptor->verbs = verbs;
	acceptor->ids = g_ptr_array_new();
	ferry_rdma_get_limits(verbs, &acceptor->limits);
	if (!acceptor->limits.n) {
		g_autofree char *why = ferry_rdma_missing("");

		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "%s", why);
		return NULL;
	}
	acceptor->events = ferry_rdma_events_new(verbs, &cause);
	if (acceptor->events)
		addresses = ferry_rdma_addresses(host, port, NULL, &cause);
	for (guint i = 0; addresses && i < addresses->len; i++)
		listen_on(acceptor, (gpointer)&g_array_index(addresses, struct sockaddr_storage, i),
			  cause ? NULL : &cause);
	if (acceptor->ids->len)
		return g_steal_pointer(&acceptor);
	/* Whatever it was: pages can still go over the control channel. */
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "%s", cause->message);
	return NULL;
}

/* ---- accepting ---- */

typedef struct {
	FerryRdmaAcceptor *acceptor;
	FerryRdmaLink *link;
	const guint8 *nonce;
	guint queues;
	const FerryRdmaDepths *depths;
	gboolean (*prepare)(gpointer user, guint queue, GError **error);
	gpointer user;
	guint established;
} Accepting;

static void reject(Accepting *a, struct rdma_cm_id *id)
{
	a->link->verbs->reject(id, NULL, 0);
	a->link->verbs->destroy_id(id);
}

static gboolean accept_queue(Accepting *a, const FerryRdmaEvent *request, guint queue,
			     GError **error)
{
	FerryRdmaLink *link = a->link;
	const struct ibv_device_attr *device = &link->device.orig_attr;
	struct rdma_conn_param param = {
		.responder_resources = (uint8_t)MIN(request->responder_resources,
						    device->max_qp_rd_atom),
		.initiator_depth = (uint8_t)MIN(request->initiator_depth,
						device->max_qp_init_rd_atom),
		.rnr_retry_count = RNR_RETRIES,
	};

	link->queues[queue].reads = param.initiator_depth;
	if (!ferry_rdma_link_make_queue(link, queue, a->depths, error) ||
	    (a->prepare && !a->prepare(a->user, queue, error)))
		return FALSE;
	if (link->verbs->migrate_id(request->id, link->events) != 0)
		return ferry_verbs_failed(error, "rdma_migrate_id", errno);
	if (link->verbs->accept(request->id, &param) != 0)
		return ferry_verbs_failed(error, "rdma_accept", errno);
	return TRUE;
}

/* Takes a request that is ours. Another's, or one that comes twice, is rejected. */
static gboolean take_request(Accepting *a, const FerryRdmaEvent *request, GError **error)
{
	FerryRdmaLink *link = a->link;
	FerryRdmaGreeting greeting;

	if (!ferry_rdma_get_greeting(request->private_data, request->private_len, &greeting,
				     NULL) ||
	    memcmp(greeting.nonce, a->nonce, FERRY_NONCE_SIZE) != 0 ||
	    greeting.queue >= a->queues || link->queues[greeting.queue].id) {
		reject(a, request->id);
		return TRUE;
	}
	if (!ferry_rdma_link_set_up(link, request->id, a->depths, error)) {
		reject(a, request->id);
		return FALSE;
	}
	link->queues[greeting.queue].id = request->id;
	return accept_queue(a, request, greeting.queue, error);
}

/* Requests, and what happens to a request before it is moved to the link's channel. */
static gboolean take_acceptor_events(Accepting *a, GError **error)
{
	FerryRdmaEvent event;
	int ready;

	while ((ready = ferry_rdma_events_next(a->link->verbs, a->acceptor->events, &event,
					       error)) > 0) {
		if (event.type == RDMA_CM_EVENT_CONNECT_REQUEST && !take_request(a, &event, error))
			return FALSE;
		if (event.type == RDMA_CM_EVENT_DEVICE_REMOVAL)
			return ferry_rdma_event_failed(error, &event, 0);
	}
	return ready == 0;
}

static gboolean take_link_events(Accepting *a, GError **error)
{
	FerryRdmaLink *link = a->link;
	FerryRdmaEvent event;
	int ready;

	while ((ready = ferry_rdma_events_next(link->verbs, link->events, &event, error)) > 0) {
		struct ibv_qp_attr attr = { .min_rnr_timer = MIN_RNR_TIMER };
		guint i;

		for (i = 0; i < link->n && link->queues[i].id != event.id; i++)
			;
		if (i == link->n)
			continue;
		if (event.type != RDMA_CM_EVENT_ESTABLISHED)
			return ferry_rdma_event_failed(error, &event, i);
		a->established += !link->queues[i].established;
		link->queues[i].established = TRUE;
		/* Only memory registered on demand ever answers «not ready»; the CM leaves 0. In
		 * postcopy there are no more writes under way than receives. */
		(void)link->verbs->modify_qp(event.id->qp, &attr, IBV_QP_MIN_RNR_TIMER);
	}
	return ready == 0;
}

static gboolean timed_out(const Accepting *a, GError **error)
{
	guint came = 0;

	for (guint i = 0; i < a->queues; i++)
		came += a->link->queues[i].id != NULL;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
		    "RDMA: of %u queue pairs of the source %u asked to be connected and %u were, "
		    "in %d s: look at the route, and whether UDP port 4791 (RoCE) may pass",
		    a->queues, came, a->established, (int)(ACCEPT_US / G_USEC_PER_SEC));
	return FALSE;
}

gboolean ferry_rdma_accept(FerryRdmaAcceptor *acceptor, FerryRdmaLink *link, const guint8 *nonce,
			   guint queues, const FerryRdmaDepths *depths,
			   gboolean (*prepare)(gpointer user, guint queue, GError **error),
			   gpointer user, GCancellable *cancellable, GError **error)
{
	Accepting a = {
		.acceptor = acceptor,
		.link = link,
		.nonce = nonce,
		.queues = queues,
		.depths = depths,
		.prepare = prepare,
		.user = user,
	};
	gint64 deadline = g_get_monotonic_time() + ACCEPT_US;
	int fds[2];

	link->events = ferry_rdma_events_new(link->verbs, error);
	if (!link->events)
		return FALSE;
	link->n = queues;
	fds[0] = acceptor->events->fd;
	fds[1] = link->events->fd;
	for (;;) {
		int ready;

		if (!take_acceptor_events(&a, error) || !take_link_events(&a, error))
			return FALSE;
		if (a.established == queues)
			return TRUE;
		ready = ferry_rdma_await(fds, G_N_ELEMENTS(fds), deadline, cancellable, error);
		if (ready < 0)
			return FALSE;
		if (ready == 0)
			return timed_out(&a, error);
	}
}
