/* SPDX-License-Identifier: BSD-2-Clause */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include "capture.h"
#include "stream-commands.h"

/* Device state that is taken into memory at most, with its description. */
#define DEVICES_MAX (512u << 20)

typedef struct {
	FerryChannel *channel;
	FerryStreamReader *reader;
	FerryCapture *capture;
	FerryRamReader ram;
	gboolean return_path; /* the source opened it: it waits for SHUT */
	guint64 pages;
	guint64 zero_pages;
	guint devices;
} Receiver;

static gssize read_channel(gpointer user, const struct iovec *iov, int n, GError **error)
{
	FerryChannel *channel = user;

	return channel->ops->read(channel, iov, n, error);
}

static gboolean answer(Receiver *r, FerryReturnType type, guint32 value, GError **error)
{
	guint8 message[8];

	ferry_store_be16(message, type);
	ferry_store_be16(message + 2, 4);
	ferry_store_be32(message + 4, value);
	return ferry_channel_write_all(r->channel, message, sizeof(message), error);
}

static gboolean refuse(GError **error, FerryErrorCode code, const char *what)
{
	g_set_error_literal(error, FERRY_ERROR, code, what);
	return FALSE;
}

static gboolean take_command(Receiver *r, const FerryStreamElement *element, GError **error)
{
	guint8 data[16] = { 0 };

	if (element->length > sizeof(data)) {
		ferry_stream_reader_fail(r->reader, "command %u with %u bytes", element->command,
					 element->length);
		return ferry_stream_reader_check(r->reader, error);
	}
	ferry_stream_reader_bytes(r->reader, data, element->length);
	if (!ferry_stream_reader_check(r->reader, error))
		return FALSE;
	switch (element->command) {
	case FERRY_COMMAND_OPEN_RETURN_PATH:
		r->return_path = r->channel->duplex;
		return r->return_path || refuse(error, FERRY_ERROR_NOSUPP,
						"the source wants a return path, which this "
						"transport does not have: use tcp: or unix:");
	case FERRY_COMMAND_PING:
		/* Also to Ferry's own question: as a QEMU, so that it speaks QEMU's stream. */
		return !r->return_path ||
		       answer(r, FERRY_RETURN_PONG, ferry_load_be32(data), error);
	case FERRY_COMMAND_POSTCOPY_ADVISE:
		return ferry_load_be64(data) == FERRY_PAGE_SIZE ||
		       refuse(error, FERRY_ERROR_NOSUPP,
			      "postcopy-ram with huge pages cannot be read: "
			      "switch postcopy-ram off at the source");
	case FERRY_COMMAND_SWITCHOVER_START:
		return TRUE;
	default:
		ferry_stream_reader_fail(
			r->reader, "command %u cannot be followed by a receiver at rest%s",
			element->command,
			element->command == FERRY_COMMAND_PACKAGED ||
					element->command == FERRY_COMMAND_POSTCOPY_RAM_DISCARD
				? ": do not start postcopy"
				: "");
		return ferry_stream_reader_check(r->reader, error);
	}
}

static gboolean take_ram_item(Receiver *r, const FerryRamItem *item, GError **error)
{
	FerryCaptureBlock *block;

	if (item->type == FERRY_RAM_ITEM_LIST)
		return ferry_capture_add_blocks(r->capture, r->ram.blocks, error);
	if (item->type == FERRY_RAM_ITEM_END)
		return TRUE;
	block = &g_array_index(r->capture->blocks, FerryCaptureBlock, item->block);
	if (item->type == FERRY_RAM_ITEM_ZERO) {
		ferry_capture_zero_page(block, item->offset);
		r->zero_pages++;
		return TRUE;
	}
	ferry_stream_reader_bytes(r->reader, ferry_capture_page(block, item->offset),
				  FERRY_PAGE_SIZE);
	r->pages++;
	return ferry_stream_reader_check(r->reader, error);
}

static gboolean take_section(Receiver *r, const FerryStreamElement *element, GError **error)
{
	FerryCapture *capture = r->capture;
	FerryRamItem item;

	if (element->type == FERRY_SECTION_START) {
		if (strcmp(element->name, "ram") != 0 || element->instance_id != 0 ||
		    element->version_id != 4)
			ferry_stream_reader_fail(
				r->reader,
				"section \"%s\" version %u comes in parts, and only ram "
				"version 4 is understood: switch its capability off",
				element->name, element->version_id);
		capture->ram_section_id = element->section_id;
		capture->ram_version_id = element->version_id;
	} else if (!r->ram.blocks || element->section_id != capture->ram_section_id) {
		ferry_stream_reader_fail(r->reader, "a part of section %u, which did not start",
					 element->section_id);
	}
	do {
		if (!ferry_ram_reader_next(&r->ram, r->reader, &item, error) ||
		    !take_ram_item(r, &item, error))
			return FALSE;
	} while (item.type != FERRY_RAM_ITEM_END);
	return !capture->config.machine ||
	       ferry_stream_read_footer(r->reader, element->section_id, error);
}

static gboolean take_begin(Receiver *r, GError **error)
{
	FerryStreamConfiguration *config = &r->capture->config;
	gboolean utf8;

	if (!ferry_stream_read_header(r->reader, error))
		return FALSE;
	if (ferry_stream_reader_peek(r->reader) != FERRY_SECTION_CONFIGURATION)
		return ferry_stream_reader_check(r->reader, error);
	if (!ferry_stream_read_configuration(r->reader, config, error))
		return FALSE;
	utf8 = g_utf8_validate(config->machine, -1, NULL);
	for (guint i = 0; i < config->capabilities->len; i++) {
		utf8 = utf8 && g_utf8_validate(config->capabilities->pdata[i], -1, NULL);
		if (g_str_equal(config->capabilities->pdata[i], "x-ignore-shared"))
			return refuse(
				error, FERRY_ERROR_NOSUPP,
				"the source has x-ignore-shared on and would leave shared RAM out: "
				"switch it off");
	}
	return utf8 ||
	       refuse(error, FERRY_ERROR_STREAM, "a name in the configuration is not UTF-8");
}

/* RAM and commands, up to the first device section. */
static gboolean take_ram(Receiver *r, GError **error)
{
	FerryStreamElement element;

	while (ferry_stream_reader_peek(r->reader) != FERRY_SECTION_FULL) {
		gboolean ok;

		if (!ferry_stream_next(r->reader, &element, error))
			return FALSE;
		if (element.type == FERRY_SECTION_EOF || element.type == FERRY_SECTION_VMDESC) {
			ferry_stream_reader_fail(r->reader,
						 "it ends before any device: it was cut short");
			return ferry_stream_reader_check(r->reader, error);
		}
		ok = element.type == FERRY_SECTION_COMMAND ? take_command(r, &element, error)
							   : take_section(r, &element, error);
		if (!ok)
			return FALSE;
	}
	return r->ram.blocks || refuse(error, FERRY_ERROR_NOSUPP,
				       "a device section before RAM cannot be received: remove "
				       "devices of the kind virtio-mem at the source");
}

/* With a return path the source does not close before SHUT: the end has to be recognised. */
static GByteArray *collect_tail(Receiver *r, GError **error)
{
	g_autoptr(GByteArray) tail = g_byte_array_new();
	guint8 chunk[64 << 10];
	size_t n;

	while ((n = ferry_stream_reader_some(r->reader, chunk, sizeof(chunk))) > 0) {
		if (tail->len + n > DEVICES_MAX) {
			ferry_stream_reader_fail(r->reader, "more than %u bytes of device state",
						 DEVICES_MAX);
			break;
		}
		g_byte_array_append(tail, chunk, n);
		if (r->return_path && ferry_stream_find_end(tail->data, tail->len))
			return g_steal_pointer(&tail);
	}
	if (r->return_path)
		ferry_stream_reader_fail(r->reader,
					 "the source closed it inside of the device state");
	return ferry_stream_reader_check(r->reader, error) ? g_steal_pointer(&tail) : NULL;
}

/* @len: the device sections and the EOF byte. Replaying needs no cut, but a stream that can be cut
 * up whole has lost nothing. */
static gboolean check_devices(Receiver *r, const guint8 *tail, size_t len, const guint8 *json,
			      size_t json_len, GError **error)
{
	g_autoptr(GError) reason = NULL;
	g_autoptr(GArray) sections = NULL;

	if (!len || tail[len - 1] != FERRY_SECTION_EOF)
		return refuse(error, FERRY_ERROR_STREAM,
			      "the device state ends without its EOF byte: it was "
			      "cut short");
	if (!r->capture->config.machine)
		return TRUE;
	if (json)
		sections = ferry_stream_delimit_devices(tail, len, (const char *)json, json_len,
							&reason);
	if (!sections)
		sections = ferry_stream_scan_devices(tail, len);
	if (!sections)
		return refuse(error, FERRY_ERROR_STREAM,
			      reason ? reason->message : "the device sections do not add up");
	if (reason)
		g_printerr(
			"ferry receive: warning: the description does not fit the device state, whose "
			"footers are right: %s\n",
			reason->message);
	r->devices = sections->len;
	return TRUE;
}

static gboolean take_devices(Receiver *r, GError **error)
{
	g_autoptr(GByteArray) tail = collect_tail(r, error);
	size_t description, len;

	if (!tail)
		return FALSE;
	description = ferry_stream_find_description(tail->data, tail->len);
	len = description ? description : tail->len;
	if (!check_devices(r, tail->data, len, description ? tail->data + len + 5 : NULL,
			   description ? tail->len - len - 5 : 0, error))
		return FALSE;
	r->capture->devices = g_bytes_new(tail->data, len - 1);
	if (description)
		r->capture->description = g_bytes_new(tail->data + len + 5, tail->len - len - 5);
	return TRUE;
}

static gboolean take_guest(Receiver *r, GError **error)
{
	return take_begin(r, error) && take_ram(r, error) && take_devices(r, error) &&
	       ferry_capture_finish(r->capture, error) &&
	       (!r->return_path || (answer(r, FERRY_RETURN_SHUT, 0, error) &&
				    r->channel->ops->finish(r->channel, error)));
}

static int report(const Receiver *r, const char *directory)
{
	guint64 bytes = 0;

	for (guint i = 0; i < r->capture->blocks->len; i++)
		bytes += g_array_index(r->capture->blocks, FerryCaptureBlock, i).size;
	g_print("received %s into %s: %u RAM blocks of %" G_GUINT64_FORMAT
		" bytes (%" G_GUINT64_FORMAT " pages, %" G_GUINT64_FORMAT
		" zero pages came), %u device sections of %zu bytes\n",
		r->capture->config.machine ? r->capture->config.machine : "a guest", directory,
		r->capture->blocks->len, bytes, r->pages, r->zero_pages, r->devices,
		g_bytes_get_size(r->capture->devices));
	return 0;
}

static int receive(FerryChannel *channel, FerryCapture *capture)
{
	g_autoptr(FerryStreamReader) reader = ferry_stream_reader_new(read_channel, channel);
	Receiver r = { .channel = channel, .reader = reader, .capture = capture };
	g_autoptr(GError) error = NULL;
	gboolean ok = take_guest(&r, &error);

	ferry_ram_reader_clear(&r.ram);
	if (ok)
		return report(&r, capture->directory);
	if (r.return_path)
		answer(&r, FERRY_RETURN_SHUT, 1, NULL);
	g_printerr("ferry receive: %s\n"
		   "%s is incomplete; remove it before the next try\n",
		   error->message, capture->directory);
	return 1;
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

static int listen_and_receive(const char *uri, const char *directory)
{
	const FerryTransport *transport;
	g_autoptr(FerryListener) listener = NULL;
	g_autoptr(FerryCapture) capture = NULL;
	g_autoptr(FerryChannel) channel = NULL;
	g_autoptr(GError) error = NULL;

	transport = ferry_transport_find(ferry_transports(), uri, &error);
	if (transport && (capture = ferry_capture_create(directory, &error)) &&
	    (listener = transport->listen(uri, NULL, &error))) {
		g_print("listening on %s\n", listener->uri);
		fflush(stdout);
		channel = listener->ops->accept(listener, NULL, &error);
	}
	if (!channel) {
		g_printerr("ferry receive: %s\n", error->message);
		return transport ? 1 : 2;
	}
	g_clear_pointer(&listener, ferry_listener_close);
	return receive(channel, capture);
}

int ferry_cli_receive(int argc, char **argv)
{
	const GOptionEntry entries[] = { { NULL } };
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
		"DIR must not exist or be empty; it is complete once it has a map.json. Exit status:\n"
		"0 received, 1 failed, 2 wrong usage.\n");
	g_option_context_add_main_entries(context, entries, NULL);
	if (!g_option_context_parse(context, &argc, &argv, &error) || argc != 3) {
		g_printerr("ferry receive: %s; try ferry receive --help\n",
			   error ? error->message : "a URI and a DIR are needed");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	signal(SIGBUS, say_disk_is_full);
	return listen_and_receive(argv[1], argv[2]);
}
