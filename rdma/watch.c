/* SPDX-License-Identifier: BSD-2-Clause */
#include "destination.h"

#include <unistd.h>
#include "cm.h"
#include "refuse.h"

#define RETRY_US 2000
/* How long the cause of what was flushed is waited for. */
#define CAUSE_US (100 * G_TIME_SPAN_MILLISECOND)
#define POLL_BATCH 16
#define BULK_BATCH 4
/* Before the thread looks at other things again. */
#define TURNS 64u

/* ---- records ---- */

void ferry_rdma_destination_wake(FerryRdmaDestination *d)
{
	guint64 one = 1;

	(void)!write(d->wake, &one, sizeof(one));
}

static void unsaid_free(gpointer data)
{
	FerryRdmaUnsaid *unsaid = data;

	g_bytes_unref(unsaid->payload);
	g_free(unsaid);
}

void ferry_rdma_destination_say(FerryRdmaDestination *d, guint16 type, GBytes *payload)
{
	FerryRdmaUnsaid *unsaid = g_new(FerryRdmaUnsaid, 1);

	*unsaid = (FerryRdmaUnsaid){ type, payload };
	g_mutex_lock(&d->lock);
	g_queue_push_tail(&d->unsaid, unsaid);
	g_mutex_unlock(&d->lock);
	ferry_rdma_destination_wake(d);
}

static FerryRdmaUnsaid *pop_unsaid(FerryRdmaDestination *d)
{
	FerryRdmaUnsaid *unsaid;

	g_mutex_lock(&d->lock);
	unsaid = g_queue_pop_head(&d->unsaid);
	g_mutex_unlock(&d->lock);
	return unsaid;
}

/* FALSE while anything is left. Only this thread takes from the head. */
static gboolean say_all(FerryRdmaDestination *d)
{
	FerryRdmaUnsaid *unsaid;

	while ((unsaid = pop_unsaid(d))) {
		gsize len;
		const guint8 *data = g_bytes_get_data(unsaid->payload, &len);

		if (!d->session->say(d->session->user, unsaid->type, data, len)) {
			g_mutex_lock(&d->lock);
			g_queue_push_head(&d->unsaid, unsaid);
			g_mutex_unlock(&d->lock);
			return FALSE;
		}
		unsaid_free(unsaid);
	}
	return TRUE;
}

static gboolean say_all_patiently(FerryRdmaDestination *d)
{
	while (!say_all(d))
		if (ferry_rdma_await(NULL, 0, g_get_monotonic_time() + RETRY_US, d->cancel, NULL) <
		    0)
			return FALSE;
	return TRUE;
}

/* ---- fences ---- */

gboolean ferry_rdma_destination_post_receive(FerryRdmaDestination *d, guint queue, GError **error)
{
	/* Of a write with immediate data nothing but the number comes into a receive. */
	struct ibv_recv_wr *bad, request = { .wr_id = queue };
	int outcome = d->verbs->post_recv(d->link->queues[queue].id->qp, &request, &bad);

	if (outcome)
		return ferry_verbs_failed(error, "ibv_post_recv", outcome);
	return TRUE;
}

static gboolean completion_failed(const struct ibv_wc *wc, GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
		    "RDMA queue pair %u: %s (vendor's code 0x%x): the connection failed",
		    (guint)(wc->wr_id % FERRY_RDMA_GIVEN_BACK), ferry_rdma_wc_name(wc->status),
		    wc->vendor_err);
	return FALSE;
}

static gboolean take_fence(FerryRdmaDestination *d, const struct ibv_wc *wc, GError **error)
{
	guint queue = (guint)wc->wr_id;
	guint32 fence = GUINT32_FROM_BE(wc->imm_data), last;

	g_mutex_lock(&d->lock);
	last = d->fences[queue];
	if (fence > last) {
		d->fences[queue] = fence;
		d->n_fences++;
		g_cond_broadcast(&d->changed);
	}
	g_mutex_unlock(&d->lock);
	if (fence > last)
		return ferry_rdma_destination_post_receive(d, queue, error);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "RDMA queue pair %u: fence %u came after fence %u", queue, fence, last);
	return FALSE;
}

static gboolean take_completion(FerryRdmaDestination *d, const struct ibv_wc *wc, GError **error)
{
	guint queue = (guint)(wc->wr_id % FERRY_RDMA_GIVEN_BACK);

	if (wc->status == IBV_WC_WR_FLUSH_ERR && g_atomic_pointer_get(&d->fetches)) {
		GError *flushed = NULL;

		completion_failed(wc, &flushed);
		ferry_rdma_destination_put_flushed(d, flushed);
		return TRUE;
	}
	if (wc->status != IBV_WC_SUCCESS)
		return completion_failed(wc, error);
	if (wc->wr_id >= FERRY_RDMA_GIVEN_BACK)
		return ferry_rdma_destination_gave_back(d, queue, error);
	if (wc->opcode == IBV_WC_RECV_RDMA_WITH_IMM)
		return wc->byte_len ? ferry_rdma_destination_take_write(d, wc, error)
				    : take_fence(d, wc, error);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "RDMA queue pair %u: the peer sent a message (opcode %d); only writes "
		    "and fences are agreed",
		    queue, wc->opcode);
	return FALSE;
}

/* At most @most of one queue; how many there were, -1: failed. */
static int take_some(FerryRdmaDestination *d, struct ibv_cq *cq, int most, GError **error)
{
	struct ibv_wc done[POLL_BATCH];
	int n = cq ? d->verbs->poll_cq(cq, most, done) : 0;

	if (n < 0)
		return ferry_verbs_failed(error, "ibv_poll_cq", -n), -1;
	for (int i = 0; i < n; i++)
		if (!take_completion(d, &done[i], error))
			return -1;
	return n;
}

/* Pages that are waited for before others, at every turn. *@all: nothing is left. */
static gboolean take_completions(FerryRdmaDestination *d, gboolean *all, GError **error)
{
	*all = FALSE;
	for (guint turn = 0; turn < TURNS && !*all; turn++) {
		int urgent = take_some(d, d->link->urgent.cq, POLL_BATCH, error);
		int bulk = urgent < 0 ? -1 : take_some(d, d->link->bulk.cq, BULK_BATCH, error);

		if (bulk < 0)
			return FALSE;
		*all = urgent + bulk == 0;
	}
	return TRUE;
}

/* ---- regions ---- */

/* After the switch the source writes no more, and needs no region. */
static void registered_for_reading(FerryRdmaDestination *d, const struct ibv_mr *mr,
				   const GError *error)
{
	if (!mr) {
		ferry_rdma_link_fail(d->link, g_error_copy(error));
		ferry_rdma_destination_wake(d);
	}
	ferry_rdma_destination_wake_fetching(d);
}

/* On the regions' own thread. */
static void registered(gpointer user, guint32 block, guint32 chunk, const struct ibv_mr *mr,
		       const GError *error)
{
	FerryRdmaDestination *d = user;
	guint8 payload[FERRY_RDMA_REGION_SIZE];
	g_autofree char *why = NULL;

	if (d->readable && g_atomic_int_get(&d->begun)) {
		registered_for_reading(d, mr, error);
		return;
	}
	if (mr) {
		FerryRdmaRegion region = { block, chunk, (guintptr)mr->addr, mr->rkey };

		ferry_rdma_put_region(payload, &region);
		ferry_rdma_destination_say(d, FERRY_RECORD_RDMA_REGION,
					   g_bytes_new(payload, sizeof(payload)));
		return;
	}
	why = g_strdup_printf("the destination: %s", error->message);
	ferry_rdma_destination_say(d, FERRY_RECORD_RDMA_REFUSE, ferry_rdma_refusal(why));
}

static FerryRdmaRegions *make_regions(FerryRdmaDestination *d)
{
	int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE;

	if (d->terms.flags & FERRY_RDMA_RELAXED_ORDERING)
		access |= IBV_ACCESS_RELAXED_ORDERING;
	if (d->terms.flags & FERRY_RDMA_ON_DEMAND)
		access |= IBV_ACCESS_ON_DEMAND;
	return ferry_rdma_regions_new(d->verbs, d->link->pd, d->ram, d->terms.chunk_size, access,
				      registered, d);
}

/* Before a queue pair is accepted: the source may ask for regions as soon as it is connected. */
static gboolean prepare(gpointer user, guint queue, GError **error)
{
	FerryRdmaDestination *d = user;

	g_mutex_lock(&d->lock);
	if (!d->regions)
		d->regions = make_regions(d);
	g_mutex_unlock(&d->lock);
	if (d->readable && !d->link->queues[queue].reads) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "the RDMA device here reads nothing: turn rdma-postcopy-pull off");
		return FALSE;
	}
	for (guint i = 0; i < d->depths.receives; i++)
		if (!ferry_rdma_destination_post_receive(d, queue, error))
			return FALSE;
	return TRUE;
}

/* ---- the thread ---- */

static void set_stage(FerryRdmaDestination *d, FerryRdmaStage stage)
{
	g_mutex_lock(&d->lock);
	d->stage = stage;
	g_cond_broadcast(&d->changed);
	g_mutex_unlock(&d->lock);
}

/* The source falls back to the control channel: not a death, unless it counts on this one. */
static void give_up(FerryRdmaDestination *d, GError *error)
{
	gboolean cancelled = g_error_matches(error, FERRY_ERROR, FERRY_ERROR_CANCELLED);
	GBytes *refusal = ferry_rdma_refusal(error->message);

	ferry_rdma_link_fail(d->link, error);
	set_stage(d, FERRY_RDMA_REFUSED);
	ferry_rdma_destination_say(d, FERRY_RECORD_RDMA_REFUSE, refusal);
	if (!cancelled)
		say_all_patiently(d);
}

/* The source hears why at once: before the first page it can still take another way. */
static void report_death(FerryRdmaDestination *d)
{
	g_autoptr(GError) cause = NULL;

	g_mutex_lock(&d->lock);
	g_cond_broadcast(&d->changed);
	g_mutex_unlock(&d->lock);
	ferry_rdma_destination_wake_fetching(d);
	if (g_atomic_int_get(&d->quiet))
		return;
	cause = ferry_rdma_link_error(d->link);
	ferry_rdma_destination_say(d, FERRY_RECORD_RDMA_REFUSE, ferry_rdma_refusal(cause->message));
	say_all(d);
	d->session->died(d->session->user);
}

/* What was flushed tells nothing of the cause, which may be among the completions that another
 * thread takes. TRUE: one has still time to show. */
static gboolean awaits_cause(FerryRdmaDestination *d)
{
	GError *flushed = NULL;
	gboolean waits;

	g_mutex_lock(&d->lock);
	if (d->flushed && g_get_monotonic_time() >= d->flushed_us + CAUSE_US)
		flushed = g_steal_pointer(&d->flushed);
	waits = d->flushed != NULL;
	g_mutex_unlock(&d->lock);
	if (flushed)
		ferry_rdma_link_fail(d->link, flushed);
	return waits;
}

/* Armed before it is polled: what completes after the poll makes the descriptor readable. TRUE:
 * nothing was left. */
static gboolean look(FerryRdmaDestination *d)
{
	GError *error = NULL;
	gboolean all = TRUE;

	ferry_rdma_link_take_events(d->link);
	if (!ferry_rdma_link_arm(d->link, &error) || !take_completions(d, &all, &error))
		ferry_rdma_link_fail(d->link, error);
	return all;
}

static void watch(FerryRdmaDestination *d)
{
	guint64 count;

	while (!g_atomic_int_get(&d->quiet)) {
		gboolean none_left = look(d), waits = awaits_cause(d), all;

		if (ferry_rdma_link_is_dead(d->link)) {
			report_death(d);
			return;
		}
		all = say_all(d);
		if (none_left)
			ferry_rdma_link_wait(d->link, d->wake, all && !waits ? -1 : RETRY_US);
		(void)!read(d->wake, &count, sizeof(count));
	}
}

gpointer ferry_rdma_destination_thread(gpointer destination)
{
	FerryRdmaDestination *d = destination;
	GError *error = NULL;

	if (!say_all_patiently(d) || !d->link)
		return NULL;
	if (!ferry_rdma_accept(d->acceptor, d->link, d->session->nonce, d->terms.queue_pairs,
			       &d->depths, prepare, d, d->cancel, &error)) {
		give_up(d, error);
		return NULL;
	}
	set_stage(d, FERRY_RDMA_CONNECTED);
	watch(d);
	return NULL;
}
