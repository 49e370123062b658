/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/carrier.h>
#include <ferry/multifd.h>
#include "micro.h"

/* Runs that are offered at once, as engine/round.c does. */
#define OFFERED 32u
#define RUN_PAGES 256u

enum {
	QEMU,
	RUNS,
	SINGLE = 16,
	ZEROS = 32
};

typedef struct {
	FerryChannel channel; /* swallows everything */
	FerryCarrier *carrier;
	FerryRam *ram;
	guint64 run, stride; /* pages of each run, and from one to the next */
	gboolean zeros;
} Frame;

static gssize swallow(FerryChannel *channel, const struct iovec *iov, int n, GError **error)
{
	gssize len = 0;

	for (int i = 0; i < n; i++)
		len += (gssize)iov[i].iov_len;
	return len;
}

static const FerryChannelOps null_ops = {
	.name = "null",
	.write = swallow,
	.try_write = swallow,
};

static gpointer frame_begin(const FerryMicroMemory *memory, guint variant)
{
	Frame *frame = g_new0(Frame, 1);

	frame->channel.ops = &null_ops;
	frame->ram = ferry_ram_new();
	if (!ferry_ram_add(frame->ram, "pc.ram", memory->random, memory->size, FERRY_PAGE_SIZE, -1,
			   0, NULL))
		g_error("a guest of %zu bytes", memory->size);
	frame->carrier = ferry_page_carrier_new(
		&frame->channel, variant & RUNS ? FERRY_PAGE_FORMAT_RUNS : FERRY_PAGE_FORMAT_QEMU);
	frame->run = variant & SINGLE ? 1 : RUN_PAGES;
	frame->stride = variant & SINGLE ? 2 : RUN_PAGES;
	frame->zeros = !!(variant & ZEROS);
	if (!frame->carrier->ops->share_ram(frame->carrier, frame->ram, NULL))
		g_error("a carrier without RAM");
	return frame;
}

static guint64 frame_pass(gpointer state)
{
	Frame *frame = state;
	const FerryCarrierOps *ops = frame->carrier->ops;
	guint64 pages = ferry_ram_block_pages(&frame->ram->blocks[0]), done = 0;
	FerryRun runs[OFFERED];
	size_t n = 0, taken;

	for (guint64 at = 0; at + frame->stride <= pages; at += frame->stride) {
		runs[n++] = (FerryRun){ .first = at, .pages = frame->run };
		done += frame->run;
		if (n < OFFERED)
			continue;
		(frame->zeros ? ops->put_zero : ops->put)(frame->carrier, runs, n, &taken);
		n = 0;
	}
	if (n)
		(frame->zeros ? ops->put_zero : ops->put)(frame->carrier, runs, n, &taken);
	ops->settle(frame->carrier, 0);
	return done;
}

static void frame_end(gpointer state)
{
	Frame *frame = state;

	ferry_carrier_close(frame->carrier);
	ferry_ram_free(frame->ram);
	g_free(frame);
}

typedef struct {
	guint8 out[FERRY_MULTIFD_HEADER_SIZE];
	FerryMultifdPacket packet;
	guint64 packets; /* in one pass */
} Packets;

static gpointer packets_begin(const FerryMicroMemory *memory, guint variant)
{
	Packets *packets = g_new0(Packets, 1);

	packets->packets = MAX(memory->size / FERRY_PAGE_SIZE / FERRY_MULTIFD_PAGES, 1);
	packets->packet.pages = FERRY_MULTIFD_PAGES;
	packets->packet.payload = FERRY_MULTIFD_PAGES * FERRY_PAGE_SIZE;
	g_strlcpy(packets->packet.block, "pc.ram", sizeof(packets->packet.block));
	return packets;
}

/* The headers alone: the pages behind them go from where they are. */
static guint64 packets_pass(gpointer state)
{
	Packets *packets = state;
	guint64 at = 0;

	for (guint64 n = 0; n < packets->packets; n++) {
		packets->packet.number = n;
		for (guint i = 0; i < FERRY_MULTIFD_PAGES; i++, at += FERRY_PAGE_SIZE)
			packets->packet.offsets[i] = at;
		ferry_multifd_put_packet(packets->out, &packets->packet);
	}
	return packets->packets * FERRY_MULTIFD_PAGES;
}

const FerryMicroCase ferry_micro_frame_cases[] = {
	{ "frame/qemu", frame_begin, frame_pass, frame_end, QEMU },
	{ "frame/multifd", packets_begin, packets_pass, g_free },
	{ "frame/qemu-zero", frame_begin, frame_pass, frame_end, QEMU | ZEROS },
	{ "frame/runs-of-256", frame_begin, frame_pass, frame_end, RUNS },
	{ "frame/runs-of-1", frame_begin, frame_pass, frame_end, RUNS | SINGLE },
	{ NULL },
};
