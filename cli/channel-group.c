/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/multifd.h>
#include "channel-group.h"

/* Connections that may be there for nothing, and yet not keep out one that has to come. */
#define STRANGERS 16u
/* A source connects all of its channels before the first section of the stream ends. */
#define PATIENCE_S 10u
/* How long a source may take to hang up once its stream is shut down. */
#define FAREWELL_S 5u

typedef struct {
	gboolean came;
	guint64 syncs; /* packets with SYNC: the sections that it is through with */
	guint64 pages; /* of its own thread, until that ended or waits */
} Channel;

struct FerryChannelGroup {
	FerryDoorman *doorman;
	FerryCapture *capture;
	guint n;

	GMutex lock; /* of all below */
	GCond changed;
	FerryChannel *stream;        /* NULL before it came */
	FerryConnection *connection; /* the stream's, where it came in here */
	Channel channels[FERRY_MULTIFD_CHANNELS_MAX];
	guint here;       /* channels that came */
	guint reading;    /* threads of channels, also of those that must not be here */
	guint64 sections; /* that all are through with */
	gboolean over;    /* no more pages */
	gboolean stopping;
	GError *failure; /* the first */
	/* A channel is here that must not be: why. It fails the group where a section of the stream
	 * ends: before that a source may still be setting up. */
	GError *refusal;
	guint64 pages;
};

/* ---- under the lock ---- */

/* Takes @error; the first counts. */
static void fail(FerryChannelGroup *group, GError *error)
{
	if (group->failure || group->stopping) {
		g_error_free(error);
		return;
	}
	group->failure = error;
	if (group->stream)
		ferry_channel_shutdown(group->stream);
	g_cond_broadcast(&group->changed);
}

static GError *error_of(FerryErrorCode code, const char *format, ...) G_GNUC_PRINTF(2, 3);

static GError *error_of(FerryErrorCode code, const char *format, ...)
{
	GError *error;
	va_list args;

	va_start(args, format);
	error = g_error_new_valist(FERRY_ERROR, (int)code, format, args);
	va_end(args);
	return error;
}

static void fail_if_refused(FerryChannelGroup *group)
{
	if (group->refusal)
		fail(group, g_steal_pointer(&group->refusal));
}

static gboolean is_over(FerryChannelGroup *group, GError **error)
{
	if (group->failure)
		g_propagate_error(error, g_error_copy(group->failure));
	return group->failure || group->stopping;
}

/* ---- a channel's thread ---- */

/* Why a channel of that number must not be here, or NULL. */
static GError *find_objection(const FerryChannelGroup *group, guint number)
{
	if (!group->n)
		return error_of(FERRY_ERROR_MISMATCH,
				"the source sends over multifd channels: say --multifd with as "
				"many as its multifd-channels, or switch its capability multifd "
				"off");
	if (number >= group->n)
		return error_of(FERRY_ERROR_MISMATCH,
				"multifd channel %u came, and there are to be %u: say --multifd "
				"with as many as the source's multifd-channels",
				number, group->n);
	if (group->channels[number].came)
		return error_of(FERRY_ERROR_PEER,
				"multifd channel %u came twice: do two sources send here?", number);
	return NULL;
}

/* The place of that number; NULL: it must not be here. */
static Channel *take_place(FerryChannelGroup *group, guint number)
{
	g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&group->lock);
	GError *objection = find_objection(group, number);

	if (!objection) {
		group->channels[number].came = TRUE;
		group->here++;
		g_cond_broadcast(&group->changed);
		return &group->channels[number];
	}
	if (group->refusal)
		g_error_free(objection);
	else
		group->refusal = objection;
	g_cond_broadcast(&group->changed);
	return NULL;
}

static gboolean read_init(FerryConnection *connection, FerryMultifdInit *init, GError **error)
{
	guint8 data[FERRY_MULTIFD_INIT_SIZE];
	gsize done = 0;

	while (done < sizeof(data)) {
		struct iovec iov = { data + done, sizeof(data) - done };
		gssize n = ferry_connection_read(connection, &iov, 1, error);

		if (n == 0)
			g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_LINK,
					    "it ended in its init packet");
		if (n <= 0)
			return FALSE;
		done += (gsize)n;
	}
	return ferry_multifd_get_init(data, init, error);
}

static FerryCaptureBlock *find_block(FerryCapture *capture, const char *name)
{
	for (guint i = 0; i < capture->blocks->len; i++) {
		FerryCaptureBlock *block = &g_array_index(capture->blocks, FerryCaptureBlock, i);

		if (strcmp(block->name, name) == 0)
			return block;
	}
	return NULL;
}

/* @ready: the thread knows the blocks, and may still write to them. */
static gboolean take_pages(FerryChannelGroup *group, FerryMultifdReader *reader,
			   const FerryMultifdPacket *packet, gboolean ready, GError **error)
{
	guint8 *pages[FERRY_MULTIFD_PAGES];
	FerryCaptureBlock *block = ready ? find_block(group->capture, packet->block) : NULL;

	if (!block) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    ready ? "pages of RAM block \"%s\", which is not in the list"
				  : "pages of RAM block \"%s\" outside of RAM's sections",
			    packet->block);
		return FALSE;
	}
	if (!ferry_multifd_packet_fits(packet, block->size, error))
		return FALSE;
	for (guint i = 0; i < packet->pages; i++)
		pages[i] = ferry_capture_page(block, packet->offsets[i]);
	return ferry_multifd_reader_pages(reader, packet, pages, error);
}

/* Until the others are as far; FALSE if that is over. *@ready: as take_pages() wants it. */
static gboolean wait_for_others(FerryChannelGroup *group, Channel *channel, gboolean *ready)
{
	g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&group->lock);

	channel->syncs++;
	group->pages += channel->pages;
	channel->pages = 0;
	g_cond_broadcast(&group->changed);
	while (group->sections < channel->syncs && !is_over(group, NULL))
		g_cond_wait(&group->changed, &group->lock);
	*ready = !group->over;
	return !is_over(group, NULL);
}

static gboolean take_packets(FerryChannelGroup *group, Channel *channel,
			     FerryConnection *connection, GError **error)
{
	g_autoptr(FerryMultifdReader)
		reader = ferry_multifd_reader_new(ferry_connection_read, connection);
	gboolean ready = FALSE;
	FerryMultifdPacket packet;

	while (ferry_multifd_reader_next(reader, &packet, error)) {
		if (packet.pages && !take_pages(group, reader, &packet, ready, error))
			return FALSE;
		channel->pages += packet.pages;
		if (packet.sync && !wait_for_others(group, channel, &ready))
			return TRUE;
	}
	return !*error;
}

/* A QEMU 7.2 that can no longer write to a channel may wait for it for ever, and its guest can then
 * never be migrated again: what comes is read until the source itself hangs up. */
static void drain(FerryConnection *connection)
{
	guint8 scrap[64 << 10];
	struct iovec iov = { scrap, sizeof(scrap) };

	while (ferry_connection_read(connection, &iov, 1, NULL) > 0)
		continue;
}

static void take_channel(FerryChannelGroup *group, FerryConnection *connection)
{
	g_autoptr(GError) error = NULL;
	Channel *channel = NULL;
	FerryMultifdInit init;

	g_mutex_lock(&group->lock);
	group->reading++;
	g_mutex_unlock(&group->lock);
	if (!read_init(connection, &init, &error))
		g_prefix_error(&error, "a multifd channel: ");
	else if ((channel = take_place(group, init.channel)) &&
		 !take_packets(group, channel, connection, &error))
		g_prefix_error(&error, "multifd channel %u: ", init.channel);

	g_mutex_lock(&group->lock);
	if (!error && channel && !group->over)
		error = error_of(FERRY_ERROR_LINK,
				 "multifd channel %u: the source hung up before the end of RAM",
				 init.channel);
	if (error)
		fail(group, g_steal_pointer(&error));
	g_mutex_unlock(&group->lock);

	drain(connection);
	g_mutex_lock(&group->lock);
	group->reading--;
	g_cond_broadcast(&group->changed);
	g_mutex_unlock(&group->lock);
}

/* ---- who comes ---- */

static void take_stream(FerryChannelGroup *group, FerryConnection *connection)
{
	g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&group->lock);

	if (group->stream) {
		g_printerr("ferry receive: refused a connection: a new migration, which needs a "
			   "receiver of its own\n");
		return;
	}
	connection->kept = TRUE;
	group->connection = connection;
	group->stream = connection->channel;
	g_cond_broadcast(&group->changed);
}

static void on_connection(gpointer user, FerryConnection *connection)
{
	if (connection->magic == FERRY_STREAM_MAGIC)
		take_stream(user, connection);
	else if (connection->magic == FERRY_MULTIFD_MAGIC)
		take_channel(user, connection);
	else
		g_printerr("ferry receive: refused a connection: it begins with 0x%08x, which is "
			   "neither a migration nor a multifd channel\n",
			   connection->magic);
}

static void on_broken(gpointer user, GError *error)
{
	FerryChannelGroup *group = user;

	g_mutex_lock(&group->lock);
	fail(group, error);
	g_mutex_unlock(&group->lock);
}

FerryChannelGroup *ferry_channel_group_new(FerryListener *listener, guint n, FerryChannel *stream,
					   FerryCapture *capture)
{
	static const FerryDoormanFuncs funcs = { .came = on_connection, .broke = on_broken };
	FerryChannelGroup *group = g_new0(FerryChannelGroup, 1);

	g_mutex_init(&group->lock);
	g_cond_init(&group->changed);
	group->n = n;
	group->stream = stream;
	group->capture = capture;
	group->doorman = ferry_doorman_new(listener, n + 1 + STRANGERS, &funcs, group);
	return group;
}

void ferry_channel_group_free(FerryChannelGroup *group)
{
	if (!group)
		return;
	g_mutex_lock(&group->lock);
	group->stopping = TRUE;
	g_cond_broadcast(&group->changed);
	g_mutex_unlock(&group->lock);
	ferry_doorman_free(group->doorman);
	g_clear_error(&group->refusal);
	g_clear_error(&group->failure);
	g_cond_clear(&group->changed);
	g_mutex_clear(&group->lock);
	g_free(group);
}

/* ---- the stream's thread ---- */

FerryConnection *ferry_channel_group_await_stream(FerryChannelGroup *group, GError **error)
{
	g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&group->lock);

	while (!group->stream && !is_over(group, NULL))
		g_cond_wait(&group->changed, &group->lock);
	return is_over(group, error) ? NULL : group->connection;
}

/* All are here; else the group fails. */
static void await_channels(FerryChannelGroup *group)
{
	gint64 end = g_get_monotonic_time() + PATIENCE_S * G_TIME_SPAN_SECOND;

	while (group->here < group->n && !group->failure && !group->refusal)
		if (!g_cond_wait_until(&group->changed, &group->lock, end))
			break;
	if (group->here < group->n && !group->refusal)
		fail(group, error_of(FERRY_ERROR_MISMATCH,
				     "of %u multifd channels %u came within %u s: switch multifd "
				     "on at the source, and say --multifd with as many as its "
				     "multifd-channels",
				     group->n, group->here, PATIENCE_S));
}

/* Every channel is through with as many sections, or one failed. */
static void await_syncs(FerryChannelGroup *group, guint64 sections)
{
	for (guint i = 0; i < group->n; i++)
		while (group->channels[i].syncs < sections && !group->failure)
			g_cond_wait(&group->changed, &group->lock);
}

gboolean ferry_channel_group_end_section(FerryChannelGroup *group, gboolean last, GError **error)
{
	g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&group->lock);

	if (!group->sections)
		await_channels(group);
	fail_if_refused(group);
	await_syncs(group, group->sections + 1);
	group->sections++;
	group->over = last;
	g_cond_broadcast(&group->changed);
	return !is_over(group, error);
}

gboolean ferry_channel_group_check(FerryChannelGroup *group, GError **error)
{
	g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&group->lock);

	fail_if_refused(group);
	return !is_over(group, error);
}

void ferry_channel_group_await_source(FerryChannelGroup *group)
{
	gint64 end = g_get_monotonic_time() + FAREWELL_S * G_TIME_SPAN_SECOND;
	g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&group->lock);

	ferry_channel_shutdown(group->stream);
	if (!group->failure)
		fail(group, error_of(FERRY_ERROR_CANCELLED, "the stream is over"));
	while (group->reading && g_cond_wait_until(&group->changed, &group->lock, end))
		continue;
}

guint64 ferry_channel_group_pages(FerryChannelGroup *group)
{
	g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&group->lock);

	return group->pages;
}
