/* SPDX-License-Identifier: BSD-2-Clause */
#include "receiver.h"

/* The index of a block, or -1 where the reader fails since no such is in the list. */
static int find_block(FerryReceiver *r, const char *command, const char *name)
{
	const GArray *blocks = r->ram.blocks;

	for (guint i = 0; blocks && i < blocks->len; i++)
		if (strcmp(g_array_index(blocks, FerryStreamRamBlock, i).name, name) == 0)
			return i;
	ferry_stream_reader_fail(r->reader, "%s: RAM block \"%s\" is not in the list", command,
				 name);
	return -1;
}

static gboolean take_advise(FerryReceiver *r, const FerryStreamElement *element, GError **error)
{
	guint64 page_sizes;

	if (r->advised || r->ram.blocks)
		return ferry_receiver_fail(r->reader, error, "POSTCOPY_ADVISE %s",
					   r->advised ? "a second time" : "after the RAM's begin");
	if (r->multifd)
		return ferry_receiver_refuse(error, FERRY_ERROR_NOSUPP,
					     "postcopy-ram cannot be received over multifd "
					     "channels: switch one of the two off at the source");
	if (!r->return_path)
		return ferry_receiver_fail(r->reader, error,
					   "POSTCOPY_ADVISE without a return path");
	if (!ferry_stream_read_advise(r->reader, element, &page_sizes, error))
		return FALSE;
	r->advised = TRUE;
	return page_sizes == FERRY_PAGE_SIZE ||
	       ferry_receiver_refuse(error, FERRY_ERROR_NOSUPP,
				     "postcopy-ram with huge pages cannot be read: switch "
				     "postcopy-ram off at the source");
}

/* From here on the source keeps the guest stopped until somebody lets it go on. */
static gboolean begin_switch(FerryReceiver *r, const char *command, GError **error)
{
	if (!r->advised || !r->ram.blocks || r->switched)
		return ferry_receiver_fail(r->reader, error, "%s %s", command,
					   !r->advised   ? "without POSTCOPY_ADVISE"
					   : r->switched ? "after the package"
							 : "before the RAM's begin");
	if (r->missing)
		return TRUE;
	r->missing = ferry_missing_new(r->ram.blocks);
	r->stopper = ferry_cli_stopper_new();
	ferry_cli_stopper_watch(r->stopper, r->channel);
	return r->missing || ferry_receiver_fail(r->reader, error,
						 "no memory to track the pages that are missing");
}

static gboolean take_discard(FerryReceiver *r, const FerryStreamElement *element, GError **error)
{
	char name[256];
	g_autoptr(GArray) ranges = NULL;
	guint64 size;
	int block;

	if (!begin_switch(r, "POSTCOPY_RAM_DISCARD", error))
		return FALSE;
	ranges = ferry_stream_read_discard(r->reader, element, name, error);
	if (!ranges)
		return FALSE;
	block = find_block(r, "POSTCOPY_RAM_DISCARD", name);
	if (block < 0)
		return ferry_stream_reader_check(r->reader, error);
	size = g_array_index(r->ram.blocks, FerryStreamRamBlock, block).size;
	for (guint i = 0; i < ranges->len; i++) {
		const FerryByteRange *range = &g_array_index(ranges, FerryByteRange, i);

		if (range->start + range->length > size)
			return ferry_receiver_fail(
				r->reader, error,
				"POSTCOPY_RAM_DISCARD: 0x%" G_GINT64_MODIFIER
				"x bytes from 0x%" G_GINT64_MODIFIER
				"x of RAM block \"%s\", which has 0x%" G_GINT64_MODIFIER "x bytes",
				range->length, range->start, name, size);
		ferry_missing_add(r->missing, block, range->start, range->length);
	}
	return TRUE;
}

/* The bitmap that the source wants before it goes on. To have the guest back it hears that nothing
 * is missing here: then it sends no page, and ends. */
static gboolean take_bitmap_request(FerryReceiver *r, const FerryStreamElement *element,
				    GError **error)
{
	g_autoptr(GByteArray) message = g_byte_array_new();
	g_autofree guint64 *words = NULL;
	char name[256];
	gsize n;
	int block;

	if (!ferry_stream_read_bitmap_request(r->reader, element, name, error))
		return FALSE;
	block = find_block(r, "RECV_BITMAP", name);
	if (block < 0)
		return ferry_stream_reader_check(r->reader, error);
	words = ferry_missing_received(r->missing, block, &n);
	if (r->refused)
		memset(words, 0xff, n * sizeof(*words));
	ferry_return_put_bitmap(message, name, words, n);
	return ferry_channel_write_all(r->channel, message->data, message->len, error);
}

static gboolean take_resume(FerryReceiver *r, const FerryStreamElement *element, GError **error)
{
	if (element->length)
		return ferry_receiver_fail(r->reader, error,
					   "POSTCOPY_RESUME with %u bytes, none are due",
					   element->length);
	r->resuming = FALSE;
	return ferry_receiver_answer(r, FERRY_RETURN_RESUME_ACK, 1, error);
}

gboolean ferry_receiver_take_postcopy_command(FerryReceiver *r, const FerryStreamElement *element,
					      GError **error)
{
	switch (element->command) {
	case FERRY_COMMAND_POSTCOPY_ADVISE:
		return take_advise(r, element, error);
	case FERRY_COMMAND_POSTCOPY_RAM_DISCARD:
		return take_discard(r, element, error);
	case FERRY_COMMAND_PACKAGED:
		return begin_switch(r, "PACKAGED", error) &&
		       ferry_receiver_take_package(r, element, error);
	case FERRY_COMMAND_POSTCOPY_LISTEN:
	case FERRY_COMMAND_POSTCOPY_RUN:
		return ferry_receiver_fail(r->reader, error, "%s outside of a package",
					   element->command == FERRY_COMMAND_POSTCOPY_RUN
						   ? "POSTCOPY_RUN"
						   : "POSTCOPY_LISTEN");
	case FERRY_COMMAND_RECV_BITMAP:
	case FERRY_COMMAND_POSTCOPY_RESUME:
		if (!r->resuming)
			return ferry_receiver_fail(r->reader, error,
						   "command %u, which resumes what was not paused",
						   element->command);
		return element->command == FERRY_COMMAND_RECV_BITMAP
			       ? take_bitmap_request(r, element, error)
			       : take_resume(r, element, error);
	default:
		return ferry_receiver_fail(r->reader, error,
					   "command %u cannot be followed by a receiver at rest",
					   element->command);
	}
}

gboolean ferry_receiver_take_late_page(FerryReceiver *r, const FerryRamItem *item, GError **error)
{
	FerryCaptureBlock *block = &g_array_index(r->capture->blocks, FerryCaptureBlock,
						  item->block);
	guint8 page[FERRY_PAGE_SIZE] = { 0 };

	/* What it is a difference to may be gone. */
	if (item->type == FERRY_RAM_ITEM_XBZRLE)
		return ferry_receiver_fail(
			r->reader, error, "a page compressed by xbzrle after POSTCOPY_RAM_DISCARD");
	if (item->type == FERRY_RAM_ITEM_COMPRESSED &&
	    !ferry_receiver_take_encoded(r, item, page, error))
		return FALSE;
	if (item->type == FERRY_RAM_ITEM_PAGE)
		ferry_stream_reader_bytes(r->reader, page, sizeof(page));
	if (!ferry_stream_reader_check(r->reader, error))
		return FALSE;
	if (r->refused)
		return TRUE;
	if (!ferry_missing_take(r->missing, item->block, item->offset))
		return ferry_receiver_fail(r->reader, error,
					   "the page at 0x%" G_GINT64_MODIFIER
					   "x of RAM block \"%s\" comes twice",
					   item->offset, block->name);
	r->late_pages++;
	if (item->type == FERRY_RAM_ITEM_ZERO) {
		ferry_capture_zero_page(block, item->offset);
		r->zero_pages++;
		return TRUE;
	}
	r->pages++;
	return ferry_capture_write_page(r->capture, block, item->offset, page, error);
}
