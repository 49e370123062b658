/* SPDX-License-Identifier: BSD-2-Clause */
#include "streams-pair.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include "channels.h"
#include "tcp-fallback/fd-util.h"

const guint8 pair_nonce[FERRY_NONCE_SIZE] = {
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
};

static const guint64 block_pages[PAIR_BLOCKS] = { 1, 777, 12345 };
static const char *const block_names[PAIR_BLOCKS] = { "bios", "odd", "ram" };

static gboolean say(gpointer user, guint16 type, const guint8 *payload, size_t len)
{
	Side *side = user, *other = side->other;
	g_autoptr(GError) error = NULL;

	g_atomic_int_inc(&side->says);
	if (g_atomic_int_get(&side->no_room)) {
		if (g_atomic_int_get(&side->no_room) > 0)
			g_atomic_int_add(&side->no_room, -1);
		return FALSE;
	}
	side->said_type = type;
	g_byte_array_set_size(side->said, 0);
	g_byte_array_append(side->said, payload, (guint)len);
	if (g_atomic_int_get(&side->swallow))
		return TRUE;
	CU_ASSERT(other->carrier->ops->hear(other->carrier, type, payload, len, &error));
	if (error)
		printf("# %s\n", error->message);
	return TRUE;
}

static void died(gpointer user)
{
	g_atomic_int_inc(&((Side *)user)->died);
}

static void open_side(Side *side, Side *other, gboolean source, GCancellable *cancellable)
{
	*side = (Side){
		.session = { .source = source,
			     .nonce = pair_nonce,
			     .cancellable = cancellable,
			     .say = say,
			     .died = died,
			     .user = side },
		.ram = { PAIR_BLOCKS, side->blocks, 0 },
		.other = other,
		.said = g_byte_array_new(),
	};
	for (guint i = 0; i < PAIR_BLOCKS; i++) {
		guint64 size = block_pages[i] * FERRY_PAGE_SIZE;

		side->blocks[i] = (FerryRamBlock){ .name = (char *)block_names[i],
						   .size = size,
						   .page_size = FERRY_PAGE_SIZE,
						   .fd = -1 };
		side->blocks[i].host = mmap(NULL, size, PROT_READ | PROT_WRITE,
					    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		side->ram.total += size;
	}
}

static void close_side(Side *side)
{
	ferry_carrier_close(side->carrier);
	g_byte_array_unref(side->said);
	for (guint i = 0; i < PAIR_BLOCKS; i++)
		munmap(side->blocks[i].host, side->blocks[i].size);
}

/* With the first thread a sanitizer starts one of its own, and with the first error glib makes a
 * lock in a way that the sanitizer does not follow. */
static gpointer first_thread(gpointer user)
{
	g_error_free(g_error_new_literal(FERRY_ERROR, FERRY_ERROR_STATE, "first"));
	return NULL;
}

static void open_pair(Pair *pair, guint streams, const char *uri, gboolean postcopy)
{
	g_autoptr(GError) error = NULL;

	g_thread_join(g_thread_new("first", first_thread, NULL));
	*pair = (Pair){ .fds = open_fds(), .threads = running_threads() };
	pair->listener = listen_on("tcp:127.0.0.1:0", &error);
	if (!pair->listener)
		g_error("%s", error->message);
	pair->cancellable = g_cancellable_new();
	open_side(&pair->source, &pair->destination, TRUE, pair->cancellable);
	open_side(&pair->destination, &pair->source, FALSE, NULL);
	pair->source.session.postcopy = pair->destination.session.postcopy = postcopy;
	pair->source.carrier = ferry_streams_source_new(uri ? uri : pair->listener->uri, streams,
							&pair->source.session);
	pair->destination.carrier = pair->listener->fabric->ops->open(pair->listener->fabric,
								      &pair->destination.session);
	CU_ASSERT(pair->destination.carrier->ops->share_ram(pair->destination.carrier,
							    &pair->destination.ram, NULL));
}

void pair_open(Pair *pair, guint streams, const char *uri)
{
	open_pair(pair, streams, uri, FALSE);
}

void pair_open_postcopy(Pair *pair, guint streams)
{
	open_pair(pair, streams, NULL, TRUE);
}

gboolean pair_connect(Pair *pair)
{
	g_autoptr(GError) error = NULL;
	FerryCarrier *carrier = pair->source.carrier;
	gboolean ok = carrier->ops->share_ram(carrier, &pair->source.ram, &error);

	if (!ok)
		printf("# %s\n", error->message);
	CU_ASSERT(ok);
	return ok;
}

void pair_close(Pair *pair)
{
	/* The destination's thread may still be answering the source, which is cancelled. */
	close_side(&pair->destination);
	close_side(&pair->source);
	ferry_listener_close(pair->listener);
	g_object_unref(pair->cancellable);
	CU_ASSERT_EQUAL(open_fds(), pair->fds);
	/* A thread that was joined may be seen by the kernel for a moment. */
	while (running_threads() > pair->threads)
		g_thread_yield();
}

FerryIo pair_put(Pair *pair, const FerryRun *runs, size_t n)
{
	FerryCarrier *carrier = pair->source.carrier;
	FerryIo io = FERRY_IO_OK;

	while (n) {
		size_t taken;

		io = carrier->ops->put(carrier, runs, n, &taken);
		runs += taken;
		n -= taken;
		if (io == FERRY_IO_DEAD)
			break;
		if (io == FERRY_IO_AGAIN)
			carrier->ops->wait(carrier, 20000);
	}
	return io;
}

FerryIo pair_settle(Pair *pair, guint32 fence)
{
	FerryCarrier *carrier = pair->source.carrier;
	FerryIo io;

	while ((io = carrier->ops->settle(carrier, fence)) == FERRY_IO_AGAIN) {
		carrier->ops->wait(carrier, 20000);
		if (carrier->ops->progress(carrier) == FERRY_IO_DEAD)
			return FERRY_IO_DEAD;
	}
	return io;
}

gboolean pair_await_fence(Pair *pair, guint32 fence)
{
	g_autoptr(GError) error = NULL;
	FerryCarrier *carrier = pair->destination.carrier;

	return carrier->ops->await_fence(carrier, fence, &error) ||
	       is_error(error, -1, "await_fence");
}

void pair_check_source_dead(Pair *pair, const char *text)
{
	FerryCarrier *carrier = pair->source.carrier;
	g_autoptr(GError) error = NULL;
	FerryRun run = { 2, 0, 1 };
	size_t taken = 5;

	while (carrier->ops->progress(carrier) != FERRY_IO_DEAD)
		carrier->ops->wait(carrier, 20000);
	CU_ASSERT_EQUAL(carrier->ops->put(carrier, &run, 1, &taken), FERRY_IO_DEAD);
	CU_ASSERT_EQUAL(taken, 0);
	CU_ASSERT_EQUAL(carrier->ops->settle(carrier, 9), FERRY_IO_DEAD);
	if (carrier->ops->urgent)
		CU_ASSERT_EQUAL(carrier->ops->urgent(carrier, &run), FERRY_IO_DEAD);
	error = carrier->ops->take_error(carrier);
	CU_ASSERT(is_error(error, FERRY_ERROR_LINK, text));
	CU_ASSERT_PTR_NULL(carrier->ops->take_error(carrier));
}

void pair_check_destination_dead(Pair *pair, guint32 fence, int code, const char *text)
{
	FerryCarrier *carrier = pair->destination.carrier;
	g_autoptr(GError) error = NULL, again = NULL, taken = NULL;

	CU_ASSERT(!carrier->ops->await_fence(carrier, fence, &error));
	CU_ASSERT(is_error(error, code, text));
	CU_ASSERT(!carrier->ops->await_fence(carrier, fence, &again));
	taken = carrier->ops->take_error(carrier);
	CU_ASSERT(is_error(taken, code, text));
	CU_ASSERT_PTR_NULL(carrier->ops->take_error(carrier));
}

gboolean pair_same_ram(const Pair *pair)
{
	for (guint i = 0; i < PAIR_BLOCKS; i++)
		if (memcmp(pair->source.blocks[i].host, pair->destination.blocks[i].host,
			   pair->source.blocks[i].size) != 0)
			return FALSE;
	return TRUE;
}

int pair_raw(Pair *pair)
{
	g_autoptr(GError) error = NULL;
	int fd = ferry_socket_connect_uri(pair->listener->uri, -1, NULL, &error);

	if (fd < 0)
		g_error("%s", error->message);
	return fd;
}

/* Waits until @fd can be read. */
static gssize raw_read(int fd, void *buf, size_t len)
{
	struct pollfd fds[2] = { { .fd = fd, .events = POLLIN } };

	ferry_fd_poll(fds, 1, -1, NULL, "test", NULL);
	return recv(fd, buf, len, MSG_WAITALL);
}

int pair_raw_stream(Pair *pair, guint32 index)
{
	FerryStreamsGreeting greeting = { .index = index };
	guint8 bytes[FERRY_STREAMS_GREETING_SIZE], back[sizeof(bytes)];
	int fd = pair_raw(pair);

	memcpy(greeting.nonce, pair_nonce, FERRY_NONCE_SIZE);
	ferry_streams_put_greeting(bytes, &greeting);
	raw_send(fd, bytes, sizeof(bytes));
	CU_ASSERT_EQUAL(raw_read(fd, back, sizeof(back)), sizeof(back));
	return fd;
}

void raw_send(int fd, const void *data, size_t len)
{
	CU_ASSERT_EQUAL(send(fd, data, len, MSG_NOSIGNAL), (gssize)len);
}

void raw_pages(int fd, guint16 type, guint32 block, guint64 first, guint64 pages)
{
	g_autoptr(GByteArray) out = g_byte_array_new();

	ferry_put_u8(out, FERRY_SECTION_COMMAND);
	ferry_put_be16(out, FERRY_COMMAND_FERRY);
	ferry_put_be16(out, 28);
	ferry_put_record_header(out, type, 0, 20);
	ferry_put_be32(out, block);
	ferry_put_be64(out, first);
	ferry_put_be64(out, pages);
	raw_send(fd, out->data, out->len);
}

void raw_fence(int fd, guint32 round)
{
	guint8 bytes[FERRY_STREAMS_FENCE_SIZE];

	ferry_streams_put_fence(bytes, round);
	raw_send(fd, bytes, sizeof(bytes));
}

gboolean raw_is_closed(int fd)
{
	guint8 byte;

	return raw_read(fd, &byte, 1) <= 0;
}
