/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <json-glib/json-glib.h>
#include "inspection.h"

/* What the stream says must not reach a terminal as control characters. */
static char *printable(const char *name)
{
	return g_strescape(name ? name : "", "\"\\");
}

static void print_forms(guint64 xbzrle, guint64 compressed)
{
	if (xbzrle)
		g_print(", %" G_GUINT64_FORMAT " by xbzrle", xbzrle);
	if (compressed)
		g_print(", %" G_GUINT64_FORMAT " compressed", compressed);
}

static void print_item(const FerryInspectionItem *item)
{
	g_autofree char *name = printable(item->name);

	g_print("%12" G_GUINT64_FORMAT " %12" G_GUINT64_FORMAT "  %-13s", item->offset,
		item->length, item->kind);
	if (item->has_ids)
		g_print(" %5u", item->section_id);
	else
		g_print("      ");
	g_print("  %s", name);
	if (item->has_ids && g_str_equal(item->kind, "device"))
		g_print("  instance %u version %u", item->instance_id, item->version_id);
	if (item->has_ids && g_str_equal(item->kind, "start"))
		g_print("  instance %u version %u", item->instance_id, item->version_id);
	if (item->pages || item->zero_pages)
		g_print("  %" G_GUINT64_FORMAT " pages, %" G_GUINT64_FORMAT " zero", item->pages,
			item->zero_pages);
	print_forms(item->xbzrle_pages, item->compressed_pages);
	if (item->count > 1)
		g_print(" in %" G_GUINT64_FORMAT " records", item->count);
	g_print("%s%s\n", item->detail ? "  " : "", item->detail ? item->detail : "");
}

static void print_blocks(const FerryInspection *found)
{
	if (!found->ram.blocks || !found->block_pages)
		return;
	g_print("\n%16s %12s %12s  RAM block\n", "bytes", "pages", "zero");
	for (guint i = 0; i < found->ram.blocks->len; i++) {
		const FerryStreamRamBlock *block = &g_array_index(found->ram.blocks,
								  FerryStreamRamBlock, i);
		const FerryInspectionPages *pages = &g_array_index(found->block_pages,
								   FerryInspectionPages, i);
		g_autofree char *name = printable(block->name);

		g_print("%16" G_GUINT64_FORMAT " %12" G_GUINT64_FORMAT " %12" G_GUINT64_FORMAT
			"  %s",
			block->size, pages->pages, pages->zero_pages, name);
		if (found->ram.addresses)
			g_print(" at 0x%" G_GINT64_MODIFIER "x", block->address);
		if (block->place.pages)
			g_print(", in the file at 0x%" G_GINT64_MODIFIER
				"x, its bitmap at 0x%" G_GINT64_MODIFIER "x",
				block->place.pages, block->place.bitmap);
		else if (found->ram.mapped)
			g_print(", not in the file");
		print_forms(pages->xbzrle_pages, pages->compressed_pages);
		g_print("\n");
	}
	g_print("%16s %12" G_GUINT64_FORMAT " %12" G_GUINT64_FORMAT "  in all", "",
		found->total.pages, found->total.zero_pages);
	print_forms(found->total.xbzrle_pages, found->total.compressed_pages);
	g_print("\n");
}

static void print_configuration(const FerryInspection *found)
{
	if (!found->config.machine)
		return;
	for (guint i = 0; i < found->config.capabilities->len; i++) {
		g_autofree char *name = printable(found->config.capabilities->pdata[i]);

		g_print("capability %s\n", name);
	}
	if (found->config.has_uuid) {
		g_print("uuid ");
		for (guint i = 0; i < sizeof(found->config.uuid); i++)
			g_print("%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
				found->config.uuid[i]);
		g_print("\n");
	}
	if (found->config.target_page_bits)
		g_print("target page bits %u\n", found->config.target_page_bits);
}

static void print_devices(const FerryInspection *found)
{
	if (!found->cut_by)
		return;
	g_print("\n%u device sections, %" G_GUINT64_FORMAT " bytes", found->devices,
		found->device_bytes);
	if (g_str_equal(found->cut_by, "description"))
		g_print(", cut by the JSON description; the scan for footers %s\n",
			found->scan_agrees ? "agrees" : "gives another cut");
	else if (g_str_equal(found->cut_by, "footers"))
		g_print(", cut by a scan for footers, a good guess: there is no JSON description\n");
	else
		g_print(", not delimited\n");
}

void ferry_inspection_print(const FerryInspection *found, const GError *error)
{
	g_print("%12s %12s  %-13s %5s  what\n", "offset", "length", "type", "id");
	for (guint i = 0; found->items && i < found->items->len; i++)
		print_item(&g_array_index(found->items, FerryInspectionItem, i));
	print_blocks(found);
	print_devices(found);
	print_configuration(found);
	if (error)
		g_print("%" G_GUINT64_FORMAT " bytes understood, then an error\n", found->bytes);
	else
		g_print("%" G_GUINT64_FORMAT " bytes, all accounted for\n", found->bytes);
}

static void build_number(JsonBuilder *builder, const char *name, guint64 value)
{
	json_builder_set_member_name(builder, name);
	json_builder_add_int_value(builder, value);
}

/* JSON is UTF-8; a stream's name may be any bytes. */
static void build_string(JsonBuilder *builder, const char *name, const char *value)
{
	g_autofree char *valid = g_utf8_make_valid(value, -1);

	json_builder_set_member_name(builder, name);
	json_builder_add_string_value(builder, valid);
}

static void build_forms(JsonBuilder *builder, guint64 xbzrle, guint64 compressed)
{
	if (xbzrle)
		build_number(builder, "xbzrle-pages", xbzrle);
	if (compressed)
		build_number(builder, "compressed-pages", compressed);
}

static void build_item(JsonBuilder *builder, const FerryInspectionItem *item)
{
	json_builder_begin_object(builder);
	build_number(builder, "offset", item->offset);
	build_number(builder, "length", item->length);
	build_string(builder, "type", item->kind);
	if (item->name)
		build_string(builder, "name", item->name);
	if (item->has_ids) {
		build_number(builder, "section-id", item->section_id);
		build_number(builder, "instance-id", item->instance_id);
		build_number(builder, "version-id", item->version_id);
	}
	if (item->pages || item->zero_pages) {
		build_number(builder, "pages", item->pages);
		build_number(builder, "zero-pages", item->zero_pages);
	}
	build_forms(builder, item->xbzrle_pages, item->compressed_pages);
	if (item->count)
		build_number(builder, "records", item->count);
	json_builder_end_object(builder);
}

static void build_blocks(JsonBuilder *builder, const FerryInspection *found)
{
	json_builder_set_member_name(builder, "ram-blocks");
	json_builder_begin_array(builder);
	for (guint i = 0; found->block_pages && i < found->block_pages->len; i++) {
		const FerryStreamRamBlock *block = &g_array_index(found->ram.blocks,
								  FerryStreamRamBlock, i);
		const FerryInspectionPages *pages = &g_array_index(found->block_pages,
								   FerryInspectionPages, i);

		json_builder_begin_object(builder);
		build_string(builder, "name", block->name);
		build_number(builder, "size", block->size);
		build_number(builder, "pages", pages->pages);
		build_number(builder, "zero-pages", pages->zero_pages);
		build_forms(builder, pages->xbzrle_pages, pages->compressed_pages);
		if (block->place.pages) {
			build_number(builder, "bitmap-offset", block->place.bitmap);
			build_number(builder, "pages-offset", block->place.pages);
		}
		json_builder_end_object(builder);
	}
	json_builder_end_array(builder);
}

static void build_totals(JsonBuilder *builder, const FerryInspection *found)
{
	build_number(builder, "pages", found->total.pages);
	build_number(builder, "zero-pages", found->total.zero_pages);
	build_forms(builder, found->total.xbzrle_pages, found->total.compressed_pages);
	build_number(builder, "devices", found->devices);
	build_number(builder, "device-bytes", found->device_bytes);
	if (found->cut_by) {
		build_string(builder, "delimited-by", found->cut_by);
		json_builder_set_member_name(builder, "footers-agree");
		json_builder_add_boolean_value(builder, found->scan_agrees);
	}
	if (!found->config.machine)
		return;
	build_string(builder, "machine", found->config.machine);
	json_builder_set_member_name(builder, "capabilities");
	json_builder_begin_array(builder);
	for (guint i = 0; i < found->config.capabilities->len; i++) {
		g_autofree char *name = g_utf8_make_valid(found->config.capabilities->pdata[i], -1);

		json_builder_add_string_value(builder, name);
	}
	json_builder_end_array(builder);
}

void ferry_inspection_print_json(const FerryInspection *found, const GError *error)
{
	g_autoptr(JsonBuilder) builder = json_builder_new_immutable();
	g_autoptr(JsonGenerator) generator = json_generator_new();
	g_autoptr(JsonNode) root = NULL;
	g_autofree char *text = NULL;

	json_builder_begin_object(builder);
	build_number(builder, "bytes", found->bytes);
	json_builder_set_member_name(builder, "complete");
	json_builder_add_boolean_value(builder, !error);
	if (error)
		build_string(builder, "error", error->message);
	build_totals(builder, found);
	build_blocks(builder, found);
	json_builder_set_member_name(builder, "items");
	json_builder_begin_array(builder);
	for (guint i = 0; found->items && i < found->items->len; i++)
		build_item(builder, &g_array_index(found->items, FerryInspectionItem, i));
	json_builder_end_array(builder);
	json_builder_end_object(builder);
	root = json_builder_get_root(builder);
	json_generator_set_root(generator, root);
	json_generator_set_pretty(generator, TRUE);
	text = json_generator_to_data(generator, NULL);
	fputs(text, stdout);
	fputc('\n', stdout);
}
