/* SPDX-License-Identifier: BSD-2-Clause */
#include "heartbeat.h"

#include <ferry/carrier.h>
#include <ferry/stream.h>

/* Control records are small; what is larger goes alone. */
#define QUEUE_MAX (256u << 10)
#define SAY_US (250 * G_TIME_SPAN_MILLISECOND)
#define SILENCE_US (1500 * G_TIME_SPAN_MILLISECOND)
/* How long the thread waits for a channel that takes no bytes before it looks around. */
#define TICK_US (50 * G_TIME_SPAN_MILLISECOND)
/* By how much the thread must have overslept to take it that this process, not the peer, stood
 * still. */
#define LATE_US (250 * G_TIME_SPAN_MILLISECOND)
/* For the last words. */
#define DRAIN_US (1 * G_TIME_SPAN_SECOND)

struct FerryHeartbeat {
	FerryChannel base;
	FerryChannelOps ops; /* what base.ops points to: named after the inner channel */
	FerryChannel *inner; /* owned */
	FerryHeartbeatWay way;
	GThread *thread; /* of whoever starts and stops */
	gint started;    /* atomic */

	GMutex lock; /* guards the rest */
	GCond work;  /* for the thread: something to write, or to end */
	GCond room;  /* for writers */
	GByteArray *filling;
	GByteArray *writing; /* the thread's while it writes; it alone changes it */
	size_t written;      /* bytes of @writing */
	size_t refused;      /* bytes of the last try_write() that found no room */
	gboolean draining;   /* no more is queued; the thread ends with the last byte */
	gint64 drain_until;
	gboolean shut;
	gboolean ended;       /* the thread looks no more */
	GError *reason;       /* why reads and writes fail; NULL while they do not */
	GError *write_error;  /* the same for writes alone */
	gint64 reading_since; /* 0: nobody is in read() */
	gint64 counting_since;
	gint64 spoke; /* when bytes were last written */
	gint64 due;   /* when the thread looks around next, at the latest */
};

static size_t queued(const FerryHeartbeat *hb)
{
	return hb->filling->len + hb->writing->len - hb->written;
}

/* The lock is held. Why nothing more can be written. */
static gboolean is_over(FerryHeartbeat *hb, GError **error)
{
	const GError *cause = hb->reason ? hb->reason : hb->write_error;

	if (cause)
		g_propagate_error(error, g_error_copy(cause));
	else if (hb->shut)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED, "the channel was shut down");
	else
		return FALSE;
	return TRUE;
}

/* ---- the thread ---- */

static void put_record(FerryHeartbeat *hb, guint16 type, guint8 flags, const void *payload,
		       size_t len)
{
	GByteArray *out = hb->filling;

	if (hb->way == FERRY_HEARTBEAT_FORTH) {
		ferry_put_u8(out, FERRY_SECTION_COMMAND);
		ferry_put_be16(out, FERRY_COMMAND_FERRY);
	} else {
		ferry_put_be16(out, FERRY_RETURN_FERRY);
	}
	ferry_put_be16(out, FERRY_RECORD_HEADER + len);
	ferry_put_record_header(out, type, flags, len);
	if (len)
		g_byte_array_append(out, payload, len);
}

/* The lock is held. */
static void end(FerryHeartbeat *hb, GError *reason, gint64 drain_until)
{
	if (hb->reason)
		return g_error_free(reason);
	hb->reason = reason;
	hb->draining = TRUE;
	hb->drain_until = drain_until;
	g_cond_broadcast(&hb->work);
	g_cond_broadcast(&hb->room);
}

/* Counts the peer's silence, and not the time in which nobody here could have heard it. */
static void listen_for_peer(FerryHeartbeat *hb, gint64 now)
{
	gint64 since = MAX(hb->reading_since, hb->counting_since);

	if (now - hb->due > LATE_US)
		hb->counting_since = since = now;
	if (hb->reading_since && !hb->draining && now - since >= SILENCE_US)
		end(hb,
		    g_error_new(FERRY_ERROR, FERRY_ERROR_LINK,
				"no sign of life from the %s for %.1f s: its process is stopped or "
				"hung, or the network between is cut",
				hb->way == FERRY_HEARTBEAT_FORTH ? "destination" : "source",
				SILENCE_US / 1e6),
		    now);
}

/* Writes what can be written now; the lock is released meanwhile. */
static void write_some(FerryHeartbeat *hb)
{
	GError *error = NULL;
	struct iovec iov;
	gssize n;

	if (hb->written == hb->writing->len) {
		GByteArray *empty = hb->writing;

		g_byte_array_set_size(empty, 0);
		hb->writing = hb->filling;
		hb->filling = empty;
		hb->written = 0;
	}
	iov = (struct iovec){ hb->writing->data + hb->written, hb->writing->len - hb->written };
	g_mutex_unlock(&hb->lock);
	n = hb->inner->ops->try_write(hb->inner, &iov, 1, &error);
	if (n == 0)
		hb->inner->ops->wait_writable(hb->inner, TICK_US);
	g_mutex_lock(&hb->lock);
	if (n < 0 && !hb->write_error)
		hb->write_error = error;
	else if (n < 0)
		g_error_free(error);
	if (n > 0) {
		hb->written += n;
		hb->spoke = g_get_monotonic_time();
	}
	g_cond_broadcast(&hb->room);
}

/* A link that takes no bytes any more is still listened to: the peer may have said why. */
static gboolean can_write(const FerryHeartbeat *hb)
{
	return queued(hb) && !hb->write_error;
}

/* The lock is held, and there is nothing to write: when something has to be said, or the silence
 * has lasted. A shorter sleep would cost a destination that does nothing else. */
static gint64 next_duty(const FerryHeartbeat *hb, gint64 now)
{
	gint64 duty = (queued(hb) ? now : hb->spoke) + SAY_US;

	if (hb->reading_since)
		duty = MIN(duty, MAX(hb->reading_since, hb->counting_since) + SILENCE_US);
	return duty;
}

static gpointer beat(gpointer data)
{
	FerryHeartbeat *hb = data;
	gint64 now = g_get_monotonic_time();
	gboolean cut;

	g_mutex_lock(&hb->lock);
	while (!hb->shut && !(hb->draining && (!can_write(hb) || now > hb->drain_until))) {
		if (!queued(hb) && now - hb->spoke >= SAY_US)
			put_record(hb, FERRY_RECORD_HEARTBEAT, FERRY_RECORD_MAY_SKIP, NULL, 0);
		if (can_write(hb)) {
			hb->due = now + TICK_US;
			write_some(hb);
		} else {
			hb->due = next_duty(hb, now);
			g_cond_wait_until(&hb->work, &hb->lock, hb->due);
		}
		now = g_get_monotonic_time();
		listen_for_peer(hb, now);
	}
	hb->ended = TRUE;
	cut = hb->reason != NULL;
	g_mutex_unlock(&hb->lock);
	if (cut)
		ferry_channel_shutdown(hb->inner);
	return NULL;
}

/* ---- the channel ---- */

/* What the inner channel answered, or the reason why it could not. */
static gssize explain(FerryHeartbeat *hb, gssize n, GError **error)
{
	GError *reason = NULL;

	if (n > 0)
		return n;
	g_mutex_lock(&hb->lock);
	if (hb->reason)
		reason = g_error_copy(hb->reason);
	g_mutex_unlock(&hb->lock);
	if (!reason)
		return n;
	g_clear_error(error);
	g_propagate_error(error, reason);
	return -1;
}

static void set_reading(FerryHeartbeat *hb, gint64 since)
{
	g_mutex_lock(&hb->lock);
	hb->reading_since = since;
	g_mutex_unlock(&hb->lock);
}

static gssize heartbeat_read(FerryChannel *channel, const struct iovec *iov, int n, GError **error)
{
	FerryHeartbeat *hb = (FerryHeartbeat *)channel;
	gssize got;

	set_reading(hb, g_get_monotonic_time());
	got = hb->inner->ops->read(hb->inner, iov, n, error);
	set_reading(hb, 0);
	return explain(hb, got, error);
}

static size_t iov_bytes(const struct iovec *iov, int n)
{
	size_t bytes = 0;

	for (int i = 0; i < n; i++)
		bytes += iov[i].iov_len;
	return bytes;
}

/* The lock is held. A frame that is larger than the queue goes alone. */
static gboolean has_room(const FerryHeartbeat *hb, size_t bytes)
{
	return !queued(hb) || queued(hb) + bytes <= QUEUE_MAX;
}

static gssize enqueue(FerryHeartbeat *hb, const struct iovec *iov, int n)
{
	for (int i = 0; i < n; i++)
		g_byte_array_append(hb->filling, iov[i].iov_base, iov[i].iov_len);
	g_cond_signal(&hb->work);
	return iov_bytes(iov, n);
}

static gssize heartbeat_write(FerryChannel *channel, const struct iovec *iov, int n, GError **error)
{
	FerryHeartbeat *hb = (FerryHeartbeat *)channel;
	size_t bytes = iov_bytes(iov, n);
	gssize done = -1;

	if (!g_atomic_int_get(&hb->started))
		return explain(hb, hb->inner->ops->write(hb->inner, iov, n, error), error);
	g_mutex_lock(&hb->lock);
	while (!has_room(hb, bytes) && !is_over(hb, NULL))
		g_cond_wait(&hb->room, &hb->lock);
	if (!is_over(hb, error))
		done = enqueue(hb, iov, n);
	g_mutex_unlock(&hb->lock);
	return done;
}

static gssize heartbeat_try_write(FerryChannel *channel, const struct iovec *iov, int n,
				  GError **error)
{
	FerryHeartbeat *hb = (FerryHeartbeat *)channel;
	size_t bytes = iov_bytes(iov, n);
	gssize done = 0;

	if (!g_atomic_int_get(&hb->started)) {
		done = hb->inner->ops->try_write(hb->inner, iov, n, error);
		return done < 0 ? explain(hb, done, error) : done;
	}
	g_mutex_lock(&hb->lock);
	if (is_over(hb, error))
		done = -1;
	else if (has_room(hb, bytes))
		done = enqueue(hb, iov, n);
	else
		hb->refused = bytes;
	g_mutex_unlock(&hb->lock);
	return done;
}

static void heartbeat_wait_writable(FerryChannel *channel, gint64 timeout_us)
{
	FerryHeartbeat *hb = (FerryHeartbeat *)channel;
	gint64 until = timeout_us < 0 ? G_MAXINT64 : g_get_monotonic_time() + timeout_us;

	if (!g_atomic_int_get(&hb->started))
		return hb->inner->ops->wait_writable(hb->inner, timeout_us);
	g_mutex_lock(&hb->lock);
	while (!has_room(hb, hb->refused) && !is_over(hb, NULL) &&
	       g_cond_wait_until(&hb->room, &hb->lock, until))
		;
	g_mutex_unlock(&hb->lock);
}

static void heartbeat_shutdown(FerryChannel *channel)
{
	FerryHeartbeat *hb = (FerryHeartbeat *)channel;

	g_mutex_lock(&hb->lock);
	hb->shut = TRUE;
	g_cond_broadcast(&hb->work);
	g_cond_broadcast(&hb->room);
	g_mutex_unlock(&hb->lock);
	ferry_channel_shutdown(hb->inner);
}

static gboolean heartbeat_finish(FerryChannel *channel, GError **error)
{
	FerryHeartbeat *hb = (FerryHeartbeat *)channel;

	ferry_heartbeat_stop(hb, DRAIN_US);
	return hb->inner->ops->finish(hb->inner, error);
}

static void heartbeat_close(FerryChannel *channel)
{
	FerryHeartbeat *hb = (FerryHeartbeat *)channel;

	ferry_heartbeat_stop(hb, DRAIN_US);
	ferry_channel_close(hb->inner);
	g_byte_array_unref(hb->filling);
	g_byte_array_unref(hb->writing);
	g_clear_error(&hb->reason);
	g_clear_error(&hb->write_error);
	g_cond_clear(&hb->room);
	g_cond_clear(&hb->work);
	g_mutex_clear(&hb->lock);
	g_free(hb);
}

/* ---- its owner's ---- */

FerryHeartbeat *ferry_heartbeat_new(FerryChannel *inner, FerryHeartbeatWay way)
{
	FerryHeartbeat *hb = g_new0(FerryHeartbeat, 1);

	hb->ops = (FerryChannelOps){
		.name = inner->ops->name,
		.read = heartbeat_read,
		.write = heartbeat_write,
		.try_write = heartbeat_try_write,
		.wait_writable = heartbeat_wait_writable,
		.shutdown = heartbeat_shutdown,
		.finish = heartbeat_finish,
		.carrier = ferry_page_carrier_new,
		.close = heartbeat_close,
	};
	hb->base = (FerryChannel){ .ops = &hb->ops, .duplex = inner->duplex };
	hb->inner = inner;
	hb->way = way;
	hb->filling = g_byte_array_new();
	hb->writing = g_byte_array_new();
	g_mutex_init(&hb->lock);
	g_cond_init(&hb->work);
	g_cond_init(&hb->room);
	return hb;
}

FerryChannel *ferry_heartbeat_channel(FerryHeartbeat *heartbeat)
{
	return &heartbeat->base;
}

void ferry_heartbeat_start(FerryHeartbeat *hb)
{
	if (hb->thread)
		return;
	g_mutex_lock(&hb->lock);
	hb->draining = hb->ended = FALSE;
	hb->counting_since = g_get_monotonic_time();
	/* The first one goes at once: the other side starts by it. */
	hb->spoke = 0;
	g_mutex_unlock(&hb->lock);
	g_atomic_int_set(&hb->started, 1);
	hb->thread = g_thread_new("ferry-heartbeat", beat, hb);
}

void ferry_heartbeat_stop(FerryHeartbeat *hb, gint64 timeout_us)
{
	gboolean cut;

	if (!hb->thread)
		return;
	g_mutex_lock(&hb->lock);
	if (!hb->draining)
		hb->drain_until = g_get_monotonic_time() + timeout_us;
	hb->draining = TRUE;
	g_cond_broadcast(&hb->work);
	g_mutex_unlock(&hb->lock);
	g_thread_join(g_steal_pointer(&hb->thread));
	g_mutex_lock(&hb->lock);
	/* Half a frame would spoil all that follows. */
	cut = queued(hb) > 0 && !hb->shut;
	if (cut && !hb->reason)
		hb->reason = hb->write_error ? g_error_copy(hb->write_error)
					     : g_error_new(FERRY_ERROR, FERRY_ERROR_LINK,
							   "the peer took nothing for %.1f s",
							   timeout_us / 1e6);
	g_mutex_unlock(&hb->lock);
	g_atomic_int_set(&hb->started, 0);
	if (cut)
		ferry_channel_shutdown(hb->inner);
}

gboolean ferry_heartbeat_say(FerryHeartbeat *hb, guint16 type, const void *payload, size_t len)
{
	gboolean said = FALSE;

	if (!g_atomic_int_get(&hb->started))
		return FALSE;
	g_mutex_lock(&hb->lock);
	if (!hb->draining && !is_over(hb, NULL) && has_room(hb, len)) {
		put_record(hb, type, 0, payload, len);
		g_cond_signal(&hb->work);
		said = TRUE;
	}
	g_mutex_unlock(&hb->lock);
	return said;
}

void ferry_heartbeat_give_up(FerryHeartbeat *hb, GError *reason)
{
	gboolean ended;

	g_mutex_lock(&hb->lock);
	end(hb, reason, g_get_monotonic_time() + DRAIN_US);
	ended = hb->ended;
	g_mutex_unlock(&hb->lock);
	if (ended || !g_atomic_int_get(&hb->started))
		ferry_channel_shutdown(hb->inner);
}
