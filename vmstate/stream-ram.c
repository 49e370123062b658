/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/page-codec.h>
#include <ferry/stream.h>

#define BLOCKS_MAX 4096u
/* A page of the bitmap of a block that has places. */
#define BITMAP_PIECE 4096u

void ferry_ram_reader_clear(FerryRamReader *ram)
{
	g_clear_pointer(&ram->blocks, g_array_unref);
	ram->last = 0;
}

void ferry_ram_reader_follow(FerryRamReader *ram, const FerryStreamConfiguration *config)
{
	for (guint i = 0; i < config->capabilities->len; i++) {
		const char *name = config->capabilities->pdata[i];

		ram->addresses |= strcmp(name, "x-ignore-shared") == 0;
		ram->mapped |= strcmp(name, "mapped-ram") == 0;
	}
}

static int find_block(const GArray *blocks, const char *name)
{
	for (guint i = 0; i < blocks->len; i++)
		if (strcmp(g_array_index(blocks, FerryStreamRamBlock, i).name, name) == 0)
			return i;
	return -1;
}

/* Counts the pages that a block's bitmap has, piece by piece: its length is the stream's word. */
static void read_bitmap(FerryStreamReader *reader, FerryStreamRamBlock *block)
{
	guint64 pages = block->size >> FERRY_PAGE_SHIFT;
	guint64 left = ferry_mapped_bitmap_bytes(block->size);
	guint64 words[BITMAP_PIECE / 8];

	while (left && ferry_stream_reader_check(reader, NULL)) {
		size_t n = MIN(left, sizeof(words));

		ferry_stream_reader_bytes(reader, words, n);
		for (size_t i = 0; i < n / 8; i++) {
			guint64 word = GUINT64_FROM_LE(words[i]);

			if (pages < 64 && word >> pages)
				ferry_stream_reader_fail(
					reader,
					"the bitmap of RAM block \"%s\" at 0x%" G_GINT64_MODIFIER
					"x has bits beyond the block's last page",
					block->name, block->place.bitmap);
			block->placed_pages += (guint64)__builtin_popcountll(word);
			pages -= MIN(pages, 64);
		}
		left -= n;
	}
}

static void refuse_place(FerryStreamReader *reader, const FerryStreamRamBlock *block,
			 const char *what, guint64 limit)
{
	ferry_stream_reader_fail(
		reader,
		"RAM block \"%s\" has its bitmap at 0x%" G_GINT64_MODIFIER
		"x and 0x%" G_GINT64_MODIFIER "x bytes of pages at 0x%" G_GINT64_MODIFIER
		"x of the file: %s 0x%" G_GINT64_MODIFIER "x",
		block->name, block->place.bitmap, block->size, block->place.pages, what, limit);
}

/* Nothing may lie before what was read already, and the pages behind the bitmap: then no two blocks
 * overlap. In this order nothing overflows. */
static void check_place(const FerryRamReader *ram, FerryStreamReader *reader,
			const FerryStreamRamBlock *block)
{
	const guint64 here = ram->base + ferry_stream_reader_offset(reader);
	const guint64 end = ram->end ? ram->end : G_MAXINT64;
	const guint64 bitmap_bytes = ferry_mapped_bitmap_bytes(block->size);

	if (block->place.bitmap < here)
		refuse_place(reader, block, "the bitmap overlaps what lies before", here);
	else if (block->place.bitmap > end || block->place.pages > end ||
		 block->size > end - block->place.pages)
		refuse_place(reader, block, "it is cut short, or they lie beyond its end at", end);
	else if (block->place.pages < block->place.bitmap ||
		 block->place.pages - block->place.bitmap < bitmap_bytes)
		refuse_place(reader, block, "the pages overlap the bitmap, whose bytes are",
			     bitmap_bytes);
	else if (block->place.pages % FERRY_PAGE_SIZE)
		refuse_place(reader, block, "the pages are not at a multiple of", FERRY_PAGE_SIZE);
}

/* The header behind a block's entry; then passes over bitmap and pages. */
static void read_place(const FerryRamReader *ram, FerryStreamReader *reader,
		       FerryStreamRamBlock *block)
{
	guint32 version = ferry_stream_reader_be32(reader);
	guint64 page_size = ferry_stream_reader_be64(reader);

	block->place.bitmap = ferry_stream_reader_be64(reader);
	block->place.pages = ferry_stream_reader_be64(reader);
	if (!ferry_stream_reader_check(reader, NULL))
		return;
	if (ram->addresses && !block->place.bitmap && !block->place.pages)
		return;
	if (version != FERRY_MAPPED_VERSION || page_size != FERRY_PAGE_SIZE)
		ferry_stream_reader_fail(
			reader,
			"RAM block \"%s\" has a mapped-ram header of version %u with "
			"pages of %" G_GUINT64_FORMAT
			" bytes; only version %u with pages of %u is known",
			block->name, version, page_size, FERRY_MAPPED_VERSION, FERRY_PAGE_SIZE);
	check_place(ram, reader, block);
	if (!ferry_stream_reader_check(reader, NULL))
		return;
	ferry_stream_reader_skip(reader, block->place.bitmap - ram->base -
						 ferry_stream_reader_offset(reader));
	read_bitmap(reader, block);
	ferry_stream_reader_skip(reader, block->place.pages + block->size - ram->base -
						 ferry_stream_reader_offset(reader));
}

/* @left: bytes of the announced total that no block has taken yet. */
static void read_block(const FerryRamReader *ram, FerryStreamReader *reader, GArray *blocks,
		       guint64 left, FerryStreamRamBlock *block)
{
	*block = (FerryStreamRamBlock){ 0 };
	ferry_stream_reader_name(reader, block->name);
	block->size = ferry_stream_reader_be64(reader);
	block->address = ram->addresses ? ferry_stream_reader_be64(reader) : 0;
	if (!block->name[0])
		ferry_stream_reader_fail(reader, "RAM block %u has no name", blocks->len);
	else if (!block->size || block->size % FERRY_PAGE_SIZE)
		ferry_stream_reader_fail(reader,
					 "RAM block \"%s\" has 0x%" G_GINT64_MODIFIER
					 "x bytes, not a positive multiple of the page size",
					 block->name, block->size);
	else if (block->size > left)
		ferry_stream_reader_fail(reader,
					 "RAM block \"%s\" has 0x%" G_GINT64_MODIFIER
					 "x bytes, but 0x%" G_GINT64_MODIFIER
					 "x are left of the total",
					 block->name, block->size, left);
	else if (find_block(blocks, block->name) >= 0)
		ferry_stream_reader_fail(reader, "RAM block \"%s\" comes twice in the list",
					 block->name);
	else if (ram->mapped)
		read_place(ram, reader, block);
}

static void read_list(FerryRamReader *ram, FerryStreamReader *reader, guint64 total)
{
	g_autoptr(GArray) blocks = g_array_new(FALSE, FALSE, sizeof(FerryStreamRamBlock));

	if (ram->blocks) {
		ferry_stream_reader_fail(reader, "a second list of RAM blocks");
		return;
	}
	while (total) {
		FerryStreamRamBlock block;

		if (blocks->len == BLOCKS_MAX)
			ferry_stream_reader_fail(reader, "more than %u RAM blocks", BLOCKS_MAX);
		read_block(ram, reader, blocks, total, &block);
		if (!ferry_stream_reader_check(reader, NULL))
			return;
		g_array_append_val(blocks, block);
		total -= block.size;
	}
	ram->blocks = g_steal_pointer(&blocks);
}

/* The block that a page header names, as index + 1; 0 after a failure. */
static int read_page_block(const FerryRamReader *ram, FerryStreamReader *reader, gboolean same)
{
	char name[256];
	int block;

	if (!ram->blocks) {
		ferry_stream_reader_fail(reader, "a page before the list of RAM blocks");
		return 0;
	}
	if (same) {
		if (!ram->last)
			ferry_stream_reader_fail(reader,
						 "the first page does not name its RAM block");
		return ram->last;
	}
	ferry_stream_reader_name(reader, name);
	block = find_block(ram->blocks, name);
	if (block < 0)
		ferry_stream_reader_fail(
			reader, "a page of RAM block \"%s\", which is not in the list", name);
	return block + 1;
}

/* What stands between a page's header and its data. */
static void read_encoding(FerryStreamReader *reader, FerryRamItem *item)
{
	guint max = item->type == FERRY_RAM_ITEM_XBZRLE ? FERRY_PAGE_SIZE : FERRY_PAGE_DEFLATED_MAX;

	switch (item->type) {
	case FERRY_RAM_ITEM_ZERO:
		if (ferry_stream_reader_u8(reader) != 0)
			ferry_stream_reader_fail(reader,
						 "a page filled with a byte other than zero");
		return;
	case FERRY_RAM_ITEM_XBZRLE:
		if (ferry_stream_reader_u8(reader) != FERRY_RAM_ENCODING_XBZRLE)
			ferry_stream_reader_fail(reader, "a page in an encoding other than xbzrle");
		item->length = ferry_stream_reader_be16(reader);
		break;
	case FERRY_RAM_ITEM_COMPRESSED:
		item->length = ferry_stream_reader_be32(reader);
		break;
	default:
		return;
	}
	if (!item->length || item->length > max)
		ferry_stream_reader_fail(reader, "an encoded page of %u bytes, not 1 to %u",
					 item->length, max);
}

static FerryRamItemType page_type(guint flags)
{
	switch (flags & ~FERRY_RAM_CONTINUE) {
	case FERRY_RAM_PAGE:
		return FERRY_RAM_ITEM_PAGE;
	case FERRY_RAM_XBZRLE:
		return FERRY_RAM_ITEM_XBZRLE;
	case FERRY_RAM_COMPRESSED:
		return FERRY_RAM_ITEM_COMPRESSED;
	default:
		return FERRY_RAM_ITEM_ZERO;
	}
}

static void read_page(const FerryRamReader *ram, FerryStreamReader *reader, guint64 offset,
		      guint flags, FerryRamItem *item, int *last)
{
	const FerryStreamRamBlock *block;
	int n = read_page_block(ram, reader, flags & FERRY_RAM_CONTINUE);

	if (!n || !ferry_stream_reader_check(reader, NULL))
		return;
	block = &g_array_index(ram->blocks, FerryStreamRamBlock, n - 1);
	if (offset >= block->size) {
		ferry_stream_reader_fail(reader,
					 "a page at 0x%" G_GINT64_MODIFIER
					 "x of RAM block \"%s\", which has 0x%" G_GINT64_MODIFIER
					 "x bytes",
					 offset, block->name, block->size);
		return;
	}
	item->type = page_type(flags);
	item->block = n - 1;
	item->offset = offset;
	*last = n;
	read_encoding(reader, item);
}

/* Words that ask for state which only the peer that negotiated them has. */
static void refuse(FerryStreamReader *reader, guint64 word)
{
	static const struct {
		guint flag;
		const char *what;
		const char *remedy;
	} known[] = {
		{ FERRY_RAM_XBZRLE, "a page compressed by xbzrle",
		  "switch the capability xbzrle off" },
		{ FERRY_RAM_HOOK, "an rdma hook", "migrate over tcp: or unix:" },
		{ FERRY_RAM_COMPRESSED, "a compressed page", "switch the capability compress off" },
		{ FERRY_RAM_MULTIFD_FLUSH, "a multifd flush", "switch the capability multifd off" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(known); i++) {
		if (word & known[i].flag) {
			ferry_stream_reader_fail(reader,
						 "%s, which cannot be read here: %s at the source",
						 known[i].what, known[i].remedy);
			return;
		}
	}
	ferry_stream_reader_fail(reader, "unknown flags 0x%03x in a word of the ram section",
				 (guint)(word & FERRY_RAM_FLAGS));
}

gboolean ferry_ram_reader_next(FerryRamReader *ram, FerryStreamReader *reader, FerryRamItem *item,
			       GError **error)
{
	guint64 word = ferry_stream_reader_be64(reader);
	guint flags = word & FERRY_RAM_FLAGS;
	FerryRamItem in = { .type = FERRY_RAM_ITEM_END };
	int last = ram->last;

	if (!ferry_stream_reader_check(reader, error))
		return FALSE;
	switch (flags & ~FERRY_RAM_CONTINUE) {
	case FERRY_RAM_PAGE:
	case FERRY_RAM_ZERO:
		read_page(ram, reader, word - flags, flags, &in, &last);
		break;
	case FERRY_RAM_XBZRLE:
	case FERRY_RAM_COMPRESSED:
		if (ram->encodings)
			read_page(ram, reader, word - flags, flags, &in, &last);
		else
			refuse(reader, word);
		break;
	case FERRY_RAM_MEM_SIZE:
		in.type = FERRY_RAM_ITEM_LIST;
		if (flags & FERRY_RAM_CONTINUE)
			refuse(reader, word);
		else
			read_list(ram, reader, word - flags);
		break;
	case FERRY_RAM_EOS:
		if (word != FERRY_RAM_EOS)
			refuse(reader, word);
		break;
	default:
		refuse(reader, word);
	}
	if (!ferry_stream_reader_check(reader, error))
		return FALSE;
	ram->last = last;
	*item = in;
	return TRUE;
}
