/* SPDX-License-Identifier: BSD-2-Clause */
#include "sample.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "harness.h"

/* What ferry_devices_save() makes of two cells around a sample. */
typedef struct {
	GByteArray *stream;
	GString *json;
	JsonParser *parser; /* of @json, parsed */
} Saved;

static void saved_clear(Saved *saved)
{
	g_byte_array_unref(saved->stream);
	g_string_free(saved->json, TRUE);
	g_object_unref(saved->parser);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Saved, saved_clear)

static const FerryVmstate plain_regs = { .name = "quo\"ted\\\n", .version_id = 5 };

static gboolean save(Saved *saved, Sample *sample)
{
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	static const FerryVmstateField fields[] = { FERRY_VMSTATE_UINT64(SampleRegs, rip),
						    FERRY_VMSTATE_END };
	FerryVmstate quoted = plain_regs;
	FerryGlobalState state;
	SampleRegs regs = { 1 };

	quoted.fields = fields;
	ferry_global_state_set(&state, "running");
	return ferry_devices_register(devices, &ferry_global_state_vmstate, 0, &state, NULL) &&
	       ferry_devices_register(devices, &sample_vmstate, 3, sample, NULL) &&
	       ferry_devices_register(devices, &quoted, 0, &regs, NULL) &&
	       ferry_devices_save(devices, 40, saved->stream, saved->json, NULL) &&
	       json_parser_load_from_data(saved->parser, saved->json->str, saved->json->len, NULL);
}

static Saved saved_new(void)
{
	return (Saved){ g_byte_array_new(), g_string_new(NULL), json_parser_new() };
}

/* The elements called @name of the sample's "fields"; NULL-terminated array, free with
 * g_ptr_array_unref().
 */
static GPtrArray *sample_entries(const Saved *saved, const char *name)
{
	JsonObject *root = json_node_get_object(json_parser_get_root(saved->parser));
	JsonArray *devices = json_object_get_array_member(root, "devices");
	JsonObject *sample = json_array_get_object_element(devices, 1);
	JsonArray *fields = json_object_get_array_member(sample, "fields");
	GPtrArray *found = g_ptr_array_new();

	for (guint i = 0; i < json_array_get_length(fields); i++) {
		JsonObject *field = json_array_get_object_element(fields, i);

		if (!strcmp(json_object_get_string_member(field, "name"), name))
			g_ptr_array_add(found, field);
	}
	return found;
}

/* Whether the sample has one entry @name with these values; 0 for an array_len that must not be
 * there. */
static gboolean has_entry(const Saved *saved, const char *name, const char *type, gint64 array_len,
			  gint64 size)
{
	g_autoptr(GPtrArray) found = sample_entries(saved, name);
	JsonObject *field = found->len == 1 ? found->pdata[0] : NULL;

	return field && !strcmp(json_object_get_string_member(field, "type"), type) &&
	       json_object_get_int_member_with_default(field, "array_len", 0) == array_len &&
	       !json_object_has_member(field, "index") &&
	       json_object_get_int_member(field, "size") == size;
}

static void description__of_one_device__golden_text(void)
{
	static const FerryVmstateField fields[] = {
		FERRY_VMSTATE_UINT16(Sample, u16),
		FERRY_VMSTATE_ARRAY_OF(FERRY_VMSTATE_U16, guint16, Sample, queues, 3),
		FERRY_VMSTATE_NESTED(Sample, boot, SampleRegs, &sample_regs_vmstate),
		FERRY_VMSTATE_END,
	};
	static const FerryVmstate vmstate = { .name = "short", .version_id = 4, .fields = fields };
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(GString) json = g_string_new(NULL);
	Sample sample;

	sample_init(&sample);
	sample.boot.wide = 1;
	CU_ASSERT_TRUE(ferry_devices_register(devices, &vmstate, 2, &sample, NULL));
	CU_ASSERT_TRUE(ferry_devices_save(devices, 0, out, json, NULL));
	CU_ASSERT_STRING_EQUAL(
		json->str,
		"{\"page_size\":4096,\"devices\":[{\"name\":\"short\",\"instance_id\":2,"
		"\"vmsd_name\":\"short\",\"version\":4,\"fields\":["
		"{\"name\":\"u16\",\"type\":\"uint16\",\"size\":2},"
		"{\"name\":\"queues\",\"array_len\":3,\"type\":\"uint16\",\"size\":2},"
		"{\"name\":\"boot\",\"type\":\"struct\",\"struct\":{"
		"\"vmsd_name\":\"sample-regs\",\"version\":1,\"fields\":["
		"{\"name\":\"rip\",\"type\":\"uint64\",\"size\":8},"
		"{\"name\":\"halted\",\"type\":\"bool\",\"size\":1}],\"subsections\":["
		"{\"vmsd_name\":\"sample-regs/wide\",\"version\":1,\"fields\":["
		"{\"name\":\"wide\",\"type\":\"uint32\",\"size\":4}]}]},\"size\":35}]}]}");
}

static void description__of_no_device__is_still_an_object(void)
{
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(GString) json = g_string_new(NULL);

	CU_ASSERT_TRUE(ferry_devices_save(devices, 0, out, json, NULL));
	CU_ASSERT_STRING_EQUAL(json->str, "{\"page_size\":4096,\"devices\":[]}");
	CU_ASSERT_EQUAL(out->len, 0);
}

static void description__of_every_kind__says_the_bytes_written(void)
{
	g_auto(Saved) saved = saved_new();
	Sample sample;

	sample_init(&sample);
	sample_fill(&sample);
	if (!save(&saved, &sample)) {
		CU_FAIL("not saved or not JSON");
		return;
	}
	CU_ASSERT_TRUE(has_entry(&saved, "u8", "uint8", 0, 1));
	CU_ASSERT_TRUE(has_entry(&saved, "s64", "int64", 0, 8));
	CU_ASSERT_TRUE(has_entry(&saved, "armed", "bool", 0, 1));
	CU_ASSERT_TRUE(has_entry(&saved, "deadline", "timer", 0, 8));
	CU_ASSERT_TRUE(has_entry(&saved, "mac", "buffer", 0, 6));
	CU_ASSERT_TRUE(has_entry(&saved, "unused", "unused_buffer", 0, 3));
	CU_ASSERT_TRUE(has_entry(&saved, "queues", "uint16", 3, 2));
	CU_ASSERT_TRUE(has_entry(&saved, "lines", "uint32", 4, 4));
	CU_ASSERT_TRUE(has_entry(&saved, "levels", "int16", 2, 2));
	CU_ASSERT_TRUE(has_entry(&saved, "log", "buffer", 0, 9));
	CU_ASSERT_TRUE(has_entry(&saved, "boot", "struct", 0, 9));
}

static void description__of_equal_structs__one_entry_with_their_number(void)
{
	g_auto(Saved) saved = saved_new();
	Sample sample;

	sample_init(&sample);
	if (!save(&saved, &sample)) {
		CU_FAIL("not saved or not JSON");
		return;
	}
	CU_ASSERT_TRUE(has_entry(&saved, "regs", "struct", 3, 9));
	CU_ASSERT_TRUE(has_entry(&saved, "shadow", "struct", 2, 9));
}

static void description__of_structs_that_differ__each_by_its_index(void)
{
	static const gint64 sizes[] = { 9, 9 + 26, 9 };
	g_auto(Saved) saved = saved_new();
	g_autoptr(GPtrArray) regs = NULL;
	Sample sample;

	sample_init(&sample);
	sample.regs[1].wide = 1;
	if (!save(&saved, &sample)) {
		CU_FAIL("not saved or not JSON");
		return;
	}
	regs = sample_entries(&saved, "regs");
	CU_ASSERT_EQUAL(regs->len, 3);
	for (guint i = 0; i < regs->len && i < 3; i++) {
		CU_ASSERT_EQUAL(json_object_get_int_member(regs->pdata[i], "index"), i);
		CU_ASSERT_FALSE(json_object_has_member(regs->pdata[i], "array_len"));
		CU_ASSERT_EQUAL(json_object_get_int_member(regs->pdata[i], "size"), sizes[i]);
	}
}

/* The description must lead a reader that knows no device to every section's first and last byte.
 */
static gboolean delimits(Sample *sample)
{
	static const char *const names[] = { "globalstate", "sample", "quo\"ted\\\n" };
	g_auto(Saved) saved = saved_new();
	g_autoptr(GArray) sections = NULL;
	g_autoptr(GError) error = NULL;
	guint64 end = 0;

	if (!save(&saved, sample))
		return FALSE;
	ferry_put_u8(saved.stream, FERRY_SECTION_EOF);
	sections = ferry_stream_delimit_devices(saved.stream->data, saved.stream->len,
						saved.json->str, saved.json->len, &error);
	if (!sections)
		printf("# %s\n", error->message);
	for (guint i = 0; sections && i < sections->len && i < 3; i++) {
		const FerryDeviceSection *s = &g_array_index(sections, FerryDeviceSection, i);

		if (s->offset != end || strcmp(s->name, names[i]) || s->section_id != 40 + i)
			return FALSE;
		end = s->offset + s->length;
	}
	return sections && sections->len == 3 && end == saved.stream->len - 1;
}

static void description__names_with_special_characters__escaped(void)
{
	g_auto(Saved) saved = saved_new();
	Sample sample;

	sample_init(&sample);
	CU_ASSERT_TRUE(save(&saved, &sample));
	CU_ASSERT_PTR_NOT_NULL(strstr(saved.json->str, "\"quo\\\"ted\\\\\\u000a\""));
}

static void description__of_our_own_stream__delimits_every_section(void)
{
	Sample sample;

	sample_init(&sample);
	CU_ASSERT_TRUE(delimits(&sample)); /* no elements, no subsections */
	sample_fill(&sample);
	CU_ASSERT_TRUE(delimits(&sample));
	sample.n_lines = 1;
	sample.log_len = 1;
	sample.tracing = FALSE;
	sample.boot.wide = 1;
	CU_ASSERT_TRUE(delimits(&sample));
}

static CU_TestInfo cases[] = {
	CASE(description__of_one_device__golden_text),
	CASE(description__of_no_device__is_still_an_object),
	CASE(description__of_every_kind__says_the_bytes_written),
	CASE(description__of_equal_structs__one_entry_with_their_number),
	CASE(description__of_structs_that_differ__each_by_its_index),
	CASE(description__names_with_special_characters__escaped),
	CASE(description__of_our_own_stream__delimits_every_section),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "vmstate's JSON description", cases);
}
