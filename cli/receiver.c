/* SPDX-License-Identifier: BSD-2-Clause */
#include "receiver.h"

static gssize read_channel(gpointer user, const struct iovec *iov, int n, GError **error)
{
	FerryChannel *channel = user;

	return channel->ops->read(channel, iov, n, error);
}

void ferry_receiver_set_channel(FerryReceiver *r, FerryChannel *channel)
{
	g_clear_pointer(&r->reader, ferry_stream_reader_free);
	g_clear_pointer(&r->channel, ferry_channel_close);
	r->channel = channel;
	if (!channel)
		return;
	r->reader = ferry_stream_reader_new(read_channel, channel);
	ferry_receiver_find_begin(r);
}

void ferry_receiver_clear(FerryReceiver *r)
{
	g_clear_pointer(&r->stopper, ferry_cli_stopper_free);
	/* Before the channel, which it may shut down. */
	g_clear_pointer(&r->group, ferry_channel_group_free);
	ferry_receiver_set_channel(r, NULL);
	g_clear_pointer(&r->listener, ferry_listener_close);
	g_clear_pointer(&r->missing, ferry_missing_free);
	g_clear_error(&r->refused);
	ferry_ram_reader_clear(&r->ram);
}

gboolean ferry_receiver_refuse(GError **error, FerryErrorCode code, const char *what)
{
	g_set_error_literal(error, FERRY_ERROR, code, what);
	return FALSE;
}

gboolean ferry_receiver_fail(FerryStreamReader *reader, GError **error, const char *format, ...)
{
	g_autofree char *message = NULL;
	va_list args;

	va_start(args, format);
	message = g_strdup_vprintf(format, args);
	va_end(args);
	ferry_stream_reader_fail(reader, "%s", message);
	return ferry_stream_reader_check(reader, error);
}

gboolean ferry_receiver_answer(FerryReceiver *r, FerryReturnType type, guint32 value,
			       GError **error)
{
	g_autoptr(GByteArray) message = g_byte_array_new();

	ferry_return_put_value(message, type, value);
	return ferry_channel_write_all(r->channel, message->data, message->len, error);
}

gboolean ferry_receiver_take_ping(FerryReceiver *r, FerryStreamReader *reader,
				  const FerryStreamElement *ping, GError **error)
{
	guint32 value;

	if (ping->length != 4)
		return ferry_receiver_fail(reader, error, "PING with %u bytes, 4 are due",
					   ping->length);
	value = ferry_stream_reader_be32(reader);
	if (!ferry_stream_reader_check(reader, error))
		return FALSE;
	/* Also to Ferry's own question: as a QEMU, so that it speaks QEMU's stream. */
	return !r->return_path || ferry_receiver_answer(r, FERRY_RETURN_PONG, value, error);
}

static gboolean take_command(FerryReceiver *r, const FerryStreamElement *element, GError **error)
{
	switch (element->command) {
	case FERRY_COMMAND_OPEN_RETURN_PATH:
	case FERRY_COMMAND_SWITCHOVER_START:
		if (element->length)
			return ferry_receiver_fail(r->reader, error,
						   "command %u with %u bytes, none are due",
						   element->command, element->length);
		if (element->command == FERRY_COMMAND_SWITCHOVER_START)
			return TRUE;
		r->return_path = r->channel->duplex;
		return r->return_path ||
		       ferry_receiver_refuse(error, FERRY_ERROR_NOSUPP,
					     "the source wants a return path, which this "
					     "transport does not have: use tcp: or unix:");
	case FERRY_COMMAND_PING:
		return ferry_receiver_take_ping(r, r->reader, element, error);
	default:
		return ferry_receiver_take_postcopy_command(r, element, error);
	}
}

static gboolean take_ram_item(FerryReceiver *r, const FerryRamItem *item, GError **error)
{
	FerryCaptureBlock *block;

	if (item->type == FERRY_RAM_ITEM_LIST)
		return ferry_capture_add_blocks(r->capture, r->ram.blocks, error) &&
		       (!r->ram.mapped || ferry_receiver_take_places(r, error));
	if (item->type == FERRY_RAM_ITEM_END)
		return TRUE;
	if (r->missing)
		return ferry_receiver_take_late_page(r, item, error);
	block = &g_array_index(r->capture->blocks, FerryCaptureBlock, item->block);
	if (item->type == FERRY_RAM_ITEM_ZERO) {
		ferry_capture_zero_page(block, item->offset);
		r->zero_pages++;
		return TRUE;
	}
	r->pages++;
	if (item->type != FERRY_RAM_ITEM_PAGE)
		return ferry_receiver_take_encoded(r, item, ferry_capture_page(block, item->offset),
						   error);
	ferry_stream_reader_bytes(r->reader, ferry_capture_page(block, item->offset),
				  FERRY_PAGE_SIZE);
	return ferry_stream_reader_check(r->reader, error);
}

/* The section's header: that it is RAM's. */
static gboolean check_section(FerryReceiver *r, const FerryStreamElement *element, GError **error)
{
	FerryCapture *capture = r->capture;

	if (element->type != FERRY_SECTION_START)
		return (r->ram.blocks && element->section_id == capture->ram_section_id) ||
		       ferry_receiver_fail(r->reader, error,
					   "a part of section %u, which did not start",
					   element->section_id);
	if (strcmp(element->name, "ram") != 0 || element->instance_id != 0 ||
	    element->version_id != 4)
		return ferry_receiver_fail(
			r->reader, error,
			"section \"%s\" version %u comes in parts, and only ram version 4 is "
			"understood: switch its capability off",
			element->name, element->version_id);
	capture->ram_section_id = element->section_id;
	capture->ram_version_id = element->version_id;
	/* Without postcopy it never comes again: who else tries should hear it at once. */
	if (!r->advised && r->listener)
		r->group = ferry_channel_group_new(g_steal_pointer(&r->listener), 0, r->channel,
						   capture);
	return TRUE;
}

gboolean ferry_receiver_take_section(FerryReceiver *r, const FerryStreamElement *element,
				     GError **error)
{
	FerryRamItem item;

	r->ram.encodings = TRUE;
	if (!check_section(r, element, error))
		return FALSE;
	do {
		if (!ferry_ram_reader_next(&r->ram, r->reader, &item, error) ||
		    !take_ram_item(r, &item, error))
			return FALSE;
	} while (item.type != FERRY_RAM_ITEM_END);
	if (r->group &&
	    !ferry_channel_group_end_section(r->group, element->type == FERRY_SECTION_END, error))
		return FALSE;
	return !r->capture->config.machine ||
	       ferry_stream_read_footer(r->reader, element->section_id, error);
}

static gboolean take_begin(FerryReceiver *r, GError **error)
{
	FerryStreamConfiguration *config = &r->capture->config;
	gboolean utf8;

	if (!ferry_stream_read_header(r->reader, error))
		return FALSE;
	if (ferry_stream_reader_peek(r->reader) != FERRY_SECTION_CONFIGURATION)
		return ferry_stream_reader_check(r->reader, error);
	if (!ferry_stream_read_configuration(r->reader, config, error))
		return FALSE;
	ferry_ram_reader_follow(&r->ram, config);
	utf8 = g_utf8_validate(config->machine, -1, NULL);
	for (guint i = 0; i < config->capabilities->len; i++) {
		utf8 = utf8 && g_utf8_validate(config->capabilities->pdata[i], -1, NULL);
		if (g_str_equal(config->capabilities->pdata[i], "x-ignore-shared"))
			return ferry_receiver_refuse(
				error, FERRY_ERROR_NOSUPP,
				"the source has x-ignore-shared on and would leave shared RAM out: "
				"switch it off");
	}
	return utf8 || ferry_receiver_refuse(error, FERRY_ERROR_STREAM,
					     "a name in the configuration is not UTF-8");
}

/* RAM and commands, up to the first device section or to the switch to postcopy. */
static gboolean take_ram(FerryReceiver *r, GError **error)
{
	FerryStreamElement element;

	while (!r->switched && ferry_stream_reader_peek(r->reader) != FERRY_SECTION_FULL) {
		gboolean ok;

		if (!ferry_stream_next(r->reader, &element, error))
			return FALSE;
		if (element.type == FERRY_SECTION_EOF || element.type == FERRY_SECTION_VMDESC)
			return ferry_receiver_fail(r->reader, error,
						   "it ends before any device: it was cut short");
		ok = element.type == FERRY_SECTION_COMMAND
			     ? take_command(r, &element, error)
			     : ferry_receiver_take_section(r, &element, error);
		if (!ok)
			return FALSE;
	}
	if (r->missing && !r->switched)
		return ferry_receiver_fail(r->reader, error,
					   "a device section that is not in a package after "
					   "POSTCOPY_RAM_DISCARD");
	return r->ram.blocks ||
	       ferry_receiver_refuse(error, FERRY_ERROR_NOSUPP,
				     "a device section before RAM cannot be received: remove "
				     "devices of the kind virtio-mem at the source");
}

static gboolean take_precopy_end(FerryReceiver *r, GError **error)
{
	return ferry_receiver_take_devices(r, error) &&
	       (!r->group || ferry_channel_group_check(r->group, error)) &&
	       ferry_capture_finish(r->capture, error) &&
	       (!r->return_path || (ferry_receiver_answer(r, FERRY_RETURN_SHUT, 0, error) &&
				    r->channel->ops->finish(r->channel, error)));
}

/* A channel that fails shuts the stream down, and a source that gives up hangs up on all: the
 * channel knows why. */
static void find_cause(FerryReceiver *r, GError **failure)
{
	g_autoptr(GError) cause = NULL;

	if ((!g_error_matches(*failure, FERRY_ERROR, FERRY_ERROR_CANCELLED) &&
	     !g_error_matches(*failure, FERRY_ERROR, FERRY_ERROR_LINK)) ||
	    !r->group || ferry_channel_group_check(r->group, &cause))
		return;
	g_clear_error(failure);
	*failure = g_steal_pointer(&cause);
}

gboolean ferry_receiver_take_guest(FerryReceiver *r, GError **error)
{
	g_autoptr(GError) failure = NULL;
	gboolean ok = take_begin(r, &failure) && take_ram(r, &failure);

	if (r->missing)
		return ferry_receiver_take_rest(r, g_steal_pointer(&failure), error);
	if (ok && take_precopy_end(r, &failure))
		return TRUE;
	find_cause(r, &failure);
	if (r->return_path)
		ferry_receiver_answer(r, FERRY_RETURN_SHUT, 1, NULL);
	if (r->group)
		ferry_channel_group_await_source(r->group);
	g_propagate_error(error, g_steal_pointer(&failure));
	return FALSE;
}
