/* SPDX-License-Identifier: BSD-2-Clause */
#include "progress.h"

#include "observe.h"

#include <ferry/ram.h>
#include <string.h>
#include <sys/resource.h>

#define WINDOW_US (100 * G_TIME_SPAN_MILLISECOND)

struct FerryProgress {
	GMutex lock;                                           /* guards everything */
	gint64 begin_us, setup_us, stop_us, resume_us, end_us; /* 0: not yet */
	FerryMigrationStatus status;
	GArray *rounds; /* of FerryRound */
	gint64 round_us;
	gint64 collected_us;
	gint64 window_us;
	guint64 window_bytes;
	gboolean window_filled; /* a whole window passed in this round */
	double bandwidth;
	FerryCpuTime cpu_begin;
	FerryCarrier *described; /* borrowed; NULL: status.carrier has its last word */
};

static FerryCpuTime process_cpu(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (FerryCpuTime){ usage.ru_utime.tv_sec + usage.ru_utime.tv_usec / 1e6,
			       usage.ru_stime.tv_sec + usage.ru_stime.tv_usec / 1e6 };
}

FerryProgress *ferry_progress_new(void)
{
	FerryProgress *progress = g_new0(FerryProgress, 1);

	g_mutex_init(&progress->lock);
	progress->rounds = g_array_new(FALSE, TRUE, sizeof(FerryRound));
	progress->status.predicted_downtime_ms = -1;
	return progress;
}

void ferry_progress_free(FerryProgress *progress)
{
	if (!progress)
		return;
	ferry_migration_status_clear(&progress->status);
	g_array_unref(progress->rounds);
	g_mutex_clear(&progress->lock);
	g_free(progress);
}

void ferry_progress_begin(FerryProgress *progress, guint64 ram_bytes, gint64 downtime_limit_ms)
{
	g_mutex_lock(&progress->lock);
	ferry_migration_status_clear(&progress->status);
	g_array_set_size(progress->rounds, 0);
	progress->begin_us = progress->window_us = g_get_monotonic_time();
	progress->setup_us = progress->stop_us = progress->resume_us = progress->end_us = 0;
	progress->collected_us = 0;
	progress->window_bytes = 0;
	progress->bandwidth = 0;
	progress->cpu_begin = process_cpu();
	progress->status.ram.total = progress->status.ram.remaining = ram_bytes;
	progress->status.expected_downtime_ms = downtime_limit_ms;
	progress->status.predicted_downtime_ms = -1;
	progress->status.destination_cpu = (FerryCpuTime){ -1, -1 };
	g_mutex_unlock(&progress->lock);
}

void ferry_progress_setup_done(FerryProgress *progress)
{
	g_mutex_lock(&progress->lock);
	progress->setup_us = g_get_monotonic_time();
	g_mutex_unlock(&progress->lock);
}

void ferry_progress_set_transport(FerryProgress *progress, const char *name)
{
	g_mutex_lock(&progress->lock);
	g_free(progress->status.transport);
	progress->status.transport = g_strdup(name);
	g_mutex_unlock(&progress->lock);
}

void ferry_progress_set_fallback(FerryProgress *progress, const char *reason)
{
	g_mutex_lock(&progress->lock);
	g_free(progress->status.fallback);
	progress->status.fallback = g_strdup(reason);
	g_mutex_unlock(&progress->lock);
}

/* What the carrier says of itself now. The lock is held. */
static GVariant *describe(FerryProgress *progress)
{
	FerryCarrier *carrier = progress->described;

	if (carrier && carrier->ops->describe)
		return g_variant_ref_sink(carrier->ops->describe(carrier));
	return progress->status.carrier ? g_variant_ref(progress->status.carrier) : NULL;
}

void ferry_progress_describe(FerryProgress *progress, FerryCarrier *carrier)
{
	GVariant *last;

	g_mutex_lock(&progress->lock);
	last = describe(progress);
	g_clear_pointer(&progress->status.carrier, g_variant_unref);
	progress->status.carrier = last;
	progress->described = carrier;
	g_mutex_unlock(&progress->lock);
}

static FerryRound *last_round(FerryProgress *progress)
{
	return progress->rounds->len
		       ? &g_array_index(progress->rounds, FerryRound, progress->rounds->len - 1)
		       : NULL;
}

void ferry_progress_round_begin(FerryProgress *progress, guint64 dirty_pages, guint64 put_off_pages,
				gint64 collect_us)
{
	FerryRound round = { .round = 1,
			     .dirty_pages = dirty_pages,
			     .put_off_pages = put_off_pages,
			     .collect_us = collect_us };

	g_mutex_lock(&progress->lock);
	if (last_round(progress))
		round.round = last_round(progress)->round + 1;
	if (progress->rounds->len == FERRY_ROUNDS_MAX)
		g_array_set_size(progress->rounds, FERRY_ROUNDS_MAX - 1);
	g_array_append_val(progress->rounds, round);
	progress->round_us = progress->window_us = g_get_monotonic_time();
	progress->window_bytes = 0;
	progress->window_filled = FALSE;
	if (!progress->stop_us)
		progress->status.put_off_pages = put_off_pages;
	progress->status.ram.remaining = (dirty_pages + put_off_pages) << FERRY_PAGE_SHIFT;
	g_mutex_unlock(&progress->lock);
	ferry_observe_round_begin(&round);
}

/* A window of 100 ms is full: it is the bandwidth now. The lock is held. */
static void measure_window(FerryProgress *progress, gint64 now)
{
	gint64 elapsed = now - progress->window_us;

	if (elapsed < WINDOW_US)
		return;
	progress->bandwidth = progress->window_bytes * 1e6 / elapsed;
	progress->status.ram.mbps = progress->bandwidth * 8 / 1e6;
	progress->status.ram.pages_per_second = progress->bandwidth / FERRY_PAGE_SIZE;
	progress->window_us = now;
	progress->window_bytes = 0;
	progress->window_filled = TRUE;
}

void ferry_progress_sent(FerryProgress *progress, guint64 normal, guint64 zero, guint64 bytes)
{
	FerryRound *round;
	guint64 done = (normal + zero) << FERRY_PAGE_SHIFT;

	g_mutex_lock(&progress->lock);
	round = last_round(progress);
	round->normal += normal;
	round->duplicate += zero;
	round->bytes += bytes;
	progress->status.ram.normal += normal;
	progress->status.ram.duplicate += zero;
	progress->status.ram.transferred += bytes;
	if (progress->status.postcopy.switched)
		progress->status.ram.postcopy_bytes += bytes;
	else if (progress->stop_us)
		progress->status.ram.downtime_bytes += bytes;
	else
		progress->status.ram.precopy_bytes += bytes;
	progress->status.ram.remaining -= MIN(done, progress->status.ram.remaining);
	progress->window_bytes += bytes;
	measure_window(progress, g_get_monotonic_time());
	g_mutex_unlock(&progress->lock);
}

void ferry_progress_encoded(FerryProgress *progress, const FerryProgressEncoded *encoded)
{
	guint64 bytes = encoded->pages << FERRY_PAGE_SHIFT;

	g_mutex_lock(&progress->lock);
	last_round(progress)->normal += encoded->pages - encoded->unchanged;
	progress->status.ram.skipped += encoded->unchanged;
	progress->status.ram.remaining -= MIN(bytes, progress->status.ram.remaining);
	progress->status.xbzrle = *encoded->xbzrle;
	progress->status.compression = *encoded->compression;
	g_mutex_unlock(&progress->lock);
}

void ferry_progress_round_end(FerryProgress *progress, gint64 bookkeeping_us)
{
	FerryRound *round, ended;

	g_mutex_lock(&progress->lock);
	round = last_round(progress);
	round->time_us = g_get_monotonic_time() - progress->round_us;
	round->bookkeeping_us = bookkeeping_us;
	if (!progress->window_filled && round->bytes && round->time_us) {
		progress->bandwidth = round->bytes * 1e6 / round->time_us;
		progress->status.ram.mbps = progress->bandwidth * 8 / 1e6;
		progress->status.ram.pages_per_second = progress->bandwidth / FERRY_PAGE_SIZE;
	}
	ended = *round;
	g_mutex_unlock(&progress->lock);
	ferry_observe_round_end(&ended);
}

void ferry_progress_multifd(FerryProgress *progress, guint64 bytes, guint64 copied)
{
	g_mutex_lock(&progress->lock);
	progress->status.multifd_bytes = bytes;
	progress->status.zero_copy_copied = copied;
	g_mutex_unlock(&progress->lock);
}

void ferry_progress_group(FerryProgress *progress, guint64 rate, guint members)
{
	g_mutex_lock(&progress->lock);
	progress->status.group_rate = rate;
	progress->status.group_members = members;
	g_mutex_unlock(&progress->lock);
}

void ferry_progress_control(FerryProgress *progress, guint64 bytes)
{
	g_mutex_lock(&progress->lock);
	progress->status.wire_bytes += bytes;
	g_mutex_unlock(&progress->lock);
}

void ferry_progress_collected(FerryProgress *progress, guint64 dirtied, guint64 pending,
			      double expected_us)
{
	gint64 now = g_get_monotonic_time();
	double seconds = (now - progress->collected_us) / 1e6;

	g_mutex_lock(&progress->lock);
	progress->status.ram.dirty_sync_count++;
	if (progress->collected_us && seconds > 0)
		progress->status.ram.dirty_pages_rate = dirtied / seconds;
	progress->collected_us = now;
	progress->status.ram.remaining = pending << FERRY_PAGE_SHIFT;
	progress->status.expected_downtime_ms = (gint64)(expected_us / 1e3 + 0.5);
	if (!progress->stop_us)
		progress->status.predicted_downtime_ms = expected_us / 1e3;
	g_mutex_unlock(&progress->lock);
}

void ferry_progress_predicted(FerryProgress *progress, double predicted_us)
{
	g_mutex_lock(&progress->lock);
	progress->status.predicted_downtime_ms = predicted_us / 1e3;
	g_mutex_unlock(&progress->lock);
}

void ferry_progress_switched(FerryProgress *progress, const char *mode, guint64 missing)
{
	FerryPostcopyStatus *postcopy = &progress->status.postcopy;

	g_mutex_lock(&progress->lock);
	postcopy->switched = TRUE;
	postcopy->mode = mode;
	postcopy->discarded = postcopy->missing = missing;
	progress->status.ram.remaining = missing << FERRY_PAGE_SHIFT;
	g_mutex_unlock(&progress->lock);
}

void ferry_progress_pushed(FerryProgress *progress, const FerryPushCounts *counts)
{
	FerryPostcopyStatus *postcopy = &progress->status.postcopy;

	g_mutex_lock(&progress->lock);
	postcopy->missing = counts->missing;
	postcopy->requests = counts->requests;
	postcopy->urgent_pages = counts->urgent;
	postcopy->background_pages = counts->background;
	progress->status.ram.remaining = counts->missing << FERRY_PAGE_SHIFT;
	g_mutex_unlock(&progress->lock);
}

void ferry_progress_paused(FerryProgress *progress)
{
	g_mutex_lock(&progress->lock);
	progress->status.postcopy.pauses++;
	g_mutex_unlock(&progress->lock);
}

void ferry_progress_recovered(FerryProgress *progress, const char *mode, guint64 missing)
{
	g_mutex_lock(&progress->lock);
	progress->status.postcopy.mode = mode;
	progress->status.postcopy.missing = missing;
	progress->status.ram.remaining = missing << FERRY_PAGE_SHIFT;
	g_mutex_unlock(&progress->lock);
}

void ferry_progress_fetched(FerryProgress *progress)
{
	guint64 pages;

	g_mutex_lock(&progress->lock);
	pages = progress->status.postcopy.missing;
	progress->status.postcopy.missing = 0;
	g_mutex_unlock(&progress->lock);
	ferry_progress_sent(progress, pages, 0, pages << FERRY_PAGE_SHIFT);
}

void ferry_progress_stopped(FerryProgress *progress)
{
	g_mutex_lock(&progress->lock);
	if (!progress->stop_us)
		progress->stop_us = g_get_monotonic_time();
	g_mutex_unlock(&progress->lock);
}

void ferry_progress_resumed(FerryProgress *progress)
{
	g_mutex_lock(&progress->lock);
	progress->resume_us = g_get_monotonic_time();
	if (progress->stop_us)
		progress->status.downtime_ms = (progress->resume_us - progress->stop_us + 500) /
					       G_TIME_SPAN_MILLISECOND;
	g_mutex_unlock(&progress->lock);
}

void ferry_progress_verified(FerryProgress *progress, FerryVerified verified)
{
	g_mutex_lock(&progress->lock);
	progress->status.verified = verified;
	g_mutex_unlock(&progress->lock);
}

void ferry_progress_destination_cpu(FerryProgress *progress, double user, double system)
{
	g_mutex_lock(&progress->lock);
	progress->status.destination_cpu = (FerryCpuTime){ user, system };
	g_mutex_unlock(&progress->lock);
}

/* CPU since the beginning. The lock is held. */
static void measure_cpu(FerryProgress *progress)
{
	FerryCpuTime now = process_cpu();

	progress->status.source_cpu = (FerryCpuTime){ now.user - progress->cpu_begin.user,
						      now.system - progress->cpu_begin.system };
}

void ferry_progress_end(FerryProgress *progress)
{
	FerryMigrationStatus *status = &progress->status;
	double seconds;

	g_mutex_lock(&progress->lock);
	progress->end_us = g_get_monotonic_time();
	measure_cpu(progress);
	seconds = (progress->end_us - progress->begin_us) / 1e6;
	if (progress->setup_us && seconds > 0)
		status->ram.mbps = (status->ram.transferred + status->wire_bytes) * 8 / seconds /
				   1e6;
	g_mutex_unlock(&progress->lock);
}

void ferry_progress_fill(FerryProgress *progress, FerryMigrationStatus *status)
{
	gint64 now;

	g_mutex_lock(&progress->lock);
	now = progress->end_us ? progress->end_us : g_get_monotonic_time();
	if (!progress->end_us && progress->begin_us)
		measure_cpu(progress);
	*status = progress->status;
	status->transport = g_strdup(progress->status.transport);
	status->fallback = g_strdup(progress->status.fallback);
	status->carrier = describe(progress);
	status->rounds = g_memdup2(progress->rounds->data,
				   progress->rounds->len * sizeof(FerryRound));
	status->n_rounds = progress->rounds->len;
	status->ram.normal_bytes = status->ram.normal << FERRY_PAGE_SHIFT;
	status->wire_bytes += status->ram.transferred;
	if (progress->begin_us)
		status->total_time_ms = (now - progress->begin_us) / G_TIME_SPAN_MILLISECOND;
	if (progress->setup_us)
		status->setup_time_ms = (progress->setup_us - progress->begin_us) /
					G_TIME_SPAN_MILLISECOND;
	g_mutex_unlock(&progress->lock);
}

void ferry_migration_status_clear(FerryMigrationStatus *status)
{
	g_free(status->error_desc);
	g_free(status->transport);
	g_free(status->fallback);
	g_clear_pointer(&status->carrier, g_variant_unref);
	g_free(status->dirty_source);
	g_free(status->rounds);
	memset(status, 0, sizeof(*status));
}
