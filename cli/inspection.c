/* SPDX-License-Identifier: BSD-2-Clause */
#include "inspection.h"

#include <ferry/page-codec.h>

/* Device state that is taken into memory at most. Guests have kilobytes to a few megabytes of it.
 */
#define TAIL_MAX (512u << 20)

static void clear_item(gpointer data)
{
	FerryInspectionItem *item = data;

	g_clear_pointer(&item->name, g_free);
	g_clear_pointer(&item->detail, g_free);
}

void ferry_inspection_clear(FerryInspection *found)
{
	g_clear_pointer(&found->items, g_array_unref);
	g_clear_pointer(&found->block_pages, g_array_unref);
	ferry_stream_configuration_clear(&found->config);
	ferry_ram_reader_clear(&found->ram);
}

void ferry_inspection_add(FerryInspection *found, FerryInspectionItem *item, guint64 end)
{
	FerryInspectionItem *last = NULL;

	if (!found->items) {
		found->items = g_array_new(FALSE, FALSE, sizeof(FerryInspectionItem));
		g_array_set_clear_func(found->items, clear_item);
	}
	if (found->items->len)
		last = &g_array_index(found->items, FerryInspectionItem, found->items->len - 1);
	item->offset = found->bytes;
	item->length = end - found->bytes;
	found->bytes = end;
	/* Runs of page records can be millions. */
	if (last && item->count && last->count && g_str_equal(last->kind, item->kind)) {
		last->length += item->length;
		last->pages += item->pages;
		last->zero_pages += item->zero_pages;
		last->xbzrle_pages += item->xbzrle_pages;
		last->compressed_pages += item->compressed_pages;
		last->count++;
		clear_item(item);
		return;
	}
	g_array_append_val(found->items, *item);
}

static void count_page(FerryInspection *found, FerryInspectionItem *item, guint block,
		       guint64 pages, gboolean zero)
{
	FerryInspectionPages *of_block = &g_array_index(found->block_pages, FerryInspectionPages,
							block);

	*(zero ? &item->zero_pages : &item->pages) += pages;
	*(zero ? &of_block->zero_pages : &of_block->pages) += pages;
	*(zero ? &found->total.zero_pages : &found->total.pages) += pages;
}

/* Of a page that was counted: it came in another form than its bytes. */
static void count_form(FerryInspection *found, FerryInspectionItem *item, guint block,
		       FerryPageForm form)
{
	FerryInspectionPages *of_block = &g_array_index(found->block_pages, FerryInspectionPages,
							block);

	if (form == FERRY_PAGE_FORM_XBZRLE) {
		item->xbzrle_pages++;
		of_block->xbzrle_pages++;
		found->total.xbzrle_pages++;
	} else if (form == FERRY_PAGE_FORM_ZLIB) {
		item->compressed_pages++;
		of_block->compressed_pages++;
		found->total.compressed_pages++;
	}
}

/* Pages that have places lie behind the list, in START. */
static void count_places(FerryInspection *found, FerryInspectionItem *item)
{
	for (guint i = 0; found->ram.mapped && i < found->ram.blocks->len; i++) {
		const FerryStreamRamBlock *block = &g_array_index(found->ram.blocks,
								  FerryStreamRamBlock, i);
		guint64 pages = block->size >> FERRY_PAGE_SHIFT;

		if (!block->place.pages)
			continue;
		count_page(found, item, i, block->placed_pages, FALSE);
		count_page(found, item, i, pages - block->placed_pages, TRUE);
	}
}

static gboolean read_ram_body(FerryInspection *found, FerryStreamReader *reader,
			      FerryInspectionItem *item, GError **error)
{
	FerryRamItem in;

	found->ram.encodings = TRUE;
	do {
		if (!ferry_ram_reader_next(&found->ram, reader, &in, error))
			return FALSE;
		switch (in.type) {
		case FERRY_RAM_ITEM_LIST:
			found->block_pages = g_array_new(FALSE, TRUE, sizeof(FerryInspectionPages));
			g_array_set_size(found->block_pages, found->ram.blocks->len);
			count_places(found, item);
			break;
		case FERRY_RAM_ITEM_PAGE:
			ferry_stream_reader_skip(reader, FERRY_PAGE_SIZE);
			count_page(found, item, in.block, 1, FALSE);
			break;
		case FERRY_RAM_ITEM_XBZRLE:
		case FERRY_RAM_ITEM_COMPRESSED:
			ferry_stream_reader_skip(reader, in.length);
			count_page(found, item, in.block, 1, FALSE);
			count_form(found, item, in.block,
				   in.type == FERRY_RAM_ITEM_XBZRLE ? FERRY_PAGE_FORM_XBZRLE
								    : FERRY_PAGE_FORM_ZLIB);
			break;
		case FERRY_RAM_ITEM_ZERO:
			count_page(found, item, in.block, 1, TRUE);
			break;
		case FERRY_RAM_ITEM_END:
			break;
		}
	} while (in.type != FERRY_RAM_ITEM_END && ferry_stream_reader_check(reader, NULL));
	return ferry_stream_reader_check(reader, error);
}

/* Only ram's sections can be read before the devices: the others' bodies say nothing of their
 * length. */
static gboolean read_section(FerryInspection *found, FerryStreamReader *reader,
			     const FerryStreamElement *element, guint64 base, GError **error)
{
	FerryInspectionItem item = { .has_ids = TRUE, .section_id = element->section_id };

	if (element->type == FERRY_SECTION_START && !g_str_equal(element->name, "ram")) {
		ferry_stream_reader_fail(reader,
					 "section \"%s\" is neither RAM nor a device and cannot be "
					 "read",
					 element->name);
		return ferry_stream_reader_check(reader, error);
	}
	item.kind = element->type == FERRY_SECTION_START  ? "start"
		    : element->type == FERRY_SECTION_PART ? "part"
							  : "end";
	item.instance_id = element->instance_id;
	item.version_id = element->version_id;
	if (!read_ram_body(found, reader, &item, error))
		return FALSE;
	/* Machine types that send no configuration send no footers either. */
	if (found->config.machine && !ferry_stream_read_footer(reader, element->section_id, error))
		return FALSE;
	item.name = g_strdup("ram");
	ferry_inspection_add(found, &item, base + ferry_stream_reader_offset(reader));
	return TRUE;
}

/* be32 block, be64 first, be64 pages; PAGES is followed by the pages themselves. */
static void read_pages_record(FerryInspection *found, FerryStreamReader *reader, guint16 type,
			      FerryInspectionItem *item)
{
	gboolean zero = type == FERRY_RECORD_ZERO_PAGES;
	guint32 block = ferry_stream_reader_be32(reader);
	guint64 first = ferry_stream_reader_be64(reader);
	guint64 pages = ferry_stream_reader_be64(reader), size;

	if (!ferry_stream_reader_check(reader, NULL))
		return;
	if (!found->ram.blocks || block >= found->ram.blocks->len) {
		ferry_stream_reader_fail(reader, "pages of block %u, which is not in the list",
					 block);
		return;
	}
	size = g_array_index(found->ram.blocks, FerryStreamRamBlock, block).size / FERRY_PAGE_SIZE;
	if (first >= size || pages > size - first ||
	    (!zero && pages > FERRY_PAGES_RUN_MAX / FERRY_PAGE_SIZE)) {
		ferry_stream_reader_fail(reader,
					 "a run of %" G_GUINT64_FORMAT
					 " pages from page %" G_GUINT64_FORMAT
					 " of block %u, which has %" G_GUINT64_FORMAT " pages",
					 pages, first, block, size);
		return;
	}
	if (!zero)
		ferry_stream_reader_skip(reader, pages * FERRY_PAGE_SIZE);
	count_page(found, item, block, pages, zero);
	item->kind = zero ? "zero-pages" : "pages";
	item->count = 1;
}

/* be32 block, be64 page, be32 form, be32 length, and as many bytes behind the command. */
static void read_encoded_page(FerryInspection *found, FerryStreamReader *reader,
			      FerryInspectionItem *item)
{
	guint32 block = ferry_stream_reader_be32(reader);
	guint64 page = ferry_stream_reader_be64(reader);
	guint32 form = ferry_stream_reader_be32(reader);
	guint32 length = ferry_stream_reader_be32(reader);

	if (!ferry_stream_reader_check(reader, NULL))
		return;
	if (!found->ram.blocks || block >= found->ram.blocks->len ||
	    length > FERRY_PAGE_DEFLATED_MAX) {
		ferry_stream_reader_fail(
			reader, "page %" G_GUINT64_FORMAT " of block %u in form %u has %u bytes",
			page, block, form, length);
		return;
	}
	ferry_stream_reader_skip(reader, length);
	count_page(found, item, block, 1, FALSE);
	count_form(found, item, block, (FerryPageForm)form);
	item->kind = "encoded-pages";
	item->count = 1;
}

static void read_record(FerryInspection *found, FerryStreamReader *reader, guint32 command_length,
			FerryInspectionItem *item)
{
	guint16 type = ferry_stream_reader_be16(reader);
	guint8 version = ferry_stream_reader_u8(reader);
	guint8 flags = ferry_stream_reader_u8(reader);
	guint32 length = ferry_stream_reader_be32(reader);
	const char *name = ferry_record_name(type);

	if (ferry_stream_reader_check(reader, NULL) &&
	    length != command_length - FERRY_RECORD_HEADER)
		ferry_stream_reader_fail(reader, "a record of %u bytes in a command of %u", length,
					 command_length);
	item->kind = "record";
	item->name = name ? g_strdup(name) : g_strdup_printf("record 0x%x", type);
	if (!name || version != FERRY_RECORD_VERSION)
		item->detail = g_strdup_printf("version %u, flags 0x%02x", version, flags);
	if ((type == FERRY_RECORD_PAGES || type == FERRY_RECORD_ZERO_PAGES) && length == 20)
		read_pages_record(found, reader, type, item);
	else if (type == FERRY_RECORD_ENCODED_PAGE && length == 20)
		read_encoded_page(found, reader, item);
	else
		ferry_stream_reader_skip(reader, length);
}

static const char *command_name(guint16 command)
{
	static const char *const names[] = {
		[FERRY_COMMAND_OPEN_RETURN_PATH] = "OPEN_RETURN_PATH",
		[FERRY_COMMAND_PING] = "PING",
		[FERRY_COMMAND_POSTCOPY_ADVISE] = "POSTCOPY_ADVISE",
		[FERRY_COMMAND_POSTCOPY_LISTEN] = "POSTCOPY_LISTEN",
		[FERRY_COMMAND_POSTCOPY_RUN] = "POSTCOPY_RUN",
		[FERRY_COMMAND_POSTCOPY_RAM_DISCARD] = "POSTCOPY_RAM_DISCARD",
		[FERRY_COMMAND_PACKAGED] = "PACKAGED",
		[FERRY_COMMAND_ENABLE_COLO] = "ENABLE_COLO",
		[FERRY_COMMAND_POSTCOPY_RESUME] = "POSTCOPY_RESUME",
		[FERRY_COMMAND_RECV_BITMAP] = "RECV_BITMAP",
		[FERRY_COMMAND_SWITCHOVER_START] = "SWITCHOVER_START",
	};

	return command < G_N_ELEMENTS(names) && names[command] ? names[command] : "unknown command";
}

static gboolean read_command(FerryInspection *found, FerryStreamReader *reader,
			     const FerryStreamElement *element, guint64 base, GError **error)
{
	FerryInspectionItem item = { .kind = "command" };

	if (element->command == FERRY_COMMAND_FERRY && element->length >= FERRY_RECORD_HEADER) {
		read_record(found, reader, element->length, &item);
	} else {
		item.name = g_strdup(command_name(element->command));
		if (element->length == 4) {
			guint32 value = ferry_stream_reader_be32(reader);

			item.detail = g_strdup_printf("value 0x%x", value);
			if (element->command == FERRY_COMMAND_PACKAGED)
				ferry_stream_reader_skip(reader, value);
		} else {
			ferry_stream_reader_skip(reader, element->length);
			item.detail = g_strdup_printf("command %u", element->command);
		}
	}
	if (!ferry_stream_reader_check(reader, error)) {
		clear_item(&item);
		return FALSE;
	}
	ferry_inspection_add(found, &item, base + ferry_stream_reader_offset(reader));
	return TRUE;
}

static gboolean read_plain(FerryInspection *found, FerryStreamReader *reader,
			   const FerryStreamElement *element, guint64 base, GError **error)
{
	FerryInspectionItem item = { .kind = element->type == FERRY_SECTION_EOF ? "eof"
										: "description" };

	ferry_stream_reader_skip(reader, element->length);
	if (!ferry_stream_reader_check(reader, error))
		return FALSE;
	ferry_inspection_add(found, &item, base + ferry_stream_reader_offset(reader));
	return TRUE;
}

gboolean ferry_inspection_read_elements(FerryInspection *found, FerryStreamReader *reader,
					guint64 base, GError **error)
{
	while (ferry_stream_reader_peek(reader) >= 0 &&
	       ferry_stream_reader_peek(reader) != FERRY_SECTION_FULL) {
		FerryStreamElement element;
		gboolean ok;

		if (!ferry_stream_next(reader, &element, error))
			return FALSE;
		if (element.type == FERRY_SECTION_COMMAND)
			ok = read_command(found, reader, &element, base, error);
		else if (element.type == FERRY_SECTION_EOF || element.type == FERRY_SECTION_VMDESC)
			ok = read_plain(found, reader, &element, base, error);
		else
			ok = read_section(found, reader, &element, base, error);
		if (!ok)
			return FALSE;
	}
	return ferry_stream_reader_check(reader, error);
}

static gboolean read_begin(FerryInspection *found, FerryStreamReader *reader, GError **error)
{
	FerryInspectionItem header = { .kind = "header" }, config = { .kind = "configuration" };

	if (!ferry_stream_read_header(reader, error))
		return FALSE;
	header.detail = g_strdup_printf("version %u", FERRY_STREAM_VERSION);
	ferry_inspection_add(found, &header, ferry_stream_reader_offset(reader));
	if (ferry_stream_reader_peek(reader) != FERRY_SECTION_CONFIGURATION)
		return ferry_stream_reader_check(reader, error);
	if (!ferry_stream_read_configuration(reader, &found->config, error))
		return FALSE;
	ferry_ram_reader_follow(&found->ram, &found->config);
	config.name = g_strdup(found->config.machine);
	ferry_inspection_add(found, &config, ferry_stream_reader_offset(reader));
	return TRUE;
}

static GByteArray *collect(FerryStreamReader *reader, GError **error)
{
	g_autoptr(GByteArray) tail = g_byte_array_new();
	guint8 chunk[64 << 10];
	size_t n;

	while ((n = ferry_stream_reader_some(reader, chunk, sizeof(chunk))) > 0) {
		if (tail->len + n > TAIL_MAX)
			ferry_stream_reader_fail(reader, "more than %u bytes of device state",
						 TAIL_MAX);
		else
			g_byte_array_append(tail, chunk, n);
	}
	return ferry_stream_reader_check(reader, error) ? g_steal_pointer(&tail) : NULL;
}

static gboolean ends_well(const FerryInspection *found, GError **error)
{
	for (guint i = 0; i < found->items->len; i++)
		if (g_str_equal(g_array_index(found->items, FerryInspectionItem, i).kind, "eof"))
			return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STREAM,
		    "migration stream at offset %" G_GUINT64_FORMAT
		    ": it ends here without its EOF byte: it was cut short",
		    found->bytes);
	return FALSE;
}

gboolean ferry_inspection_read(FerryInspection *found, FerryStreamReader *reader, GError **error)
{
	g_autoptr(GByteArray) tail = NULL;

	if (!read_begin(found, reader, error) ||
	    !ferry_inspection_read_elements(found, reader, 0, error))
		return FALSE;
	if (ferry_stream_reader_peek(reader) == FERRY_SECTION_FULL) {
		tail = collect(reader, error);
		if (!tail ||
		    !ferry_inspection_read_tail(found, tail->data, tail->len, found->bytes, error))
			return FALSE;
	}
	if (!ferry_stream_reader_check(reader, error) || !ends_well(found, error))
		return FALSE;
	if (found->bytes == ferry_stream_reader_offset(reader))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STREAM,
		    "%" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " bytes are accounted for",
		    found->bytes, ferry_stream_reader_offset(reader));
	return FALSE;
}
