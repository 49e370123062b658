/* SPDX-License-Identifier: BSD-2-Clause */
#include "fake-fabric.h"

#include <poll.h>
#include <string.h>

#define OFFER 0x1f0
#define ANSWER 0x1f1
#define REFUSE 0x1f2

/* What was put: a copy of a run's pages, or with @data NULL the mark of a fence. */
typedef struct {
	FerryRun run;
	guint8 *data;
	guint32 fence;
} Parcel;

typedef struct {
	FerryCarrier base;
	const FerryFabricSession *session;
	const FerryRam *ram;
	FerryCarrierStats stats;
	gboolean answered, refused; /* the source's */
	gboolean dead;
	GError *error;
	GThread *undertaker; /* calls died() */
	/* from begin_postcopy() on, the destination's */
	gboolean switched;
	const FerryRam *target;
	FerryArrivals arrivals;
	GQueue fetched; /* of Parcel: landed by progress() */
} FakeCarrier;

/* Runs that may be fetched at a time. */
#define FETCHES 8u

/* A transport has no user pointer; one fabric at a time. */
static FakeFabric *current;
static FakeFabric nobodys;
static GMutex lock; /* guards the rest, and the carriers */
static GCond changed;
static GQueue wire = G_QUEUE_INIT;
static FakeCarrier *source, *destination;

static FakeCarrier *fake(FerryCarrier *carrier)
{
	return (FakeCarrier *)carrier;
}

static void parcel_free(gpointer data)
{
	g_free(((Parcel *)data)->data);
	g_free(data);
}

/* ---- both ---- */

static gpointer bury(gpointer data)
{
	FakeCarrier *self = data;

	self->session->died(self->session->user);
	return NULL;
}

/* The lock is held. */
static void die(FakeCarrier *self, const char *why, gboolean tell)
{
	if (self->dead)
		return;
	self->dead = TRUE;
	self->error = g_error_new(FERRY_ERROR, FERRY_ERROR_LINK, "fake: %s", why);
	if (tell)
		self->undertaker = g_thread_new("undertaker", bury, self);
	g_cond_broadcast(&changed);
}

static GError *take_error(FerryCarrier *carrier)
{
	GError *error;

	g_mutex_lock(&lock);
	error = g_steal_pointer(&fake(carrier)->error);
	g_mutex_unlock(&lock);
	return error;
}

static void get_stats(FerryCarrier *carrier, FerryCarrierStats *stats)
{
	g_mutex_lock(&lock);
	*stats = fake(carrier)->stats;
	g_mutex_unlock(&lock);
}

static GVariant *describe(FerryCarrier *carrier)
{
	GVariantDict dict;

	g_variant_dict_init(&dict, NULL);
	g_variant_dict_insert(&dict, "device", "s", "fake0");
	g_mutex_lock(&lock);
	g_variant_dict_insert(&dict, "pages", "t", fake(carrier)->stats.pages);
	g_mutex_unlock(&lock);
	return g_variant_dict_end(&dict);
}

static void close_carrier(FerryCarrier *carrier)
{
	FakeCarrier *self = fake(carrier);

	if (self->undertaker)
		g_thread_join(self->undertaker);
	g_usleep(current->close_ms * 1000);
	g_mutex_lock(&lock);
	g_queue_clear_full(&wire, parcel_free);
	g_queue_clear_full(&self->fetched, parcel_free);
	if (self == source)
		source = NULL;
	else
		destination = NULL;
	g_cond_broadcast(&changed);
	g_mutex_unlock(&lock);
	g_atomic_int_inc(&current->closed);
	g_clear_error(&self->error);
	g_free(self);
}

static void quiesce(FerryCarrier *carrier)
{
	g_atomic_int_inc(&current->quiesced);
}

/* ---- the source ---- */

static void wake(GCancellable *cancellable, gpointer user)
{
	g_mutex_lock(&lock);
	g_cond_broadcast(&changed);
	g_mutex_unlock(&lock);
}

static gboolean await_answer(FakeCarrier *self, GError **error)
{
	gulong id = g_cancellable_connect(self->session->cancellable, G_CALLBACK(wake), NULL, NULL);
	gboolean ok;

	g_mutex_lock(&lock);
	while (!self->answered && !self->refused &&
	       !g_cancellable_is_cancelled(self->session->cancellable))
		g_cond_wait(&changed, &lock);
	ok = self->answered;
	if (self->refused)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "fake: refused there");
	else if (!ok)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED, "cancelled");
	g_mutex_unlock(&lock);
	g_cancellable_disconnect(self->session->cancellable, id);
	return ok;
}

static gboolean source_share(FerryCarrier *carrier, const FerryRam *ram, GError **error)
{
	FakeCarrier *self = fake(carrier);

	self->ram = ram;
	if (current->unable) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "fake: no device here");
		return FALSE;
	}
	while (!self->session->say(self->session->user, OFFER, (const guint8 *)"hello", 5)) {
		if (g_cancellable_set_error_if_cancelled(self->session->cancellable, error))
			return FALSE;
		g_usleep(100);
	}
	return await_answer(self, error);
}

static gboolean source_hear(FerryCarrier *carrier, guint16 type, const guint8 *payload, size_t len,
			    GError **error)
{
	g_mutex_lock(&lock);
	fake(carrier)->answered = type == ANSWER;
	fake(carrier)->refused = type == REFUSE;
	g_cond_broadcast(&changed);
	g_mutex_unlock(&lock);
	return TRUE;
}

/* The copy is what a device reads: the guest may write meanwhile. */
static __attribute__((no_sanitize("thread"))) void copy(guint8 *to, const guint8 *from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((volatile guint8 *)to)[i] = from[i];
}

static Parcel *pack(const FakeCarrier *from, const FerryRun *run)
{
	Parcel *parcel = g_new0(Parcel, 1);
	size_t len = run->pages << FERRY_PAGE_SHIFT;

	parcel->run = *run;
	parcel->data = g_malloc(len);
	copy(parcel->data, ferry_run_host(from->ram, run), len);
	return parcel;
}

/* Where the guest runs already. The lock is held. */
static void arrive(FakeCarrier *self, Parcel *parcel)
{
	if (!self->arrivals.wanted(self->arrivals.user, &parcel->run))
		g_atomic_int_inc(&current->unwanted);
	memcpy(ferry_run_host(self->target, &parcel->run), parcel->data,
	       parcel->run.pages << FERRY_PAGE_SHIFT);
	self->arrivals.landed(self->arrivals.user, &parcel->run);
	parcel_free(parcel);
}

static void post(FakeCarrier *self, const FerryRun *run)
{
	Parcel *parcel = pack(self, run);

	self->stats.bytes += run->pages << FERRY_PAGE_SHIFT;
	self->stats.pages += run->pages;
	if (destination && destination->switched)
		arrive(destination, parcel);
	else
		g_queue_push_tail(&wire, parcel);
}

/* Whether this call finds no room. */
static gboolean is_full(void)
{
	static gint calls;

	return current->full_every &&
	       ((guint)g_atomic_int_add(&calls, 1) + 1) % current->full_every == 0;
}

static gboolean pulls(FerryCarrier *carrier)
{
	return current->pulls;
}

static FerryIo urgent(FerryCarrier *carrier, const FerryRun *run)
{
	FakeCarrier *self = fake(carrier);
	FerryIo io = is_full() ? FERRY_IO_AGAIN : FERRY_IO_OK;

	g_mutex_lock(&lock);
	if (self->dead)
		io = FERRY_IO_DEAD;
	if (io == FERRY_IO_OK) {
		post(self, run);
		g_atomic_int_inc(&current->urgent);
	}
	g_mutex_unlock(&lock);
	return io;
}

static FerryIo put(FerryCarrier *carrier, const FerryRun *runs, size_t n, size_t *taken)
{
	FakeCarrier *self = fake(carrier);
	guint puts = g_atomic_int_add(&current->puts, 1) + 1;
	gboolean dead;

	*taken = 0;
	g_usleep(current->put_us);
	g_mutex_lock(&lock);
	if (current->die_at && puts >= current->die_at)
		die(self, "the source's queue broke", FALSE);
	if (current->die_there_at && puts >= current->die_there_at && destination)
		die(destination, "the destination's queue broke", TRUE);
	dead = self->dead;
	if (!dead && g_atomic_int_get(&current->quiesced))
		g_atomic_int_inc(&current->late);
	if (!dead)
		post(self, &runs[(*taken)++]);
	g_mutex_unlock(&lock);
	return dead ? FERRY_IO_DEAD : *taken < n ? FERRY_IO_AGAIN : FERRY_IO_OK;
}

static FerryIo progress(FerryCarrier *carrier)
{
	FerryIo io;

	g_mutex_lock(&lock);
	io = fake(carrier)->dead ? FERRY_IO_DEAD : FERRY_IO_OK;
	g_mutex_unlock(&lock);
	return io;
}

static void wait_for_room(FerryCarrier *carrier, gint64 timeout_us)
{
	g_usleep(timeout_us);
}

static FerryIo settle(FerryCarrier *carrier, guint32 fence)
{
	FakeCarrier *self = fake(carrier);
	Parcel *mark = g_new0(Parcel, 1);

	mark->fence = fence;
	g_mutex_lock(&lock);
	if (current->die_in_fence) {
		die(self, "the fence broke", TRUE);
		parcel_free(mark);
	} else {
		g_queue_push_tail(&wire, mark);
	}
	g_cond_broadcast(&changed);
	g_mutex_unlock(&lock);
	return FERRY_IO_OK;
}

static const FerryCarrierOps source_ops = {
	.name = "fake",
	.share_ram = source_share,
	.put = put,
	.pulls = pulls,
	.urgent = urgent,
	.progress = progress,
	.wait = wait_for_room,
	.settle = settle,
	.hear = source_hear,
	.quiesce = quiesce,
	.get_stats = get_stats,
	.describe = describe,
	.take_error = take_error,
	.close = close_carrier,
};

/* ---- the destination ---- */

static gboolean destination_share(FerryCarrier *carrier, const FerryRam *ram, GError **error)
{
	fake(carrier)->ram = ram;
	return TRUE;
}

static gboolean destination_hear(FerryCarrier *carrier, guint16 type, const guint8 *payload,
				 size_t len, GError **error)
{
	const FerryFabricSession *session = fake(carrier)->session;

	if (type != OFFER || len != 5) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER, "fake: record 0x%04x", type);
		return FALSE;
	}
	while (!current->hang &&
	       !session->say(session->user, current->refuse ? REFUSE : ANSWER, NULL, 0))
		g_usleep(100);
	return TRUE;
}

/* Lands what lies in wait, up to the mark of @fence. The lock is held. */
static gboolean land(FakeCarrier *self, guint32 fence)
{
	Parcel *parcel;
	gboolean reached = FALSE;

	while (!reached && (parcel = g_queue_pop_head(&wire))) {
		if (parcel->data)
			memcpy(ferry_run_host(self->ram, &parcel->run), parcel->data,
			       parcel->run.pages << FERRY_PAGE_SHIFT);
		else
			reached = parcel->fence == fence;
		parcel_free(parcel);
	}
	return reached;
}

static gboolean await_fence(FerryCarrier *carrier, guint32 fence, GError **error)
{
	FakeCarrier *self = fake(carrier);
	gboolean reached = FALSE;

	g_usleep(g_atomic_int_get(&current->busy_ms) * 1000);
	g_atomic_int_set(&current->busy_ms, 0);
	g_mutex_lock(&lock);
	while (!(reached = land(self, fence)) && !self->dead && source)
		g_cond_wait(&changed, &lock);
	if (!reached && self->dead)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "fake: the destination's queue broke");
	else if (!reached)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK, "fake: the source has closed");
	g_mutex_unlock(&lock);
	if (reached)
		g_atomic_int_inc(&current->fences);
	return reached;
}

static gboolean begin_postcopy(FerryCarrier *carrier, const FerryRam *ram,
			       const FerryArrivals *arrivals, GError **error)
{
	FakeCarrier *self = fake(carrier);

	g_mutex_lock(&lock);
	self->target = ram;
	self->arrivals = *arrivals;
	self->switched = TRUE;
	g_mutex_unlock(&lock);
	return TRUE;
}

/* What comes is what the source's memory holds when it is read. */
static FerryIo fetch(FerryCarrier *carrier, const FerryRun *run, gboolean is_urgent)
{
	FakeCarrier *self = fake(carrier);
	FerryIo io = FERRY_IO_OK;

	g_mutex_lock(&lock);
	if (self->dead || !source)
		io = FERRY_IO_DEAD;
	else if (is_full() || g_queue_get_length(&self->fetched) >= FETCHES)
		io = FERRY_IO_AGAIN;
	if (io == FERRY_IO_OK) {
		g_queue_push_tail(&self->fetched, pack(source, run));
		self->stats.pages += run->pages;
		if (is_urgent)
			g_atomic_int_inc(&current->urgent);
	}
	g_mutex_unlock(&lock);
	return io;
}

static FerryIo look(FerryCarrier *carrier)
{
	FakeCarrier *self = fake(carrier);
	FerryIo io;
	Parcel *parcel;

	g_mutex_lock(&lock);
	while ((parcel = g_queue_pop_head(&self->fetched)))
		arrive(self, parcel);
	io = self->dead ? FERRY_IO_DEAD : FERRY_IO_OK;
	g_mutex_unlock(&lock);
	return io;
}

static void wait_fetched(FerryCarrier *carrier, int fd, gint64 timeout_us)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	poll(&poll_fd, 1, (int)MIN(timeout_us / 1000, 1));
}

static const FerryCarrierOps destination_ops = {
	.name = "fake",
	.share_ram = destination_share,
	.pulls = pulls,
	.begin_postcopy = begin_postcopy,
	.fetch = fetch,
	.progress = look,
	.wait_fetched = wait_fetched,
	.hear = destination_hear,
	.await_fence = await_fence,
	.quiesce = quiesce,
	.get_stats = get_stats,
	.describe = describe,
	.take_error = take_error,
	.close = close_carrier,
};

/* ---- the fabric ---- */

static FerryCarrier *open_carrier(FerryFabric *fabric, const FerryFabricSession *session)
{
	FakeCarrier *self = g_new0(FakeCarrier, 1);

	self->base.ops = session->source ? &source_ops : &destination_ops;
	self->session = session;
	g_mutex_lock(&lock);
	if (session->source)
		source = self;
	else
		destination = self;
	g_mutex_unlock(&lock);
	return &self->base;
}

static void close_fabric(FerryFabric *fabric)
{
	g_free(fabric);
}

static FerryFabric *fabric_new(const char *uri)
{
	static const FerryFabricOps ops = { .name = "fake",
					    .feature = FERRY_FEATURE_RDMA,
					    .first_record = 0x1f0,
					    .last_record = 0x1ff,
					    .open = open_carrier,
					    .close = close_fabric };
	FerryFabric *fabric = g_new0(FerryFabric, 1);

	fabric->ops = &ops;
	return fabric;
}

/* ---- the channel: the source's, which can fall silent ---- */

typedef struct {
	FerryChannel base;
	FerryChannel *inner;
	gint shut; /* atomic */
} SilentChannel;

static FerryChannel *inner(FerryChannel *channel)
{
	return ((SilentChannel *)channel)->inner;
}

static gssize silent_read(FerryChannel *channel, const struct iovec *iov, int n, GError **error)
{
	gssize got;

	do
		got = inner(channel)->ops->read(inner(channel), iov, n, error);
	while (got > 0 && g_atomic_int_get(&current->silent));
	/* Nor does it bring the news that the other side has closed. */
	while (g_atomic_int_get(&current->silent) &&
	       !g_atomic_int_get(&((SilentChannel *)channel)->shut))
		g_usleep(1000);
	return got;
}

static gssize swallow(const struct iovec *iov, int n)
{
	gssize bytes = 0;

	for (int i = 0; i < n; i++)
		bytes += iov[i].iov_len;
	return bytes;
}

static gssize silent_write(FerryChannel *channel, const struct iovec *iov, int n, GError **error)
{
	return g_atomic_int_get(&current->silent)
		       ? swallow(iov, n)
		       : inner(channel)->ops->write(inner(channel), iov, n, error);
}

static gssize silent_try_write(FerryChannel *channel, const struct iovec *iov, int n,
			       GError **error)
{
	return g_atomic_int_get(&current->silent)
		       ? swallow(iov, n)
		       : inner(channel)->ops->try_write(inner(channel), iov, n, error);
}

static void silent_wait(FerryChannel *channel, gint64 timeout_us)
{
	inner(channel)->ops->wait_writable(inner(channel), timeout_us);
}

static void silent_shutdown(FerryChannel *channel)
{
	g_atomic_int_set(&((SilentChannel *)channel)->shut, 1);
	ferry_channel_shutdown(inner(channel));
}

static gboolean silent_finish(FerryChannel *channel, GError **error)
{
	return inner(channel)->ops->finish(inner(channel), error);
}

static void silent_close(FerryChannel *channel)
{
	ferry_channel_close(inner(channel));
	g_free(channel);
}

static const FerryChannelOps silent_ops = {
	.name = "under-fake",
	.read = silent_read,
	.write = silent_write,
	.try_write = silent_try_write,
	.wait_writable = silent_wait,
	.shutdown = silent_shutdown,
	.finish = silent_finish,
	.carrier = ferry_page_carrier_new,
	.close = silent_close,
};

static FerryChannel *fake_connect(const char *uri, guint timeout_ms, GCancellable *cancellable,
				  GError **error)
{
	const char *rest = uri + strlen("fake:");
	const FerryTransport *transport = ferry_transport_find(ferry_transports(), rest, error);
	FerryChannel *channel = transport ? transport->connect(rest, timeout_ms, cancellable, error)
					  : NULL;
	SilentChannel *self;

	if (!channel)
		return NULL;
	self = g_new0(SilentChannel, 1);
	self->base = (FerryChannel){ &silent_ops, channel->duplex };
	self->inner = channel;
	return &self->base;
}

/* ---- the listener ---- */

typedef struct {
	FerryListener base;
	FerryListener *inner;
} FakeListener;

static FerryChannel *fake_accept(FerryListener *listener, GCancellable *cancellable, GError **error)
{
	FerryListener *under = ((FakeListener *)listener)->inner;

	return under->ops->accept(under, cancellable, error);
}

static void fake_listener_close(FerryListener *listener)
{
	ferry_listener_close(((FakeListener *)listener)->inner);
	listener->fabric->ops->close(listener->fabric);
	g_free(listener->uri);
	g_free(listener);
}

static FerryListener *fake_listen(const char *uri, GCancellable *cancellable, GError **error)
{
	static const FerryListenerOps ops = { fake_accept, fake_listener_close };
	const char *rest = uri + strlen("fake:");
	const FerryTransport *transport = ferry_transport_find(ferry_transports(), rest, error);
	FerryListener *under = transport ? transport->listen(rest, cancellable, error) : NULL;
	FakeListener *self;

	if (!under)
		return NULL;
	self = g_new0(FakeListener, 1);
	self->inner = under;
	self->base = (FerryListener){ &ops, g_strconcat("fake:", under->uri, NULL), under->again,
				      fabric_new(uri) };
	return &self->base;
}

const FerryTransport *const *fake_fabric_transports(FakeFabric *fabric)
{
	static const FerryTransport transport = { .scheme = "fake",
						  .names_place = TRUE,
						  .connect = fake_connect,
						  .prefers_fabric = TRUE,
						  .fabric = fabric_new,
						  .listen = fake_listen };
	static const FerryTransport *const table[] = { &transport, NULL };

	current = fabric ? fabric : &nobodys;
	return table;
}
