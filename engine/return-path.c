/* SPDX-License-Identifier: BSD-2-Clause */
#include "return-path.h"

#include "postcopy-wire.h"

struct FerryReturnPath {
	FerryChannel *channel;
	GThread *thread;
	FerryStreamReader *reader; /* the thread's */
	GCancellable *end;         /* cancelled when @lost is set */
	gint lost;                 /* atomic: no READY will come */

	GMutex hear_lock; /* guards these; held while the carrier hears, or a request is put */
	FerryCarrier *carrier;
	gboolean had_carrier;
	FerryPageRequests *requests;

	GMutex lock; /* guards the rest */
	GCond changed;
	gboolean have[FERRY_REPLY__N];
	FerryReply replies[FERRY_REPLY__N];
	char *refusal; /* the last ERROR record's text */
	GError *error; /* why no message will come any more */
	gboolean cancelled;
	const FerryRam *bitmap_ram; /* of the bitmap that is expected; NULL: none */
	guint bitmap_block;
	FerryBitmap *bitmap;
};

static const char *const kind_names[] = {
	[FERRY_REPLY_PONG] = "PONG",
	[FERRY_REPLY_HELLO] = "HELLO",
	[FERRY_REPLY_ROUND_DONE] = "ROUND_DONE",
	[FERRY_REPLY_READY] = "HANDOVER_READY",
	[FERRY_REPLY_RUNNING] = "HANDOVER_RUNNING",
	[FERRY_REPLY_STATE] = "HANDOVER_STATE",
	[FERRY_REPLY_RECV_BITMAP] = "RECV_BITMAP",
	[FERRY_REPLY_RESUME_ACK] = "RESUME_ACK",
	[FERRY_REPLY_HAVE_ALL] = "POSTCOPY_HAVE_ALL",
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
	case FERRY_RECORD_POSTCOPY_HAVE_ALL:
		kind = FERRY_REPLY_HAVE_ALL;
		ok = ferry_record_get_empty(payload, record.length, kind_names[kind], error);
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

/* ---- postcopy's messages ---- */

static gboolean ask_for_pages(FerryReturnPath *path, guint16 type, const guint8 *data, size_t len,
			      GError **error)
{
	gboolean ok = TRUE;

	g_mutex_lock(&path->hear_lock);
	/* They may have been taken away since the length was checked: nobody needs them then. */
	if (path->requests)
		ok = ferry_page_requests_put(path->requests, type == FERRY_RETURN_REQ_PAGES_ID,
					     data, len, error);
	g_mutex_unlock(&path->hear_lock);
	return ok;
}

/* Exactly the block that was asked for, so that nobody can make us hold memory for another. */
static gboolean find_expected(FerryReturnPath *path, const guint8 *data, size_t len,
			      const FerryRam **ram, guint *block, GError **error)
{
	guint expected;

	g_mutex_lock(&path->lock);
	*ram = path->bitmap_ram;
	expected = path->bitmap_block;
	g_mutex_unlock(&path->lock);
	if (*ram && !ferry_postcopy_get_received(*ram, data, len, block, error))
		return FALSE;
	if (*ram && *block == expected)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "return path: RECV_BITMAP of %" G_GSIZE_FORMAT " bytes was not asked for", len);
	return FALSE;
}

static gboolean take_bitmap(FerryReturnPath *path, const guint8 *data, size_t len, GError **error)
{
	g_autofree guint64 *words = NULL;
	FerryReply reply = { 0 };
	const FerryRam *ram;
	guint block;

	if (!find_expected(path, data, len, &ram, &block, error))
		return FALSE;
	words = ferry_postcopy_read_received(ram, block, path->reader, error);
	if (!words)
		return FALSE;
	g_mutex_lock(&path->lock);
	memcpy(ferry_bitmap_block(path->bitmap, block), words,
	       (ferry_ram_block_pages(&ram->blocks[block]) + 63) / 64 * sizeof(*words));
	path->bitmap_ram = NULL;
	g_mutex_unlock(&path->lock);
	deliver(path, FERRY_REPLY_RECV_BITMAP, &reply);
	return TRUE;
}

static gboolean take_resume_ack(FerryReturnPath *path, const guint8 *data, size_t len,
				GError **error)
{
	FerryReply reply = { 0 };

	if (!ferry_postcopy_get_resume_ack(data, len, error))
		return FALSE;
	deliver(path, FERRY_REPLY_RESUME_ACK, &reply);
	return TRUE;
}

/* ---- any message ---- */

static gboolean takes_requests(FerryReturnPath *path)
{
	gboolean takes;

	g_mutex_lock(&path->hear_lock);
	takes = path->requests != NULL;
	g_mutex_unlock(&path->hear_lock);
	return takes;
}

/* Whether a message of @type may come at all; its length may still be wrong. */
static gboolean is_expected(FerryReturnPath *path, guint16 type)
{
	switch (type) {
	case FERRY_RETURN_SHUT:
	case FERRY_RETURN_PONG:
	case FERRY_RETURN_RECV_BITMAP:
	case FERRY_RETURN_RESUME_ACK:
	case FERRY_RETURN_FERRY:
		return TRUE;
	case FERRY_RETURN_REQ_PAGES_ID:
	case FERRY_RETURN_REQ_PAGES:
		return takes_requests(path);
	default:
		return FALSE;
	}
}

/* The length a message of @type must have: exactly, or at least and at most where it has its own
 * rule. */
static gboolean right_length(guint16 type, guint16 len)
{
	switch (type) {
	case FERRY_RETURN_SHUT:
	case FERRY_RETURN_PONG:
	case FERRY_RETURN_RESUME_ACK:
		return len == 4;
	case FERRY_RETURN_FERRY:
		return len >= FERRY_RECORD_HEADER && len <= FERRY_RETURN_DATA_MAX;
	default:
		return len <= FERRY_RETURN_DATA_MAX;
	}
}

static gboolean check_head(FerryReturnPath *path, guint16 type, guint16 len, GError **error)
{
	if (!ferry_stream_reader_check(path->reader, error))
		return FALSE;
	if (!is_expected(path, type)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "return path: message type 0x%04x (length %u) is not expected here",
			    type, len);
		return FALSE;
	}
	if (right_length(type, len))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "return path: message type 0x%04x has the wrong length %u", type, len);
	return FALSE;
}

static void deliver_value(FerryReturnPath *path, FerryReplyKind kind, guint32 value)
{
	FerryReply reply = { 0 };

	if (kind == FERRY_REPLY_SHUT)
		reply.shut = value;
	else
		reply.pong = value;
	deliver(path, kind, &reply);
}

/* Reads and handles one message. */
static gboolean read_message(FerryReturnPath *path, GError **error)
{
	guint8 data[FERRY_RETURN_DATA_MAX];
	guint16 type = ferry_stream_reader_be16(path->reader);
	guint16 len = ferry_stream_reader_be16(path->reader);

	if (!check_head(path, type, len, error))
		return FALSE;
	ferry_stream_reader_bytes(path->reader, data, len);
	if (!ferry_stream_reader_check(path->reader, error))
		return FALSE;
	switch (type) {
	case FERRY_RETURN_SHUT:
		deliver_value(path, FERRY_REPLY_SHUT, ferry_load_be32(data));
		lose(path);
		return TRUE;
	case FERRY_RETURN_PONG:
		deliver_value(path, FERRY_REPLY_PONG, ferry_load_be32(data));
		return TRUE;
	case FERRY_RETURN_REQ_PAGES_ID:
	case FERRY_RETURN_REQ_PAGES:
		return ask_for_pages(path, type, data, len, error);
	case FERRY_RETURN_RECV_BITMAP:
		return take_bitmap(path, data, len, error);
	case FERRY_RETURN_RESUME_ACK:
		return take_resume_ack(path, data, len, error);
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

void ferry_return_path_set_requests(FerryReturnPath *path, FerryPageRequests *requests)
{
	g_mutex_lock(&path->hear_lock);
	path->requests = requests;
	g_mutex_unlock(&path->hear_lock);
}

void ferry_return_path_expect_bitmap(FerryReturnPath *path, const FerryRam *ram, guint block,
				     FerryBitmap *received)
{
	g_mutex_lock(&path->lock);
	path->bitmap_ram = ram;
	path->bitmap_block = block;
	path->bitmap = received;
	path->have[FERRY_REPLY_RECV_BITMAP] = FALSE;
	g_mutex_unlock(&path->lock);
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
