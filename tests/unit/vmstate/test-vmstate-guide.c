/* SPDX-License-Identifier: BSD-2-Clause */
#include "sample.h"

#include <string.h>

#include "harness.h"

/* clang-format off */
/* The examples of docs/vmstate.md, letter by letter, to which the first case holds them. */
typedef struct {
	guint32 divisor;
	guint8 fifo[4];
	gboolean raised;
	gint64 timeout;    /* nanoseconds; -1: not armed. Since version 2 */
	gboolean loopback; /* seldom on: travels in a subsection */
	guint8 loop_byte;
} Uart;

static const FerryVmstateField uart_1_fields[] = {
	FERRY_VMSTATE_UINT32(Uart, divisor),
	FERRY_VMSTATE_BYTES(Uart, fifo),
	FERRY_VMSTATE_BOOLEAN(Uart, raised),
	FERRY_VMSTATE_END,
};

static const FerryVmstate uart_1 = {
	.name = "uart",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = uart_1_fields,
};

static gboolean register_uart(FerryDevices *devices, Uart *uart, GError **error)
{
	return ferry_devices_register(devices, &uart_1, FERRY_INSTANCE_ANY, uart, error);
}

static const FerryVmstateField uart_fields[] = {
	FERRY_VMSTATE_UINT32(Uart, divisor),
	FERRY_VMSTATE_BYTES(Uart, fifo),
	FERRY_VMSTATE_BOOLEAN(Uart, raised),
	{ .name = "timeout", .kind = FERRY_VMSTATE_TIMER, .shape = FERRY_VMSTATE_SINGLE,
	  .offset = offsetof(Uart, timeout), .size = sizeof(gint64), .count = 1, .version = 2 },
	FERRY_VMSTATE_END,
};

static gboolean uart_loops(gconstpointer opaque)
{
	const Uart *uart = opaque;

	return uart->loopback;
}

static const FerryVmstateField uart_loopback_fields[] = {
	FERRY_VMSTATE_BOOLEAN(Uart, loopback),
	FERRY_VMSTATE_UINT8(Uart, loop_byte),
	FERRY_VMSTATE_END,
};

static const FerryVmstate uart_loopback = {
	.name = "uart/loopback",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = uart_loopback_fields,
	.needed = uart_loops,
};

static const FerryVmstate *const uart_subsections[] = { &uart_loopback, NULL };

static gboolean uart_pre_load(gpointer opaque, GError **error)
{
	Uart *uart = opaque;

	uart->timeout = -1;
	uart->loopback = FALSE;
	return TRUE;
}

static gboolean uart_post_load(gpointer opaque, guint32 version_id, GError **error)
{
	const Uart *uart = opaque;

	if (uart->divisor)
		return TRUE;
	g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_DEVICE, "the divisor is 0");
	return FALSE;
}

static const FerryVmstate uart = {
	.name = "uart",
	.version_id = 2,
	.minimum_version_id = 1,
	.fields = uart_fields,
	.subsections = uart_subsections,
	.pre_load = uart_pre_load,
	.post_load = uart_post_load,
};

#define RING_MAX 256

typedef struct {
	guint16 head;
	guint16 tail;
} Queue;

typedef struct {
	guint16 counters[3];
	guint16 ring_len; /* must come before the ring */
	guint32 *ring;    /* RING_MAX words, allocated with the card */
	Queue queues[2];
} Card;

static const FerryVmstateField queue_fields[] = {
	FERRY_VMSTATE_UINT16(Queue, head),
	FERRY_VMSTATE_UINT16(Queue, tail),
	FERRY_VMSTATE_END,
};

static const FerryVmstate queue = {
	.name = "card-queue",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = queue_fields,
};

static const FerryVmstateField card_fields[] = {
	FERRY_VMSTATE_ARRAY_OF(FERRY_VMSTATE_U16, guint16, Card, counters, 3),
	FERRY_VMSTATE_UINT16(Card, ring_len),
	FERRY_VMSTATE_VARRAY_OF(FERRY_VMSTATE_U32, guint32, Card, ring, ring_len, RING_MAX),
	FERRY_VMSTATE_NESTED_ARRAY(Card, queues, 2, Queue, &queue),
	FERRY_VMSTATE_END,
};

static const FerryVmstate card = {
	.name = "card",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = card_fields,
};
/* clang-format on */

/* The text between "```@language" and "```", of the @n-th such block; NULL if there is none. */
static char *guide_block(const char *language, guint n)
{
	g_autofree char *fence = g_strdup_printf("\n```%s\n", language);
	g_autofree char *guide = NULL;
	const char *begin, *end;

	if (!g_file_get_contents(GUIDE, &guide, NULL, NULL))
		return NULL;
	begin = strstr(guide, fence);
	while (begin && n--)
		begin = strstr(begin + 1, fence);
	if (!begin)
		return NULL;
	begin += strlen(fence);
	end = strstr(begin, "```\n");
	return end ? g_strndup(begin, end - begin) : NULL;
}

/* The hex digits of the block, without spaces and without the notes behind three spaces. */
static char *guide_bytes(guint n)
{
	g_autofree char *block = guide_block("text", n);
	g_auto(GStrv) lines = g_strsplit(block ? block : "", "\n", -1);
	GString *hex = g_string_new(NULL);

	for (char **line = lines; *line; line++) {
		const char *note = strstr(*line, "   ");

		for (const char *c = *line; *c && c != note; c++) {
			if (*c != ' ')
				g_string_append_c(hex, *c);
		}
	}
	return g_string_free(hex, FALSE);
}

static Uart example(void)
{
	return (Uart){ .divisor = 12,
		       .fifo = "hi!",
		       .raised = TRUE,
		       .timeout = 1000000000,
		       .loopback = TRUE,
		       .loop_byte = 0x5a };
}

static void guide__every_block_of_code__stands_in_this_file(void)
{
	g_autofree char *source = NULL;
	guint n = 0;

	CU_ASSERT_TRUE(g_file_get_contents(SOURCE, &source, NULL, NULL));
	for (;; n++) {
		g_autofree char *block = guide_block("c", n);

		if (!block)
			break;
		CU_ASSERT_TRUE(source && strstr(source, block));
	}
	CU_ASSERT_EQUAL(n, 6);
}

static void guide__first_version__bytes_and_json_as_shown(void)
{
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(GString) json = g_string_new(NULL);
	g_autofree char *want = guide_bytes(0), *hex = NULL, *want_json = guide_block("json", 0);
	g_auto(GStrv) json_lines = g_strsplit(want_json ? want_json : "", "\n", -1);
	g_autofree char *want_json_line = g_strjoinv("", json_lines);
	Uart port = example();

	CU_ASSERT_TRUE(register_uart(devices, &port, NULL));
	CU_ASSERT_TRUE(ferry_devices_save(devices, 1, out, json, NULL));
	hex = sample_hex(out);
	CU_ASSERT_STRING_EQUAL(hex, want);
	CU_ASSERT_STRING_EQUAL(json->str, want_json_line);
}

static void guide__second_version__bytes_as_shown_and_loads_the_first(void)
{
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	g_autoptr(GByteArray) out = g_byte_array_new(), old = g_byte_array_new();
	g_autoptr(GString) json = g_string_new(NULL);
	g_autoptr(FerryStreamReader) reader = NULL;
	g_autofree char *want = guide_bytes(1), *hex = NULL;
	Uart port = example();

	CU_ASSERT_TRUE(ferry_devices_register(devices, &uart, 0, &port, NULL));
	CU_ASSERT_TRUE(ferry_devices_save(devices, 1, out, json, NULL));
	hex = sample_hex(out);
	CU_ASSERT_STRING_EQUAL(hex, want);
	CU_ASSERT_TRUE(ferry_vmstate_save(&uart_1, &port, old, NULL));
	reader = ferry_stream_reader_new_for_data(old->data, old->len);
	CU_ASSERT_TRUE(ferry_vmstate_load(&uart, &port, 1, reader, NULL));
	CU_ASSERT_EQUAL(port.timeout, -1);
	CU_ASSERT_FALSE(port.loopback);
}

/* Saves the example, changes the byte at @offset, and loads it again: the message. */
static char *message_of(const FerryVmstate *vmstate, gpointer opaque, guint offset, guint8 byte)
{
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(GString) json = g_string_new(NULL);
	g_autoptr(GError) error = NULL;

	if (!ferry_devices_register(devices, vmstate, 0, opaque, NULL) ||
	    !ferry_devices_save(devices, 1, out, json, NULL))
		return g_strdup("not saved");
	out->data[offset] = byte;
	if (sample_load_section(devices, out->data, out->len, &error))
		return g_strdup("loaded");
	return g_strdup(error->message);
}

static void guide__messages__as_shown(void)
{
	g_autofree char *block = guide_block("text", 2);
	g_auto(GStrv) lines = g_strsplit(block ? block : "", "\n", -1);
	Uart ports[] = { example(), example(), example() };
	g_autofree char *boolean = message_of(&uart, &ports[0], 26, 2);
	g_autofree char *version = message_of(&uart, &ports[1], 17, 3);
	g_autofree char *refused = NULL;

	ports[2].loopback = FALSE;
	refused = message_of(&uart, &ports[2], 21, 0);
	CU_ASSERT_EQUAL(g_strv_length(lines), 4);
	if (g_strv_length(lines) != 4)
		return;
	CU_ASSERT_STRING_EQUAL(boolean, lines[0]);
	CU_ASSERT_STRING_EQUAL(version, lines[1]);
	CU_ASSERT_STRING_EQUAL(refused, lines[2]);
}

static void guide__message_of_a_count__as_shown(void)
{
	g_autofree guint32 *ring = g_new0(guint32, RING_MAX);
	Card state = { .ring_len = 0x00ff, .ring = ring };
	g_autofree char *message = message_of(&card, &state, 24, 0xff);
	g_autofree char *guide = NULL;
	const char *shown = strstr(message, "card/ring");

	CU_ASSERT_TRUE(g_file_get_contents(GUIDE, &guide, NULL, NULL));
	CU_ASSERT_TRUE(shown && guide && strstr(guide, shown));
	if (!shown || !guide || !strstr(guide, shown))
		printf("# %s\n", message);
}

static CU_TestInfo cases[] = {
	CASE(guide__every_block_of_code__stands_in_this_file),
	CASE(guide__first_version__bytes_and_json_as_shown),
	CASE(guide__second_version__bytes_as_shown_and_loads_the_first),
	CASE(guide__messages__as_shown),
	CASE(guide__message_of_a_count__as_shown),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "the guide to vmstate", cases);
}
