/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a hostile source may send on multifd's channels: random bytes, bent headers, bent payloads.
 * Whatever is accepted lies inside the block, and nothing is written outside of the pages.
 */
#include "harness.h"
#include <string.h>

#include <ferry/multifd.h>

#define PAGE FERRY_PAGE_SIZE
#define HEADERS 200000u
#define CHANNELS 3000u
#define BLOCK_PAGES 64u
#define GUARD 0xa5

static void fill(GRand *rand, guint8 *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (guint8)g_rand_int(rand);
}

static FerryMultifdPacket valid(GRand *rand, FerryMultifdCompression compression)
{
	FerryMultifdPacket packet = {
		.sync = g_rand_boolean(rand),
		.compression = compression,
		.pages = (guint32)g_rand_int_range(rand, 1, BLOCK_PAGES),
		.block = "ram",
	};

	packet.payload = packet.pages * PAGE;
	for (guint i = 0; i < packet.pages; i++)
		packet.offsets[i] = (guint64)g_rand_int_range(rand, 0, BLOCK_PAGES) * PAGE;
	return packet;
}

/* Bends one to three of the first bytes, where the numbers are, or anywhere. */
static void bend(GRand *rand, guint8 *data, size_t len)
{
	for (gint32 n = g_rand_int_range(rand, 1, 4); n; n--) {
		size_t most = g_rand_boolean(rand) ? MIN(len, 32) : len;

		data[g_rand_int_range(rand, 0, (gint32)most)] ^= (guint8)(1 << g_rand_int_range(
										  rand, 0, 8));
	}
}

static gboolean is_right(const FerryMultifdPacket *packet)
{
	if (packet->pages > FERRY_MULTIFD_PAGES || packet->payload > FERRY_MULTIFD_PAYLOAD_MAX ||
	    (guint)packet->compression >= FERRY_MULTIFD_COMPRESSION__N ||
	    !memchr(packet->block, 0, sizeof(packet->block)))
		return FALSE;
	for (guint i = 0; i < packet->pages; i++)
		if (packet->offsets[i] % PAGE)
			return FALSE;
	return TRUE;
}

static void headers__bent_or_random__accepted_ones_are_right(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);
	guint8 data[FERRY_MULTIFD_HEADER_SIZE];
	guint accepted = 0, wrong = 0;

	for (guint i = 0; i < HEADERS; i++) {
		FerryMultifdPacket packet = valid(rand, i % FERRY_MULTIFD_COMPRESSION__N);

		ferry_multifd_put_packet(data, &packet);
		if (i % 8)
			bend(rand, data, sizeof(data));
		else
			fill(rand, data, sizeof(data));
		if (!ferry_multifd_get_packet(data, &packet, NULL))
			continue;
		accepted++;
		wrong += !is_right(&packet);
		if (!ferry_multifd_packet_fits(&packet, BLOCK_PAGES * PAGE, NULL))
			continue;
		for (guint p = 0; p < packet.pages; p++)
			wrong += packet.offsets[p] + PAGE > BLOCK_PAGES * PAGE;
	}
	CU_ASSERT(accepted > 0 && accepted < HEADERS);
	CU_ASSERT_EQUAL(wrong, 0);
}

static void init_packets__bent_or_random__accepted_ones_are_right(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(2);
	guint8 data[FERRY_MULTIFD_INIT_SIZE];
	guint accepted = 0, wrong = 0;

	for (guint i = 0; i < HEADERS; i++) {
		FerryMultifdInit init = { .channel = (guint8)(i % 20) };

		ferry_multifd_put_init(data, &init);
		bend(rand, data, sizeof(data));
		if (!ferry_multifd_get_init(data, &init, NULL))
			continue;
		accepted++;
		wrong += init.channel >= FERRY_MULTIFD_CHANNELS_MAX;
	}
	CU_ASSERT(accepted > 0 && accepted < HEADERS);
	CU_ASSERT_EQUAL(wrong, 0);
}

/* ---- channels ---- */

typedef struct {
	GByteArray *bytes;
	size_t at;
} Tape;

static gssize tape_read(gpointer user, const struct iovec *iov, int n, GError **error)
{
	Tape *tape = user;
	size_t got = MIN(tape->bytes->len - tape->at, iov[0].iov_len);

	memcpy(iov[0].iov_base, tape->bytes->data + tape->at, got);
	tape->at += got;
	return (gssize)got;
}

static void put(GByteArray *out, FerryMultifdCompressor *compressor, GRand *rand,
		FerryMultifdCompression compression, const guint8 *memory)
{
	FerryMultifdPacket packet = valid(rand, compression);
	const guint8 *pages[FERRY_MULTIFD_PAGES], *payload = memory;
	guint8 header[FERRY_MULTIFD_HEADER_SIZE];

	for (guint i = 0; i < packet.pages; i++)
		pages[i] = memory + packet.offsets[i];
	if (compressor)
		packet.payload = (guint32)ferry_multifd_compress(compressor, pages, packet.pages,
								 &payload, NULL);
	ferry_multifd_put_packet(header, &packet);
	g_byte_array_append(out, header, sizeof(header));
	g_byte_array_append(out, payload, packet.payload);
}

/* Reads until something is wrong, into pages with a guard behind each. */
static gboolean read_channel(Tape *tape, guint8 *guarded)
{
	g_autoptr(FerryMultifdReader) reader = ferry_multifd_reader_new(tape_read, tape);
	FerryMultifdPacket packet;
	gboolean intact = TRUE;

	while (ferry_multifd_reader_next(reader, &packet, NULL)) {
		guint8 *pages[FERRY_MULTIFD_PAGES];

		for (guint i = 0; i < packet.pages; i++)
			pages[i] = guarded + (size_t)i * (PAGE + 1);
		if (packet.pages && !ferry_multifd_reader_pages(reader, &packet, pages, NULL))
			break;
	}
	for (guint i = 0; i < FERRY_MULTIFD_PAGES; i++)
		intact = intact && guarded[(size_t)i * (PAGE + 1) + PAGE] == GUARD;
	return intact;
}

static void channels__bent__nothing_is_written_beyond_a_page(void)
{
	g_autofree guint8 *memory = g_malloc(BLOCK_PAGES * PAGE);
	g_autofree guint8 *guarded = g_malloc((size_t)FERRY_MULTIFD_PAGES * (PAGE + 1));
	g_autoptr(GRand) rand = g_rand_new_with_seed(3);
	guint broken = 0;

	memset(guarded, GUARD, (size_t)FERRY_MULTIFD_PAGES * (PAGE + 1));
	for (guint i = 0; i < BLOCK_PAGES * PAGE; i++)
		memory[i] = (guint8)(i % 5 ? i / PAGE : g_rand_int(rand));
	for (guint i = 0; i < CHANNELS; i++) {
		FerryMultifdCompression compression = i % FERRY_MULTIFD_COMPRESSION__N;
		g_autoptr(FerryMultifdCompressor)
			compressor = compression
					     ? ferry_multifd_compressor_new(compression, 1, NULL)
					     : NULL;
		g_autoptr(GByteArray) bytes = g_byte_array_new();
		Tape tape = { bytes, 0 };

		put(bytes, compressor, rand, compression, memory);
		put(bytes, compressor, rand, compression, memory);
		bend(rand, bytes->data, bytes->len);
		bend(rand, bytes->data + FERRY_MULTIFD_HEADER_SIZE,
		     bytes->len - FERRY_MULTIFD_HEADER_SIZE);
		broken += !read_channel(&tape, guarded);
	}
	CU_ASSERT_EQUAL(broken, 0);
}

static CU_TestInfo cases[] = {
	CASE(headers__bent_or_random__accepted_ones_are_right),
	CASE(init_packets__bent_or_random__accepted_ones_are_right),
	CASE(channels__bent__nothing_is_written_beyond_a_page),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "multifd fuzz", cases);
}
