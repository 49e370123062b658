/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "sample.h"

/* Reads the command that @bytes begin with; the reader stands at its data. */
static FerryStreamReader *open_command(const void *bytes, size_t len, FerryStreamElement *element)
{
	FerryStreamReader *reader = ferry_stream_reader_new_for_data(bytes, len);

	CU_ASSERT_TRUE(ferry_stream_next(reader, element, NULL));
	CU_ASSERT_EQUAL(element->type, FERRY_SECTION_COMMAND);
	return reader;
}

static gboolean advise_accepted(const char *bytes, size_t len, guint64 *sizes)
{
	FerryStreamElement e = { 0 };
	g_autoptr(FerryStreamReader) r = open_command(bytes, len, &e);

	return ferry_stream_read_advise(r, &e, sizes, NULL);
}
#define ADVISE(s, sizes) advise_accepted(s, sizeof(s) - 1, sizes)

static void advise__as_captured__read_and_others_refused(void)
{
	guint64 sizes = 7;

	CU_ASSERT_FALSE(ADVISE("\x08\0\3\0\x08\0\0\0\0\0\0\x10\0", &sizes));
	CU_ASSERT_FALSE(ADVISE("\x08\0\3\0\x10\0\0\0\0\0\0\x10\0\0\0\0\0\0\x20\0\0", &sizes));
	CU_ASSERT_FALSE(ADVISE("\x08\0\3\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0", &sizes));
	CU_ASSERT_FALSE(ADVISE("\x08\0\3\0\x10\0\0\0\0\0\0\x10\1\0\0\0\0\0\0\x10\0", &sizes));
	CU_ASSERT_EQUAL(sizes, 7);
	CU_ASSERT_TRUE(ADVISE("\x08\0\3\0\x10\0\0\0\0\0\x20\x10\0\0\0\0\0\0\0\x10\0", &sizes));
	CU_ASSERT_EQUAL(sizes, 0x201000);
}

/* As QEMU 7.2 sent it. */
static const char discard[] = "\x08\0\6\0\x19\0\6pc.ram\0\0\0\0\0\2\x45\xf0\0\0\0\0\0\5\xb9\xf0\0";

static void discard__as_captured__read(void)
{
	FerryStreamElement e = { 0 };
	g_autoptr(FerryStreamReader) r = open_command(discard, sizeof(discard) - 1, &e);
	char name[256] = "";
	g_autoptr(GArray) ranges = ferry_stream_read_discard(r, &e, name, NULL);

	CU_ASSERT_STRING_EQUAL(name, "pc.ram");
	CU_ASSERT_EQUAL(ferry_stream_reader_offset(r), sizeof(discard) - 1);
	if (!ranges || ranges->len != 1) {
		CU_FAIL("one range");
		return;
	}
	CU_ASSERT_EQUAL(g_array_index(ranges, FerryByteRange, 0).start, 0x245f000);
	CU_ASSERT_EQUAL(g_array_index(ranges, FerryByteRange, 0).length, 0x5b9f000);
}

static gboolean discard_accepted(const void *bytes, size_t len)
{
	FerryStreamElement e = { 0 };
	g_autoptr(FerryStreamReader) r = open_command(bytes, len, &e);
	char name[256];
	g_autoptr(GArray) ranges = ferry_stream_read_discard(r, &e, name, NULL);

	return ranges != NULL;
}

static void discard__one_byte_changed__is_refused(void)
{
	static const struct {
		guint at;
		guint8 value;
	} bad[] = {
		{ 4, 0x18 },  /* the command's length */
		{ 4, 0x09 },  /* no range */
		{ 4, 0x29 },  /* two, of which one is not there */
		{ 5, 1 },     /* version */
		{ 6, 7 },     /* the name's length: the next is no NUL */
		{ 13, 1 },    /* the NUL */
		{ 20, 0xf1 }, /* start and */
		{ 28, 0xf1 }, /* length are not page-aligned */
		{ 14, 0xff }, /* still no wrap: accepted */
	};
	char copy[sizeof(discard)];

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		memcpy(copy, discard, sizeof(discard));
		copy[bad[i].at] = bad[i].value;
		CU_ASSERT_EQUAL(discard_accepted(copy, sizeof(discard) - 1), bad[i].at == 14);
	}
	memcpy(copy, discard, sizeof(discard));
	memset(copy + 14, 0xff, 6);
	memset(copy + 22, 0xff, 6);
	CU_ASSERT_FALSE(discard_accepted(copy, sizeof(discard) - 1));
	memcpy(copy, discard, sizeof(discard));
	memset(copy + 22, 0, 8);
	CU_ASSERT_FALSE(discard_accepted(copy, sizeof(discard) - 1));
}

static void discard__every_truncation__fails(void)
{
	for (size_t len = 5; len < sizeof(discard) - 1; len++) {
		g_autofree guint8 *cut = g_memdup2(discard, len);

		CU_ASSERT_FALSE(discard_accepted(cut, len));
	}
}

static gboolean package_accepted(const char *bytes, size_t len, guint32 *length)
{
	FerryStreamElement e = { 0 };
	g_autoptr(FerryStreamReader) r = open_command(bytes, len, &e);

	return ferry_stream_read_package_length(r, &e, 0x1000, length, NULL);
}
#define PACKAGE(s, length) package_accepted(s, sizeof(s) - 1, length)

static void package__length_out_of_bounds__is_refused(void)
{
	guint32 length = 7;

	CU_ASSERT_FALSE(PACKAGE("\x08\0\7\0\4\0\0\0\0", &length));
	CU_ASSERT_FALSE(PACKAGE("\x08\0\7\0\4\0\0\x10\1", &length));
	CU_ASSERT_FALSE(PACKAGE("\x08\0\7\0\3\0\0\1", &length));
	CU_ASSERT_FALSE(PACKAGE("\x08\0\7\0\4\0\0\1", &length));
	CU_ASSERT_EQUAL(length, 7);
	CU_ASSERT_TRUE(PACKAGE("\x08\0\7\0\4\0\0\x10\0", &length));
	CU_ASSERT_EQUAL(length, 0x1000);
}

static void bitmap_request__name_and_length__must_agree(void)
{
	static const char good[] = "\x08\0\x0a\0\7\6pc.ram";
	char copy[sizeof(good)], name[256];

	for (guint length = 6; length <= 8; length++) {
		FerryStreamElement e = { 0 };
		g_autoptr(FerryStreamReader) r = NULL;

		memcpy(copy, good, sizeof(good));
		copy[4] = length;
		r = open_command(copy, sizeof(good) - 1, &e);
		CU_ASSERT_EQUAL(ferry_stream_read_bitmap_request(r, &e, name, NULL), length == 7);
		CU_ASSERT_STRING_EQUAL(name, "pc.ram");
	}
}

static void expect(const GByteArray *out, const char *bytes, size_t len)
{
	CU_ASSERT_EQUAL(out->len, len);
	CU_ASSERT_EQUAL(memcmp(out->data, bytes, MIN(len, out->len)), 0);
}
#define EXPECT(out, s) expect(out, s, sizeof(s) - 1)

/* REQ_PAGES_ID and REQ_PAGES as a QEMU 7.2 sent them. */
static void messages__bytes__are_qemus(void)
{
	static const guint64 words[] = { 0x8000000000000005ull, 1 };
	g_autoptr(GByteArray) values = g_byte_array_new();
	g_autoptr(GByteArray) requests = g_byte_array_new();
	g_autoptr(GByteArray) bitmap = g_byte_array_new();

	ferry_return_put_value(values, FERRY_RETURN_SHUT, 0);
	ferry_return_put_value(values, FERRY_RETURN_PONG, 1);
	EXPECT(values, "\0\1\0\4\0\0\0\0\0\2\0\4\0\0\0\1");
	ferry_return_put_request(requests, "pc.ram", 0x5336000, 0x1000);
	ferry_return_put_request(requests, NULL, 0x7fd7000, 0x1000);
	EXPECT(requests, "\0\3\0\x13\0\0\0\0\5\x33\x60\0\0\0\x10\0\6pc.ram"
			 "\0\4\0\x0c\0\0\0\0\7\xfd\x70\0\0\0\x10\0");
	ferry_return_put_bitmap(bitmap, "m", words, G_N_ELEMENTS(words));
	EXPECT(bitmap, "\0\5\0\2\1m"
		       "\0\0\0\0\0\0\0\x10"
		       "\5\0\0\0\0\0\0\x80\1\0\0\0\0\0\0\0"
		       "\1\x23\x45\x67\x89\xab\xcd\xef");
}

static CU_TestInfo cases[] = {
	CASE(advise__as_captured__read_and_others_refused),
	CASE(discard__as_captured__read),
	CASE(discard__one_byte_changed__is_refused),
	CASE(discard__every_truncation__fails),
	CASE(package__length_out_of_bounds__is_refused),
	CASE(bitmap_request__name_and_length__must_agree),
	CASE(messages__bytes__are_qemus),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "stream postcopy", cases);
}
