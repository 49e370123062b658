/* SPDX-License-Identifier: BSD-2-Clause */
#include "streams.h"

#include <errno.h>
#include <poll.h>
#include "fd-util.h"
#include "page-sender.h"

/* All of share_ram(): the answer, the connections, their greetings. */
#define CONNECT_US (10 * G_TIME_SPAN_SECOND)
/* A record that finds no room is said again after this long. */
#define SAY_AGAIN_US (5 * G_TIME_SPAN_MILLISECOND)

typedef struct {
	FerryCarrier base;
	const FerryFabricSession *session;
	char *uri;
	guint wanted;
	FerryStreamsLink link;
	gboolean offered;                            /* guarded by link.lock */
	guint agreed;                                /* 0: no answer yet; guarded by link.lock */
	FerryPageSender *senders[FERRY_STREAMS_MAX]; /* owned */
	guint n; /* atomic, set behind senders: 0 until all are connected */

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
	guint8 payload[FERRY_STREAMS_NUMBER_SIZE];
	struct pollfd none[1];

	ferry_store_be32(payload, s->wanted);
	g_mutex_lock(&s->link.lock);
	s->offered = TRUE;
	g_mutex_unlock(&s->link.lock);
	while (!s->session->say(s->session->user, FERRY_RECORD_STREAMS_OFFER, payload,
				sizeof(payload))) {
		if (g_get_monotonic_time() >= deadline) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
				    "parallel streams: the control channel took nothing for %d s",
				    (int)(CONNECT_US / G_TIME_SPAN_SECOND));
			return FALSE;
		}
		if (ferry_fd_poll(none, 0, g_get_monotonic_time() + SAY_AGAIN_US,
				  s->session->cancellable, "parallel streams", error) < 0)
			return FALSE;
	}
	return TRUE;
}

static guint agreed(Source *s)
{
	guint n;

	g_mutex_lock(&s->link.lock);
	n = s->agreed;
	g_mutex_unlock(&s->link.lock);
	return n;
}

/* Returns how many streams there will be, or 0 with @error. */
static guint await_answer(Source *s, gint64 deadline, GError **error)
{
	guint n = 0;

	while (!(n = agreed(s)) && !ferry_streams_link_is_dead(&s->link)) {
		struct pollfd fds[2] = { { .fd = s->link.wake.fd, .events = POLLIN } };
		int ready = 1;

		ferry_wake_begin(&s->link.wake);
		if (!agreed(s) && !ferry_streams_link_is_dead(&s->link))
			ready = ferry_fd_poll(fds, 1, deadline, s->session->cancellable,
					      "parallel streams", error);
		ferry_wake_end(&s->link.wake);
		if (ready < 0)
			return 0;
		if (ready)
			continue;
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "parallel streams: the destination did not answer within %d s",
			    (int)(CONNECT_US / G_TIME_SPAN_SECOND));
		return 0;
	}
	if (!n)
		ferry_streams_link_why(&s->link, error);
	return n;
}

/* Gives each channel to a sender: all or none, and takes the channels in any case. */
static gboolean start_senders(Source *s, FerryChannel **channels, guint n, const FerryRam *ram,
			      GError **error)
{
	gboolean ok = TRUE;

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
	return ok;
}

static gboolean source_share_ram(FerryCarrier *carrier, const FerryRam *ram, GError **error)
{
	Source *s = (Source *)carrier;
	gint64 deadline = g_get_monotonic_time() + CONNECT_US;
	FerryChannel *channels[FERRY_STREAMS_MAX];
	guint n;

	if (!ferry_streams_link_open(&s->link, error) || !say_offer(s, deadline, error))
		return FALSE;
	n = await_answer(s, deadline, error);
	if (!n ||
	    !ferry_streams_connect(s->uri, s->session->nonce, n, deadline, s->session->cancellable,
				   channels, error) ||
	    !start_senders(s, channels, n, ram, error))
		return FALSE;
	__atomic_store_n(&s->n, n, __ATOMIC_RELEASE);
	return TRUE;
}

static gboolean hear_answer(Source *s, const guint8 *payload, size_t len, GError **error)
{
	gboolean expected;
	guint32 n;

	if (!ferry_streams_get_number("STREAMS_ANSWER", payload, len, 1, s->wanted, &n, error))
		return FALSE;
	g_mutex_lock(&s->link.lock);
	expected = s->offered && !s->agreed;
	if (expected)
		s->agreed = n;
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

static gboolean all_written(Source *s)
{
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
		for (guint i = 0; i < s->n; i++)
			ferry_page_sender_push_fence(s->senders[i], fence);
		s->fence = fence;
		s->clean = TRUE;
	}
	return all_written(s) ? FERRY_IO_OK : FERRY_IO_AGAIN;
}

static void source_wait(FerryCarrier *carrier, gint64 timeout_us)
{
	Source *s = (Source *)carrier;
	struct pollfd fd = { .fd = s->link.wake.fd, .events = POLLIN };
	struct timespec timeout = { timeout_us / G_USEC_PER_SEC,
				    timeout_us % G_USEC_PER_SEC * 1000 };

	ferry_wake_begin(&s->link.wake);
	if (!ferry_streams_link_is_dead(&s->link) && !(s->rest.pages ? any_low(s) : all_written(s)))
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
}

static GVariant *source_describe(FerryCarrier *carrier)
{
	Source *s = (Source *)carrier;
	guint n = __atomic_load_n(&s->n, __ATOMIC_ACQUIRE);
	guint64 bytes[FERRY_STREAMS_MAX];

	for (guint i = 0; i < n; i++)
		bytes[i] = ferry_page_sender_bytes(s->senders[i]);
	return ferry_streams_describe(n, bytes);
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

	s->base.ops = &source_ops;
	s->uri = g_strdup(uri);
	s->wanted = CLAMP(streams, 1, FERRY_STREAMS_MAX);
	s->session = session;
	ferry_streams_link_init(&s->link);
	return &s->base;
}
