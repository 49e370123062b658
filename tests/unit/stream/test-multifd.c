/* SPDX-License-Identifier: BSD-2-Clause */
#include <golden.h>
#include <string.h>
#include "harness.h"

#include <ferry/multifd.h>

#define PAGE FERRY_PAGE_SIZE

static FerryMultifdPacket sample(void)
{
	return (FerryMultifdPacket){
		.pages = 3,
		.payload = 3 * PAGE,
		.number = 7,
		.block = "pc.ram",
		.offsets = { 0x5000, 0x6000, 0x10000 },
	};
}

/* Only what stands before the zeros that fill the packet: the page behind writes it down so. */
static gboolean write_example(const char *name, GByteArray *out)
{
	FerryMultifdInit init = { .channel = 1 };
	FerryMultifdPacket packet = sample();
	guint8 bytes[FERRY_MULTIFD_HEADER_SIZE];

	for (guint i = 0; i < sizeof(init.uuid); i++)
		init.uuid[i] = (guint8)i;
	packet.sync = strcmp(name, "multifd SYNC") == 0;
	if (packet.sync)
		packet = (FerryMultifdPacket){ .sync = TRUE, .number = 8 };
	ferry_multifd_put_packet(bytes, &packet);
	if (strcmp(name, "multifd init 1") == 0) {
		ferry_multifd_put_init(bytes, &init);
		g_byte_array_append(out, bytes, 25);
	} else if (strcmp(name, "multifd packet") == 0) {
		g_byte_array_append(out, bytes, 32);
	} else if (strcmp(name, "block, offsets") == 0) {
		g_byte_array_append(out, bytes + 64, 6);
		g_byte_array_append(out, bytes + 320, 24);
	} else if (packet.sync) {
		g_byte_array_append(out, bytes, 32);
	} else {
		return FALSE;
	}
	return TRUE;
}

static void examples__of_the_page_on_the_wire__are_what_is_written(void)
{
	CU_ASSERT_EQUAL(golden_compare("multifd init 1", write_example), 4);
}

/* As QEMU 7.2 sent them. */
static void packet__as_captured__read(void)
{
	static const guint8 start[] = { 0x11, 0x22, 0x33, 0x44, 0,    0, 0, 1, 0,    0, 0,
					1,    0,    0,    0,    0x80, 0, 0, 0, 0x80, 0, 8,
					0,    0,    0,    0,    0,    0, 0, 0, 0,    7 };
	guint8 bytes[FERRY_MULTIFD_HEADER_SIZE] = { 0 };
	FerryMultifdPacket packet;

	memcpy(bytes, start, sizeof(start));
	strcpy((char *)bytes + 64, "pc.ram");
	ferry_store_be64(bytes + 320 + 8 * 127, 0x3f000);
	CU_ASSERT_TRUE(ferry_multifd_get_packet(bytes, &packet, NULL));
	CU_ASSERT_TRUE(packet.sync);
	CU_ASSERT_EQUAL(packet.compression, FERRY_MULTIFD_COMPRESSION_NONE);
	CU_ASSERT_EQUAL(packet.pages, 128);
	CU_ASSERT_EQUAL(packet.payload, 512 << 10);
	CU_ASSERT_EQUAL(packet.number, 7);
	CU_ASSERT_STRING_EQUAL(packet.block, "pc.ram");
	CU_ASSERT_EQUAL(packet.offsets[127], 0x3f000);
	CU_ASSERT_TRUE(ferry_multifd_packet_fits(&packet, 0x40000, NULL));
	CU_ASSERT_FALSE(ferry_multifd_packet_fits(&packet, 0x3f000, NULL));
}

/* A QEMU leaves the size of the last payload in a SYNC that has none. */
static void packet__sync_without_pages__has_no_payload(void)
{
	FerryMultifdPacket packet = { .sync = TRUE, .payload = 0x80000 };
	guint8 bytes[FERRY_MULTIFD_HEADER_SIZE];

	ferry_multifd_put_packet(bytes, &packet);
	CU_ASSERT_TRUE(ferry_multifd_get_packet(bytes, &packet, NULL));
	CU_ASSERT_EQUAL(packet.payload, 0);
	CU_ASSERT_EQUAL(packet.pages, 0);
}

static void packet__one_number_wrong__is_refused(void)
{
	static const struct {
		guint at;
		guint32 value;
		const char *word;
	} bad[] = {
		{ 0, 0x11223345, "magic" },
		{ 4, 2, "version 2" },
		{ 8, 6, "flags 0x6" },
		{ 8, 0x100, "flags" },
		{ 12, 129, "129" },
		{ 16, 129, "129 pages" },
		{ 16, 4, "4 pages" },
		{ 20, 3 * PAGE - 1, "12287 bytes" },
		{ 32, 1, "zero-page-detection" },
		{ 64, 0, "empty" },
		{ 324, 0x5001, "0x5001" },
	};
	guint8 bytes[FERRY_MULTIFD_HEADER_SIZE];

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		FerryMultifdPacket packet = sample();
		g_autoptr(GError) error = NULL;

		ferry_multifd_put_packet(bytes, &packet);
		ferry_store_be32(bytes + bad[i].at, bad[i].value);
		packet.number = 99;
		CU_ASSERT_FALSE(ferry_multifd_get_packet(bytes, &packet, &error));
		CU_ASSERT_EQUAL(packet.number, 99);
		CU_ASSERT_PTR_NOT_NULL(error ? strstr(error->message, bad[i].word) : NULL);
	}
}

static void packet__block_name_or_payload_out_of_bounds__is_refused(void)
{
	FerryMultifdPacket packet = sample();
	guint8 bytes[FERRY_MULTIFD_HEADER_SIZE];

	ferry_multifd_put_packet(bytes, &packet);
	memset(bytes + 64, 'a', 256);
	CU_ASSERT_FALSE(ferry_multifd_get_packet(bytes, &packet, NULL));
	packet.compression = FERRY_MULTIFD_COMPRESSION_ZLIB;
	packet.payload = FERRY_MULTIFD_PAYLOAD_MAX + 1;
	ferry_multifd_put_packet(bytes, &packet);
	CU_ASSERT_FALSE(ferry_multifd_get_packet(bytes, &packet, NULL));
	packet.payload = 0;
	ferry_multifd_put_packet(bytes, &packet);
	CU_ASSERT_FALSE(ferry_multifd_get_packet(bytes, &packet, NULL));
	packet.payload = FERRY_MULTIFD_PAYLOAD_MAX;
	ferry_multifd_put_packet(bytes, &packet);
	CU_ASSERT_TRUE(ferry_multifd_get_packet(bytes, &packet, NULL));
}

static void init__wrong_or_too_many__is_refused(void)
{
	FerryMultifdInit init = { .channel = 15 }, got;
	guint8 bytes[FERRY_MULTIFD_INIT_SIZE];

	init.uuid[3] = 5;
	ferry_multifd_put_init(bytes, &init);
	CU_ASSERT_TRUE(ferry_multifd_get_init(bytes, &got, NULL));
	CU_ASSERT_EQUAL(got.channel, 15);
	CU_ASSERT_EQUAL(got.uuid[3], 5);
	bytes[24] = 16;
	CU_ASSERT_FALSE(ferry_multifd_get_init(bytes, &got, NULL));
	bytes[24] = 0;
	bytes[7] = 2;
	CU_ASSERT_FALSE(ferry_multifd_get_init(bytes, &got, NULL));
	bytes[7] = 1;
	bytes[0] = 0x12;
	CU_ASSERT_FALSE(ferry_multifd_get_init(bytes, &got, NULL));
	CU_ASSERT_EQUAL(got.channel, 15);
}

/* ---- a channel ---- */

/* A tape that is read in bites of at most @bite bytes. */
typedef struct {
	GByteArray *bytes;
	size_t at, bite;
} Tape;

static gssize tape_read(gpointer user, const struct iovec *iov, int n, GError **error)
{
	Tape *tape = user;
	size_t got = MIN(MIN(tape->bytes->len - tape->at, tape->bite), iov[0].iov_len);

	memcpy(iov[0].iov_base, tape->bytes->data + tape->at, got);
	tape->at += got;
	return (gssize)got;
}

#define PAGES 256u

typedef struct {
	guint8 *from, *to;
	FerryMultifdCompressor *compressor;
	Tape tape;
} Course;

/* Every fourth page does not compress; page i is otherwise full of i. */
static Course course_new(FerryMultifdCompression compression)
{
	Course c = { g_malloc(PAGES * PAGE),
		     g_malloc0(PAGES * PAGE),
		     NULL,
		     { g_byte_array_new(), 0, 1000 } };
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);

	for (guint i = 0; i < PAGES * PAGE; i++)
		c.from[i] = (guint8)(i / PAGE % 4 ? i / PAGE : g_rand_int(rand));
	if (compression)
		c.compressor = ferry_multifd_compressor_new(compression, 1, NULL);
	return c;
}

static void course_clear(Course *c)
{
	ferry_multifd_compressor_free(c->compressor);
	g_byte_array_unref(c->tape.bytes);
	g_free(c->from);
	g_free(c->to);
}

/* Every @step-th page, from @first, @n of them. */
static void course_put(Course *c, FerryMultifdCompression compression, guint first, guint n,
		       guint step)
{
	FerryMultifdPacket packet = { .compression = compression, .pages = n, .block = "a" };
	guint8 header[FERRY_MULTIFD_HEADER_SIZE];
	const guint8 *pages[FERRY_MULTIFD_PAGES], *payload = NULL;

	packet.payload = n * PAGE;
	for (guint i = 0; i < n; i++) {
		packet.offsets[i] = (guint64)(first + i * step) * PAGE;
		pages[i] = c->from + packet.offsets[i];
	}
	if (compression) {
		packet.payload = (guint32)ferry_multifd_compress(c->compressor, pages, n, &payload,
								 NULL);
		CU_ASSERT(packet.payload > 0);
	}
	ferry_multifd_put_packet(header, &packet);
	g_byte_array_append(c->tape.bytes, header, sizeof(header));
	if (payload)
		g_byte_array_append(c->tape.bytes, payload, packet.payload);
	for (guint i = 0; !payload && i < n; i++)
		g_byte_array_append(c->tape.bytes, pages[i], PAGE);
}

/* Returns the packets that came; @error as of the last. */
static guint course_get(Course *c, GError **error)
{
	g_autoptr(FerryMultifdReader) reader = ferry_multifd_reader_new(tape_read, &c->tape);
	FerryMultifdPacket packet;
	guint n = 0;

	while (ferry_multifd_reader_next(reader, &packet, error)) {
		guint8 *pages[FERRY_MULTIFD_PAGES];

		for (guint i = 0; i < packet.pages; i++)
			pages[i] = c->to + packet.offsets[i];
		if (!ferry_multifd_packet_fits(&packet, PAGES * PAGE, error) ||
		    !ferry_multifd_reader_pages(reader, &packet, pages, error))
			break;
		n++;
	}
	CU_ASSERT_EQUAL(ferry_multifd_reader_offset(reader), c->tape.at);
	return n;
}

static void channel__any_compression__pages_arrive(void)
{
	for (guint compression = 0; compression < FERRY_MULTIFD_COMPRESSION__N; compression++) {
		Course c = course_new(compression);
		g_autoptr(GError) error = NULL;

		course_put(&c, compression, 0, 128, 1);
		course_put(&c, compression, 129, 63, 2);
		course_put(&c, compression, 128, 64, 2);
		course_put(&c, compression, 255, 1, 1);
		CU_ASSERT_EQUAL(course_get(&c, &error), 4);
		CU_ASSERT_PTR_NULL(error);
		CU_ASSERT_EQUAL(memcmp(c.from, c.to, PAGES * PAGE), 0);
		course_clear(&c);
	}
}

static void channel__cut_anywhere__is_told_but_between_packets(void)
{
	for (guint compression = 0; compression < FERRY_MULTIFD_COMPRESSION__N; compression++) {
		Course c = course_new(compression);
		guint first, all;

		course_put(&c, compression, 1, 2, 1);
		first = c.tape.bytes->len;
		course_put(&c, compression, 4, 2, 1);
		all = c.tape.bytes->len;
		for (guint len = 0; len <= all; len++) {
			g_autoptr(GError) error = NULL;
			gboolean clean = len == 0 || len == first || len == all;

			c.tape.bytes->len = len;
			c.tape.at = 0;
			course_get(&c, &error);
			if (clean ? error != NULL
				  : !g_error_matches(error, FERRY_ERROR, FERRY_ERROR_LINK))
				CU_FAIL("a cut");
		}
		course_clear(&c);
	}
}

static void channel__compression_changes__is_refused(void)
{
	Course c = course_new(FERRY_MULTIFD_COMPRESSION_ZSTD);
	g_autoptr(GError) error = NULL;

	course_put(&c, FERRY_MULTIFD_COMPRESSION_ZSTD, 0, 1, 1);
	course_put(&c, FERRY_MULTIFD_COMPRESSION_NONE, 0, 1, 1);
	CU_ASSERT_EQUAL(course_get(&c, &error), 1);
	CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
	CU_ASSERT_PTR_NOT_NULL(error ? strstr(error->message, "zstd") : NULL);
	course_clear(&c);
}

/* The header promises one page less, or one more, than the payload has. */
static void channel__payload_of_other_pages__is_refused(void)
{
	for (guint compression = 1; compression < FERRY_MULTIFD_COMPRESSION__N; compression++) {
		for (guint pages = 4; pages <= 6; pages += 2) {
			Course c = course_new(compression);
			g_autoptr(GError) error = NULL;

			course_put(&c, compression, 0, 5, 1);
			ferry_store_be32(c.tape.bytes->data + 16, pages);
			CU_ASSERT_EQUAL(course_get(&c, &error), 0);
			CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
			course_clear(&c);
		}
	}
}

static CU_TestInfo cases[] = {
	CASE(examples__of_the_page_on_the_wire__are_what_is_written),
	CASE(packet__as_captured__read),
	CASE(packet__sync_without_pages__has_no_payload),
	CASE(packet__one_number_wrong__is_refused),
	CASE(packet__block_name_or_payload_out_of_bounds__is_refused),
	CASE(init__wrong_or_too_many__is_refused),
	CASE(channel__any_compression__pages_arrive),
	CASE(channel__cut_anywhere__is_told_but_between_packets),
	CASE(channel__compression_changes__is_refused),
	CASE(channel__payload_of_other_pages__is_refused),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "multifd", cases);
}
