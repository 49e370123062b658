/* SPDX-License-Identifier: BSD-2-Clause */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include "receiver.h"
#include "stream-commands.h"

static int report(const FerryReceiver *r, const char *directory)
{
	g_autofree char *late = r->late_pages ? g_strdup_printf(", %" G_GUINT64_FORMAT
								" of both by postcopy",
								r->late_pages)
					      : g_strdup("");
	g_autofree char *encoded = r->xbzrle_pages || r->compressed_pages
					   ? g_strdup_printf(
						     ", %" G_GUINT64_FORMAT
						     " of them by xbzrle and %" G_GUINT64_FORMAT
						     " compressed",
						     r->xbzrle_pages, r->compressed_pages)
					   : g_strdup("");
	guint64 bytes = 0, pages = r->pages;

	for (guint i = 0; i < r->capture->blocks->len; i++)
		bytes += g_array_index(r->capture->blocks, FerryCaptureBlock, i).size;
	if (r->group)
		pages += ferry_channel_group_pages(r->group);
	g_print("received %s into %s: %u RAM blocks of %" G_GUINT64_FORMAT
		" bytes (%" G_GUINT64_FORMAT " pages%s, %" G_GUINT64_FORMAT
		" zero pages came%s), %u device sections of %zu bytes\n",
		r->capture->config.machine ? r->capture->config.machine : "a guest", directory,
		r->capture->blocks->len, bytes, pages, encoded, r->zero_pages, late, r->devices,
		g_bytes_get_size(r->capture->devices));
	return 0;
}

/* A full disk shows as SIGBUS on a write to a mapped file; the source resumes when the socket
 * closes. */
static void say_disk_is_full(int signal_number)
{
	static const char message[] =
		"ferry receive: no space left for the guest's RAM; what was received "
		"is incomplete\n";
	ssize_t ignored = write(STDERR_FILENO, message, sizeof(message) - 1);

	(void)ignored;
	_exit(1);
}

static int receive(FerryReceiver *r)
{
	g_autoptr(GError) error = NULL;

	if (ferry_receiver_take_guest(r, &error))
		return report(r, r->capture->directory);
	g_printerr("ferry receive: %s\n"
		   "%s is incomplete; remove it before the next try\n",
		   error->message, r->capture->directory);
	return 1;
}

/* The stream's connection: any, or with multifd the one among others that says so. */
static gboolean accept_stream(FerryReceiver *r, GError **error)
{
	FerryConnection *connection;

	if (!r->multifd) {
		ferry_receiver_set_channel(r, r->listener->ops->accept(r->listener, NULL, error));
		if (r->channel && !r->listener->again)
			g_clear_pointer(&r->listener, ferry_listener_close);
		return r->channel != NULL;
	}
	if (!r->listener->again)
		return ferry_receiver_refuse(error, FERRY_ERROR_INVALID,
					     "--multifd needs more than one connection: use tcp: "
					     "or unix:");
	r->group = ferry_channel_group_new(g_steal_pointer(&r->listener), r->multifd, NULL,
					   r->capture);
	connection = ferry_channel_group_await_stream(r->group, error);
	if (!connection)
		return FALSE;
	r->channel = connection->channel;
	r->reader = ferry_stream_reader_new(ferry_connection_read, connection);
	return TRUE;
}

static int listen_and_receive(const char *uri, const char *directory, guint multifd)
{
	const FerryTransport *transport;
	g_autoptr(FerryCapture) capture = NULL;
	g_auto(FerryReceiver) r = { .multifd = multifd };
	g_autoptr(GError) error = NULL;

	transport = ferry_transport_find(ferry_transports(), uri, &error);
	if (transport && (capture = ferry_capture_create(directory, &error)) &&
	    (r.listener = transport->listen(uri, NULL, &error))) {
		g_print("listening on %s\n", r.listener->uri);
		fflush(stdout);
		r.capture = capture;
		if (accept_stream(&r, &error))
			return receive(&r);
	}
	g_printerr("ferry receive: %s\n", error->message);
	return transport ? 1 : 2;
}

int ferry_cli_receive(int argc, char **argv)
{
	int multifd = 0;
	const GOptionEntry entries[] = {
		{ "multifd", 0, 0, G_OPTION_ARG_INT, &multifd,
		  "The source sends over that many multifd channels", "CHANNELS" },
		{ NULL },
	};
	g_autoptr(GOptionContext) context = g_option_context_new("URI DIR");
	g_autoptr(GError) error = NULL;

	g_set_prgname("ferry receive");
	g_option_context_set_summary(
		context,
		"Takes in the migration of any QEMU and keeps the guest at rest in DIR: RAM as sparse\n"
		"files, device state as one file, and map.json, which ferry send needs.");
	g_option_context_set_description(
		context,
		"Example, in a shell and then in QEMU's monitor:\n"
		"  $ ferry receive tcp:0.0.0.0:4444 /var/tmp/guest\n"
		"  (qemu) migrate_set_capability return-path on\n"
		"  (qemu) migrate tcp:thishost:4444\n"
		"\n"
		"With port 0 a free port is chosen; the line \"listening on URI\" says which. With the\n"
		"capability return-path the source goes on running the guest should this side fail.\n"
		"With postcopy-ram the source may migrate-start-postcopy; if the connection is then\n"
		"lost, it comes again with migrate -r URI. An interrupt (Ctrl-C) in postcopy waits for\n"
		"the same, to let the guest go on at the source; a second one gives the guest up.\n"
		"A source with multifd on needs --multifd with as many channels as its\n"
		"multifd-channels.\n"
		"DIR must not exist or be empty; it is complete once it has a map.json. Exit status:\n"
		"0 received, 1 failed, 2 wrong usage.\n");
	g_option_context_add_main_entries(context, entries, NULL);
	if (!g_option_context_parse(context, &argc, &argv, &error) || argc != 3) {
		g_printerr("ferry receive: %s; try ferry receive --help\n",
			   error ? error->message : "a URI and a DIR are needed");
		return 2;
	}
	if (multifd < 0 || multifd > (int)FERRY_MULTIFD_CHANNELS_MAX) {
		g_printerr("ferry receive: --multifd %d: 1 to %u channels can come, or 0\n",
			   multifd, FERRY_MULTIFD_CHANNELS_MAX);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	signal(SIGBUS, say_disk_is_full);
	return listen_and_receive(argv[1], argv[2], (guint)multifd);
}
