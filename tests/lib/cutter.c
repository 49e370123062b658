/* SPDX-License-Identifier: BSD-2-Clause */
#include "cutter.h"

#include <ferry/carrier.h>

static Cutter *current; /* a transport has no user pointer; one cutter at a time */

typedef struct {
	FerryChannel channel;
	FerryChannel *inner;
	Cutter *cutter;
	gboolean armed;
	guint64 at;
} CutChannel;

static CutChannel *cut_channel(FerryChannel *channel)
{
	return (CutChannel *)channel;
}

static void cut(CutChannel *self)
{
	if (!self->armed)
		return;
	self->armed = FALSE;
	ferry_channel_shutdown(self->inner);
	g_atomic_int_inc(&self->cutter->cuts);
}

/* Shortens @iov to what may still pass; 0 when nothing may. */
static int clip(const struct iovec *iov, int n, struct iovec *out, guint64 left)
{
	int kept = 0;

	for (; kept < n && left; kept++) {
		out[kept] = iov[kept];
		out[kept].iov_len = MIN(out[kept].iov_len, left);
		left -= out[kept].iov_len;
	}
	return kept;
}

static gssize pass(CutChannel *self, CutWhere where, guint64 *count, const struct iovec *iov, int n,
		   gssize (*op)(FerryChannel *, const struct iovec *, int, GError **),
		   GError **error)
{
	struct iovec some[1024];
	gssize done;

	if (self->armed && self->cutter->where == where) {
		guint64 left = self->at - MIN(*count, self->at);

		n = clip(iov, MIN(n, 1024), some, left);
		iov = some;
		if (!n)
			cut(self);
		if (!n) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK, "the link was cut");
			return -1;
		}
	}
	done = op(self->inner, iov, n, error);
	if (done > 0)
		*count += done;
	if (self->armed && self->cutter->where == where && *count >= self->at)
		cut(self);
	return done;
}

static gssize cut_read(FerryChannel *channel, const struct iovec *iov, int n, GError **error)
{
	CutChannel *self = cut_channel(channel);

	return pass(self, CUT_BACK, &self->cutter->back, iov, n, self->inner->ops->read, error);
}

static gssize cut_write(FerryChannel *channel, const struct iovec *iov, int n, GError **error)
{
	CutChannel *self = cut_channel(channel);

	return pass(self, CUT_FORTH, &self->cutter->forth, iov, n, self->inner->ops->write, error);
}

static gssize cut_try_write(FerryChannel *channel, const struct iovec *iov, int n, GError **error)
{
	CutChannel *self = cut_channel(channel);

	return pass(self, CUT_FORTH, &self->cutter->forth, iov, n, self->inner->ops->try_write,
		    error);
}

static void cut_wait(FerryChannel *channel, gint64 timeout_us)
{
	cut_channel(channel)->inner->ops->wait_writable(cut_channel(channel)->inner, timeout_us);
}

static void cut_shutdown(FerryChannel *channel)
{
	ferry_channel_shutdown(cut_channel(channel)->inner);
}

static gboolean cut_finish(FerryChannel *channel, GError **error)
{
	CutChannel *self = cut_channel(channel);
	gboolean ok = self->inner->ops->finish(self->inner, error);

	if (self->cutter->finished)
		self->cutter->finished(self->cutter->user);
	return ok;
}

static FerryCarrier *cut_carrier(FerryChannel *channel, FerryPageFormat format)
{
	return ferry_page_carrier_new(channel, format);
}

static void cut_close(FerryChannel *channel)
{
	ferry_channel_close(cut_channel(channel)->inner);
	g_free(channel);
}

static const FerryChannelOps ops = {
	.name = "cut",
	.read = cut_read,
	.write = cut_write,
	.try_write = cut_try_write,
	.wait_writable = cut_wait,
	.shutdown = cut_shutdown,
	.finish = cut_finish,
	.carrier = cut_carrier,
	.close = cut_close,
};

static const FerryTransport *under(const char *uri, GError **error)
{
	return ferry_transport_find(current->under ? current->under : ferry_transports(),
				    uri + strlen("cut:"), error);
}

static FerryFabric *cut_fabric(const char *uri)
{
	const FerryTransport *transport = under(uri, NULL);

	return transport && transport->fabric ? transport->fabric(uri + strlen("cut:")) : NULL;
}

static FerryChannel *cut_connect(const char *uri, guint timeout_ms, GCancellable *cancellable,
				 GError **error)
{
	const FerryTransport *transport = under(uri, error);
	FerryChannel *inner;
	CutChannel *self;

	if (!transport)
		return NULL;
	inner = transport->connect(uri + strlen("cut:"), timeout_ms, cancellable, error);
	if (!inner)
		return NULL;
	self = g_new0(CutChannel, 1);
	self->channel.ops = &ops;
	self->channel.duplex = inner->duplex;
	self->inner = inner;
	self->cutter = current;
	self->armed = current->where != CUT_NOTHING &&
		      !(current->whole_from &&
			g_atomic_int_get(&current->connections) >= current->whole_from);
	self->at = g_atomic_int_get(&current->connections) ? current->later : current->at;
	current->forth = current->back = 0;
	g_atomic_int_inc(&current->connections);
	return &self->channel;
}

const FerryTransport *const *cutter_transports(Cutter *cutter)
{
	static const FerryTransport transport = {
		.scheme = "cut", .names_place = TRUE, .connect = cut_connect, .fabric = cut_fabric
	};
	static const FerryTransport *const table[] = { &transport, NULL };

	current = cutter;
	return table;
}
