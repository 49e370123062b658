/* SPDX-License-Identifier: BSD-2-Clause */
#include "source-private.h"

/*
 * What a page that the guest waits for goes by: the last queue pair, with a completion queue and a
 * lock of its own. urgent() only posts, on whichever thread it is called; completions are taken by
 * the putting thread, which tries the lock and never waits for it.
 */

/* After the switch a write is no larger, and no more bytes are in flight, so that an urgent page
 * finds the wire nearly free. */
#define POSTCOPY_WRITE (64u << 10)
#define POSTCOPY_WINDOW (128u << 10)

/* A run of FERRY_FETCH_MAX pages whose every page goes by itself fits. */
#define URGENT_WINDOW (1u << 20)
G_STATIC_ASSERT(FERRY_RDMA_URGENT_SENDS >= FERRY_FETCH_MAX);
G_STATIC_ASSERT(FERRY_RDMA_CREDITS >= FERRY_FETCH_MAX);

gboolean ferry_rdma_source_pulls(FerryCarrier *carrier)
{
	return !!(((FerryRdmaSource *)carrier)->terms.flags & FERRY_RDMA_PULL);
}

void ferry_rdma_source_switch_over(FerryCarrier *carrier)
{
	FerryRdmaSource *s = (FerryRdmaSource *)carrier;

	s->write_size = MIN(s->terms.write_size, POSTCOPY_WRITE);
	ferry_rdma_queues_tell(s->queues, POSTCOPY_WINDOW, s->write_size);
	g_mutex_lock(&s->urgent_lock);
	ferry_rdma_queues_tell(s->urgent, URGENT_WINDOW, URGENT_WINDOW);
	g_mutex_unlock(&s->urgent_lock);
	g_atomic_int_set(&s->switched, TRUE);
}

/* The front of @rest, up to the end of its chunk and the largest write. */
static FerryRdmaChunks front(const FerryRdmaSource *s, const FerryRun *rest, guint32 *len)
{
	guint64 at = rest->first << FERRY_PAGE_SHIFT, offset = at % s->terms.chunk_size;
	guint64 left = MIN(ferry_run_bytes(rest), s->terms.chunk_size - offset);

	*len = (guint32)MIN(left, s->terms.write_size);
	return (FerryRdmaChunks){ rest->block, (guint32)(at / s->terms.chunk_size), 1 };
}

/* Holds the way of each write of the run; @n of them. FALSE: not all are there, none is held. */
static gboolean hold_ways(FerryRdmaSource *s, const FerryRun *run, FerryRdmaWay *ways, guint *n)
{
	FerryRun rest = *run;
	gboolean asks;
	guint32 len;

	for (*n = 0; rest.pages; ++*n) {
		FerryRdmaChunks chunk = front(s, &rest, &len);

		if (!ferry_rdma_reach_hold(s->reach, chunk.block, chunk.first, &ways[*n], &asks)) {
			while (*n)
				ferry_rdma_reach_drop(&ways[--*n]);
			if (asks)
				ferry_rdma_source_wake(s);
			return FALSE;
		}
		rest.first += len >> FERRY_PAGE_SHIFT;
		rest.pages -= len >> FERRY_PAGE_SHIFT;
	}
	return TRUE;
}

/* There is room for all of it. */
static void write_run(FerryRdmaSource *s, const FerryRun *run, const FerryRdmaWay *ways)
{
	FerryRun rest = *run;

	for (guint i = 0; rest.pages; i++) {
		guint64 offset = (rest.first << FERRY_PAGE_SHIFT) % s->terms.chunk_size;
		FerryRdmaWrite write = {
			.from = (uintptr_t)ferry_run_host(s->ram, &rest),
			.lkey = ways[i].lkey,
			.to = ways[i].address + offset,
			.rkey = ways[i].rkey,
			.block = rest.block,
			.page = rest.first,
			.busy = ways[i].busy,
		};

		front(s, &rest, &write.len);
		if (!ferry_rdma_queues_write(s->urgent, &write))
			return;
		rest.first += write.len >> FERRY_PAGE_SHIFT;
		rest.pages -= write.len >> FERRY_PAGE_SHIFT;
	}
	ferry_rdma_queues_flush(s->urgent);
}

FerryIo ferry_rdma_source_urgent(FerryCarrier *carrier, const FerryRun *run)
{
	FerryRdmaSource *s = (FerryRdmaSource *)carrier;
	FerryRdmaWay ways[FERRY_FETCH_MAX];
	gboolean room;
	guint n;

	if (ferry_rdma_link_is_dead(s->link))
		return FERRY_IO_DEAD;
	if (!g_atomic_int_get(&s->switched) || run->pages > FERRY_FETCH_MAX)
		return FERRY_IO_AGAIN;
	if (!hold_ways(s, run, ways, &n))
		return FERRY_IO_AGAIN;
	g_mutex_lock(&s->urgent_lock);
	room = ferry_rdma_queues_has_room(s->urgent, n, ferry_run_bytes(run));
	if (room) {
		write_run(s, run, ways);
		ferry_rdma_source_count(&s->stats.urgent_pages, run->pages);
	}
	g_mutex_unlock(&s->urgent_lock);
	while (n)
		ferry_rdma_reach_drop(&ways[--n]);
	if (ferry_rdma_link_is_dead(s->link))
		return FERRY_IO_DEAD;
	return room ? FERRY_IO_OK : FERRY_IO_AGAIN;
}

guint ferry_rdma_source_poll_urgent(FerryRdmaSource *s)
{
	guint n = 0;

	if (s->urgent && g_mutex_trylock(&s->urgent_lock)) {
		n = ferry_rdma_queues_poll(s->urgent);
		g_mutex_unlock(&s->urgent_lock);
	}
	return n;
}

gboolean ferry_rdma_source_settle_urgent(FerryRdmaSource *s, guint32 fence)
{
	gboolean settled = FALSE;

	if (!s->urgent)
		return TRUE;
	if (!g_mutex_trylock(&s->urgent_lock))
		return FALSE;
	if (!s->urgent_fenced)
		s->urgent_fenced = ferry_rdma_queues_fence(s->urgent, fence);
	settled = s->urgent_fenced && ferry_rdma_queues_is_idle(s->urgent);
	g_mutex_unlock(&s->urgent_lock);
	return settled;
}
