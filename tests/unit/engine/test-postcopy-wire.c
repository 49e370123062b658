/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include <string.h>

#include "bits.h"
#include "engine/postcopy-wire.h"

#define MIB (1ull << 20)
/* As of the QEMU whose bytes docs/protocol.md has. */
#define PC_RAM (128 * MIB - 2 * FERRY_PAGE_SIZE)

static void add(FerryRam *ram, const char *name, guint64 size, guint64 page_size)
{
	CU_ASSERT(ferry_ram_add(ram, name, (void *)(1024 * MIB * (ram->n_blocks + 1)), size,
				page_size, -1, 0, NULL));
}

static FerryRam *pc_new(void)
{
	FerryRam *ram = ferry_ram_new();

	add(ram, "pc.ram", PC_RAM, FERRY_PAGE_SIZE);
	return ram;
}

/* "r" of 66 pages, so that its bitmap does not end with a word. */
static FerryRam *small_new(void)
{
	FerryRam *ram = ferry_ram_new();

	add(ram, "r", 66 * FERRY_PAGE_SIZE, FERRY_PAGE_SIZE);
	return ram;
}

static const guint64 small_words[] = { 0x8000000000000003, 2 };

/* ---- the bytes ---- */

static void put_advise(GByteArray *out, const FerryRam *pc, const FerryRam *small)
{
	ferry_postcopy_put_advise(out, pc);
}

static void put_discard(GByteArray *out, const FerryRam *pc, const FerryRam *small)
{
	g_autoptr(FerryBitmap) missing = ferry_bitmap_new(pc);

	ferry_bitmap_set_run(missing, &(FerryRun){ 0, 0x245f, 0x5b9f });
	ferry_postcopy_put_discards(out, pc, missing);
}

static void put_no_discard(GByteArray *out, const FerryRam *pc, const FerryRam *small)
{
	g_autoptr(FerryBitmap) missing = ferry_bitmap_new(pc);

	ferry_postcopy_put_discards(out, pc, missing);
}

static void put_packaged(GByteArray *out, const FerryRam *pc, const FerryRam *small)
{
	ferry_postcopy_put_packaged(out, 0x1234);
}

static void put_ask(GByteArray *out, const FerryRam *pc, const FerryRam *small)
{
	ferry_postcopy_put_ask(out, small, 0);
}

static void put_request_with_name(GByteArray *out, const FerryRam *pc, const FerryRam *small)
{
	ferry_postcopy_put_request(out, pc, &(FerryRun){ 0, 0x5336, 1 }, &(int){ -1 });
}

static void put_request(GByteArray *out, const FerryRam *pc, const FerryRam *small)
{
	ferry_postcopy_put_request(out, pc, &(FerryRun){ 0, 0x7fd7, 1 }, &(int){ 0 });
}

static void put_received(GByteArray *out, const FerryRam *pc, const FerryRam *small)
{
	ferry_postcopy_put_received(out, small, 0, small_words);
}

static void put_resume_ack(GByteArray *out, const FerryRam *pc, const FerryRam *small)
{
	ferry_postcopy_put_resume_ack(out);
}

static const struct {
	const char *name; /* of the line in docs/protocol.md */
	void (*put)(GByteArray *out, const FerryRam *pc, const FerryRam *small);
} examples[] = {
	{ "ADVISE", put_advise },
	{ "RAM_DISCARD", put_discard },
	{ "RAM_DISCARD, none", put_no_discard },
	{ "PACKAGED", put_packaged },
	{ "RECV_BITMAP \"r\"", put_ask },
	{ "REQ_PAGES_ID", put_request_with_name },
	{ "REQ_PAGES", put_request },
	{ "RECV_BITMAP answer", put_received },
	{ "RESUME_ACK", put_resume_ack },
};

static char *hex(const GByteArray *bytes)
{
	GString *text = g_string_new(NULL);

	for (guint i = 0; i < bytes->len; i++)
		g_string_append_printf(text, "%02x", bytes->data[i]);
	return g_string_free(text, FALSE);
}

/* The digits of the line called @name, without their spaces; NULL if the page has none. */
static char *find_line(const char *text, const char *name)
{
	g_autofree char *head = g_strconcat("\n", name, "  ", NULL);
	const char *line = strstr(text, head), *end;
	g_auto(GStrv) parts = NULL;
	g_autofree char *digits = NULL;

	if (!line)
		return NULL;
	line += strlen(head);
	end = strchr(line, '\n');
	digits = g_strndup(line, end ? end - line : (gssize)strlen(line));
	parts = g_strsplit(digits, " ", -1);
	return g_strjoinv("", parts);
}

static void put__examples_of_protocol_md__same_bytes(void)
{
	g_autoptr(FerryRam) pc = pc_new();
	g_autoptr(FerryRam) small = small_new();
	g_autofree char *text = NULL;

	CU_ASSERT(g_file_get_contents(PROTOCOL_MD, &text, NULL, NULL));
	for (guint i = 0; text && i < G_N_ELEMENTS(examples); i++) {
		g_autoptr(GByteArray) out = g_byte_array_new();
		g_autofree char *said = find_line(text, examples[i].name), *written = NULL;

		examples[i].put(out, pc, small);
		written = hex(out);
		if (g_strcmp0(said, written) != 0)
			printf("# %s: the page says %s, the code %s\n", examples[i].name, said,
			       written);
		CU_ASSERT_STRING_EQUAL(said ? said : "", written);
	}
}

/* ---- ADVISE ---- */

static void advise__same_backing__is_taken(void)
{
	g_autoptr(FerryRam) pc = pc_new();
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(GError) error = NULL;

	ferry_postcopy_put_advise(out, pc);
	CU_ASSERT(ferry_postcopy_get_advise(pc, out->data + 5, out->len - 5, NULL));
	CU_ASSERT_FALSE(ferry_postcopy_get_advise(pc, out->data + 5, out->len - 6, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
}

static void advise__other_backing__refused_with_both(void)
{
	g_autoptr(FerryRam) pc = pc_new();
	g_autoptr(FerryRam) huge = ferry_ram_new();
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(GError) error = NULL;

	add(huge, "pc.ram", 128 * MIB, 2 * MIB);
	ferry_postcopy_put_advise(out, huge);
	CU_ASSERT_FALSE(ferry_postcopy_get_advise(pc, out->data + 5, out->len - 5, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_MISMATCH));
	CU_ASSERT(error && strstr(error->message, "0x200000 at the source and 0x1000 here"));
}

/* ---- RAM_DISCARD ---- */

static gboolean note_run(gpointer user, const FerryRun *run, GError **error)
{
	ferry_bitmap_set_run(user, run);
	return TRUE;
}

/* Plays every command in @out; how many there were, 0 if any was refused. */
static guint play_discards(const FerryRam *ram, const GByteArray *out, FerryBitmap *found)
{
	g_autoptr(FerryStreamReader) reader = ferry_stream_reader_new_for_data(out->data, out->len);
	guint n = 0;

	while (ferry_stream_reader_peek(reader) >= 0) {
		FerryStreamElement element;
		g_autofree guint8 *data = NULL;

		if (!ferry_stream_next(reader, &element, NULL))
			return 0;
		CU_ASSERT_EQUAL(element.command, FERRY_COMMAND_POSTCOPY_RAM_DISCARD);
		data = g_malloc(element.length);
		ferry_stream_reader_bytes(reader, data, element.length);
		if (!ferry_postcopy_get_discard(ram, data, element.length, note_run, found, NULL))
			return 0;
		n++;
	}
	return n;
}

static gboolean same_bits(FerryBitmap *a, FerryBitmap *b, const FerryRam *ram)
{
	for (guint i = 0; i < ram->n_blocks; i++) {
		gsize words = (ferry_ram_block_pages(&ram->blocks[i]) + 63) / 64;

		if (memcmp(ferry_bitmap_block(a, i), ferry_bitmap_block(b, i), words * 8) != 0)
			return FALSE;
	}
	return TRUE;
}

/* More runs than a command's length can say, and blocks without any between those with some. */
static void discard__many_runs_and_blocks__all_come_back(void)
{
	g_autoptr(FerryRam) ram = ferry_ram_new();
	g_autoptr(FerryBitmap) missing = NULL, found = NULL;
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autofree char *long_name = g_strnfill(FERRY_RAM_NAME_MAX, 'n');

	add(ram, "empty", MIB, FERRY_PAGE_SIZE);
	add(ram, long_name, 128 * MIB, FERRY_PAGE_SIZE);
	add(ram, "also empty", MIB, FERRY_PAGE_SIZE);
	add(ram, "last", MIB, FERRY_PAGE_SIZE);
	missing = ferry_bitmap_new(ram);
	found = ferry_bitmap_new(ram);
	for (guint64 page = 0; page < 128 * MIB / FERRY_PAGE_SIZE; page += 2)
		ferry_bitmap_set_run(missing, &(FerryRun){ 1, page, 1 });
	ferry_bitmap_set_run(missing, &(FerryRun){ 3, 255, 1 });
	ferry_postcopy_put_discards(out, ram, missing);
	CU_ASSERT_EQUAL(play_discards(ram, out, found), 6);
	CU_ASSERT(same_bits(missing, found, ram));
}

static void discard__nothing_missing__is_one_command(void)
{
	g_autoptr(FerryRam) pc = pc_new();
	g_autoptr(FerryBitmap) none = ferry_bitmap_new(pc), found = ferry_bitmap_new(pc);
	g_autoptr(GByteArray) out = g_byte_array_new();

	ferry_postcopy_put_discards(out, pc, none);
	CU_ASSERT_EQUAL(play_discards(pc, out, found), 1);
	CU_ASSERT_EQUAL(ferry_bitmap_count(found), 0);
}

static void put_run(GByteArray *data, guint64 start, guint64 length)
{
	ferry_put_be64(data, start);
	ferry_put_be64(data, length);
}

static gboolean discard_is_refused(const FerryRam *ram, const GByteArray *data)
{
	g_autoptr(FerryBitmap) found = ferry_bitmap_new(ram);
	g_autofree guint8 *exact = g_memdup2(data->data, data->len);
	g_autoptr(GError) error = NULL;

	return !ferry_postcopy_get_discard(ram, exact, data->len, note_run, found, &error) &&
	       g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER) &&
	       ferry_bitmap_count(found) == 0;
}

static void discard__run_outside_or_in_parts__refused(void)
{
	static const guint64 wrong[][2] = {
		{ 8 * MIB, 2 * MIB },        { 6 * MIB, 4 * MIB }, { 0, 0 },
		{ 4096, 2 * MIB },           { 0, 4096 },          { 2 * MIB, 0ull - 2 * MIB },
		{ 0ull - 2 * MIB, 2 * MIB },
	};
	static const guint8 head[] = { 0, 1, 'h', 0 };
	g_autoptr(FerryRam) ram = ferry_ram_new();

	add(ram, "h", 8 * MIB, 2 * MIB);
	for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
		g_autoptr(GByteArray) data = g_byte_array_new();

		g_byte_array_append(data, head, sizeof(head));
		put_run(data, wrong[i][0], wrong[i][1]);
		CU_ASSERT(discard_is_refused(ram, data));
	}
}

static void discard__malformed__refused(void)
{
	g_autoptr(FerryRam) pc = pc_new();
	g_autoptr(GByteArray) out = g_byte_array_new(), data = g_byte_array_new();
	static const guint at_fault[] = { 0, 1, 2, 8 };

	put_discard(out, pc, NULL);
	g_byte_array_append(data, out->data + 5, out->len - 5);
	for (guint i = 0; i < G_N_ELEMENTS(at_fault); i++) {
		data->data[at_fault[i]] ^= 1;
		CU_ASSERT(discard_is_refused(pc, data));
		data->data[at_fault[i]] ^= 1;
	}
	while (data->len) {
		g_byte_array_set_size(data, data->len - 1);
		/* Without its only run it is whole. */
		CU_ASSERT(data->len == 9 || discard_is_refused(pc, data));
	}
}

static void widen__page_of_a_huge_page__all_of_it(void)
{
	g_autoptr(FerryRam) ram = ferry_ram_new();
	g_autoptr(FerryBitmap) missing = NULL;

	add(ram, "small", MIB, FERRY_PAGE_SIZE);
	add(ram, "huge", 8 * MIB, 2 * MIB);
	missing = ferry_bitmap_new(ram);
	ferry_bitmap_set_run(missing, &(FerryRun){ 0, 3, 2 });
	ferry_bitmap_set_run(missing, &(FerryRun){ 1, 511, 2 });
	ferry_bitmap_set_run(missing, &(FerryRun){ 1, 2047, 1 });
	ferry_postcopy_widen(missing, ram);
	CU_ASSERT_EQUAL(ferry_bitmap_count(missing), 2 + 3 * 512);
	CU_ASSERT(bit_is_set(missing, 1, 0) && bit_is_set(missing, 1, 1023));
	CU_ASSERT_FALSE(bit_is_set(missing, 1, 1024));
	CU_ASSERT(bit_is_set(missing, 1, 1536));
}

/* ---- the small ones ---- */

static void packaged__wrong_length_or_nothing__refused(void)
{
	const guint8 data[5] = { 0, 0, 0x12, 0x34 }, none[4] = { 0 };
	guint32 length = 7;

	CU_ASSERT_FALSE(ferry_postcopy_get_packaged(data, 3, &length, NULL));
	CU_ASSERT_FALSE(ferry_postcopy_get_packaged(data, 5, &length, NULL));
	CU_ASSERT_FALSE(ferry_postcopy_get_packaged(none, 4, &length, NULL));
	CU_ASSERT_EQUAL(length, 7);
	CU_ASSERT(ferry_postcopy_get_packaged(data, 4, &length, NULL));
	CU_ASSERT_EQUAL(length, 0x1234);
}

static void ask__unknown_block_or_wrong_length__refused(void)
{
	g_autoptr(FerryRam) small = small_new();
	guint block = 7;

	CU_ASSERT_FALSE(ferry_postcopy_get_ask(small, (guint8 *)"", 0, &block, NULL));
	CU_ASSERT_FALSE(ferry_postcopy_get_ask(small, (guint8 *)"\1", 1, &block, NULL));
	CU_ASSERT_FALSE(ferry_postcopy_get_ask(small, (guint8 *)"\1q", 2, &block, NULL));
	CU_ASSERT_FALSE(ferry_postcopy_get_ask(small, (guint8 *)"\1r\0", 3, &block, NULL));
	CU_ASSERT_FALSE(ferry_postcopy_get_ask(small, (guint8 *)"\2r\0", 3, &block, NULL));
	CU_ASSERT_EQUAL(block, 7);
	CU_ASSERT(ferry_postcopy_get_ask(small, (guint8 *)"\1r", 2, &block, NULL));
	CU_ASSERT_EQUAL(block, 0);
}

static void resume_ack__any_other_value__refused(void)
{
	CU_ASSERT(ferry_postcopy_get_resume_ack((guint8 *)"\0\0\0\1", 4, NULL));
	CU_ASSERT_FALSE(ferry_postcopy_get_resume_ack((guint8 *)"\0\0\0\0", 4, NULL));
	CU_ASSERT_FALSE(ferry_postcopy_get_resume_ack((guint8 *)"\0\0\0\1", 3, NULL));
}

static void request__of_the_same_block_again__without_its_name(void)
{
	g_autoptr(FerryRam) ram = ferry_ram_new();
	g_autoptr(GByteArray) out = g_byte_array_new();
	static const guint want[] = { 4 + 14, 4 + 12, 4 + 14, 4 + 12, 4 + 14 };
	static const guint blocks[] = { 1, 1, 0, 0, 1 };
	int last = -1;

	add(ram, "a", MIB, FERRY_PAGE_SIZE);
	add(ram, "b", MIB, FERRY_PAGE_SIZE);
	for (guint i = 0; i < G_N_ELEMENTS(blocks); i++) {
		guint before = out->len;

		ferry_postcopy_put_request(out, ram, &(FerryRun){ blocks[i], i, 1 }, &last);
		CU_ASSERT_EQUAL(out->len - before, want[i]);
	}
}

/* ---- the bitmap ---- */

static guint64 *read_bitmap(const FerryRam *ram, const guint8 *data, size_t len, GError **error)
{
	g_autoptr(FerryStreamReader) reader = ferry_stream_reader_new_for_data(data, len);

	return ferry_postcopy_read_received(ram, 0, reader, error);
}

static void received__as_it_was_put__comes_back_without_padding(void)
{
	g_autoptr(FerryRam) small = small_new();
	g_autoptr(GByteArray) out = g_byte_array_new();
	const guint64 padded[] = { small_words[0], ~0ull };
	g_autofree guint64 *words = NULL;

	ferry_postcopy_put_received(out, small, 0, padded);
	words = read_bitmap(small, out->data + 6, out->len - 6, NULL);
	CU_ASSERT(words && words[0] == small_words[0] && words[1] == 3);
}

static void received__cut_or_bent_frame__refused(void)
{
	g_autoptr(FerryRam) small = small_new();
	g_autoptr(GByteArray) out = g_byte_array_new();
	guint8 *data;
	size_t len;

	ferry_postcopy_put_received(out, small, 0, small_words);
	data = out->data + 6;
	len = out->len - 6;
	for (size_t cut = 0; cut < len; cut++)
		CU_ASSERT_PTR_NULL(read_bitmap(small, data, cut, NULL));
	for (size_t at = 0; at < len; at++) {
		g_autofree guint64 *words = NULL;

		data[at] ^= 1;
		words = read_bitmap(small, data, len, NULL);
		/* The bits themselves are any. */
		CU_ASSERT_EQUAL(words != NULL, at >= 8 && at < len - 8);
		data[at] ^= 1;
	}
}

static CU_TestInfo cases[] = {
	CASE(put__examples_of_protocol_md__same_bytes),
	CASE(advise__same_backing__is_taken),
	CASE(advise__other_backing__refused_with_both),
	CASE(discard__many_runs_and_blocks__all_come_back),
	CASE(discard__nothing_missing__is_one_command),
	CASE(discard__run_outside_or_in_parts__refused),
	CASE(discard__malformed__refused),
	CASE(widen__page_of_a_huge_page__all_of_it),
	CASE(packaged__wrong_length_or_nothing__refused),
	CASE(ask__unknown_block_or_wrong_length__refused),
	CASE(resume_ack__any_other_value__refused),
	CASE(request__of_the_same_block_again__without_its_name),
	CASE(received__as_it_was_put__comes_back_without_padding),
	CASE(received__cut_or_bent_frame__refused),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "postcopy's wire", cases);
}
