/* SPDX-License-Identifier: BSD-2-Clause */
#include "streams.h"

#include "fd-channel.h"
#include "fd-util.h"
#include "page-fan.h"

/* All of share_ram(): the answer, the connections, their greetings. */
#define CONNECT_US (10 * G_TIME_SPAN_SECOND)

typedef struct {
	FerryCarrier base;
	FerryCarrierOps ops; /* what base.ops points to: urgent is only where it was asked for */
	const FerryFabricSession *session;
	char *uri;
	FerryStreamsTerms wanted;
	FerryStreamsLink link;
	gboolean offered;         /* guarded by link.lock */
	FerryStreamsTerms agreed; /* 0 streams: no answer yet; guarded by link.lock */
	FerryPageFan fan;
} Source;

/* ---- connecting ---- */

static gboolean say_offer(Source *s, gint64 deadline, GError **error)
{
	g_mutex_lock(&s->link.lock);
	s->offered = TRUE;
	g_mutex_unlock(&s->link.lock);
	return ferry_streams_say_terms(s->session, FERRY_RECORD_STREAMS_OFFER, &s->wanted, deadline,
				       s->session->cancellable, "the control channel", error);
}

/* FALSE: no answer yet. */
static gboolean agreed(Source *s, FerryStreamsTerms *terms)
{
	g_mutex_lock(&s->link.lock);
	*terms = s->agreed;
	g_mutex_unlock(&s->link.lock);
	return terms->streams != 0;
}

static gboolean await_answer(Source *s, FerryStreamsTerms *terms, gint64 deadline, GError **error)
{
	while (!agreed(s, terms) && !ferry_streams_link_is_dead(&s->link)) {
		struct pollfd fds[2] = { { .fd = s->link.wake.fd, .events = POLLIN } };
		int ready = 1;

		ferry_wake_begin(&s->link.wake);
		if (!agreed(s, terms) && !ferry_streams_link_is_dead(&s->link))
			ready = ferry_fd_poll(fds, 1, deadline, s->session->cancellable,
					      "parallel streams", error);
		ferry_wake_end(&s->link.wake);
		if (ready < 0)
			return FALSE;
		if (ready)
			continue;
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "parallel streams: the destination did not answer within %d s",
			    (int)(CONNECT_US / G_TIME_SPAN_SECOND));
		return FALSE;
	}
	if (!terms->streams)
		return ferry_streams_link_why(&s->link, error);
	if (terms->flags == s->wanted.flags)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
		    "the destination gives no parallel stream to pages that the guest waits for");
	return FALSE;
}

/* TRUE also where there is to be none. */
static gboolean start_urgent(Source *s, FerryChannel *channel, const FerryRam *ram, GError **error)
{
	if (!channel)
		return TRUE;
	ferry_socket_tune_urgent(((FerryFdChannel *)channel)->out);
	s->fan.urgent = ferry_urgent_sender_new(channel, &ferry_streams_framing, ram, &s->link,
						error);
	return s->fan.urgent != NULL;
}

/* All or none, and takes the channels in any case. Behind those of the @n streams there is the
 * urgent one's, or NULL. */
static gboolean start_senders(Source *s, FerryChannel **channels, guint n, const FerryRam *ram,
			      GError **error)
{
	if (start_urgent(s, channels[n], ram, error))
		return ferry_page_fan_start(&s->fan, channels, n, &ferry_streams_framing, ram,
					    error);
	for (guint i = 0; i < n; i++)
		ferry_channel_close(channels[i]);
	return FALSE;
}

static gboolean source_share_ram(FerryCarrier *carrier, const FerryRam *ram, GError **error)
{
	Source *s = (Source *)carrier;
	gint64 deadline = g_get_monotonic_time() + CONNECT_US;
	FerryChannel *channels[FERRY_STREAMS_CONNECTIONS] = { NULL };
	FerryStreamsTerms terms;

	if (!ferry_streams_link_open(&s->link, error) || !say_offer(s, deadline, error) ||
	    !await_answer(s, &terms, deadline, error) ||
	    !ferry_streams_connect(s->uri, s->session->nonce, ferry_streams_connections(&terms),
				   deadline, s->session->cancellable, channels, error) ||
	    !start_senders(s, channels, terms.streams, ram, error))
		return FALSE;
	ferry_page_fan_open(&s->fan, terms.streams);
	return TRUE;
}

static gboolean hear_answer(Source *s, const guint8 *payload, size_t len, GError **error)
{
	FerryStreamsTerms terms;
	gboolean expected;

	if (!ferry_streams_get_terms("STREAMS_ANSWER", payload, len, &s->wanted, &terms, error))
		return FALSE;
	g_mutex_lock(&s->link.lock);
	expected = s->offered && !s->agreed.streams;
	if (expected)
		s->agreed = terms;
	g_mutex_unlock(&s->link.lock);
	if (!expected)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "record STREAMS_ANSWER came without an offer, or again");
	ferry_wake_signal(&s->link.wake);
	return expected;
}

/* @payload is text for people: what is not UTF-8 of it is replaced. */
static void hear_refusal(Source *s, const guint8 *payload, size_t len)
{
	g_autofree char *why = g_utf8_make_valid((const char *)payload, (gssize)len);

	ferry_streams_link_fail(&s->link,
				g_error_new(FERRY_ERROR, FERRY_ERROR_NOSUPP,
					    "the destination refuses parallel streams: %s", why));
}

static gboolean source_hear(FerryCarrier *carrier, guint16 type, const guint8 *payload, size_t len,
			    GError **error)
{
	Source *s = (Source *)carrier;

	if (type == FERRY_RECORD_STREAMS_ANSWER)
		return hear_answer(s, payload, len, error);
	if (type == FERRY_RECORD_STREAMS_REFUSE)
		return hear_refusal(s, payload, len), TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "record 0x%04x is none of a destination's parallel streams", type);
	return FALSE;
}

/* ---- pages ---- */

static FerryIo source_put(FerryCarrier *carrier, const FerryRun *runs, size_t n, size_t *taken)
{
	return ferry_page_fan_put(&((Source *)carrier)->fan, runs, n, taken);
}

static FerryIo source_urgent(FerryCarrier *carrier, const FerryRun *run)
{
	return ferry_urgent_sender_put(((Source *)carrier)->fan.urgent, run);
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
	ferry_page_fan_get_stats(&((Source *)carrier)->fan, stats);
}

static GVariant *source_describe(FerryCarrier *carrier)
{
	FerryPageFan *fan = &((Source *)carrier)->fan;
	guint n = __atomic_load_n(&fan->n, __ATOMIC_ACQUIRE);
	guint64 bytes[FERRY_STREAMS_MAX];

	for (guint i = 0; i < n; i++)
		bytes[i] = ferry_page_sender_bytes(fan->senders[i]);
	return ferry_streams_describe(n, bytes, n && fan->urgent,
				      n && fan->urgent ? ferry_urgent_sender_pages(fan->urgent)
						       : 0);
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
	.name = "tcp",
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

FerryCarrier *ferry_streams_source_new(const char *uri, guint streams,
				       const FerryFabricSession *session)
{
	Source *s = g_new0(Source, 1);

	s->ops = source_ops;
	if (session->postcopy) {
		s->ops.urgent = source_urgent;
		s->wanted.flags = FERRY_STREAMS_URGENT;
	}
	s->base.ops = &s->ops;
	s->uri = g_strdup(uri);
	s->wanted.streams = CLAMP(streams, 1, FERRY_STREAMS_MAX);
	s->session = session;
	ferry_streams_link_init(&s->link);
	s->fan.link = &s->link;
	return &s->base;
}
