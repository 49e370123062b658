/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "channels.h"
#include "tcp-fallback/fd-channel.h"

/* A port of the loopback at which nobody listens: one that was just given back. */
static char *dead_uri(void)
{
	g_autoptr(FerryListener) listener = listen_on("tcp:127.0.0.1:0", NULL);

	return g_strdup(listener->uri);
}

static gboolean has_ipv6(void)
{
	g_autoptr(FerryListener) listener = listen_on("tcp:[::1]:0", NULL);

	return listener != NULL;
}

/* Both ways, and the end. */
static void talk(FerryChannel *a, FerryChannel *b)
{
	char buf[16] = "";

	CU_ASSERT(a->duplex && b->duplex);
	CU_ASSERT(ferry_channel_write_all(a, "ping", 4, NULL));
	CU_ASSERT_EQUAL(read_up_to(b, buf, 4), 4);
	CU_ASSERT_STRING_EQUAL(buf, "ping");
	CU_ASSERT(ferry_channel_write_all(b, "pong", 4, NULL));
	CU_ASSERT_EQUAL(read_up_to(a, buf, 4), 4);
	CU_ASSERT_STRING_EQUAL(buf, "pong");
	CU_ASSERT(a->ops->finish(a, NULL));
	CU_ASSERT_EQUAL(read_up_to(b, buf, 1), 0);
}

static void connect_and_talk(const char *uri)
{
	g_autoptr(FerryChannel) a = NULL, b = NULL;

	if (make_pair(uri, &a, &b))
		talk(a, b);
}

static void tcp__nobody_listens__link_error_says_where(void)
{
	g_autofree char *uri = dead_uri();
	g_autoptr(GError) error = NULL;

	CU_ASSERT_PTR_NULL(connect_to(uri, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_LINK, uri));
	CU_ASSERT(is_error(error, FERRY_ERROR_LINK, "Connection refused"));
}

static void tcp__name_has_several_addresses__each_failure_is_listed(void)
{
	g_autofree char *dead = dead_uri(), *uri = NULL;
	g_autoptr(GError) error = NULL;

	if (!has_ipv6())
		SKIP("no IPv6 on this host: localhost has one address");
	uri = g_strdup_printf("tcp:localhost:%s", strrchr(dead, ':') + 1);
	CU_ASSERT_PTR_NULL(connect_to(uri, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_LINK, "127.0.0.1:"));
	CU_ASSERT(is_error(error, FERRY_ERROR_LINK, "[::1]:"));
}

static void tcp__second_address_of_a_name__is_reached(void)
{
	g_autoptr(FerryListener) listener = listen_on("tcp:[::1]:0", NULL);
	g_autoptr(FerryChannel) channel = NULL;
	g_autofree char *uri = NULL;

	if (!listener)
		SKIP("no IPv6 on this host: localhost has one address");
	uri = g_strdup_printf("tcp:localhost:%s", strrchr(listener->uri, ':') + 1);
	channel = connect_to(uri, NULL);
	CU_ASSERT_PTR_NOT_NULL(channel);
}

static void tcp__unknown_name__link_error_names_it(void)
{
	g_autoptr(GError) error = NULL;

	CU_ASSERT_PTR_NULL(connect_to("tcp:no-such-host.invalid:4444", &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_LINK,
			   "cannot look up the host 'no-such-host.invalid'"));
}

static void tcp__look_up_at_deadline_or_cancelled__ends(void)
{
	g_autoptr(GCancellable) cancellable = g_cancellable_new();
	const FerryTransport *tcp = transport_of("tcp:");
	g_autoptr(GError) late = NULL, cancelled = NULL;

	CU_ASSERT_PTR_NULL(tcp->connect("tcp:no-such-host.invalid:4444", 0, NULL, &late));
	CU_ASSERT(is_error(late, FERRY_ERROR_LINK, "no-such-host.invalid"));
	g_cancellable_cancel(cancellable);
	CU_ASSERT_PTR_NULL(
		tcp->connect("tcp:no-such-host.invalid:4444", 1000, cancellable, &cancelled));
	CU_ASSERT(is_error(cancelled, FERRY_ERROR_CANCELLED, "no-such-host.invalid"));
}

static void tcp__malformed_uri__invalid(void)
{
	static const char *const uris[] = {
		"tcp:",
		"tcp:host",
		"tcp:4444",
		"tcp:::1:4444",
		"tcp:[::1]4444",
		"tcp:[::1",
		"tcp:[]:4444",
		"tcp:host:",
		"tcp:host:-1",
		"tcp:host:65536",
		"tcp:host:4444x",
		"tcp:host: 44",
		"tcp:host:99999999999999999999",
	};

	for (guint i = 0; i < G_N_ELEMENTS(uris); i++) {
		g_autoptr(GError) connecting = NULL, listening = NULL;

		CU_ASSERT_PTR_NULL(connect_to(uris[i], &connecting));
		CU_ASSERT(is_error(connecting, FERRY_ERROR_INVALID, uris[i]));
		CU_ASSERT_PTR_NULL(listen_on(uris[i], &listening));
		CU_ASSERT(is_error(listening, FERRY_ERROR_INVALID, uris[i]));
	}
}

static void tcp__no_host_or_port_to_connect_to__invalid(void)
{
	g_autoptr(GError) no_host = NULL, no_port = NULL;

	CU_ASSERT_PTR_NULL(connect_to("tcp::4444", &no_host));
	CU_ASSERT(is_error(no_host, FERRY_ERROR_INVALID, "host"));
	CU_ASSERT_PTR_NULL(connect_to("tcp:127.0.0.1:0", &no_port));
	CU_ASSERT(is_error(no_port, FERRY_ERROR_INVALID, "port"));
}

static void tcp__port_in_use__says_so(void)
{
	g_autoptr(FerryListener) first = listen_on("tcp:127.0.0.1:0", NULL);
	g_autoptr(GError) error = NULL;

	CU_ASSERT_PTR_NULL(listen_on(first->uri, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_IO, "in use"));
	CU_ASSERT(is_error(error, FERRY_ERROR_IO, first->uri));
}

static void tcp__port_zero__uri_can_be_connected_to(void)
{
	static const char *const uris[] = { "tcp:127.0.0.1:0", "tcp:localhost:0", "tcp::0",
					    "tcp:0.0.0.0:0" };

	for (guint i = 0; i < G_N_ELEMENTS(uris); i++) {
		g_autoptr(FerryListener) listener = listen_on(uris[i], NULL);

		CU_ASSERT_PTR_NOT_NULL(listener);
		CU_ASSERT(listener && listener->again);
		CU_ASSERT(listener && !g_str_has_suffix(listener->uri, ":0"));
		CU_ASSERT(listener && !strstr(listener->uri, "0.0.0.0") &&
			  !strstr(listener->uri, "[::]"));
		connect_and_talk(uris[i]);
	}
}

static void tcp__ipv6__talks(void)
{
	g_autoptr(FerryListener) listener = listen_on("tcp:[::1]:0", NULL);

	if (!listener)
		SKIP("no IPv6 on this host");
	CU_ASSERT(g_str_has_prefix(listener->uri, "tcp:[::1]:"));
	connect_and_talk("tcp:[::1]:0");
	connect_and_talk("tcp:[::1%1]:0");
	connect_and_talk("tcp:[::]:0");
}

/* The link-local address of some interface, with its scope; NULL for none. */
static char *link_local(void)
{
	char name[NI_MAXHOST] = "";
	struct ifaddrs *all = NULL;

	if (getifaddrs(&all) < 0)
		return NULL;
	for (struct ifaddrs *i = all; i && !*name; i = i->ifa_next) {
		struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)i->ifa_addr;

		if (v6 && v6->sin6_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr))
			getnameinfo(i->ifa_addr, sizeof(*v6), name, sizeof(name), NULL, 0,
				    NI_NUMERICHOST);
	}
	freeifaddrs(all);
	return *name ? g_strdup(name) : NULL;
}

static void tcp__ipv6_with_scope__talks(void)
{
	g_autofree char *host = link_local(), *uri = NULL;

	if (!host)
		SKIP("no interface has a link-local IPv6 address");
	uri = g_strdup_printf("tcp:[%s]:0", host);
	connect_and_talk(uri);
}

static int option(FerryChannel *channel, int level, int name)
{
	socklen_t len = sizeof(int);
	int value = -1;

	getsockopt(((FerryFdChannel *)channel)->in, level, name, &value, &len);
	return value;
}

static void tcp__connected__notices_a_dead_peer_and_sends_at_once(void)
{
	FerryChannel *ends[2] = { NULL, NULL };

	if (!make_pair("tcp:127.0.0.1:0", &ends[0], &ends[1]))
		return;
	for (guint i = 0; i < 2; i++) {
		CU_ASSERT_EQUAL(option(ends[i], IPPROTO_TCP, TCP_NODELAY), 1);
		CU_ASSERT_EQUAL(option(ends[i], SOL_SOCKET, SO_KEEPALIVE), 1);
		CU_ASSERT(option(ends[i], IPPROTO_TCP, TCP_USER_TIMEOUT) >= 5000);
		CU_ASSERT(option(ends[i], IPPROTO_TCP, TCP_KEEPIDLE) <= 60);
		CU_ASSERT(fcntl(((FerryFdChannel *)ends[i])->in, F_GETFD) & FD_CLOEXEC);
		ferry_channel_close(ends[i]);
	}
}

static void tcp__peer_resets__link_error_names_it(void)
{
	g_autoptr(FerryChannel) a = NULL, b = NULL;
	g_autoptr(GError) error = NULL;
	struct linger at_once = { 1, 0 };
	char buf[4];
	struct iovec iov = { buf, 4 };

	if (!make_pair("tcp:127.0.0.1:0", &a, &b))
		return;
	setsockopt(((FerryFdChannel *)b)->in, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	g_clear_pointer(&b, ferry_channel_close);
	CU_ASSERT_EQUAL(a->ops->read(a, &iov, 1, &error), -1);
	CU_ASSERT(is_error(error, FERRY_ERROR_LINK, "tcp:127.0.0.1:"));
	g_clear_error(&error);
	/* No SIGPIPE either. */
	CU_ASSERT_FALSE(ferry_channel_write_all(a, "x", 1, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_LINK, "tcp:127.0.0.1:"));
}

static char *socket_uri(const char *folder)
{
	return g_strdup_printf("unix:%s/socket", folder);
}

static void unix__connected__talks_and_removes_its_file(void)
{
	char *folder = make_folder();
	g_autofree char *uri = socket_uri(folder);
	struct stat file;

	connect_and_talk(uri);
	CU_ASSERT_NOT_EQUAL(lstat(uri + 5, &file), 0);
	remove_folder(folder);
}

static void unix__nobody_listens__link_error_names_path(void)
{
	g_autoptr(GError) error = NULL;

	CU_ASSERT_PTR_NULL(connect_to("unix:/nowhere/at-all", &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_LINK, "unix:/nowhere/at-all: No such file"));
}

static void unix__stale_file__is_replaced(void)
{
	char *folder = make_folder();
	g_autofree char *uri = socket_uri(folder), *kept = g_strdup_printf("%s/kept", folder);
	g_autoptr(FerryListener) dead = listen_on(uri, NULL);
	g_autoptr(GError) error = NULL;

	/* What a killed process leaves: a file that nobody listens on. */
	CU_ASSERT_EQUAL(link(uri + 5, kept), 0);
	g_clear_pointer(&dead, ferry_listener_close);
	CU_ASSERT_EQUAL(rename(kept, uri + 5), 0);
	CU_ASSERT_PTR_NULL(connect_to(uri, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_LINK, "Connection refused"));
	connect_and_talk(uri);
	remove_folder(folder);
}

static void unix__somebody_listens__refused_and_left_alone(void)
{
	char *folder = make_folder();
	g_autofree char *uri = socket_uri(folder);
	g_autoptr(FerryListener) first = listen_on(uri, NULL);
	g_autoptr(FerryChannel) channel = NULL;
	g_autoptr(GError) error = NULL;

	CU_ASSERT_PTR_NULL(listen_on(uri, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_IO, "another process listens"));
	channel = connect_to(uri, NULL);
	CU_ASSERT_PTR_NOT_NULL(channel);
	g_clear_pointer(&first, ferry_listener_close);
	remove_folder(folder);
}

static void unix__path_is_another_file__refused_and_left_alone(void)
{
	char *folder = make_folder();
	g_autofree char *uri = socket_uri(folder);
	g_autoptr(GError) error = NULL;

	CU_ASSERT(g_file_set_contents(uri + 5, "precious", -1, NULL));
	CU_ASSERT_PTR_NULL(listen_on(uri, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_IO, "not a socket"));
	CU_ASSERT(g_file_test(uri + 5, G_FILE_TEST_IS_REGULAR));
	remove_folder(folder);
}

static void unix__path_too_long_or_empty__invalid(void)
{
	g_autofree char *path = g_strnfill(108, 'x'), *uri = g_strdup_printf("unix:/tmp/%s", path);
	g_autoptr(GError) error = NULL, empty = NULL;

	CU_ASSERT_PTR_NULL(listen_on(uri, &error));
	CU_ASSERT(is_error(error, FERRY_ERROR_INVALID, "1 to 107"));
	CU_ASSERT_PTR_NULL(connect_to("unix:", &empty));
	CU_ASSERT(is_error(empty, FERRY_ERROR_INVALID, "1 to 107"));
}

static void channel__hundred_connections__leave_no_fd_or_thread(void)
{
	guint fds, threads;

	/* What GLib keeps for good is there after the first. */
	connect_and_talk("tcp:localhost:0");
	fds = open_fds();
	threads = running_threads();
	for (guint i = 0; i < 100; i++) {
		g_autofree char *dead = i % 10 ? NULL : dead_uri();

		connect_and_talk(i % 2 ? "tcp:localhost:0" : "tcp:127.0.0.1:0");
		if (dead)
			CU_ASSERT_PTR_NULL(connect_to(dead, NULL));
	}
	/* A look-up's thread of GLib's may be closing its files just now. */
	for (guint i = 0; i < 5000 && (open_fds() > fds || running_threads() > threads); i++)
		g_usleep(1000);
	CU_ASSERT(open_fds() <= fds);
	CU_ASSERT(running_threads() <= threads);
}

static CU_TestInfo cases[] = {
	CASE(tcp__nobody_listens__link_error_says_where),
	CASE(tcp__name_has_several_addresses__each_failure_is_listed),
	CASE(tcp__second_address_of_a_name__is_reached),
	CASE(tcp__unknown_name__link_error_names_it),
	CASE(tcp__look_up_at_deadline_or_cancelled__ends),
	CASE(tcp__malformed_uri__invalid),
	CASE(tcp__no_host_or_port_to_connect_to__invalid),
	CASE(tcp__port_in_use__says_so),
	CASE(tcp__port_zero__uri_can_be_connected_to),
	CASE(tcp__ipv6__talks),
	CASE(tcp__ipv6_with_scope__talks),
	CASE(tcp__connected__notices_a_dead_peer_and_sends_at_once),
	CASE(tcp__peer_resets__link_error_names_it),
	CASE(unix__connected__talks_and_removes_its_file),
	CASE(unix__nobody_listens__link_error_names_path),
	CASE(unix__stale_file__is_replaced),
	CASE(unix__somebody_listens__refused_and_left_alone),
	CASE(unix__path_is_another_file__refused_and_left_alone),
	CASE(unix__path_too_long_or_empty__invalid),
	CASE(channel__hundred_connections__leave_no_fd_or_thread),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "tcp-socket", cases);
}
