/* SPDX-License-Identifier: BSD-2-Clause */
#include "queue.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ferry/error.h>

/* The most work requests of one post, a fence not counted. */
#define CHAIN_MAX 16u
/* Completions taken with one poll, and the most that one call takes: its caller has other work. */
#define POLL_BATCH 16
#define POLL_MAX 256u

typedef struct Queue Queue;

/* What a work request is, from when it was taken until it has completed. */
typedef struct {
	Queue *queue;
	gboolean fence; /* then @page is the round */
	guint32 len;
	guint32 block;
	guint64 page;
	guint *busy;
} Slot;

/*
 * One queue pair. It executes and completes in order: its slots are a ring, and a completion is
 * also that of every one before it that was not signalled. Counters run freely.
 */
struct Queue {
	struct ibv_qp *qp;
	Slot *slots;                             /* the queue's part of the table */
	guint64 taken;                           /* slots given to work requests */
	guint64 posted, freed;                   /* of them; freed <= posted <= taken */
	guint64 bytes;                           /* taken and not completed */
	guint64 chained;                         /* bytes taken and not posted */
	guint credits;                           /* writes that the peer has receives for */
	struct ibv_send_wr chain[CHAIN_MAX + 1]; /* taken and not posted, in order */
	struct ibv_sge data[CHAIN_MAX + 1];
};

struct FerryRdmaQueues {
	FerryRdmaLink *link;
	const FerryRam *ram;
	FerryRdmaQueueLimits limits;
	guint chain_max; /* work requests of a post */
	Queue *filling;  /* whose chain has begun, NULL: none */
	guint fenced;    /* queues that have the fence that is being posted */
	guint64 *first;  /* of each block, the number of its first page; NULL: writes are silent */
	struct ibv_cq *cq;
	guint n, first_queue;
	Queue *queues;
	Slot *slots;               /* of all queues: a work request's id is an index here */
	FerryRdmaQueueStats stats; /* written by one thread, read by any: relaxed */
};

static void count(guint64 *counter, guint64 n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* ---- completions ---- */

static GError *describe_failure(const FerryRdmaQueues *s, const Slot *slot, const struct ibv_wc *wc)
{
	g_autofree char *what = NULL;

	if (slot->fence)
		what = g_strdup_printf("fence %" G_GUINT64_FORMAT " of queue pair %u", slot->page,
				       s->first_queue + (guint)(slot->queue - s->queues));
	else
		what = g_strdup_printf(
			"RDMA write of %u bytes to block '%s' page %" G_GUINT64_FORMAT, slot->len,
			s->ram->blocks[slot->block].name, slot->page);
	return g_error_new(FERRY_ERROR, FERRY_ERROR_LINK, "%s failed: %s (vendor error 0x%x)%s",
			   what, ferry_rdma_wc_name(wc->status), wc->vendor_err,
			   ferry_rdma_wc_hint(wc->status));
}

/*
 * A flushed work request tells nothing of the cause: that is in another completion, or in an event,
 * which is therefore looked at first.
 */
static void fail(FerryRdmaQueues *s, const Slot *slot, const struct ibv_wc *wc)
{
	if (wc->status == IBV_WC_WR_FLUSH_ERR)
		ferry_rdma_link_take_events(s->link);
	if (!ferry_rdma_link_is_dead(s->link))
		ferry_rdma_link_fail(s->link, describe_failure(s, slot, wc));
}

static void free_slot(FerryRdmaQueues *s, Queue *q, gboolean ok)
{
	Slot *slot = &q->slots[q->freed++ % s->limits.depth];

	q->bytes -= slot->len;
	if (slot->busy)
		__atomic_sub_fetch(slot->busy, 1, __ATOMIC_SEQ_CST);
	if (ok)
		count(&s->stats.bytes, slot->len);
}

/* The slot that completed, NULL where the device names one that is not in flight. */
static Slot *find_slot(FerryRdmaQueues *s, const struct ibv_wc *wc, guint64 *slots)
{
	guint depth = s->limits.depth;
	guint64 ahead;
	Slot *slot;
	Queue *q;

	if (wc->wr_id >= (guint64)s->n * depth)
		return NULL;
	slot = &s->slots[wc->wr_id];
	q = slot->queue;
	ahead = ((guint64)(slot - q->slots) + depth - q->freed % depth) % depth;
	if (ahead >= q->posted - q->freed)
		return NULL;
	*slots = ahead + 1;
	return slot;
}

/* ---- what the peer gives back ---- */

/* Receives have the ids behind the slots'. */
static gboolean post_receive(FerryRdmaQueues *s, Queue *q)
{
	struct ibv_recv_wr *bad, request = {
		.wr_id = (guint64)s->n * s->limits.depth + (guint64)(q - s->queues),
	};
	int rc = s->link->verbs->post_recv(q->qp, &request, &bad);
	GError *error = NULL;

	if (!rc)
		return TRUE;
	ferry_verbs_failed(&error, "ibv_post_recv", rc);
	ferry_rdma_link_fail(s->link, error);
	return FALSE;
}

/* The queue whose receive completed; NULL: it was none. */
static Queue *find_receiver(FerryRdmaQueues *s, const struct ibv_wc *wc)
{
	guint64 slots = (guint64)s->n * s->limits.depth;

	if (!s->first || wc->wr_id < slots || wc->wr_id - slots >= s->n)
		return NULL;
	return &s->queues[wc->wr_id - slots];
}

static void receive_failed(FerryRdmaQueues *s, const Queue *q, const struct ibv_wc *wc)
{
	if (wc->status == IBV_WC_WR_FLUSH_ERR)
		ferry_rdma_link_take_events(s->link);
	ferry_rdma_link_fail(
		s->link,
		g_error_new(FERRY_ERROR, FERRY_ERROR_LINK,
			    "a receive of queue pair %u failed: %s (vendor error 0x%x)%s",
			    s->first_queue + (guint)(q - s->queues), ferry_rdma_wc_name(wc->status),
			    wc->vendor_err, ferry_rdma_wc_hint(wc->status)));
}

static void take_back(FerryRdmaQueues *s, Queue *q, const struct ibv_wc *wc)
{
	guint32 n = ntohl(wc->imm_data);

	if (wc->status != IBV_WC_SUCCESS) {
		receive_failed(s, q, wc);
	} else if (wc->opcode != IBV_WC_RECV_RDMA_WITH_IMM || wc->byte_len || !n ||
		   n > FERRY_RDMA_CREDITS - q->credits) {
		ferry_rdma_link_fail(
			s->link,
			g_error_new(FERRY_ERROR, FERRY_ERROR_PEER,
				    "RDMA queue pair %u: the destination gives back %u writes in "
				    "%u bytes (opcode %d), of %u that it has",
				    s->first_queue + (guint)(q - s->queues), n, wc->byte_len,
				    (int)wc->opcode, FERRY_RDMA_CREDITS - q->credits));
	} else if (post_receive(s, q)) {
		q->credits += n;
	}
}

/* ---- every completion ---- */

static void complete(FerryRdmaQueues *s, const struct ibv_wc *wc)
{
	Queue *receiver = find_receiver(s, wc);
	guint64 slots;
	Slot *slot;

	if (receiver) {
		take_back(s, receiver, wc);
		return;
	}
	slot = find_slot(s, wc, &slots);
	if (!slot) {
		ferry_rdma_link_fail(
			s->link, g_error_new(FERRY_ERROR, FERRY_ERROR_LINK,
					     "the device completed work request %" G_GUINT64_FORMAT
					     ", which is not in flight: its driver is at fault",
					     (guint64)wc->wr_id));
		return;
	}
	if (wc->status != IBV_WC_SUCCESS)
		fail(s, slot, wc);
	/* After an error each work request has a completion, signalled or not: those before this
	 * one had theirs. */
	for (; slots; slots--)
		free_slot(s, slot->queue, wc->status == IBV_WC_SUCCESS || slots > 1);
}

/* In this order the cause comes before what was flushed for it on another queue pair. */
static void complete_all(FerryRdmaQueues *s, const struct ibv_wc *wc, int n)
{
	for (int i = 0; i < n; i++)
		if (wc[i].status != IBV_WC_SUCCESS && wc[i].status != IBV_WC_WR_FLUSH_ERR) {
			Queue *receiver = find_receiver(s, &wc[i]);
			guint64 slots;
			Slot *slot = find_slot(s, &wc[i], &slots);

			if (receiver)
				receive_failed(s, receiver, &wc[i]);
			else if (slot)
				fail(s, slot, &wc[i]);
		}
	for (int i = 0; i < n; i++)
		complete(s, &wc[i]);
}

guint ferry_rdma_queues_poll(FerryRdmaQueues *queues)
{
	struct ibv_wc wc[POLL_BATCH];
	guint total = 0;

	for (;;) {
		int n = queues->link->verbs->poll_cq(queues->cq, POLL_BATCH, wc);

		count(&queues->stats.polls, 1);
		if (n == 0)
			count(&queues->stats.empty_polls, 1);
		if (n < 0)
			ferry_rdma_link_fail(
				queues->link,
				g_error_new(FERRY_ERROR, FERRY_ERROR_LINK,
					    "ibv_poll_cq: the completion queue is lost"));
		if (n > 0)
			complete_all(queues, wc, n);
		total += (guint)MAX(n, 0);
		if (n < POLL_BATCH || total >= POLL_MAX)
			return total;
	}
}

/* ---- posting ---- */

/* Posts the chain of @q. Only its last work request is signalled: it is all that there need be, and
 * with less what was posted last could stay unknown. */
static void post(FerryRdmaQueues *s, Queue *q)
{
	guint n = (guint)(q->taken - q->posted);
	struct ibv_send_wr *bad = NULL;
	int rc;

	if (q == s->filling)
		s->filling = NULL;
	if (!n || ferry_rdma_link_is_dead(s->link))
		return;
	q->chain[n - 1].send_flags |= IBV_SEND_SIGNALED;
	q->chain[n - 1].next = NULL;
	rc = s->link->verbs->post_send(q->qp, q->chain, &bad);
	if (rc) {
		GError *error = NULL;

		ferry_verbs_failed(&error, "ibv_post_send", rc > 0 ? rc : errno);
		ferry_rdma_link_fail(s->link, error);
		return;
	}
	q->posted = q->taken;
	q->chained = 0;
	count(&s->stats.posts, 1);
	count(&s->stats.signalled, 1);
}

/* The next slot of @q and its work request, at the end of the chain. */
static Slot *take_slot(FerryRdmaQueues *s, Queue *q, struct ibv_send_wr **request)
{
	guint at = (guint)(q->taken - q->posted);
	Slot *slot = &q->slots[q->taken++ % s->limits.depth];

	if (at)
		q->chain[at - 1].next = &q->chain[at];
	*request = &q->chain[at];
	**request = (struct ibv_send_wr){ .wr_id = (guint64)(slot - s->slots) };
	return slot;
}

static void take(FerryRdmaQueues *s, Queue *q, const FerryRdmaWrite *write)
{
	struct ibv_sge *data = &q->data[q->taken - q->posted];
	struct ibv_send_wr *request;
	Slot *slot = take_slot(s, q, &request);

	request->opcode = IBV_WR_RDMA_WRITE;
	if (s->first) {
		request->opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
		request->imm_data = htonl((guint32)(s->first[write->block] + write->page));
		q->credits--;
	}

	*slot = (Slot){ q, FALSE, write->len, write->block, write->page, write->busy };
	*data = (struct ibv_sge){ write->from, write->len, write->lkey };
	request->sg_list = data;
	request->num_sge = 1;
	request->wr.rdma.remote_addr = write->to;
	request->wr.rdma.rkey = write->rkey;
	q->bytes += write->len;
	q->chained += write->len;
	if (write->busy)
		__atomic_add_fetch(write->busy, 1, __ATOMIC_SEQ_CST);
	count(&s->stats.writes, 1);
}

static gboolean has_slot(const FerryRdmaQueues *s, const Queue *q)
{
	return q->taken - q->freed < s->limits.depth;
}

/* A write that is longer than the window goes alone. */
static gboolean has_room(const FerryRdmaQueues *s, const Queue *q, guint writes, guint64 bytes)
{
	if (q->taken - q->freed + writes > s->limits.depth || (s->first && q->credits < writes))
		return FALSE;
	return !q->bytes || q->bytes + bytes <= s->limits.window;
}

/* Queue pairs that writes go on. */
static guint count_used(const FerryRdmaQueues *s)
{
	return s->first ? 1 : s->n;
}

gboolean ferry_rdma_queues_has_room(const FerryRdmaQueues *queues, guint writes, guint64 bytes)
{
	for (guint i = 0; i < count_used(queues); i++)
		if (has_room(queues, &queues->queues[i], writes, bytes))
			return TRUE;
	return FALSE;
}

/* The queue whose chain has begun as long as it has room, so that small writes come together; else
 * that with the least in flight. */
static Queue *choose(FerryRdmaQueues *s, guint32 len)
{
	Queue *best = NULL;

	if (s->filling) {
		if (has_room(s, s->filling, 1, len))
			return s->filling;
		post(s, s->filling);
	}
	for (guint i = 0; i < count_used(s); i++) {
		Queue *q = &s->queues[i];

		if (has_room(s, q, 1, len) && (!best || q->bytes < best->bytes))
			best = q;
	}
	return best;
}

gboolean ferry_rdma_queues_write(FerryRdmaQueues *queues, const FerryRdmaWrite *write)
{
	Queue *q = ferry_rdma_link_is_dead(queues->link) ? NULL : choose(queues, write->len);

	if (!q)
		return FALSE;
	take(queues, q, write);
	queues->filling = q;
	/* On a queue pair that does nothing a write does not wait for company. */
	if (q->posted == q->freed || q->taken - q->posted >= queues->chain_max ||
	    q->chained >= queues->limits.chain_size)
		post(queues, q);
	return TRUE;
}

void ferry_rdma_queues_flush(FerryRdmaQueues *queues)
{
	if (queues->filling)
		post(queues, queues->filling);
}

/* Without data neither address nor key are looked at. The destination has receives for fences
 * beside those for writes. */
static void take_fence(FerryRdmaQueues *s, Queue *q, guint32 round)
{
	struct ibv_send_wr *request;
	Slot *slot = take_slot(s, q, &request);

	*slot = (Slot){ .queue = q, .fence = TRUE, .page = round };
	request->opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
	request->imm_data = htonl(round);
	count(&s->stats.fences, 1);
}

gboolean ferry_rdma_queues_fence(FerryRdmaQueues *queues, guint32 round)
{
	for (; queues->fenced < queues->n; queues->fenced++) {
		Queue *q = &queues->queues[queues->fenced];

		if (ferry_rdma_link_is_dead(queues->link) || !has_slot(queues, q)) {
			ferry_rdma_queues_flush(queues);
			return FALSE;
		}
		take_fence(queues, q, round);
		post(queues, q);
	}
	queues->fenced = 0;
	return TRUE;
}

gboolean ferry_rdma_queues_is_idle(const FerryRdmaQueues *queues)
{
	for (guint i = 0; i < queues->n; i++)
		if (queues->queues[i].freed != queues->queues[i].taken)
			return FALSE;
	return TRUE;
}

/* ---- lifetime ---- */

void ferry_rdma_queues_get_stats(const FerryRdmaQueues *queues, FerryRdmaQueueStats *stats)
{
	const FerryRdmaQueueStats *from = &queues->stats;

	stats->bytes = __atomic_load_n(&from->bytes, __ATOMIC_RELAXED);
	stats->writes = __atomic_load_n(&from->writes, __ATOMIC_RELAXED);
	stats->posts = __atomic_load_n(&from->posts, __ATOMIC_RELAXED);
	stats->signalled = __atomic_load_n(&from->signalled, __ATOMIC_RELAXED);
	stats->polls = __atomic_load_n(&from->polls, __ATOMIC_RELAXED);
	stats->empty_polls = __atomic_load_n(&from->empty_polls, __ATOMIC_RELAXED);
	stats->fences = __atomic_load_n(&from->fences, __ATOMIC_RELAXED);
}

void ferry_rdma_queues_tell(FerryRdmaQueues *queues, guint64 window, guint64 chain_size)
{
	const FerryRam *ram = queues->ram;
	guint64 page = 0;

	queues->limits.window = window;
	queues->limits.chain_size = chain_size;
	queues->first = g_new(guint64, ram->n_blocks);
	for (guint i = 0; i < ram->n_blocks; i++) {
		queues->first[i] = page;
		page += ferry_ram_block_pages(&ram->blocks[i]);
	}
	queues->queues->credits = FERRY_RDMA_CREDITS;
	for (guint i = 0; i < FERRY_RDMA_BACKS; i++)
		if (!post_receive(queues, queues->queues))
			return;
}

FerryRdmaQueues *ferry_rdma_queues_new(FerryRdmaLink *link, guint first, guint n,
				       const FerryRam *ram, const FerryRdmaQueueLimits *limits)
{
	FerryRdmaQueues *s = g_new0(FerryRdmaQueues, 1);

	s->link = link;
	s->ram = ram;
	s->limits = *limits;
	s->chain_max = CLAMP(limits->depth / 4, 1, CHAIN_MAX);
	s->cq = ferry_rdma_link_cq(link, first);
	s->first_queue = first;
	s->n = n;
	s->queues = g_new0(Queue, s->n);
	s->slots = g_new0(Slot, s->n * limits->depth);
	for (guint i = 0; i < s->n; i++) {
		s->queues[i].qp = link->queues[first + i].id->qp;
		s->queues[i].slots = s->slots + i * limits->depth;
		for (guint j = 0; j < limits->depth; j++)
			s->queues[i].slots[j].queue = &s->queues[i];
	}
	return s;
}

void ferry_rdma_queues_free(FerryRdmaQueues *queues)
{
	if (!queues)
		return;
	g_free(queues->first);
	g_free(queues->slots);
	g_free(queues->queues);
	g_free(queues);
}
