/* SPDX-License-Identifier: BSD-2-Clause */
#include "ends.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "engine/settings-private.h"
#include "switched.h"

#define DEADLINE_US (5 * G_USEC_PER_SEC)
#define WAIT_US (20 * G_TIME_SPAN_MILLISECOND)

typedef enum {
	RECORD,
	FENCE,
	STOP,
} LetterKind;

typedef struct {
	LetterKind kind;
	guint16 type;
	guint32 fence;
	GBytes *payload;
} Letter;

static void letter_free(gpointer data)
{
	Letter *letter = data;

	g_clear_pointer(&letter->payload, g_bytes_unref);
	g_free(letter);
}

static void send_letter(End *end, LetterKind kind, guint16 type, const guint8 *payload, size_t len,
			guint32 fence)
{
	Letter *letter = g_new0(Letter, 1);

	letter->kind = kind;
	letter->type = type;
	letter->fence = fence;
	letter->payload = g_bytes_new(payload, len);
	g_async_queue_push(end->inbox, letter);
}

void ends_send(End *to, guint16 type, const guint8 *payload, size_t len)
{
	send_letter(to, RECORD, type, payload, len, 0);
}

static gboolean say(gpointer user, guint16 type, const guint8 *payload, size_t len)
{
	End *end = user;
	Ends *ends = end->ends;
	guint n = (guint)g_atomic_int_add(&end->said, 1);

	if (ends->cancels_at_say)
		g_cancellable_cancel(ends->source.session.cancellable);
	if (ends->crowded && n % ends->crowded)
		return FALSE;
	send_letter(end == &ends->source ? &ends->destination : &ends->source, RECORD, type,
		    payload, len, 0);
	return TRUE;
}

/* Takes @error over. */
static void fail(End *end, GError *error, gboolean died)
{
	Ends *ends = end->ends;

	g_mutex_lock(&ends->lock);
	if (!end->failed_us)
		end->failed_us = g_get_monotonic_time();
	end->died |= died;
	if (end->error || !error)
		g_clear_error(&error);
	else
		end->error = error;
	g_cond_broadcast(&ends->changed);
	g_mutex_unlock(&ends->lock);
	/* What the engine's destination does by an ERROR record. */
	if (end == &ends->destination)
		g_cancellable_cancel(ends->source.session.cancellable);
}

static void died(gpointer user)
{
	fail(user, NULL, TRUE);
}

/* What the end that failed first says; under the lock. */
static gboolean take_death(Ends *ends, GError **error)
{
	End *s = &ends->source, *d = &ends->destination;
	End *end = s->failed_us && (!d->failed_us || s->failed_us <= d->failed_us) ? s : d;
	GError *cause;

	if (!end->failed_us)
		return FALSE;
	cause = end->died ? end->carrier->ops->take_error(end->carrier) : NULL;
	if (!cause && end->error)
		cause = g_error_copy(end->error);
	if (cause)
		g_propagate_error(error, cause);
	else
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE, "%s died without an error",
			    end == s ? "the source" : "the destination");
	return TRUE;
}

static gboolean is_dead(Ends *ends, GError **error)
{
	gboolean dead;

	g_mutex_lock(&ends->lock);
	dead = take_death(ends, error);
	g_mutex_unlock(&ends->lock);
	return dead;
}

/* ---- the destination's loading thread, and the source's return path ---- */

static gboolean same_ram(Ends *ends)
{
	for (guint i = 0; i < ends->source.ram->n_blocks; i++) {
		const FerryRamBlock *a = &ends->source.ram->blocks[i];

		if (memcmp(a->host, ends->destination.ram->blocks[i].host, a->size) != 0)
			return FALSE;
	}
	return TRUE;
}

static void pass_fence(End *end, guint32 fence)
{
	Ends *ends = end->ends;
	GError *error = NULL;
	gboolean same;

	if (!end->carrier->ops->await_fence(end->carrier, fence, &error)) {
		fail(end, error, FALSE);
		return;
	}
	same = same_ram(ends);
	g_mutex_lock(&ends->lock);
	ends->compared = fence;
	ends->differs = !same;
	g_cond_broadcast(&ends->changed);
	g_mutex_unlock(&ends->lock);
}

static gboolean open_letter(End *end, const Letter *letter, GError **error)
{
	const FerryCarrierOps *ops = end->carrier->ops;
	size_t len;
	const guint8 *payload = g_bytes_get_data(letter->payload, &len);

	if (end->side == FAKE_DESTINATION && !end->shared) {
		end->shared = TRUE;
		if (!ops->share_ram(end->carrier, end->ram, error))
			return FALSE;
	}
	return ops->hear(end->carrier, letter->type, payload, len, error);
}

static gpointer read_inbox(gpointer user)
{
	End *end = user;

	for (;;) {
		Letter *letter = g_async_queue_pop(end->inbox);
		LetterKind kind = letter->kind;
		GError *error = NULL;

		if (kind == FENCE)
			pass_fence(end, letter->fence);
		else if (kind == RECORD && !end->deaf && !open_letter(end, letter, &error))
			fail(end, error, FALSE);
		letter_free(letter);
		if (kind == STOP)
			return NULL;
	}
}

/* ---- the two ends ---- */

static FerryRam *make_ram(GRand *random, const guint *pages)
{
	FerryRam *ram = ferry_ram_new();

	for (guint i = 0; pages[i]; i++) {
		g_autofree char *name = g_strdup_printf("block%u", i);
		gsize size = (gsize)pages[i] << FERRY_PAGE_SHIFT;
		int fd = memfd_create(name, MFD_CLOEXEC);
		guint8 *host = MAP_FAILED;

		if (ftruncate(fd, (off_t)size) == 0)
			host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (host == MAP_FAILED)
			g_error("no memory");
		memset(host, 0xee, size);
		for (gsize at = 0; random && at < size; at += 64)
			*(guint32 *)(host + at) = g_rand_int(random);
		if (!ferry_ram_add(ram, name, host, size, FERRY_PAGE_SIZE, fd, 0, NULL))
			g_error("no RAM");
	}
	return ram;
}

static void open_end(Ends *ends, End *end, FakeSide side, const guint *pages)
{
	end->ends = ends;
	end->side = side;
	end->settings = ferry_settings_new();
	end->ram = make_ram(side == FAKE_SOURCE ? ends->random : NULL, pages);
	end->inbox = g_async_queue_new_full(letter_free);
	end->session = (FerryFabricSession){ .source = side == FAKE_SOURCE,
					     .nonce = ends->nonce,
					     .settings = end->settings,
					     .cancellable = g_cancellable_new(),
					     .say = say,
					     .died = died,
					     .user = end };
}

void ends_open(Ends *ends, FakeNic *nic, const guint *pages)
{
	memset(ends, 0, sizeof(*ends));
	ends->nic = nic;
	ends->host = "127.0.0.1";
	ends->random = g_rand_new_with_seed(7);
	for (guint i = 0; i < sizeof(ends->nonce); i++)
		ends->nonce[i] = (guint8)g_rand_int(ends->random);
	g_mutex_init(&ends->lock);
	g_cond_init(&ends->changed);
	open_end(ends, &ends->source, FAKE_SOURCE, pages);
	open_end(ends, &ends->destination, FAKE_DESTINATION, pages);
}

gboolean ends_connect(Ends *ends, GError **error)
{
	End *s = &ends->source, *d = &ends->destination;
	const FerryVerbs *source = ends->nic ? fake_verbs(FAKE_SOURCE) : &ferry_verbs;
	const FerryVerbs *destination = ends->nic ? fake_verbs(FAKE_DESTINATION) : &ferry_verbs;
	g_autoptr(GError) why = NULL, failure = NULL;

	ends->acceptor = ferry_rdma_acceptor_new(destination, ends->host, ENDS_PORT, &why);
	d->carrier = ferry_rdma_destination_new(destination, ends->acceptor,
						why ? why->message : NULL, &d->session);
	s->carrier = ferry_rdma_source_new(source, ends->host, ENDS_PORT, &s->session);
	s->thread = g_thread_new("return-path", read_inbox, s);
	d->thread = g_thread_new("loading", read_inbox, d);
	if (s->carrier->ops->share_ram(s->carrier, s->ram, &failure))
		return TRUE;
	/* Why it was cancelled. */
	if (!g_error_matches(failure, FERRY_ERROR, FERRY_ERROR_CANCELLED) || !is_dead(ends, error))
		g_propagate_error(error, g_steal_pointer(&failure));
	return FALSE;
}

static void stop_thread(End *end)
{
	if (!end->thread)
		return;
	send_letter(end, STOP, 0, NULL, 0, 0);
	g_thread_join(g_steal_pointer(&end->thread));
}

static void free_end(End *end)
{
	for (guint i = 0; i < end->ram->n_blocks; i++) {
		munmap(end->ram->blocks[i].host, end->ram->blocks[i].size);
		close(end->ram->blocks[i].fd);
	}
	ferry_ram_free(end->ram);
	ferry_settings_free(end->settings);
	g_async_queue_unref(end->inbox);
	g_object_unref(end->session.cancellable);
	g_clear_error(&end->error);
}

void ends_close(Ends *ends)
{
	End *s = &ends->source, *d = &ends->destination;
	gint64 begin = g_get_monotonic_time();

	switched_stop(ends->switched);
	g_cancellable_cancel(s->session.cancellable);
	g_cancellable_cancel(d->session.cancellable);
	stop_thread(s);
	stop_thread(d);
	if (d->carrier && d->shared)
		d->carrier->ops->quiesce(d->carrier);
	ferry_carrier_close(s->carrier);
	ferry_carrier_close(d->carrier);
	ends->close_us = g_get_monotonic_time() - begin;
	ferry_rdma_acceptor_free(ends->acceptor);
	switched_free(ends->switched);
	free_end(s);
	free_end(d);
	g_rand_free(ends->random);
	g_mutex_clear(&ends->lock);
	g_cond_clear(&ends->changed);
}

void ends_set(End *end, FerryParameter parameter, guint64 value)
{
	if (!ferry_settings_set_parameter(end->settings, parameter, value, NULL))
		g_error("parameter %d cannot be %" G_GUINT64_FORMAT, parameter, value);
}

void ends_enable(End *end, FerryCapability capability)
{
	ferry_settings_set_capability(end->settings, capability, TRUE, NULL);
}

/* ---- moving pages ---- */

gboolean ends_step(Ends *ends, FerryIo io, gint64 deadline, GError **error)
{
	FerryCarrier *carrier = ends->source.carrier;

	if (io == FERRY_IO_DEAD) {
		fail(&ends->source, NULL, TRUE);
		return is_dead(ends, error), FALSE;
	}
	if (is_dead(ends, error))
		return FALSE;
	if (g_get_monotonic_time() > deadline) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE, "the source hangs");
		return FALSE;
	}
	if (io == FERRY_IO_AGAIN)
		carrier->ops->wait(carrier, WAIT_US);
	return TRUE;
}

gboolean ends_linger(Ends *ends, gint64 timeout_us, GError **error)
{
	FerryCarrier *carrier = ends->source.carrier;
	gint64 end = g_get_monotonic_time() + timeout_us;

	while (g_get_monotonic_time() < end) {
		FerryIo io = carrier->ops->progress(carrier);

		if (!ends_step(ends, io == FERRY_IO_OK ? FERRY_IO_AGAIN : io, G_MAXINT64, error))
			return TRUE;
	}
	return FALSE;
}

gboolean ends_put_runs(Ends *ends, const FerryRun *runs, size_t n, GError **error)
{
	FerryCarrier *carrier = ends->source.carrier;
	gint64 deadline = g_get_monotonic_time() + DEADLINE_US;

	while (n) {
		size_t taken = 0;
		FerryIo io = carrier->ops->put(carrier, runs, n, &taken);

		runs += taken;
		n -= taken;
		if (taken)
			deadline = g_get_monotonic_time() + DEADLINE_US;
		if (!ends_step(ends, io, deadline, error))
			return FALSE;
		if (io == FERRY_IO_AGAIN)
			carrier->ops->progress(carrier);
	}
	return TRUE;
}

/* Writes to pages of the source and appends them, as runs. */
static void dirty_block(Ends *ends, guint block, guint sparse, guint most, GArray *runs)
{
	const FerryRamBlock *at = &ends->source.ram->blocks[block];
	guint64 pages = ferry_ram_block_pages(at);
	gboolean joins = FALSE;

	for (guint64 page = 0; page < pages; page++) {
		FerryRun *last = joins ? &g_array_index(runs, FerryRun, runs->len - 1) : NULL;
		FerryRun run = { block, page, 1 };

		joins = ends->pages == 0 || g_rand_int_range(ends->random, 0, (gint32)sparse) == 0;
		if (!joins)
			continue;
		*(guint32 *)(at->host + page * FERRY_PAGE_SIZE +
			     g_rand_int_range(ends->random, 0, 1024) *
				     4) = g_rand_int(ends->random);
		if (last && last->pages < most)
			last->pages++;
		else
			g_array_append_val(runs, run);
	}
}

static void shuffle_runs(GRand *random, GArray *runs)
{
	for (guint i = runs->len; i > 1; i--) {
		guint other = (guint)g_rand_int_range(random, 0, (gint32)i);
		FerryRun swap = g_array_index(runs, FerryRun, i - 1);

		g_array_index(runs, FerryRun, i - 1) = g_array_index(runs, FerryRun, other);
		g_array_index(runs, FerryRun, other) = swap;
	}
}

gboolean ends_put(Ends *ends, guint sparse, guint most, gboolean shuffle, GError **error)
{
	g_autoptr(GArray) runs = g_array_new(FALSE, FALSE, sizeof(FerryRun));

	for (guint i = 0; i < ends->source.ram->n_blocks; i++)
		dirty_block(ends, i, sparse, most, runs);
	for (guint i = 0; i < runs->len; i++)
		ends->pages += g_array_index(runs, FerryRun, i).pages;
	if (shuffle)
		shuffle_runs(ends->random, runs);
	return ends_put_runs(ends, (const FerryRun *)runs->data, runs->len, error);
}

static gboolean settle(Ends *ends, GError **error)
{
	FerryCarrier *carrier = ends->source.carrier;
	gint64 deadline = g_get_monotonic_time() + DEADLINE_US;
	FerryIo io;

	do {
		io = carrier->ops->settle(carrier, ends->fence);
		if (!ends_step(ends, io, deadline, error))
			return FALSE;
	} while (io == FERRY_IO_AGAIN);
	return TRUE;
}

gboolean ends_fence(Ends *ends, GError **error)
{
	gint64 end = g_get_monotonic_time() + DEADLINE_US;
	gboolean passed, differs, in_time = TRUE;

	ends->fence++;
	if (!settle(ends, error))
		return FALSE;
	send_letter(&ends->destination, FENCE, 0, NULL, 0, ends->fence);
	g_mutex_lock(&ends->lock);
	while (ends->compared != ends->fence && !ends->source.failed_us &&
	       !ends->destination.failed_us && in_time)
		in_time = g_cond_wait_until(&ends->changed, &ends->lock, end);
	passed = ends->compared == ends->fence;
	differs = ends->differs;
	g_mutex_unlock(&ends->lock);
	if (!passed && !is_dead(ends, error))
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE, "fence %u does not come",
			    ends->fence);
	if (passed && differs)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE, "RAM differs at fence %u",
			    ends->fence);
	return passed && !differs;
}

gboolean ends_round(Ends *ends, guint sparse, guint most, gboolean shuffle, GError **error)
{
	return ends_put(ends, sparse, most, shuffle, error) && ends_fence(ends, error);
}
