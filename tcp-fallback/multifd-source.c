/* SPDX-License-Identifier: BSD-2-Clause */
#include "multifd.h"

#include <errno.h>
#include <string.h>
#include "fd-util.h"
#include "multifd-packets.h"
#include "page-fan.h"
#include "streams.h"

/* All of share_ram(): the connections, their init packets, the answer. */
#define CONNECT_US (10 * G_TIME_SPAN_SECOND)

typedef struct {
	FerryCarrier base;
	const FerryFabricSession *session;
	const FerryTransport *transport;
	char *uri;
	FerryMultifdOutgoing outgoing;
	FerryPageFraming framing;
	FerryStreamsLink link;
	gint answered; /* atomic: ANSWER came */
	gint offered;  /* atomic: OFFER went */
	FerryPageFan fan;
} Source;

/* ---- connecting ---- */

static FerryCarrier *open_packets(const FerryPageFraming *framing, FerryChannel *channel,
				  GError **error)
{
	return ferry_multifd_packets_new(channel, &((Source *)framing->user)->outgoing, error);
}

static size_t put_sync(const FerryPageFraming *framing, guint8 *out, guint32 round)
{
	FerryMultifdOutgoing *outgoing = &((Source *)framing->user)->outgoing;
	const FerryMultifdPacket sync = {
		.sync = TRUE,
		.number = __atomic_fetch_add(&outgoing->number, 1, __ATOMIC_RELAXED),
	};

	ferry_multifd_put_packet(out, &sync);
	return FERRY_MULTIFD_HEADER_SIZE;
}

static FerryChannel *connect_one(Source *s, guint8 index, gint64 deadline, GError **error)
{
	gint64 left = (deadline - g_get_monotonic_time()) / G_TIME_SPAN_MILLISECOND;
	FerryMultifdInit init = { .channel = index };
	g_autoptr(FerryChannel) channel = s->transport->connect(s->uri, (guint)MAX(left, 0),
								s->session->cancellable, error);
	guint8 bytes[FERRY_MULTIFD_INIT_SIZE];

	G_STATIC_ASSERT(FERRY_MULTIFD_UUID_SIZE == FERRY_NONCE_SIZE);
	memcpy(init.uuid, s->session->nonce, FERRY_NONCE_SIZE);
	ferry_multifd_put_init(bytes, &init);
	/* The first bytes of a connection always find room. */
	if (!channel || !ferry_channel_write_all(channel, bytes, sizeof(bytes), error))
		return NULL;
	return g_steal_pointer(&channel);
}

static gboolean connect_all(Source *s, FerryChannel **channels, gint64 deadline, GError **error)
{
	guint n = 0;

	while (n < s->outgoing.terms.channels) {
		channels[n] = connect_one(s, (guint8)n, deadline, error);
		if (!channels[n])
			break;
		n++;
	}
	if (n == s->outgoing.terms.channels)
		return TRUE;
	g_prefix_error(error, "multifd channel %u: ", n);
	while (n)
		ferry_channel_close(channels[--n]);
	return FALSE;
}

static gboolean say_offer(Source *s, gint64 deadline, GError **error)
{
	guint8 payload[FERRY_MULTIFD_TERMS_SIZE];

	ferry_multifd_put_terms(payload, &s->outgoing.terms);
	g_atomic_int_set(&s->offered, 1);
	return ferry_streams_say(s->session, FERRY_RECORD_MULTIFD_OFFER, payload, sizeof(payload),
				 deadline, s->session->cancellable, "multifd", error);
}

static gboolean is_settled(Source *s)
{
	return g_atomic_int_get(&s->answered) || ferry_streams_link_is_dead(&s->link);
}

static gboolean await_answer(Source *s, gint64 deadline, GError **error)
{
	while (!is_settled(s)) {
		struct pollfd fds[2] = { { .fd = s->link.wake.fd, .events = POLLIN } };
		int ready = 1;

		ferry_wake_begin(&s->link.wake);
		if (!is_settled(s))
			ready = ferry_fd_poll(fds, 1, deadline, s->session->cancellable, "multifd",
					      error);
		ferry_wake_end(&s->link.wake);
		if (ready < 0)
			return FALSE;
		if (ready)
			continue;
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "multifd: the destination did not take all %u channels within %d s",
			    s->outgoing.terms.channels, (int)(CONNECT_US / G_TIME_SPAN_SECOND));
		return FALSE;
	}
	return !ferry_streams_link_is_dead(&s->link) || ferry_streams_link_why(&s->link, error);
}

static gboolean source_share_ram(FerryCarrier *carrier, const FerryRam *ram, GError **error)
{
	Source *s = (Source *)carrier;
	gint64 deadline = g_get_monotonic_time() + CONNECT_US;
	FerryChannel *channels[FERRY_MULTIFD_CHANNELS_MAX];
	guint n = s->outgoing.terms.channels;

	if (!ferry_streams_link_open(&s->link, error) || !say_offer(s, deadline, error) ||
	    !connect_all(s, channels, deadline, error))
		return FALSE;
	if (!await_answer(s, deadline, error)) {
		for (guint i = 0; i < n; i++)
			ferry_channel_close(channels[i]);
		return FALSE;
	}
	if (!ferry_page_fan_start(&s->fan, channels, n, &s->framing, ram, error))
		return FALSE;
	ferry_page_fan_open(&s->fan, n);
	return TRUE;
}

static gboolean hear_answer(Source *s, const guint8 *payload, size_t len, GError **error)
{
	if (!ferry_multifd_check_terms(payload, len, &s->outgoing.terms, error))
		return FALSE;
	if (!g_atomic_int_get(&s->offered) || g_atomic_int_get(&s->answered)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "record MULTIFD_ANSWER came without an offer, or again");
		return FALSE;
	}
	g_atomic_int_set(&s->answered, 1);
	ferry_wake_signal(&s->link.wake);
	return TRUE;
}

static gboolean source_hear(FerryCarrier *carrier, guint16 type, const guint8 *payload, size_t len,
			    GError **error)
{
	Source *s = (Source *)carrier;
	g_autofree char *why = NULL;

	if (type == FERRY_RECORD_MULTIFD_ANSWER)
		return hear_answer(s, payload, len, error);
	if (type != FERRY_RECORD_MULTIFD_REFUSE) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "record 0x%04x is none of a destination's multifd", type);
		return FALSE;
	}
	why = g_utf8_make_valid((const char *)payload, (gssize)len);
	ferry_streams_link_fail(&s->link, g_error_new(FERRY_ERROR, FERRY_ERROR_NOSUPP,
						      "the destination cannot multifd: %s", why));
	return TRUE;
}

/* ---- pages ---- */

static FerryIo source_put(FerryCarrier *carrier, const FerryRun *runs, size_t n, size_t *taken)
{
	return ferry_page_fan_put(&((Source *)carrier)->fan, runs, n, taken);
}

static FerryIo source_progress(FerryCarrier *carrier)
{
	return ferry_page_fan_progress(&((Source *)carrier)->fan);
}

static FerryIo source_settle(FerryCarrier *carrier, guint32 fence)
{
	return ferry_page_fan_settle(&((Source *)carrier)->fan, fence);
}

static void source_wait(FerryCarrier *carrier, gint64 timeout_us)
{
	ferry_page_fan_wait(&((Source *)carrier)->fan, timeout_us);
}

/* ---- the others ---- */

static void source_get_stats(FerryCarrier *carrier, FerryCarrierStats *stats)
{
	Source *s = (Source *)carrier;

	ferry_page_fan_get_stats(&s->fan, stats);
	stats->multifd_bytes = stats->bytes;
	stats->zero_copy_copied = __atomic_load_n(&s->outgoing.copied, __ATOMIC_RELAXED);
}

static GVariant *source_describe(FerryCarrier *carrier)
{
	Source *s = (Source *)carrier;
	guint n = __atomic_load_n(&s->fan.n, __ATOMIC_ACQUIRE);
	guint64 bytes[FERRY_MULTIFD_CHANNELS_MAX];

	for (guint i = 0; i < n; i++)
		bytes[i] = ferry_page_sender_bytes(s->fan.senders[i]);
	return ferry_multifd_describe(&s->outgoing.terms, n, bytes, s->outgoing.zero_copy,
				      g_atomic_int_get(&s->outgoing.zero_copy_ends) < (int)n);
}

static GError *source_take_error(FerryCarrier *carrier)
{
	return ferry_streams_link_take_error(&((Source *)carrier)->link);
}

/* Nothing lands at a source. */
static void source_quiesce(FerryCarrier *carrier)
{
}

static void source_close(FerryCarrier *carrier)
{
	Source *s = (Source *)carrier;

	ferry_page_fan_stop(&s->fan);
	ferry_streams_link_clear(&s->link);
	g_free(s->uri);
	g_free(s);
}

static const FerryCarrierOps source_ops = {
	.name = "multifd",
	.share_ram = source_share_ram,
	.put = source_put,
	.progress = source_progress,
	.wait = source_wait,
	.settle = source_settle,
	.hear = source_hear,
	.quiesce = source_quiesce,
	.get_stats = source_get_stats,
	.describe = source_describe,
	.take_error = source_take_error,
	.close = source_close,
};

static int level(FerrySettings *settings, guint32 compression)
{
	return (int)ferry_settings_get_parameter(settings,
						 compression == FERRY_MULTIFD_COMPRESSION_ZSTD
							 ? FERRY_PARAMETER_MULTIFD_ZSTD_LEVEL
							 : FERRY_PARAMETER_MULTIFD_ZLIB_LEVEL);
}

FerryCarrier *ferry_multifd_source_new(const FerryTransport *transport, const char *uri,
				       const FerryFabricSession *session)
{
	Source *s = g_new0(Source, 1);

	s->base.ops = &source_ops;
	s->session = session;
	s->transport = transport;
	s->uri = g_strdup(uri);
	s->outgoing.terms = ferry_multifd_terms(session->settings);
	s->outgoing.level = level(session->settings, s->outgoing.terms.compression);
	s->outgoing.zero_copy = ferry_settings_get_capability(session->settings,
							      FERRY_CAPABILITY_ZERO_COPY_SEND);
	s->framing = (FerryPageFraming){ "multifd channel", FERRY_MULTIFD_INIT_SIZE, open_packets,
					 put_sync, s };
	ferry_streams_link_init(&s->link);
	s->fan.link = &s->link;
	return &s->base;
}
