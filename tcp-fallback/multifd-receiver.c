/* SPDX-License-Identifier: BSD-2-Clause */
#include "multifd-receiver.h"

#include <sys/mman.h>

/* Runs from here on are spliced; what is shorter goes through the buffer. */
#define SPLICE_PAGES 16u

typedef struct {
	FerryPageReceiver base;
	FerryLanding *landing;
	const FerryMultifdTerms *terms;
	FerryLandingPipe pipe;
	FerryMultifdReader *reader;
	FerryMultifdPacket packet;
	guint8 *buffer; /* of a whole packet's pages */
} Receiver;

/* A FerryReadFunc over a Receiver. */
static gssize read_channel(gpointer user, const struct iovec *iov, int n, GError **error)
{
	FerryPageReceiver *base = user;
	gssize got = base->channel->ops->read(base->channel, iov, n, error);

	if (got > 0)
		ferry_page_count(&base->bytes, (guint64)got);
	return got;
}

static gboolean ended(GError **error)
{
	if (!*error)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "the source closed the connection, its own log says why");
	return FALSE;
}

static gboolean check_packet(Receiver *r, guint *block, GError **error)
{
	const FerryRam *ram = r->landing->ram;
	int found = ferry_ram_find(ram, r->packet.block);

	if (found < 0) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "multifd: a packet for RAM block '%s', which is not here",
			    r->packet.block);
		return FALSE;
	}
	if (r->packet.compression != r->terms->compression) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "multifd: a packet with compression %s where %s is agreed",
			    ferry_multifd_compression_name(r->packet.compression),
			    ferry_multifd_compression_name(r->terms->compression));
		return FALSE;
	}
	*block = (guint)found;
	return ferry_multifd_packet_fits(&r->packet, ram->blocks[found].size, error);
}

/* How many pages from @first on lie side by side. */
static guint run_length(const FerryMultifdPacket *packet, guint first)
{
	guint end = first + 1;

	while (end < packet->pages &&
	       packet->offsets[end] == packet->offsets[end - 1] + FERRY_PAGE_SIZE)
		end++;
	return end - first;
}

/* Memory behind the mapping, at once for each run and not by a fault for each page. */
static void populate(Receiver *r, guint block)
{
	guint8 *host = r->landing->ram->blocks[block].host;

	for (guint i = 0, n; i < r->packet.pages; i += n) {
		n = run_length(&r->packet, i);
		if (n >= SPLICE_PAGES)
			madvise(host + r->packet.offsets[i], (size_t)n * FERRY_PAGE_SIZE,
				MADV_POPULATE_WRITE);
	}
}

static gboolean by_mapping(Receiver *r, guint block, GError **error)
{
	guint8 *host = r->landing->ram->blocks[block].host;
	guint8 *pages[FERRY_MULTIFD_PAGES];

	for (guint i = 0; i < r->packet.pages; i++)
		pages[i] = host + r->packet.offsets[i];
	populate(r, block);
	return ferry_multifd_reader_pages(r->reader, &r->packet, pages, error);
}

/* Pages @first to @end, which are in the buffer. */
static gboolean write_out(Receiver *r, guint block, guint first, guint end, GError **error)
{
	for (guint i = first, n; i < end; i += n) {
		n = MIN(run_length(&r->packet, i), end - i);
		if (!ferry_landing_write(r->landing, block, r->packet.offsets[i],
					 r->buffer + (size_t)(i - first) * FERRY_PAGE_SIZE,
					 (size_t)n * FERRY_PAGE_SIZE, error))
			return FALSE;
	}
	return TRUE;
}

/* Whatever is compressed is in the buffer first. */
static gboolean decompressed(Receiver *r, guint block, GError **error)
{
	guint8 *pages[FERRY_MULTIFD_PAGES];

	for (guint i = 0; i < r->packet.pages; i++)
		pages[i] = r->buffer + (size_t)i * FERRY_PAGE_SIZE;
	return ferry_multifd_reader_pages(r->reader, &r->packet, pages, error) &&
	       write_out(r, block, 0, r->packet.pages, error);
}

/* Short runs from @first on, up to the next long one; *@end is where that is. */
static gboolean by_buffer(Receiver *r, guint block, guint first, guint *end, GError **error)
{
	FerryMultifdPacket part = { 0 };
	guint8 *pages[FERRY_MULTIFD_PAGES];

	*end = first;
	for (guint n; *end < r->packet.pages; *end += n) {
		n = run_length(&r->packet, *end);
		if (n >= SPLICE_PAGES)
			break;
	}
	part.pages = *end - first;
	for (guint i = 0; i < part.pages; i++)
		pages[i] = r->buffer + (size_t)i * FERRY_PAGE_SIZE;
	return ferry_multifd_reader_pages(r->reader, &part, pages, error) &&
	       write_out(r, block, first, *end, error);
}

static gboolean by_file(Receiver *r, guint block, GError **error)
{
	for (guint i = 0; i < r->packet.pages;) {
		guint n = run_length(&r->packet, i);
		guint64 got = 0;
		gboolean ok;

		if (n < SPLICE_PAGES) {
			if (!by_buffer(r, block, i, &i, error))
				return FALSE;
			continue;
		}
		ok = ferry_landing_splice(r->landing, &r->pipe, (FerryFdChannel *)r->base.channel,
					  block, r->packet.offsets[i], (size_t)n * FERRY_PAGE_SIZE,
					  &got, error);
		ferry_page_count(&r->base.bytes, got);
		if (!ok)
			return FALSE;
		i += n;
	}
	return TRUE;
}

static gboolean receive_pages(Receiver *r, GError **error)
{
	guint block;
	gboolean ok;

	if (!check_packet(r, &block, error))
		return FALSE;
	if (ferry_landing_enter_file(r->landing, block)) {
		ok = (r->terms->compression ? decompressed : by_file)(r, block, error);
		ferry_landing_leave_file(r->landing, block);
	} else {
		ok = by_mapping(r, block, error);
	}
	if (!ok)
		return FALSE;
	ferry_page_count(&r->base.pages, r->packet.pages);
	return TRUE;
}

static gboolean receive_packet(FerryPageReceiver *base, GError **error)
{
	Receiver *r = (Receiver *)base;

	if (!ferry_multifd_reader_next(r->reader, &r->packet, error))
		return ended(error);
	g_atomic_int_set(&base->gate->used, 1);
	if (r->packet.pages && !receive_pages(r, error))
		return ended(error);
	/* A SYNC has no number: it is the next fence's. */
	return !r->packet.sync || ferry_page_receiver_stand(base, base->passed + 1);
}

static void receiver_free(FerryPageReceiver *base)
{
	Receiver *r = (Receiver *)base;

	ferry_landing_pipe_close(&r->pipe);
	ferry_multifd_reader_free(r->reader);
	g_aligned_free(r->buffer);
	g_free(r);
}

FerryPageReceiver *ferry_multifd_receiver_new(guint index, FerryLanding *landing,
					      const FerryMultifdTerms *terms, GError **error)
{
	Receiver *r = g_new0(Receiver, 1);

	r->base.name = g_strdup_printf("multifd channel %u", index);
	r->base.bytes = FERRY_MULTIFD_INIT_SIZE;
	r->base.receive = receive_packet;
	r->base.free = receiver_free;
	r->landing = landing;
	r->terms = terms;
	r->reader = ferry_multifd_reader_new(read_channel, r);
	r->buffer = g_aligned_alloc(FERRY_MULTIFD_PAGES, FERRY_PAGE_SIZE, FERRY_PAGE_SIZE);
	if (ferry_landing_pipe_open(&r->pipe, error))
		return &r->base;
	ferry_page_receiver_free(&r->base);
	return NULL;
}
