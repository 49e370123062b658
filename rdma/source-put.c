/* SPDX-License-Identifier: BSD-2-Clause */
#include "source-private.h"

/* Before sleeping, on a machine with processors to spare: about what a completion of a real device
 * takes. On few processors spinning takes one from whoever does the work. */
#define SPIN_US 20
/* How often the link's events are looked at where nothing sleeps on them. */
#define EVENTS_US (100 * G_TIME_SPAN_MILLISECOND)
/* How soon something that the control channel had no room for is said again. */
#define SAY_AGAIN_US (2 * G_TIME_SPAN_MILLISECOND)

/*
 * Two writes to one page must never be in flight together: on two queue pairs, or with relaxed
 * ordering, the older could land last. No page has to be watched for that: within a round the
 * engine offers each page once, and settle() ends a round only when every write of it has
 * completed.
 */

static FerryIo outcome(FerryRdmaSource *s, gboolean done)
{
	if (ferry_rdma_link_is_dead(s->link))
		return FERRY_IO_DEAD;
	return done ? FERRY_IO_OK : FERRY_IO_AGAIN;
}

static void note_first_write(FerryRdmaSource *s)
{
	FerryRdmaRegionStats stats;

	ferry_rdma_regions_get_stats(s->regions, &stats);
	ferry_rdma_source_count(&s->stats.regions_at_first_write, stats.registrations);
	ferry_rdma_source_note(&s->stats.first_write_us,
			       g_get_monotonic_time() - s->stats.start_us);
}

/* The front of the rest, up to the chunk's end and the largest write, by way of @way. */
static gboolean write_front(FerryRdmaSource *s, guint64 offset, const FerryRdmaWay *way)
{
	guint64 len = MIN(ferry_run_bytes(&s->rest), s->terms.chunk_size - offset);
	const FerryRdmaWrite write = {
		.from = (uintptr_t)ferry_run_host(s->ram, &s->rest),
		.lkey = way->lkey,
		.to = way->address + offset,
		.rkey = way->rkey,
		.len = (guint32)MIN(len, s->write_size),
		.block = s->rest.block,
		.page = s->rest.first,
		.busy = way->busy,
	};

	if (!ferry_rdma_queues_write(s->queues, &write) &&
	    (!ferry_rdma_queues_poll(s->queues) || !ferry_rdma_queues_write(s->queues, &write)))
		return FALSE;
	s->rest.first += write.len >> FERRY_PAGE_SHIFT;
	s->rest.pages -= write.len >> FERRY_PAGE_SHIFT;
	return TRUE;
}

/* Writes all of the rest (TRUE), or what there is room and a way for. */
static gboolean write_rest(FerryRdmaSource *s)
{
	while (s->rest.pages) {
		guint64 at = s->rest.first << FERRY_PAGE_SHIFT;
		FerryRdmaWay way;

		if (!ferry_rdma_reach_find(s->reach, s->rest.block,
					   (guint32)(at / s->terms.chunk_size), &way)) {
			ferry_rdma_source_count(&s->stats.region_stalls, 1);
			return FALSE;
		}
		if (!write_front(s, at % s->terms.chunk_size, &way)) {
			ferry_rdma_source_count(&s->stats.window_stalls, 1);
			return FALSE;
		}
		if (!s->stats.first_write_us)
			note_first_write(s);
	}
	return TRUE;
}

/* Runs are taken whole, as in any carrier; what there is no room for yet is kept as the rest. */
FerryIo ferry_rdma_source_put(FerryCarrier *carrier, const FerryRun *runs, size_t n, size_t *taken)
{
	FerryRdmaSource *s = (FerryRdmaSource *)carrier;
	gboolean room = write_rest(s);

	ferry_rdma_reach_ask_held(s->reach);
	*taken = 0;
	while (room && *taken < n && !ferry_rdma_link_is_dead(s->link)) {
		s->rest = runs[(*taken)++];
		ferry_rdma_source_count(&s->stats.pages, s->rest.pages);
		room = write_rest(s);
	}
	return outcome(s, *taken == n);
}

static void look_at_events(FerryRdmaSource *s)
{
	s->events_us = g_get_monotonic_time();
	ferry_rdma_link_take_events(s->link);
}

FerryIo ferry_rdma_source_progress(FerryCarrier *carrier)
{
	FerryRdmaSource *s = (FerryRdmaSource *)carrier;
	gboolean done;

	ferry_rdma_queues_poll(s->queues);
	ferry_rdma_source_poll_urgent(s);
	ferry_rdma_reach_ask_held(s->reach);
	if (g_get_monotonic_time() - s->events_us > EVENTS_US)
		look_at_events(s);
	done = write_rest(s);
	ferry_rdma_queues_flush(s->queues);
	return outcome(s, done);
}

FerryIo ferry_rdma_source_settle(FerryCarrier *carrier, guint32 fence)
{
	FerryRdmaSource *s = (FerryRdmaSource *)carrier;

	if (ferry_rdma_source_progress(carrier) != FERRY_IO_OK)
		return outcome(s, FALSE);
	if (!s->settling)
		s->fenced = s->urgent_fenced = FALSE;
	s->settling = TRUE;
	if (!s->fenced)
		s->fenced = ferry_rdma_queues_fence(s->queues, fence);
	if (ferry_rdma_source_settle_urgent(s, fence) && s->fenced &&
	    ferry_rdma_queues_is_idle(s->queues))
		s->settling = FALSE;
	return outcome(s, !s->settling);
}

/* Polls for a moment; TRUE: something completed. */
static gboolean spin(FerryRdmaSource *s)
{
	gint64 end = g_get_monotonic_time() + SPIN_US;

	do {
		if (ferry_rdma_queues_poll(s->queues) + ferry_rdma_source_poll_urgent(s))
			return TRUE;
	} while (s->spins && !ferry_rdma_queues_is_idle(s->queues) && g_get_monotonic_time() < end);
	return FALSE;
}

/* A completion that comes before the queue is armed makes no event, hence the poll behind it. */
static gboolean may_sleep(FerryRdmaSource *s)
{
	GError *error = NULL;

	if (!ferry_rdma_link_arm(s->link, &error)) {
		ferry_rdma_link_fail(s->link, error);
		return FALSE;
	}
	return ferry_rdma_queues_poll(s->queues) + ferry_rdma_source_poll_urgent(s) == 0 &&
	       !ferry_rdma_link_is_dead(s->link);
}

void ferry_rdma_source_wait(FerryCarrier *carrier, gint64 timeout_us)
{
	FerryRdmaSource *s = (FerryRdmaSource *)carrier;

	ferry_rdma_queues_flush(s->queues);
	if (ferry_rdma_link_is_dead(s->link) || spin(s) || !may_sleep(s))
		return;
	if (ferry_rdma_reach_owes(s->reach))
		timeout_us = MIN(timeout_us, SAY_AGAIN_US);
	ferry_rdma_source_count(&s->stats.sleeps, 1);
	ferry_rdma_link_wait(s->link, s->wake, timeout_us);
	ferry_rdma_source_drain(s);
	look_at_events(s);
}
