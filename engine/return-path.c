/* SPDX-License-Identifier: BSD-2-Clause */
#include "return-path.h"

struct FerryReturnPath {
	FerryChannel *channel;
	GThread *thread;
	FerryStreamReader *reader; /* the thread's */
	GCancellable *end;         /* cancelled when @lost is set */
	gint lost;                 /* atomic: no READY will come */

	GMutex hear_lock; /* guards these two; held while the carrier hears */
	FerryCarrier *carrier;
	gboolean had_carrier;

	GMutex lock; /* guards the rest */
	GCond changed;
	gboolean have[FERRY_REPLY__N];
	FerryReply replies[FERRY_REPLY__N];
	char *refusal; /* the last ERROR record's text */
	GError *error; /* why no message will come any more */
	gboolean cancelled;
};

static const char *const kind_names[] = {
	[FERRY_REPLY_PONG] = "PONG",
	[FERRY_REPLY_HELLO] = "HELLO",
	[FERRY_REPLY_ROUND_DONE] = "ROUND_DONE",
	[FERRY_REPLY_READY] = "HANDOVER_READY",
	[FERRY_REPLY_RUNNING] = "HANDOVER_RUNNING",
	[FERRY_REPLY_STATE] = "HANDOVER_STATE",
	[FERRY_REPLY_SHUT] = "SHUT",
};
G_STATIC_ASSERT(G_N_ELEMENTS(kind_names) == FERRY_REPLY__N);

static gssize read_channel(gpointer user, const struct iovec *iov, int n, GError **error)
{
	FerryChannel *channel = user;

	return channel->ops->read(channel, iov, n, error);
}

/* No READY will come any more; @lock is not held, since others act on it at once. */
static void lose(FerryReturnPath *path)
{
	g_atomic_int_set(&path->lost, 1);
	g_cancellable_cancel(path->end);
}

static void deliver(FerryReturnPath *path, FerryReplyKind kind, const FerryReply *reply)
{
	g_mutex_lock(&path->lock);
	path->replies[kind] = *reply;
	path->have[kind] = TRUE;
	g_cond_broadcast(&path->changed);
	g_mutex_unlock(&path->lock);
}

static void remember_refusal(FerryReturnPath *path, const guint8 *payload, size_t len)
{
	g_mutex_lock(&path->lock);
	g_free(path->refusal);
	path->refusal = ferry_record_get_error(payload, len);
	g_cond_broadcast(&path->changed);
	g_mutex_unlock(&path->lock);
	lose(path);
}

/* A record of the carrier beside the channel. One for a carrier that was given up was on its way
 * before the destination knew. */
static gboolean hear(FerryReturnPath *path, const FerryRecord *record, const guint8 *payload,
		     GError **error)
{
	gboolean ok = TRUE;

	g_mutex_lock(&path->hear_lock);
	if (path->carrier && path->carrier->ops->hear) {
		ok = path->carrier->ops->hear(path->carrier, record->type, payload, record->length,
					      error);
	} else if (!path->had_carrier) {
		g_set_error(
			error, FERRY_ERROR, FERRY_ERROR_PEER,
			"return path: record 0x%04x of %u bytes is for a carrier that was never "
			"offered",
			record->type, record->length);
		ok = FALSE;
	}
	g_mutex_unlock(&path->hear_lock);
	return ok;
}

static gboolean handle_record(FerryReturnPath *path, const guint8 *data, size_t len, GError **error)
{
	const guint8 *payload = data + FERRY_RECORD_HEADER;
	FerryReply reply = { 0 };
	FerryReplyKind kind;
	FerryRecord record;
	gboolean ok;

	if (!ferry_record_get_header(data, len, &record, error))
		return FALSE;
	if (FERRY_RECORD_IS_FABRIC(record.type))
		return hear(path, &record, payload, error);
	switch (record.type) {
	case FERRY_RECORD_HEARTBEAT:
		return TRUE;
	case FERRY_RECORD_ERROR:
		remember_refusal(path, payload, record.length);
		return TRUE;
	case FERRY_RECORD_HELLO:
		kind = FERRY_REPLY_HELLO;
		ok = ferry_record_get_hello(payload, record.length, &reply.hello, error);
		break;
	case FERRY_RECORD_ROUND_DONE:
		kind = FERRY_REPLY_ROUND_DONE;
		ok = ferry_record_get_round(payload, record.length, &reply.round, error);
		break;
	case FERRY_RECORD_HANDOVER_READY:
		kind = FERRY_REPLY_READY;
		ok = ferry_record_get_digest(payload, record.length, &reply.ready, error);
		break;
	case FERRY_RECORD_HANDOVER_RUNNING:
		kind = FERRY_REPLY_RUNNING;
		ok = ferry_record_get_running(payload, record.length, &reply.running, error);
		break;
	case FERRY_RECORD_HANDOVER_STATE:
		kind = FERRY_REPLY_STATE;
		ok = ferry_record_get_answer(payload, record.length, &reply.state, error);
		break;
	default:
		if (record.flags & FERRY_RECORD_MAY_SKIP)
			return TRUE;
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "return path: record 0x%04x of %u bytes is not known here", record.type,
			    record.length);
		return FALSE;
	}
	if (ok)
		deliver(path, kind, &reply);
	return ok;
}

/* The length a message of @type must have: exactly, or -1 where it has its own rule. */
static gboolean check_length(guint16 type, guint16 len, GError **error)
{
	switch (type) {
	case FERRY_RETURN_SHUT:
	case FERRY_RETURN_PONG:
		if (len == 4)
			return TRUE;
		break;
	case FERRY_RETURN_FERRY:
		if (len >= FERRY_RECORD_HEADER && len <= FERRY_RETURN_DATA_MAX)
			return TRUE;
		break;
	default:
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "return path: message type 0x%04x (length %u) is not expected here",
			    type, len);
		return FALSE;
	}
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "return path: message type 0x%04x has the wrong length %u", type, len);
	return FALSE;
}

/* Reads and handles one message. */
static gboolean read_message(FerryReturnPath *path, GError **error)
{
	guint8 data[FERRY_RETURN_DATA_MAX];
	guint16 type = ferry_stream_reader_be16(path->reader);
	guint16 len = ferry_stream_reader_be16(path->reader);
	FerryReply reply = { 0 };

	if (!ferry_stream_reader_check(path->reader, error) || !check_length(type, len, error))
		return FALSE;
	ferry_stream_reader_bytes(path->reader, data, len);
	if (!ferry_stream_reader_check(path->reader, error))
		return FALSE;
	switch (type) {
	case FERRY_RETURN_SHUT:
		reply.shut = ferry_load_be32(data);
		deliver(path, FERRY_REPLY_SHUT, &reply);
		lose(path);
		return TRUE;
	case FERRY_RETURN_PONG:
		reply.pong = ferry_load_be32(data);
		deliver(path, FERRY_REPLY_PONG, &reply);
		return TRUE;
	default:
		return handle_record(path, data, len, error);
	}
}

static gpointer return_path_thread(gpointer data)
{
	FerryReturnPath *path = data;
	GError *error = NULL;

	while (ferry_stream_reader_peek(path->reader) >= 0 && read_message(path, &error))
		;
	if (!error && ferry_stream_reader_check(path->reader, &error))
		g_set_error(&error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "the destination closed the connection");
	ferry_return_path_fail(path, error);
	return NULL;
}

FerryReturnPath *ferry_return_path_start(FerryChannel *channel)
{
	FerryReturnPath *path = g_new0(FerryReturnPath, 1);

	path->channel = channel;
	path->reader = ferry_stream_reader_new(read_channel, channel);
	g_mutex_init(&path->lock);
	g_cond_init(&path->changed);
	g_mutex_init(&path->hear_lock);
	path->end = g_cancellable_new();
	path->thread = g_thread_new("ferry-return", return_path_thread, path);
	return path;
}

void ferry_return_path_stop(FerryReturnPath *path)
{
	if (!path)
		return;
	g_thread_join(path->thread);
	ferry_stream_reader_free(path->reader);
	g_clear_error(&path->error);
	g_free(path->refusal);
	g_object_unref(path->end);
	g_mutex_clear(&path->hear_lock);
	g_cond_clear(&path->changed);
	g_mutex_clear(&path->lock);
	g_free(path);
}

/* Why a wait for @kind cannot succeed any more; the lock is held. */
static gboolean failed_locked(FerryReturnPath *path, FerryReplyKind kind, GError **error)
{
	gboolean shut = path->have[FERRY_REPLY_SHUT];
	guint32 value = path->replies[FERRY_REPLY_SHUT].shut;

	if (path->cancelled)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED, "cancelled");
	else if (path->refusal)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER, "the destination refused: %s",
			    path->refusal);
	else if (shut && value)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "the destination ended the migration with error %u: see its log",
			    value);
	else if (path->error)
		return g_propagate_error(error, g_error_copy(path->error)), TRUE;
	else if (shut && kind != FERRY_REPLY_SHUT)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "the destination ended the return path before %s", kind_names[kind]);
	else
		return FALSE;
	return TRUE;
}

gboolean ferry_return_path_wait(FerryReturnPath *path, FerryReplyKind kind, gint64 timeout_us,
				FerryReply *reply, GError **error)
{
	gint64 deadline = g_get_monotonic_time() + timeout_us;
	gboolean ok = FALSE;

	g_mutex_lock(&path->lock);
	for (;;) {
		/* What has come counts, even if the link died right behind it. */
		if (path->have[kind] && !path->cancelled &&
		    !(kind == FERRY_REPLY_SHUT && path->refusal)) {
			*reply = path->replies[kind];
			path->have[kind] = FALSE;
			ok = TRUE;
			break;
		}
		if (failed_locked(path, kind, error))
			break;
		if (!g_cond_wait_until(&path->changed, &path->lock, deadline)) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
				    "no %s from the destination within %.1f s", kind_names[kind],
				    timeout_us / 1e6);
			break;
		}
	}
	g_mutex_unlock(&path->lock);
	return ok;
}

gboolean ferry_return_path_take(FerryReturnPath *path, FerryReplyKind kind, FerryReply *reply)
{
	gboolean have;

	g_mutex_lock(&path->lock);
	have = path->have[kind];
	if (have)
		*reply = path->replies[kind];
	path->have[kind] = FALSE;
	g_mutex_unlock(&path->lock);
	return have;
}

void ferry_return_path_cancel(FerryReturnPath *path)
{
	g_mutex_lock(&path->lock);
	path->cancelled = TRUE;
	g_cond_broadcast(&path->changed);
	g_mutex_unlock(&path->lock);
	lose(path);
}

void ferry_return_path_fail(FerryReturnPath *path, GError *reason)
{
	g_mutex_lock(&path->lock);
	if (path->error)
		g_error_free(reason);
	else
		path->error = reason;
	g_cond_broadcast(&path->changed);
	g_mutex_unlock(&path->lock);
	lose(path);
}

void ferry_return_path_set_carrier(FerryReturnPath *path, FerryCarrier *carrier)
{
	g_mutex_lock(&path->hear_lock);
	path->carrier = carrier;
	path->had_carrier = path->had_carrier || carrier;
	g_mutex_unlock(&path->hear_lock);
}

GCancellable *ferry_return_path_end(FerryReturnPath *path)
{
	return path->end;
}

gboolean ferry_return_path_is_lost(FerryReturnPath *path)
{
	return g_atomic_int_get(&path->lost);
}

gboolean ferry_return_path_failed(FerryReturnPath *path, GError **error)
{
	gboolean failed;

	g_mutex_lock(&path->lock);
	failed = failed_locked(path, FERRY_REPLY_READY, error);
	g_mutex_unlock(&path->lock);
	return failed;
}
