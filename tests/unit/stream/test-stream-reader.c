/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "sample.h"

static const guint8 counting[] = { 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09,
				   0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10, 0x11, 0x12 };

static void reader__integers_at_every_chunk_size__big_endian_and_offset_counts(void)
{
	for (size_t chunk = 1; chunk <= sizeof(counting); chunk++) {
		SampleSource source = { counting, sizeof(counting), .chunk = chunk };
		g_autoptr(FerryStreamReader)
			r = ferry_stream_reader_new(sample_source_read, &source);

		CU_ASSERT_EQUAL(ferry_stream_reader_peek(r), 0x01);
		CU_ASSERT_EQUAL(ferry_stream_reader_u8(r), 0x01);
		CU_ASSERT_EQUAL(ferry_stream_reader_be16(r), 0x0203);
		CU_ASSERT_EQUAL(ferry_stream_reader_offset(r), 3);
		CU_ASSERT_EQUAL(ferry_stream_reader_be32(r), 0x04050607);
		CU_ASSERT_EQUAL(ferry_stream_reader_be64(r), 0x08090a0b0c0d0e0full);
		ferry_stream_reader_skip(r, 2);
		CU_ASSERT_EQUAL(ferry_stream_reader_offset(r), 17);
		CU_ASSERT_EQUAL(ferry_stream_reader_peek(r), 0x12);
		CU_ASSERT_EQUAL(ferry_stream_reader_u8(r), 0x12);
		CU_ASSERT_EQUAL(ferry_stream_reader_peek(r), -1);
		CU_ASSERT_TRUE(ferry_stream_reader_check(r, NULL));
	}
}

static void reader__bytes_larger_than_its_buffer__arrive_whole(void)
{
	size_t len = 1 << 20;
	g_autofree guint8 *data = g_malloc(len), *out = g_malloc0(len);

	for (size_t i = 0; i < len; i++)
		data[i] = i * 31 >> 4;
	for (size_t chunk = 1000; chunk <= len; chunk *= 9) {
		SampleSource source = { data, len, .chunk = chunk };
		g_autoptr(FerryStreamReader)
			r = ferry_stream_reader_new(sample_source_read, &source);

		CU_ASSERT_EQUAL(ferry_stream_reader_u8(r), data[0]);
		ferry_stream_reader_bytes(r, out + 1, len - 2);
		CU_ASSERT_EQUAL(memcmp(out + 1, data + 1, len - 2), 0);
		CU_ASSERT_EQUAL(ferry_stream_reader_u8(r), data[len - 1]);
		CU_ASSERT_EQUAL(ferry_stream_reader_offset(r), len);
	}
}

static void reader__small_integers__cost_few_reads(void)
{
	static guint8 data[400 << 10];
	SampleSource source = { data, sizeof(data), .chunk = sizeof(data) };
	g_autoptr(FerryStreamReader) r = ferry_stream_reader_new(sample_source_read, &source);

	for (size_t i = 0; i < sizeof(data) / 8; i++)
		ferry_stream_reader_be64(r);
	CU_ASSERT_TRUE(ferry_stream_reader_check(r, NULL));
	CU_ASSERT(source.reads <= 8);
}

static void reader__some__gives_what_is_there(void)
{
	SampleSource source = { counting, sizeof(counting), .chunk = 5 };
	g_autoptr(FerryStreamReader) r = ferry_stream_reader_new(sample_source_read, &source);
	guint8 out[100];

	CU_ASSERT_EQUAL(ferry_stream_reader_u8(r), 1);
	CU_ASSERT_EQUAL(ferry_stream_reader_some(r, out, sizeof(out)), 4);
	CU_ASSERT_EQUAL(out[3], 5);
	CU_ASSERT_EQUAL(ferry_stream_reader_some(r, out, 2), 2);
	CU_ASSERT_EQUAL(out[1], 7);
	ferry_stream_reader_skip(r, 11);
	CU_ASSERT_EQUAL(ferry_stream_reader_some(r, out, sizeof(out)), 0);
	CU_ASSERT_TRUE(ferry_stream_reader_check(r, NULL));
}

static void reader__failure__is_sticky_and_names_the_offset(void)
{
	SampleSource source = { counting, 5, .chunk = 3 };
	g_autoptr(FerryStreamReader) r = ferry_stream_reader_new(sample_source_read, &source);
	g_autoptr(GError) error = NULL, again = NULL;
	guint8 out[4] = { 1, 2, 3, 4 };

	ferry_stream_reader_be32(r);
	CU_ASSERT_EQUAL(ferry_stream_reader_be32(r), 0);
	CU_ASSERT_FALSE(ferry_stream_reader_check(r, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_LINK));
	CU_ASSERT(error && strstr(error->message, "offset 5"));
	CU_ASSERT_EQUAL(ferry_stream_reader_u8(r), 0);
	ferry_stream_reader_bytes(r, out, sizeof(out));
	CU_ASSERT_EQUAL(ferry_load_be32(out), 0);
	ferry_stream_reader_fail(r, "a later failure");
	CU_ASSERT_FALSE(ferry_stream_reader_read_exactly(r, out, 1, &again));
	CU_ASSERT(error && again && g_str_equal(error->message, again->message));
}

static void reader__link_error__is_passed_through(void)
{
	SampleSource source = { counting, 3, .chunk = 3, .error_at_end = TRUE };
	g_autoptr(FerryStreamReader) r = ferry_stream_reader_new(sample_source_read, &source);
	g_autoptr(GError) error = NULL;

	ferry_stream_reader_skip(r, 3);
	CU_ASSERT_TRUE(ferry_stream_reader_check(r, NULL));
	CU_ASSERT_EQUAL(ferry_stream_reader_peek(r), -1);
	CU_ASSERT_FALSE(ferry_stream_reader_check(r, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_CANCELLED));
	CU_ASSERT(error && strstr(error->message, "the link was cut"));
}

static void reader__peek_ahead_at_every_chunk_size__sees_the_bytes_and_consumes_none(void)
{
	for (size_t chunk = 1; chunk <= sizeof(counting); chunk++) {
		SampleSource source = { counting, sizeof(counting), .chunk = chunk };
		g_autoptr(FerryStreamReader)
			r = ferry_stream_reader_new(sample_source_read, &source);

		ferry_stream_reader_skip(r, 3);
		CU_ASSERT_EQUAL(ferry_stream_reader_peek_at(r, 5), 0x09);
		CU_ASSERT_EQUAL(ferry_stream_reader_peek_at(r, 0), 0x04);
		CU_ASSERT_EQUAL(ferry_stream_reader_peek_at(r, 14), 0x12);
		CU_ASSERT_EQUAL(ferry_stream_reader_peek_at(r, 15), -1);
		CU_ASSERT_EQUAL(ferry_stream_reader_offset(r), 3);
		CU_ASSERT_EQUAL(ferry_stream_reader_be32(r), 0x04050607);
		CU_ASSERT_TRUE(ferry_stream_reader_check(r, NULL));
	}
}

static void reader__skip_beyond_the_end__fails(void)
{
	g_autoptr(FerryStreamReader)
		r = ferry_stream_reader_new_for_data(counting, sizeof(counting));
	g_autoptr(GError) error = NULL;

	ferry_stream_reader_skip(r, G_MAXUINT64);
	CU_ASSERT_FALSE(ferry_stream_reader_check(r, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_STREAM));
}

static void reader__name__terminated_and_without_nul(void)
{
	guint8 longest[257] = { 255 };
	char name[256];
	g_autoptr(FerryStreamReader) r = NULL, with_nul = NULL;

	memset(longest + 1, 'x', 255);
	r = ferry_stream_reader_new_for_data(longest, 256);
	ferry_stream_reader_name(r, name);
	CU_ASSERT_EQUAL(strlen(name), 255);
	CU_ASSERT_TRUE(ferry_stream_reader_check(r, NULL));

	with_nul = ferry_stream_reader_new_for_data("\3a\0b", 4);
	ferry_stream_reader_name(with_nul, name);
	CU_ASSERT_STRING_EQUAL(name, "");
	CU_ASSERT_FALSE(ferry_stream_reader_check(with_nul, NULL));
}

static CU_TestInfo cases[] = {
	CASE(reader__integers_at_every_chunk_size__big_endian_and_offset_counts),
	CASE(reader__bytes_larger_than_its_buffer__arrive_whole),
	CASE(reader__small_integers__cost_few_reads),
	CASE(reader__some__gives_what_is_there),
	CASE(reader__failure__is_sticky_and_names_the_offset),
	CASE(reader__link_error__is_passed_through),
	CASE(reader__peek_ahead_at_every_chunk_size__sees_the_bytes_and_consumes_none),
	CASE(reader__skip_beyond_the_end__fails),
	CASE(reader__name__terminated_and_without_nul),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "stream reader", cases);
}
