/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <ferry/carrier.h>
#include <ferry/protocol.h>
#include "channels.h"
#include "tcp-fallback/pages.h"

#define PAGE FERRY_PAGE_SIZE
#define PAGES 1024u

typedef struct {
	FerryRamBlock blocks[3]; /* anonymous; a memfd; a memfd that begins at its fourth page */
	FerryRam ram;
	FerryCarrier *carrier;
	guint8 *from; /* what is read next */
	size_t left;
} Fixture;

static FerryRamBlock make_block(const char *name, int fd, guint64 fd_offset)
{
	FerryRamBlock block = { (char *)name, NULL, PAGES * PAGE, PAGE, fd, fd_offset };
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;

	if (fd >= 0)
		CU_ASSERT_EQUAL(ftruncate(fd, (off_t)(fd_offset + block.size)), 0);
	block.host = mmap(NULL, block.size, PROT_READ | PROT_WRITE, flags, fd, (off_t)fd_offset);
	/* Residence is counted in pages of 4 KiB below. */
	madvise(block.host, block.size, MADV_NOHUGEPAGE);
	return block;
}

static const FerryChannelOps no_ops = { .name = "none" };

static void setup(Fixture *f)
{
	static FerryChannel channel = { &no_ops, TRUE };

	*f = (Fixture){ .blocks = {
				make_block("anonymous", -1, 0),
				make_block("memfd", memfd_create("a", MFD_CLOEXEC), 0),
				make_block("shifted", memfd_create("b", MFD_CLOEXEC), 3 * PAGE) } };
	f->ram = (FerryRam){ 3, f->blocks, 3 * PAGES * PAGE };
	f->carrier = ferry_page_carrier_new(&channel, FERRY_PAGE_FORMAT_RUNS);
	f->carrier->ops->share_ram(f->carrier, &f->ram, NULL);
}

static void teardown(Fixture *f)
{
	ferry_carrier_close(f->carrier);
	for (guint i = 0; i < 3; i++) {
		munmap(f->blocks[i].host, f->blocks[i].size);
		if (f->blocks[i].fd >= 0)
			close(f->blocks[i].fd);
	}
}

static gboolean take_bytes(gpointer user, void *buf, size_t len, GError **error)
{
	Fixture *f = user;

	if (len > f->left) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK, "the stream ends here");
		return FALSE;
	}
	memcpy(buf, f->from, len);
	f->from += len;
	f->left -= len;
	return TRUE;
}

static gboolean receive(Fixture *f, guint16 type, guint32 block, guint64 first, guint64 pages,
			GError **error)
{
	FerryRun run = { 99, 99, 99 };
	gboolean zero = 7, good;
	guint8 payload[20];

	ferry_store_be32(payload, block);
	ferry_store_be64(payload + 4, first);
	ferry_store_be64(payload + 12, pages);
	good = f->carrier->ops->receive(f->carrier, type, payload, sizeof(payload), take_bytes, f,
					&run, &zero, error);
	if (good) {
		CU_ASSERT(run.block == block && run.first == first && run.pages == pages);
		CU_ASSERT_EQUAL(zero, type == FERRY_RECORD_ZERO_PAGES);
	} else {
		CU_ASSERT(run.block == 99 && run.first == 99 && run.pages == 99 && zero == 7);
	}
	return good;
}

static guint64 blocks_of(int fd)
{
	struct stat file;

	return fstat(fd, &file) < 0 ? 0 : (guint64)file.st_blocks * 512 / PAGE;
}

static guint resident(const FerryRamBlock *block)
{
	unsigned char present[PAGES];
	guint n = 0;

	CU_ASSERT_EQUAL(mincore(block->host, block->size, present), 0);
	for (guint i = 0; i < PAGES; i++)
		n += present[i] & 1;
	return n;
}

static void receive__pages__land_where_they_belong(void)
{
	g_autofree guint8 *bytes = g_malloc(3 * PAGE);
	Fixture f;

	setup(&f);
	for (guint i = 0; i < 3 * PAGE; i++)
		bytes[i] = (guint8)(i * 7 + i / PAGE + 1);
	for (guint block = 0; block < 3; block++) {
		f.from = bytes;
		f.left = 3 * PAGE;
		CU_ASSERT(receive(&f, FERRY_RECORD_PAGES, block, PAGES - 3, 3, NULL));
		CU_ASSERT_EQUAL(memcmp(f.blocks[block].host + (PAGES - 3) * PAGE, bytes, 3 * PAGE),
				0);
		CU_ASSERT_EQUAL(resident(&f.blocks[block]), 3);
	}
	teardown(&f);
}

static void receive__hostile_numbers__refused_before_memory_is_touched(void)
{
	static const struct {
		guint32 block;
		guint64 first, pages;
	} hostile[] = {
		{ 3, 0, 1 },
		{ G_MAXUINT32, 0, 1 },
		{ 0, PAGES, 1 },
		{ 0, PAGES - 1, 2 },
		{ 0, 0, 0 },
		{ 0, 0, PAGES + 1 },
		{ 0, 1, G_MAXUINT64 },
		{ 0, G_MAXUINT64, 1 },
		{ 0, G_MAXUINT64, 2 },
		{ 0, G_MAXUINT64 >> FERRY_PAGE_SHIFT, 1 },
		{ 0, (G_MAXUINT64 >> FERRY_PAGE_SHIFT) + 1, 1 },
		{ 0, 1, G_MAXUINT64 >> FERRY_PAGE_SHIFT },
		{ 0, 0, (G_MAXUINT64 >> FERRY_PAGE_SHIFT) + 2 },
	};
	static const guint16 types[] = { FERRY_RECORD_PAGES, FERRY_RECORD_ZERO_PAGES };
	Fixture f;

	setup(&f);
	f.left = 0;
	for (guint i = 0; i < G_N_ELEMENTS(hostile) * 2; i++) {
		g_autoptr(GError) error = NULL;

		CU_ASSERT_FALSE(receive(&f, types[i & 1], hostile[i / 2].block,
					hostile[i / 2].first, hostile[i / 2].pages, &error));
		CU_ASSERT(is_error(error, FERRY_ERROR_PEER,
				   hostile[i / 2].block ? "of 3" : "has 1024"));
	}
	for (guint i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(resident(&f.blocks[i]), 0);
	teardown(&f);
}

static void receive__run_over_the_limit__refused(void)
{
	FerryRamBlock block = { (char *)"big", NULL, 17u << 20, PAGE, -1, 0 };
	FerryRam ram = { 1, &block, 17u << 20 };
	g_autoptr(GError) error = NULL;
	Fixture f;

	setup(&f);
	block.host = mmap(NULL, block.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			  0);
	f.carrier->ops->share_ram(f.carrier, &ram, NULL);
	CU_ASSERT_FALSE(receive(&f, FERRY_RECORD_PAGES, 0, 0, 4097, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_PEER, "at most 4096"));
	CU_ASSERT(receive(&f, FERRY_RECORD_ZERO_PAGES, 0, 0, 4096, NULL));
	munmap(block.host, block.size);
	teardown(&f);
}

static void receive__wrong_length_type_or_order__refused(void)
{
	guint8 payload[64] = { 0 };
	FerryRun run;
	gboolean zero;
	Fixture f;

	setup(&f);
	payload[19] = 1;
	for (size_t len = 0; len <= sizeof(payload); len++) {
		g_autoptr(GError) error = NULL;
		gboolean good = f.carrier->ops->receive(f.carrier, FERRY_RECORD_ZERO_PAGES, payload,
							len, take_bytes, &f, &run, &zero, &error);

		CU_ASSERT_EQUAL(good, len == 20);
		CU_ASSERT(good || is_error(error, FERRY_ERROR_PEER, "instead of 20"));
	}
	CU_ASSERT_FALSE(receive(&f, 0x1ff, 0, 0, 1, NULL));
	f.carrier->ops->share_ram(f.carrier, NULL, NULL);
	CU_ASSERT_FALSE(receive(&f, FERRY_RECORD_ZERO_PAGES, 0, 0, 1, NULL));
	teardown(&f);
}

static void receive__stream_ends_in_a_run__its_error(void)
{
	g_autoptr(GError) error = NULL;
	Fixture f;

	setup(&f);
	f.left = 0;
	CU_ASSERT_FALSE(receive(&f, FERRY_RECORD_PAGES, 0, 0, 1, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_LINK, "the stream ends here"));
	teardown(&f);
}

/* Whether the pages are zero, without reading the others. */
static gboolean are_zero(const FerryRamBlock *block, guint64 first, guint64 pages)
{
	for (guint64 i = first * PAGE; i < (first + pages) * PAGE; i++)
		if (block->host[i])
			return FALSE;
	return TRUE;
}

static void zero__untouched_memory__stays_unpopulated(void)
{
	Fixture f;

	setup(&f);
	for (guint i = 0; i < 3; i++) {
		CU_ASSERT(receive(&f, FERRY_RECORD_ZERO_PAGES, i, 0, PAGES, NULL));
		CU_ASSERT_EQUAL(resident(&f.blocks[i]), 0);
	}
	teardown(&f);
}

static void zero__scattered_pages__cleared_and_neighbours_kept(void)
{
	static const guint dirty[] = { 0, 1, 5, 511, 512, 513, 700, PAGES - 2, PAGES - 1 };
	Fixture f;

	setup(&f);
	for (guint block = 0; block < 3; block++) {
		FerryRamBlock *b = &f.blocks[block];

		/* The last byte of each: a check that looks at the front alone would miss it. */
		for (guint i = 0; i < G_N_ELEMENTS(dirty); i++)
			b->host[dirty[i] * PAGE + PAGE - 1] = 0xa5;
		CU_ASSERT(receive(&f, FERRY_RECORD_ZERO_PAGES, block, 1, PAGES - 2, NULL));
		CU_ASSERT_EQUAL(b->host[PAGE - 1], 0xa5);
		CU_ASSERT_EQUAL(b->host[PAGES * PAGE - 1], 0xa5);
		/* Nothing was populated, and no hole punched: a device may have the pages
		 * registered. */
		CU_ASSERT_EQUAL(resident(b), G_N_ELEMENTS(dirty));
		if (b->fd >= 0)
			CU_ASSERT_EQUAL(blocks_of(b->fd), G_N_ELEMENTS(dirty));
		CU_ASSERT(are_zero(b, 1, PAGES - 2));
	}
	teardown(&f);
}

static void zero__written_through_another_mapping__cleared(void)
{
	Fixture f;

	setup(&f);
	/* In the file, but not in the page tables of this mapping. */
	CU_ASSERT_EQUAL(pwrite(f.blocks[1].fd, "x", 1, 17 * PAGE + 9), 1);
	CU_ASSERT_EQUAL(pwrite(f.blocks[2].fd, "x", 1, (3 + 17) * PAGE + 9), 1);
	for (guint i = 1; i < 3; i++) {
		CU_ASSERT(receive(&f, FERRY_RECORD_ZERO_PAGES, i, 17, 1, NULL));
		CU_ASSERT(are_zero(&f.blocks[i], 17, 1));
	}
	teardown(&f);
}

/* ---- both sides, over a socket ---- */

typedef struct {
	Fixture *source;
	FerryChannel *channel;
	FerryPageFormat format;
	guint agains;
} Sender;

static void must_put(Sender *s, FerryCarrier *carrier, FerryRun run, gboolean zero)
{
	size_t taken;

	while ((zero ? carrier->ops->put_zero : carrier->ops->put)(carrier, &run, 1, &taken) ==
	       FERRY_IO_AGAIN) {
		s->agains++;
		carrier->ops->wait(carrier, -1);
	}
}

/* Block 0 whole, every seventh page as zero; then one of block 2. */
static gpointer send_all(gpointer user)
{
	Sender *s = user;
	g_autoptr(FerryCarrier) carrier = s->channel->ops->carrier(s->channel, s->format);

	carrier->ops->share_ram(carrier, &s->source->ram, NULL);
	for (guint page = 0; page < PAGES; page += 7) {
		must_put(s, carrier, (FerryRun){ 0, page, 1 }, TRUE);
		if (page + 1 < PAGES)
			must_put(s, carrier, (FerryRun){ 0, page + 1, MIN(6, PAGES - page - 1) },
				 FALSE);
	}
	must_put(s, carrier, (FerryRun){ 2, 9, 1 }, FALSE);
	while (carrier->ops->settle(carrier, 1) == FERRY_IO_AGAIN)
		carrier->ops->wait(carrier, -1);
	CU_ASSERT(s->channel->ops->finish(s->channel, NULL));
	return NULL;
}

static gboolean read_channel(gpointer user, void *buf, size_t len, GError **error)
{
	return read_up_to(user, buf, len) == len;
}

static void load_runs(Fixture *f, FerryChannel *channel)
{
	guint8 header[13], payload[20];
	gboolean zero;
	FerryRun run;

	while (read_up_to(channel, header, sizeof(header)) == sizeof(header))
		if (read_up_to(channel, payload, sizeof(payload)) != sizeof(payload) ||
		    !f->carrier->ops->receive(f->carrier, ferry_load_be16(header + 5), payload,
					      sizeof(payload), read_channel, channel, &run, &zero,
					      NULL)) {
			CU_FAIL("record refused");
			return;
		}
}

static void load_words(Fixture *f, FerryChannel *channel)
{
	FerryRamBlock *block = NULL;
	guint8 word[8], name[257];

	while (read_up_to(channel, word, sizeof(word)) == sizeof(word)) {
		guint64 offset = ferry_load_be64(word) & ~(guint64)FERRY_RAM_FLAGS;
		guint flags = ferry_load_be64(word) & FERRY_RAM_FLAGS;
		size_t want;

		if (!(flags & FERRY_RAM_CONTINUE)) {
			read_up_to(channel, name, 1);
			name[1 + read_up_to(channel, name + 1, name[0])] = 0;
			block = NULL;
			for (guint i = 0; i < 3; i++)
				if (!strcmp(f->blocks[i].name, (char *)name + 1))
					block = &f->blocks[i];
		}
		if (!block || offset >= block->size) {
			CU_FAIL("word refused");
			return;
		}
		/* A zero page's byte is of no interest. */
		want = flags & FERRY_RAM_PAGE ? PAGE : 1;
		CU_ASSERT_EQUAL(read_up_to(channel, want == 1 ? name : block->host + offset, want),
				want);
	}
}

static void round_trip(FerryPageFormat format, void (*load)(Fixture *f, FerryChannel *channel))
{
	g_autoptr(FerryChannel) a = NULL, b = NULL;
	g_autoptr(FerryListener) listener = NULL;
	g_autofree char *uri_a = NULL, *uri_b = NULL;
	Fixture source, destination;
	Sender sender = { &source, NULL, format, 0 };
	int fds[2], tiny = 1;
	GThread *thread;

	setup(&source);
	setup(&destination);
	for (guint i = 0; i < PAGES * PAGE; i++)
		source.blocks[0].host[i] = i / PAGE % 7 ? (guint8)(i * 31 + i / PAGE) : 0;
	memset(source.blocks[2].host + 9 * PAGE, 0x77, PAGE);
	CU_ASSERT_EQUAL(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	uri_a = g_strdup_printf("fd:%d", fds[0]);
	uri_b = g_strdup_printf("fd:%d", fds[1]);
	a = connect_to(uri_a, NULL);
	listener = listen_on(uri_b, NULL);
	b = listener->ops->accept(listener, NULL, NULL);
	/* After the channel's own choice of a buffer. */
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &tiny, sizeof(tiny));
	sender.channel = a;
	thread = g_thread_new("sender", send_all, &sender);
	load(&destination, b);
	g_thread_join(thread);
	CU_ASSERT(sender.agains > 10);
	for (guint i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(
			memcmp(source.blocks[i].host, destination.blocks[i].host, PAGES * PAGE), 0);
	teardown(&destination);
	teardown(&source);
}

static void carrier__runs_over_a_tiny_buffer__ram_is_equal(void)
{
	round_trip(FERRY_PAGE_FORMAT_RUNS, load_runs);
}

static void carrier__qemu_pages_over_a_tiny_buffer__ram_is_equal(void)
{
	round_trip(FERRY_PAGE_FORMAT_QEMU, load_words);
}

static CU_TestInfo cases[] = {
	CASE(receive__pages__land_where_they_belong),
	CASE(receive__hostile_numbers__refused_before_memory_is_touched),
	CASE(receive__run_over_the_limit__refused),
	CASE(receive__wrong_length_type_or_order__refused),
	CASE(receive__stream_ends_in_a_run__its_error),
	CASE(zero__untouched_memory__stays_unpopulated),
	CASE(zero__scattered_pages__cleared_and_neighbours_kept),
	CASE(zero__written_through_another_mapping__cleared),
	CASE(carrier__runs_over_a_tiny_buffer__ram_is_equal),
	CASE(carrier__qemu_pages_over_a_tiny_buffer__ram_is_equal),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "tcp-receive", cases);
}
