/* SPDX-License-Identifier: BSD-2-Clause */
#include "source-private.h"
#include "zero.h"

#include <ferry/page-codec.h>

/* A stored stream being read back. Pages can be in it more than once; the last one counts. */
typedef struct {
	FerryOutgoing *outgoing;
	FerryStreamReader *reader;
	FerryRamReader ram;
	FerryChannel *channel;
	GMutex lock;        /* guards @wrong while pages come from their places */
	FerryBitmap *wrong; /* pages not seen yet, or whose last content is not RAM's */
	/* of wrong pages, what they are so far, by a FerryRun: differences may put them right. Of
	 * the others RAM has it. NULL: there are no differences */
	GHashTable *contents;
} ReadBack;

static gssize read_channel(gpointer user, const struct iovec *iov, int n, GError **error)
{
	FerryChannel *channel = ((ReadBack *)user)->channel;

	return channel->ops->read(channel, iov, n, error);
}

static gboolean skip_channel(gpointer user, guint64 len, GError **error)
{
	FerryChannel *channel = ((ReadBack *)user)->channel;
	guint64 offset, size;

	return channel->ops->places->tell(channel, &offset, &size, error) &&
	       channel->ops->places->seek(channel, offset + len, error);
}

static gboolean is_cancelled(ReadBack *back, GError **error)
{
	if (!g_atomic_int_get(&back->outgoing->source->cancel))
		return FALSE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED, "cancelled");
	return TRUE;
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

static gboolean is_same(const guint8 *host, const FerryRun *run, const guint8 *data)
{
	gboolean zero;

	if (data)
		return memcmp(host, data, ferry_run_bytes(run)) == 0;
	return ferry_zero_split(host, run->pages, &zero) == run->pages && zero;
}

static void clear_wrong(ReadBack *back, const FerryRun *run)
{
	g_mutex_lock(&back->lock);
	ferry_bitmap_clear_run(back->wrong, run);
	g_mutex_unlock(&back->lock);
}

/* A FerryTakeRun over a ReadBack. */
static gboolean compare_run(gpointer user, const FerryRun *run, const guint8 *data, GError **error)
{
	ReadBack *back = user;
	const guint8 *host = ferry_run_host(ferry_vm_ram(back->outgoing->vm), run);

	if (is_cancelled(back, error))
		return FALSE;
	if (is_same(host, run, data)) {
		clear_wrong(back, run);
		return TRUE;
	}
	for (guint64 i = 0; i < run->pages; i++) {
		FerryRun page = { run->block, run->first + i, 1 };
		guint64 at = i << FERRY_PAGE_SHIFT;

		if (is_same(host + at, &page, data ? data + at : NULL))
			clear_wrong(back, &page);
	}
	return TRUE;
}

static gboolean check_places(ReadBack *back, GError **error)
{
	const FerryRam *ram = ferry_vm_ram(back->outgoing->vm);
	g_autofree FerryMappedPlace *places = g_new(FerryMappedPlace, back->ram.blocks->len);
	FerryMapping mapping = ferry_vm_mapping(back->outgoing->vm, places);
	g_autoptr(FerryCarrier) carrier = NULL;

	if (back->ram.blocks->len != ram->n_blocks) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_MISMATCH,
			    "%s: %u RAM blocks read back instead of %u", back->outgoing->uri,
			    back->ram.blocks->len, ram->n_blocks);
		return FALSE;
	}
	for (guint i = 0; i < back->ram.blocks->len; i++)
		places[i] = g_array_index(back->ram.blocks, FerryStreamRamBlock, i).place;
	carrier = back->channel->ops->places->carrier(back->channel, &mapping, error);
	return carrier && carrier->ops->share_ram(carrier, ram, error) &&
	       carrier->ops->load(carrier, compare_run, back, error);
}

static gboolean check_section(ReadBack *back, const FerryStreamElement *element, GError **error)
{
	guint8 page[FERRY_PAGE_SIZE];
	FerryRamItem item;
	FerryRun run;

	for (;;) {
		if (is_cancelled(back, error) ||
		    !ferry_ram_reader_next(&back->ram, back->reader, &item, error))
			return FALSE;
		if (item.type == FERRY_RAM_ITEM_END)
			return ferry_stream_read_footer(back->reader, element->section_id, error);
		if (item.type == FERRY_RAM_ITEM_LIST && back->ram.mapped &&
		    !check_places(back, error))
			return FALSE;
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
	g_auto(FerryStreamConfiguration) config = { 0 };
	FerryStreamElement element;

	if (!ferry_stream_read_header(back->reader, error) ||
	    !ferry_stream_read_configuration(back->reader, &config, error))
		return FALSE;
	ferry_ram_reader_follow(&back->ram, &config);
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
	ReadBack back = { .outgoing = outgoing, .channel = channel, .ram = { .encodings = TRUE } };
	gboolean ok;

	if (!channel)
		return FALSE;
	if (channel->ops->places &&
	    !channel->ops->places->tell(channel, &back.ram.base, &back.ram.end, error))
		return FALSE;
	g_mutex_init(&back.lock);
	back.reader = ferry_stream_reader_new(read_channel, &back);
	if (channel->ops->places)
		ferry_stream_reader_set_skip(back.reader, skip_channel);
	back.wrong = ferry_bitmap_new(ferry_vm_ram(outgoing->vm));
	ferry_bitmap_set_all(back.wrong);
	if (ferry_settings_get_capability(ferry_vm_settings(outgoing->vm), FERRY_CAPABILITY_XBZRLE))
		back.contents = g_hash_table_new_full(hash_page, same_page, g_free, g_free);
	ferry_outgoing_leave_out(outgoing, back.wrong);
	ok = check_stream(&back, error) && none_wrong(&back, error);
	ferry_ram_reader_clear(&back.ram);
	ferry_stream_reader_free(back.reader);
	ferry_bitmap_free(back.wrong);
	g_clear_pointer(&back.contents, g_hash_table_unref);
	g_mutex_clear(&back.lock);
	return ok;
}
