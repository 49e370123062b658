/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "sample.h"

/* The first bytes of a migration of a pc by QEMU 7.2, as captured. */
static const char captured[] = "\x51\x45\x56\x4d\0\0\0\3\7\0\0\0\x0dpc-i440fx-7.2"
			       "\1\0\0\0\2\3ram\0\0\0\0\0\0\0\4";

static void elements__begin_of_a_captured_stream__read_and_written_alike(void)
{
	size_t len = sizeof(captured) - 1;
	g_autoptr(FerryStreamReader) r = ferry_stream_reader_new_for_data(captured, len);
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_auto(FerryStreamConfiguration) config = { 0 };
	FerryStreamElement e = { 0 };

	CU_ASSERT_TRUE(ferry_stream_read_header(r, NULL));
	CU_ASSERT_TRUE(ferry_stream_read_configuration(r, &config, NULL));
	CU_ASSERT_STRING_EQUAL(config.machine, "pc-i440fx-7.2");
	CU_ASSERT_EQUAL(config.capabilities ? config.capabilities->len : 99, 0);
	CU_ASSERT_TRUE(ferry_stream_next(r, &e, NULL));
	CU_ASSERT_EQUAL(e.type, FERRY_SECTION_START);
	CU_ASSERT_EQUAL(e.offset, 26);
	CU_ASSERT_EQUAL(e.section_id, 2);
	CU_ASSERT_STRING_EQUAL(e.name, "ram");
	CU_ASSERT_EQUAL(e.version_id, 4);

	ferry_stream_put_header(out);
	ferry_stream_put_configuration(out, config.machine, NULL);
	ferry_stream_put_section(out, FERRY_SECTION_START, 2, "ram", 0, 4);
	CU_ASSERT_EQUAL(out->len, len);
	CU_ASSERT_EQUAL(memcmp(out->data, captured, MIN(len, out->len)), 0);
}

static void elements__configuration_subsections__all_three_are_known(void)
{
	static const char data[] = "\7\0\0\0\1m"
				   "\5\x1a"
				   "configuration/capabilities\0\0\0\1\0\0\0\2\1a\2bc"
				   "\5\x12"
				   "configuration/uuid\0\0\0\1"
				   "0123456789abcdef"
				   "\5\x1e"
				   "configuration/target-page-bits\0\0\0\1\0\0\0\x0c";
	g_autoptr(FerryStreamReader) r = ferry_stream_reader_new_for_data(data, sizeof(data) - 1);
	g_auto(FerryStreamConfiguration) config = { 0 };

	CU_ASSERT_TRUE(ferry_stream_read_configuration(r, &config, NULL));
	if (!config.capabilities || config.capabilities->len != 2) {
		CU_FAIL("capabilities");
		return;
	}
	CU_ASSERT_STRING_EQUAL(config.capabilities->pdata[1], "bc");
	CU_ASSERT_TRUE(config.has_uuid);
	CU_ASSERT_EQUAL(memcmp(config.uuid, "0123456789abcdef", 16), 0);
	CU_ASSERT_EQUAL(config.target_page_bits, 12);
}

static gboolean configuration_accepted(const char *data, size_t len)
{
	g_autoptr(FerryStreamReader) r = ferry_stream_reader_new_for_data(data, len);
	g_auto(FerryStreamConfiguration) config = { 0 };

	return ferry_stream_read_configuration(r, &config, NULL);
}
#define ACCEPTED(s) configuration_accepted(s, sizeof(s) - 1)

static void elements__bad_configuration__is_refused(void)
{
	CU_ASSERT_TRUE(ACCEPTED("\7\0\0\0\0"));
	CU_ASSERT_FALSE(ACCEPTED("\1\0\0\0\0"));
	CU_ASSERT_FALSE(ACCEPTED("\7\xff\xff\xff\xff"));
	CU_ASSERT_FALSE(ACCEPTED("\7\0\0\0\3a\0b"));
	CU_ASSERT_FALSE(ACCEPTED("\7\0\0\0\0\5\3new\0\0\0\1"));
	CU_ASSERT_FALSE(ACCEPTED("\7\0\0\0\0\5\x1a"
				 "configuration/capabilities\0\0\0\1\xff\0\0\0"));
	CU_ASSERT_FALSE(ACCEPTED("\7\0\0\0\0\5\x1a"
				 "configuration/capabilities\0\0\0\2\0\0\0\0"));
	CU_ASSERT_FALSE(ACCEPTED("\7\0\0\0\0\5\x1a"
				 "configuration/capabilities\0\0\0\1\0\0\0\0"
				 "\5\x1a"
				 "configuration/capabilities\0\0\0\1\0\0\0\0"));
}

static void elements__clean_end__is_not_an_eof_byte(void)
{
	g_autoptr(FerryStreamReader) r = ferry_stream_reader_new_for_data("\0", 1);
	FerryStreamElement e = { 0 };

	CU_ASSERT_TRUE(ferry_stream_next(r, &e, NULL));
	CU_ASSERT_EQUAL(e.type, FERRY_SECTION_EOF);
	CU_ASSERT_EQUAL(e.length, 0);
	CU_ASSERT_TRUE(ferry_stream_next(r, &e, NULL));
	CU_ASSERT_EQUAL(e.type, FERRY_SECTION_EOF);
	CU_ASSERT_EQUAL(e.length, 1);
}

static gboolean element_accepted(const char *data, size_t len)
{
	g_autoptr(FerryStreamReader) r = ferry_stream_reader_new_for_data(data, len);
	FerryStreamElement e = { 0 };

	return ferry_stream_next(r, &e, NULL);
}

static void elements__bad_element__is_refused(void)
{
	CU_ASSERT_TRUE(element_accepted("\6\4\0\0\0", 5));
	CU_ASSERT_FALSE(element_accepted("\6\4\0\0\1", 5));
	CU_ASSERT_FALSE(element_accepted("\x09", 1));
	CU_ASSERT_FALSE(element_accepted("\x7e\0\0\0\2", 5));
	CU_ASSERT_FALSE(element_accepted("\4\0\0\0\1\0\0\0\0\0\0\0\0\1", 14));
	CU_ASSERT_FALSE(element_accepted("\2\0\0\0", 4));
}

static void elements__footer_of_another_section__is_refused(void)
{
	g_autoptr(FerryStreamReader) good = ferry_stream_reader_new_for_data("\x7e\0\0\0\2", 5);
	g_autoptr(FerryStreamReader) other = ferry_stream_reader_new_for_data("\x7e\0\0\0\3", 5);
	g_autoptr(FerryStreamReader) none = ferry_stream_reader_new_for_data("\x04\0\0\0\2", 5);
	g_autoptr(GError) error = NULL;

	CU_ASSERT_TRUE(ferry_stream_read_footer(good, 2, NULL));
	CU_ASSERT_FALSE(ferry_stream_read_footer(other, 2, &error));
	CU_ASSERT(error && strstr(error->message, "section 3") &&
		  strstr(error->message, "section 2"));
	CU_ASSERT_FALSE(ferry_stream_read_footer(none, 2, NULL));
}

static void stream__whole_sample_in_every_chunk_size__parses(void)
{
	g_autoptr(GByteArray) stream = sample_stream();

	for (size_t chunk = 1; chunk <= stream->len; chunk = chunk * 3 + 1) {
		SampleSource source = { stream->data, stream->len, .chunk = chunk };
		g_autoptr(FerryStreamReader)
			r = ferry_stream_reader_new(sample_source_read, &source);
		g_autoptr(GError) error = NULL;
		guint pages;

		CU_ASSERT_TRUE(sample_parse(r, &pages, &error));
		CU_ASSERT_EQUAL(pages, 3);
		CU_ASSERT_EQUAL(ferry_stream_reader_offset(r), stream->len);
	}
}

/* A cut right after a footer, a command or the EOF byte is clean for the reader; all others must
 * fail. */
static void stream__cut_at_every_byte__fails_or_ends_between_elements(void)
{
	g_autoptr(GByteArray) stream = sample_stream();
	guint clean = 0;

	for (size_t len = 0; len < stream->len; len++) {
		g_autofree guint8 *cut = g_memdup2(stream->data, len);
		g_autoptr(FerryStreamReader) r = ferry_stream_reader_new_for_data(cut, len);
		g_autoptr(GError) error = NULL;
		guint pages;

		if (sample_parse(r, &pages, &error)) {
			clean++;
			CU_ASSERT_EQUAL(ferry_stream_reader_offset(r), len);
		} else {
			CU_ASSERT_PTR_NOT_NULL(error);
		}
	}
	/* configuration, its capabilities, command, START, PART, END, three devices, EOF */
	CU_ASSERT_EQUAL(clean, 10);
}

static void stream__flipped_bits__never_crash(void)
{
	g_autoptr(GByteArray) stream = sample_stream();
	g_autoptr(GRand) rand = g_rand_new_with_seed(7);

	for (guint round = 0; round < 20000; round++) {
		g_autofree guint8 *data = g_memdup2(stream->data, stream->len);
		g_autoptr(FerryStreamReader)
			r = ferry_stream_reader_new_for_data(data, stream->len);
		g_autoptr(GError) error = NULL;
		guint pages;

		for (gint n = g_rand_int_range(rand, 1, 6); n; n--) {
			guint32 at = g_rand_int_range(rand, 0, stream->len);

			/* page contents are not looked at: aim at the rest */
			if (at > 180 && at < stream->len - 2000)
				at = g_rand_int_range(rand, 0, 180);
			data[at] ^= 1u << g_rand_int_range(rand, 0, 8);
		}
		if (!sample_parse(r, &pages, &error))
			CU_ASSERT_PTR_NOT_NULL(error);
	}
}

static CU_TestInfo cases[] = {
	CASE(elements__begin_of_a_captured_stream__read_and_written_alike),
	CASE(elements__configuration_subsections__all_three_are_known),
	CASE(elements__bad_configuration__is_refused),
	CASE(elements__clean_end__is_not_an_eof_byte),
	CASE(elements__bad_element__is_refused),
	CASE(elements__footer_of_another_section__is_refused),
	CASE(stream__whole_sample_in_every_chunk_size__parses),
	CASE(stream__cut_at_every_byte__fails_or_ends_between_elements),
	CASE(stream__flipped_bits__never_crash),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "stream elements", cases);
}
