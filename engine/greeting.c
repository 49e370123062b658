/* SPDX-License-Identifier: BSD-2-Clause */
#include "source-private.h"

#include "observe.h"

/* How long a peer may take for an answer that needs no work of it. */
#define ANSWER_US (10 * G_TIME_SPAN_SECOND)
/* What is still queued when we hang up: a cancel must not take longer. */
#define LAST_WORDS_US (40 * G_TIME_SPAN_MILLISECOND)

static gboolean open_return_path(FerryOutgoing *outgoing, GError **error)
{
	gint64 begin;
	guint8 value[4];
	FerryReply reply;

	outgoing->path = ferry_return_path_start(outgoing->channel);
	ferry_source_publish(outgoing->source, outgoing->channel, outgoing->path);
	ferry_store_be32(value, FERRY_PING_HELLO);
	ferry_stream_put_command(outgoing->out, FERRY_COMMAND_OPEN_RETURN_PATH, NULL, 0);
	ferry_stream_put_command(outgoing->out, FERRY_COMMAND_PING, value, sizeof(value));
	begin = g_get_monotonic_time();
	if (!ferry_outgoing_flush(outgoing, error))
		return FALSE;
	if (!ferry_return_path_wait(outgoing->path, FERRY_REPLY_PONG, ANSWER_US, &reply, error)) {
		g_prefix_error(error, "%s: ", outgoing->uri);
		return FALSE;
	}
	ferry_forecast_answered(&outgoing->forecast, g_get_monotonic_time() - begin);
	outgoing->ferry_peer = reply.pong == (guint32)~FERRY_PING_HELLO;
	if (!outgoing->ferry_peer && reply.pong != FERRY_PING_HELLO) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "%s: the destination answered PING 0x%08x with PONG 0x%08x",
			    outgoing->uri, FERRY_PING_HELLO, reply.pong);
		return FALSE;
	}
	return TRUE;
}

static gboolean say_hello(FerryOutgoing *outgoing, GError **error)
{
	g_autoptr(GByteArray) record = g_byte_array_new();
	FerryHello hello = { .version = FERRY_PROTOCOL_VERSION, .page_size = FERRY_PAGE_SIZE };
	gint64 begin;
	FerryReply reply;

	if (ferry_settings_get_capability(ferry_vm_settings(outgoing->vm),
					  FERRY_CAPABILITY_VERIFY_RAM))
		hello.features |= FERRY_FEATURE_DIGEST;
	if (ferry_settings_get_capability(ferry_vm_settings(outgoing->vm),
					  FERRY_CAPABILITY_POSTCOPY_RAM))
		hello.features |= FERRY_FEATURE_POSTCOPY;
	if (ferry_outgoing_wants_encoder(outgoing))
		hello.features |= FERRY_FEATURE_ENCODED;
	/* Nothing is switched over in a rehearsal. */
	if (outgoing->rehearses)
		hello.features = (hello.features & ~(guint64)FERRY_FEATURE_POSTCOPY) |
				 FERRY_FEATURE_REHEARSAL;
	hello.features |= ferry_fabric_features(outgoing->fabric);
	memcpy(hello.nonce, outgoing->nonce, FERRY_NONCE_SIZE);
	ferry_record_put_hello(record, &hello);
	ferry_stream_put_command(outgoing->out, FERRY_COMMAND_FERRY, record->data, record->len);
	begin = g_get_monotonic_time();
	if (!ferry_outgoing_flush(outgoing, error) ||
	    !ferry_return_path_wait(outgoing->path, FERRY_REPLY_HELLO, ANSWER_US, &reply, error))
		return FALSE;
	ferry_forecast_answered(&outgoing->forecast, g_get_monotonic_time() - begin);
	if (reply.hello.version != FERRY_PROTOCOL_VERSION ||
	    reply.hello.page_size != FERRY_PAGE_SIZE) {
		g_set_error(
			error, FERRY_ERROR, FERRY_ERROR_MISMATCH,
			"this Ferry speaks protocol version %u with pages of %u bytes, the destination "
			"version %u with %u: run the same release on both sides",
			FERRY_PROTOCOL_VERSION, FERRY_PAGE_SIZE, reply.hello.version,
			reply.hello.page_size);
		return FALSE;
	}
	if (memcmp(reply.hello.nonce, outgoing->nonce, FERRY_NONCE_SIZE) != 0) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "the destination answered for another session");
		return FALSE;
	}
	outgoing->features = hello.features & reply.hello.features;
	return TRUE;
}

gboolean ferry_outgoing_greet(FerryOutgoing *outgoing, guint timeout_ms, GError **error)
{
	FerrySettings *settings = ferry_vm_settings(outgoing->vm);

	outgoing->channel = outgoing->transport->connect(outgoing->uri, timeout_ms,
							 outgoing->cancellable, error);
	if (!outgoing->channel)
		return FALSE;
	ferry_observe_connected(FERRY_SIDE_SOURCE, outgoing->uri);
	if (outgoing->fabric) {
		outgoing->heartbeat = ferry_heartbeat_new(outgoing->channel, FERRY_HEARTBEAT_FORTH);
		outgoing->channel = ferry_heartbeat_channel(outgoing->heartbeat);
	}
	ferry_source_publish(outgoing->source, outgoing->channel, NULL);
	g_byte_array_set_size(outgoing->out, 0);
	ferry_stream_put_header(outgoing->out);
	ferry_outgoing_put_configuration(outgoing);
	if (outgoing->channel->duplex &&
	    ferry_settings_get_capability(settings, FERRY_CAPABILITY_RETURN_PATH) &&
	    !open_return_path(outgoing, error))
		return FALSE;
	return !outgoing->ferry_peer || say_hello(outgoing, error);
}

void ferry_outgoing_hang_up(FerryOutgoing *outgoing)
{
	ferry_source_publish(outgoing->source, NULL, NULL);
	ferry_fabric_link_detach(outgoing->link);
	if (outgoing->heartbeat)
		ferry_heartbeat_stop(outgoing->heartbeat, LAST_WORDS_US);
	if (outgoing->channel)
		ferry_channel_shutdown(outgoing->channel);
	if (outgoing->path)
		ferry_return_path_set_carrier(outgoing->path, NULL);
	g_clear_pointer(&outgoing->path, ferry_return_path_stop);
	g_clear_pointer(&outgoing->carrier, ferry_carrier_close);
	g_clear_pointer(&outgoing->channel, ferry_channel_close);
	outgoing->heartbeat = NULL;
}
