/* SPDX-License-Identifier: BSD-2-Clause */
/* The ram section's list where pages have places in the file: its bytes, and files that lie. */
#include <golden.h>
#include <harness.h>
#include <string.h>
#include <ferry/stream.h>

/* Two blocks, of 3 and of 65 pages, in a file whose stream begins at byte 0. */
#define FIRST 3u
#define SECOND 65u

typedef struct {
	GByteArray *file;
	FerryMappedPlace places[2];
	size_t headers[2]; /* where the blocks' headers are */
} File;

static void put_block(File *f, guint i, const char *name, guint64 pages, const guint64 *bitmap)
{
	FerryRamBlock block = { .name = (char *)name, .size = pages << FERRY_PAGE_SHIFT };
	guint64 end;

	ferry_stream_put_ram_block(f->file, &block, FALSE);
	f->headers[i] = f->file->len;
	f->places[i] = ferry_mapped_place(f->file->len, block.size);
	ferry_stream_put_mapped_header(f->file, &f->places[i]);
	end = f->places[i].pages + block.size;
	for (guint w = 0; w < ferry_mapped_bitmap_bytes(block.size) / 8; w++)
		g_byte_array_append(f->file, (const guint8 *)&(guint64){ GUINT64_TO_LE(bitmap[w]) },
				    8);
	while (f->file->len < end)
		g_byte_array_append(f->file, (const guint8[FERRY_PAGE_SIZE]){ 0 },
				    MIN(FERRY_PAGE_SIZE, end - f->file->len));
}

static File file_new(void)
{
	const FerryRam ram = { .total = (FIRST + SECOND) << FERRY_PAGE_SHIFT };
	File f = { .file = g_byte_array_new() };

	ferry_stream_put_ram_total(f.file, &ram);
	put_block(&f, 0, "a", FIRST, (const guint64[]){ 5 });
	put_block(&f, 1, "b", SECOND, (const guint64[]){ G_MAXUINT64, 1 });
	ferry_put_be64(f.file, FERRY_RAM_EOS);
	return f;
}

/* Reads list and EOS; FALSE with *@why, to be freed, which may be NULL. */
static gboolean read_file(const GByteArray *bytes, FerryRamReader *ram, char **why)
{
	g_autoptr(FerryStreamReader) r = ferry_stream_reader_new_for_data(bytes->data, bytes->len);
	g_autoptr(GError) error = NULL;
	FerryRamItem item = { 0 };
	gboolean ok;

	ram->mapped = TRUE;
	ok = ferry_ram_reader_next(ram, r, &item, &error) &&
	     ferry_ram_reader_next(ram, r, &item, &error) && item.type == FERRY_RAM_ITEM_END;
	if (error && why)
		*why = g_strdup(error->message);
	return ok;
}

static void list__with_places__offsets_and_pages_of_each_block(void)
{
	File f = file_new();
	g_auto(FerryRamReader) ram = { .end = f.file->len };

	CU_ASSERT(read_file(f.file, &ram, NULL));
	if (!ram.blocks || ram.blocks->len != 2)
		CU_FAIL("two blocks");
	for (guint i = 0; ram.blocks && i < ram.blocks->len; i++) {
		const FerryStreamRamBlock *block = &g_array_index(ram.blocks, FerryStreamRamBlock,
								  i);

		CU_ASSERT_EQUAL(block->place.bitmap, f.places[i].bitmap);
		CU_ASSERT_EQUAL(block->place.pages, f.places[i].pages);
		CU_ASSERT_EQUAL(block->place.bitmap, f.headers[i] + 28);
		CU_ASSERT_EQUAL(block->place.pages, (i + 1) << 20);
		CU_ASSERT_EQUAL(block->placed_pages, i ? SECOND : 2);
	}
	g_byte_array_unref(f.file);
}

/* What a FerrySkipFunc passes over is not read, and counts. */
typedef struct {
	const GByteArray *file;
	size_t at, fetched;
} Tape;

static gssize read_tape(gpointer user, const struct iovec *iov, int n, GError **error)
{
	Tape *tape = user;
	size_t len = MIN(iov->iov_len, tape->file->len - MIN(tape->at, tape->file->len));

	memcpy(iov->iov_base, tape->file->data + tape->at, len);
	tape->at += len;
	tape->fetched += len;
	return (gssize)len;
}

static gboolean skip_tape(gpointer user, guint64 len, GError **error)
{
	((Tape *)user)->at += len;
	return TRUE;
}

static void list__over_a_file__pages_are_not_read(void)
{
	File f = file_new();
	Tape tape = { .file = f.file };
	g_autoptr(FerryStreamReader) r = ferry_stream_reader_new(read_tape, &tape);
	g_auto(FerryRamReader) ram = { .mapped = TRUE, .end = f.file->len };
	FerryRamItem item = { 0 };

	ferry_stream_reader_set_skip(r, skip_tape);
	CU_ASSERT(ferry_ram_reader_next(&ram, r, &item, NULL));
	CU_ASSERT(ferry_ram_reader_next(&ram, r, &item, NULL));
	CU_ASSERT_EQUAL(item.type, FERRY_RAM_ITEM_END);
	CU_ASSERT_EQUAL(ferry_stream_reader_offset(r), f.file->len);
	CU_ASSERT(tape.fetched < f.file->len / 2);
	g_byte_array_unref(f.file);
}

static void list__in_a_file_with_something_before_it__offsets_are_the_files(void)
{
	File f = file_new();
	g_auto(FerryRamReader) ram = { .base = 4096, .end = f.file->len + 4096 };
	g_autofree char *why = NULL;

	/* As it stands it would lie 4096 bytes before its places. */
	CU_ASSERT_FALSE(read_file(f.file, &ram, &why));
	CU_ASSERT(why && strstr(why, "overlaps what lies before"));
	g_byte_array_unref(f.file);
}

/* ---- files that lie ---- */

static void list__numbers_that_cannot_be__refused_with_the_offset(void)
{
	/* The field of the header of block @header: version 0, page size 4, bitmap 12, pages
	 * 20. */
	static const struct {
		guint header, field;
		guint64 value;
		const char *why;
	} wrong[] = {
		{ 0, 0, 2, "version 2" },
		{ 0, 0, 0, "version 0" },
		{ 0, 4, 16384, "pages of 16384" },
		{ 0, 4, 0, "pages of 0" },
		{ 0, 12, 8, "overlaps what lies before" },
		{ 1, 12, 0x81, "overlaps what lies before" },
		{ 0, 12, G_MAXUINT64, "beyond its end" },
		{ 0, 12, 1 << 20, "overlap the bitmap" },
		{ 0, 20, 0x30, "overlap the bitmap" },
		{ 1, 20, 1 << 20, "overlap the bitmap" },
		{ 0, 20, (1 << 20) + 1, "not at a multiple of" },
		{ 0, 20, G_MAXUINT64 - 4095, "beyond its end" },
		{ 0, 20, G_MAXINT64 & ~4095ull, "beyond its end" },
		{ 1, 20, 3 << 20, "beyond its end" },
		{ 1, 20, 0, "overlap the bitmap" },
		/* Without x-ignore-shared every block has a place. */
		{ 0, 12, 0, "overlaps what lies before" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
		File f = file_new();
		guint8 *at = f.file->data + f.headers[wrong[i].header] + wrong[i].field;
		g_auto(FerryRamReader) ram = { .end = f.file->len };
		g_autofree char *why = NULL;

		if (wrong[i].field)
			ferry_store_be64(at, wrong[i].value);
		else
			ferry_store_be32(at, (guint32)wrong[i].value);
		CU_ASSERT_FALSE(read_file(f.file, &ram, &why));
		if (!why || !strstr(why, wrong[i].why))
			printf("# case %u: %s\n", i, why ? why : "taken");
		CU_ASSERT(why && strstr(why, wrong[i].why) && strstr(why, "at offset "));
		g_byte_array_unref(f.file);
	}
}

static void bitmap__bits_beyond_the_block__refused(void)
{
	static const struct {
		guint block, bit;
	} beyond[] = { { 0, FIRST }, { 0, 63 }, { 1, SECOND }, { 1, 127 } };

	for (guint i = 0; i < G_N_ELEMENTS(beyond); i++) {
		File f = file_new();
		g_auto(FerryRamReader) ram = { 0 };
		g_autofree char *why = NULL;

		f.file->data[f.places[beyond[i].block].bitmap + beyond[i].bit / 8] |=
			1u << beyond[i].bit % 8;
		CU_ASSERT_FALSE(read_file(f.file, &ram, &why));
		CU_ASSERT(why && strstr(why, "bits beyond the block's last page"));
		g_byte_array_unref(f.file);
	}
}

static void file__cut_anywhere__refused(void)
{
	File f = file_new();
	const guint whole = f.file->len;

	for (guint len = 0; len < whole; len += len < 200 ? 1 : 65521) {
		g_auto(FerryRamReader) known = { .end = len ? len : 1 }, unknown = { 0 };
		g_autofree char *why = NULL, *other = NULL;

		g_byte_array_set_size(f.file, whole);
		f.file->len = len;
		CU_ASSERT_FALSE(read_file(f.file, &known, &why));
		CU_ASSERT(why && strstr(why, "cut short"));
		CU_ASSERT_FALSE(read_file(f.file, &unknown, &other));
		CU_ASSERT(other && strstr(other, "cut short"));
	}
	g_byte_array_unref(f.file);
}

/* ---- the bytes ---- */

static gboolean write_example(const char *name, GByteArray *out)
{
	static const char *const both[] = { "x-ignore-shared", "mapped-ram", NULL };
	static const guint8 uuid[16] = { 0x6c, 0x9b, 0x9d, 0x1e, 0x0c, 0x4f, 0x4a, 0x8e,
					 0x9a, 0x37, 0x2f, 0x1b, 0x0e, 0x5d, 0x7c, 0x43 };
	const FerryRamBlock ram = { .name = (char *)"ram",
				    .size = 64 << 20,
				    .guest_address = 0x100000 };
	const FerryMappedPlace place = ferry_mapped_place(0x65, ram.size), none = { 0 };

	if (g_str_equal(name, "CONFIGURATION m"))
		ferry_stream_put_configuration(out, "m", both);
	else if (g_str_equal(name, "its UUID"))
		ferry_stream_put_uuid(out, uuid);
	else if (g_str_equal(name, "block, address"))
		ferry_stream_put_ram_block(out, &ram, TRUE);
	else if (g_str_equal(name, "place"))
		ferry_stream_put_mapped_header(out, &place);
	else
		ferry_stream_put_mapped_header(out, &none);
	return TRUE;
}

static void bytes__as_the_protocol_page_has_them(void)
{
	CU_ASSERT_EQUAL(golden_compare("CONFIGURATION m", write_example), 5);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(list__with_places__offsets_and_pages_of_each_block),
		CASE(list__over_a_file__pages_are_not_read),
		CASE(list__in_a_file_with_something_before_it__offsets_are_the_files),
		CASE(list__numbers_that_cannot_be__refused_with_the_offset),
		CASE(bitmap__bits_beyond_the_block__refused),
		CASE(file__cut_anywhere__refused),
		CASE(bytes__as_the_protocol_page_has_them),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "stream-mapped", cases);
}
