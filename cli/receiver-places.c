/* SPDX-License-Identifier: BSD-2-Clause */
#include "receiver.h"

/* A FerrySkipFunc over the channel, as the reader has it. */
static gboolean skip_channel(gpointer user, guint64 len, GError **error)
{
	FerryChannel *channel = user;
	guint64 offset, size;

	return channel->ops->places->tell(channel, &offset, &size, error) &&
	       channel->ops->places->seek(channel, offset + len, error);
}

void ferry_receiver_find_begin(FerryReceiver *r)
{
	const FerryPlacesOps *places = r->channel->ops->places;

	/* What cannot be told is found out by whoever reads. */
	if (places && places->tell(r->channel, &r->ram.base, &r->ram.end, NULL))
		ferry_stream_reader_set_skip(r->reader, skip_channel);
}

/* A FerryTakeRun over a FerryReceiver; by one thread. The capture's files are new, and zero. */
static gboolean take_run(gpointer user, const FerryRun *run, const guint8 *data, GError **error)
{
	FerryReceiver *r = user;
	FerryCaptureBlock *block = &g_array_index(r->capture->blocks, FerryCaptureBlock,
						  run->block);

	*(data ? &r->pages : &r->zero_pages) += run->pages;
	for (guint64 i = 0; data && i < run->pages; i++)
		memcpy(ferry_capture_page(block, (run->first + i) << FERRY_PAGE_SHIFT),
		       data + (i << FERRY_PAGE_SHIFT), FERRY_PAGE_SIZE);
	return TRUE;
}

gboolean ferry_receiver_take_places(FerryReceiver *r, GError **error)
{
	const FerryPlacesOps *ops = r->channel->ops->places;
	g_autofree FerryMappedPlace *places = g_new(FerryMappedPlace, r->ram.blocks->len);
	FerryMapping mapping = { places, r->ram.blocks->len, .threads = 1 };
	g_autoptr(FerryRam) ram = NULL;
	g_autoptr(FerryCarrier) carrier = NULL;

	if (!ops)
		return ferry_receiver_refuse(
			error, FERRY_ERROR_NOSUPP,
			"the stream has mapped-ram, whose pages have places in "
			"a file: receive it from file:PATH");
	ram = ferry_capture_ram(r->capture, error);
	for (guint i = 0; i < r->ram.blocks->len; i++)
		places[i] = g_array_index(r->ram.blocks, FerryStreamRamBlock, i).place;
	carrier = ram ? ops->carrier(r->channel, &mapping, error) : NULL;
	return carrier && carrier->ops->share_ram(carrier, ram, error) &&
	       carrier->ops->load(carrier, take_run, r, error);
}
