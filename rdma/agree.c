/* SPDX-License-Identifier: BSD-2-Clause */
#include "destination.h"

#include "devices.h"

/* What will be of what the source offers. */

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

/* The urgent queue pair counts beside those that a setting limits. */
static void agree_queues(FerryRdmaDestination *d, const FerryRdmaLimits *limits,
			 FerryRdmaTerms *terms)
{
	guint64 cap = ferry_settings_get_parameter(d->session->settings,
						   FERRY_PARAMETER_RDMA_QUEUE_PAIRS);
	guint32 urgent = !!(terms->flags & FERRY_RDMA_POSTCOPY);

	if (urgent && (!d->session->postcopy || limits->max_queue_pairs < 2 ||
		       d->ram->total >> FERRY_PAGE_SHIFT > G_MAXUINT32)) {
		terms->flags &= ~(FERRY_RDMA_POSTCOPY | FERRY_RDMA_PULL);
		terms->queue_pairs -= urgent;
		urgent = 0;
	}
	terms->queue_pairs = MIN(terms->queue_pairs, limits->max_queue_pairs);
	if (cap)
		terms->queue_pairs = (guint32)MIN(terms->queue_pairs, cap + urgent);
}

/* Pages that the guest must not see yet need a mapping of their own. */
static gboolean agree_postcopy(FerryRdmaDestination *d, const FerryRdmaTerms *terms, GError **error)
{
	for (guint i = 0; terms->flags & FERRY_RDMA_POSTCOPY && i < d->ram->n_blocks; i++)
		if (d->ram->blocks[i].fd < 0)
			return refused(error,
				       "RAM block '%s' is private memory, which RDMA cannot fill "
				       "once the guest runs: back the RAM with a memfd",
				       d->ram->blocks[i].name);
	return TRUE;
}

/* Once all else is: each page is read into memory that stays registered, and a fetch is two reads
 * at most. */
static void agree_pull(FerryRdmaDestination *d, FerryRdmaTerms *terms)
{
	gboolean wanted = ferry_settings_get_capability(d->session->settings,
							FERRY_CAPABILITY_RDMA_POSTCOPY_PULL);

	if (!wanted || terms->pin_limit || terms->flags & FERRY_RDMA_ON_DEMAND ||
	    terms->chunk_size < FERRY_FETCH_MAX * FERRY_PAGE_SIZE)
		terms->flags &= ~FERRY_RDMA_PULL;
}

gboolean ferry_rdma_destination_agree(FerryRdmaDestination *d, FerryRdmaTerms *terms,
				      GError **error)
{
	const FerryRdmaLimits *limits = ferry_rdma_acceptor_limits(d->acceptor);

	if (!limits->on_demand)
		terms->flags &= ~FERRY_RDMA_ON_DEMAND;
	/* Relaxed ordering stays as offered: a device without it ignores it. */
	terms->mtu = limits->mtu;
	agree_queues(d, limits, terms);
	if (!agree_postcopy(d, terms, error) || !agree_chunks(d, limits, terms, error) ||
	    !agree_pinning(d, terms, error) || !agree_writes(d, terms, error))
		return FALSE;
	agree_pull(d, terms);
	return TRUE;
}
