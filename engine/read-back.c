/* SPDX-License-Identifier: BSD-2-Clause */
#include "source-private.h"

#include <ferry/page-codec.h>

/* A stored stream being read back. Pages can be in it more than once; the last one counts. */
typedef struct {
	FerryOutgoing *outgoing;
	FerryStreamReader *reader;
	FerryRamReader ram;
	FerryBitmap *wrong; /* pages not seen yet, or whose last content is not RAM's */
	/* of wrong pages, what they are so far, by a FerryRun: differences may put them right. Of
	 * the others RAM has it. NULL: there are no differences */
	GHashTable *contents;
} ReadBack;

static gssize read_channel(gpointer user, const struct iovec *iov, int n, GError **error)
{
	FerryChannel *channel = user;

	return channel->ops->read(channel, iov, n, error);
}

static guint hash_page(gconstpointer key)
{
	const FerryRun *run = key;

	return (guint)(run->first * 31 + run->block);
}

static gboolean same_page(gconstpointer a, gconstpointer b)
{
	const FerryRun *x = a, *y = b;

	return x->block == y->block && x->first == y->first;
}

/* @content: the page as it is now in the stream. */
static void compare_page(ReadBack *back, const FerryRun *run, const guint8 *content)
{
	if (memcmp(ferry_run_host(ferry_vm_ram(back->outgoing->vm), run), content,
		   FERRY_PAGE_SIZE) == 0) {
		ferry_bitmap_clear_run(back->wrong, run);
		if (back->contents)
			g_hash_table_remove(back->contents, run);
		return;
	}
	ferry_bitmap_set_run(back->wrong, run);
	if (back->contents)
		g_hash_table_insert(back->contents, g_memdup2(run, sizeof(*run)),
				    g_memdup2(content, FERRY_PAGE_SIZE));
}

/* What a difference is applied to: a page that never came is zero. */
static void get_content(ReadBack *back, const FerryRun *run, guint8 *page)
{
	const guint64 *wrong = ferry_bitmap_block(back->wrong, run->block);
	const guint8 *content = back->contents ? g_hash_table_lookup(back->contents, run) : NULL;

	if (!(wrong[run->first / 64] >> run->first % 64 & 1))
		content = ferry_run_host(ferry_vm_ram(back->outgoing->vm), run);
	if (content)
		memcpy(page, content, FERRY_PAGE_SIZE);
	else
		memset(page, 0, FERRY_PAGE_SIZE);
}

/* What the page is after @item, whose data is read here. */
static gboolean read_content(ReadBack *back, const FerryRamItem *item, const FerryRun *run,
			     guint8 *page, GError **error)
{
	guint8 data[FERRY_PAGE_DEFLATED_MAX];

	if (item->type == FERRY_RAM_ITEM_PAGE)
		ferry_stream_reader_bytes(back->reader, page, FERRY_PAGE_SIZE);
	else if (item->type == FERRY_RAM_ITEM_ZERO)
		memset(page, 0, FERRY_PAGE_SIZE);
	else
		ferry_stream_reader_bytes(back->reader, data, item->length);
	if (!ferry_stream_reader_check(back->reader, error))
		return FALSE;
	if (item->type == FERRY_RAM_ITEM_COMPRESSED)
		return ferry_page_inflate(data, item->length, page, error);
	if (item->type == FERRY_RAM_ITEM_XBZRLE) {
		get_content(back, run, page);
		return ferry_xbzrle_decode(data, item->length, page, error);
	}
	return TRUE;
}

static gboolean check_section(ReadBack *back, const FerryStreamElement *element, GError **error)
{
	guint8 page[FERRY_PAGE_SIZE];
	FerryRamItem item;
	FerryRun run;

	for (;;) {
		if (g_atomic_int_get(&back->outgoing->source->cancel)) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED, "cancelled");
			return FALSE;
		}
		if (!ferry_ram_reader_next(&back->ram, back->reader, &item, error))
			return FALSE;
		if (item.type == FERRY_RAM_ITEM_END)
			return ferry_stream_read_footer(back->reader, element->section_id, error);
		if (item.type == FERRY_RAM_ITEM_LIST)
			continue;
		run = (FerryRun){ item.block, item.offset >> FERRY_PAGE_SHIFT, 1 };
		if (!read_content(back, &item, &run, page, error))
			return FALSE;
		compare_page(back, &run, page);
	}
}

/* Everything up to the end of RAM; the devices behind it were written by one write and are not
 * compared. */
static gboolean check_stream(ReadBack *back, GError **error)
{
	FerryStreamConfiguration config = { 0 };
	FerryStreamElement element;

	if (!ferry_stream_read_header(back->reader, error) ||
	    !ferry_stream_read_configuration(back->reader, &config, error))
		return FALSE;
	ferry_stream_configuration_clear(&config);
	do {
		if (!ferry_stream_next(back->reader, &element, error))
			return FALSE;
		if (element.type != FERRY_SECTION_START && element.type != FERRY_SECTION_PART &&
		    element.type != FERRY_SECTION_END) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_STREAM,
				    "offset %" G_GUINT64_FORMAT
				    ": element 0x%02x where RAM was written",
				    element.offset, element.type);
			return FALSE;
		}
		if (!check_section(back, &element, error))
			return FALSE;
	} while (element.type != FERRY_SECTION_END);
	return TRUE;
}

static gboolean none_wrong(ReadBack *back, GError **error)
{
	FerryRun run = { 0 };

	if (!ferry_bitmap_next_run(back->wrong, &run, 1))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_MISMATCH,
		    "%s: %" G_GUINT64_FORMAT
		    " pages read back differ from RAM, the first in block '%s' at offset "
		    "0x%" G_GINT64_MODIFIER "x",
		    back->outgoing->uri, ferry_bitmap_count(back->wrong),
		    ferry_vm_ram(back->outgoing->vm)->blocks[run.block].name,
		    run.first << FERRY_PAGE_SHIFT);
	return FALSE;
}

gboolean ferry_outgoing_read_back(FerryOutgoing *outgoing, GError **error)
{
	g_autoptr(FerryListener)
		listener = outgoing->transport->listen(outgoing->uri, outgoing->cancellable, error);
	g_autoptr(FerryChannel)
		channel = listener ? listener->ops->accept(listener, outgoing->cancellable, error)
				   : NULL;
	ReadBack back = { .outgoing = outgoing, .ram = { .encodings = TRUE } };
	gboolean ok;

	if (!channel)
		return FALSE;
	back.reader = ferry_stream_reader_new(read_channel, channel);
	back.wrong = ferry_bitmap_new(ferry_vm_ram(outgoing->vm));
	ferry_bitmap_set_all(back.wrong);
	if (ferry_settings_get_capability(ferry_vm_settings(outgoing->vm), FERRY_CAPABILITY_XBZRLE))
		back.contents = g_hash_table_new_full(hash_page, same_page, g_free, g_free);
	ok = check_stream(&back, error) && none_wrong(&back, error);
	ferry_ram_reader_clear(&back.ram);
	ferry_stream_reader_free(back.reader);
	ferry_bitmap_free(back.wrong);
	g_clear_pointer(&back.contents, g_hash_table_unref);
	return ok;
}
