/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/page-codec.h>
#include "receiver.h"

gboolean ferry_receiver_take_encoded(FerryReceiver *r, const FerryRamItem *item, guint8 *page,
				     GError **error)
{
	guint8 data[FERRY_PAGE_DEFLATED_MAX];
	gboolean xbzrle = item->type == FERRY_RAM_ITEM_XBZRLE, ok;

	ferry_stream_reader_bytes(r->reader, data, item->length);
	if (!ferry_stream_reader_check(r->reader, error))
		return FALSE;
	ok = xbzrle ? ferry_xbzrle_decode(data, item->length, page, error)
		    : ferry_page_inflate(data, item->length, page, error);
	if (!ok)
		g_prefix_error(error,
			       "migration stream at offset %" G_GUINT64_FORMAT
			       ": the page at 0x%" G_GINT64_MODIFIER "x of RAM block \"%s\": ",
			       ferry_stream_reader_offset(r->reader), item->offset,
			       g_array_index(r->ram.blocks, FerryStreamRamBlock, item->block).name);
	else
		*(xbzrle ? &r->xbzrle_pages : &r->compressed_pages) += 1;
	return ok;
}
