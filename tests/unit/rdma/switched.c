/* SPDX-License-Identifier: BSD-2-Clause */
#include "switched.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define DEADLINE_US (10 * G_USEC_PER_SEC)
#define WAIT_US (20 * G_TIME_SPAN_MILLISECOND)
#define BULK_PAGES 40u
#define URGENT_PAGES 4u

enum {
	HERE,
	MISSING,
	CLAIMED,
};

void switched_ask(Ends *ends, gboolean pull)
{
	ends->source.session.postcopy = ends->destination.session.postcopy = TRUE;
	ferry_settings_set_capability(ends->source.settings, FERRY_CAPABILITY_RDMA_POSTCOPY_PULL,
				      pull, NULL);
}

/* ---- what is missing ---- */

static guint8 *state_of(Switched *s, guint32 block, guint64 page)
{
	return &s->pages[block][page];
}

/* Marks the run, from @page on, of up to @most unclaimed pages. Under the lock. */
static void claim_from(Switched *s, guint32 block, guint64 page, guint most, FerryRun *run)
{
	guint64 end = ferry_ram_block_pages(&s->ends->source.ram->blocks[block]);

	*run = (FerryRun){ block, page, 0 };
	while (page < end && run->pages < most && *state_of(s, block, page) == MISSING) {
		*state_of(s, block, page++) = CLAIMED;
		run->pages++;
		s->unclaimed--;
	}
}

/* The first that is unclaimed; what is behind the front is not looked at again. */
static void claim_front(Switched *s, guint most, FerryRun *run)
{
	const FerryRam *ram = s->ends->source.ram;
	FerryRun *front = &s->front;

	while (front->block < ram->n_blocks && !run->pages) {
		if (front->first < ferry_ram_block_pages(&ram->blocks[front->block]))
			claim_from(s, front->block, front->first++, most, run);
		else
			*front = (FerryRun){ .block = front->block + 1 };
	}
}

/* Any that is unclaimed. */
static void claim_any(Switched *s, guint most, FerryRun *run)
{
	const FerryRam *ram = s->ends->source.ram;
	guint32 start = (guint32)g_rand_int_range(s->random, 0, (gint32)ram->n_blocks);

	for (guint32 i = 0; i < ram->n_blocks && !run->pages; i++) {
		guint32 block = (start + i) % ram->n_blocks;
		guint64 n = ferry_ram_block_pages(&ram->blocks[block]);
		guint64 from = (guint64)g_rand_int_range(s->random, 0, (gint32)n);

		for (guint64 j = 0; j < n && !run->pages; j++)
			claim_from(s, block, (from + j) % n, most, run);
	}
}

gboolean switched_claim(Switched *switched, gboolean urgent, guint most, FerryRun *run)
{
	run->pages = 0;
	g_mutex_lock(&switched->lock);
	if (urgent)
		claim_any(switched, most, run);
	else
		claim_front(switched, most, run);
	if (urgent)
		switched->urgent += run->pages;
	g_mutex_unlock(&switched->lock);
	return run->pages > 0;
}

static void unclaim(Switched *s, const FerryRun *run)
{
	g_mutex_lock(&s->lock);
	for (guint64 i = 0; i < run->pages; i++)
		*state_of(s, run->block, run->first + i) = MISSING;
	s->unclaimed += run->pages;
	if (run->block < s->front.block ||
	    (run->block == s->front.block && run->first < s->front.first))
		s->front = *run;
	g_mutex_unlock(&s->lock);
}

/* ---- arrivals ---- */

static gboolean wanted(gpointer user, const FerryRun *run)
{
	Switched *s = user;
	gboolean all = TRUE;

	g_mutex_lock(&s->lock);
	for (guint64 i = 0; i < run->pages; i++)
		all &= *state_of(s, run->block, run->first + i) != HERE;
	all &= !s->refuses;
	g_mutex_unlock(&s->lock);
	return all;
}

static void landed(gpointer user, const FerryRun *run)
{
	Switched *s = user;
	guint torn = 0;

	if (s->slow_us)
		g_usleep(s->slow_us);
	for (guint64 i = 0; i < run->pages; i++) {
		const FerryRun page = { run->block, run->first + i, 1 };

		torn += memcmp(ferry_run_host(s->ends->source.ram, &page),
			       ferry_run_host(s->ends->destination.ram, &page),
			       FERRY_PAGE_SIZE) != 0;
	}
	g_mutex_lock(&s->lock);
	for (guint64 i = 0; i < run->pages; i++) {
		guint8 *state = state_of(s, run->block, run->first + i);

		s->twice += *state == HERE;
		s->missing -= *state != HERE;
		*state = HERE;
	}
	s->torn += torn;
	g_cond_broadcast(&s->changed);
	g_mutex_unlock(&s->lock);
}

FerryArrivals switched_arrivals(Switched *switched)
{
	return (FerryArrivals){ wanted, landed, switched };
}

/* ---- the switch ---- */

static void lose_pages(Switched *s)
{
	const FerryRam *ram = s->ends->source.ram;

	s->pages = g_new0(guint8 *, ram->n_blocks);
	for (guint32 i = 0; i < ram->n_blocks; i++) {
		guint64 n = ferry_ram_block_pages(&ram->blocks[i]);

		s->pages[i] = g_new0(guint8, n);
		for (guint64 page = 0; page < n; page++) {
			guint8 *at = ram->blocks[i].host + page * FERRY_PAGE_SIZE;

			if (g_rand_int_range(s->random, 0, 3) == 0)
				continue;
			s->pages[i][page] = MISSING;
			s->total++;
			for (guint word = 0; word < FERRY_PAGE_SIZE; word += 512)
				*(guint32 *)(at + word) = g_rand_int(s->random);
		}
	}
	s->unclaimed = s->missing = s->total;
}

Switched *switched_begin(Ends *ends, GError **error)
{
	FerryCarrier *source = ends->source.carrier, *destination = ends->destination.carrier;
	Switched *s = g_new0(Switched, 1);
	FerryArrivals arrivals = switched_arrivals(s);

	ends->switched = s;
	s->ends = ends;
	s->sparse = 4;
	s->random = g_rand_new_with_seed(11);
	s->news = eventfd(0, EFD_CLOEXEC);
	g_mutex_init(&s->lock);
	g_cond_init(&s->changed);
	lose_pages(s);
	if (!destination->ops->begin_postcopy(destination, ends->destination.ram, &arrivals, error))
		return NULL;
	source->ops->switch_over(source);
	return s;
}

void switched_stop(Switched *switched)
{
	if (!switched || !switched->thread)
		return;
	g_mutex_lock(&switched->lock);
	switched->stop = TRUE;
	g_mutex_unlock(&switched->lock);
	eventfd_write(switched->news, 1);
	g_thread_join(g_steal_pointer(&switched->thread));
}

void switched_free(Switched *switched)
{
	if (!switched)
		return;
	for (guint32 i = 0; i < switched->ends->source.ram->n_blocks; i++)
		g_free(switched->pages[i]);
	g_free(switched->pages);
	g_rand_free(switched->random);
	close(switched->news);
	g_mutex_clear(&switched->lock);
	g_cond_clear(&switched->changed);
	g_free(switched);
}

/* ---- moving ---- */

static gboolean goes_on(Switched *s)
{
	gboolean on;

	g_mutex_lock(&s->lock);
	on = !s->stop && !s->dead;
	g_mutex_unlock(&s->lock);
	return on;
}

static void note_death(Switched *s)
{
	g_mutex_lock(&s->lock);
	s->dead = TRUE;
	g_mutex_unlock(&s->lock);
}

/* The thread that hears of faults at the source. */
static gpointer write_urgently(gpointer user)
{
	Switched *s = user;
	FerryCarrier *carrier = s->ends->source.carrier;
	FerryRun run;

	while (goes_on(s) && switched_claim(s, TRUE, URGENT_PAGES, &run)) {
		FerryIo io;

		while ((io = carrier->ops->urgent(carrier, &run)) == FERRY_IO_AGAIN && goes_on(s))
			g_usleep(50);
		if (io == FERRY_IO_DEAD)
			note_death(s);
	}
	return NULL;
}

static guint64 count_missing(Switched *s)
{
	guint64 missing;

	g_mutex_lock(&s->lock);
	missing = s->missing;
	g_mutex_unlock(&s->lock);
	return missing;
}

/* One turn of the destination's thread that fetches: asks for what it may. */
static void fetch_some(Switched *s)
{
	FerryCarrier *carrier = s->ends->destination.carrier;
	FerryRun run;

	for (;;) {
		gboolean urgent = g_rand_int_range(s->random, 0, (gint32)s->sparse) == 0;
		FerryIo io;

		if (!switched_claim(s, urgent, urgent ? URGENT_PAGES : BULK_PAGES, &run))
			return;
		io = carrier->ops->fetch(carrier, &run, urgent);
		if (io == FERRY_IO_OK)
			continue;
		unclaim(s, &run);
		if (io == FERRY_IO_DEAD)
			note_death(s);
		return;
	}
}

static gpointer fetch_all(gpointer user)
{
	Switched *s = user;
	FerryCarrier *carrier = s->ends->destination.carrier;

	while (goes_on(s) && count_missing(s)) {
		fetch_some(s);
		if (carrier->ops->progress(carrier) == FERRY_IO_DEAD)
			note_death(s);
		else
			carrier->ops->wait_fetched(carrier, s->news, -1);
	}
	return NULL;
}

/* The source's engine while there is nothing to put. */
static gboolean linger_until_all_is_there(Switched *s, GError **error)
{
	FerryCarrier *carrier = s->ends->source.carrier;
	gint64 deadline = g_get_monotonic_time() + DEADLINE_US;
	guint64 missing, last = G_MAXUINT64;

	while ((missing = count_missing(s))) {
		FerryIo io = carrier->ops->progress(carrier);

		/* While there are ever fewer nothing hangs. */
		if (missing < last)
			deadline = g_get_monotonic_time() + DEADLINE_US;
		last = missing;
		if (!ends_step(s->ends, io == FERRY_IO_OK ? FERRY_IO_AGAIN : io, deadline, error))
			return FALSE;
	}
	return TRUE;
}

static gboolean push(Switched *s, GError **error)
{
	FerryRun run;

	s->thread = g_thread_new("urgent", write_urgently, s);
	while (switched_claim(s, FALSE, BULK_PAGES, &run))
		if (!ends_put_runs(s->ends, &run, 1, error))
			return FALSE;
	return linger_until_all_is_there(s, error);
}

gboolean switched_move(Switched *switched, GError **error)
{
	FerryCarrier *destination = switched->ends->destination.carrier;
	gboolean ok;

	if (destination->ops->pulls(destination)) {
		switched->thread = g_thread_new("fetch", fetch_all, switched);
		ok = linger_until_all_is_there(switched, error);
	} else {
		ok = push(switched, error);
	}
	if (!ok || !ends_fence(switched->ends, error))
		return FALSE;
	if (switched->twice || switched->torn || switched->missing) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
			    "%u pages landed twice, %u torn, %" G_GUINT64_FORMAT " never",
			    switched->twice, switched->torn, switched->missing);
		return FALSE;
	}
	return TRUE;
}

gboolean switched_run(Ends *ends, GError **error)
{
	Switched *switched = switched_begin(ends, error);

	return switched && switched_move(switched, error);
}
