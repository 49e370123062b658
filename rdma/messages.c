/* SPDX-License-Identifier: BSD-2-Clause */
#include "messages.h"

#include <ferry/ram.h>

#define GREETING_MAGIC 0x4652444du /* "FRDM" */
#define GREETING_VERSION 1u
#define FLAGS_KNOWN                                                                                \
	(FERRY_RDMA_PIN_ALL | FERRY_RDMA_ON_DEMAND | FERRY_RDMA_RELAXED_ORDERING |                 \
	 FERRY_RDMA_POSTCOPY | FERRY_RDMA_PULL)

static gboolean check_length(const char *what, size_t len, size_t expected, GError **error)
{
	if (len == expected)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER, "%s has %zu bytes instead of %zu", what,
		    len, expected);
	return FALSE;
}

/* Always FALSE. */
static gboolean refuse(GError **error, const char *what, const char *field, guint64 value,
		       const char *range)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "%s: %s is %" G_GUINT64_FORMAT ", must be %s", what, field, value, range);
	return FALSE;
}

/* ---- OFFER, ANSWER ---- */

void ferry_rdma_put_terms(guint8 *out, const FerryRdmaTerms *terms)
{
	ferry_store_be32(out, terms->queue_pairs);
	ferry_store_be32(out + 4, terms->write_size);
	ferry_store_be64(out + 8, terms->chunk_size);
	ferry_store_be32(out + 16, terms->flags);
	ferry_store_be32(out + 20, terms->mtu);
	ferry_store_be64(out + 24, terms->pin_limit);
}

static gboolean check_terms(const FerryRdmaTerms *in, GError **error)
{
	const char *what = "RDMA terms";
	guint32 urgent = !!(in->flags & FERRY_RDMA_POSTCOPY);

	if (in->flags & ~FLAGS_KNOWN)
		return refuse(error, what, "flags", in->flags, "of bits 0 to 4");
	if (in->flags & FERRY_RDMA_PULL && !(in->flags & FERRY_RDMA_POSTCOPY))
		return refuse(error, what, "flags", in->flags, "without bit 4 where bit 3 is not");
	if (in->queue_pairs < 1 + urgent || in->queue_pairs > FERRY_RDMA_BULK_MAX + urgent)
		return refuse(error, what, "queue pairs", in->queue_pairs,
			      urgent ? "2 to 17" : "1 to 16");
	if (!in->write_size || in->write_size % FERRY_PAGE_SIZE)
		return refuse(error, what, "write size", in->write_size, "a multiple of 4096");
	if (in->chunk_size < FERRY_PAGE_SIZE || in->chunk_size & (in->chunk_size - 1))
		return refuse(error, what, "chunk size", in->chunk_size,
			      "a power of two of at least 4096");
	return TRUE;
}

gboolean ferry_rdma_get_terms(const guint8 *data, size_t len, FerryRdmaTerms *terms, GError **error)
{
	FerryRdmaTerms in;

	if (!check_length("RDMA terms", len, FERRY_RDMA_TERMS_SIZE, error))
		return FALSE;
	in.queue_pairs = ferry_load_be32(data);
	in.write_size = ferry_load_be32(data + 4);
	in.chunk_size = ferry_load_be64(data + 8);
	in.flags = ferry_load_be32(data + 16);
	in.mtu = ferry_load_be32(data + 20);
	in.pin_limit = ferry_load_be64(data + 24);
	if (!check_terms(&in, error))
		return FALSE;
	*terms = in;
	return TRUE;
}

/* ---- REGISTER, RELEASE ---- */

void ferry_rdma_put_chunks(guint8 *out, const FerryRdmaChunks *chunks)
{
	ferry_store_be32(out, chunks->block);
	ferry_store_be32(out + 4, chunks->first);
	ferry_store_be32(out + 8, chunks->chunks);
}

gboolean ferry_rdma_get_chunks(const guint8 *data, size_t len, FerryRdmaChunks *chunks,
			       GError **error)
{
	FerryRdmaChunks in;

	if (!check_length("RDMA chunks", len, FERRY_RDMA_CHUNKS_SIZE, error))
		return FALSE;
	in.block = ferry_load_be32(data);
	in.first = ferry_load_be32(data + 4);
	in.chunks = ferry_load_be32(data + 8);
	if (!in.chunks || in.chunks > G_MAXUINT32 - in.first)
		return refuse(error, "RDMA chunks", "their number", in.chunks,
			      "at least 1, and the last below 2^32");
	*chunks = in;
	return TRUE;
}

/* ---- REGION ---- */

void ferry_rdma_put_region(guint8 *out, const FerryRdmaRegion *region)
{
	ferry_store_be32(out, region->block);
	ferry_store_be32(out + 4, region->chunk);
	ferry_store_be64(out + 8, region->address);
	ferry_store_be32(out + 16, region->key);
}

gboolean ferry_rdma_get_region(const guint8 *data, size_t len, FerryRdmaRegion *region,
			       GError **error)
{
	FerryRdmaRegion in;

	if (!check_length("RDMA region", len, FERRY_RDMA_REGION_SIZE, error))
		return FALSE;
	in.block = ferry_load_be32(data);
	in.chunk = ferry_load_be32(data + 4);
	in.address = ferry_load_be64(data + 8);
	in.key = ferry_load_be32(data + 16);
	*region = in;
	return TRUE;
}

/* ---- CM private data ---- */

void ferry_rdma_put_greeting(guint8 *out, const FerryRdmaGreeting *greeting)
{
	ferry_store_be32(out, GREETING_MAGIC);
	ferry_store_be32(out + 4, GREETING_VERSION);
	memcpy(out + 8, greeting->nonce, FERRY_NONCE_SIZE);
	ferry_store_be32(out + 8 + FERRY_NONCE_SIZE, greeting->queue);
}

/* The CM hands over as many bytes as fit a request, ours first, then zeros. */
gboolean ferry_rdma_get_greeting(const guint8 *data, size_t len, FerryRdmaGreeting *greeting,
				 GError **error)
{
	FerryRdmaGreeting in;

	if (len < FERRY_RDMA_GREETING_SIZE)
		return check_length("RDMA greeting", len, FERRY_RDMA_GREETING_SIZE, error);
	if (ferry_load_be32(data) != GREETING_MAGIC) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "RDMA greeting: begins with 0x%08x instead of 0x%08x, so not from a "
			    "Ferry",
			    ferry_load_be32(data), GREETING_MAGIC);
		return FALSE;
	}
	if (ferry_load_be32(data + 4) != GREETING_VERSION)
		return refuse(error, "RDMA greeting", "version", ferry_load_be32(data + 4), "1");
	memcpy(in.nonce, data + 8, FERRY_NONCE_SIZE);
	in.queue = ferry_load_be32(data + 8 + FERRY_NONCE_SIZE);
	if (in.queue >= FERRY_RDMA_QUEUES_MAX)
		return refuse(error, "RDMA greeting", "queue", in.queue, "0 to 16");
	*greeting = in;
	return TRUE;
}
