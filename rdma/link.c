/* SPDX-License-Identifier: BSD-2-Clause */
#include "link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include "cm.h"

/* Completion events are acknowledged in batches: each time costs a lock in the library. */
#define ACK_BATCH 64u

FerryRdmaLink *ferry_rdma_link_new(const FerryVerbs *verbs)
{
	FerryRdmaLink *link = g_new0(FerryRdmaLink, 1);

	link->verbs = verbs;
	g_mutex_init(&link->lock);
	return link;
}

static void free_completions(const FerryVerbs *verbs, FerryRdmaCompletions *completions)
{
	if (completions->unacked)
		verbs->ack_cq_events(completions->cq, completions->unacked);
	if (completions->cq)
		verbs->destroy_cq(completions->cq);
}

/* The queues go before what they use, and the ids last: the library may close its device with the
 * last id. */
void ferry_rdma_link_free(FerryRdmaLink *link)
{
	const FerryVerbs *verbs;

	if (!link)
		return;
	verbs = link->verbs;
	for (guint i = 0; i < FERRY_RDMA_QUEUES_MAX; i++) {
		struct rdma_cm_id *id = link->queues[i].id;

		if (id && link->queues[i].established)
			verbs->disconnect(id);
		if (id && id->qp)
			verbs->destroy_qp(id);
	}
	free_completions(verbs, &link->fetched);
	free_completions(verbs, &link->urgent);
	free_completions(verbs, &link->bulk);
	if (link->fetches)
		verbs->destroy_comp_channel(link->fetches);
	if (link->completions)
		verbs->destroy_comp_channel(link->completions);
	if (link->pd)
		verbs->dealloc_pd(link->pd);
	for (guint i = 0; i < FERRY_RDMA_QUEUES_MAX; i++)
		if (link->queues[i].id)
			verbs->destroy_id(link->queues[i].id);
	if (link->events)
		verbs->destroy_event_channel(link->events);
	g_clear_error(&link->error);
	g_mutex_clear(&link->lock);
	g_free(link);
}

void ferry_rdma_link_fail(FerryRdmaLink *link, GError *error)
{
	g_mutex_lock(&link->lock);
	if (link->dead) {
		g_error_free(error);
	} else {
		link->error = error;
		g_atomic_int_set(&link->dead, TRUE);
	}
	g_mutex_unlock(&link->lock);
}

GError *ferry_rdma_link_error(FerryRdmaLink *link)
{
	GError *error;

	g_mutex_lock(&link->lock);
	error = link->error ? g_error_copy(link->error) : NULL;
	g_mutex_unlock(&link->lock);
	return error;
}

/* ---- made for a device ---- */

static gboolean set_non_blocking(int fd, const char *what, GError **error)
{
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0)
		return TRUE;
	return ferry_verbs_failed(error, what, errno);
}

static gboolean query(FerryRdmaLink *link, struct rdma_cm_id *id, GError **error)
{
	const FerryVerbs *verbs = link->verbs;
	int outcome = verbs->query_device_ex(id->verbs, NULL, &link->device);

	if (outcome)
		return ferry_verbs_failed(error, "ibv_query_device_ex", outcome);
	outcome = verbs->query_port(id->verbs, id->port_num, &link->port);
	if (outcome)
		return ferry_verbs_failed(error, "ibv_query_port", outcome);
	return TRUE;
}

static struct ibv_comp_channel *make_channel(FerryRdmaLink *link, struct ibv_context *context,
					     GError **error)
{
	struct ibv_comp_channel *channel = link->verbs->create_comp_channel(context);

	if (!channel)
		return ferry_verbs_failed(error, "ibv_create_comp_channel", errno), NULL;
	if (set_non_blocking(channel->fd, "fcntl of the completion channel", error))
		return channel;
	link->verbs->destroy_comp_channel(channel);
	return NULL;
}

/* @entries 0: none is wanted. */
static gboolean make_completions(FerryRdmaLink *link, FerryRdmaCompletions *completions,
				 struct ibv_comp_channel *channel, guint entries, GError **error)
{
	int outcome;

	if (!entries)
		return TRUE;
	completions->cq = link->verbs->create_cq(channel->context, (int)entries, NULL, channel, 0);
	if (!completions->cq)
		return ferry_verbs_failed(error, "ibv_create_cq", errno);
	outcome = link->verbs->req_notify_cq(completions->cq, 0);
	return !outcome || ferry_verbs_failed(error, "ibv_req_notify_cq", outcome);
}

static gboolean make_parts(FerryRdmaLink *link, struct ibv_context *context,
			   const FerryRdmaDepths *depths, GError **error)
{
	link->pd = link->verbs->alloc_pd(context);
	if (!link->pd)
		return ferry_verbs_failed(error, "ibv_alloc_pd", errno);
	link->completions = make_channel(link, context, error);
	if (!link->completions)
		return FALSE;
	if (depths->fetches && !(link->fetches = make_channel(link, context, error)))
		return FALSE;
	/* The asynchronous events of a device are of all links of the process: reading must not
	 * block where another was quicker. */
	return make_completions(link, &link->bulk, link->completions, depths->window, error) &&
	       make_completions(link, &link->urgent, link->completions, depths->urgent, error) &&
	       make_completions(link, &link->fetched, link->fetches, depths->fetches, error) &&
	       set_non_blocking(context->async_fd, "fcntl of the asynchronous events", error);
}

gboolean ferry_rdma_link_set_up(FerryRdmaLink *link, struct rdma_cm_id *id,
				const FerryRdmaDepths *depths, GError **error)
{
	if (link->context == id->verbs)
		return TRUE;
	if (link->context) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_MISMATCH,
			    "the queue pairs of one session are on two RDMA devices, %s and %s: "
			    "give an address that only one of them serves",
			    link->context->device->name, id->verbs->device->name);
		return FALSE;
	}
	if (!query(link, id, error) || !make_parts(link, id->verbs, depths, error))
		return FALSE;
	link->context = id->verbs;
	return TRUE;
}

gboolean ferry_rdma_link_make_queue(FerryRdmaLink *link, guint i, const FerryRdmaDepths *depths,
				    GError **error)
{
	struct ibv_qp_init_attr attr = {
		.send_cq = link->fetched.cq ?: ferry_rdma_link_cq(link, i),
		.recv_cq = ferry_rdma_link_cq(link, i),
		.cap = { .max_send_wr = MAX(depths->sends, 1),
			 .max_recv_wr = MAX(depths->receives, 1),
			 .max_send_sge = 1,
			 .max_recv_sge = 1 },
		.qp_type = IBV_QPT_RC,
	};

	if (link->verbs->create_qp(link->queues[i].id, link->pd, &attr) != 0)
		return ferry_verbs_failed(error, "rdma_create_qp", errno);
	return TRUE;
}

/* ---- watched ---- */

static int queue_of_id(const FerryRdmaLink *link, const struct rdma_cm_id *id)
{
	for (guint i = 0; i < link->n; i++)
		if (link->queues[i].id == id)
			return (int)i;
	return -1;
}

static int queue_of_qp(const FerryRdmaLink *link, const struct ibv_qp *qp)
{
	for (guint i = 0; i < link->n; i++)
		if (link->queues[i].id && link->queues[i].id->qp == qp)
			return (int)i;
	return -1;
}

static void take_cm_events(FerryRdmaLink *link)
{
	FerryRdmaEvent event;
	GError *error = NULL;

	while (ferry_rdma_events_next(link->verbs, link->events, &event, &error) > 0) {
		int queue = queue_of_id(link, event.id);

		if (queue < 0 || event.type == RDMA_CM_EVENT_ESTABLISHED)
			continue;
		ferry_rdma_event_failed(&error, &event, (guint)queue);
		ferry_rdma_link_fail(link, g_steal_pointer(&error));
	}
	if (error)
		ferry_rdma_link_fail(link, error);
}

static gboolean is_fatal(const FerryRdmaLink *link, const struct ibv_async_event *event)
{
	switch (event->event_type) {
	case IBV_EVENT_DEVICE_FATAL:
		return TRUE;
	case IBV_EVENT_CQ_ERR:
		return event->element.cq == link->bulk.cq || event->element.cq == link->urgent.cq ||
		       event->element.cq == link->fetched.cq;
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
		return queue_of_qp(link, event->element.qp) >= 0;
	default:
		/* A port may come back before the retries are used up: they decide. */
		return FALSE;
	}
}

static void take_async_events(FerryRdmaLink *link)
{
	struct ibv_async_event event;

	while (link->verbs->get_async_event(link->context, &event) == 0) {
		if (is_fatal(link, &event))
			ferry_rdma_link_fail(
				link,
				g_error_new(FERRY_ERROR, FERRY_ERROR_LINK,
					    "RDMA device %s: %s: the device or a queue failed; the "
					    "kernel's log says more",
					    link->context->device->name,
					    ferry_rdma_async_name(event.event_type)));
		link->verbs->ack_async_event(&event);
	}
}

void ferry_rdma_link_take_events(FerryRdmaLink *link)
{
	take_cm_events(link);
	take_async_events(link);
}

void ferry_rdma_link_wait(FerryRdmaLink *link, int wake, gint64 timeout_us)
{
	struct pollfd fds[] = {
		{ .fd = wake, .events = POLLIN },
		{ .fd = link->events ? link->events->fd : -1, .events = POLLIN },
		{ .fd = link->completions ? link->completions->fd : -1, .events = POLLIN },
		{ .fd = link->context ? link->context->async_fd : -1, .events = POLLIN },
	};
	struct timespec timeout = { timeout_us / G_USEC_PER_SEC,
				    timeout_us % G_USEC_PER_SEC * 1000 };

	(void)!ppoll(fds, G_N_ELEMENTS(fds), timeout_us < 0 ? NULL : &timeout, NULL);
}

static gboolean arm(FerryRdmaLink *link, FerryRdmaCompletions *completions, GError **error)
{
	int outcome;

	if (!completions->cq)
		return TRUE;
	if (completions->unacked >= ACK_BATCH) {
		link->verbs->ack_cq_events(completions->cq, completions->unacked);
		completions->unacked = 0;
	}
	outcome = link->verbs->req_notify_cq(completions->cq, 0);
	return !outcome || ferry_verbs_failed(error, "ibv_req_notify_cq", outcome);
}

gboolean ferry_rdma_link_arm(FerryRdmaLink *link, GError **error)
{
	struct ibv_cq *cq;
	gpointer user;

	while (link->verbs->get_cq_event(link->completions, &cq, &user) == 0) {
		if (cq == link->urgent.cq)
			link->urgent.unacked++;
		else
			link->bulk.unacked++;
	}
	return arm(link, &link->bulk, error) && arm(link, &link->urgent, error);
}

gboolean ferry_rdma_link_arm_fetches(FerryRdmaLink *link, GError **error)
{
	struct ibv_cq *cq;
	gpointer user;

	while (link->verbs->get_cq_event(link->fetches, &cq, &user) == 0)
		link->fetched.unacked++;
	return arm(link, &link->fetched, error);
}

/* A queue pair that cannot be moved is one whose device is gone: nothing lands there either. */
void ferry_rdma_link_stop(FerryRdmaLink *link)
{
	for (guint i = 0; i < FERRY_RDMA_QUEUES_MAX; i++) {
		struct rdma_cm_id *id = link->queues[i].id;
		struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };

		if (id && id->qp)
			link->verbs->modify_qp(id->qp, &attr, IBV_QP_STATE);
	}
}
