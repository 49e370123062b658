/* SPDX-License-Identifier: BSD-2-Clause */
#include "source-private.h"

#include "rehearsal-model.h"

/*
 * A rehearsal: a migration's connections and rounds over its real carrier, for a given time, and
 * then no end of it. The guest is tracked as in a migration, and neither slowed down nor stopped.
 * Rounds are cut at the moments at which the curve of written pages is measured.
 */

/* The first of them; each lasts as long as all before it, but for the last. */
#define FIRST_US (G_TIME_SPAN_SECOND / 16)
/* How often a rehearsal that has nothing to send looks whether the destination is there. */
#define LOOK_US (100 * G_TIME_SPAN_MILLISECOND)
/* What a round must carry to tell of the link's speed: shorter ones tell of its latency. */
#define TELLING_BYTES (1u << 20)
/* Pages of the downtime that the model is given. */
#define MILLION 1000000u

typedef struct {
	FerryOutgoing *outgoing;
	FerryRehearsal result;
	FerryBitmap *written; /* pages, since the begin */
	gint64 begin_us;
} Rehearsal;

static void rehearsal_clear(Rehearsal *rehearsal)
{
	ferry_bitmap_free(rehearsal->written);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Rehearsal, rehearsal_clear)

gboolean ferry_outgoing_check_rehearsal(FerryOutgoing *outgoing, GError **error)
{
	const char *why = NULL;

	if (!outgoing->rehearses)
		return TRUE;
	if (!outgoing->path)
		why = "it needs a destination that answers: switch return-path on";
	else if (!outgoing->ferry_peer)
		why = "the destination is no Ferry";
	else if (!(outgoing->features & FERRY_FEATURE_REHEARSAL))
		why = "the Ferry at the destination is too old for it, or listens for one "
		      "connection only: use the same release, and let it listen on tcp:, unix: or "
		      "rdma:";
	if (why)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "cannot rehearse to %s: %s",
			    outgoing->uri, why);
	return !why;
}

/* ---- one cut ---- */

/* Without rounds there is nothing to wait for but the time, a cancel, and the link's end. */
static gboolean sleep_until(FerryOutgoing *outgoing, gint64 deadline, GError **error)
{
	FerrySource *source = outgoing->source;
	gboolean cancelled = FALSE;

	while (!cancelled && g_get_monotonic_time() < deadline) {
		g_mutex_lock(&source->lock);
		if (!g_atomic_int_get(&source->cancel))
			g_cond_wait_until(&source->changed, &source->lock,
					  MIN(deadline, g_get_monotonic_time() + LOOK_US));
		cancelled = g_atomic_int_get(&source->cancel);
		g_mutex_unlock(&source->lock);
		if (!cancelled && ferry_return_path_failed(outgoing->path, error))
			return FALSE;
	}
	if (cancelled)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED, "cancelled");
	return !cancelled;
}

/* Adds what was written since the last time to @pending, and to the curve. */
static gboolean collect(Rehearsal *rehearsal, gint64 *took_us, GError **error)
{
	FerryOutgoing *outgoing = rehearsal->outgoing;
	g_autoptr(FerryBitmap) before = g_steal_pointer(&outgoing->pending);
	gboolean ok;

	/* What is collected comes to an empty bitmap, to be told from what is still to be sent. */
	outgoing->pending = ferry_bitmap_new(ferry_vm_ram(outgoing->vm));
	ok = ferry_outgoing_collect(outgoing, took_us, error);
	if (ok)
		ferry_bitmap_add(rehearsal->written, outgoing->pending);
	ferry_bitmap_move(outgoing->pending, before);
	return ok;
}

static void add_point(Rehearsal *rehearsal)
{
	FerryRehearsal *result = &rehearsal->result;

	if (result->n_points == FERRY_DIRTY_POINTS_MAX)
		return;
	result->points[result->n_points++] = (FerryDirtyPoint){
		.seconds = (g_get_monotonic_time() - rehearsal->begin_us) / 1e6,
		.pages = ferry_bitmap_count(rehearsal->written),
	};
}

/* Holes that the guest has filled since are not in the map of an earlier walk. */
static void renew_holes(FerryOutgoing *outgoing)
{
	ferry_holes_free(outgoing->holes);
	outgoing->holes = ferry_holes_new(ferry_vm_ram(outgoing->vm));
}

/* Sends until @deadline, or until nothing is left to send, and then waits for it. */
static gboolean cut(Rehearsal *rehearsal, gint64 deadline, gint64 *collect_us, GError **error)
{
	FerryOutgoing *outgoing = rehearsal->outgoing;

	outgoing->leave_us = deadline;
	renew_holes(outgoing);
	if ((ferry_bitmap_count(outgoing->pending) &&
	     !ferry_outgoing_run_round(outgoing, *collect_us, error)) ||
	    !sleep_until(outgoing, deadline, error) || !collect(rehearsal, collect_us, error))
		return FALSE;
	add_point(rehearsal);
	return TRUE;
}

/* Where a limit held the rounds back they show nothing of the link, but in their last pages,
 * which a round that is cut does not come to: so a short one goes to its end. */
static gboolean probe(Rehearsal *rehearsal, gint64 collect_us, GError **error)
{
	FerryOutgoing *outgoing = rehearsal->outgoing;
	g_autoptr(FerryBitmap) rest = NULL;
	guint64 pages = ferry_token_bucket_burst(&outgoing->pace.bucket) * 3 >> FERRY_PAGE_SHIFT;
	gboolean ok;

	if (!pages)
		return TRUE;
	rest = g_steal_pointer(&outgoing->pending);
	outgoing->pending = ferry_bitmap_new(ferry_vm_ram(outgoing->vm));
	for (FerryRun run = { 0 }; pages && ferry_bitmap_next_run(rest, &run, pages);) {
		ferry_bitmap_set_run(outgoing->pending, &run);
		pages -= run.pages;
	}
	outgoing->leave_us = 0;
	renew_holes(outgoing);
	ok = !ferry_bitmap_count(outgoing->pending) ||
	     ferry_outgoing_run_round(outgoing, collect_us, error);
	/* What the round sent counts as never sent, in what a first round would be. */
	ferry_bitmap_move(outgoing->pending, rest);
	return ok;
}

static gboolean run_cuts(Rehearsal *rehearsal, gint64 duration_us, GError **error)
{
	gint64 collect_us = 0, at = FIRST_US;

	/* What was written while the connection was set up is no part of the curve. */
	if (!collect(rehearsal, &collect_us, error))
		return FALSE;
	ferry_bitmap_free(rehearsal->written);
	rehearsal->written = ferry_bitmap_new(ferry_vm_ram(rehearsal->outgoing->vm));
	rehearsal->begin_us = g_get_monotonic_time();
	for (;; at *= 2) {
		at = MIN(at, duration_us);
		if (!cut(rehearsal, rehearsal->begin_us + at, &collect_us, error))
			return FALSE;
		if (at == duration_us)
			return probe(rehearsal, collect_us, error);
	}
}

/* ---- what it comes to ---- */

/* What the link took in a second. */
typedef struct {
	double wire;  /* bytes */
	double pages; /* bytes of memory, which encoded are fewer on the wire */
} Speed;

/* Of the rounds that tell, or of all where none does. */
static Speed measure_speed(const FerryMigrationStatus *status)
{
	Speed all = { 0 }, telling = { 0 };
	double all_s = 0, telling_s = 0;

	for (guint i = 0; i < status->n_rounds; i++) {
		const FerryRound *round = &status->rounds[i];
		double pages = (double)round->normal * FERRY_PAGE_SIZE;

		all.wire += (double)round->bytes;
		all.pages += pages;
		all_s += (double)round->time_us / 1e6;
		if (pages < TELLING_BYTES || round->normal < round->duplicate)
			continue;
		telling.wire += (double)round->bytes;
		telling.pages += pages;
		telling_s += (double)round->time_us / 1e6;
	}
	if (telling_s > 0)
		return (Speed){ telling.wire / telling_s, telling.pages / telling_s };
	return (Speed){ all.wire / MAX(all_s, 1e-6), all.pages / MAX(all_s, 1e-6) };
}

/* Pages with content that a first round would send: what went, by the share that was no zero, and
 * what is still to go, without the holes. */
static guint64 count_first(FerryOutgoing *outgoing, const FerryMigrationStatus *status)
{
	guint64 all = ferry_vm_moving_bytes(outgoing->vm) >> FERRY_PAGE_SHIFT, left = 0, data = 0;
	double sent = status->ram.normal + status->ram.duplicate;

	renew_holes(outgoing);
	for (FerryRun run = { 0 }; ferry_bitmap_next_run(outgoing->pending, &run, G_MAXUINT64);) {
		FerryRun part = run;
		gboolean hole;

		for (; part.first < run.first + run.pages; part.first += part.pages) {
			part.pages = ferry_holes_split(outgoing->holes, part.block, part.first,
						       run.first + run.pages - part.first, &hole);
			data += hole ? 0 : part.pages;
		}
		left += run.pages;
	}
	return data + (sent > 0 ? (double)(all - MIN(left, all)) * (status->ram.normal / sent) : 0);
}

static guint64 written_after(const FerryRehearsal *result, double seconds)
{
	for (guint i = 0; i < result->n_points; i++)
		if (result->points[i].seconds >= seconds)
			return result->points[i].pages;
	return result->n_points ? result->points[result->n_points - 1].pages : 0;
}

/* New pages a second over the last stretch. */
static guint64 steady_rate(const FerryRehearsal *result)
{
	const FerryDirtyPoint *last = &result->points[result->n_points - 1];
	FerryDirtyPoint before = result->n_points > 1 ? last[-1] : (FerryDirtyPoint){ 0 };

	return (last->pages - before.pages) / MAX(last->seconds - before.seconds, 1e-6);
}

/* Of a million pages that are written, those that went in an earlier round. */
static guint64 count_again(Rehearsal *rehearsal)
{
	guint64 written = ferry_bitmap_count(rehearsal->written);

	return MILLION * ferry_bitmap_count_both(rehearsal->written, rehearsal->outgoing->again) /
	       MAX(written, 1);
}

static void conclude(Rehearsal *rehearsal)
{
	FerryOutgoing *outgoing = rehearsal->outgoing;
	FerrySettings *settings = ferry_vm_settings(outgoing->vm);
	FerryRehearsal *result = &rehearsal->result;
	g_auto(FerryMigrationStatus) status = { 0 };
	FerryRehearsalModel model;
	guint64 stop_bandwidth;
	Speed speed;

	ferry_progress_fill(outgoing->progress, &status);
	result->on = result->done = TRUE;
	result->seconds = (g_get_monotonic_time() - rehearsal->begin_us) / 1e6;
	speed = measure_speed(&status);
	result->bandwidth = speed.wire;
	result->bandwidth_limit = ferry_settings_get_parameter(settings,
							       FERRY_PARAMETER_MAX_BANDWIDTH);
	result->downtime_limit_ms = ferry_settings_get_parameter(settings,
								 FERRY_PARAMETER_DOWNTIME_LIMIT);
	result->first_second_pages = written_after(result, 1);
	result->steady_pages_per_second = steady_rate(result);
	stop_bandwidth = ferry_settings_get_parameter(settings,
						      FERRY_PARAMETER_AVAIL_SWITCHOVER_BANDWIDTH);
	/* Rounds of nothing tell nothing. */
	if (!stop_bandwidth && outgoing->forecast.fresh.pages <= 0 &&
	    outgoing->forecast.again.pages <= 0)
		stop_bandwidth = MAX(speed.pages, 1);
	model = (FerryRehearsalModel){
		.points = result->points,
		.n_points = result->n_points,
		.ram_pages = ferry_vm_moving_bytes(outgoing->vm) >> FERRY_PAGE_SHIFT,
		.first_pages = count_first(outgoing, &status),
		.bandwidth = MAX(speed.pages, 1),
		.limit_ms = result->downtime_limit_ms,
		.million = ferry_forecast_downtime(&outgoing->forecast, MILLION,
						   count_again(rehearsal), stop_bandwidth),
	};
	ferry_rehearsal_model_run(&model, result);
}

gboolean ferry_outgoing_rehearse(FerryOutgoing *outgoing, GError **error)
{
	g_auto(Rehearsal) rehearsal = {
		.outgoing = outgoing,
		.written = ferry_bitmap_new(ferry_vm_ram(outgoing->vm)),
	};

	if (!ferry_outgoing_await_tracking(outgoing, error))
		return FALSE;
	ferry_bitmap_set_all(outgoing->pending);
	ferry_outgoing_leave_out(outgoing, outgoing->pending);
	if (!run_cuts(&rehearsal, outgoing->rehearse_us, error))
		return FALSE;
	conclude(&rehearsal);
	return ferry_source_rehearsed(outgoing->source, &rehearsal.result, error);
}
