/* SPDX-License-Identifier: BSD-2-Clause */
#include "sample.h"

#include <string.h>

#include "harness.h"

/* A timer chip through its versions: 2 added the period, 3 replaced the old mode by padding. */
typedef struct {
	guint32 counter;
	guint32 mode;
	guint32 period;
	gboolean has_fifo;
	guint64 fifo;
	guint8 n_words;
	guint32 *words;
	guint32 seen_version;
	guint pre_saves, post_saves, pre_loads;
	gboolean fail_pre_save, fail_post_save, fail_pre_load, foreign_error, silent;
} Chip;

static gboolean until_2(gconstpointer opaque, guint32 version_id)
{
	return version_id <= 2;
}

static gboolean from_3(gconstpointer opaque, guint32 version_id)
{
	return version_id >= 3;
}

static gboolean fifo_exists(gconstpointer opaque, guint32 version_id)
{
	return ((const Chip *)opaque)->has_fifo;
}

static gboolean note_version(gpointer opaque, guint32 version_id, GError **error)
{
	((Chip *)opaque)->seen_version = version_id;
	return TRUE;
}

static gboolean hook(Chip *chip, gboolean fail, GError **error)
{
	if (!fail)
		return TRUE;
	if (chip->foreign_error)
		g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_NOENT, "no such file");
	else if (!chip->silent)
		g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_STATE, "the chip is busy");
	return FALSE;
}

static gboolean pre_save(gpointer opaque, GError **error)
{
	Chip *chip = opaque;

	chip->pre_saves++;
	return hook(chip, chip->fail_pre_save, error);
}

static gboolean post_save(gpointer opaque, GError **error)
{
	Chip *chip = opaque;

	chip->post_saves++;
	return hook(chip, chip->fail_post_save, error);
}

static gboolean pre_load(gpointer opaque, GError **error)
{
	Chip *chip = opaque;

	chip->pre_loads++;
	return hook(chip, chip->fail_pre_load, error);
}

static const FerryVmstateField fields_1[] = {
	FERRY_VMSTATE_UINT32(Chip, counter),
	FERRY_VMSTATE_UINT32(Chip, mode),
	FERRY_VMSTATE_END,
};
static const FerryVmstate version_1 = { .name = "chip", .version_id = 1, .fields = fields_1 };

static const FerryVmstateField fields_3[] = {
	FERRY_VMSTATE_UINT32(Chip, counter),
	FERRY_VMSTATE_UINT32_TEST(Chip, mode, until_2),
	{ .name = "unused", .kind = FERRY_VMSTATE_UNUSED, .size = 4, .count = 1, .exists = from_3 },
	FERRY_VMSTATE_UINT32_V(Chip, period, 2),
	FERRY_VMSTATE_UINT64_TEST(Chip, fifo, fifo_exists),
	FERRY_VMSTATE_END,
};
static const FerryVmstate version_3 = {
	.name = "chip",
	.version_id = 3,
	.minimum_version_id = 1,
	.fields = fields_3,
	.pre_save = pre_save,
	.post_save = post_save,
	.pre_load = pre_load,
	.post_load = note_version,
};

static char *save_hex(const FerryVmstate *vmstate, Chip *chip)
{
	g_autoptr(GByteArray) out = g_byte_array_new();

	return ferry_vmstate_save(vmstate, chip, out, NULL) ? sample_hex(out) : g_strdup("failed");
}

static gboolean load(const FerryVmstate *vmstate, Chip *chip, guint32 version_id, const void *data,
		     gsize len, GError **error)
{
	g_autoptr(FerryStreamReader) reader = ferry_stream_reader_new_for_data(data, len);

	return ferry_vmstate_load(vmstate, chip, version_id, reader, error) &&
	       ferry_stream_reader_offset(reader) == len;
}

static void save__always__writes_the_present_version(void)
{
	Chip chip = { .counter = 1, .mode = 2, .period = 3 };
	g_autofree char *old = save_hex(&version_1, &chip);
	g_autofree char *new = save_hex(&version_3, &chip);

	CU_ASSERT_STRING_EQUAL(old, "0000000100000002");
	CU_ASSERT_STRING_EQUAL(new, "000000010000000000000003");
}

static void load__old_stream__reads_what_that_version_had(void)
{
	Chip chip = { .period = 77 };

	CU_ASSERT_TRUE(load(&version_3, &chip, 1, "\0\0\0\1\0\0\0\2", 8, NULL));
	CU_ASSERT_EQUAL(chip.counter, 1);
	CU_ASSERT_EQUAL(chip.mode, 2);
	CU_ASSERT_EQUAL(chip.period, 77);
	CU_ASSERT_EQUAL(chip.seen_version, 1);
	CU_ASSERT_TRUE(load(&version_3, &chip, 2, "\0\0\0\3\0\0\0\4\0\0\0\5", 12, NULL));
	CU_ASSERT_EQUAL(chip.mode, 4);
	CU_ASSERT_EQUAL(chip.period, 5);
	CU_ASSERT_EQUAL(chip.seen_version, 2);
}

static void load__version_out_of_range__refused_with_the_numbers(void)
{
	FerryVmstate strict = version_3;
	g_autoptr(GError) newer = NULL;
	g_autoptr(GError) older = NULL;
	Chip chip = { 0 };

	CU_ASSERT_FALSE(load(&version_1, &chip, 3, "\0\0\0\1\0\0\0\0\0\0\0\3", 12, &newer));
	CU_ASSERT_TRUE(sample_error_says(newer, FERRY_ERROR_DEVICE, "chip at offset 0", "version 3",
					 "0 to 1", NULL));
	strict.minimum_version_id = 2;
	CU_ASSERT_FALSE(load(&strict, &chip, 1, "\0\0\0\1\0\0\0\2", 8, &older));
	CU_ASSERT_TRUE(sample_error_says(older, FERRY_ERROR_DEVICE, "version 1", "2 to 3", NULL));
	CU_ASSERT_EQUAL(chip.counter, 0);
	CU_ASSERT_EQUAL(chip.pre_loads, 0);
}

static void field__with_a_condition__there_only_where_it_holds(void)
{
	Chip chip = { .counter = 1, .period = 3, .has_fifo = TRUE, .fifo = 0xf1f0 };
	Chip with = { .has_fifo = TRUE }, without = { 0 };
	g_autofree char *hex = save_hex(&version_3, &chip);

	CU_ASSERT_STRING_EQUAL(hex, "000000010000000000000003000000000000f1f0");
	CU_ASSERT_TRUE(load(&version_3, &with, 3, "\0\0\0\1\0\0\0\0\0\0\0\3\0\0\0\0\0\0\xf1\xf0",
			    20, NULL));
	CU_ASSERT_EQUAL(with.fifo, 0xf1f0);
	CU_ASSERT_TRUE(load(&version_3, &without, 3, "\0\0\0\1\0\0\0\0\0\0\0\3", 12, NULL));
	CU_ASSERT_EQUAL(without.fifo, 0);
}

static void nested_struct__has_no_version_in_the_stream__is_of_its_descriptions(void)
{
	static const FerryVmstateField fields[] = {
		{ .name = "chip",
		  .kind = FERRY_VMSTATE_STRUCT,
		  .size = sizeof(Chip),
		  .count = 1,
		  .vmstate = &version_3 },
		FERRY_VMSTATE_END,
	};
	static const FerryVmstate board = { .name = "board", .version_id = 9, .fields = fields };
	Chip chip = { 0 };

	CU_ASSERT_TRUE(load(&board, &chip, 9, "\0\0\0\1\0\0\0\0\0\0\0\3", 12, NULL));
	CU_ASSERT_EQUAL(chip.seen_version, 3);
	CU_ASSERT_EQUAL(chip.period, 3);
}

static void post_save__saving_worked__called_once(void)
{
	Chip chip = { 0 };
	g_autofree char *hex = save_hex(&version_3, &chip);

	CU_ASSERT_EQUAL(chip.pre_saves, 1);
	CU_ASSERT_EQUAL(chip.post_saves, 1);
}

static void post_save__saving_failed__called_once_and_the_first_error_counts(void)
{
	static const FerryVmstateField fields[] = {
		FERRY_VMSTATE_VARRAY_OF(FERRY_VMSTATE_U32, guint32, Chip, words, n_words, 1),
		FERRY_VMSTATE_END,
	};
	static const FerryVmstate vmstate = {
		.name = "words", .fields = fields, .pre_save = pre_save, .post_save = post_save
	};
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(GError) error = NULL;
	Chip chip = { .n_words = 2, .fail_post_save = TRUE };

	CU_ASSERT_FALSE(ferry_vmstate_save(&vmstate, &chip, out, &error));
	CU_ASSERT_TRUE(
		sample_error_says(error, FERRY_ERROR_DEVICE, "words/words", "at most 1", NULL));
	CU_ASSERT_EQUAL(chip.post_saves, 1);
}

static void hook__that_fails__fails_the_whole_with_its_reason(void)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(GError) before = NULL, after = NULL, loading = NULL;
	Chip chip = { .fail_pre_save = TRUE };

	CU_ASSERT_FALSE(ferry_vmstate_save(&version_3, &chip, out, &before));
	CU_ASSERT_TRUE(sample_error_says(before, FERRY_ERROR_STATE, "chip at offset 0", "pre_save",
					 "the chip is busy", NULL));
	CU_ASSERT_EQUAL(chip.post_saves, 0);
	chip = (Chip){ .fail_post_save = TRUE };
	CU_ASSERT_FALSE(ferry_vmstate_save(&version_3, &chip, out, &after));
	CU_ASSERT_TRUE(sample_error_says(after, FERRY_ERROR_STATE, "post_save", NULL));
	CU_ASSERT_EQUAL(out->len, 0);
	chip = (Chip){ .fail_pre_load = TRUE, .counter = 9 };
	CU_ASSERT_FALSE(load(&version_3, &chip, 1, "\0\0\0\1\0\0\0\2", 8, &loading));
	CU_ASSERT_TRUE(sample_error_says(loading, FERRY_ERROR_STATE, "pre_load", NULL));
	CU_ASSERT_EQUAL(chip.counter, 9);
}

static void hook__error_of_another_domain_or_none__becomes_a_device_error(void)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(GError) foreign = NULL, none = NULL;
	Chip chip = { .fail_pre_save = TRUE, .foreign_error = TRUE };

	CU_ASSERT_FALSE(ferry_vmstate_save(&version_3, &chip, out, &foreign));
	CU_ASSERT_TRUE(
		sample_error_says(foreign, FERRY_ERROR_DEVICE, "pre_save", "no such file", NULL));
	chip = (Chip){ .fail_pre_save = TRUE, .silent = TRUE };
	CU_ASSERT_FALSE(ferry_vmstate_save(&version_3, &chip, out, &none));
	CU_ASSERT_TRUE(sample_error_says(none, FERRY_ERROR_DEVICE, "pre_save", "no reason", NULL));
}

static CU_TestInfo cases[] = {
	CASE(save__always__writes_the_present_version),
	CASE(load__old_stream__reads_what_that_version_had),
	CASE(load__version_out_of_range__refused_with_the_numbers),
	CASE(field__with_a_condition__there_only_where_it_holds),
	CASE(nested_struct__has_no_version_in_the_stream__is_of_its_descriptions),
	CASE(post_save__saving_worked__called_once),
	CASE(post_save__saving_failed__called_once_and_the_first_error_counts),
	CASE(hook__that_fails__fails_the_whole_with_its_reason),
	CASE(hook__error_of_another_domain_or_none__becomes_a_device_error),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "vmstate versions", cases);
}
