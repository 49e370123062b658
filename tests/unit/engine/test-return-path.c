/* SPDX-License-Identifier: BSD-2-Clause */
/* Postcopy's messages on the return path, over a socket pair; the destination's end is
 * FerryReplies. */
#include "harness.h"
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <ferry/transport.h>

#include "bits.h"
#include "engine/postcopy-wire.h"
#include "engine/reply.h"
#include "engine/return-path.h"

#define WAIT_US (5 * G_TIME_SPAN_SECOND)
#define PAGES 200u

/* Of the running case. */
static FerryRam *ram;
static FerryChannel *channel, *back;
static FerryReturnPath *path;
static FerryReplies replies;

static FerryChannel *adopt(int fd)
{
	g_autofree char *uri = g_strdup_printf("fd:%d", fd);
	const FerryTransport *transport = ferry_transport_find(ferry_socket_transports(), uri,
							       NULL);

	return transport->connect(uri, 1000, NULL, NULL);
}

static void begin(void)
{
	int fds[2];

	ram = ferry_ram_new();
	CU_ASSERT(ferry_ram_add(ram, "a", (void *)(1ul << 30), PAGES * FERRY_PAGE_SIZE,
				FERRY_PAGE_SIZE, -1, 0, NULL));
	CU_ASSERT(ferry_ram_add(ram, "b", (void *)(2ul << 30), FERRY_PAGE_SIZE, FERRY_PAGE_SIZE, -1,
				0, NULL));
	/* Its bitmap is larger than what a socket takes at once. */
	CU_ASSERT(ferry_ram_add(ram, "large", (void *)(64ul << 30), 16ul << 30, FERRY_PAGE_SIZE, -1,
				0, NULL));
	CU_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	channel = adopt(fds[0]);
	back = adopt(fds[1]);
	path = ferry_return_path_start(channel);
	ferry_replies_init(&replies, back);
	ferry_replies_open(&replies);
}

static void end(void)
{
	ferry_channel_shutdown(channel);
	ferry_return_path_stop(path);
	ferry_replies_clear(&replies);
	ferry_channel_close(channel);
	ferry_channel_close(back);
	ferry_ram_free(ram);
}

static gboolean comes(FerryReplyKind kind, GError **error)
{
	FerryReply reply;

	return ferry_return_path_wait(path, kind, WAIT_US, &reply, error);
}

/* The path ends with these words. */
static void fails_with(const char *words)
{
	g_autoptr(GError) error = NULL;

	CU_ASSERT_FALSE(comes(FERRY_REPLY_SHUT, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
	CU_ASSERT(error && strstr(error->message, words));
	if (error && !strstr(error->message, words))
		printf("# %s\n", error->message);
}

static gboolean ask(guint32 block, guint64 first)
{
	return ferry_reply_request(&replies, ram, &(FerryRun){ block, first, 1 }, NULL);
}

static void requests__where_they_may_come__are_queued_in_order(void)
{
	static const FerryRun asked[] = { { 0, 7, 1 }, { 0, 8, 1 }, { 1, 0, 1 }, { 0, 199, 1 } };
	g_autoptr(FerryPageRequests) requests = NULL;
	FerryRun run;

	begin();
	requests = ferry_page_requests_new(ram, NULL, NULL);
	ferry_return_path_set_requests(path, requests);
	for (guint i = 0; i < G_N_ELEMENTS(asked); i++)
		CU_ASSERT(ask(asked[i].block, asked[i].first));
	ferry_reply_pong(&replies, 1, NULL);
	CU_ASSERT(comes(FERRY_REPLY_PONG, NULL));
	for (guint i = 0; i < G_N_ELEMENTS(asked); i++) {
		CU_ASSERT(ferry_page_requests_take(requests, 1, &run));
		CU_ASSERT(run.block == asked[i].block && run.first == asked[i].first);
	}
	end();
}

static void request__where_none_may_come__refused_by_type(void)
{
	begin();
	CU_ASSERT(ask(0, 7));
	fails_with("type 0x0003 (length 14) is not expected here");
	end();
}

static void request__outside_of_the_ram__ends_the_path(void)
{
	g_autoptr(FerryPageRequests) requests = NULL;

	begin();
	requests = ferry_page_requests_new(ram, NULL, NULL);
	ferry_return_path_set_requests(path, requests);
	CU_ASSERT(ask(0, PAGES));
	fails_with("4096 bytes at offset 0xc8000 of block 'a'");
	end();
}

static void send_bitmap(guint block, const guint64 *words)
{
	g_autoptr(GByteArray) message = g_byte_array_new();

	ferry_postcopy_put_received(message, ram, block, words);
	ferry_reply_messages(&replies, message, NULL);
}

static void bitmap__asked_for__replaces_the_blocks_bits(void)
{
	const guint64 words[] = { 5, 0, 0, 0x80 }, one[] = { 1 };
	g_autoptr(FerryBitmap) received = NULL;

	begin();
	received = ferry_bitmap_new(ram);
	ferry_bitmap_set_run(received, &(FerryRun){ 0, 0, PAGES });
	ferry_bitmap_set_run(received, &(FerryRun){ 1, 0, 1 });
	ferry_return_path_expect_bitmap(path, ram, 0, received);
	send_bitmap(0, words);
	CU_ASSERT(comes(FERRY_REPLY_RECV_BITMAP, NULL));
	CU_ASSERT_EQUAL(ferry_bitmap_count(received), 3 + 1);
	CU_ASSERT(bit_is_set(received, 0, 0) && bit_is_set(received, 0, 2) &&
		  bit_is_set(received, 0, 199));
	ferry_return_path_expect_bitmap(path, ram, 1, received);
	send_bitmap(1, one);
	CU_ASSERT(comes(FERRY_REPLY_RECV_BITMAP, NULL));
	/* The second was one for which nobody asked. */
	send_bitmap(1, one);
	fails_with("RECV_BITMAP of 2 bytes was not asked for");
	end();
}

static void bitmap__of_another_block__refused(void)
{
	g_autoptr(FerryBitmap) received = NULL;

	begin();
	received = ferry_bitmap_new(ram);
	ferry_return_path_expect_bitmap(path, ram, 0, received);
	send_bitmap(1, &(guint64){ 1 });
	fails_with("was not asked for");
	CU_ASSERT_EQUAL(ferry_bitmap_count(received), 0);
	end();
}

static void bitmap__of_any_other_size__refused(void)
{
	g_autoptr(FerryBitmap) received = NULL;
	g_autoptr(GByteArray) message = g_byte_array_new();

	begin();
	received = ferry_bitmap_new(ram);
	ferry_return_path_expect_bitmap(path, ram, 0, received);
	ferry_postcopy_put_received(message, ram, 0, (guint64[4]){ 1 });
	/* Before the bytes: as much memory as it says must not be made ready. */
	ferry_store_be64(message->data + 6, 1ull << 60);
	CU_ASSERT(ferry_reply_messages(&replies, message, NULL));
	fails_with("its 200 pages need 32");
	CU_ASSERT_EQUAL(ferry_bitmap_count(received), 0);
	end();
}

static void resume_ack_and_have_all__come(void)
{
	g_autoptr(GByteArray) message = g_byte_array_new(), record = g_byte_array_new();

	begin();
	ferry_postcopy_put_resume_ack(message);
	CU_ASSERT(ferry_reply_messages(&replies, message, NULL));
	CU_ASSERT(comes(FERRY_REPLY_RESUME_ACK, NULL));
	ferry_record_put_empty(record, FERRY_RECORD_POSTCOPY_HAVE_ALL);
	CU_ASSERT(ferry_reply_record(&replies, record, NULL));
	CU_ASSERT(comes(FERRY_REPLY_HAVE_ALL, NULL));
	end();
}

static gpointer ask_many(gpointer data)
{
	gint *stop = data;
	guint64 n = 0;

	while (!g_atomic_int_get(stop))
		ask(n++ % 2, 0);
	return NULL;
}

/* On the path's thread: so many as are asked for would be too many to wait. */
static void take_first_page(gpointer user)
{
	FerryPageRequests **of = user;
	FerryRun run;

	CU_ASSERT(ferry_page_requests_take(*of, 1, &run));
	CU_ASSERT_EQUAL(run.first, 0);
}

/* A message torn by another would be malformed, or ask for another page. */
static void replies__of_two_threads__never_interleave(void)
{
	g_autofree guint64 *words = g_new0(guint64, (16ul << 30) / FERRY_PAGE_SIZE / 64);
	g_autoptr(FerryPageRequests) requests = NULL;
	g_autoptr(FerryBitmap) received = NULL;
	GThread *asker;
	gint stop = 0;

	begin();
	requests = ferry_page_requests_new(ram, take_first_page, &requests);
	received = ferry_bitmap_new(ram);
	ferry_return_path_set_requests(path, requests);
	asker = g_thread_new("asker", ask_many, &stop);
	for (guint i = 0; i < 20 && !ferry_return_path_is_lost(path); i++) {
		ferry_return_path_expect_bitmap(path, ram, 2, received);
		send_bitmap(2, words);
		CU_ASSERT(comes(FERRY_REPLY_RECV_BITMAP, NULL));
	}
	g_atomic_int_set(&stop, 1);
	g_thread_join(asker);
	ferry_reply_pong(&replies, 1, NULL);
	CU_ASSERT(comes(FERRY_REPLY_PONG, NULL));
	CU_ASSERT_EQUAL(ferry_bitmap_count(received), 0);
	CU_ASSERT(ferry_page_requests_count(requests) > 0);
	end();
}

static CU_TestInfo cases[] = {
	CASE(requests__where_they_may_come__are_queued_in_order),
	CASE(request__where_none_may_come__refused_by_type),
	CASE(request__outside_of_the_ram__ends_the_path),
	CASE(bitmap__asked_for__replaces_the_blocks_bits),
	CASE(bitmap__of_another_block__refused),
	CASE(bitmap__of_any_other_size__refused),
	CASE(resume_ack_and_have_all__come),
	CASE(replies__of_two_threads__never_interleave),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "postcopy on the return path", cases);
}
