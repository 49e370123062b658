/* SPDX-License-Identifier: BSD-2-Clause */
#include "sample.h"

#include <string.h>

#include "harness.h"

#define ELEMENTS 2
#define ELEMENT_MAX 16

/* One kind: two elements as they lie in memory, and as they must travel. */
typedef struct {
	FerryVmstateKind kind;
	gsize size;
	const void *memory;
	const char *golden[ELEMENTS];
} Kind;

static const Kind kinds[] = {
	{ FERRY_VMSTATE_U8, 1, (const guint8[]){ 0x05, 0xfe }, { "05", "fe" } },
	{ FERRY_VMSTATE_U16, 2, (const guint16[]){ 0x0102, 0xfffe }, { "0102", "fffe" } },
	{ FERRY_VMSTATE_U32, 4, (const guint32[]){ 0x01020304, 7 }, { "01020304", "00000007" } },
	{ FERRY_VMSTATE_U64,
	  8,
	  (const guint64[]){ 0x0102030405060708, 9 },
	  { "0102030405060708", "0000000000000009" } },
	{ FERRY_VMSTATE_S8, 1, (const gint8[]){ -1, 127 }, { "ff", "7f" } },
	{ FERRY_VMSTATE_S16, 2, (const gint16[]){ -2, 3 }, { "fffe", "0003" } },
	{ FERRY_VMSTATE_S32, 4, (const gint32[]){ -2, 3 }, { "fffffffe", "00000003" } },
	{ FERRY_VMSTATE_S64,
	  8,
	  (const gint64[]){ -2, 3 },
	  { "fffffffffffffffe", "0000000000000003" } },
	{ FERRY_VMSTATE_BOOL, sizeof(gboolean), (const gboolean[]){ TRUE, FALSE }, { "01", "00" } },
	{ FERRY_VMSTATE_TIMER,
	  8,
	  (const gint64[]){ -1, 1000000000 },
	  { "ffffffffffffffff", "000000003b9aca00" } },
	{ FERRY_VMSTATE_BUFFER, 3, "abcdef", { "616263", "646566" } },
};

static const FerryVmstateShape shapes[] = { FERRY_VMSTATE_SINGLE, FERRY_VMSTATE_ARRAY,
					    FERRY_VMSTATE_VARRAY, FERRY_VMSTATE_POINTER_ARRAY };

/* The struct that the made-up descriptions describe: its member is one of the union's. */
typedef struct {
	guint32 count;
	union {
		guint8 inside[ELEMENTS * ELEMENT_MAX];
		guint8 *outside;
		guint8 *pointers[ELEMENTS];
	} member;
	guint64 memory[ELEMENTS * ELEMENT_MAX / 8]; /* what the pointers point at */
} Holder;

/* Where the elements are, with the pointers set. */
static guint8 *holder_init(Holder *holder, FerryVmstateShape shape, gsize size)
{
	memset(holder, 0, sizeof(*holder));
	if (shape == FERRY_VMSTATE_VARRAY)
		holder->member.outside = (guint8 *)holder->memory;
	for (int i = 0; shape == FERRY_VMSTATE_POINTER_ARRAY && i < ELEMENTS; i++)
		holder->member.pointers[i] = (guint8 *)holder->memory + i * size;
	return shape == FERRY_VMSTATE_VARRAY || shape == FERRY_VMSTATE_POINTER_ARRAY
		       ? (guint8 *)holder->memory
		       : holder->member.inside;
}

/* A VARRAY's count, and the two elements: all that each shape writes. A variable buffer counts
 * bytes. */
static char *golden(const Kind *k, FerryVmstateShape shape)
{
	gsize count = k->kind == FERRY_VMSTATE_BUFFER ? ELEMENTS * k->size : ELEMENTS;
	g_autofree char *prefix = NULL;

	if (shape == FERRY_VMSTATE_SINGLE)
		return g_strdup(k->golden[0]);
	prefix = shape == FERRY_VMSTATE_VARRAY ? g_strdup_printf("%08x", (guint)count)
					       : g_strdup("");
	return g_strconcat(prefix, k->golden[0], k->golden[1], NULL);
}

static gboolean round_trips(const Kind *k, FerryVmstateShape shape)
{
	gsize elements = shape == FERRY_VMSTATE_SINGLE ? 1 : ELEMENTS;
	gsize units = k->kind == FERRY_VMSTATE_BUFFER && shape == FERRY_VMSTATE_VARRAY
			      ? ELEMENTS * k->size
			      : ELEMENTS;
	FerryVmstateField varray[] = {
		FERRY_VMSTATE_UINT32(Holder, count),
		{ .name = "member",
		  .kind = k->kind,
		  .shape = shape,
		  .size = k->size,
		  .offset = offsetof(Holder, member),
		  .count = units,
		  .count_offset = offsetof(Holder, count),
		  .count_size = 4 },
		FERRY_VMSTATE_END,
	};
	FerryVmstate vmstate = { .name = "holder",
				 .version_id = 1,
				 .minimum_version_id = 1,
				 .fields = shape == FERRY_VMSTATE_VARRAY ? varray : varray + 1 };
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(FerryStreamReader) reader = NULL;
	g_autofree char *want = golden(k, shape);
	g_autofree char *hex = NULL;
	Holder from, to;
	guint8 *sent = holder_init(&from, shape, k->size);
	guint8 *got = holder_init(&to, shape, k->size);

	from.count = units;
	memcpy(sent, k->memory, elements * k->size);
	if (!ferry_vmstate_save(&vmstate, &from, out, NULL))
		return FALSE;
	hex = sample_hex(out);
	reader = ferry_stream_reader_new_for_data(out->data, out->len);
	return !strcmp(hex, want) && ferry_vmstate_load(&vmstate, &to, 1, reader, NULL) &&
	       ferry_stream_reader_offset(reader) == out->len &&
	       !memcmp(got, k->memory, elements * k->size);
}

static void fields__every_kind_in_every_shape__golden_bytes_and_back(void)
{
	for (guint k = 0; k < G_N_ELEMENTS(kinds); k++) {
		for (guint s = 0; s < G_N_ELEMENTS(shapes); s++) {
			gboolean ok = round_trips(&kinds[k], shapes[s]);

			CU_ASSERT_TRUE(ok);
			if (!ok)
				printf("# kind %d, shape %d\n", kinds[k].kind, shapes[s]);
		}
	}
}

static void fields__padding__zeros_out_anything_in(void)
{
	static const FerryVmstateField fields[] = {
		FERRY_VMSTATE_PADDING(3),
		FERRY_VMSTATE_UINT8(Sample, u8),
		FERRY_VMSTATE_END,
	};
	static const FerryVmstate vmstate = { .name = "padded", .fields = fields };
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(FerryStreamReader) reader = ferry_stream_reader_new_for_data("xyz\x09", 4);
	g_autofree char *hex = NULL;
	Sample sample = { .u8 = 0xaa };

	CU_ASSERT_TRUE(ferry_vmstate_save(&vmstate, &sample, out, NULL));
	hex = sample_hex(out);
	CU_ASSERT_STRING_EQUAL(hex, "000000aa");
	CU_ASSERT_TRUE(ferry_vmstate_load(&vmstate, &sample, 0, reader, NULL));
	CU_ASSERT_EQUAL(sample.u8, 9);
}

static void sample__saved_and_loaded__equal(void)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(FerryStreamReader) reader = NULL;
	Sample from, to;

	sample_init(&from);
	sample_init(&to);
	sample_fill(&from);
	CU_ASSERT_FALSE(sample_equal(&from, &to));
	CU_ASSERT_TRUE(ferry_vmstate_save(&sample_vmstate, &from, out, NULL));
	reader = ferry_stream_reader_new_for_data(out->data, out->len);
	CU_ASSERT_TRUE(ferry_vmstate_load(&sample_vmstate, &to, 2, reader, NULL));
	CU_ASSERT_EQUAL(ferry_stream_reader_offset(reader), out->len);
	CU_ASSERT_TRUE(sample_equal(&from, &to));
}

/* One byte a read: every look ahead has to wait for more. */
static gssize read_one(gpointer user, const struct iovec *iov, int n, GError **error)
{
	GByteArray *rest = user;

	if (!rest->len)
		return 0;
	for (int i = 0; i < n; i++) {
		if (!iov[i].iov_len)
			continue;
		memcpy(iov[i].iov_base, rest->data, 1);
		g_byte_array_remove_index(rest, 0);
		return 1;
	}
	return 0;
}

static void sample__bytes_come_one_by_one__equal(void)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(FerryStreamReader) reader = ferry_stream_reader_new(read_one, out);
	Sample from, to;

	sample_init(&from);
	sample_init(&to);
	sample_fill(&from);
	CU_ASSERT_TRUE(ferry_vmstate_save(&sample_vmstate, &from, out, NULL));
	CU_ASSERT_TRUE(ferry_vmstate_load(&sample_vmstate, &to, 2, reader, NULL));
	CU_ASSERT_TRUE(sample_equal(&from, &to));
}

static void varray__of_no_elements__takes_no_byte_and_needs_no_memory(void)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(FerryStreamReader) reader = NULL;
	Sample from, to;

	sample_init(&from);
	sample_init(&to);
	sample_fill(&from);
	from.n_lines = 0;
	from.log_len = 0;
	from.lines = to.lines = NULL;
	from.log = to.log = NULL;
	CU_ASSERT_TRUE(ferry_vmstate_save(&sample_vmstate, &from, out, NULL));
	reader = ferry_stream_reader_new_for_data(out->data, out->len);
	CU_ASSERT_TRUE(ferry_vmstate_load(&sample_vmstate, &to, 2, reader, NULL));
	CU_ASSERT_EQUAL(to.u64, from.u64);
	CU_ASSERT_EQUAL(to.shadow[1]->rip, from.shadow[1]->rip);
}

static void save__count_above_the_bound__refused_and_nothing_written(void)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(GError) error = NULL;
	Sample sample;

	sample_init(&sample);
	ferry_put_u8(out, 0xaa);
	sample.n_lines = SAMPLE_LINES_MAX + 1;
	CU_ASSERT_FALSE(ferry_vmstate_save(&sample_vmstate, &sample, out, &error));
	CU_ASSERT_TRUE(sample_error_says(error, FERRY_ERROR_DEVICE, "sample/lines at offset ",
					 "7 elements", "at most 6", NULL));
	CU_ASSERT_EQUAL(out->len, 1);
}

static void save__null_pointer__refused_by_its_index(void)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(GError) error = NULL;
	g_autoptr(GError) nested = NULL;
	g_autoptr(GError) memory = NULL;
	Sample sample;

	sample_init(&sample);
	sample.levels[1] = NULL;
	CU_ASSERT_FALSE(ferry_vmstate_save(&sample_vmstate, &sample, out, &error));
	CU_ASSERT_TRUE(
		sample_error_says(error, FERRY_ERROR_DEVICE, "sample/levels[1]", "NULL", NULL));
	sample_init(&sample);
	sample.shadow[0] = NULL;
	CU_ASSERT_FALSE(ferry_vmstate_save(&sample_vmstate, &sample, out, &nested));
	CU_ASSERT_TRUE(
		sample_error_says(nested, FERRY_ERROR_DEVICE, "sample/shadow[0]", "NULL", NULL));
	sample_init(&sample);
	sample.log = NULL;
	sample.log_len = 1;
	CU_ASSERT_FALSE(ferry_vmstate_save(&sample_vmstate, &sample, out, &memory));
	CU_ASSERT_TRUE(sample_error_says(memory, FERRY_ERROR_DEVICE, "sample/log",
					 "NULL instead of memory", NULL));
}

static void load__null_pointer__refused_before_it_is_used(void)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(FerryStreamReader) reader = NULL;
	g_autoptr(GError) error = NULL;
	Sample from, to;

	sample_init(&from);
	sample_init(&to);
	sample_fill(&from);
	to.levels[1] = NULL;
	CU_ASSERT_TRUE(ferry_vmstate_save(&sample_vmstate, &from, out, NULL));
	reader = ferry_stream_reader_new_for_data(out->data, out->len);
	CU_ASSERT_FALSE(ferry_vmstate_load(&sample_vmstate, &to, 2, reader, &error));
	CU_ASSERT_TRUE(
		sample_error_says(error, FERRY_ERROR_DEVICE, "sample/levels[1]", "NULL", NULL));
}

static CU_TestInfo cases[] = {
	CASE(fields__every_kind_in_every_shape__golden_bytes_and_back),
	CASE(fields__padding__zeros_out_anything_in),
	CASE(sample__saved_and_loaded__equal),
	CASE(sample__bytes_come_one_by_one__equal),
	CASE(varray__of_no_elements__takes_no_byte_and_needs_no_memory),
	CASE(save__count_above_the_bound__refused_and_nothing_written),
	CASE(save__null_pointer__refused_by_its_index),
	CASE(load__null_pointer__refused_before_it_is_used),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "vmstate fields", cases);
}
