/* SPDX-License-Identifier: BSD-2-Clause */
#include "pages.h"

#include <limits.h>
#include <string.h>
#include <ferry/protocol.h>

/*
 * The sending side gathers frames, a header and a reference to guest memory each, into a batch that
 * goes out with as few writes as possible. Pages are never copied: the kernel reads them when it
 * takes them. But for encoded ones, which stand behind their headers.
 */
#define BATCH_IOV IOV_MAX
#define BATCH_HEADERS (256u << 10)
/* Gathered before a write: more gains nothing, and less shows with runs of single pages. */
#define BATCH_BYTES (1u << 20)

#define RUN_MAX_PAGES (FERRY_PAGES_RUN_MAX >> FERRY_PAGE_SHIFT)
#define HEADER_MAX (8u + 1u + FERRY_RAM_NAME_MAX + 4u)

typedef struct FerryPages FerryPages;

/* Frames as much of the front of pages->rest as one frame holds. There is room for it. */
typedef void (*FrameFunc)(FerryPages *pages);
/* Writes the header of an encoded page to @header, and returns its length. */
typedef size_t (*EncodedFunc)(FerryPages *pages, guint8 *header, guint32 block, guint64 page,
			      FerryPageForm form, size_t len);

struct FerryPages {
	FerryCarrier base;
	FerryCarrierOps ops;   /* what base.ops points to: named after the channel's scheme */
	FerryChannel *channel; /* borrowed */
	FrameFunc frame;
	EncodedFunc encoded;
	const FerryRam *ram; /* borrowed; NULL before share_ram() */
	FerryZeroer zeroer;  /* the receiving side's */
	gboolean dead;
	GError *error; /* why, until it is taken */

	FerryRun rest; /* of the last run that was taken, not framed yet; pages 0: nothing */
	gboolean rest_zero;
	guint32 last_block; /* QEMU's CONTINUE: of the last page, G_MAXUINT32 before the first */

	struct iovec iov[BATCH_IOV];
	guint first, n_iov; /* iov[first] to iov[n_iov - 1] are not written yet */
	size_t queued;      /* bytes in them */
	guint8 headers[BATCH_HEADERS];
	guint headers_used;

	FerryCarrierStats stats; /* written by the sending thread alone, read by any: relaxed */
};

static void count(guint64 *counter, guint64 n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static void append(FerryPages *p, gpointer data, size_t len)
{
	struct iovec *last = p->n_iov > p->first ? &p->iov[p->n_iov - 1] : NULL;

	p->queued += len;
	if (last && (guint8 *)last->iov_base + last->iov_len == (guint8 *)data)
		last->iov_len += len;
	else
		p->iov[p->n_iov++] = (struct iovec){ data, len };
}

/* Appends a header of @len bytes that was written at the end of the used headers. */
static void append_header(FerryPages *p, size_t len)
{
	append(p, p->headers + p->headers_used, len);
	p->headers_used += len;
}

/* Appends the first @n pages of the rest if they are not zero, and takes them off it. */
static void append_pages(FerryPages *p, guint64 n)
{
	if (!p->rest_zero)
		append(p, ferry_run_host(p->ram, &p->rest), n << FERRY_PAGE_SHIFT);
	p->rest.first += n;
	p->rest.pages -= n;
}

/* A word with offset and flags, and the block's name if it changed. */
static size_t put_word(FerryPages *p, guint8 *header, guint32 block, guint64 page, guint flags)
{
	guint64 word = page << FERRY_PAGE_SHIFT | flags;
	size_t len = 8;

	if (block == p->last_block) {
		word |= FERRY_RAM_CONTINUE;
	} else {
		const char *name = p->ram->blocks[block].name;
		size_t name_len = strlen(name);

		header[len++] = (guint8)name_len;
		memcpy(header + len, name, name_len);
		len += name_len;
		p->last_block = block;
	}
	ferry_store_be64(header, word);
	return len;
}

/* One page: its word, then the page or a zero byte. */
static void frame_qemu(FerryPages *p)
{
	guint8 *header = p->headers + p->headers_used;
	size_t len = put_word(p, header, p->rest.block, p->rest.first,
			      p->rest_zero ? FERRY_RAM_ZERO : FERRY_RAM_PAGE);

	if (p->rest_zero)
		header[len++] = 0;
	append_header(p, len);
	append_pages(p, 1);
}

static size_t encode_qemu(FerryPages *p, guint8 *header, guint32 block, guint64 page,
			  FerryPageForm form, size_t data_len)
{
	static const guint flags[] = {
		[FERRY_PAGE_FORM_PLAIN] = FERRY_RAM_PAGE,
		[FERRY_PAGE_FORM_XBZRLE] = FERRY_RAM_XBZRLE,
		[FERRY_PAGE_FORM_ZLIB] = FERRY_RAM_COMPRESSED,
	};
	size_t len = put_word(p, header, block, page, flags[form]);

	if (form == FERRY_PAGE_FORM_XBZRLE) {
		header[len] = FERRY_RAM_ENCODING_XBZRLE;
		ferry_store_be16(header + len + 1, (guint16)data_len);
		len += 3;
	} else if (form == FERRY_PAGE_FORM_ZLIB) {
		ferry_store_be32(header + len, (guint32)data_len);
		len += 4;
	}
	return len;
}

/* The command that carries Ferry's records, and a record's header with the block; all records of
 * pages are of one length. */
static void put_record(guint8 *header, guint16 type, guint32 block)
{
	header[0] = FERRY_SECTION_COMMAND;
	ferry_store_be16(header + 1, FERRY_COMMAND_FERRY);
	ferry_store_be16(header + 3, FERRY_RECORD_HEADER + FERRY_PAGES_PAYLOAD);
	ferry_store_be16(header + 5, type);
	header[7] = FERRY_RECORD_VERSION;
	header[8] = 0;
	ferry_store_be32(header + 9, FERRY_PAGES_PAYLOAD);
	ferry_store_be32(header + 13, block);
}

static size_t encode_record(FerryPages *p, guint8 *header, guint32 block, guint64 page,
			    FerryPageForm form, size_t len)
{
	put_record(header, FERRY_RECORD_ENCODED_PAGE, block);
	ferry_store_be64(header + 17, page);
	ferry_store_be32(header + 25, form);
	ferry_store_be32(header + 29, (guint32)len);
	return 33;
}

/* One record for as much of the run as it can hold. */
static void frame_run(FerryPages *p)
{
	guint8 *header = p->headers + p->headers_used;
	guint64 pages = MIN(p->rest.pages, RUN_MAX_PAGES);

	put_record(header, p->rest_zero ? FERRY_RECORD_ZERO_PAGES : FERRY_RECORD_PAGES,
		   p->rest.block);
	ferry_store_be64(header + 17, p->rest.first);
	ferry_store_be64(header + 25, pages);
	append_header(p, 33);
	append_pages(p, pages);
}

/* Takes @n written bytes off the front of the batch. */
static void drop_written(FerryPages *p, size_t n)
{
	p->queued -= n;
	count(&p->stats.bytes, n);
	while (n && n >= p->iov[p->first].iov_len)
		n -= p->iov[p->first++].iov_len;
	if (n) {
		p->iov[p->first].iov_base = (char *)p->iov[p->first].iov_base + n;
		p->iov[p->first].iov_len -= n;
	}
	if (!p->queued)
		p->first = p->n_iov = p->headers_used = 0;
}

/* Writes the batch until it is empty (OK) or the channel takes no more (AGAIN). */
static FerryIo write_batch(FerryPages *p)
{
	while (p->queued) {
		gssize n = p->channel->ops->try_write(p->channel, p->iov + p->first,
						      (int)(p->n_iov - p->first), &p->error);

		if (n < 0) {
			p->dead = TRUE;
			return FERRY_IO_DEAD;
		}
		if (n == 0)
			return FERRY_IO_AGAIN;
		drop_written(p, (size_t)n);
	}
	return FERRY_IO_OK;
}

/* For a header and @len bytes behind it. */
static gboolean has_room(const FerryPages *p, size_t len)
{
	return p->queued < BATCH_BYTES && p->n_iov + 2 <= BATCH_IOV &&
	       p->headers_used + HEADER_MAX + len <= BATCH_HEADERS;
}

/* Frames all of the rest, and writes as often as the batch fills up. OK: there is room for another
 * run, or @len encoded bytes. */
static FerryIo frame_rest(FerryPages *p, size_t len)
{
	for (;;) {
		FerryIo io = has_room(p, len) ? FERRY_IO_OK : write_batch(p);

		if (io != FERRY_IO_OK || !p->rest.pages)
			return io;
		p->frame(p);
	}
}

/*
 * A run is taken whole once there is room for its first frame; the rest of it is kept and framed
 * later, as room comes. Taking it piecemeal would not do: a run that is offered again after its
 * first pages were dirtied once more cannot be told from one that goes on.
 */
static FerryIo take(FerryPages *p, const FerryRun *runs, size_t n, size_t *taken, gboolean zero)
{
	FerryIo io = p->dead ? FERRY_IO_DEAD : FERRY_IO_OK;

	*taken = 0;
	while (io == FERRY_IO_OK && *taken < n) {
		io = frame_rest(p, 0);
		if (io != FERRY_IO_OK)
			break;
		p->rest = runs[(*taken)++];
		p->rest_zero = zero;
		count(zero ? &p->stats.zero_pages : &p->stats.pages, p->rest.pages);
	}
	return io;
}

static FerryIo pages_put(FerryCarrier *carrier, const FerryRun *runs, size_t n, size_t *taken)
{
	return take((FerryPages *)carrier, runs, n, taken, FALSE);
}

static FerryIo pages_put_zero(FerryCarrier *carrier, const FerryRun *runs, size_t n, size_t *taken)
{
	return take((FerryPages *)carrier, runs, n, taken, TRUE);
}

static FerryIo pages_put_encoded(FerryCarrier *carrier, guint32 block, guint64 page,
				 FerryPageForm form, const guint8 *data, size_t len)
{
	FerryPages *p = (FerryPages *)carrier;
	FerryIo io = p->dead ? FERRY_IO_DEAD : frame_rest(p, len);
	guint8 *frame = p->headers + p->headers_used;
	size_t header;

	if (io != FERRY_IO_OK)
		return io;
	header = p->encoded(p, frame, block, page, form, len);
	memcpy(frame + header, data, len);
	append_header(p, header + len);
	count(&p->stats.pages, 1);
	return FERRY_IO_OK;
}

static FerryIo pages_progress(FerryCarrier *carrier)
{
	FerryPages *p = (FerryPages *)carrier;
	FerryIo io = p->dead ? FERRY_IO_DEAD : frame_rest(p, 0);

	return io == FERRY_IO_OK ? write_batch(p) : io;
}

static void pages_wait(FerryCarrier *carrier, gint64 timeout_us)
{
	FerryPages *p = (FerryPages *)carrier;

	p->channel->ops->wait_writable(p->channel, timeout_us);
}

/* The stream itself keeps the order: what is written is before the fence record. */
static FerryIo pages_settle(FerryCarrier *carrier, guint32 fence)
{
	return pages_progress(carrier);
}

static gboolean pages_share_ram(FerryCarrier *carrier, const FerryRam *ram, GError **error)
{
	FerryPages *p = (FerryPages *)carrier;

	p->ram = ram;
	return TRUE;
}

static gboolean pages_receive(FerryCarrier *carrier, guint16 type, const guint8 *payload,
			      size_t len, FerryReadExactly read, gpointer user, FerryRun *run,
			      gboolean *zero, GError **error)
{
	FerryPages *p = (FerryPages *)carrier;

	return ferry_pages_receive(p->ram, &p->zeroer, type, payload, len, read, user, run, zero,
				   error);
}

/* Pages land only in receive(), on the caller's own thread. */
static void pages_quiesce(FerryCarrier *carrier)
{
}

static void pages_get_stats(FerryCarrier *carrier, FerryCarrierStats *stats)
{
	FerryPages *p = (FerryPages *)carrier;

	*stats = (FerryCarrierStats){
		.bytes = __atomic_load_n(&p->stats.bytes, __ATOMIC_RELAXED),
		.pages = __atomic_load_n(&p->stats.pages, __ATOMIC_RELAXED),
		.zero_pages = __atomic_load_n(&p->stats.zero_pages, __ATOMIC_RELAXED),
	};
}

static GError *pages_take_error(FerryCarrier *carrier)
{
	return g_steal_pointer(&((FerryPages *)carrier)->error);
}

static void pages_close(FerryCarrier *carrier)
{
	FerryPages *p = (FerryPages *)carrier;

	ferry_zeroer_close(&p->zeroer);
	g_clear_error(&p->error);
	g_free(p);
}

FerryCarrier *ferry_page_carrier_new(FerryChannel *channel, FerryPageFormat format)
{
	FerryPages *p = g_new0(FerryPages, 1);

	p->ops = (FerryCarrierOps){
		.name = channel->ops->name,
		.share_ram = pages_share_ram,
		.put = pages_put,
		.put_zero = pages_put_zero,
		.put_encoded = pages_put_encoded,
		.progress = pages_progress,
		.wait = pages_wait,
		.settle = pages_settle,
		/* Pages in QEMU's format belong to a ram section, which the engine reads. */
		.receive = format == FERRY_PAGE_FORMAT_RUNS ? pages_receive : NULL,
		.quiesce = pages_quiesce,
		.get_stats = pages_get_stats,
		.take_error = pages_take_error,
		.close = pages_close,
	};
	p->base.ops = &p->ops;
	p->channel = channel;
	p->frame = format == FERRY_PAGE_FORMAT_RUNS ? frame_run : frame_qemu;
	p->encoded = format == FERRY_PAGE_FORMAT_RUNS ? encode_record : encode_qemu;
	p->last_block = G_MAXUINT32;
	p->zeroer = ferry_zeroer_open();
	return &p->base;
}
