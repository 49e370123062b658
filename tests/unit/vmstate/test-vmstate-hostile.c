/* SPDX-License-Identifier: BSD-2-Clause */
#include "sample.h"

#include <string.h>

#include "harness.h"

#define MUTANTS 6000

/* Offsets in sample_section(): the header takes 20 bytes. */
#define AT_ARMED 50
#define AT_N_LINES 74

static const guint8 counts[] = { SAMPLE_LINES_MAX + 1, 0x7f, 0x80, 0xff };

/* One section of a filled sample. */
static GByteArray *sample_section(void)
{
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(GString) json = g_string_new(NULL);
	Sample sample;

	sample_init(&sample);
	sample_fill(&sample);
	if (!ferry_devices_register(devices, &sample_vmstate, 0, &sample, NULL) ||
	    !ferry_devices_save(devices, 1, out, json, NULL))
		return NULL;
	return g_steal_pointer(&out);
}

/* @sample is initialised first. The memory is the heap's, so that a sanitiser sees a step too far.
 */
static gboolean load(const guint8 *data, gsize len, Sample *sample, GError **error)
{
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	g_autofree guint32 *lines = g_new0(guint32, SAMPLE_LINES_MAX);
	g_autofree guint8 *log = g_malloc0(SAMPLE_LOG_MAX);
	gboolean refuse = sample->refuse;
	gboolean loaded;

	sample_init(sample);
	sample->refuse = refuse;
	sample->lines = lines;
	sample->log = log;
	loaded = ferry_devices_register(devices, &sample_vmstate, 0, sample, error) &&
		 sample_load_section(devices, data, len, error);
	memcpy(sample->lines_memory, lines, sizeof(sample->lines_memory));
	memcpy(sample->log_memory, log, sizeof(sample->log_memory));
	sample->lines = sample->lines_memory;
	sample->log = sample->log_memory;
	return loaded;
}

static void section__whole__loads(void)
{
	g_autoptr(GByteArray) section = sample_section();
	Sample want, sample = { 0 };

	if (!section) {
		CU_FAIL("the sample cannot be saved");
		return;
	}
	sample_init(&want);
	sample_fill(&want);
	CU_ASSERT_TRUE(load(section->data, section->len, &sample, NULL));
	CU_ASSERT_TRUE(sample_equal(&want, &sample));
}

static void section__cut_anywhere__fails_with_a_place(void)
{
	g_autoptr(GByteArray) section = sample_section();
	Sample sample = { 0 };

	for (guint len = 0; section && len < section->len; len++) {
		g_autofree guint8 *cut = g_memdup2(section->data, len);
		g_autoptr(GError) error = NULL;
		gboolean failed = !load(cut, len, &sample, &error);

		CU_ASSERT_TRUE(failed);
		if (!failed || !strstr(error->message, "offset")) {
			CU_FAIL("loaded, or no offset");
			printf("# cut at %u: %s\n", len, error ? error->message : "loaded");
		}
	}
}

static void section__cut_in_a_struct__error_names_section_field_and_offset(void)
{
	g_autoptr(GByteArray) section = sample_section();
	g_autoptr(GError) error = NULL;
	Sample sample = { 0 };
	guint8 *rip = memmem(section->data, section->len, "\xff\xff\0\0\0\0\0\2", 8);
	g_autofree char *at = NULL;

	if (!rip) {
		CU_FAIL("regs[1] is not in the section");
		return;
	}
	at = g_strdup_printf("sample/regs[1]/rip at offset %u", (guint)(rip - section->data));
	CU_ASSERT_FALSE(load(section->data, rip - section->data + 7, &sample, &error));
	CU_ASSERT_TRUE(sample_error_says(error, FERRY_ERROR_STREAM, "section 1",
					 "device \"sample\" instance 0", at, NULL));
	CU_ASSERT_EQUAL(sample.regs[0].rip, 0xffff000000000001u);
	CU_ASSERT_EQUAL(sample.regs[1].rip, 0);
}

static void boolean__neither_0_nor_1__refused(void)
{
	g_autoptr(GByteArray) section = sample_section();
	g_autoptr(GError) error = NULL;
	Sample sample = { 0 };

	CU_ASSERT_EQUAL(section->data[AT_ARMED], 1);
	section->data[AT_ARMED] = 2;
	CU_ASSERT_FALSE(load(section->data, section->len, &sample, &error));
	CU_ASSERT_TRUE(sample_error_says(error, FERRY_ERROR_DEVICE, "sample/armed at offset 50",
					 "not 2", NULL));
	CU_ASSERT_FALSE(sample.armed);
}

static void count__above_the_bound__refused_before_memory_is_touched(void)
{
	g_autoptr(GByteArray) section = sample_section();
	Sample sample = { 0 };

	CU_ASSERT_EQUAL(section->data[AT_N_LINES], 4);
	for (guint i = 0; i < G_N_ELEMENTS(counts); i++) {
		g_autoptr(GError) error = NULL;
		g_autofree char *number = g_strdup_printf("%u elements", counts[i]);

		section->data[AT_N_LINES] = counts[i];
		CU_ASSERT_FALSE(load(section->data, section->len, &sample, &error));
		CU_ASSERT_TRUE(sample_error_says(error, FERRY_ERROR_DEVICE,
						 "sample/lines at offset 75", number, "at most 6",
						 NULL));
		CU_ASSERT_EQUAL(sample.lines[0], 0);
	}
}

static void length__above_the_bound__refused_before_memory_is_touched(void)
{
	g_autoptr(GByteArray) section = sample_section();
	g_autoptr(GError) error = NULL;
	Sample sample = { 0 };
	guint8 *log = memmem(section->data, section->len, "nine byte", 9);

	ferry_store_be32(log - 4, 0xffffffff);
	CU_ASSERT_FALSE(load(section->data, section->len, &sample, &error));
	CU_ASSERT_TRUE(sample_error_says(error, FERRY_ERROR_DEVICE, "sample/log at offset",
					 "4294967295 bytes", "at most 32", NULL));
	CU_ASSERT_EQUAL(sample.log[0], 0);
}

static void count__signed_and_negative__refused(void)
{
	typedef struct {
		gint32 n;
		guint8 *bytes;
	} Signed;
	static const FerryVmstateField fields[] = {
		FERRY_VMSTATE_INT32(Signed, n),
		FERRY_VMSTATE_VARRAY_OF(FERRY_VMSTATE_U8, guint8, Signed, bytes, n, 4),
		FERRY_VMSTATE_END,
	};
	static const FerryVmstate vmstate = { .name = "signed", .fields = fields };
	g_autoptr(FerryStreamReader)
		reader = ferry_stream_reader_new_for_data("\xff\xff\xff\xff\0\0\0\0", 8);
	g_autoptr(GError) error = NULL;
	guint8 bytes[4] = { 0 };
	Signed state = { .bytes = bytes };

	CU_ASSERT_FALSE(ferry_vmstate_load(&vmstate, &state, 0, reader, &error));
	CU_ASSERT_TRUE(
		sample_error_says(error, FERRY_ERROR_DEVICE, "signed/bytes", "at most 4", NULL));
}

static void post_load__refuses__load_fails_with_its_reason(void)
{
	g_autoptr(GByteArray) section = sample_section();
	g_autoptr(GError) error = NULL;
	Sample sample = { .refuse = TRUE };

	CU_ASSERT_FALSE(load(section->data, section->len, &sample, &error));
	CU_ASSERT_TRUE(sample_error_says(error, FERRY_ERROR_MISMATCH, "section 1",
					 "sample at offset", "post_load", "the lines are not wired",
					 NULL));
}

static void footer__of_another_section__refused(void)
{
	g_autoptr(GByteArray) section = sample_section();
	g_autoptr(GError) error = NULL;
	Sample sample = { 0 };

	section->data[section->len - 1] ^= 2;
	CU_ASSERT_FALSE(load(section->data, section->len, &sample, &error));
	CU_ASSERT_TRUE(sample_error_says(error, FERRY_ERROR_STREAM, "device \"sample\"", NULL));
}

/* Changes one to four bytes, or moves a piece over another. */
static void mutate(GRand *rand, guint8 *data, gint32 len)
{
	int changes = g_rand_int_range(rand, 1, 5);

	if (g_rand_int_range(rand, 0, 8) == 0) {
		gint32 n = g_rand_int_range(rand, 1, len / 2);

		memmove(data + g_rand_int_range(rand, 0, len - n),
			data + g_rand_int_range(rand, 0, len - n), n);
		return;
	}
	while (changes--) {
		gint32 at = g_rand_int_range(rand, 0, len);

		if (g_rand_boolean(rand))
			data[at] ^= 1u << g_rand_int_range(rand, 0, 8);
		else
			data[at] = g_rand_int_range(rand, 0, 256);
	}
}

static void section__thousands_of_mutants__load_or_fail_cleanly(void)
{
	g_autoptr(GByteArray) section = sample_section();
	g_autoptr(GRand) rand = g_rand_new_with_seed(0x46455252);
	guint loaded = 0, clean = 0;

	for (int i = 0; section && i < MUTANTS; i++) {
		g_autofree guint8 *mutant = g_memdup2(section->data, section->len);
		gsize len = i & 1 ? section->len : (gsize)g_rand_int_range(rand, 1, section->len);
		g_autoptr(GError) error = NULL;
		Sample sample = { 0 };

		mutate(rand, mutant, section->len);
		if (load(mutant, len, &sample, &error))
			loaded++;
		else
			clean += error && error->domain == FERRY_ERROR;
	}
	CU_ASSERT_EQUAL(loaded + clean, MUTANTS);
	CU_ASSERT_TRUE(loaded > 0 && clean > 0); /* else the mutants reach too little */
}

static CU_TestInfo cases[] = {
	CASE(section__whole__loads),
	CASE(section__cut_anywhere__fails_with_a_place),
	CASE(section__cut_in_a_struct__error_names_section_field_and_offset),
	CASE(boolean__neither_0_nor_1__refused),
	CASE(count__above_the_bound__refused_before_memory_is_touched),
	CASE(length__above_the_bound__refused_before_memory_is_touched),
	CASE(count__signed_and_negative__refused),
	CASE(post_load__refuses__load_fails_with_its_reason),
	CASE(footer__of_another_section__refused),
	CASE(section__thousands_of_mutants__load_or_fail_cleanly),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "vmstate against hostile bytes", cases);
}
