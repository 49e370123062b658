/* SPDX-License-Identifier: BSD-2-Clause */
#include <signal.h>
#include <unistd.h>
#include "capture.h"
#include "stream-commands.h"

#define CONNECT_TIMEOUT_MS 10000u
/* Of the return path's PING; a destination returns it. */
#define PING_VALUE 1u

typedef struct {
	FerryChannel *channel;
	const FerryCapture *capture;
	FerryRam *ram; /* over the capture's mappings */
	gboolean return_path;
	FerryCarrierStats stats;
} Sender;

static gssize read_channel(gpointer user, const struct iovec *iov, int n, GError **error)
{
	FerryChannel *channel = user;

	return channel->ops->read(channel, iov, n, error);
}

static gboolean write_array(Sender *s, const GByteArray *bytes, GError **error)
{
	return ferry_channel_write_all(s->channel, bytes->data, bytes->len, error);
}

static void put_ram_end(const Sender *s, GByteArray *out)
{
	ferry_put_be64(out, FERRY_RAM_EOS);
	/* Machine types without a configuration have no footers. */
	if (s->capture->config.machine)
		ferry_stream_put_footer(out, s->capture->ram_section_id);
}

static gboolean send_begin(Sender *s, GError **error)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	guint8 ping[4];

	ferry_capture_put_begin(s->capture, out);
	if (s->return_path) {
		ferry_store_be32(ping, PING_VALUE);
		ferry_stream_put_command(out, FERRY_COMMAND_OPEN_RETURN_PATH, NULL, 0);
		ferry_stream_put_command(out, FERRY_COMMAND_PING, ping, sizeof(ping));
	}
	ferry_stream_put_section(out, FERRY_SECTION_START, s->capture->ram_section_id, "ram", 0,
				 s->capture->ram_version_id);
	ferry_stream_put_ram_list(out, s->ram);
	put_ram_end(s, out);
	ferry_stream_put_section(out, FERRY_SECTION_END, s->capture->ram_section_id, NULL, 0, 0);
	return write_array(s, out, error);
}

/* Offers the run until it is taken. */
static gboolean put_run(FerryCarrier *carrier, const FerryRun *run, gboolean zero, GError **error)
{
	for (;;) {
		size_t taken = 0;
		FerryIo io = zero ? carrier->ops->put_zero(carrier, run, 1, &taken)
				  : carrier->ops->put(carrier, run, 1, &taken);

		if (io == FERRY_IO_DEAD) {
			g_propagate_error(error, carrier->ops->take_error(carrier));
			return FALSE;
		}
		if (taken)
			return TRUE;
		carrier->ops->wait(carrier, -1);
		carrier->ops->progress(carrier);
	}
}

/*
 * Holes go as zero pages. Leaving them out would do where the destination's RAM is fresh, but its
 * ROM blocks have content, and a RAM file that it was given may have some too.
 */
static gboolean send_block(Sender *s, FerryCarrier *carrier, guint32 index, GError **error)
{
	const FerryRamBlock *block = &s->ram->blocks[index];
	guint64 at = 0;

	while (at < block->size) {
		off_t data = lseek(block->fd, at, SEEK_DATA);
		gboolean zero = data < 0 || (guint64)data >= at + FERRY_PAGE_SIZE;
		off_t next = data < 0 ? -1 : zero ? data : lseek(block->fd, at, SEEK_HOLE);
		guint64 end = next < 0 ? block->size : (guint64)next;
		FerryRun run = { .block = index, .first = at / FERRY_PAGE_SIZE };

		/* A page that is hole and data is data; a filesystem's blocks may be smaller. */
		end = zero ? end / FERRY_PAGE_SIZE * FERRY_PAGE_SIZE
			   : MIN((end + FERRY_PAGE_SIZE - 1) / FERRY_PAGE_SIZE * FERRY_PAGE_SIZE,
				 block->size);
		run.pages = (end - at) / FERRY_PAGE_SIZE;
		if (!put_run(carrier, &run, zero, error))
			return FALSE;
		at = end;
	}
	return TRUE;
}

static gboolean settle(FerryCarrier *carrier, GError **error)
{
	FerryIo io;

	while ((io = carrier->ops->settle(carrier, 0)) == FERRY_IO_AGAIN)
		carrier->ops->wait(carrier, -1);
	if (io == FERRY_IO_OK)
		return TRUE;
	g_propagate_error(error, carrier->ops->take_error(carrier));
	return FALSE;
}

static gboolean send_pages(Sender *s, GError **error)
{
	g_autoptr(FerryCarrier)
		carrier = s->channel->ops->carrier(s->channel, FERRY_PAGE_FORMAT_QEMU);

	if (!carrier->ops->share_ram(carrier, s->ram, error))
		return FALSE;
	for (guint32 i = 0; i < s->ram->n_blocks; i++)
		if (!send_block(s, carrier, i, error))
			return FALSE;
	if (!settle(carrier, error))
		return FALSE;
	carrier->ops->get_stats(carrier, &s->stats);
	return TRUE;
}

static gboolean send_devices(Sender *s, GError **error)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	gsize len;
	const void *data = g_bytes_get_data(s->capture->devices, &len);

	put_ram_end(s, out);
	g_byte_array_append(out, data, len);
	ferry_put_u8(out, FERRY_SECTION_EOF);
	if (s->capture->description) {
		data = g_bytes_get_data(s->capture->description, &len);
		ferry_stream_put_vmdesc(out, data, len);
	}
	if (!write_array(s, out, error))
		return FALSE;
	/* Without a description a destination waits for one until the stream ends. */
	return (s->return_path && s->capture->description) ||
	       s->channel->ops->finish(s->channel, error);
}

/* The destination's last word. QEMU 7.2 closes without one when it cannot load the guest. */
static gboolean await_shut(Sender *s, GError **error)
{
	g_autoptr(FerryStreamReader) reader = ferry_stream_reader_new(read_channel, s->channel);

	for (;;) {
		guint16 type, len;
		guint8 data[FERRY_RETURN_DATA_MAX] = { 0 };

		if (ferry_stream_reader_peek(reader) < 0) {
			if (ferry_stream_reader_check(reader, error))
				g_set_error_literal(
					error, FERRY_ERROR, FERRY_ERROR_PEER,
					"the destination closed without saying that it loaded the "
					"guest: see its messages, and start it with the command "
					"line of the source");
			return FALSE;
		}
		type = ferry_stream_reader_be16(reader);
		len = ferry_stream_reader_be16(reader);
		if (len > sizeof(data))
			ferry_stream_reader_fail(reader, "message %u of %u bytes", type, len);
		else
			ferry_stream_reader_bytes(reader, data, len);
		if (!ferry_stream_reader_check(reader, error))
			return FALSE;
		if (type != FERRY_RETURN_SHUT)
			continue;
		if (len == 4 && ferry_load_be32(data) == 0)
			return TRUE;
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "the destination failed (SHUT %u)", ferry_load_be32(data));
		return FALSE;
	}
}

/* A destination that refuses closes at once, and the write that fails then has a poorer reason. */
static gboolean send_guest(Sender *s, GError **error)
{
	g_autoptr(GError) cause = NULL;

	if (send_begin(s, &cause) && send_pages(s, &cause) && send_devices(s, &cause))
		return !s->return_path || await_shut(s, error);
	if (s->return_path && g_error_matches(cause, FERRY_ERROR, FERRY_ERROR_LINK)) {
		g_prefix_error(
			&cause,
			"the destination closed, perhaps because it was not started with the "
			"command line of the source; see its messages: ");
	}
	g_propagate_error(error, g_steal_pointer(&cause));
	return FALSE;
}

static int connect_and_send(const char *directory, const char *uri)
{
	const FerryTransport *transport;
	g_autoptr(FerryCapture) capture = NULL;
	g_autoptr(FerryRam) ram = NULL;
	g_autoptr(FerryChannel) channel = NULL;
	g_autoptr(GError) error = NULL;
	Sender s;

	transport = ferry_transport_find(ferry_transports(), uri, &error);
	if (!transport || !(capture = ferry_capture_open(directory, &error)) ||
	    !(ram = ferry_capture_ram(capture, &error)) ||
	    !(channel = transport->connect(uri, CONNECT_TIMEOUT_MS, NULL, &error))) {
		g_printerr("ferry send: %s\n", error->message);
		return transport ? 1 : 2;
	}
	/* Nobody answers behind a file or an arbitrary command. */
	s = (Sender){ .channel = channel, .capture = capture, .ram = ram };
	s.return_path = channel->duplex && !g_str_equal(transport->scheme, "exec");
	if (!send_guest(&s, &error)) {
		g_printerr("ferry send: %s\n", error->message);
		return 1;
	}
	g_print("sent %s to %s: %" G_GUINT64_FORMAT " pages, %" G_GUINT64_FORMAT
		" zero pages; %s\n",
		directory, uri, s.stats.pages, s.stats.zero_pages,
		s.return_path ? "the destination has loaded the guest"
			      : "nobody there can confirm that it was loaded");
	return 0;
}

int ferry_cli_send(int argc, char **argv)
{
	const GOptionEntry entries[] = { { NULL } };
	g_autoptr(GOptionContext) context = g_option_context_new("DIR URI");
	g_autoptr(GError) error = NULL;

	g_set_prgname("ferry send");
	g_option_context_set_summary(
		context,
		"Puts the guest that ferry receive keeps in DIR into a fresh QEMU, which goes on from\n"
		"where the guest stood. DIR is only read and can be sent again.");
	g_option_context_set_description(
		context,
		"Example:\n"
		"  $ qemu-system-x86_64 ...as the source... -incoming tcp:127.0.0.1:4445 &\n"
		"  $ ferry send /var/tmp/guest tcp:127.0.0.1:4445\n"
		"\n"
		"The destination needs the source's command line: the same machine type, memory and\n"
		"devices. Over tcp: and unix: it confirms that it has loaded the guest; to exec: and\n"
		"file: the stream is only written. Exit status: 0 done, 1 failed, 2 wrong usage.\n");
	g_option_context_add_main_entries(context, entries, NULL);
	if (!g_option_context_parse(context, &argc, &argv, &error) || argc != 3) {
		g_printerr("ferry send: %s; try ferry send --help\n",
			   error ? error->message : "a DIR and a URI are needed");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	return connect_and_send(argv[1], argv[2]);
}
