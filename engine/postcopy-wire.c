/* SPDX-License-Identifier: BSD-2-Clause */
#include "postcopy-wire.h"

#define ADVISE_BYTES 16u
#define DISCARD_RUN_BYTES 16u
#define RESUMED 1u

static gboolean malformed(GError **error, const char *what, size_t len)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "postcopy: malformed %s (%" G_GSIZE_FORMAT " bytes)", what, len);
	return FALSE;
}

static void put_name(GByteArray *out, const FerryRamBlock *block)
{
	size_t len = strlen(block->name);

	ferry_put_u8(out, len);
	g_byte_array_append(out, (const guint8 *)block->name, len);
}

/* The block whose name, with its length before it, begins @data; *@used gets both. */
static gboolean get_name(const FerryRam *ram, const char *what, const guint8 *data, size_t len,
			 guint *block, size_t *used, GError **error)
{
	char name[FERRY_RAM_NAME_MAX + 1] = "";
	int found;

	if (len < 1 || len - 1 < data[0])
		return malformed(error, what, len);
	memcpy(name, data + 1, data[0]);
	found = strlen(name) == data[0] ? ferry_ram_find(ram, name) : -1;
	if (found < 0) {
		g_autofree char *shown = g_utf8_make_valid(name, -1);

		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "postcopy: %s names block '%s', which is not there", what, shown);
		return FALSE;
	}
	*block = found;
	*used = 1 + (size_t)data[0];
	return TRUE;
}

/* ---- ADVISE ---- */

static guint64 page_sizes(const FerryRam *ram)
{
	guint64 all = 0;

	for (guint i = 0; i < ram->n_blocks; i++)
		all |= ram->blocks[i].page_size;
	return all;
}

void ferry_postcopy_put_advise(GByteArray *out, const FerryRam *ram)
{
	guint8 data[ADVISE_BYTES];

	ferry_store_be64(data, page_sizes(ram));
	ferry_store_be64(data + 8, FERRY_PAGE_SIZE);
	ferry_stream_put_command(out, FERRY_COMMAND_POSTCOPY_ADVISE, data, sizeof(data));
}

gboolean ferry_postcopy_get_advise(const FerryRam *ram, const guint8 *data, size_t len,
				   GError **error)
{
	guint64 ours = page_sizes(ram), theirs, page;

	if (len != ADVISE_BYTES)
		return malformed(error, "POSTCOPY_ADVISE", len);
	theirs = ferry_load_be64(data);
	page = ferry_load_be64(data + 8);
	if (theirs == ours && page == FERRY_PAGE_SIZE)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_MISMATCH,
		    "postcopy: the pages of the RAM's backing are 0x%" G_GINT64_MODIFIER
		    "x at the source and 0x%" G_GINT64_MODIFIER
		    "x here (all sizes together), those of the stream 0x%" G_GINT64_MODIFIER
		    "x and 0x%x: give both the same backing, or switch postcopy-ram off",
		    theirs, ours, page, FERRY_PAGE_SIZE);
	return FALSE;
}

/* ---- RAM_DISCARD ---- */

void ferry_postcopy_widen(FerryBitmap *missing, const FerryRam *ram)
{
	for (FerryRun run = { 0 }; ferry_bitmap_next_run(missing, &run, G_MAXUINT64);) {
		guint64 per = ram->blocks[run.block].page_size >> FERRY_PAGE_SHIFT;
		guint64 end = (run.first + run.pages + per - 1) / per * per;

		run.first = run.first / per * per;
		run.pages = end - run.first;
		ferry_bitmap_set_run(missing, &run);
	}
}

static void begin_discard(GByteArray *data, const FerryRamBlock *block)
{
	ferry_put_u8(data, 0);
	put_name(data, block);
	ferry_put_u8(data, 0);
}

static void end_discard(GByteArray *out, GByteArray *data)
{
	ferry_stream_put_command(out, FERRY_COMMAND_POSTCOPY_RAM_DISCARD, data->data, data->len);
	g_byte_array_set_size(data, 0);
}

void ferry_postcopy_put_discards(GByteArray *out, const FerryRam *ram, const FerryBitmap *missing)
{
	g_autoptr(GByteArray) data = g_byte_array_new();
	guint32 block = 0;

	for (FerryRun run = { 0 }; ferry_bitmap_next_run(missing, &run, G_MAXUINT64);) {
		if (data->len &&
		    (run.block != block || data->len + DISCARD_RUN_BYTES > G_MAXUINT16))
			end_discard(out, data);
		block = run.block;
		if (!data->len)
			begin_discard(data, &ram->blocks[block]);
		ferry_put_be64(data, run.first << FERRY_PAGE_SHIFT);
		ferry_put_be64(data, ferry_run_bytes(&run));
	}
	if (!data->len)
		begin_discard(data, &ram->blocks[0]);
	end_discard(out, data);
}

static gboolean get_discard_run(const FerryRamBlock *block, const guint8 *data, FerryRun *run,
				GError **error)
{
	guint64 start = ferry_load_be64(data), length = ferry_load_be64(data + 8);

	if (length && start % block->page_size == 0 && length % block->page_size == 0 &&
	    start < block->size && length <= block->size - start) {
		run->first = start >> FERRY_PAGE_SHIFT;
		run->pages = length >> FERRY_PAGE_SHIFT;
		return TRUE;
	}
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "postcopy: RAM_DISCARD of %" G_GUINT64_FORMAT
		    " bytes at offset 0x%" G_GINT64_MODIFIER
		    "x of block '%s', which has %" G_GUINT64_FORMAT
		    " bytes in pages of %" G_GUINT64_FORMAT,
		    length, start, block->name, block->size, block->page_size);
	return FALSE;
}

gboolean ferry_postcopy_get_discard(const FerryRam *ram, const guint8 *data, size_t len,
				    FerryDiscardFunc discard, gpointer user, GError **error)
{
	size_t used, at;
	guint block;

	if (len < 1 || data[0] != 0)
		return malformed(error, "RAM_DISCARD", len);
	if (!get_name(ram, "RAM_DISCARD", data + 1, len - 1, &block, &used, error))
		return FALSE;
	at = 1 + used;
	if (at >= len || data[at] != 0 || (len - at - 1) % DISCARD_RUN_BYTES)
		return malformed(error, "RAM_DISCARD", len);
	for (at++; at < len; at += DISCARD_RUN_BYTES) {
		FerryRun run = { .block = block };

		if (!get_discard_run(&ram->blocks[block], data + at, &run, error) ||
		    !discard(user, &run, error))
			return FALSE;
	}
	return TRUE;
}

/* ---- PACKAGED ---- */

void ferry_postcopy_put_packaged(GByteArray *out, guint32 length)
{
	guint8 data[4];

	ferry_store_be32(data, length);
	ferry_stream_put_command(out, FERRY_COMMAND_PACKAGED, data, sizeof(data));
}

gboolean ferry_postcopy_get_packaged(const guint8 *data, size_t len, guint32 *length,
				     GError **error)
{
	if (len != 4 || ferry_load_be32(data) == 0)
		return malformed(error, "PACKAGED", len);
	*length = ferry_load_be32(data);
	return TRUE;
}

/* ---- RECV_BITMAP ---- */

void ferry_postcopy_put_ask(GByteArray *out, const FerryRam *ram, guint block)
{
	g_autoptr(GByteArray) data = g_byte_array_new();

	put_name(data, &ram->blocks[block]);
	ferry_stream_put_command(out, FERRY_COMMAND_RECV_BITMAP, data->data, data->len);
}

gboolean ferry_postcopy_get_ask(const FerryRam *ram, const guint8 *data, size_t len, guint *block,
				GError **error)
{
	size_t used;
	guint found;

	if (!get_name(ram, "RECV_BITMAP", data, len, &found, &used, error))
		return FALSE;
	if (used != len)
		return malformed(error, "RECV_BITMAP", len);
	*block = found;
	return TRUE;
}

gboolean ferry_postcopy_get_received(const FerryRam *ram, const guint8 *data, size_t len,
				     guint *block, GError **error)
{
	return ferry_postcopy_get_ask(ram, data, len, block, error);
}

static guint64 bitmap_words(const FerryRamBlock *block)
{
	return (ferry_ram_block_pages(block) + 63) / 64;
}

void ferry_postcopy_put_received(GByteArray *out, const FerryRam *ram, guint block,
				 const guint64 *words)
{
	const FerryRamBlock *of = &ram->blocks[block];

	ferry_return_put_bitmap(out, of->name, words, bitmap_words(of));
}

guint64 *ferry_postcopy_read_received(const FerryRam *ram, guint block, FerryStreamReader *reader,
				      GError **error)
{
	const FerryRamBlock *of = &ram->blocks[block];
	guint64 n = bitmap_words(of), size = ferry_stream_reader_be64(reader);
	guint64 pages = ferry_ram_block_pages(of);
	g_autofree guint64 *words = NULL;
	guint64 end;

	if (!ferry_stream_reader_check(reader, error))
		return NULL;
	if (size != n * 8) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "postcopy: RECV_BITMAP of block '%s' has %" G_GUINT64_FORMAT
			    " bytes, its %" G_GUINT64_FORMAT " pages need %" G_GUINT64_FORMAT,
			    of->name, size, pages, n * 8);
		return NULL;
	}
	words = g_new(guint64, n);
	ferry_stream_reader_bytes(reader, words, size);
	end = ferry_stream_reader_be64(reader);
	if (!ferry_stream_reader_check(reader, error))
		return NULL;
	if (end != FERRY_RETURN_BITMAP_END) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "postcopy: RECV_BITMAP of block '%s' ends with 0x%016" G_GINT64_MODIFIER
			    "x",
			    of->name, end);
		return NULL;
	}
	for (guint64 w = 0; w < n; w++)
		words[w] = GUINT64_FROM_LE(words[w]);
	if (pages % 64)
		words[n - 1] &= ~(~0ull << (pages % 64));
	return g_steal_pointer(&words);
}

/* ---- REQ_PAGES, RESUME_ACK ---- */

void ferry_postcopy_put_request(GByteArray *out, const FerryRam *ram, const FerryRun *run,
				int *last_block)
{
	const FerryRamBlock *block = &ram->blocks[run->block];
	gboolean named = (guint32)*last_block != run->block;

	ferry_return_put_request(out, named ? block->name : NULL, run->first << FERRY_PAGE_SHIFT,
				 (guint32)ferry_run_bytes(run));
	*last_block = run->block;
}

void ferry_postcopy_put_resume_ack(GByteArray *out)
{
	ferry_return_put_value(out, FERRY_RETURN_RESUME_ACK, RESUMED);
}

gboolean ferry_postcopy_get_resume_ack(const guint8 *data, size_t len, GError **error)
{
	if (len == 4 && ferry_load_be32(data) == RESUMED)
		return TRUE;
	return malformed(error, "RESUME_ACK", len);
}
