/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include "receiver.h"

/* With a return path the source does not close before SHUT: the end has to be recognised. */
static GByteArray *collect_tail(FerryReceiver *r, GError **error)
{
	g_autoptr(GByteArray) tail = g_byte_array_new();
	guint8 chunk[64 << 10];
	size_t n;

	while ((n = ferry_stream_reader_some(r->reader, chunk, sizeof(chunk))) > 0) {
		if (tail->len + n > FERRY_RECEIVER_DEVICES_MAX) {
			ferry_stream_reader_fail(r->reader, "more than %u bytes of device state",
						 FERRY_RECEIVER_DEVICES_MAX);
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
static gboolean check_devices(FerryReceiver *r, const guint8 *tail, size_t len, const guint8 *json,
			      size_t json_len, GError **error)
{
	g_autoptr(GError) reason = NULL;
	g_autoptr(GArray) sections = NULL;

	if (!len || tail[len - 1] != FERRY_SECTION_EOF)
		return ferry_receiver_refuse(error, FERRY_ERROR_STREAM,
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
		return ferry_receiver_refuse(error, FERRY_ERROR_STREAM,
					     reason ? reason->message
						    : "the device sections do not add up");
	if (reason)
		g_printerr(
			"ferry receive: warning: the description does not fit the device state, whose "
			"footers are right: %s\n",
			reason->message);
	r->devices = sections->len;
	return TRUE;
}

gboolean ferry_receiver_take_devices(FerryReceiver *r, GError **error)
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

/* Whether the five bytes at @at begin a command of that number and length. */
static gboolean is_command(const guint8 *at, guint16 command, guint16 length)
{
	return at[0] == FERRY_SECTION_COMMAND && ferry_load_be16(at + 1) == command &&
	       ferry_load_be16(at + 3) == length;
}

/* Where the sections end: behind them are PINGs and RUN, and no footer looks like these. 0 where
 * RUN is not the last. */
static size_t find_trailer(const guint8 *package, size_t begin, size_t len)
{
	size_t end;

	if (len < begin + 5 || !is_command(package + len - 5, FERRY_COMMAND_POSTCOPY_RUN, 0))
		return 0;
	end = len - 5;
	while (end >= begin + 9 && is_command(package + end - 9, FERRY_COMMAND_PING, 4))
		end -= 9;
	return end;
}

/* The commands up to the first section; TRUE if LISTEN was among them. */
static gboolean take_leader(FerryReceiver *r, FerryStreamReader *reader, GError **error)
{
	gboolean listening = FALSE;

	while (ferry_stream_reader_peek(reader) == FERRY_SECTION_COMMAND) {
		FerryStreamElement element;

		if (!ferry_stream_next(reader, &element, error))
			return FALSE;
		if (element.command == FERRY_COMMAND_PING) {
			if (!ferry_receiver_take_ping(r, reader, &element, error))
				return FALSE;
			continue;
		}
		if (element.command == FERRY_COMMAND_POSTCOPY_RUN && !listening)
			return ferry_receiver_fail(reader, error,
						   "POSTCOPY_RUN without POSTCOPY_LISTEN");
		if (element.command != FERRY_COMMAND_POSTCOPY_LISTEN || element.length || listening)
			return ferry_receiver_fail(reader, error,
						   "command %u with %u bytes, which cannot be here",
						   element.command, element.length);
		listening = TRUE;
	}
	return listening ||
	       ferry_receiver_fail(reader, error, "a package without POSTCOPY_LISTEN at its begin");
}

/* The PINGs behind the devices, at @data; RUN needs nothing here. */
static gboolean take_trailer(FerryReceiver *r, const guint8 *data, size_t len, GError **error)
{
	g_autoptr(FerryStreamReader) reader = ferry_stream_reader_new_for_data(data, len);
	FerryStreamElement element;

	while (ferry_stream_next(reader, &element, error)) {
		if (element.command == FERRY_COMMAND_POSTCOPY_RUN)
			return TRUE;
		if (!ferry_receiver_take_ping(r, reader, &element, error))
			return FALSE;
	}
	return FALSE;
}

/* The sections of the package, and a description of them: a destination waits for one. */
static gboolean take_sections(FerryReceiver *r, const guint8 *data, size_t len, GError **error)
{
	g_autoptr(GByteArray) tail = g_byte_array_new();
	g_autoptr(GArray) sections = NULL;

	/* The scan knows them by the EOF byte that ends them in precopy. */
	g_byte_array_append(tail, data, len);
	ferry_put_u8(tail, FERRY_SECTION_EOF);
	/* Machine types without a configuration have no footers to scan for. */
	if (r->capture->config.machine) {
		sections = ferry_stream_scan_devices(tail->data, tail->len);
		if (!sections || !sections->len)
			return ferry_receiver_refuse(error, FERRY_ERROR_STREAM,
						     "the device sections do not add up");
		r->devices = sections->len;
		r->capture->description = ferry_capture_describe(sections);
	}
	r->capture->devices = g_bytes_new(data, len);
	return TRUE;
}

/* LISTEN, the device sections, PINGs, RUN. */
static gboolean take_contents(FerryReceiver *r, const guint8 *package, size_t len, GError **error)
{
	g_autoptr(FerryStreamReader) reader = ferry_stream_reader_new_for_data(package, len);
	size_t begin, end;

	if (!take_leader(r, reader, error))
		return FALSE;
	begin = ferry_stream_reader_offset(reader);
	end = find_trailer(package, begin, len);
	if (!end)
		return ferry_receiver_refuse(error, FERRY_ERROR_STREAM,
					     "it does not end in POSTCOPY_RUN");
	if (!take_sections(r, package + begin, end - begin, error))
		return FALSE;
	r->switched = TRUE;
	g_print("device state received; %" G_GUINT64_FORMAT " pages have still to come\n",
		ferry_missing_pages(r->missing));
	fflush(stdout);
	return take_trailer(r, package + end, len - end, error);
}

gboolean ferry_receiver_take_package(FerryReceiver *r, const FerryStreamElement *element,
				     GError **error)
{
	g_autofree guint8 *package = NULL;
	guint32 len;

	if (!ferry_stream_read_package_length(r->reader, element, FERRY_RECEIVER_DEVICES_MAX, &len,
					      error))
		return FALSE;
	package = g_try_malloc(len);
	if (!package)
		return ferry_receiver_fail(r->reader, error, "no memory for a package of %u bytes",
					   len);
	ferry_stream_reader_bytes(r->reader, package, len);
	if (!ferry_stream_reader_check(r->reader, error))
		return FALSE;
	if (take_contents(r, package, len, error))
		return TRUE;
	g_prefix_error(error, "in the package of %u bytes: ", len);
	return FALSE;
}
