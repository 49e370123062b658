/* SPDX-License-Identifier: BSD-2-Clause */
#include "sample.h"

#include <string.h>

#include "harness.h"

typedef struct {
	guint8 count;
	guint32 *words;
} Counted;

static const FerryVmstateField no_fields[] = { FERRY_VMSTATE_END };

/* Whether registration refuses the description as INVALID with @word in the message. */
static gboolean refused(const FerryVmstate *vmstate, const char *word)
{
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(GError) error = NULL;
	guint8 nothing[64] = { 0 };

	return !ferry_vmstate_save(vmstate, nothing, out, NULL) &&
	       !ferry_devices_register(devices, vmstate, 0, nothing, &error) &&
	       sample_error_says(error, FERRY_ERROR_INVALID, word, NULL);
}

static gboolean field_refused(FerryVmstateField field, const char *word)
{
	FerryVmstateField fields[] = { field, FERRY_VMSTATE_END };
	FerryVmstate vmstate = { .name = "chip", .version_id = 2, .fields = fields };
	g_autofree char *place = g_strdup_printf("description \"chip\", field %s: ", field.name);

	return refused(&vmstate, word) && refused(&vmstate, place);
}

static void description__without_a_proper_name__refused(void)
{
	g_autofree char *long_name = g_strnfill(256, 'n');

	CU_ASSERT_TRUE(refused(&(FerryVmstate){ .fields = no_fields }, "name"));
	CU_ASSERT_TRUE(refused(&(FerryVmstate){ .name = "", .fields = no_fields }, "name"));
	CU_ASSERT_TRUE(refused(&(FerryVmstate){ .name = "\xff", .fields = no_fields }, "UTF-8"));
	CU_ASSERT_TRUE(refused(&(FerryVmstate){ .name = long_name, .fields = no_fields }, "255"));
}

static void description__that_contradicts_itself__refused(void)
{
	FerryVmstate minimum = {
		.name = "chip", .version_id = 1, .minimum_version_id = 2, .fields = no_fields
	};
	FerryVmstate none = { .name = "chip" };

	CU_ASSERT_TRUE(refused(&minimum, "minimum version 2 is above its version 1"));
	CU_ASSERT_TRUE(refused(&none, "no list of fields"));
}

static void field__that_contradicts_itself__refused(void)
{
	FerryVmstateField good = { .name = "f", .kind = FERRY_VMSTATE_U32, .size = 4, .count = 1 };
	FerryVmstateField f = good;

	f.kind = (FerryVmstateKind)99;
	CU_ASSERT_TRUE(field_refused(f, "unknown kind 99"));
	f = good;
	f.shape = (FerryVmstateShape)4;
	CU_ASSERT_TRUE(field_refused(f, "shape 4"));
	f = good;
	f.size = 8;
	CU_ASSERT_TRUE(field_refused(f, "takes 8 bytes, but uint32 takes 4"));
	f = good;
	f.version = 3;
	CU_ASSERT_TRUE(field_refused(f, "version 3"));
	f = (FerryVmstateField){ .name = "f", .kind = FERRY_VMSTATE_STRUCT, .size = 8, .count = 1 };
	CU_ASSERT_TRUE(field_refused(f, "needs a description"));
	f = (FerryVmstateField){ .name = "f", .kind = FERRY_VMSTATE_BUFFER, .count = 1 };
	CU_ASSERT_TRUE(field_refused(f, "0 bytes"));
	f = (FerryVmstateField){ .name = "f",
				 .kind = FERRY_VMSTATE_UNUSED,
				 .size = 4,
				 .count = 2,
				 .shape = FERRY_VMSTATE_ARRAY };
	CU_ASSERT_TRUE(field_refused(f, "padding"));
}

static void array__of_none_or_too_many__refused(void)
{
	FerryVmstateField f = {
		.name = "f", .kind = FERRY_VMSTATE_U8, .size = 1, .shape = FERRY_VMSTATE_ARRAY
	};
	FerryVmstateField bytes = FERRY_VMSTATE_VBYTES(Sample, log, log_len,
						       FERRY_VMSTATE_BUFFER_MAX + 1);

	CU_ASSERT_TRUE(field_refused(f, "0 elements"));
	f.count = FERRY_VMSTATE_ELEMENTS_MAX + 1;
	CU_ASSERT_TRUE(field_refused(f, "1048577 elements"));
	CU_ASSERT_TRUE(field_refused(bytes, "67108865"));
}

static void array__of_arrays_of_too_many__refused(void)
{
	FerryVmstateField inner_fields[] = {
		{ .name = "words",
		  .kind = FERRY_VMSTATE_U32,
		  .size = 4,
		  .count = 1024,
		  .shape = FERRY_VMSTATE_ARRAY },
		FERRY_VMSTATE_END,
	};
	FerryVmstate inner = { .name = "inner", .fields = inner_fields };
	FerryVmstateField f = { .name = "f",
				.kind = FERRY_VMSTATE_STRUCT,
				.size = 4096,
				.vmstate = &inner,
				.shape = FERRY_VMSTATE_ARRAY,
				.count = 16384 };

	CU_ASSERT_TRUE(field_refused(f, "16777216"));
}

static void varray__count_behind_it_or_of_odd_width__refused(void)
{
	static const FerryVmstateField late[] = {
		FERRY_VMSTATE_VARRAY_OF(FERRY_VMSTATE_U32, guint32, Counted, words, count, 4),
		FERRY_VMSTATE_UINT8(Counted, count),
		FERRY_VMSTATE_END,
	};
	FerryVmstateField odd = FERRY_VMSTATE_VARRAY_OF(FERRY_VMSTATE_U32, guint32, Counted, words,
							count, 4);

	CU_ASSERT_TRUE(
		refused(&(FerryVmstate){ .name = "late", .fields = late }, "must come before"));
	odd.count_size = 3;
	CU_ASSERT_TRUE(field_refused(odd, "not 1, 2, 4 or 8"));
}

static void subsection__misnamed_or_twice__refused(void)
{
	FerryVmstate sub = { .name = "other/x", .fields = no_fields };
	const FerryVmstate *const subsections[] = { &sub, NULL };
	const FerryVmstate *const twice[] = { &sub, &sub, NULL };
	FerryVmstate chip = { .name = "chip", .fields = no_fields, .subsections = subsections };

	CU_ASSERT_TRUE(refused(&chip, "\"other/x\" must be named \"chip/...\""));
	sub.name = "chip";
	CU_ASSERT_TRUE(refused(&chip, "must be named"));
	sub.name = "chip/";
	CU_ASSERT_TRUE(refused(&chip, "must be named"));
	sub.name = NULL;
	CU_ASSERT_TRUE(refused(&chip, "must be named"));
	sub.name = "chip/x";
	chip.subsections = twice;
	CU_ASSERT_TRUE(refused(&chip, "two subsections"));
}

static void subsection__more_than_the_bound__refused(void)
{
	FerryVmstate subs[FERRY_VMSTATE_SUBSECTIONS_MAX + 1];
	const FerryVmstate *list[FERRY_VMSTATE_SUBSECTIONS_MAX + 2] = { NULL };
	char names[G_N_ELEMENTS(subs)][16];
	FerryVmstate chip = { .name = "chip", .fields = no_fields, .subsections = list };

	for (guint i = 0; i < G_N_ELEMENTS(subs); i++) {
		g_snprintf(names[i], sizeof(names[i]), "chip/%u", i);
		subs[i] = (FerryVmstate){ .name = names[i], .fields = no_fields };
		list[i] = &subs[i];
	}
	CU_ASSERT_TRUE(refused(&chip, "more than 64 subsections"));
}

static void subsection__a_nested_description_would_take_it__refused(void)
{
	static const FerryVmstate sub = { .name = "chip/core/x", .fields = no_fields };
	static const FerryVmstate *const subsections[] = { &sub, NULL };
	static const FerryVmstate core = { .name = "chip/core", .fields = no_fields };
	FerryVmstateField fields[] = {
		{ .name = "core",
		  .kind = FERRY_VMSTATE_STRUCT,
		  .size = 4,
		  .count = 1,
		  .vmstate = &core },
		FERRY_VMSTATE_END,
	};
	FerryVmstate chip = { .name = "chip", .fields = fields, .subsections = subsections };

	CU_ASSERT_TRUE(refused(&chip, "would be taken for its own"));
}

static void nesting__up_to_the_bound__passes_and_beyond_is_refused(void)
{
	FerryVmstate levels[FERRY_VMSTATE_NESTING_MAX + 1];
	FerryVmstateField fields[G_N_ELEMENTS(levels)][2];
	g_autoptr(GByteArray) out = g_byte_array_new();
	guint32 word = 7;

	for (guint i = 0; i < G_N_ELEMENTS(levels); i++) {
		gboolean last = i + 1 == G_N_ELEMENTS(levels);

		fields[i][0] = (FerryVmstateField){
			.name = "in",
			.kind = last ? FERRY_VMSTATE_U32 : FERRY_VMSTATE_STRUCT,
			.size = 4,
			.count = 1,
			.vmstate = last ? NULL : &levels[i + 1],
		};
		fields[i][1] = (FerryVmstateField)FERRY_VMSTATE_END;
		levels[i] = (FerryVmstate){ .name = "level", .fields = fields[i] };
	}
	CU_ASSERT_TRUE(refused(&levels[0], "more than 16 deep"));
	CU_ASSERT_TRUE(ferry_vmstate_save(&levels[1], &word, out, NULL));
	CU_ASSERT_EQUAL(out->len, 4);
}

static void nesting__in_itself__refused(void)
{
	FerryVmstate vmstate = { .name = "loop" };
	FerryVmstateField fields[] = {
		{ .name = "in",
		  .kind = FERRY_VMSTATE_STRUCT,
		  .size = 4,
		  .count = 1,
		  .vmstate = &vmstate },
		{ .name = "too",
		  .kind = FERRY_VMSTATE_STRUCT,
		  .size = 4,
		  .count = 1,
		  .vmstate = &vmstate },
		FERRY_VMSTATE_END,
	};

	vmstate.fields = fields;
	CU_ASSERT_TRUE(refused(&vmstate, "more than 16 deep"));
}

static CU_TestInfo cases[] = {
	CASE(description__without_a_proper_name__refused),
	CASE(description__that_contradicts_itself__refused),
	CASE(field__that_contradicts_itself__refused),
	CASE(array__of_none_or_too_many__refused),
	CASE(array__of_arrays_of_too_many__refused),
	CASE(varray__count_behind_it_or_of_odd_width__refused),
	CASE(subsection__misnamed_or_twice__refused),
	CASE(subsection__more_than_the_bound__refused),
	CASE(subsection__a_nested_description_would_take_it__refused),
	CASE(nesting__up_to_the_bound__passes_and_beyond_is_refused),
	CASE(nesting__in_itself__refused),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "vmstate descriptions", cases);
}
