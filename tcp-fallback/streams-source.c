/* SPDX-License-Identifier: BSD-2-Clause */
#include "streams.h"

#include <poll.h>
#include "fd-channel.h"
#include "fd-util.h"
#include "page-sender.h"
#include "urgent-sender.h"

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
	FerryPageSender *senders[FERRY_STREAMS_MAX]; /* owned */
	FerryUrgentSender *urgent;                   /* owned; NULL: none */
	guint n; /* atomic, set behind the senders: 0 until all are connected */

	/* the engine's thread's */
	FerryRun rest;  /* of the last run taken, in no ring yet; pages 0: nothing */
	guint next;     /* the sender to begin with, where several have as much room */
	guint32 fence;  /* the last that went out; 0: none */
	gboolean clean; /* nothing was put after it */

	guint64 pages; /* taken; stored by the engine's thread, loaded by any: relaxed */
} Source;

/* ---- connecting ---- */

static gboolean say_offer(Source *s, gint64 deadline, GError **error)
{
	g_mutex_lock(&s->link.lock);
	s->offered = TRUE;
	g_mutex_unlock(&s->link.lock);
	return ferry_streams_say(s->session, FERRY_RECORD_STREAMS_OFFER, &s->wanted, deadline,
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
	s->urgent = ferry_urgent_sender_new(channel, FERRY_STREAMS_GREETING_SIZE, ram, &s->link,
					    error);
	return s->urgent != NULL;
}

/* Gives each channel to a sender: all or none, and takes the channels in any case. Behind those of
 * the @n streams there is the urgent one's, or NULL. */
static gboolean start_senders(Source *s, FerryChannel **channels, guint n, const FerryRam *ram,
			      GError **error)
{
	gboolean ok = start_urgent(s, channels[n], ram, error);

	for (guint i = 0; i < n; i++) {
		if (!ok) {
			ferry_channel_close(channels[i]);
			continue;
		}
		s->senders[i] = ferry_page_sender_new(channels[i], i, FERRY_STREAMS_GREETING_SIZE,
						      ram, &s->link, error);
		ok = s->senders[i] != NULL;
	}
	for (guint i = 0; !ok && i < n; i++)
		g_clear_pointer(&s->senders[i], ferry_page_sender_free);
	if (!ok)
		g_clear_pointer(&s->urgent, ferry_urgent_sender_free);
	return ok;
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
	__atomic_store_n(&s->n, terms.streams, __ATOMIC_RELEASE);
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

/* NULL: all are full. Among equals it goes round. */
static FerryPageSender *roomiest(Source *s, guint64 *room)
{
	guint best = 0;

	*room = 0;
	for (guint i = 0; i < s->n; i++) {
		guint at = (s->next + i) % s->n;
		guint64 has = ferry_page_sender_room(s->senders[at]);

		if (has > *room) {
			*room = has;
			best = at;
		}
	}
	if (!*room)
		return NULL;
	s->next = (best + 1) % s->n;
	return s->senders[best];
}

/* Cuts all of the rest into pieces and hands them to the streams. */
static FerryIo hand_out(Source *s)
{
	while (s->rest.pages) {
		FerryRun piece = s->rest;
		guint64 room;
		FerryPageSender *sender = roomiest(s, &room);

		if (!sender)
			return FERRY_IO_AGAIN;
		piece.pages = MIN(MIN(piece.pages, room), FERRY_PAGE_SENDER_RUN);
		ferry_page_sender_push(sender, &piece);
		s->rest.first += piece.pages;
		s->rest.pages -= piece.pages;
	}
	return FERRY_IO_OK;
}

static FerryIo source_put(FerryCarrier *carrier, const FerryRun *runs, size_t n, size_t *taken)
{
	Source *s = (Source *)carrier;

	*taken = 0;
	for (;;) {
		if (ferry_streams_link_is_dead(&s->link))
			return FERRY_IO_DEAD;
		/* A run is taken whole, as by the channel's carrier. The rest of the last one is no
		 * reason to say AGAIN. */
		if (hand_out(s) != FERRY_IO_OK)
			return *taken == n ? FERRY_IO_OK : FERRY_IO_AGAIN;
		if (*taken == n)
			return FERRY_IO_OK;
		s->rest = runs[(*taken)++];
		s->clean = FALSE;
		__atomic_store_n(&s->pages, s->pages + s->rest.pages, __ATOMIC_RELAXED);
	}
}

static FerryIo source_urgent(FerryCarrier *carrier, const FerryRun *run)
{
	return ferry_urgent_sender_put(((Source *)carrier)->urgent, run);
}

static gboolean all_written(Source *s)
{
	if (s->urgent && !ferry_urgent_sender_is_empty(s->urgent))
		return FALSE;
	for (guint i = 0; i < s->n; i++)
		if (!ferry_page_sender_is_empty(s->senders[i]))
			return FALSE;
	return TRUE;
}

static gboolean any_low(Source *s)
{
	for (guint i = 0; i < s->n; i++)
		if (ferry_page_sender_is_low(s->senders[i]))
			return TRUE;
	return FALSE;
}

static FerryIo source_progress(FerryCarrier *carrier)
{
	Source *s = (Source *)carrier;

	if (ferry_streams_link_is_dead(&s->link))
		return FERRY_IO_DEAD;
	return hand_out(s) == FERRY_IO_OK && all_written(s) ? FERRY_IO_OK : FERRY_IO_AGAIN;
}

static FerryIo source_settle(FerryCarrier *carrier, guint32 fence)
{
	Source *s = (Source *)carrier;

	if (ferry_streams_link_is_dead(&s->link))
		return FERRY_IO_DEAD;
	if (hand_out(s) != FERRY_IO_OK)
		return FERRY_IO_AGAIN;
	if (!s->clean || fence != s->fence) {
		/* The others always have room for it. */
		if (s->urgent && !ferry_urgent_sender_push_fence(s->urgent, fence))
			return FERRY_IO_AGAIN;
		for (guint i = 0; i < s->n; i++)
			ferry_page_sender_push_fence(s->senders[i], fence);
		s->fence = fence;
		s->clean = TRUE;
	}
	return all_written(s) ? FERRY_IO_OK : FERRY_IO_AGAIN;
}

static gboolean has_reason_to_wake(Source *s)
{
	return ferry_streams_link_is_dead(&s->link) ||
	       (s->rest.pages ? any_low(s) : all_written(s)) ||
	       (s->urgent && ferry_urgent_sender_has_room_again(s->urgent));
}

static void source_wait(FerryCarrier *carrier, gint64 timeout_us)
{
	Source *s = (Source *)carrier;
	struct pollfd fd = { .fd = s->link.wake.fd, .events = POLLIN };
	struct timespec timeout = { timeout_us / G_USEC_PER_SEC,
				    timeout_us % G_USEC_PER_SEC * 1000 };

	ferry_wake_begin(&s->link.wake);
	if (!has_reason_to_wake(s))
		ppoll(&fd, 1, timeout_us < 0 ? NULL : &timeout, NULL);
	ferry_wake_end(&s->link.wake);
}

/* ---- the others ---- */

static void source_get_stats(FerryCarrier *carrier, FerryCarrierStats *stats)
{
	Source *s = (Source *)carrier;
	guint n = __atomic_load_n(&s->n, __ATOMIC_ACQUIRE);

	*stats = (FerryCarrierStats){ .pages = __atomic_load_n(&s->pages, __ATOMIC_RELAXED) };
	for (guint i = 0; i < n; i++)
		stats->bytes += ferry_page_sender_bytes(s->senders[i]);
	if (n && s->urgent) {
		stats->bytes += ferry_urgent_sender_bytes(s->urgent);
		stats->pages += ferry_urgent_sender_pages(s->urgent);
	}
}

static GVariant *source_describe(FerryCarrier *carrier)
{
	Source *s = (Source *)carrier;
	guint n = __atomic_load_n(&s->n, __ATOMIC_ACQUIRE);
	guint64 bytes[FERRY_STREAMS_MAX];

	for (guint i = 0; i < n; i++)
		bytes[i] = ferry_page_sender_bytes(s->senders[i]);
	return ferry_streams_describe(n, bytes, n && s->urgent,
				      n && s->urgent ? ferry_urgent_sender_pages(s->urgent) : 0);
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

	for (guint i = 0; i < s->n; i++)
		ferry_page_sender_free(s->senders[i]);
	ferry_urgent_sender_free(s->urgent);
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
	return &s->base;
}
