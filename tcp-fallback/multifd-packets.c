/* SPDX-License-Identifier: BSD-2-Clause */
#include "multifd-packets.h"

#include <errno.h>
#include <poll.h>
#include "fd-channel.h"
#include "zero-copy.h"

typedef struct {
	FerryCarrier base;
	FerryFdChannel *channel;
	FerryMultifdOutgoing *outgoing;
	FerryMultifdCompressor *compressor; /* NULL: none */
	FerryZeroCopy zero;                 /* on only where it is asked for */
	const FerryRam *ram;
	FerryRun rest;             /* of the last run taken, in no packet yet */
	guint32 block;             /* of @packet */
	FerryMultifdPacket packet; /* being filled, or written */
	guint8 header[FERRY_MULTIFD_HEADER_SIZE];
	struct iovec iov[FERRY_MULTIFD_PAGES + 1]; /* the header, and what follows */
	guint first, n_iov;                        /* not written yet; none: it is being filled */
	FerryCarrierStats stats; /* stored by the thread, loaded by any: relaxed */
	gboolean dead;
	GError *error;
} Packets;

static void count(guint64 *counter, guint64 n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* ---- filling a packet ---- */

/* Moves pages of the rest into the packet. TRUE: it takes no more. */
static gboolean fill(Packets *p)
{
	FerryMultifdPacket *packet = &p->packet;

	if (packet->pages && p->rest.pages && p->rest.block != p->block)
		return TRUE;
	if (p->rest.pages)
		p->block = p->rest.block;
	for (; p->rest.pages && packet->pages < FERRY_MULTIFD_PAGES; p->rest.pages--)
		packet->offsets[packet->pages++] = p->rest.first++ << FERRY_PAGE_SHIFT;
	return packet->pages == FERRY_MULTIFD_PAGES;
}

/* One piece for all pages that lie side by side. */
static void gather(Packets *p, const guint8 *host)
{
	const FerryMultifdPacket *packet = &p->packet;

	for (guint i = 0; i < packet->pages; i++) {
		struct iovec *last = &p->iov[p->n_iov - 1];

		if (i && packet->offsets[i] == packet->offsets[i - 1] + FERRY_PAGE_SIZE)
			last->iov_len += FERRY_PAGE_SIZE;
		else
			p->iov[p->n_iov++] = (struct iovec){ (guint8 *)host + packet->offsets[i],
							     FERRY_PAGE_SIZE };
	}
	p->packet.payload = packet->pages * FERRY_PAGE_SIZE;
}

static gboolean compress(Packets *p, const guint8 *host)
{
	const guint8 *pages[FERRY_MULTIFD_PAGES], *payload;

	for (guint i = 0; i < p->packet.pages; i++)
		pages[i] = host + p->packet.offsets[i];
	p->packet.compression = p->outgoing->terms.compression;
	p->packet.payload = (guint32)ferry_multifd_compress(p->compressor, pages, p->packet.pages,
							    &payload, &p->error);
	p->iov[p->n_iov++] = (struct iovec){ (guint8 *)payload, p->packet.payload };
	return p->packet.payload != 0;
}

/* The packet is to go as it is. */
static FerryIo seal(Packets *p)
{
	const FerryRamBlock *block = &p->ram->blocks[p->block];

	p->first = 0;
	p->n_iov = 1;
	if (!p->compressor)
		gather(p, block->host);
	else if (!compress(p, block->host))
		return p->dead = TRUE, FERRY_IO_DEAD;
	p->packet.number = __atomic_fetch_add(&p->outgoing->number, 1, __ATOMIC_RELAXED);
	g_strlcpy(p->packet.block, block->name, sizeof(p->packet.block));
	ferry_multifd_put_packet(p->header, &p->packet);
	p->iov[0] = (struct iovec){ p->header, sizeof(p->header) };
	return FERRY_IO_OK;
}

/* ---- writing it ---- */

static void drop_written(Packets *p, size_t n)
{
	count(&p->stats.bytes, n);
	while (p->first < p->n_iov && n >= p->iov[p->first].iov_len)
		n -= p->iov[p->first++].iov_len;
	if (p->first < p->n_iov) {
		p->iov[p->first].iov_base = (guint8 *)p->iov[p->first].iov_base + n;
		p->iov[p->first].iov_len -= n;
	} else {
		p->first = p->n_iov = 0;
		p->packet.pages = 0;
	}
}

/* The header is copied by the kernel: it is another one's soon. */
static gssize send_uncopied(Packets *p)
{
	gboolean was_on = p->zero.on;
	gssize n;

	if (!p->first) {
		struct msghdr message = { .msg_iov = p->iov, .msg_iovlen = 1 };

		return sendmsg(p->channel->out, &message, MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE);
	}
	n = ferry_zero_copy_send(&p->zero, p->iov + p->first, p->n_iov - p->first);
	if (was_on && !p->zero.on)
		g_atomic_int_inc(&p->outgoing->zero_copy_ends);
	return n;
}

/* As a channel's try_write. */
static gssize try_write(Packets *p)
{
	FerryChannel *channel = &p->channel->base;
	gssize n;

	if (!p->outgoing->zero_copy)
		return channel->ops->try_write(channel, p->iov + p->first,
					       (int)(p->n_iov - p->first), &p->error);
	if (ferry_fd_channel_is_shut(p->channel, &p->error))
		return -1;
	n = send_uncopied(p);
	if (n >= 0)
		return n;
	if (errno == EAGAIN || errno == EINTR)
		return 0;
	/* The same error again, told as any other. */
	return channel->ops->try_write(channel, p->iov + p->first, 1, &p->error);
}

/* OK: the packet is gone, or there was none. */
static FerryIo write_packet(Packets *p)
{
	while (p->n_iov) {
		gssize n = try_write(p);

		if (n < 0)
			return p->dead = TRUE, FERRY_IO_DEAD;
		if (n == 0)
			return FERRY_IO_AGAIN;
		drop_written(p, (size_t)n);
	}
	return FERRY_IO_OK;
}

/* Until no full packet is left; with @all, until nothing is. */
static FerryIo write_packets(Packets *p, gboolean all)
{
	for (;;) {
		FerryIo io = write_packet(p);

		if (io != FERRY_IO_OK)
			return io;
		if (!fill(p) && !(all && p->packet.pages))
			return FERRY_IO_OK;
		if (seal(p) != FERRY_IO_OK)
			return FERRY_IO_DEAD;
	}
}

static FerryIo packets_put(FerryCarrier *carrier, const FerryRun *runs, size_t n, size_t *taken)
{
	Packets *p = (Packets *)carrier;
	FerryIo io = p->dead ? FERRY_IO_DEAD : FERRY_IO_OK;

	*taken = 0;
	while (io == FERRY_IO_OK && *taken < n) {
		io = write_packets(p, FALSE);
		if (io != FERRY_IO_OK)
			break;
		p->rest = runs[(*taken)++];
		count(&p->stats.pages, p->rest.pages);
	}
	return io;
}

/* Whether the kernel is done with all memory that it was given. */
static gboolean is_released(Packets *p)
{
	guint64 before = p->zero.copied;
	gboolean was_on = p->zero.on, all;

	if (!p->outgoing->zero_copy)
		return TRUE;
	all = ferry_zero_copy_reap(&p->zero);
	__atomic_fetch_add(&p->outgoing->copied, p->zero.copied - before, __ATOMIC_RELAXED);
	if (was_on && !p->zero.on)
		g_atomic_int_inc(&p->outgoing->zero_copy_ends);
	return all;
}

static FerryIo packets_progress(FerryCarrier *carrier)
{
	Packets *p = (Packets *)carrier;
	FerryIo io = p->dead ? FERRY_IO_DEAD : write_packets(p, TRUE);

	return io == FERRY_IO_OK && !is_released(p) ? FERRY_IO_AGAIN : io;
}

/* What the kernel says of memory counts as an error, which is always told. */
static void packets_wait(FerryCarrier *carrier, gint64 timeout_us)
{
	Packets *p = (Packets *)carrier;

	gboolean released = is_released(p);
	gboolean for_memory = !released && (!p->n_iov || p->zero.starved);

	ferry_fd_channel_wait(p->channel, p->channel->out, for_memory ? 0 : POLLOUT, timeout_us);
}

static FerryIo packets_settle(FerryCarrier *carrier, guint32 fence)
{
	return packets_progress(carrier);
}

static gboolean packets_share_ram(FerryCarrier *carrier, const FerryRam *ram, GError **error)
{
	((Packets *)carrier)->ram = ram;
	return TRUE;
}

static void packets_get_stats(FerryCarrier *carrier, FerryCarrierStats *stats)
{
	Packets *p = (Packets *)carrier;

	*stats = (FerryCarrierStats){
		.bytes = __atomic_load_n(&p->stats.bytes, __ATOMIC_RELAXED),
		.pages = __atomic_load_n(&p->stats.pages, __ATOMIC_RELAXED),
	};
}

static GError *packets_take_error(FerryCarrier *carrier)
{
	return g_steal_pointer(&((Packets *)carrier)->error);
}

static void packets_close(FerryCarrier *carrier)
{
	Packets *p = (Packets *)carrier;

	ferry_multifd_compressor_free(p->compressor);
	g_clear_error(&p->error);
	g_free(p);
}

static const FerryCarrierOps packets_ops = {
	.name = "multifd",
	.share_ram = packets_share_ram,
	.put = packets_put,
	.progress = packets_progress,
	.wait = packets_wait,
	.settle = packets_settle,
	.get_stats = packets_get_stats,
	.take_error = packets_take_error,
	.close = packets_close,
};

FerryCarrier *ferry_multifd_packets_new(FerryChannel *channel, FerryMultifdOutgoing *outgoing,
					GError **error)
{
	g_autoptr(FerryCarrier) carrier = g_malloc0(sizeof(Packets));
	Packets *p = (Packets *)carrier;

	carrier->ops = &packets_ops;
	p->channel = (FerryFdChannel *)channel;
	p->outgoing = outgoing;
	if (outgoing->terms.compression != FERRY_MULTIFD_COMPRESSION_NONE) {
		p->compressor = ferry_multifd_compressor_new(outgoing->terms.compression,
							     outgoing->level, error);
		if (!p->compressor)
			return NULL;
	}
	if (outgoing->zero_copy && !ferry_zero_copy_open(&p->zero, p->channel->out, error))
		return NULL;
	return g_steal_pointer(&carrier);
}
