/* SPDX-License-Identifier: BSD-2-Clause */
#include "fetch.h"

#include <errno.h>
#include <ferry/error.h>

/* The reads that nobody waits for: of one queue pair, since devices serve queue pairs in turn, and
 * the urgent one has its share of the wire the sooner the fewer there are beside it. */
#define BACKGROUND_BYTES (128u << 10)
#define POLL_BATCH 16

/* A work request, from when it was posted until it was taken; its id is its index. */
typedef struct {
	gboolean used;
	FerryRun run;
} Slot;

enum {
	URGENT,
	BACKGROUND,
	LANES,
};

typedef struct {
	struct ibv_qp *qp;
	guint most;  /* reads in flight */
	guint reads; /* in flight; a landed one is no more, but keeps its slot */
} Lane;

struct FerryRdmaFetches {
	FerryRdmaLink *link;
	const FerryRam *ram;
	Lane lanes[LANES];
	Slot slots[LANES * FERRY_RDMA_READS];    /* a part for each lane */
	guint used;                              /* slots */
	guint64 background;                      /* bytes in flight */
	guint16 landed[LANES][FERRY_RDMA_READS]; /* indices of slots */
	guint n_landed[LANES];
	FerryRdmaFetchStats stats; /* written by one thread, read by any: relaxed */
};

static void count(guint64 *counter, guint64 n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* ---- posting ---- */

static guint count_free(const FerryRdmaFetches *f, guint lane)
{
	guint n = 0;

	for (guint i = 0; i < FERRY_RDMA_READS; i++)
		n += !f->slots[lane * FERRY_RDMA_READS + i].used;
	return n;
}

/* Whether lane @lane has room for @n reads of @bytes together. While somebody waits for a page no
 * more is begun in the background than keeps it going. */
static gboolean has_room(const FerryRdmaFetches *f, guint lane, guint n, guint64 bytes)
{
	guint64 limit = f->lanes[URGENT].reads ? 0 : BACKGROUND_BYTES;

	if (lane == BACKGROUND && f->background && f->background + bytes > limit)
		return FALSE;
	return f->lanes[lane].reads + n <= f->lanes[lane].most && count_free(f, lane) >= n;
}

static guint take_slot(FerryRdmaFetches *f, guint lane, const FerryRun *run)
{
	guint index = lane * FERRY_RDMA_READS;

	while (f->slots[index].used)
		index++;
	f->slots[index] = (Slot){ TRUE, *run };
	f->used++;
	return index;
}

/* Each is signalled: a page shall not wait for the next. */
static void post(FerryRdmaFetches *f, guint lane, const FerryRdmaRead *reads, guint n)
{
	struct ibv_send_wr requests[FERRY_RDMA_FETCH_READS], *bad = NULL;
	struct ibv_sge data[FERRY_RDMA_FETCH_READS];
	GError *error = NULL;
	int rc;

	for (guint i = 0; i < n; i++) {
		data[i] = (struct ibv_sge){ reads[i].to, (guint32)ferry_run_bytes(&reads[i].run),
					    reads[i].lkey };
		requests[i] = (struct ibv_send_wr){
			.wr_id = take_slot(f, lane, &reads[i].run),
			.next = i + 1 < n ? &requests[i + 1] : NULL,
			.sg_list = &data[i],
			.num_sge = 1,
			.opcode = IBV_WR_RDMA_READ,
			.send_flags = IBV_SEND_SIGNALED,
			.wr.rdma = { reads[i].from, reads[i].rkey },
		};
	}
	f->lanes[lane].reads += n;
	rc = f->link->verbs->post_send(f->lanes[lane].qp, requests, &bad);
	if (!rc)
		return;
	ferry_verbs_failed(&error, "ibv_post_send", rc > 0 ? rc : errno);
	ferry_rdma_link_fail(f->link, error);
}

gboolean ferry_rdma_fetches_read(FerryRdmaFetches *fetches, const FerryRdmaRead *reads, guint n,
				 gboolean urgent)
{
	guint lane = urgent ? URGENT : BACKGROUND;
	guint64 bytes = 0;

	for (guint i = 0; i < n; i++)
		bytes += ferry_run_bytes(&reads[i].run);
	if (!has_room(fetches, lane, n, bytes))
		return FALSE;
	if (!urgent)
		fetches->background += bytes;
	post(fetches, lane, reads, n);
	count(urgent ? &fetches->stats.urgent : &fetches->stats.background, n);
	return TRUE;
}

/* ---- completions ---- */

static GError *describe_failure(const FerryRdmaFetches *f, const Slot *slot,
				const struct ibv_wc *wc)
{
	return g_error_new(FERRY_ERROR, FERRY_ERROR_LINK,
			   "RDMA read of %" G_GUINT64_FORMAT " bytes of block '%s' page "
			   "%" G_GUINT64_FORMAT " failed: %s (vendor error 0x%x)%s",
			   ferry_run_bytes(&slot->run), f->ram->blocks[slot->run.block].name,
			   slot->run.first, ferry_rdma_wc_name(wc->status), wc->vendor_err,
			   ferry_rdma_wc_hint(wc->status));
}

static void fail(FerryRdmaFetches *f, const Slot *slot, const struct ibv_wc *wc, GError **flushed)
{
	if (wc->status != IBV_WC_WR_FLUSH_ERR)
		ferry_rdma_link_fail(f->link, describe_failure(f, slot, wc));
	else if (!*flushed)
		*flushed = describe_failure(f, slot, wc);
}

static void complete(FerryRdmaFetches *f, const struct ibv_wc *wc, GError **flushed)
{
	guint index = (guint)MIN(wc->wr_id, G_N_ELEMENTS(f->slots) - 1);
	guint lane = index / FERRY_RDMA_READS;
	Slot *slot = &f->slots[index];

	if (index != wc->wr_id || !slot->used || !f->lanes[lane].reads) {
		ferry_rdma_link_fail(f->link,
				     g_error_new(FERRY_ERROR, FERRY_ERROR_LINK,
						 "the device completed read %" G_GUINT64_FORMAT
						 ", which is not in flight: its driver is at fault",
						 (guint64)wc->wr_id));
		return;
	}
	f->lanes[lane].reads--;
	if (lane == BACKGROUND)
		f->background -= ferry_run_bytes(&slot->run);
	if (wc->status == IBV_WC_SUCCESS) {
		f->landed[lane][f->n_landed[lane]++] = (guint16)index;
		count(&f->stats.bytes, ferry_run_bytes(&slot->run));
		return;
	}
	fail(f, slot, wc, flushed);
	slot->used = FALSE;
	f->used--;
}

guint ferry_rdma_fetches_poll(FerryRdmaFetches *fetches, GError **flushed)
{
	struct ibv_wc wc[POLL_BATCH];
	guint total = 0;
	int n;

	do {
		n = fetches->link->verbs->poll_cq(fetches->link->fetched.cq, POLL_BATCH, wc);
		if (n < 0)
			ferry_rdma_link_fail(fetches->link,
					     g_error_new(FERRY_ERROR, FERRY_ERROR_LINK,
							 "ibv_poll_cq: the completion queue of "
							 "fetches is lost"));
		for (int i = 0; i < n; i++)
			complete(fetches, &wc[i], flushed);
		total += (guint)MAX(n, 0);
	} while (n == POLL_BATCH);
	return total;
}

gboolean ferry_rdma_fetches_take(FerryRdmaFetches *fetches, FerryRun *run)
{
	for (guint i = 0; i < LANES; i++) {
		Slot *slot;

		if (!fetches->n_landed[i])
			continue;
		slot = &fetches->slots[fetches->landed[i][--fetches->n_landed[i]]];
		*run = slot->run;
		slot->used = FALSE;
		fetches->used--;
		return TRUE;
	}
	return FALSE;
}

gboolean ferry_rdma_fetches_has_landed(const FerryRdmaFetches *fetches)
{
	return fetches->n_landed[URGENT] + fetches->n_landed[BACKGROUND] > 0;
}

gboolean ferry_rdma_fetches_is_idle(const FerryRdmaFetches *fetches)
{
	return fetches->used == 0;
}

/* ---- lifetime ---- */

void ferry_rdma_fetches_get_stats(const FerryRdmaFetches *fetches, FerryRdmaFetchStats *stats)
{
	const FerryRdmaFetchStats *from = &fetches->stats;

	stats->urgent = __atomic_load_n(&from->urgent, __ATOMIC_RELAXED);
	stats->background = __atomic_load_n(&from->background, __ATOMIC_RELAXED);
	stats->bytes = __atomic_load_n(&from->bytes, __ATOMIC_RELAXED);
}

FerryRdmaFetches *ferry_rdma_fetches_new(FerryRdmaLink *link, const FerryRam *ram)
{
	FerryRdmaFetches *f = g_new0(FerryRdmaFetches, 1);

	f->link = link;
	f->ram = ram;
	for (guint i = 0; i < LANES; i++) {
		const FerryRdmaQueuePair *pair = &link->queues[i == URGENT ? link->n - 1 : 0];

		f->lanes[i].qp = pair->id->qp;
		/* What a device may not have under way yet waits in its send queue. */
		f->lanes[i].most = CLAMP(pair->reads, FERRY_RDMA_FETCH_READS, FERRY_RDMA_READS);
	}
	return f;
}

void ferry_rdma_fetches_free(FerryRdmaFetches *fetches)
{
	g_free(fetches);
}
