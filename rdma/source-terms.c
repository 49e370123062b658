/* SPDX-License-Identifier: BSD-2-Clause */
#include "source-private.h"

#include <ferry/error.h>
#include "quota.h"

/* What is offered where nothing asks for less. Measured with soft-RoCE: eight queue pairs carry a
 * tenth more than four or sixteen, and writes beyond 256 KiB change little. */
#define QUEUE_PAIRS 8u
#define WRITE_SIZE (512u << 10)
#define CHUNK_SIZE (8ull << 20)
/* Chunks are made larger rather than more than this. */
#define CHUNKS 8192u

static gboolean pins_all(FerryRdmaSource *s)
{
	return ferry_settings_get_capability(s->session->settings, FERRY_CAPABILITY_RDMA_PIN_ALL);
}

static guint64 largest_page(const FerryRam *ram)
{
	guint64 largest = FERRY_PAGE_SIZE;

	for (guint i = 0; i < ram->n_blocks; i++)
		largest = MAX(largest, ram->blocks[i].page_size);
	return largest;
}

/* Larger chunks for larger RAM, but within what the device registers at a time. */
static gboolean choose_chunk_size(FerryRdmaSource *s, guint64 *chunk_size, GError **error)
{
	guint64 least = largest_page(s->ram), size = MAX(CHUNK_SIZE, least);
	guint64 most = s->link->device.orig_attr.max_mr_size ?: G_MAXUINT64;

	while (ferry_rdma_count_chunks(s->ram, size) > CHUNKS)
		size *= 2;
	while (size > most && size > least)
		size /= 2;
	if (size > most) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "the RDMA device registers %" G_GUINT64_FORMAT
			    " bytes at most, less than "
			    "one page of %" G_GUINT64_FORMAT " bytes of guest RAM",
			    most, least);
		return FALSE;
	}
	*chunk_size = size;
	return TRUE;
}

static gboolean registers_on_demand(const FerryRdmaSource *s)
{
	const struct ibv_odp_caps *caps = &s->link->device.odp_caps;

	return caps->general_caps & IBV_ODP_SUPPORT &&
	       caps->per_transport_caps.rc_odp_caps & IBV_ODP_SUPPORT_WRITE;
}

/* How much may be pinned here. Where that is nothing, the device may do without, which is slower.
 * */
static gboolean choose_pinning(FerryRdmaSource *s, GError **error)
{
	guint64 wanted = ferry_settings_get_parameter(s->session->settings,
						      FERRY_PARAMETER_RDMA_PIN_LIMIT);
	g_autoptr(GError) cause = NULL;

	if (ferry_rdma_fit_pinning(s->ram, &s->terms.chunk_size, wanted, pins_all(s), &s->pin_limit,
				   &cause))
		return TRUE;
	if (registers_on_demand(s)) {
		s->access |= IBV_ACCESS_ON_DEMAND;
		return TRUE;
	}
	g_propagate_error(error, g_steal_pointer(&cause));
	return FALSE;
}

/* Once it is known what is pinned: memory that is to be read has to be there. */
static gboolean choose_postcopy(FerryRdmaSource *s, GError **error)
{
	FerrySettings *settings = s->session->settings;

	if (!s->session->postcopy)
		return TRUE;
	if (s->ram->total >> FERRY_PAGE_SHIFT > G_MAXUINT32) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "%" G_GUINT64_FORMAT " bytes of RAM have more pages than postcopy by "
			    "RDMA can number",
			    s->ram->total);
		return FALSE;
	}
	s->terms.queue_pairs++;
	s->terms.flags |= FERRY_RDMA_POSTCOPY;
	if (ferry_settings_get_capability(settings, FERRY_CAPABILITY_RDMA_POSTCOPY_PULL) &&
	    !s->pin_limit && !(s->access & IBV_ACCESS_ON_DEMAND) &&
	    s->link->device.orig_attr.max_qp_rd_atom > 0)
		s->terms.flags |= FERRY_RDMA_PULL;
	return TRUE;
}

gboolean ferry_rdma_source_choose_terms(FerryRdmaSource *s, GError **error)
{
	guint64 queues = ferry_settings_get_parameter(s->session->settings,
						      FERRY_PARAMETER_RDMA_QUEUE_PAIRS);
	guint32 longest = s->link->port.max_msg_sz & ~(FERRY_PAGE_SIZE - 1);

	if (!longest) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "the RDMA port sends %u bytes at a time, less than a page",
			    s->link->port.max_msg_sz);
		return FALSE;
	}
	s->terms = (FerryRdmaTerms){
		.queue_pairs = CLAMP((guint32)queues, 1, FERRY_RDMA_BULK_MAX),
		.write_size = MIN(WRITE_SIZE, longest),
		.flags = FERRY_RDMA_ON_DEMAND | FERRY_RDMA_RELAXED_ORDERING,
		.mtu = 128u << s->link->port.active_mtu,
	};
	if (!queues)
		s->terms.queue_pairs = QUEUE_PAIRS;
	if (pins_all(s))
		s->terms.flags |= FERRY_RDMA_PIN_ALL;
	return choose_chunk_size(s, &s->terms.chunk_size, error) && choose_pinning(s, error) &&
	       choose_postcopy(s, error);
}

gboolean ferry_rdma_source_agree(FerryRdmaSource *s, GError **error)
{
	const FerryRdmaTerms *got = &s->answer, *ours = &s->terms;

	if (got->queue_pairs > ours->queue_pairs || got->write_size > ours->write_size ||
	    got->chunk_size > ours->chunk_size || got->chunk_size < largest_page(s->ram) ||
	    ferry_rdma_count_chunks(s->ram, got->chunk_size) > FERRY_RDMA_CHUNKS_MAX ||
	    got->flags & ~ours->flags || (got->pin_limit && got->pin_limit < 2 * got->chunk_size) ||
	    (got->flags & FERRY_RDMA_PULL && got->pin_limit)) {
		g_set_error(
			error, FERRY_ERROR, FERRY_ERROR_PEER,
			"the destination answers the RDMA offer with more than was offered, or "
			"what cannot be: %u of %u queue pairs, writes of %u of %u bytes, chunks of "
			"%" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " bytes, flags 0x%x of 0x%x, "
			"%" G_GUINT64_FORMAT " bytes pinned",
			got->queue_pairs, ours->queue_pairs, got->write_size, ours->write_size,
			got->chunk_size, ours->chunk_size, got->flags, ours->flags, got->pin_limit);
		return FALSE;
	}
	if (ours->flags & ~got->flags & FERRY_RDMA_POSTCOPY) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "the destination has no queue pair for urgent pages, which postcopy by "
			    "RDMA needs");
		return FALSE;
	}
	s->terms = *got;
	s->write_size = got->write_size;
	return TRUE;
}
