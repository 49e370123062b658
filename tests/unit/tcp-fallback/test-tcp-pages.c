/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>
#include <sys/mman.h>
#include <ferry/carrier.h>
#include <ferry/protocol.h>
#include "golden.h"
#include "harness.h"
#include "tcp-fallback/pages.h"

#define PAGE FERRY_PAGE_SIZE

/* A channel that keeps what is written, as much at a time as it is told to. */
typedef struct {
	FerryChannel base;
	GByteArray *written;
	size_t each;   /* bytes that one write takes at most */
	gint64 budget; /* bytes until it would block; -1: never */
	guint writes;
	size_t largest; /* bytes taken by one write */
	gboolean broken;
} FakeChannel;

static gssize fake_try_write(FerryChannel *channel, const struct iovec *iov, int n, GError **error)
{
	FakeChannel *f = (FakeChannel *)channel;
	size_t room = f->budget < 0 ? f->each : MIN(f->each, (size_t)f->budget), done = 0;

	if (f->broken) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK, "broken on purpose");
		return -1;
	}
	for (int i = 0; i < n && done < room; i++) {
		size_t len = MIN(iov[i].iov_len, room - done);

		g_byte_array_append(f->written, iov[i].iov_base, (guint)len);
		done += len;
	}
	f->writes += done > 0;
	f->largest = MAX(f->largest, done);
	if (f->budget >= 0)
		f->budget -= (gint64)done;
	return (gssize)done;
}

static const FerryChannelOps fake_ops = { .name = "fake", .try_write = fake_try_write };

typedef struct {
	FakeChannel channel;
	FerryRamBlock blocks[2];
	FerryRam ram;
	FerryCarrier *carrier;
} Fixture;

static FerryRamBlock make_block(const char *name, guint64 pages)
{
	FerryRamBlock block = { (char *)name, NULL, pages * PAGE, PAGE, -1, 0 };

	block.host = mmap(NULL, block.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			  0);
	return block;
}

/* Block "a" has 8192 pages, "bios" 4. */
static void setup(Fixture *f, FerryPageFormat format)
{
	*f = (Fixture){ .blocks = { make_block("a", 8192), make_block("bios", 4) } };
	f->ram = (FerryRam){ 2, f->blocks, f->blocks[0].size + f->blocks[1].size };
	f->channel = (FakeChannel){
		{ &fake_ops, TRUE }, g_byte_array_new(), G_MAXINT32, -1, 0, 0, FALSE
	};
	f->carrier = ferry_page_carrier_new(&f->channel.base, format);
	f->carrier->ops->share_ram(f->carrier, &f->ram, NULL);
}

static void teardown(Fixture *f)
{
	ferry_carrier_close(f->carrier);
	g_byte_array_unref(f->channel.written);
	for (guint i = 0; i < 2; i++)
		munmap(f->blocks[i].host, f->blocks[i].size);
}

static void fill(FerryRamBlock *block, guint64 first, guint64 pages)
{
	for (guint64 i = first * PAGE / 4; i < (first + pages) * PAGE / 4; i++)
		((guint32 *)block->host)[i] = (guint32)(i * 2654435761u) | 1;
}

static FerryIo put(Fixture *f, FerryRun run, gboolean zero)
{
	size_t taken = 77;
	FerryIo io = (zero ? f->carrier->ops->put_zero : f->carrier->ops->put)(f->carrier, &run, 1,
									       &taken);

	CU_ASSERT_EQUAL(taken, io == FERRY_IO_OK);
	return io;
}

static void settle(Fixture *f)
{
	CU_ASSERT_EQUAL(f->carrier->ops->settle(f->carrier, 1), FERRY_IO_OK);
}

/* Appends hex digits (spaces allowed) as bytes. */
static void put_hex(GByteArray *out, const char *hex)
{
	for (; *hex; hex += hex[0] == ' ' ? 1 : 2)
		if (hex[0] != ' ')
			ferry_put_u8(out, (guint8)(g_ascii_xdigit_value(hex[0]) << 4 |
						   g_ascii_xdigit_value(hex[1])));
}

static gboolean same(const GByteArray *a, const GByteArray *b)
{
	return a->len == b->len && !memcmp(a->data, b->data, a->len);
}

static void pages__qemu_format__golden_bytes(void)
{
	g_autoptr(GByteArray) golden = g_byte_array_new();
	Fixture f;

	setup(&f, FERRY_PAGE_FORMAT_QEMU);
	fill(&f.blocks[0], 0, 4);
	fill(&f.blocks[1], 0, 4);
	put(&f, (FerryRun){ 0, 1, 2 }, FALSE);
	put(&f, (FerryRun){ 1, 3, 1 }, FALSE);
	settle(&f);
	/* The next section goes on with the block of the last page. */
	put(&f, (FerryRun){ 1, 0, 2 }, TRUE);
	put(&f, (FerryRun){ 0, 8191, 1 }, TRUE);
	settle(&f);

	put_hex(golden, "0000000000001008 01 61");
	g_byte_array_append(golden, f.blocks[0].host + PAGE, PAGE);
	put_hex(golden, "0000000000002028");
	g_byte_array_append(golden, f.blocks[0].host + 2 * PAGE, PAGE);
	put_hex(golden, "0000000000003008 04 62696f73");
	g_byte_array_append(golden, f.blocks[1].host + 3 * PAGE, PAGE);
	put_hex(golden, "0000000000000022 00 0000000000001022 00");
	put_hex(golden, "0000000001fff002 01 61 00");
	CU_ASSERT(same(f.channel.written, golden));
	teardown(&f);
}

static void pages__run_format__golden_bytes(void)
{
	g_autoptr(GByteArray) golden = g_byte_array_new();
	Fixture f;

	setup(&f, FERRY_PAGE_FORMAT_RUNS);
	fill(&f.blocks[0], 0, 8192);
	put(&f, (FerryRun){ 1, 2, 2 }, TRUE);
	/* 16 MiB and 8 KiB: two records. */
	put(&f, (FerryRun){ 0, 16, 4098 }, FALSE);
	settle(&f);

	put_hex(golden,
		"08 4652 001c 0101 01 00 00000014 00000001 0000000000000002 0000000000000002");
	put_hex(golden,
		"08 4652 001c 0100 01 00 00000014 00000000 0000000000000010 0000000000001000");
	g_byte_array_append(golden, f.blocks[0].host + 16 * PAGE, 4096 * PAGE);
	put_hex(golden,
		"08 4652 001c 0100 01 00 00000014 00000000 0000000000001010 0000000000000002");
	g_byte_array_append(golden, f.blocks[0].host + 4112 * PAGE, 2 * PAGE);
	CU_ASSERT(same(f.channel.written, golden));
	teardown(&f);
}

static FerryIo put_encoded(Fixture *f, guint64 page, FerryPageForm form, size_t len)
{
	static const guint8 data[FERRY_PAGE_SIZE] = { 1, 2, 3 };

	return f->carrier->ops->put_encoded(f->carrier, 0, page, form, data, len);
}

/* The words of QEMU's format, as docs/protocol.md has them: each with its data behind it. */
static gboolean write_word(const char *name, GByteArray *out)
{
	static const struct {
		const char *name;
		FerryPageForm form;
		size_t len;
	} words[] = {
		{ "page", FERRY_PAGE_FORM_PLAIN, PAGE },
		{ "difference", FERRY_PAGE_FORM_XBZRLE, 3 },
		{ "deflated", FERRY_PAGE_FORM_ZLIB, 20 },
	};
	Fixture f;

	setup(&f, FERRY_PAGE_FORMAT_QEMU);
	for (guint i = 0; i < G_N_ELEMENTS(words); i++) {
		CU_ASSERT_EQUAL(put_encoded(&f, i + 1, words[i].form, words[i].len), FERRY_IO_OK);
		settle(&f);
		if (g_str_equal(words[i].name, name))
			g_byte_array_append(out, f.channel.written->data,
					    f.channel.written->len - (guint)words[i].len);
		g_byte_array_set_size(f.channel.written, 0);
	}
	teardown(&f);
	return TRUE;
}

static void pages__encoded_in_qemu_format__words_of_protocol_md(void)
{
	CU_ASSERT_EQUAL(golden_compare("page", write_word), 3);
}

static gboolean write_record(const char *name, GByteArray *out)
{
	Fixture f;

	if (!g_str_equal(name, "ENCODED_PAGE"))
		return FALSE;
	setup(&f, FERRY_PAGE_FORMAT_RUNS);
	f.carrier->ops->put_encoded(f.carrier, 1, 16, FERRY_PAGE_FORM_XBZRLE, (const guint8 *)"abc",
				    3);
	settle(&f);
	CU_ASSERT_EQUAL(f.channel.written->len, 5 + 28 + 3);
	CU_ASSERT_EQUAL(memcmp(f.channel.written->data, "\x08\x46\x52\0\x1c", 5), 0);
	CU_ASSERT_EQUAL(memcmp(f.channel.written->data + 33, "abc", 3), 0);
	g_byte_array_append(out, f.channel.written->data + 5, 28);
	teardown(&f);
	return TRUE;
}

static void pages__encoded_in_run_format__record_of_protocol_md(void)
{
	CU_ASSERT_EQUAL(golden_compare("HELLO", write_record), 1);
}

/* Encoded pages stand behind what was put before them, however little the channel takes. */
static void pages__encoded_between_runs__order_is_kept(void)
{
	for (guint each = 100; each <= 100000; each *= 10) {
		g_autoptr(GByteArray) golden = g_byte_array_new();
		Fixture f;

		setup(&f, FERRY_PAGE_FORMAT_QEMU);
		fill(&f.blocks[0], 0, 400);
		f.channel.each = each;
		put(&f, (FerryRun){ 0, 0, 300 }, FALSE);
		for (guint i = 0; i < 200; i++)
			CU_ASSERT_EQUAL(put_encoded(&f, 300 + i, FERRY_PAGE_FORM_PLAIN, PAGE),
					FERRY_IO_OK);
		settle(&f);
		CU_ASSERT_EQUAL(f.channel.written->len, 2 + 500 * (8 + PAGE));
		for (guint i = 0; i < 500; i++) {
			const guint8 *word = f.channel.written->data + (i ? 2 : 0) + i * (8 + PAGE);

			CU_ASSERT_EQUAL(ferry_load_be64(word) >> FERRY_PAGE_SHIFT, i);
		}
		teardown(&f);
	}
}

static void pages__encoded_where_nothing_is_taken__is_offered_again(void)
{
	guint taken = 0;
	Fixture f;

	setup(&f, FERRY_PAGE_FORMAT_RUNS);
	f.channel.budget = 0;
	while (put_encoded(&f, taken, FERRY_PAGE_FORM_PLAIN, PAGE) == FERRY_IO_OK)
		taken++;
	CU_ASSERT(taken > 10 && taken < 1000);
	f.channel.budget = -1;
	CU_ASSERT_EQUAL(put_encoded(&f, taken, FERRY_PAGE_FORM_PLAIN, PAGE), FERRY_IO_OK);
	settle(&f);
	CU_ASSERT_EQUAL(f.channel.written->len, (taken + 1) * (33 + PAGE));
	f.channel.broken = TRUE;
	CU_ASSERT_EQUAL(put_encoded(&f, 0, FERRY_PAGE_FORM_PLAIN, PAGE), FERRY_IO_OK);
	CU_ASSERT_EQUAL(f.carrier->ops->settle(f.carrier, 1), FERRY_IO_DEAD);
	CU_ASSERT_EQUAL(put_encoded(&f, 0, FERRY_PAGE_FORM_PLAIN, PAGE), FERRY_IO_DEAD);
	teardown(&f);
}

static void pages__stats__count_bytes_and_pages(void)
{
	FerryCarrierStats stats;
	Fixture f;

	setup(&f, FERRY_PAGE_FORMAT_RUNS);
	put(&f, (FerryRun){ 0, 0, 10 }, FALSE);
	put(&f, (FerryRun){ 0, 10, 3 }, TRUE);
	settle(&f);
	f.carrier->ops->get_stats(f.carrier, &stats);
	CU_ASSERT_EQUAL(stats.pages, 10);
	CU_ASSERT_EQUAL(stats.zero_pages, 3);
	CU_ASSERT_EQUAL(stats.bytes, 2 * 33 + 10 * PAGE);
	CU_ASSERT_EQUAL(stats.bytes, f.channel.written->len);
	CU_ASSERT_STRING_EQUAL(f.carrier->ops->name, "fake");
	teardown(&f);
}

/* What @format writes for a mixture of runs to a channel that takes @each bytes at a time and would
 * block after each @budget of them. */
static GByteArray *written_piecemeal(FerryPageFormat format, size_t each, gint64 budget)
{
	const FerryRun runs[] = { { 0, 0, 3 }, { 1, 1, 1 }, { 1, 2, 2 }, { 0, 7, 1 } };
	GByteArray *written;
	Fixture f;

	setup(&f, format);
	fill(&f.blocks[0], 0, 8);
	fill(&f.blocks[1], 0, 4);
	f.channel.each = each;
	for (guint i = 0; i < G_N_ELEMENTS(runs); i++) {
		f.channel.budget = 0;
		while (put(&f, runs[i], i == 1) == FERRY_IO_AGAIN)
			f.channel.budget = budget;
	}
	while (f.carrier->ops->settle(f.carrier, 1) == FERRY_IO_AGAIN)
		f.channel.budget = budget;
	written = g_byte_array_ref(f.channel.written);
	teardown(&f);
	return written;
}

static void pages__partial_writes_at_every_boundary__same_bytes(void)
{
	for (int format = FERRY_PAGE_FORMAT_QEMU; format <= FERRY_PAGE_FORMAT_RUNS; format++) {
		g_autoptr(GByteArray) whole = written_piecemeal(format, G_MAXINT32, -1);
		guint wrong = 0;

		for (size_t each = 1; each < whole->len; each += each < 5000 ? 1 : 997) {
			g_autoptr(GByteArray)
				pieces = written_piecemeal(format, each, (gint64)each * 3 + 1);

			wrong += !same(whole, pieces);
		}
		CU_ASSERT_EQUAL(wrong, 0);
	}
}

static void pages__single_page_runs__go_out_in_large_writes(void)
{
	FerryRun runs[4096];
	size_t taken;
	Fixture f;

	setup(&f, FERRY_PAGE_FORMAT_RUNS);
	for (guint i = 0; i < G_N_ELEMENTS(runs); i++)
		runs[i] = (FerryRun){ 0, 2 * i, 1 };
	CU_ASSERT_EQUAL(f.carrier->ops->put(f.carrier, runs, 4096, &taken), FERRY_IO_OK);
	CU_ASSERT_EQUAL(taken, 4096);
	settle(&f);
	CU_ASSERT_EQUAL(f.channel.written->len, 4096 * (PAGE + 33));
	CU_ASSERT(f.channel.writes <= 17);
	teardown(&f);
}

static void pages__channel_full__again_and_nothing_lost(void)
{
	FerryRun runs[8192];
	size_t taken, done = 0;
	guint agains = 0;
	Fixture f;

	setup(&f, FERRY_PAGE_FORMAT_RUNS);
	fill(&f.blocks[0], 0, 8192);
	for (guint i = 0; i < G_N_ELEMENTS(runs); i++)
		runs[i] = (FerryRun){ 0, i, 1 };
	f.channel.budget = 0;
	while (done < G_N_ELEMENTS(runs)) {
		if (f.carrier->ops->put(f.carrier, runs + done, 8192 - done, &taken) ==
		    FERRY_IO_AGAIN) {
			agains++;
			f.channel.budget = 700000;
		}
		done += taken;
	}
	while (f.carrier->ops->progress(f.carrier) == FERRY_IO_AGAIN)
		f.channel.budget = 700000;
	CU_ASSERT(agains > 10);
	CU_ASSERT_EQUAL(f.channel.written->len, 8192 * (PAGE + 33));
	for (guint i = 0, wrong = 0; i < 8192 && !wrong; i++) {
		wrong = memcmp(f.channel.written->data + i * (PAGE + 33) + 33,
			       f.blocks[0].host + i * PAGE, PAGE) != 0;
		CU_ASSERT_EQUAL(wrong, 0);
	}
	teardown(&f);
}

static void pages__channel_full__bounded_run_count_is_taken(void)
{
	FerryRun run = { 0, 0, 8192 };
	Fixture f;

	setup(&f, FERRY_PAGE_FORMAT_QEMU);
	f.channel.budget = 0;
	/* More pages than fit into the batch: taken whole, the next one is not. */
	CU_ASSERT_EQUAL(put(&f, run, FALSE), FERRY_IO_OK);
	CU_ASSERT_EQUAL(put(&f, run, FALSE), FERRY_IO_AGAIN);
	CU_ASSERT_EQUAL(f.carrier->ops->settle(f.carrier, 1), FERRY_IO_AGAIN);
	f.channel.budget = -1;
	settle(&f);
	CU_ASSERT_EQUAL(f.channel.written->len, 8192 * (PAGE + 8) + 2);
	teardown(&f);
}

static void pages__channel_breaks__dead_and_error_once(void)
{
	g_autoptr(GError) error = NULL;
	FerryRun run = { 0, 0, 1 };
	size_t taken = 5;
	Fixture f;

	setup(&f, FERRY_PAGE_FORMAT_RUNS);
	put(&f, run, FALSE);
	f.channel.broken = TRUE;
	CU_ASSERT_PTR_NULL(f.carrier->ops->take_error(f.carrier));
	CU_ASSERT_EQUAL(f.carrier->ops->progress(f.carrier), FERRY_IO_DEAD);
	CU_ASSERT_EQUAL(f.carrier->ops->put(f.carrier, &run, 1, &taken), FERRY_IO_DEAD);
	CU_ASSERT_EQUAL(taken, 0);
	error = f.carrier->ops->take_error(f.carrier);
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_LINK));
	CU_ASSERT_PTR_NULL(f.carrier->ops->take_error(f.carrier));
	CU_ASSERT_EQUAL(f.carrier->ops->settle(f.carrier, 1), FERRY_IO_DEAD);
	teardown(&f);
}

static CU_TestInfo cases[] = {
	CASE(pages__qemu_format__golden_bytes),
	CASE(pages__run_format__golden_bytes),
	CASE(pages__encoded_in_qemu_format__words_of_protocol_md),
	CASE(pages__encoded_in_run_format__record_of_protocol_md),
	CASE(pages__encoded_between_runs__order_is_kept),
	CASE(pages__encoded_where_nothing_is_taken__is_offered_again),
	CASE(pages__stats__count_bytes_and_pages),
	CASE(pages__partial_writes_at_every_boundary__same_bytes),
	CASE(pages__single_page_runs__go_out_in_large_writes),
	CASE(pages__channel_full__again_and_nothing_lost),
	CASE(pages__channel_full__bounded_run_count_is_taken),
	CASE(pages__channel_breaks__dead_and_error_once),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "tcp-pages", cases);
}
