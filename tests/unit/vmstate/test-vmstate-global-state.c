/* SPDX-License-Identifier: BSD-2-Clause */
#include "sample.h"

#include <string.h>

#include "harness.h"

static void global_state__saved__golden_bytes(void)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autofree char *hex = NULL, *zeros = g_strnfill(2 * (FERRY_GLOBAL_STATE_SIZE - 7), '0');
	g_autofree char *want = g_strconcat("00000008", "72756e6e696e67", zeros, NULL);
	FerryGlobalState state;

	memset(&state, 0xaa, sizeof(state));
	ferry_global_state_set(&state, "running");
	CU_ASSERT_TRUE(ferry_vmstate_save(&ferry_global_state_vmstate, &state, out, NULL));
	hex = sample_hex(out);
	CU_ASSERT_STRING_EQUAL(hex, want);
	CU_ASSERT_STRING_EQUAL(ferry_global_state_vmstate.name, "globalstate");
	CU_ASSERT_EQUAL(ferry_global_state_vmstate.version_id, 1);
}

static void global_state__saved_and_loaded__same_name(void)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(FerryStreamReader) reader = NULL;
	g_autofree char *longest = g_strnfill(FERRY_GLOBAL_STATE_SIZE - 1, 'x');
	FerryGlobalState from, to = { 0 };
	const char *name;

	ferry_global_state_set(&from, longest);
	CU_ASSERT_TRUE(ferry_vmstate_save(&ferry_global_state_vmstate, &from, out, NULL));
	reader = ferry_stream_reader_new_for_data(out->data, out->len);
	CU_ASSERT_TRUE(ferry_vmstate_load(&ferry_global_state_vmstate, &to, 1, reader, NULL));
	name = ferry_global_state_get(&to, NULL);
	CU_ASSERT_PTR_NOT_NULL(name);
	CU_ASSERT_STRING_EQUAL(name ? name : "", longest);
}

/* Loads a state with this size and this first byte of the terminator's place. */
static gboolean load(guint32 size, gboolean terminated, GError **error)
{
	g_autoptr(GByteArray) bytes = g_byte_array_new();
	g_autoptr(FerryStreamReader) reader = NULL;
	FerryGlobalState state;

	ferry_put_be32(bytes, size);
	for (guint i = 0; i < FERRY_GLOBAL_STATE_SIZE; i++)
		ferry_put_u8(bytes, terminated && i >= 6 ? 0 : 'p');
	reader = ferry_stream_reader_new_for_data(bytes->data, bytes->len);
	return ferry_vmstate_load(&ferry_global_state_vmstate, &state, 1, reader, error);
}

static void global_state__wrong_size_or_no_terminator__refused(void)
{
	static const guint32 sizes[] = { 0, 6, 8, FERRY_GLOBAL_STATE_SIZE, G_MAXUINT32 };
	g_autoptr(GError) open = NULL;

	CU_ASSERT_TRUE(load(7, TRUE, NULL));
	for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
		g_autoptr(GError) error = NULL;
		g_autofree char *number = g_strdup_printf("size is %u,", sizes[i]);

		CU_ASSERT_FALSE(load(sizes[i], TRUE, &error));
		CU_ASSERT_TRUE(sample_error_says(error, FERRY_ERROR_DEVICE, "globalstate", number,
						 "7 bytes", NULL));
	}
	CU_ASSERT_FALSE(load(FERRY_GLOBAL_STATE_SIZE, FALSE, &open));
	CU_ASSERT_TRUE(sample_error_says(open, FERRY_ERROR_DEVICE, "not terminated", NULL));
}

static CU_TestInfo cases[] = {
	CASE(global_state__saved__golden_bytes),
	CASE(global_state__saved_and_loaded__same_name),
	CASE(global_state__wrong_size_or_no_terminator__refused),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "global state", cases);
}
