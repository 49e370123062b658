/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "sample.h"

/* The devices and EOF of the sample, without the description. */
static size_t sections_length(const GByteArray *tail)
{
	return tail->len - strlen(sample_json()) - 5;
}

static void find_end__every_prefix__only_the_whole_is_an_end(void)
{
	g_autoptr(GByteArray) tail = sample_tail();

	for (size_t len = 0; len < tail->len; len++)
		CU_ASSERT_EQUAL(ferry_stream_find_end(tail->data, len), 0);
	CU_ASSERT_EQUAL(ferry_stream_find_end(tail->data, tail->len), tail->len);
	g_byte_array_append(tail, (const guint8 *)"}", 1);
	CU_ASSERT_EQUAL(ferry_stream_find_end(tail->data, tail->len), 0);
}

/* Lengths whose four bytes hold a NUL in every place, and none at all. */
static void find_end__every_shape_of_length__is_found(void)
{
	static const guint32 lengths[] = { 2,         0x100,     0x10203,  0x10000,
					   0x1000000, 0x1010101, 0x1010001 };

	for (guint i = 0; i < G_N_ELEMENTS(lengths); i++) {
		g_autoptr(GByteArray) tail = g_byte_array_new();
		g_autofree char *json = g_malloc(lengths[i]);

		memset(json, ' ', lengths[i]);
		json[0] = '{';
		json[lengths[i] - 1] = '}';
		ferry_put_be32(tail, 0x41424300);
		ferry_stream_put_vmdesc(tail, json, lengths[i]);
		CU_ASSERT_EQUAL(ferry_stream_find_end(tail->data, tail->len), tail->len);
		tail->data[3] = 1;
		CU_ASSERT_EQUAL(ferry_stream_find_end(tail->data, tail->len), 0);
	}
}

static void assert_sample_sections(const GArray *sections)
{
	static const FerryDeviceSection expected[] = {
		{ "timer", 0, 2, 0, 0, 19 + 14 + 5 },
		{ "uart", 7, 3, 9, 0, 18 + 23 + 5 },
		{ "slirp", 0, 4, 5, 0, 19 + 4 + 5 },
	};
	guint64 at = 0;

	if (!sections || sections->len != 3) {
		CU_FAIL("three sections");
		return;
	}
	for (guint i = 0; i < 3; i++) {
		const FerryDeviceSection *s = &g_array_index(sections, FerryDeviceSection, i);

		CU_ASSERT_STRING_EQUAL(s->name, expected[i].name);
		CU_ASSERT_EQUAL(s->instance_id, expected[i].instance_id);
		CU_ASSERT_EQUAL(s->version_id, expected[i].version_id);
		CU_ASSERT_EQUAL(s->section_id, expected[i].section_id);
		CU_ASSERT_EQUAL(s->offset, at);
		CU_ASSERT_EQUAL(s->length, expected[i].length);
		at += s->length;
	}
}

static void delimit__sample_with_subsections_and_arrays__exact(void)
{
	g_autoptr(GByteArray) tail = sample_tail();
	g_autoptr(GArray) sections = NULL;

	sections = ferry_stream_delimit_devices(tail->data, sections_length(tail), sample_json(),
						strlen(sample_json()), NULL);
	assert_sample_sections(sections);
}

static void scan__sample__same_cut_as_the_description(void)
{
	g_autoptr(GByteArray) tail = sample_tail();
	g_autoptr(GArray) sections = ferry_stream_scan_devices(tail->data, sections_length(tail));

	assert_sample_sections(sections);
}

static void scan__footer_bytes_inside_a_body__are_not_a_cut(void)
{
	g_autoptr(GByteArray) data = g_byte_array_new();
	g_autoptr(GArray) sections = NULL;

	ferry_stream_put_section(data, FERRY_SECTION_FULL, 3, "a", 0, 1);
	ferry_stream_put_footer(data, 3);
	ferry_put_be32(data, 0);
	ferry_stream_put_footer(data, 3);
	ferry_put_u8(data, 0);
	sections = ferry_stream_scan_devices(data->data, data->len);
	CU_ASSERT(sections && sections->len == 1);
	CU_ASSERT(sections &&
		  g_array_index(sections, FerryDeviceSection, 0).length == data->len - 1);
}

static void devices__cut_at_every_byte__are_refused(void)
{
	g_autoptr(GByteArray) tail = sample_tail();

	for (size_t len = 0; len < sections_length(tail); len++) {
		g_autofree guint8 *cut = g_memdup2(tail->data, len);
		g_autoptr(GError) error = NULL;
		g_autoptr(GArray) walked = ferry_stream_delimit_devices(
			cut, len, sample_json(), strlen(sample_json()), &error);
		g_autoptr(GArray) scanned = ferry_stream_scan_devices(cut, len);

		CU_ASSERT_PTR_NULL(walked);
		CU_ASSERT_PTR_NOT_NULL(error);
		CU_ASSERT_PTR_NULL(scanned);
	}
}

static void json__cut_at_every_byte__is_refused(void)
{
	g_autoptr(GByteArray) tail = sample_tail();

	for (size_t len = 0; len < strlen(sample_json()); len++) {
		g_autofree char *cut = g_memdup2(sample_json(), len);
		g_autoptr(GError) error = NULL;
		g_autoptr(GArray) sections = ferry_stream_delimit_devices(
			tail->data, sections_length(tail), cut, len, &error);

		CU_ASSERT_PTR_NULL(sections);
		CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_STREAM));
	}
}

static void devices_and_json__flipped_bits__never_crash(void)
{
	g_autoptr(GByteArray) tail = sample_tail();
	size_t len = sections_length(tail), json_at = len + 5;
	g_autoptr(GRand) rand = g_rand_new_with_seed(11);

	for (guint round = 0; round < 4000; round++) {
		g_autofree guint8 *data = g_memdup2(tail->data, tail->len);
		g_autoptr(GError) error = NULL;
		g_autoptr(GArray) walked = NULL, scanned = NULL;

		for (gint n = g_rand_int_range(rand, 1, 6); n; n--)
			data[g_rand_int_range(rand, 0, tail->len)] ^= 1u << g_rand_int_range(rand,
											     0, 8);
		ferry_stream_find_end(data, tail->len);
		scanned = ferry_stream_scan_devices(data, len);
		walked = ferry_stream_delimit_devices(data, len, (const char *)data + json_at,
						      tail->len - json_at, &error);
		CU_ASSERT(!walked == !!error);
	}
}

static void assert_json_refused(const char *json, size_t json_len, const char *why)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GArray) sections = ferry_stream_delimit_devices(
		(const guint8 *)"\4\0\0\0\1\1d\0\0\0\0\0\0\0\1xy\x7e\0\0\0\1", 23, json, json_len,
		&error);

	CU_ASSERT_PTR_NULL(sections);
	CU_ASSERT(error && strstr(error->message, why));
	if (error && !strstr(error->message, why))
		g_printerr("# expected \"%s\" in \"%s\"\n", why, error->message);
}
#define DEVICE(fields) "{\"devices\":[{\"name\":\"d\",\"instance_id\":0,\"fields\":[" fields "]}]}"
#define REFUSED(json, why) assert_json_refused(json, strlen(json), why)

static void json__that_does_not_fit__is_refused_with_the_device(void)
{
	g_autoptr(GArray) good = ferry_stream_delimit_devices(
		(const guint8 *)"\4\0\0\0\1\1d\0\0\0\0\0\0\0\1xy\x7e\0\0\0\1", 23,
		DEVICE("{\"size\":2}"), strlen(DEVICE("{\"size\":2}")), NULL);

	CU_ASSERT(good && good->len == 1);
	REFUSED(DEVICE("{\"size\":1}"), "device \"d\"");
	REFUSED(DEVICE("{\"size\":-2}"), "no size");
	REFUSED(DEVICE("{\"size\":2.0}"), "no size");
	REFUSED(DEVICE("{\"size\":\"2\"}"), "no size");
	REFUSED(DEVICE("7"), "not an object");
	REFUSED(DEVICE("{\"size\":9223372036854775807,\"array_len\":9223372036854775807}"),
		"cut short");
	REFUSED("{\"devices\":[]}", "does not have");
	REFUSED("{\"devices\":[null]}", "not an object");
	REFUSED("{}", "does not have");
	REFUSED("[]", "not an object");
	REFUSED("", "0 bytes");
}

static void json__made_to_exhaust_stack_or_memory__is_refused(void)
{
	size_t len = 4 << 20;
	g_autofree char *json = g_malloc(len);

	memset(json, '[', len);
	assert_json_refused(json, len, "nests deeper");
	memset(json, ',', len);
	assert_json_refused(json, len, "more than");
}

static CU_TestInfo cases[] = {
	CASE(find_end__every_prefix__only_the_whole_is_an_end),
	CASE(find_end__every_shape_of_length__is_found),
	CASE(delimit__sample_with_subsections_and_arrays__exact),
	CASE(scan__sample__same_cut_as_the_description),
	CASE(scan__footer_bytes_inside_a_body__are_not_a_cut),
	CASE(devices__cut_at_every_byte__are_refused),
	CASE(json__cut_at_every_byte__is_refused),
	CASE(devices_and_json__flipped_bits__never_crash),
	CASE(json__that_does_not_fit__is_refused_with_the_device),
	CASE(json__made_to_exhaust_stack_or_memory__is_refused),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "stream delimiting", cases);
}
