/* SPDX-License-Identifier: BSD-2-Clause */
#include "tape.h"

#include <ferry/carrier.h>
#include <string.h>

/* ---- playing ---- */

static struct {
	const guint8 *data;
	size_t len;
} loaded; /* a transport has no user pointer; one tape at a time */

typedef struct {
	FerryChannel channel;
	const guint8 *data;
	size_t left;
} Tape;

static gssize tape_read(FerryChannel *channel, const struct iovec *iov, int n, GError **error)
{
	Tape *tape = (Tape *)channel;
	gssize done = 0;

	for (int i = 0; i < n && tape->left; i++) {
		size_t len = MIN(iov[i].iov_len, tape->left);

		memcpy(iov[i].iov_base, tape->data, len);
		tape->data += len;
		tape->left -= len;
		done += len;
	}
	return done;
}

static gssize tape_write(FerryChannel *channel, const struct iovec *iov, int n, GError **error)
{
	gssize done = 0;

	for (int i = 0; i < n; i++)
		done += iov[i].iov_len;
	return done;
}

static void tape_wait(FerryChannel *channel, gint64 timeout_us)
{
}

static void tape_shutdown(FerryChannel *channel)
{
}

static gboolean tape_finish(FerryChannel *channel, GError **error)
{
	return TRUE;
}

static FerryCarrier *tape_carrier(FerryChannel *channel, FerryPageFormat format)
{
	return ferry_page_carrier_new(channel, format);
}

static void tape_close(FerryChannel *channel)
{
	g_free(channel);
}

static const FerryChannelOps tape_ops = {
	.name = "tape",
	.read = tape_read,
	.write = tape_write,
	.try_write = tape_write,
	.wait_writable = tape_wait,
	.shutdown = tape_shutdown,
	.finish = tape_finish,
	.carrier = tape_carrier,
	.close = tape_close,
};

typedef struct {
	FerryListener listener;
	gboolean played;
} TapeListener;

static FerryChannel *tape_accept(FerryListener *listener, GCancellable *cancellable, GError **error)
{
	TapeListener *self = (TapeListener *)listener;
	Tape *tape;

	if (self->played) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE, "the tape was played");
		return NULL;
	}
	self->played = TRUE;
	tape = g_new0(Tape, 1);
	tape->channel.ops = &tape_ops;
	tape->channel.duplex = TRUE;
	tape->data = loaded.data;
	tape->left = loaded.len;
	return &tape->channel;
}

static void tape_listener_close(FerryListener *listener)
{
	g_free(listener->uri);
	g_free(listener);
}

static const FerryListenerOps tape_listener_ops = { tape_accept, tape_listener_close };

static FerryListener *tape_listen(const char *uri, GCancellable *cancellable, GError **error)
{
	TapeListener *self = g_new0(TapeListener, 1);

	self->listener.ops = &tape_listener_ops;
	self->listener.uri = g_strdup(uri);
	return &self->listener;
}

void tape_load(const guint8 *data, size_t len)
{
	loaded.data = data;
	loaded.len = len;
}

const FerryTransport *const *tape_transports(const guint8 *data, size_t len)
{
	static const FerryTransport transport = { .scheme = "tape", .listen = tape_listen };
	static const FerryTransport *const table[] = { &transport, NULL };

	tape_load(data, len);
	return table;
}

/* ---- recording ---- */

static GByteArray *record_into;
static gssize spoil = -1;

void recorder_spoil(gssize offset)
{
	spoil = offset;
}

static FerryListener *record_listen(const char *uri, GCancellable *cancellable, GError **error)
{
	if (spoil >= 0)
		record_into->data[spoil] ^= 1;
	tape_load(record_into->data, record_into->len);
	return tape_listen(uri, cancellable, error);
}

typedef struct {
	FerryChannel channel;
	FerryChannel *inner;
} Recorder;

static FerryChannel *inner_of(FerryChannel *channel)
{
	return ((Recorder *)channel)->inner;
}

static gssize keep(const struct iovec *iov, int n, gssize done)
{
	gssize left = done;

	for (int i = 0; i < n && left > 0; i++) {
		gssize len = MIN((gssize)iov[i].iov_len, left);

		g_byte_array_append(record_into, iov[i].iov_base, len);
		left -= len;
	}
	return done;
}

static gssize record_read(FerryChannel *channel, const struct iovec *iov, int n, GError **error)
{
	return inner_of(channel)->ops->read(inner_of(channel), iov, n, error);
}

static gssize record_write(FerryChannel *channel, const struct iovec *iov, int n, GError **error)
{
	return keep(iov, n, inner_of(channel)->ops->write(inner_of(channel), iov, n, error));
}

static gssize record_try_write(FerryChannel *channel, const struct iovec *iov, int n,
			       GError **error)
{
	return keep(iov, n, inner_of(channel)->ops->try_write(inner_of(channel), iov, n, error));
}

static void record_wait(FerryChannel *channel, gint64 timeout_us)
{
	inner_of(channel)->ops->wait_writable(inner_of(channel), timeout_us);
}

static void record_shutdown(FerryChannel *channel)
{
	ferry_channel_shutdown(inner_of(channel));
}

static gboolean record_finish(FerryChannel *channel, GError **error)
{
	return inner_of(channel)->ops->finish(inner_of(channel), error);
}

static FerryCarrier *record_carrier(FerryChannel *channel, FerryPageFormat format)
{
	return ferry_page_carrier_new(channel, format);
}

static void record_close(FerryChannel *channel)
{
	ferry_channel_close(inner_of(channel));
	g_free(channel);
}

static const FerryChannelOps recorder_ops = {
	.name = "record",
	.read = record_read,
	.write = record_write,
	.try_write = record_try_write,
	.wait_writable = record_wait,
	.shutdown = record_shutdown,
	.finish = record_finish,
	.carrier = record_carrier,
	.close = record_close,
};

static FerryChannel *record_connect(const char *uri, guint timeout_ms, GCancellable *cancellable,
				    GError **error)
{
	const char *inner_uri = uri + strlen("record:");
	const FerryTransport *transport = ferry_transport_find(ferry_transports(), inner_uri,
							       error);
	FerryChannel *inner;
	Recorder *self;

	inner = transport ? transport->connect(inner_uri, timeout_ms, cancellable, error) : NULL;
	if (!inner)
		return NULL;
	g_byte_array_set_size(record_into, 0);
	self = g_new0(Recorder, 1);
	self->channel.ops = &recorder_ops;
	self->channel.duplex = inner->duplex;
	self->inner = inner;
	return &self->channel;
}

const FerryTransport *const *recorder_transports(GByteArray *kept)
{
	static const FerryTransport transport = { .scheme = "record",
						  .stores = TRUE,
						  .connect = record_connect,
						  .listen = record_listen };
	static const FerryTransport *const table[] = { &transport, NULL };

	record_into = kept;
	return table;
}
