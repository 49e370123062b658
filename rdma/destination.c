/* SPDX-License-Identifier: BSD-2-Clause */
#include "destination.h"

#include <sys/eventfd.h>
#include <unistd.h>
#include "refuse.h"
#include "report.h"

#define FENCE_US (10 * G_USEC_PER_SEC)

static FerryRdmaDestination *self(FerryCarrier *carrier)
{
	return (FerryRdmaDestination *)carrier;
}

static gboolean destination_share_ram(FerryCarrier *carrier, const FerryRam *ram, GError **error)
{
	self(carrier)->ram = ram;
	return TRUE;
}

/* ---- what will be ---- */

static FerryRdmaDepths choose_depths(const FerryRdmaTerms *terms)
{
	gboolean urgent = !!(terms->flags & FERRY_RDMA_POSTCOPY);
	gboolean pull = !!(terms->flags & FERRY_RDMA_PULL);
	FerryRdmaDepths depths = { .sends = 1, .receives = FERRY_RDMA_RECEIVES };
	guint each;

	if (pull)
		depths.sends = FERRY_RDMA_READS;
	else if (urgent)
		depths.sends = 2 * FERRY_RDMA_BACKS;
	if (urgent && !pull)
		depths.receives += FERRY_RDMA_CREDITS;
	each = depths.receives + depths.sends;
	depths.window = (terms->queue_pairs - urgent) * each;
	depths.urgent = urgent * each;
	depths.fetches = pull * 2 * FERRY_RDMA_READS;
	return depths;
}

static void accept_offer(FerryRdmaDestination *d, const FerryRdmaTerms *terms)
{
	guint8 payload[FERRY_RDMA_TERMS_SIZE];

	d->terms = *terms;
	d->depths = choose_depths(terms);
	d->link = ferry_rdma_link_new(d->verbs);
	if (terms->flags & FERRY_RDMA_PULL)
		d->readable = ferry_rdma_readable_new(d->ram, terms->chunk_size);
	d->quota = ferry_rdma_quota_new(d->ram, terms->chunk_size, terms->pin_limit);
	ferry_rdma_put_terms(payload, terms);
	ferry_rdma_destination_say(d, FERRY_RECORD_RDMA_ANSWER,
				   g_bytes_new(payload, sizeof(payload)));
}

static gboolean hear_offer(FerryRdmaDestination *d, const guint8 *payload, size_t len,
			   GError **error)
{
	g_autoptr(GError) why = NULL;
	FerryRdmaTerms terms;
	gboolean agreed;

	if (d->stage != FERRY_RDMA_IDLE || !d->ram) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "a second RDMA offer in one session");
		return FALSE;
	}
	if (!ferry_rdma_get_terms(payload, len, &terms, error))
		return FALSE;
	agreed = ferry_rdma_destination_agree(d, &terms, &why);
	if (agreed)
		accept_offer(d, &terms);
	else
		ferry_rdma_destination_say(d, FERRY_RECORD_RDMA_REFUSE,
					   ferry_rdma_refusal(why->message));
	d->stage = agreed ? FERRY_RDMA_CONNECTING : FERRY_RDMA_REFUSED;
	d->thread = g_thread_new("ferry-rdma", ferry_rdma_destination_thread, d);
	return TRUE;
}

/* ---- regions ---- */

static gboolean hear_source_region(FerryRdmaDestination *d, const guint8 *payload, size_t len,
				   GError **error)
{
	FerryRdmaRegion region;

	if (!ferry_rdma_get_region(payload, len, &region, error))
		return FALSE;
	if (!d->readable) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "the source tells where it may be read, which was not agreed");
		return FALSE;
	}
	if (!ferry_rdma_readable_hear(d->readable, &region, error))
		return FALSE;
	ferry_rdma_destination_wake_fetching(d);
	return TRUE;
}

static gboolean hear_chunks(FerryRdmaDestination *d, gboolean release, const guint8 *payload,
			    size_t len, GError **error)
{
	FerryRdmaRegions *regions;
	FerryRdmaStage stage;
	FerryRdmaChunks chunks;

	if (!ferry_rdma_get_chunks(payload, len, &chunks, error))
		return FALSE;
	g_mutex_lock(&d->lock);
	regions = d->regions;
	stage = d->stage;
	g_mutex_unlock(&d->lock);
	/* Said before the source heard that there is no RDMA any more. */
	if (stage == FERRY_RDMA_REFUSED)
		return TRUE;
	if (!regions) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "RDMA memory regions are asked for before any connection");
		return FALSE;
	}
	if (release)
		return ferry_rdma_quota_release(d->quota, &chunks, error) &&
		       ferry_rdma_regions_release(regions, &chunks, error);
	return ferry_rdma_quota_ask(d->quota, &chunks, error) &&
	       ferry_rdma_regions_request(regions, &chunks, error);
}

static gboolean destination_hear(FerryCarrier *carrier, guint16 type, const guint8 *payload,
				 size_t len, GError **error)
{
	switch (type) {
	case FERRY_RECORD_RDMA_OFFER:
		return hear_offer(self(carrier), payload, len, error);
	case FERRY_RECORD_RDMA_REGISTER:
		return hear_chunks(self(carrier), FALSE, payload, len, error);
	case FERRY_RECORD_RDMA_RELEASE:
		return hear_chunks(self(carrier), TRUE, payload, len, error);
	case FERRY_RECORD_RDMA_SOURCE_REGION:
		return hear_source_region(self(carrier), payload, len, error);
	default:
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "RDMA record 0x%04x does not belong to a source", type);
		return FALSE;
	}
}

/* ---- fences ---- */

static guint count_fenced(const FerryRdmaDestination *d, guint32 fence)
{
	guint n = 0;

	for (guint i = 0; i < d->terms.queue_pairs; i++)
		n += d->fences[i] >= fence;
	return n;
}

/* Always FALSE. With the lock held. */
static gboolean fence_failed(FerryRdmaDestination *d, guint32 fence, GError **error)
{
	g_mutex_lock(&d->link->lock);
	if (d->link->error)
		g_propagate_error(error, g_error_copy(d->link->error));
	else if (d->link->dead)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK, "the RDMA connection is gone");
	else if (g_cancellable_is_cancelled(d->cancel))
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED, "RDMA fence %u: cancelled",
			    fence);
	else
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "RDMA fence %u came on %u of %u queue pairs in %d s", fence,
			    count_fenced(d, fence), d->terms.queue_pairs,
			    (int)(FENCE_US / G_USEC_PER_SEC));
	g_mutex_unlock(&d->link->lock);
	return FALSE;
}

static gboolean destination_await_fence(FerryCarrier *carrier, guint32 fence, GError **error)
{
	FerryRdmaDestination *d = self(carrier);
	gint64 deadline = g_get_monotonic_time() + FENCE_US;
	gboolean fenced;

	if (!d->link) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "RDMA fence %u, though no RDMA was agreed", fence);
		return FALSE;
	}
	g_mutex_lock(&d->lock);
	for (;;) {
		fenced = count_fenced(d, fence) == d->terms.queue_pairs;
		if (fenced || ferry_rdma_link_is_dead(d->link) ||
		    g_cancellable_is_cancelled(d->cancel) ||
		    !g_cond_wait_until(&d->changed, &d->lock, deadline))
			break;
	}
	if (!fenced)
		fence_failed(d, fence, error);
	g_mutex_unlock(&d->lock);
	return fenced;
}

/* ---- the end ---- */

static void stop_thread(FerryRdmaDestination *d)
{
	g_atomic_int_set(&d->quiet, TRUE);
	g_cancellable_cancel(d->cancel);
	ferry_rdma_destination_wake(d);
}

static void join_thread(FerryRdmaDestination *d)
{
	if (d->thread)
		g_thread_join(g_steal_pointer(&d->thread));
}

/* A thread that still connects ends first, so that no queue pair is made behind our back. One that
 * watches is not waited for: it may be in died(), and that in a lock of the caller's. */
static void destination_quiesce(FerryCarrier *carrier)
{
	FerryRdmaDestination *d = self(carrier);
	gboolean connected;

	stop_thread(d);
	g_mutex_lock(&d->lock);
	connected = d->stage == FERRY_RDMA_CONNECTED;
	g_mutex_unlock(&d->lock);
	if (!connected)
		join_thread(d);
	if (d->link)
		ferry_rdma_link_stop(d->link);
	ferry_rdma_destination_wake_fetching(d);
}

static GError *destination_take_error(FerryCarrier *carrier)
{
	FerryRdmaDestination *d = self(carrier);
	GError *error = NULL;

	g_mutex_lock(&d->lock);
	if (d->link && !d->error_taken) {
		/* A copy: a fence that is waited for fails with it too. */
		error = ferry_rdma_link_error(d->link);
		d->error_taken = error != NULL;
	}
	g_mutex_unlock(&d->lock);
	return error;
}

static void destination_close(FerryCarrier *carrier)
{
	FerryRdmaDestination *d = self(carrier);
	FerryRdmaUnsaid *unsaid;

	stop_thread(d);
	join_thread(d);
	if (d->session->cancellable)
		g_cancellable_disconnect(d->session->cancellable, d->session_cancel);
	ferry_rdma_regions_free(d->regions);
	ferry_rdma_fetches_free(d->fetches);
	ferry_rdma_link_free(d->link);
	ferry_rdma_readable_free(d->readable);
	ferry_rdma_quota_free(d->quota);
	g_clear_error(&d->flushed);
	g_free(d->first);
	while ((unsaid = g_queue_pop_head(&d->unsaid))) {
		g_bytes_unref(unsaid->payload);
		g_free(unsaid);
	}
	g_object_unref(d->cancel);
	close(d->wake);
	close(d->wake_fetching);
	g_cond_clear(&d->changed);
	g_mutex_clear(&d->lock);
	g_free(d);
}

/* ---- reports ---- */

/* Pages land without this side: the source's numbers are the truth. */
static void destination_get_stats(FerryCarrier *carrier, FerryCarrierStats *stats)
{
	*stats = (FerryCarrierStats){ 0 };
}

/* Link and regions stay until close() once they are there. */
static GVariant *destination_describe(FerryCarrier *carrier)
{
	FerryRdmaDestination *d = self(carrier);
	FerryRdmaRegions *regions;
	gboolean connected;
	guint64 fences;
	GVariantDict dict;

	g_mutex_lock(&d->lock);
	connected = d->stage == FERRY_RDMA_CONNECTED;
	regions = d->regions;
	fences = d->n_fences;
	g_mutex_unlock(&d->lock);
	g_variant_dict_init(&dict, NULL);
	ferry_rdma_report_link(&dict, connected ? d->link : NULL, connected ? &d->terms : NULL);
	ferry_rdma_report_regions(&dict, regions);
	g_variant_dict_insert(&dict, "fences", "t", fences);
	ferry_rdma_destination_report_postcopy(d, &dict);
	return g_variant_dict_end(&dict);
}

/* ---- made ---- */

static void session_cancelled(GCancellable *cancellable, gpointer user)
{
	FerryRdmaDestination *d = user;

	g_cancellable_cancel(d->cancel);
	g_mutex_lock(&d->lock);
	g_cond_broadcast(&d->changed);
	g_mutex_unlock(&d->lock);
}

FerryCarrier *ferry_rdma_destination_new(const FerryVerbs *verbs, FerryRdmaAcceptor *acceptor,
					 const char *why, const FerryFabricSession *session)
{
	static const FerryCarrierOps ops = {
		.name = "rdma",
		.share_ram = destination_share_ram,
		.hear = destination_hear,
		.await_fence = destination_await_fence,
		.pulls = ferry_rdma_destination_pulls,
		.begin_postcopy = ferry_rdma_destination_begin_postcopy,
		.fetch = ferry_rdma_destination_fetch,
		.progress = ferry_rdma_destination_progress,
		.wait_fetched = ferry_rdma_destination_wait_fetched,
		.quiesce = destination_quiesce,
		.get_stats = destination_get_stats,
		.describe = destination_describe,
		.take_error = destination_take_error,
		.close = destination_close,
	};
	FerryRdmaDestination *d;

	if (!acceptor)
		return ferry_rdma_refusing_carrier(why, session);
	d = g_new0(FerryRdmaDestination, 1);
	d->base.ops = &ops;
	d->verbs = verbs;
	d->acceptor = acceptor;
	d->session = session;
	d->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	d->wake_fetching = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	d->spins = g_get_num_processors() > 2;
	d->cancel = g_cancellable_new();
	g_mutex_init(&d->lock);
	g_cond_init(&d->changed);
	g_queue_init(&d->unsaid);
	if (session->cancellable)
		d->session_cancel = g_cancellable_connect(session->cancellable,
							  G_CALLBACK(session_cancelled), d, NULL);
	return &d->base;
}
