/* SPDX-License-Identifier: BSD-2-Clause */
#include "destination-private.h"

#include <sys/resource.h>
#include "watchdog.h"

/* A connection that has not brought a block list by then is no source: others may wait behind it.
 * One that was there before its source, such as a descriptor or a command, is waited for. */
#define GREETING_US (15 * G_TIME_SPAN_SECOND)
#define DESCRIPTION_MAX (64u << 20)

static gssize read_channel(gpointer user, const struct iovec *iov, int n, GError **error)
{
	FerryIncoming *incoming = user;
	gssize got = incoming->channel->ops->read(incoming->channel, iov, n, error);

	if (got > 0) {
		g_mutex_lock(&incoming->destination->lock);
		incoming->destination->received += got;
		g_mutex_unlock(&incoming->destination->lock);
	}
	return got;
}

/* ---- the head of the stream ---- */

static gboolean say_hello(FerryIncoming *incoming, const FerryIncomingRecord *record,
			  GError **error)
{
	g_autoptr(GByteArray) answer = g_byte_array_new();
	FerryHello hello;

	/* Also one that is refused for its version reads an ERROR record. */
	incoming->ferry_peer = TRUE;
	if (!ferry_record_get_hello(record->payload, record->length, &hello, error))
		return FALSE;
	if (hello.version != FERRY_PROTOCOL_VERSION || hello.page_size != FERRY_PAGE_SIZE) {
		g_set_error(
			error, FERRY_ERROR, FERRY_ERROR_MISMATCH,
			"the source speaks protocol version %u with pages of %u bytes, this Ferry version "
			"%u with %u: run the same release on both sides",
			hello.version, hello.page_size, FERRY_PROTOCOL_VERSION, FERRY_PAGE_SIZE);
		return FALSE;
	}
	memcpy(incoming->nonce, hello.nonce, FERRY_NONCE_SIZE);
	incoming->will_digest = hello.features & FERRY_FEATURE_DIGEST;
	incoming->recovers = ferry_incoming_find_session(incoming);
	/* To a guest that is whole no page comes. */
	incoming->fabrics_agreed = incoming->over ? 0
						  : hello.features &
							    ferry_fabric_features(incoming->fabric);
	incoming->rehearses = incoming->may_rehearse && !incoming->recovers && !incoming->over &&
			      hello.features & FERRY_FEATURE_REHEARSAL;
	incoming->may_postcopy = !incoming->rehearses && hello.features & FERRY_FEATURE_POSTCOPY;
	incoming->may_encode = hello.features & FERRY_FEATURE_ENCODED;
	hello.features &= FERRY_FEATURE_DIGEST | FERRY_FEATURE_ENCODED | incoming->fabrics_agreed |
			  (incoming->rehearses ? FERRY_FEATURE_REHEARSAL : FERRY_FEATURE_POSTCOPY);
	ferry_record_put_hello(answer, &hello);
	return ferry_reply_record(&incoming->replies, answer, error);
}

/* ---- commands ---- */

gboolean ferry_incoming_read_record(FerryIncoming *incoming, const FerryStreamElement *element,
				    FerryIncomingRecord *record, GError **error)
{
	guint8 data[FERRY_RECORD_HEADER + FERRY_RETURN_DATA_MAX];
	FerryRecord header;

	if (element->length > sizeof(data)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "offset %" G_GUINT64_FORMAT ": a record of %u bytes is longer than any",
			    element->offset, element->length);
		return FALSE;
	}
	ferry_stream_reader_bytes(incoming->reader, data, element->length);
	if (!ferry_stream_reader_check(incoming->reader, error) ||
	    !ferry_record_get_header(data, element->length, &header, error))
		return FALSE;
	record->type = header.type;
	record->length = header.length;
	memcpy(record->payload, data + FERRY_RECORD_HEADER, header.length);
	if (header.type == FERRY_RECORD_HEARTBEAT) {
		/* A source that wants to hear from us says so by its own. */
		if (incoming->fabrics_agreed && !incoming->chosen)
			ferry_heartbeat_start(incoming->heartbeat);
		record->type = 0;
		return TRUE;
	}
	if (FERRY_RECORD_IS_CARRIER(header.type) || ferry_record_name(header.type))
		return TRUE;
	record->type = 0;
	if (header.flags & FERRY_RECORD_MAY_SKIP)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "offset %" G_GUINT64_FORMAT ": record type 0x%04x is not known here",
		    element->offset, header.type);
	return FALSE;
}

static gboolean handle_ping(FerryIncoming *incoming, const FerryStreamElement *element,
			    GError **error)
{
	guint32 value = ferry_stream_reader_be32(incoming->reader);

	if (!ferry_stream_reader_check(incoming->reader, error))
		return FALSE;
	return ferry_reply_pong(&incoming->replies, value == FERRY_PING_HELLO ? ~value : value,
				error);
}

static gboolean refuse_command(const FerryStreamElement *element, GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
		    "offset %" G_GUINT64_FORMAT
		    ": command %u with %u bytes of data is not supported here%s",
		    element->offset, element->command, element->length,
		    element->command >= FERRY_COMMAND_POSTCOPY_ADVISE &&
				    element->command <= FERRY_COMMAND_PACKAGED
			    ? " (postcopy: switch postcopy-ram off at the source)"
			    : "");
	return FALSE;
}

static gboolean handle_command(FerryIncoming *incoming, const FerryStreamElement *element,
			       GError **error)
{
	FerryIncomingRecord record;

	switch (element->command) {
	case FERRY_COMMAND_OPEN_RETURN_PATH:
		if (element->length)
			return refuse_command(element, error);
		ferry_replies_open(&incoming->replies);
		return TRUE;
	case FERRY_COMMAND_PING:
		return element->length == 4 ? handle_ping(incoming, element, error)
					    : refuse_command(element, error);
	case FERRY_COMMAND_SWITCHOVER_START:
		return element->length == 0 || refuse_command(element, error);
	case FERRY_COMMAND_FERRY:
		if (!ferry_incoming_read_record(incoming, element, &record, error))
			return FALSE;
		if (record.type == FERRY_RECORD_HELLO)
			return say_hello(incoming, &record, error);
		return ferry_incoming_ram_record(incoming, &record, error);
	case FERRY_COMMAND_POSTCOPY_ADVISE:
	case FERRY_COMMAND_POSTCOPY_RAM_DISCARD:
	case FERRY_COMMAND_POSTCOPY_LISTEN:
	case FERRY_COMMAND_PACKAGED:
		return ferry_incoming_postcopy_command(incoming, element, error);
	case FERRY_COMMAND_RECV_BITMAP:
	case FERRY_COMMAND_POSTCOPY_RESUME:
		return ferry_incoming_refuse_recovery(incoming, error);
	default:
		return refuse_command(element, error);
	}
}

/* ---- the body ---- */

static gboolean load_device(FerryIncoming *incoming, const FerryStreamElement *element,
			    GError **error)
{
	if (!incoming->ram_ended) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STREAM,
			    "offset %" G_GUINT64_FORMAT
			    ": section '%s' comes before the end of RAM",
			    element->offset, element->name);
		return FALSE;
	}
	return ferry_devices_load(ferry_vm_devices(incoming->vm), incoming->reader, element, error);
}

static gboolean handle_element(FerryIncoming *incoming, const FerryStreamElement *element,
			       GError **error)
{
	if (!ferry_incoming_may_rehearse(incoming, element, error))
		return FALSE;
	switch (element->type) {
	case FERRY_SECTION_START:
	case FERRY_SECTION_PART:
	case FERRY_SECTION_END:
		return ferry_incoming_ram_section(incoming, element, error);
	case FERRY_SECTION_FULL:
		return load_device(incoming, element, error);
	case FERRY_SECTION_COMMAND:
		return handle_command(incoming, element, error);
	default:
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STREAM,
			    "offset %" G_GUINT64_FORMAT
			    ": element type 0x%02x does not belong here",
			    element->offset, element->type);
		return FALSE;
	}
}

/* The JSON description behind EOF: passed over. A stream without one may just end. */
static gboolean skip_description(FerryIncoming *incoming, GError **error)
{
	FerryStreamElement element;

	if (ferry_stream_reader_peek(incoming->reader) != FERRY_SECTION_VMDESC)
		return TRUE;
	if (!ferry_stream_next(incoming->reader, &element, error))
		return FALSE;
	if (element.length > DESCRIPTION_MAX) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STREAM,
			    "offset %" G_GUINT64_FORMAT ": a description of %u bytes is too long",
			    element.offset, element.length);
		return FALSE;
	}
	ferry_stream_reader_skip(incoming->reader, element.length);
	return ferry_stream_reader_check(incoming->reader, error);
}

/* Loads everything up to and including the description, or the package of a switch. */
static gboolean load(FerryIncoming *incoming, FerryWatchdog *watchdog, GError **error)
{
	FerryStreamElement element;

	for (;;) {
		if (!ferry_stream_next(incoming->reader, &element, error))
			return FALSE;
		if (element.type == FERRY_SECTION_EOF)
			break;
		if (!handle_element(incoming, &element, error))
			return FALSE;
		if (incoming->listed)
			ferry_watchdog_calm(watchdog);
		if (incoming->packaged)
			return TRUE;
	}
	if (element.length || !incoming->ram_ended) {
		g_set_error(
			error, FERRY_ERROR, element.length ? FERRY_ERROR_LINK : FERRY_ERROR_STREAM,
			"offset %" G_GUINT64_FORMAT ": %s before the guest is whole",
			element.offset,
			element.length ? "the source closed the connection" : "the stream ends");
		return FALSE;
	}
	return skip_description(incoming, error);
}

/* ---- one connection ---- */

static void incoming_init(FerryIncoming *incoming, FerryDestination *destination,
			  FerryListener *listener, FerryChannel *channel, FerryHeartbeat *heartbeat)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	*incoming = (FerryIncoming){
		.destination = destination,
		.vm = destination->vm,
		.memory = ferry_vm_ram(destination->vm),
		.channel = channel,
		.heartbeat = heartbeat,
		.fabric = listener->fabric,
		.may_rehearse = listener->again,
		.begin_user_us = usage.ru_utime.tv_sec * G_USEC_PER_SEC + usage.ru_utime.tv_usec,
		.begin_system_us = usage.ru_stime.tv_sec * G_USEC_PER_SEC + usage.ru_stime.tv_usec,
	};
	incoming->ram.encodings = TRUE;
	ferry_replies_init(&incoming->replies, channel);
	incoming->reader = ferry_stream_reader_new(read_channel, incoming);
}

static void incoming_clear(FerryIncoming *incoming)
{
	/* What is still under way tells the digest when it lands. */
	ferry_page_workers_free(incoming->inflaters);
	ferry_first_touch_free(incoming->touch);
	ferry_digest_free(incoming->digest);
	ferry_faults_stop(incoming->faults);
	ferry_incoming_close_fabric(incoming);
	ferry_carrier_close(incoming->carrier);
	ferry_postcopy_ram_free(incoming->advised);
	ferry_ram_reader_clear(&incoming->ram);
	ferry_stream_reader_free(incoming->reader);
	ferry_replies_clear(&incoming->replies);
	g_clear_error(&incoming->misfit);
}

/* Tells the source why, as far as it listens. */
static void tell(FerryIncoming *incoming, const GError *error)
{
	g_autoptr(GByteArray) record = g_byte_array_new();

	ferry_record_put_error(record, error->message);
	if (incoming->ferry_peer && !ferry_reply_record(&incoming->replies, record, NULL))
		return;
	ferry_reply_shut(&incoming->replies, 1, NULL);
}

/* The first record decides whether this is a migration or a question about one. */
static gboolean is_query(FerryIncoming *incoming, const FerryStreamElement *element,
			 FerryIncomingRecord *record, gboolean *query, GError **error)
{
	*query = FALSE;
	if (element->type != FERRY_SECTION_COMMAND || element->command != FERRY_COMMAND_FERRY)
		return TRUE;
	if (!ferry_incoming_read_record(incoming, element, record, error))
		return FALSE;
	*query = record->type == FERRY_RECORD_HANDOVER_QUERY;
	if (*query)
		return TRUE;
	return record->type == FERRY_RECORD_HELLO
		       ? say_hello(incoming, record, error)
		       : ferry_incoming_ram_record(incoming, record, error);
}

/* Reads the head and the commands before the block list. */
static gboolean greet(FerryIncoming *incoming, FerryIncomingRecord *record, gboolean *query,
		      GError **error)
{
	FerryStreamElement element;

	if (!ferry_incoming_open_stream(incoming, error) ||
	    !ferry_stream_read_header(incoming->reader, error) ||
	    !ferry_incoming_read_configuration(incoming, error))
		return FALSE;
	while (!incoming->recovers &&
	       ferry_stream_reader_peek(incoming->reader) == FERRY_SECTION_COMMAND) {
		if (!ferry_stream_next(incoming->reader, &element, error))
			return FALSE;
		if (element.command != FERRY_COMMAND_FERRY) {
			if (!handle_command(incoming, &element, error))
				return FALSE;
		} else if (!is_query(incoming, &element, record, query, error)) {
			return FALSE;
		} else if (*query) {
			return TRUE;
		}
	}
	if (incoming->misfit) {
		g_propagate_error(error, g_steal_pointer(&incoming->misfit));
		return FALSE;
	}
	return ferry_stream_reader_check(incoming->reader, error);
}

static FerryIncomingResult serve(FerryIncoming *incoming, gboolean only, GError **error)
{
	g_autoptr(FerryWatchdog)
		watchdog = only ? NULL : ferry_watchdog_start(incoming->channel, GREETING_US);
	FerryIncomingRecord record;
	gboolean query = FALSE;

	if (!greet(incoming, &record, &query, error))
		return FERRY_INCOMING_REFUSED;
	if (query) {
		ferry_watchdog_calm(watchdog);
		return ferry_incoming_query(incoming, &record, error);
	}
	if (incoming->recovers && ferry_stream_reader_peek(incoming->reader) >= 0) {
		ferry_watchdog_calm(watchdog);
		return ferry_incoming_recover(incoming, error);
	}
	if (load(incoming, watchdog, error))
		return incoming->packaged ? ferry_incoming_switch(incoming, error)
					  : ferry_incoming_hand_over(incoming, error);
	if (incoming->listed && incoming->rehearses)
		return FERRY_INCOMING_REHEARSED;
	return incoming->listed ? FERRY_INCOMING_FAILED : FERRY_INCOMING_REFUSED;
}

/* A carrier that died knows better why the link broke. */
static void prefer_carrier(FerryIncoming *incoming, GError **error)
{
	GError *reason;

	if (!incoming->link || !g_error_matches(*error, FERRY_ERROR, FERRY_ERROR_LINK))
		return;
	reason = ferry_fabric_link_reason(incoming->link);
	if (!reason)
		return;
	g_error_free(*error);
	*error = reason;
}

FerryIncomingResult ferry_incoming_run(FerryDestination *destination, FerryListener *listener,
				       FerryChannel *channel, FerryHeartbeat *heartbeat,
				       GError **error)
{
	g_autoptr(GError) cause = NULL;
	FerryIncomingResult result;
	FerryIncoming incoming;

	incoming_init(&incoming, destination, listener, channel, heartbeat);
	/* Where no other can wait behind it, it may take its time to begin. */
	result = serve(&incoming, !listener->again, &cause);
	if (result == FERRY_INCOMING_FAILED || result == FERRY_INCOMING_PAUSED ||
	    result == FERRY_INCOMING_REHEARSED)
		prefer_carrier(&incoming, &cause);
	if (result == FERRY_INCOMING_REFUSED || result == FERRY_INCOMING_FAILED ||
	    result == FERRY_INCOMING_IN_DOUBT || result == FERRY_INCOMING_PAUSED ||
	    result == FERRY_INCOMING_REHEARSED)
		tell(&incoming, cause);
	incoming_clear(&incoming);
	if (result == FERRY_INCOMING_FAILED || result == FERRY_INCOMING_CLOSED)
		ferry_destination_drop_postcopy(destination);
	if (cause)
		g_propagate_error(error, g_steal_pointer(&cause));
	return result;
}
