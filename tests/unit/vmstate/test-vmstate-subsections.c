/* SPDX-License-Identifier: BSD-2-Clause */
#include "sample.h"

#include <string.h>

#include "harness.h"

/* A description whose last field is a nested struct, so that both may have subsections there. */
typedef struct {
	guint32 value; /* travels where it is not 0 */
} Core;

typedef struct {
	Core core;
	guint32 level; /* travels where it is not 0 */
} Outer;

static gboolean core_needed(gconstpointer opaque)
{
	return ((const Core *)opaque)->value != 0;
}

static gboolean outer_needed(gconstpointer opaque)
{
	return ((const Outer *)opaque)->level != 0;
}

static const FerryVmstateField nothing[] = { FERRY_VMSTATE_END };
static const FerryVmstateField value_fields[] = { FERRY_VMSTATE_UINT32(Core, value),
						  FERRY_VMSTATE_END };
static const FerryVmstate value_vmstate = {
	.name = "core/value", .version_id = 1, .fields = value_fields, .needed = core_needed
};
static const FerryVmstate *const core_subsections[] = { &value_vmstate, NULL };
static const FerryVmstate core_vmstate = {
	.name = "core", .version_id = 1, .fields = nothing, .subsections = core_subsections
};

static const FerryVmstateField level_fields[] = { FERRY_VMSTATE_UINT32(Outer, level),
						  FERRY_VMSTATE_END };
static const FerryVmstate level_vmstate = { .name = "outer/level",
					    .version_id = 2,
					    .minimum_version_id = 2,
					    .fields = level_fields,
					    .needed = outer_needed };
static const FerryVmstate *const outer_subsections[] = { &level_vmstate, NULL };
static const FerryVmstateField outer_fields[] = {
	FERRY_VMSTATE_NESTED(Outer, core, Core, &core_vmstate), FERRY_VMSTATE_END
};
static const FerryVmstate outer_vmstate = {
	.name = "outer", .version_id = 1, .fields = outer_fields, .subsections = outer_subsections
};

#define CORE_BYTES                                                                                 \
	"\x05\x0a"                                                                                 \
	"core/value"                                                                               \
	"\0\0\0\1"                                                                                 \
	"\0\0\0\7"
#define OUTER_BYTES                                                                                \
	"\x05\x0b"                                                                                 \
	"outer/level"                                                                              \
	"\0\0\0\2"                                                                                 \
	"\0\0\0\x9"
#define FOOTER_BYTES "\x7e\0\0\0\1"
#define SECTION(body) "\x04\0\0\0\1\5outer\0\0\0\0\0\0\0\1" body FOOTER_BYTES

#define LOAD(outer, body, error)                                                                   \
	load_section(outer, SECTION(body), sizeof(SECTION(body)) - 1, error)

static gboolean load_section(Outer *outer, const char *data, gsize len, GError **error)
{
	g_autoptr(FerryDevices) devices = ferry_devices_new();

	*outer = (Outer){ 0 };
	return ferry_devices_register(devices, &outer_vmstate, 0, outer, error) &&
	       sample_load_section(devices, (const guint8 *)data, len, error);
}

static char *save_hex(Outer outer)
{
	g_autoptr(GByteArray) out = g_byte_array_new();

	return ferry_vmstate_save(&outer_vmstate, &outer, out, NULL) ? sample_hex(out)
								     : g_strdup("failed");
}

static char *hex_of(const char *data, gsize len)
{
	g_autoptr(GByteArray) bytes = g_byte_array_new();

	g_byte_array_append(bytes, (const guint8 *)data, len);
	return sample_hex(bytes);
}

static void subsection__needed_or_not__written_or_not(void)
{
	g_autofree char *none = save_hex((Outer){ 0 });
	g_autofree char *inner = save_hex((Outer){ .core.value = 7 });
	g_autofree char *both = save_hex((Outer){ .core.value = 7, .level = 9 });
	g_autofree char *want_inner = hex_of(CORE_BYTES, sizeof(CORE_BYTES) - 1);
	g_autofree char *want_both = hex_of(CORE_BYTES OUTER_BYTES,
					    sizeof(CORE_BYTES OUTER_BYTES) - 1);

	CU_ASSERT_STRING_EQUAL(none, "");
	CU_ASSERT_STRING_EQUAL(inner, want_inner);
	CU_ASSERT_STRING_EQUAL(both, want_both);
}

static void subsection__behind_a_nested_struct__goes_to_its_owner(void)
{
	Outer outer;

	CU_ASSERT_TRUE(LOAD(&outer, CORE_BYTES OUTER_BYTES, NULL));
	CU_ASSERT_EQUAL(outer.core.value, 7);
	CU_ASSERT_EQUAL(outer.level, 9);
	CU_ASSERT_TRUE(LOAD(&outer, OUTER_BYTES, NULL));
	CU_ASSERT_EQUAL(outer.core.value, 0);
	CU_ASSERT_EQUAL(outer.level, 9);
}

static void subsection__absent__is_fine(void)
{
	Outer outer;

	CU_ASSERT_TRUE(LOAD(&outer, "", NULL));
	CU_ASSERT_EQUAL(outer.level, 0);
}

static void subsection__unknown__refused_by_name(void)
{
	g_autoptr(GError) mine = NULL, nested = NULL, empty = NULL;
	Outer outer;

	CU_ASSERT_FALSE(LOAD(&outer,
			     "\x05\x0b"
			     "outer/extra"
			     "\0\0\0\1",
			     &mine));
	CU_ASSERT_TRUE(sample_error_says(mine, FERRY_ERROR_DEVICE, "section 1", "device \"outer\"",
					 "outer at offset 19", "\"outer/extra\"", NULL));
	CU_ASSERT_FALSE(LOAD(&outer,
			     "\x05\x0a"
			     "core/extra"
			     "\0\0\0\1",
			     &nested));
	CU_ASSERT_TRUE(sample_error_says(nested, FERRY_ERROR_DEVICE, "outer/core at offset 19",
					 "\"core/extra\"", NULL));
	CU_ASSERT_FALSE(LOAD(&outer,
			     "\x05\x05"
			     "core/"
			     "\0\0\0\1",
			     &empty));
	CU_ASSERT_TRUE(sample_error_says(empty, FERRY_ERROR_DEVICE, "\"core/\"", NULL));
}

static void subsection__twice__refused_by_name(void)
{
	g_autoptr(GError) error = NULL;
	Outer outer;

	CU_ASSERT_FALSE(LOAD(&outer, OUTER_BYTES OUTER_BYTES, &error));
	CU_ASSERT_TRUE(
		sample_error_says(error, FERRY_ERROR_DEVICE, "\"outer/level\"", "twice", NULL));
}

/* Each stands where the nested struct's subsections would, and is neither its nor the outer's. */
static void subsection__of_nobody__refused_by_name(void)
{
	static const struct {
		const char *section;
		gsize len;
		const char *name;
	} rows[] = {
#define ROW(body, name) { SECTION(body), sizeof(SECTION(body)) - 1, name }
		ROW("\x05\x07"
		    "other/x"
		    "\0\0\0\1",
		    "\"other/x\""),
		ROW("\x05\x0c"
		    "outerx/level"
		    "\0\0\0\2",
		    "\"outerx/level\""),
		ROW("\x05\x0b"
		    "corex/value"
		    "\0\0\0\1",
		    "\"corex/value\""),
		ROW("\x05\x04"
		    "core/value"
		    "\0\0\0\1",
		    "\"core\""),
		ROW(OUTER_BYTES CORE_BYTES, "\"core/value\""),
	};

	for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autoptr(GError) error = NULL;
		Outer outer;

		CU_ASSERT_FALSE(load_section(&outer, rows[i].section, rows[i].len, &error));
		CU_ASSERT_TRUE(sample_error_says(error, FERRY_ERROR_DEVICE, rows[i].name,
						 "does not begin with \"outer/\"", NULL));
	}
}

static void subsection__version_out_of_range__refused_with_the_numbers(void)
{
	g_autoptr(GError) newer = NULL, older = NULL;
	Outer outer;

	CU_ASSERT_FALSE(LOAD(&outer,
			     "\x05\x0b"
			     "outer/level"
			     "\0\0\0\3"
			     "\0\0\0\x9",
			     &newer));
	CU_ASSERT_TRUE(sample_error_says(newer, FERRY_ERROR_DEVICE, "outer/level at offset",
					 "version 3", "2 to 2", NULL));
	CU_ASSERT_FALSE(LOAD(&outer,
			     "\x05\x0b"
			     "outer/level"
			     "\0\0\0\1"
			     "\0\0\0\x9",
			     &older));
	CU_ASSERT_TRUE(sample_error_says(older, FERRY_ERROR_DEVICE, "version 1", "2 to 2", NULL));
}

static void field__that_looks_like_a_subsection__is_a_field(void)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(FerryStreamReader) reader = NULL;
	Sample from, to;

	sample_init(&from);
	sample_init(&to);
	sample_fill(&from);
	for (int i = 0; i < 3; i++)
		from.regs[i].wide = i & 1;
	from.since_2 =
		0x05117361; /* the type, the length and the name's begin of sample-regs/wide */
	CU_ASSERT_TRUE(ferry_vmstate_save(&sample_vmstate, &from, out, NULL));
	reader = ferry_stream_reader_new_for_data(out->data, out->len);
	CU_ASSERT_TRUE(ferry_vmstate_load(&sample_vmstate, &to, 2, reader, NULL));
	CU_ASSERT_TRUE(sample_equal(&from, &to));
}

static CU_TestInfo cases[] = {
	CASE(subsection__needed_or_not__written_or_not),
	CASE(subsection__behind_a_nested_struct__goes_to_its_owner),
	CASE(subsection__absent__is_fine),
	CASE(subsection__unknown__refused_by_name),
	CASE(subsection__twice__refused_by_name),
	CASE(subsection__of_nobody__refused_by_name),
	CASE(subsection__version_out_of_range__refused_with_the_numbers),
	CASE(field__that_looks_like_a_subsection__is_a_field),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "vmstate subsections", cases);
}
