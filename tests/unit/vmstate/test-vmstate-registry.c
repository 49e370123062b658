/* SPDX-License-Identifier: BSD-2-Clause */
#include "sample.h"

#include <string.h>

#include "harness.h"

typedef struct {
	guint8 value;
	gboolean absent;
} Cell;

static gboolean cell_needed(gconstpointer opaque)
{
	return !((const Cell *)opaque)->absent;
}

static const FerryVmstateField fields[] = { FERRY_VMSTATE_UINT8(Cell, value), FERRY_VMSTATE_END };
static const FerryVmstate early = {
	.name = "iommu", .version_id = 1, .priority = 10, .fields = fields
};
static const FerryVmstate normal = { .name = "cell",
				     .version_id = 2,
				     .minimum_version_id = 2,
				     .fields = fields,
				     .needed = cell_needed };
static const FerryVmstate late = {
	.name = "late", .version_id = 1, .priority = -1, .fields = fields
};

/* The values of the sections' bodies (one byte each), in the stream's order; "failed" if
 * unreadable. */
static char *saved_order(FerryDevices *devices)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(GString) json = g_string_new(NULL);
	g_autoptr(FerryStreamReader) reader = NULL;
	GString *order = g_string_new(NULL);
	FerryStreamElement element;

	if (!ferry_devices_save(devices, 5, out, json, NULL))
		g_string_append(order, "failed");
	reader = ferry_stream_reader_new_for_data(out->data, out->len);
	while (ferry_stream_reader_peek(reader) >= 0 && ferry_stream_next(reader, &element, NULL)) {
		guint8 value = ferry_stream_reader_u8(reader);

		g_string_append_printf(order, "%u:%s/%u=%u ", element.section_id, element.name,
				       element.instance_id, value);
		if (!ferry_stream_read_footer(reader, element.section_id, NULL))
			g_string_append(order, "failed");
	}
	return g_string_free(order, FALSE);
}

static gboolean add(FerryDevices *devices, const FerryVmstate *vmstate, guint32 instance,
		    Cell *cell)
{
	return ferry_devices_register(devices, vmstate, instance, cell, NULL);
}

static void save__devices_of_several_priorities__by_priority_then_registration(void)
{
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	Cell cells[] = { { 1 }, { 2 }, { 3 }, { 4 }, { 5 } };
	g_autofree char *order = NULL;

	CU_ASSERT_TRUE(add(devices, &late, 0, &cells[0]));
	CU_ASSERT_TRUE(add(devices, &normal, 7, &cells[1]));
	CU_ASSERT_TRUE(add(devices, &normal, 3, &cells[2]));
	CU_ASSERT_TRUE(add(devices, &early, 1, &cells[3]));
	CU_ASSERT_TRUE(add(devices, &early, 0, &cells[4]));
	order = saved_order(devices);
	CU_ASSERT_STRING_EQUAL(order, "5:iommu/1=4 6:iommu/0=5 7:cell/7=2 8:cell/3=3 9:late/0=1 ");
}

static void register__any_instance__the_next_of_its_name(void)
{
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	Cell cells[] = { { 1 }, { 2 }, { 3 }, { 4 } };
	g_autofree char *order = NULL;

	CU_ASSERT_TRUE(add(devices, &normal, FERRY_INSTANCE_ANY, &cells[0]));
	CU_ASSERT_TRUE(add(devices, &normal, 4, &cells[1]));
	CU_ASSERT_TRUE(add(devices, &normal, FERRY_INSTANCE_ANY, &cells[2]));
	CU_ASSERT_TRUE(add(devices, &late, FERRY_INSTANCE_ANY, &cells[3]));
	order = saved_order(devices);
	CU_ASSERT_STRING_EQUAL(order, "5:cell/0=1 6:cell/4=2 7:cell/5=3 8:late/0=4 ");
}

static void register__taken_or_no_instance_left__refused(void)
{
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	g_autoptr(GError) taken = NULL, none_left = NULL;
	Cell cell = { 0 };

	CU_ASSERT_TRUE(add(devices, &normal, FERRY_INSTANCE_ANY - 1, &cell));
	CU_ASSERT_FALSE(
		ferry_devices_register(devices, &normal, FERRY_INSTANCE_ANY - 1, &cell, &taken));
	CU_ASSERT_TRUE(sample_error_says(taken, FERRY_ERROR_INVALID, "\"cell\" instance 4294967294",
					 NULL));
	CU_ASSERT_FALSE(
		ferry_devices_register(devices, &normal, FERRY_INSTANCE_ANY, &cell, &none_left));
	CU_ASSERT_TRUE(sample_error_says(none_left, FERRY_ERROR_INVALID, "\"cell\"", NULL));
}

static void unregister__one_of_two__the_other_stays(void)
{
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	Cell cells[] = { { 1 }, { 2 } };
	g_autofree char *order = NULL;

	CU_ASSERT_TRUE(add(devices, &normal, 0, &cells[0]));
	CU_ASSERT_TRUE(add(devices, &normal, 1, &cells[1]));
	ferry_devices_unregister(devices, &normal, &cells[0]);
	ferry_devices_unregister(devices, &late, &cells[1]);
	order = saved_order(devices);
	CU_ASSERT_STRING_EQUAL(order, "5:cell/1=2 ");
	CU_ASSERT_TRUE(add(devices, &normal, 0, &cells[0]));
}

static void save__device_not_needed__left_out(void)
{
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	Cell cells[] = { { 1, TRUE }, { 2 } };
	g_autofree char *order = NULL;

	CU_ASSERT_TRUE(add(devices, &normal, 0, &cells[0]));
	CU_ASSERT_TRUE(add(devices, &normal, 1, &cells[1]));
	order = saved_order(devices);
	CU_ASSERT_STRING_EQUAL(order, "5:cell/1=2 ");
}

static void save__one_device_fails__outputs_are_untouched(void)
{
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(GString) json = g_string_new("before");
	g_autoptr(GError) error = NULL;
	Cell cell = { 1 };
	Sample sample;

	sample_init(&sample);
	sample.n_lines = 200;
	ferry_put_u8(out, 0xaa);
	CU_ASSERT_TRUE(add(devices, &early, 0, &cell));
	CU_ASSERT_TRUE(ferry_devices_register(devices, &sample_vmstate, 2, &sample, NULL));
	CU_ASSERT_FALSE(ferry_devices_save(devices, 5, out, json, &error));
	CU_ASSERT_TRUE(sample_error_says(error, FERRY_ERROR_DEVICE, "cannot save section 6",
					 "\"sample\" instance 2", "sample/lines", NULL));
	CU_ASSERT_EQUAL(out->len, 1);
	CU_ASSERT_STRING_EQUAL(json->str, "before");
}

#define CELL(instance, version, value)                                                             \
	"\4\0\0\0\x9\4cell\0\0\0" instance "\0\0\0" version value "\x7e\0\0\0\x9"
#define LOAD(devices, bytes, error)                                                                \
	sample_load_section(devices, (const guint8 *)(bytes), sizeof(bytes) - 1, error)

static void load__by_name_and_instance__reaches_the_right_device(void)
{
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	Cell cells[] = { { 1 }, { 2 } };

	CU_ASSERT_TRUE(add(devices, &normal, 0, &cells[0]));
	CU_ASSERT_TRUE(add(devices, &normal, 1, &cells[1]));
	CU_ASSERT_TRUE(LOAD(devices, CELL("\1", "\2", "\x55"), NULL));
	CU_ASSERT_EQUAL(cells[0].value, 1);
	CU_ASSERT_EQUAL(cells[1].value, 0x55);
}

static void load__unknown_device__refused_by_name_and_instance(void)
{
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	g_autoptr(GError) instance = NULL, name = NULL;
	Cell cell = { 1 };

	CU_ASSERT_TRUE(add(devices, &normal, 0, &cell));
	CU_ASSERT_FALSE(LOAD(devices, CELL("\1", "\2", "\x55"), &instance));
	CU_ASSERT_TRUE(sample_error_says(instance, FERRY_ERROR_DEVICE, "section 9",
					 "\"cell\" instance 1", "at offset 0", "no such device",
					 NULL));
	CU_ASSERT_FALSE(LOAD(devices, "\4\0\0\0\x9\4fell\0\0\0\0\0\0\0\2\x55", &name));
	CU_ASSERT_TRUE(sample_error_says(name, FERRY_ERROR_DEVICE, "\"fell\" instance 0", NULL));
	CU_ASSERT_EQUAL(cell.value, 1);
}

static void load__version_out_of_range__refused_with_the_numbers(void)
{
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	g_autoptr(GError) newer = NULL, older = NULL;
	Cell cell = { 1 };

	CU_ASSERT_TRUE(add(devices, &normal, 0, &cell));
	CU_ASSERT_FALSE(LOAD(devices, CELL("\0", "\3", "\x55"), &newer));
	CU_ASSERT_TRUE(sample_error_says(newer, FERRY_ERROR_DEVICE, "version 3", "2 to 2", NULL));
	CU_ASSERT_FALSE(LOAD(devices, CELL("\0", "\1", "\x55"), &older));
	CU_ASSERT_TRUE(sample_error_says(older, FERRY_ERROR_DEVICE, "version 1", "2 to 2", NULL));
	CU_ASSERT_EQUAL(cell.value, 1);
}

static void load__device_in_parts__refused(void)
{
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	g_autoptr(GError) error = NULL;
	Cell cell = { 1 };

	CU_ASSERT_TRUE(add(devices, &normal, 0, &cell));
	CU_ASSERT_FALSE(
		LOAD(devices, "\1\0\0\0\x9\4cell\0\0\0\0\0\0\0\2\x55\x7e\0\0\0\x9", &error));
	CU_ASSERT_TRUE(
		sample_error_says(error, FERRY_ERROR_DEVICE, "\"cell\"", "full section", NULL));
}

static CU_TestInfo cases[] = {
	CASE(save__devices_of_several_priorities__by_priority_then_registration),
	CASE(register__any_instance__the_next_of_its_name),
	CASE(register__taken_or_no_instance_left__refused),
	CASE(unregister__one_of_two__the_other_stays),
	CASE(save__device_not_needed__left_out),
	CASE(save__one_device_fails__outputs_are_untouched),
	CASE(load__by_name_and_instance__reaches_the_right_device),
	CASE(load__unknown_device__refused_by_name_and_instance),
	CASE(load__version_out_of_range__refused_with_the_numbers),
	CASE(load__device_in_parts__refused),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "device registry", cases);
}
