/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "sample.h"

#define LIST                                                                                       \
	"\0\0\0\0\0\0\x30\4"                                                                       \
	"\1a\0\0\0\0\0\0\x20\0"                                                                    \
	"\1b\0\0\0\0\0\0\x10\0"

/* Runs the items of @data to its EOS; returns how many there were, or -1 with @message set. */
static int items(const char *data, size_t len, gboolean addresses, char **message)
{
	g_autoptr(FerryStreamReader) r = ferry_stream_reader_new_for_data(data, len);
	g_auto(FerryRamReader) ram = { .addresses = addresses };
	g_autoptr(GError) error = NULL;
	FerryRamItem item = { 0 };
	int n = 0;

	do {
		if (!ferry_ram_reader_next(&ram, r, &item, &error)) {
			*message = g_strdup(error->message);
			return -1;
		}
		n++;
		if (item.type == FERRY_RAM_ITEM_PAGE)
			ferry_stream_reader_skip(r, FERRY_PAGE_SIZE);
	} while (item.type != FERRY_RAM_ITEM_END);
	return n;
}

static void assert_refused(const char *data, size_t len, const char *why)
{
	g_autofree char *message = NULL;

	CU_ASSERT_EQUAL(items(data, len, FALSE, &message), -1);
	if (message && !strstr(message, why))
		g_printerr("# expected \"%s\" in \"%s\"\n", why, message);
	CU_ASSERT(message && strstr(message, why));
}
#define REFUSED(s, why) assert_refused(s, sizeof(s) - 1, why)

static void ram__list__blocks_in_order(void)
{
	static const char data[] = LIST "\0\0\0\0\0\0\0\x10";
	g_autoptr(FerryStreamReader) r = ferry_stream_reader_new_for_data(data, sizeof(data) - 1);
	g_auto(FerryRamReader) ram = { 0 };
	FerryRamItem item = { 0 };

	CU_ASSERT_TRUE(ferry_ram_reader_next(&ram, r, &item, NULL));
	CU_ASSERT_EQUAL(item.type, FERRY_RAM_ITEM_LIST);
	if (!ram.blocks || ram.blocks->len != 2) {
		CU_FAIL("two blocks");
		return;
	}
	CU_ASSERT_STRING_EQUAL(g_array_index(ram.blocks, FerryStreamRamBlock, 1).name, "b");
	CU_ASSERT_EQUAL(g_array_index(ram.blocks, FerryStreamRamBlock, 0).size, 0x2000);
	CU_ASSERT_TRUE(ferry_ram_reader_next(&ram, r, &item, NULL));
	CU_ASSERT_EQUAL(item.type, FERRY_RAM_ITEM_END);
}

static void ram__list_with_addresses__needs_the_flag(void)
{
	static const char data[] = "\0\0\0\0\0\0\x10\4"
				   "\1a\0\0\0\0\0\0\x10\0"
				   "\0\0\0\0\xff\xfc\0\0"
				   "\0\0\0\0\0\0\0\x10";
	g_autofree char *message = NULL;

	CU_ASSERT_EQUAL(items(data, sizeof(data) - 1, TRUE, &message), 2);
	CU_ASSERT_EQUAL(items(data, sizeof(data) - 1, FALSE, &message), -1);
}

static void ram__bad_list__is_refused(void)
{
	REFUSED("\0\0\0\0\0\0\x10\4"
		"\1a\0\0\0\0\0\0\x20\0",
		"left of the total");
	REFUSED("\0\0\0\0\0\0\x20\4"
		"\1a\0\0\0\0\0\0\x10\0"
		"\1a\0\0\0\0\0\0\x10\0",
		"twice");
	REFUSED("\0\0\0\0\0\0\x10\4"
		"\1a\0\0\0\0\0\0\0\0",
		"positive multiple");
	REFUSED("\0\0\0\0\0\0\x10\4"
		"\1a\0\0\0\0\0\0\x10\1",
		"positive multiple");
	REFUSED("\0\0\0\0\0\0\x10\4"
		"\0\0\0\0\0\0\0\x10\0",
		"has no name");
	REFUSED(LIST LIST, "second list");
	REFUSED("\xff\xff\xff\xff\xff\xff\xf0\4"
		"\1a\0\0\0\0\0\0\x10\0",
		"cut short");
}

static void ram__too_many_blocks__is_refused(void)
{
	g_autoptr(GByteArray) data = g_byte_array_new();

	ferry_put_be64(data, (guint64)5000 << FERRY_PAGE_SHIFT | FERRY_RAM_MEM_SIZE);
	for (guint i = 0; i < 5000; i++) {
		g_autofree char *name = g_strdup_printf("%05u", i);

		ferry_put_u8(data, 5);
		g_byte_array_append(data, (const guint8 *)name, 5);
		ferry_put_be64(data, FERRY_PAGE_SIZE);
	}
	assert_refused((const char *)data->data, data->len, "more than 4096");
}

static void ram__zero_pages_and_continue__name_the_block(void)
{
	static const char data[] = LIST "\0\0\0\0\0\0\x10\2"
					"\1a\0"
					"\0\0\0\0\0\0\0\x22\0"
					"\0\0\0\0\0\0\0\2"
					"\1b\0"
					"\0\0\0\0\0\0\0\x10";
	static const FerryRamItem expected[] = {
		{ FERRY_RAM_ITEM_LIST, 0, 0 }, { FERRY_RAM_ITEM_ZERO, 0, 0x1000 },
		{ FERRY_RAM_ITEM_ZERO, 0, 0 }, { FERRY_RAM_ITEM_ZERO, 1, 0 },
		{ FERRY_RAM_ITEM_END, 0, 0 },
	};
	g_autoptr(FerryStreamReader) r = ferry_stream_reader_new_for_data(data, sizeof(data) - 1);
	g_auto(FerryRamReader) ram = { 0 };

	for (guint i = 0; i < G_N_ELEMENTS(expected); i++) {
		FerryRamItem item = { 0 };

		CU_ASSERT_TRUE(ferry_ram_reader_next(&ram, r, &item, NULL));
		CU_ASSERT_EQUAL(item.type, expected[i].type);
		CU_ASSERT_EQUAL(item.block, expected[i].block);
		CU_ASSERT_EQUAL(item.offset, expected[i].offset);
	}
}

static void ram__bad_page__is_refused(void)
{
	REFUSED("\0\0\0\0\0\0\0\2\1a\0", "before the list");
	REFUSED(LIST "\0\0\0\0\0\0\0\x22\0", "does not name");
	REFUSED(LIST "\0\0\0\0\0\0\0\2\1c\0", "not in the list");
	REFUSED(LIST "\0\0\0\0\0\0\x20\2\1a\0", "has 0x2000 bytes");
	REFUSED(LIST "\xff\xff\xff\xff\xff\xff\xf0\2\1a\0", "has 0x2000 bytes");
	REFUSED(LIST "\0\0\0\0\0\0\0\2\1a\1", "other than zero");
}

static void ram__encoding_that_needs_state__is_refused_by_name(void)
{
	REFUSED(LIST "\0\0\0\0\0\0\0\x40\1a\1\0\1", "xbzrle");
	REFUSED(LIST "\0\0\0\0\0\0\0\x80", "rdma hook");
	REFUSED(LIST "\0\0\0\0\0\0\1\0", "compressed page");
	REFUSED(LIST "\0\0\0\0\0\0\2\0", "multifd");
	REFUSED(LIST "\0\0\0\0\0\0\4\0", "unknown flags 0x400");
	REFUSED(LIST "\0\0\0\0\0\0\0\x0a\1a\0", "unknown flags 0x00a");
	REFUSED(LIST "\0\0\0\0\0\0\0\0", "unknown flags 0x000");
	REFUSED(LIST "\0\0\0\0\0\0\x10\x10", "unknown flags");
	REFUSED(LIST "\0\0\0\0\0\0\0\x30", "unknown flags");
}

static void ram__encodings_that_the_caller_takes__have_a_length(void)
{
	static const char data[] = LIST "\0\0\0\0\0\0\x10\x40"
					"\1a\1\0\3xyz"
					"\0\0\0\0\0\0\1\x20"
					"\0\0\0\2xy"
					"\0\0\0\0\0\0\0\x60\1\x10\0";
	static const FerryRamItem expected[] = {
		{ FERRY_RAM_ITEM_LIST },
		{ FERRY_RAM_ITEM_XBZRLE, 0, 0x1000, 3 },
		{ FERRY_RAM_ITEM_COMPRESSED, 0, 0, 2 },
		{ FERRY_RAM_ITEM_XBZRLE, 0, 0, FERRY_PAGE_SIZE },
	};
	g_autoptr(FerryStreamReader) r = ferry_stream_reader_new_for_data(data, sizeof(data) - 1);
	g_auto(FerryRamReader) ram = { .encodings = TRUE };

	for (guint i = 0; i < G_N_ELEMENTS(expected); i++) {
		FerryRamItem item = { 0 };

		CU_ASSERT_TRUE(ferry_ram_reader_next(&ram, r, &item, NULL));
		CU_ASSERT_EQUAL(item.type, expected[i].type);
		CU_ASSERT_EQUAL(item.offset, expected[i].offset);
		CU_ASSERT_EQUAL(item.length, expected[i].length);
		if (i < 3)
			ferry_stream_reader_skip(r, item.length);
	}
}

static void ram__bad_encoding__is_refused(void)
{
	static const struct {
		const char *data;
		size_t len;
		const char *why;
	} bad[] = {
#define BAD(data, why) { LIST data, sizeof(LIST data) - 1, why }
		BAD("\0\0\0\0\0\0\0\x40\1a\2\0\1x", "other than xbzrle"),
		BAD("\0\0\0\0\0\0\0\x40\1a\1\0\0", "0 bytes, not 1 to 4096"),
		BAD("\0\0\0\0\0\0\0\x40\1a\1\x10\1", "4097 bytes"),
		BAD("\0\0\0\0\0\0\0\x40\1a\1\x10", "cut short"),
		BAD("\0\0\0\0\0\0\x20\x40\1a\1\0\1x", "has 0x2000 bytes"),
		BAD("\0\0\0\0\0\0\1\0\1a\0\0\x11\1", "4353 bytes"),
		BAD("\0\0\0\0\0\0\1\0\1a\xff\xff\xff\xff", "not 1 to 4352"),
		BAD("\0\0\0\0\0\0\1\0\1a\0\0\0\0", "0 bytes"),
		BAD("\0\0\0\0\0\0\1\x40\1a\0\0\0\1", "compressed"),
		BAD("\0\0\0\0\0\0\0\x48\1a\0\0\0\1", "xbzrle"),
	};

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(FerryStreamReader)
			r = ferry_stream_reader_new_for_data(bad[i].data, bad[i].len);
		g_auto(FerryRamReader) ram = { .encodings = TRUE };
		g_autoptr(GError) error = NULL;
		FerryRamItem item = { 0 };

		CU_ASSERT_TRUE(ferry_ram_reader_next(&ram, r, &item, NULL));
		CU_ASSERT_FALSE(ferry_ram_reader_next(&ram, r, &item, &error));
		if (error && !strstr(error->message, bad[i].why))
			g_printerr("# case %u: %s\n", i, error->message);
		CU_ASSERT(error && strstr(error->message, bad[i].why));
	}
}

static CU_TestInfo cases[] = {
	CASE(ram__list__blocks_in_order),
	CASE(ram__list_with_addresses__needs_the_flag),
	CASE(ram__bad_list__is_refused),
	CASE(ram__too_many_blocks__is_refused),
	CASE(ram__zero_pages_and_continue__name_the_block),
	CASE(ram__bad_page__is_refused),
	CASE(ram__encoding_that_needs_state__is_refused_by_name),
	CASE(ram__encodings_that_the_caller_takes__have_a_length),
	CASE(ram__bad_encoding__is_refused),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "stream ram section", cases);
}
