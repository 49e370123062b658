/* SPDX-License-Identifier: BSD-2-Clause */
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include "channels.h"

#define WAKE_MS 100

typedef struct {
	FerryChannel *channel;
	FerryListener *listener;
	GCancellable *cancellable;
	const char *uri;
	gssize result;
	GError *error;
} Waiter;

static void read_one(gpointer user)
{
	Waiter *w = user;
	char byte;
	struct iovec iov = { &byte, 1 };

	w->result = w->channel->ops->read(w->channel, &iov, 1, &w->error);
}

static void write_until_full(gpointer user)
{
	static char bytes[1 << 20];
	Waiter *w = user;

	w->result = ferry_channel_write_all(w->channel, bytes, sizeof(bytes), &w->error) - 1;
	while (w->result == 0)
		w->result = ferry_channel_write_all(w->channel, bytes, sizeof(bytes), &w->error) -
			    1;
}

static void wait_writable(gpointer user)
{
	Waiter *w = user;

	w->channel->ops->wait_writable(w->channel, -1);
	write_until_full(w);
}

static void accept_one(gpointer user)
{
	Waiter *w = user;

	w->result = w->listener->ops->accept(w->listener, w->cancellable, &w->error) ? 0 : -1;
}

static void connect_one(gpointer user)
{
	Waiter *w = user;

	w->result = transport_of(w->uri)->connect(w->uri, 60000, w->cancellable, &w->error) ? 0
											    : -1;
}

/* @w's wait in @func must end within 100 ms of the shutdown or cancellation. */
static void expect_woken(Waiter *w, void (*func)(gpointer user))
{
	Sleeper sleeper;
	double ms;
	gint64 start;

	sleeper_start(&sleeper, func, w);
	sleeper_wait_asleep(&sleeper);
	start = g_get_monotonic_time();
	if (w->channel)
		ferry_channel_shutdown(w->channel);
	else
		g_cancellable_cancel(w->cancellable);
	ms = sleeper_join(&sleeper, start);
	printf("# woken after %.2f ms\n", ms);
	CU_ASSERT(ms < WAKE_MS);
	CU_ASSERT_EQUAL(w->result, -1);
	CU_ASSERT(g_error_matches(w->error, FERRY_ERROR, FERRY_ERROR_CANCELLED));
	g_clear_error(&w->error);
}

/* Writes until it would block; returns how many bytes. */
static size_t fill_channel(FerryChannel *channel)
{
	static char bytes[1 << 16];
	struct iovec iov = { bytes, sizeof(bytes) };
	size_t sent = 0;
	gssize n;

	while ((n = channel->ops->try_write(channel, &iov, 1, NULL)) > 0)
		sent += (size_t)n;
	return sent;
}

static void expect_shutdown_wakes(const char *uri)
{
	void (*const waits[])(gpointer) = { read_one, write_until_full, wait_writable };

	for (guint i = 0; i < G_N_ELEMENTS(waits); i++) {
		g_autoptr(FerryChannel) a = NULL, b = NULL;
		Waiter w = { 0 };

		if (!make_pair(uri, &a, &b))
			return;
		if (waits[i] == wait_writable)
			fill_channel(a);
		w.channel = a;
		expect_woken(&w, waits[i]);
	}
}

static void channel__shutdown__wakes_read_write_and_wait(void)
{
	char *folder = make_folder();
	g_autofree char *uri = g_strdup_printf("unix:%s/socket", folder);

	expect_shutdown_wakes("tcp:127.0.0.1:0");
	expect_shutdown_wakes(uri);
	remove_folder(folder);
}

static void listener__cancel__wakes_accept(void)
{
	g_autoptr(GCancellable) cancellable = g_cancellable_new();
	g_autoptr(FerryListener) listener = listen_on("tcp:127.0.0.1:0", NULL);
	Waiter w = { .listener = listener, .cancellable = cancellable };

	expect_woken(&w, accept_one);
}

/* A listener whose backlog is full drops what comes next: to the source it is a host that is
 * silent. */
static int silent_listener(int fds[4], char **uri)
{
	struct sockaddr_in address = { AF_INET, 0, { htonl(INADDR_LOOPBACK) }, { 0 } };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	bind(fd, (struct sockaddr *)&address, len);
	listen(fd, 0);
	getsockname(fd, (struct sockaddr *)&address, &len);
	for (guint i = 0; i < 4; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)!connect(fds[i], (struct sockaddr *)&address, len);
	}
	*uri = g_strdup_printf("tcp:127.0.0.1:%u", ntohs(address.sin_port));
	return fd;
}

static void tcp__silent_host__cancel_and_deadline_end_connect(void)
{
	g_autoptr(GCancellable) cancellable = g_cancellable_new();
	g_autofree char *uri = NULL;
	g_autoptr(GError) error = NULL;
	int fds[4], fd = silent_listener(fds, &uri);
	Waiter w = { .uri = uri, .cancellable = cancellable };
	gint64 start = g_get_monotonic_time();

	CU_ASSERT_PTR_NULL(transport_of(uri)->connect(uri, 200, NULL, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_LINK, "timed out"));
	CU_ASSERT(g_get_monotonic_time() - start >= 200 * 1000);
	expect_woken(&w, connect_one);
	for (guint i = 0; i < 4; i++)
		close(fds[i]);
	close(fd);
}

static void channel__after_shutdown__every_call_is_cancelled(void)
{
	g_autoptr(FerryChannel) a = NULL, b = NULL;
	char byte = 0;
	struct iovec iov = { &byte, 1 };
	GError *errors[4] = { NULL };

	if (!make_pair("tcp:127.0.0.1:0", &a, &b))
		return;
	/* Bytes that have arrived do not count any more. */
	CU_ASSERT(ferry_channel_write_all(b, "x", 1, NULL));
	ferry_channel_shutdown(a);
	ferry_channel_shutdown(a);
	CU_ASSERT_EQUAL(a->ops->read(a, &iov, 1, &errors[0]), -1);
	CU_ASSERT_EQUAL(a->ops->write(a, &iov, 1, &errors[1]), -1);
	CU_ASSERT_EQUAL(a->ops->try_write(a, &iov, 1, &errors[2]), -1);
	CU_ASSERT_FALSE(a->ops->finish(a, &errors[3]));
	a->ops->wait_writable(a, -1);
	for (guint i = 0; i < 4; i++) {
		CU_ASSERT(is_error(errors[i], FERRY_ERROR_CANCELLED, "tcp:127.0.0.1:"));
		g_clear_error(&errors[i]);
	}
	/* The peer sees the end, not an endless wait. */
	CU_ASSERT_EQUAL(read_up_to(b, &byte, 1), 0);
}

static void channel__peer_does_not_read__would_block_then_goes_on(void)
{
	g_autoptr(FerryChannel) a = NULL, b = NULL;
	g_autofree char *bytes = g_malloc(1 << 20);
	size_t sent;
	gint64 start;

	if (!make_pair("tcp:127.0.0.1:0", &a, &b))
		return;
	sent = fill_channel(a);
	CU_ASSERT(sent > 0);
	start = g_get_monotonic_time();
	a->ops->wait_writable(a, 20000);
	CU_ASSERT(g_get_monotonic_time() - start >= 20000);
	for (size_t got = 0; got < sent;)
		got += read_up_to(b, bytes, MIN(sent - got, 1 << 20));
	a->ops->wait_writable(a, -1);
	CU_ASSERT(fill_channel(a) > 0);
}

static void channel__finish_then_close__every_byte_arrives(void)
{
	g_autoptr(FerryChannel) a = NULL, b = NULL;
	g_autofree char *bytes = g_malloc0(3 << 20);
	size_t sent, got = 0, n;

	if (!make_pair("tcp:127.0.0.1:0", &a, &b))
		return;
	/* A return message that nobody reads must not turn the close into a reset. */
	CU_ASSERT(ferry_channel_write_all(b, "unread", 6, NULL));
	sent = fill_channel(a);
	CU_ASSERT(a->ops->finish(a, NULL));
	g_clear_pointer(&a, ferry_channel_close);
	while ((n = read_up_to(b, bytes, 3 << 20)) > 0)
		got += n;
	CU_ASSERT_EQUAL(got, sent);
}

static CU_TestInfo cases[] = {
	CASE(channel__shutdown__wakes_read_write_and_wait),
	CASE(listener__cancel__wakes_accept),
	CASE(tcp__silent_host__cancel_and_deadline_end_connect),
	CASE(channel__after_shutdown__every_call_is_cancelled),
	CASE(channel__peer_does_not_read__would_block_then_goes_on),
	CASE(channel__finish_then_close__every_byte_arrives),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "tcp-waits", cases);
}
