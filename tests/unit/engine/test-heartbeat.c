/* SPDX-License-Identifier: BSD-2-Clause */
/* The control channel in its heartbeat, over a socket pair: the other end is read raw. */
#include <harness.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <ferry/transport.h>

#include "engine/heartbeat.h"

static const guint8 forth[] = { 8, 0x46, 0x52, 0, 8, 0, 3, 1, 1, 0, 0, 0, 0 };
static const guint8 back[] = { 0x46, 0x52, 0, 8, 0, 3, 1, 1, 0, 0, 0, 0 };

typedef struct {
	FerryHeartbeat *heartbeat;
	FerryChannel *channel;
	int other; /* the peer's end */
} Link;

static void link_open(Link *link, FerryHeartbeatWay way)
{
	const FerryTransport *transport;
	g_autofree char *uri = NULL;
	int fds[2];

	CU_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	uri = g_strdup_printf("fd:%d", fds[0]);
	transport = ferry_transport_find(ferry_socket_transports(), uri, NULL);
	link->heartbeat = ferry_heartbeat_new(transport->connect(uri, 1000, NULL, NULL), way);
	link->channel = ferry_heartbeat_channel(link->heartbeat);
	link->other = fds[1];
}

static void link_close(Link *link)
{
	ferry_channel_close(link->channel);
	if (link->other >= 0)
		close(link->other);
}

/* Whether exactly @expected comes next, within a second. */
static gboolean comes(int fd, const void *expected, size_t len)
{
	g_autofree guint8 *bytes = g_malloc0(len);
	size_t got = 0;

	while (got < len) {
		struct pollfd wait = { fd, POLLIN, 0 };
		gssize n = poll(&wait, 1, 1000) > 0 ? read(fd, bytes + got, len - got) : 0;

		if (n <= 0)
			return FALSE;
		got += n;
	}
	return memcmp(bytes, expected, len) == 0;
}

static gboolean is_quiet(int fd, int ms)
{
	struct pollfd wait = { fd, POLLIN, 0 };

	return poll(&wait, 1, ms) == 0;
}

static gssize read_byte(FerryChannel *channel, GError **error)
{
	guint8 byte;
	struct iovec iov = { &byte, 1 };

	return channel->ops->read(channel, &iov, 1, error);
}

static gboolean write_text(FerryChannel *channel, const char *text)
{
	return ferry_channel_write_all(channel, text, strlen(text), NULL);
}

/* ---- saying ---- */

static void channel__not_started__passes_through_and_says_nothing(void)
{
	Link link;

	link_open(&link, FERRY_HEARTBEAT_FORTH);
	CU_ASSERT(write_text(link.channel, "abc"));
	CU_ASSERT(comes(link.other, "abc", 3));
	CU_ASSERT(is_quiet(link.other, 400));
	CU_ASSERT_FALSE(ferry_heartbeat_say(link.heartbeat, 0x1f0, "x", 1));
	link_close(&link);
}

static void check_says(FerryHeartbeatWay way, const guint8 *frame, size_t len)
{
	gint64 begin;
	Link link;

	link_open(&link, way);
	ferry_heartbeat_start(link.heartbeat);
	CU_ASSERT(comes(link.other, frame, len));
	begin = g_get_monotonic_time();
	CU_ASSERT(comes(link.other, frame, len));
	CU_ASSERT(comes(link.other, frame, len));
	CU_ASSERT(g_get_monotonic_time() - begin > 400 * G_TIME_SPAN_MILLISECOND);
	link_close(&link);
}

static void heartbeat__started_at_the_source__is_a_command(void)
{
	check_says(FERRY_HEARTBEAT_FORTH, forth, sizeof(forth));
}

static void heartbeat__started_at_the_destination__is_a_message(void)
{
	check_says(FERRY_HEARTBEAT_BACK, back, sizeof(back));
}

static void heartbeat__something_was_written__is_not_said(void)
{
	Link link;

	link_open(&link, FERRY_HEARTBEAT_FORTH);
	ferry_heartbeat_start(link.heartbeat);
	CU_ASSERT(comes(link.other, forth, sizeof(forth)));
	for (guint i = 0; i < 10; i++) {
		CU_ASSERT(write_text(link.channel, "frame"));
		CU_ASSERT(comes(link.other, "frame", 5));
		g_usleep(50000);
	}
	link_close(&link);
}

static void say__started__frames_the_record(void)
{
	static const guint8 said[] = { 8, 0x46, 0x52, 0, 10, 1, 0xf0, 1, 0, 0, 0, 0, 2, 'h', 'i' };
	Link link;

	link_open(&link, FERRY_HEARTBEAT_FORTH);
	ferry_heartbeat_start(link.heartbeat);
	CU_ASSERT(comes(link.other, forth, sizeof(forth)));
	CU_ASSERT(ferry_heartbeat_say(link.heartbeat, 0x1f0, "hi", 2));
	CU_ASSERT(comes(link.other, said, sizeof(said)));
	link_close(&link);
}

/* ---- the queue ---- */

static gpointer shut_later(gpointer channel)
{
	g_usleep(100000);
	ferry_channel_shutdown(channel);
	return NULL;
}

/* Fills the socket and the queue; how many tries were taken. */
static guint fill(FerryChannel *channel, struct iovec *iov)
{
	gint64 until = g_get_monotonic_time() + 5 * G_TIME_SPAN_SECOND;
	guint taken = 0;
	gssize n;

	do {
		n = channel->ops->try_write(channel, iov, 1, NULL);
		if (n == 0)
			channel->ops->wait_writable(channel, 100000);
		else
			taken++;
		/* Full for good: the wait found no room either. */
		if (n == 0 && channel->ops->try_write(channel, iov, 1, NULL) == 0)
			return taken;
	} while (n >= 0 && g_get_monotonic_time() < until);
	return 0;
}

static void queue__full__takes_all_or_nothing_and_shutdown_wakes(void)
{
	g_autofree char *frame = g_malloc0(60000);
	struct iovec iov = { frame, 60000 };
	g_autoptr(GError) error = NULL;
	GThread *thread;
	Link link;

	link_open(&link, FERRY_HEARTBEAT_FORTH);
	ferry_heartbeat_start(link.heartbeat);
	CU_ASSERT(fill(link.channel, &iov) >= 4);
	thread = g_thread_new("shut", shut_later, link.channel);
	CU_ASSERT_EQUAL(link.channel->ops->write(link.channel, &iov, 1, &error), -1);
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_CANCELLED));
	g_thread_join(thread);
	link_close(&link);
}

static void frame__larger_than_the_queue__goes_alone(void)
{
	size_t len = 1 << 20;
	g_autofree char *frame = g_malloc0(len);
	struct iovec iov = { frame, len };
	Link link;

	link_open(&link, FERRY_HEARTBEAT_FORTH);
	ferry_heartbeat_start(link.heartbeat);
	CU_ASSERT(comes(link.other, forth, sizeof(forth)));
	memset(frame, 'x', len);
	CU_ASSERT_EQUAL(link.channel->ops->write(link.channel, &iov, 1, NULL), (gssize)len);
	CU_ASSERT(comes(link.other, frame, len));
	link_close(&link);
}

static void stop__something_queued__writes_it_and_passes_through(void)
{
	Link link;

	link_open(&link, FERRY_HEARTBEAT_FORTH);
	ferry_heartbeat_start(link.heartbeat);
	CU_ASSERT(comes(link.other, forth, sizeof(forth)));
	CU_ASSERT(write_text(link.channel, "one"));
	ferry_heartbeat_stop(link.heartbeat, G_TIME_SPAN_SECOND);
	CU_ASSERT(write_text(link.channel, "two"));
	CU_ASSERT(comes(link.other, "onetwo", 6));
	CU_ASSERT(is_quiet(link.other, 400));
	link_close(&link);
}

static void stop__peer_takes_nothing__shuts_the_channel(void)
{
	g_autofree char *frame = g_malloc0(60000);
	struct iovec iov = { frame, 60000 };
	g_autoptr(GError) error = NULL;
	Link link;

	link_open(&link, FERRY_HEARTBEAT_FORTH);
	ferry_heartbeat_start(link.heartbeat);
	CU_ASSERT(fill(link.channel, &iov) >= 4);
	ferry_heartbeat_stop(link.heartbeat, 50000);
	CU_ASSERT_EQUAL(link.channel->ops->write(link.channel, &iov, 1, &error), -1);
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_LINK));
	link_close(&link);
}

static void give_up__reader_waits__last_words_go_and_reason_comes(void)
{
	static const guint8 last[] = { 0x46, 0x52, 0, 10, 0, 2, 1, 0, 0, 0, 0, 2, 'n', 'o' };
	g_autoptr(GError) error = NULL;
	guint8 byte;
	Link link;

	link_open(&link, FERRY_HEARTBEAT_BACK);
	ferry_heartbeat_start(link.heartbeat);
	CU_ASSERT(comes(link.other, back, sizeof(back)));
	CU_ASSERT(ferry_heartbeat_say(link.heartbeat, FERRY_RECORD_ERROR, "no", 2));
	ferry_heartbeat_give_up(link.heartbeat,
				g_error_new(FERRY_ERROR, FERRY_ERROR_LINK, "the queue broke"));
	CU_ASSERT_EQUAL(read_byte(link.channel, &error), -1);
	CU_ASSERT_STRING_EQUAL(error ? error->message : "", "the queue broke");
	CU_ASSERT(comes(link.other, last, sizeof(last)));
	CU_ASSERT_EQUAL(read(link.other, &byte, 1), 0);
	CU_ASSERT_FALSE(write_text(link.channel, "more"));
	link_close(&link);
}

/* ---- listening ---- */

/* How long a read waits until it fails, microseconds; the reason must be the silence. */
static gint64 silence_lasts(Link *link, const char *who)
{
	gint64 begin = g_get_monotonic_time();
	g_autoptr(GError) error = NULL;
	gssize n;

	while ((n = read_byte(link->channel, &error)) > 0)
		;
	printf("# %s\n", error ? error->message : "no error");
	CU_ASSERT(n == -1 && g_error_matches(error, FERRY_ERROR, FERRY_ERROR_LINK));
	CU_ASSERT(error && strstr(error->message, who));
	return g_get_monotonic_time() - begin;
}

static void check_silence(FerryHeartbeatWay way, const char *who)
{
	gint64 took;
	Link link;

	link_open(&link, way);
	ferry_heartbeat_start(link.heartbeat);
	took = silence_lasts(&link, who);
	CU_ASSERT(took > 1400 * G_TIME_SPAN_MILLISECOND && took < 2 * G_TIME_SPAN_SECOND);
	CU_ASSERT_FALSE(write_text(link.channel, "more"));
	link_close(&link);
}

static void destination__silent__noticed_within_2_s(void)
{
	check_silence(FERRY_HEARTBEAT_FORTH, "no sign of life from the destination");
}

static void source__silent__noticed_within_2_s(void)
{
	check_silence(FERRY_HEARTBEAT_BACK, "no sign of life from the source");
}

static void reader__busy_elsewhere__peer_is_not_given_up(void)
{
	Link link;

	link_open(&link, FERRY_HEARTBEAT_FORTH);
	ferry_heartbeat_start(link.heartbeat);
	g_usleep(2 * G_USEC_PER_SEC);
	CU_ASSERT_EQUAL(write(link.other, "x", 1), 1);
	CU_ASSERT_EQUAL(read_byte(link.channel, NULL), 1);
	link_close(&link);
}

/* A process that says a byte every 100 ms; with @stops it stops its parent once for 2 s. Called
 * while there is but one thread. */
static pid_t spawn_peer(Link *link, gboolean stops)
{
	pid_t parent = getpid(), child = fork();

	if (child)
		return child;
	for (guint i = 0; i < 40; i++) {
		if (stops && i == 5)
			kill(parent, SIGSTOP);
		if (stops && i == 25)
			kill(parent, SIGCONT);
		if (write(link->other, "x", 1) != 1)
			break;
		g_usleep(100000);
	}
	_exit(0);
}

static void peer__stopped__noticed_within_2_s(void)
{
	gint64 took;
	pid_t child;
	Link link;

	link_open(&link, FERRY_HEARTBEAT_FORTH);
	child = spawn_peer(&link, FALSE);
	ferry_heartbeat_start(link.heartbeat);
	for (guint i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(read_byte(link.channel, NULL), 1);
	kill(child, SIGSTOP);
	took = silence_lasts(&link, "stopped");
	CU_ASSERT(took < 2 * G_TIME_SPAN_SECOND);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	link_close(&link);
}

/* What the peer said meanwhile is there when we wake. */
static void process__stopped_itself__peer_is_not_given_up(void)
{
	g_autoptr(GError) error = NULL;
	guint heard = 0;
	pid_t child;
	Link link;

	link_open(&link, FERRY_HEARTBEAT_FORTH);
	child = spawn_peer(&link, TRUE);
	close(link.other);
	link.other = -1;
	ferry_heartbeat_start(link.heartbeat);
	while (read_byte(link.channel, &error) > 0)
		heard++;
	CU_ASSERT_EQUAL(heard, 40);
	if (error)
		printf("# %s\n", error->message);
	waitpid(child, NULL, 0);
	link_close(&link);
}

static CU_TestInfo cases[] = {
	CASE(channel__not_started__passes_through_and_says_nothing),
	CASE(heartbeat__started_at_the_source__is_a_command),
	CASE(heartbeat__started_at_the_destination__is_a_message),
	CASE(heartbeat__something_was_written__is_not_said),
	CASE(say__started__frames_the_record),
	CASE(queue__full__takes_all_or_nothing_and_shutdown_wakes),
	CASE(frame__larger_than_the_queue__goes_alone),
	CASE(stop__something_queued__writes_it_and_passes_through),
	CASE(stop__peer_takes_nothing__shuts_the_channel),
	CASE(give_up__reader_waits__last_words_go_and_reason_comes),
	CASE(destination__silent__noticed_within_2_s),
	CASE(source__silent__noticed_within_2_s),
	CASE(reader__busy_elsewhere__peer_is_not_given_up),
	CASE(peer__stopped__noticed_within_2_s),
	CASE(process__stopped_itself__peer_is_not_given_up),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "the heartbeat", cases);
}
