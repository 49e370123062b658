/* SPDX-License-Identifier: BSD-2-Clause */
#include "destination.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/eventfd.h>

/* Before sleeping, as at the source. */
#define SPIN_US 20

static FerryRdmaDestination *self(FerryCarrier *carrier)
{
	return (FerryRdmaDestination *)carrier;
}

gboolean ferry_rdma_destination_pulls(FerryCarrier *carrier)
{
	return self(carrier)->readable != NULL;
}

/* ---- the switch ---- */

/* Registered memory stays where it is: pages can go only there. */
static gboolean is_same_memory(const FerryRam *old, const FerryRam *new, GError **error)
{
	for (guint i = 0; i < old->n_blocks; i++) {
		const FerryRamBlock *from = &old->blocks[i], *to = &new->blocks[i];

		if (from->host == to->host || to->fd >= 0)
			continue;
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "RAM block '%s' is private memory, which RDMA cannot fill while the "
			    "guest runs: back the RAM with a memfd",
			    from->name);
		return FALSE;
	}
	return TRUE;
}

static void number_pages(FerryRdmaDestination *d)
{
	d->first = g_new0(guint64, d->ram->n_blocks + 1);
	for (guint i = 0; i < d->ram->n_blocks; i++)
		d->first[i + 1] = d->first[i] + ferry_ram_block_pages(&d->ram->blocks[i]);
}

gboolean ferry_rdma_destination_begin_postcopy(FerryCarrier *carrier, const FerryRam *ram,
					       const FerryArrivals *arrivals, GError **error)
{
	FerryRdmaDestination *d = self(carrier);
	gboolean ready;

	g_mutex_lock(&d->lock);
	ready = d->stage == FERRY_RDMA_CONNECTED && d->terms.flags & FERRY_RDMA_POSTCOPY &&
		!d->begun;
	g_mutex_unlock(&d->lock);
	if (!ready || ram->n_blocks != d->ram->n_blocks) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
			    "postcopy by RDMA cannot begin: it was not agreed, or has begun");
		return FALSE;
	}
	if (!is_same_memory(d->ram, ram, error))
		return FALSE;
	d->arrivals = *arrivals;
	number_pages(d);
	if (d->readable)
		g_atomic_pointer_set(&d->fetches, ferry_rdma_fetches_new(d->link, d->ram));
	g_atomic_int_set(&d->begun, TRUE);
	/* Behind it: the source is told of no region that it did not ask for. */
	if (d->readable)
		ferry_rdma_regions_request_rest(d->regions);
	return TRUE;
}

/* ---- pages that the source writes ---- */

/* The run of @bytes from page @number on. FALSE: it is not within one block. */
static gboolean find_run(const FerryRdmaDestination *d, guint64 number, guint32 bytes,
			 FerryRun *run)
{
	guint low = 0, high = d->ram->n_blocks;
	guint64 pages = bytes >> FERRY_PAGE_SHIFT;

	if (number >= d->first[high] || bytes % FERRY_PAGE_SIZE)
		return FALSE;
	while (high - low > 1) {
		guint middle = (low + high) / 2;

		if (d->first[middle] <= number)
			low = middle;
		else
			high = middle;
	}
	*run = (FerryRun){ low, number - d->first[low], pages };
	return pages <= d->first[low + 1] - number;
}

/* Always FALSE. */
static gboolean stray(const struct ibv_wc *wc, const char *why, GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "RDMA queue pair %u: the source wrote %u bytes from page %u on, %s",
		    (guint)wc->wr_id, wc->byte_len, ntohl(wc->imm_data), why);
	return FALSE;
}

/* A word that gives back is a write without data, as a fence is. */
static gboolean give_back(FerryRdmaDestination *d, guint queue, GError **error)
{
	struct ibv_send_wr *bad = NULL, request = {
		.wr_id = FERRY_RDMA_GIVEN_BACK + queue,
		.opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
		.send_flags = IBV_SEND_SIGNALED,
		.imm_data = htonl(d->back[queue].owed),
	};
	int rc;

	if (d->back[queue].owed < FERRY_RDMA_CREDITS_BACK ||
	    d->back[queue].under_way == d->depths.sends)
		return TRUE;
	rc = d->verbs->post_send(d->link->queues[queue].id->qp, &request, &bad);
	if (rc)
		return ferry_verbs_failed(error, "ibv_post_send", rc);
	d->back[queue].owed = 0;
	d->back[queue].under_way++;
	return TRUE;
}

gboolean ferry_rdma_destination_gave_back(FerryRdmaDestination *d, guint queue, GError **error)
{
	d->back[queue].under_way--;
	return give_back(d, queue, error);
}

/* What it wrote is there already, whatever it is: all that can be done about a page that has run
 * away from under its guest is to say so, and take nothing more. */
gboolean ferry_rdma_destination_take_write(FerryRdmaDestination *d, const struct ibv_wc *wc,
					   GError **error)
{
	guint queue = (guint)wc->wr_id;
	guint64 *counter = queue == d->link->n - 1 ? &d->urgent : &d->writes;
	FerryRun run;

	if (!g_atomic_int_get(&d->begun))
		return stray(wc, "as after a switch that was not made", error);
	if (d->readable)
		return stray(wc, "though pages are to be read", error);
	if (!find_run(d, ntohl(wc->imm_data), wc->byte_len, &run))
		return stray(wc, "which are no pages of one block", error);
	if (!d->arrivals.wanted(d->arrivals.user, &run))
		return stray(wc, "which are here already: the guest may have changed them", error);
	d->back[queue].owed++;
	if (!ferry_rdma_destination_post_receive(d, queue, error) || !give_back(d, queue, error))
		return FALSE;
	d->arrivals.landed(d->arrivals.user, &run);
	__atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
	return TRUE;
}

/* ---- pages that are fetched ---- */

void ferry_rdma_destination_wake_fetching(FerryRdmaDestination *d)
{
	eventfd_write(d->wake_fetching, 1);
}

static gboolean is_over(FerryRdmaDestination *d)
{
	return !d->link || ferry_rdma_link_is_dead(d->link) || g_atomic_int_get(&d->quiet);
}

/* Both ends of the read of @run, which is in one chunk. FALSE: one is not known yet. */
static gboolean find_ends(FerryRdmaDestination *d, FerryRdmaRead *read)
{
	guint64 at = read->run.first << FERRY_PAGE_SHIFT, address;
	FerryRdmaChunks chunk = { read->run.block, (guint32)(at / d->terms.chunk_size), 1 };
	const struct ibv_mr *mr = ferry_rdma_regions_get(d->regions, chunk.block, chunk.first);

	if (!mr)
		ferry_rdma_regions_request(d->regions, &chunk, NULL);
	if (!ferry_rdma_readable_find(d->readable, chunk.block, chunk.first, &address,
				      &read->rkey) ||
	    !mr)
		return FALSE;
	read->from = address + at % d->terms.chunk_size;
	read->to = (guintptr)mr->addr + at % d->terms.chunk_size;
	read->lkey = mr->lkey;
	return TRUE;
}

/* The reads that make up @run, cut where a chunk ends; 0: their ends are not all known yet. */
static guint find_reads(FerryRdmaDestination *d, const FerryRun *run, FerryRdmaRead *reads)
{
	guint64 chunk_pages = d->terms.chunk_size >> FERRY_PAGE_SHIFT;
	gboolean known = TRUE;
	FerryRun rest = *run;
	guint n = 0;

	while (rest.pages) {
		guint64 pages = MIN(rest.pages, chunk_pages - rest.first % chunk_pages);

		reads[n].run = (FerryRun){ rest.block, rest.first, pages };
		known &= find_ends(d, &reads[n++]);
		rest.first += pages;
		rest.pages -= pages;
	}
	return known ? n : 0;
}

void ferry_rdma_destination_put_flushed(FerryRdmaDestination *d, GError *error)
{
	gboolean first;

	g_mutex_lock(&d->lock);
	first = !d->flushed;
	if (first) {
		d->flushed = error;
		d->flushed_us = g_get_monotonic_time();
	}
	g_mutex_unlock(&d->lock);
	if (!first)
		g_error_free(error);
	ferry_rdma_destination_wake(d);
	ferry_rdma_destination_wake_fetching(d);
}

/* For whoever found none before. */
static void note_room(FerryRdmaDestination *d)
{
	if (!d->starved)
		return;
	d->starved = FALSE;
	d->relieved = TRUE;
}

static guint poll_fetches(FerryRdmaDestination *d)
{
	g_autoptr(GError) flushed = NULL;
	guint n = ferry_rdma_fetches_poll(d->fetches, &flushed);

	if (ferry_rdma_link_is_dead(d->link))
		ferry_rdma_destination_wake(d);
	if (flushed)
		ferry_rdma_destination_put_flushed(d, g_steal_pointer(&flushed));
	if (n)
		note_room(d);
	return n;
}

FerryIo ferry_rdma_destination_fetch(FerryCarrier *carrier, const FerryRun *run, gboolean urgent)
{
	FerryRdmaRead reads[FERRY_RDMA_FETCH_READS];
	FerryRdmaDestination *d = self(carrier);
	gboolean posted;
	guint n;

	if (is_over(d))
		return FERRY_IO_DEAD;
	if (!d->fetches || run->pages > FERRY_FETCH_MAX)
		return FERRY_IO_AGAIN;
	n = find_reads(d, run, reads);
	posted = n && ferry_rdma_fetches_read(d->fetches, reads, n, urgent);
	d->starved = n && !posted;
	d->relieved = FALSE;
	if (!ferry_rdma_link_is_dead(d->link))
		return posted ? FERRY_IO_OK : FERRY_IO_AGAIN;
	ferry_rdma_destination_wake(d);
	return FERRY_IO_DEAD;
}

FerryIo ferry_rdma_destination_progress(FerryCarrier *carrier)
{
	FerryRdmaDestination *d = self(carrier);
	FerryRun run;

	if (d->fetches && !g_atomic_int_get(&d->quiet)) {
		poll_fetches(d);
		/* A read has its slot until it is taken. */
		while (ferry_rdma_fetches_take(d->fetches, &run)) {
			note_room(d);
			d->arrivals.landed(d->arrivals.user, &run);
		}
	}
	if (is_over(d))
		return FERRY_IO_DEAD;
	return d->fetches && !ferry_rdma_fetches_is_idle(d->fetches) ? FERRY_IO_AGAIN : FERRY_IO_OK;
}

/* Polls for a moment; TRUE: something completed. */
static gboolean spin(FerryRdmaDestination *d)
{
	gint64 end = g_get_monotonic_time() + SPIN_US;

	do {
		if (poll_fetches(d))
			return TRUE;
	} while (d->spins && !ferry_rdma_fetches_is_idle(d->fetches) &&
		 g_get_monotonic_time() < end);
	return FALSE;
}

/* As at the source: what completes before the queue is armed makes no event. */
static gboolean may_sleep(FerryRdmaDestination *d)
{
	GError *error = NULL;

	if (ferry_rdma_link_arm_fetches(d->link, &error))
		return !poll_fetches(d) && !is_over(d);
	ferry_rdma_link_fail(d->link, error);
	ferry_rdma_destination_wake(d);
	return FALSE;
}

void ferry_rdma_destination_wait_fetched(FerryCarrier *carrier, int fd, gint64 timeout_us)
{
	FerryRdmaDestination *d = self(carrier);
	struct timespec timeout = { timeout_us / G_USEC_PER_SEC,
				    timeout_us % G_USEC_PER_SEC * 1000 };
	eventfd_t woken;

	/* Room that came before this call is news, too, once. */
	if (d->relieved) {
		d->relieved = FALSE;
		return;
	}
	if (is_over(d) || !d->fetches || ferry_rdma_fetches_has_landed(d->fetches) || spin(d) ||
	    !may_sleep(d))
		return;
	(void)!ppoll((struct pollfd[]){ { .fd = d->wake_fetching, .events = POLLIN },
					{ .fd = d->link->fetches->fd, .events = POLLIN },
					{ .fd = fd, .events = POLLIN } },
		     3, timeout_us < 0 ? NULL : &timeout, NULL);
	eventfd_read(d->wake_fetching, &woken);
}

/* ---- told ---- */

void ferry_rdma_destination_report_postcopy(FerryRdmaDestination *d, GVariantDict *dict)
{
	FerryRdmaFetches *fetches = g_atomic_pointer_get(&d->fetches);
	FerryRdmaFetchStats stats = { 0 };

	if (fetches)
		ferry_rdma_fetches_get_stats(fetches, &stats);
	g_variant_dict_insert(dict, "urgent-writes", "t",
			      __atomic_load_n(&d->urgent, __ATOMIC_RELAXED));
	g_variant_dict_insert(dict, "told-writes", "t",
			      __atomic_load_n(&d->writes, __ATOMIC_RELAXED));
	g_variant_dict_insert(dict, "urgent-reads", "t", stats.urgent);
	g_variant_dict_insert(dict, "background-reads", "t", stats.background);
	g_variant_dict_insert(dict, "bytes-read", "t", stats.bytes);
}
