/* SPDX-License-Identifier: BSD-2-Clause */
#include "destination.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "devices.h"
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

static gboolean refused(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static gboolean refused(GError **error, const char *format, ...)
{
	g_autofree char *why = NULL;
	va_list arguments;

	va_start(arguments, format);
	why = g_strdup_vprintf(format, arguments);
	va_end(arguments);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "%s", why);
	return FALSE;
}

static gboolean agree_chunks(FerryRdmaDestination *d, const FerryRdmaLimits *limits,
			     FerryRdmaTerms *terms, GError **error)
{
	while (terms->chunk_size > limits->max_region)
		terms->chunk_size >>= 1;
	for (guint i = 0; i < d->ram->n_blocks; i++)
		if (terms->chunk_size < d->ram->blocks[i].page_size)
			return refused(error,
				       "memory regions of %" G_GUINT64_FORMAT
				       " bytes are smaller than a page of RAM block '%s', "
				       "%" G_GUINT64_FORMAT
				       " bytes: give it smaller pages, or a source with larger "
				       "regions",
				       terms->chunk_size, d->ram->blocks[i].name,
				       d->ram->blocks[i].page_size);
	return TRUE;
}

/* Once the chunk size is final. */
static gboolean agree_writes(FerryRdmaDestination *d, FerryRdmaTerms *terms, GError **error)
{
	terms->write_size = (guint32)MIN(terms->write_size, terms->chunk_size);
	if (ferry_rdma_count_chunks(d->ram, terms->chunk_size) <= FERRY_RDMA_CHUNKS_MAX)
		return TRUE;
	return refused(error,
		       "memory regions of %" G_GUINT64_FORMAT " bytes make more than %u of them",
		       terms->chunk_size, FERRY_RDMA_CHUNKS_MAX);
}

static gboolean agree_pinning(FerryRdmaDestination *d, FerryRdmaTerms *terms, GError **error)
{
	gboolean all = !!(terms->flags & FERRY_RDMA_PIN_ALL);
	guint64 wanted = ferry_settings_get_parameter(d->session->settings,
						      FERRY_PARAMETER_RDMA_PIN_LIMIT);
	g_autoptr(GError) cause = NULL;

	terms->pin_limit = 0;
	if (ferry_rdma_fit_pinning(d->ram, &terms->chunk_size, wanted, all, &terms->pin_limit,
				   &cause)) {
		terms->flags &= ~FERRY_RDMA_ON_DEMAND;
		return TRUE;
	}
	/* Without pinning each first write to a page waits for a fault: slow, but better than
	 * none. */
	if (terms->flags & FERRY_RDMA_ON_DEMAND)
		return TRUE;
	g_propagate_error(error, g_steal_pointer(&cause));
	return FALSE;
}

/* Makes of the offer in @terms what both sides can. */
static gboolean agree(FerryRdmaDestination *d, FerryRdmaTerms *terms, GError **error)
{
	guint64 cap = ferry_settings_get_parameter(d->session->settings,
						   FERRY_PARAMETER_RDMA_QUEUE_PAIRS);
	const FerryRdmaLimits *limits = ferry_rdma_acceptor_limits(d->acceptor);

	terms->queue_pairs = MIN(terms->queue_pairs, limits->max_queue_pairs);
	if (cap)
		terms->queue_pairs = (guint32)MIN(terms->queue_pairs, cap);
	if (!limits->on_demand)
		terms->flags &= ~FERRY_RDMA_ON_DEMAND;
	/* Relaxed ordering stays as offered: a device without it ignores it. */
	terms->mtu = limits->mtu;
	return agree_chunks(d, limits, terms, error) && agree_pinning(d, terms, error) &&
	       agree_writes(d, terms, error);
}

static void accept_offer(FerryRdmaDestination *d, const FerryRdmaTerms *terms)
{
	guint8 payload[FERRY_RDMA_TERMS_SIZE];

	d->terms = *terms;
	d->depths = (FerryRdmaDepths){
		.sends = 1,
		.receives = FERRY_RDMA_RECEIVES,
		.window = terms->queue_pairs * (FERRY_RDMA_RECEIVES + 1),
	};
	d->link = ferry_rdma_link_new(d->verbs);
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
	agreed = agree(d, &terms, &why);
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
	ferry_rdma_link_free(d->link);
	ferry_rdma_quota_free(d->quota);
	while ((unsaid = g_queue_pop_head(&d->unsaid))) {
		g_bytes_unref(unsaid->payload);
		g_free(unsaid);
	}
	g_object_unref(d->cancel);
	close(d->wake);
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
	d->cancel = g_cancellable_new();
	g_mutex_init(&d->lock);
	g_cond_init(&d->changed);
	g_queue_init(&d->unsaid);
	if (session->cancellable)
		d->session_cancel = g_cancellable_connect(session->cancellable,
							  G_CALLBACK(session_cancelled), d, NULL);
	return &d->base;
}
