/* SPDX-License-Identifier: BSD-2-Clause */
#include "source-private.h"

#include "zero.h"

/* For starting the vCPUs there. */
#define RUNNING_US (20 * G_TIME_SPAN_SECOND)
/* For giving the guest its RAM back as its own, once all of it is there. */
#define SHUT_US (20 * G_TIME_SPAN_SECOND)
/* The guest there fetches as long as it takes; a link that dies ends the wait. */
#define FETCHING_US (G_MAXINT64 / 4)
/* How long a wait may last before the link is looked at again. */
#define WAIT_US (20 * G_TIME_SPAN_MILLISECOND)

/* Bytes that nobody waits for and that lie in the carrier's queues: as soon as one of them is asked
 * for, it has all of the others before it. */
#define AHEAD_MAX (1u << 20)
/* How often it is looked at whether they have left. */
#define LOOK_US 200

/* The migration thread's work after the commit. */
typedef struct {
	FerryOutgoing *outgoing;
	FerryRoundSender sender;
	FerryHoles *holes; /* of RAM that does not change any more */
	guint64 owed;      /* bytes that went ahead of the rate */
	guint64 lane;      /* urgent pages beside the loop that are counted already */
	guint64 ahead;     /* bytes put beside the stream that have not left */
	guint64 left;      /* bytes that had left at the last look */
	gboolean drained;  /* everything that was put has left */
	gint64 since;      /* when it last had, monotonic us */
	gboolean running;  /* RUNNING came */
} Push;

/* The guest runs there. */
static void note_running(Push *push, const FerryReply *reply)
{
	push->running = TRUE;
	ferry_progress_resumed(push->outgoing->progress);
	ferry_progress_destination_cpu(push->outgoing->progress, reply->running.user_us / 1e6,
				       reply->running.system_us / 1e6);
}

/* Looks for RUNNING without waiting: starting the vCPUs can itself need pages. */
static void look_for_running(Push *push)
{
	FerryReply reply;

	if (!push->running &&
	    ferry_return_path_take(push->outgoing->path, FERRY_REPLY_RUNNING, &reply))
		note_running(push, &reply);
}

static gboolean wait_for_running(Push *push, GError **error)
{
	FerryReply reply;

	if (push->running)
		return TRUE;
	if (!ferry_return_path_wait(push->outgoing->path, FERRY_REPLY_RUNNING, RUNNING_US, &reply,
				    error))
		return FALSE;
	note_running(push, &reply);
	return TRUE;
}

/* ---- pushing ---- */

/* Whether the rate allows another run that nobody waits for. */
static gboolean pay(Push *push)
{
	FerryTokenBucket *bucket = &push->sender.pace->bucket;

	ferry_token_bucket_set_rate(
		bucket, ferry_settings_get_parameter(ferry_vm_settings(push->outgoing->vm),
						     FERRY_PARAMETER_MAX_POSTCOPY_BANDWIDTH));
	if (push->owed)
		push->owed -= ferry_token_bucket_take(bucket, g_get_monotonic_time(), push->owed);
	return !push->owed;
}

/* Sends a claimed run as the stretches of zero and data that it consists of. */
static gboolean put_background(Push *push, const FerryRun *run, GError **error)
{
	FerryRun part = *run;
	guint64 end = run->first + run->pages;

	for (; part.first < end; part.first += part.pages) {
		gboolean zero = FALSE;

		part.pages = ferry_holes_split(push->holes, part.block, part.first,
					       end - part.first, &zero);
		if (!zero)
			part.pages = ferry_zero_split(ferry_run_host(push->sender.ram, &part),
						      part.pages, &zero);
		if (!ferry_round_put(&push->sender, &part, zero, error))
			return FALSE;
		if (zero)
			continue;
		push->owed += ferry_run_bytes(&part);
		push->ahead += ferry_run_bytes(&part);
	}
	return TRUE;
}

/* Moves on what was put: a page that was claimed must not lie about here, as somebody may wait for
 * it. */
static gboolean drain(Push *push, GError **error)
{
	if (!ferry_round_progress(&push->sender, &push->drained, error))
		return FALSE;
	push->ahead -= MIN(push->ahead, *push->sender.accounted - push->left);
	push->left = *push->sender.accounted;
	if (push->drained) {
		push->since = g_get_monotonic_time();
		push->ahead = 0;
	}
	return TRUE;
}

/* Whether a run that nobody waits for may go. Where requests go the same way, only one is ahead of
 * them. */
static gboolean may_put_background(Push *push)
{
	gboolean room = push->sender.carrier->ops->urgent ? push->ahead < AHEAD_MAX : push->drained;

	return room && pay(push);
}

/* Nothing may go now: until there is room, the rate allows it, or somebody asks. */
static gboolean rest(Push *push, GError **error)
{
	gint64 delay;

	if (!push->drained && !push->sender.carrier->ops->urgent)
		return ferry_round_wait(&push->sender, push->since, error);
	if (push->ahead >= AHEAD_MAX) {
		ferry_page_push_sleep(push->outgoing->push, LOOK_US);
		return TRUE;
	}
	delay = ferry_token_bucket_delay_us(&push->sender.pace->bucket, g_get_monotonic_time(),
					    MIN(push->owed, FERRY_TOKEN_BUCKET_BATCH));
	ferry_page_push_sleep(push->outgoing->push, CLAMP(delay, 1, WAIT_US));
	return TRUE;
}

/* What went since the last time, on either thread. */
static void count(Push *push)
{
	FerryPushCounts counts;

	ferry_page_push_get_counts(push->outgoing->push, &counts);
	ferry_round_count(&push->sender, counts.lane - push->lane);
	push->lane = counts.lane;
	ferry_progress_pushed(push->outgoing->progress, &counts);
}

static gboolean step(Push *push, gboolean *done, GError **error)
{
	FerryRun run;

	look_for_running(push);
	/* Its death is found out, with the reason, by whoever puts next. */
	ferry_page_push_serve(push->outgoing->push);
	if (!drain(push, error))
		return FALSE;
	switch (ferry_page_push_next(push->outgoing->push, may_put_background(push), &run)) {
	case FERRY_PUSH_URGENT:
		return ferry_round_put(&push->sender, &run, FALSE, error);
	case FERRY_PUSH_BACKGROUND:
		return put_background(push, &run, error);
	case FERRY_PUSH_WAIT:
		return rest(push, error);
	case FERRY_PUSH_DONE:
		*done = TRUE;
		break;
	}
	return TRUE;
}

/* Every page that is missing there, once. */
static gboolean push_all(Push *push, GError **error)
{
	gboolean done = FALSE;

	push->left = *push->sender.accounted;
	push->ahead = push->owed = 0;
	push->since = g_get_monotonic_time();
	while (!done) {
		if (!step(push, &done, error))
			return FALSE;
		count(push);
	}
	return ferry_round_settle(&push->sender, push->outgoing->round, error);
}

gboolean ferry_outgoing_is_pulled(FerryOutgoing *outgoing)
{
	FerryCarrier *bulk = ferry_outgoing_bulk(outgoing);

	return bulk->ops->pulls && bulk->ops->pulls(bulk);
}

/* The destination takes the pages by itself. */
static gboolean await_fetched(Push *push, GError **error)
{
	FerryReply reply;

	if (!wait_for_running(push, error) ||
	    !ferry_return_path_wait(push->outgoing->path, FERRY_REPLY_HAVE_ALL, FETCHING_US, &reply,
				    error))
		return FALSE;
	ferry_progress_fetched(push->outgoing->progress);
	return TRUE;
}

/* ---- the whole ---- */

/* Behind the last page. */
static gboolean finish(Push *push, guint64 pages, GError **error)
{
	FerryOutgoing *outgoing = push->outgoing;
	FerryReply reply;

	if (!wait_for_running(push, error) || !ferry_outgoing_end_round(outgoing, pages, error))
		return FALSE;
	if (outgoing->link)
		ferry_fabric_link_ignore_death(outgoing->link);
	ferry_progress_round_end(outgoing->progress, outgoing->bookkeeping_us);
	ferry_stream_put_section(outgoing->out, FERRY_SECTION_END, FERRY_RAM_SECTION_ID, NULL, 0,
				 0);
	ferry_put_be64(outgoing->out, FERRY_RAM_EOS);
	ferry_stream_put_footer(outgoing->out, FERRY_RAM_SECTION_ID);
	ferry_put_u8(outgoing->out, FERRY_SECTION_EOF);
	if (!ferry_outgoing_flush(outgoing, error) ||
	    !ferry_return_path_wait(outgoing->path, FERRY_REPLY_SHUT, SHUT_US, &reply, error))
		return FALSE;
	if (!reply.shut) {
		ferry_outgoing_farewell(outgoing);
		return TRUE;
	}
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "the destination ended postcopy with error %u: see its log", reply.shut);
	return FALSE;
}

/* The pages of one connection: a round of its own. */
static gboolean send_missing(Push *push, GError **error)
{
	FerryOutgoing *outgoing = push->outgoing;
	gboolean pulled = ferry_outgoing_is_pulled(outgoing);
	FerryPushCounts counts;
	guint64 pages;

	ferry_page_push_get_counts(outgoing->push, &counts);
	pages = pulled ? 0 : counts.missing;

	outgoing->round++;
	ferry_progress_round_begin(outgoing->progress, pages, 0, 0);
	return ferry_outgoing_send_mark(outgoing, FERRY_RECORD_ROUND_BEGIN, pages, error) &&
	       (pulled ? await_fetched(push, error) : push_all(push, error)) &&
	       finish(push, pages, error);
}

static const char *mode_of(FerryOutgoing *outgoing)
{
	return ferry_outgoing_is_pulled(outgoing) ? "pull" : outgoing->link ? "push" : "stream";
}

/* RUN, and what follows it on this connection. */
static gboolean run_there(Push *push, GError **error)
{
	FerryOutgoing *outgoing = push->outgoing;
	FerryPushCounts counts;

	/* Loading devices there may have taken some already. */
	ferry_page_push_get_counts(outgoing->push, &counts);
	ferry_progress_switched(outgoing->progress, mode_of(outgoing),
				counts.missing + counts.urgent);
	ferry_stream_put_command(outgoing->out, FERRY_COMMAND_POSTCOPY_RUN, NULL, 0);
	return ferry_outgoing_flush(outgoing, error) && send_missing(push, error);
}

/* The same on a later connection. */
static gboolean go_on_there(Push *push, GError **error)
{
	FerryOutgoing *outgoing = push->outgoing;

	if (!ferry_outgoing_recover(outgoing, error))
		return FALSE;
	push->sender = ferry_outgoing_sender(outgoing);
	ferry_progress_recovered(outgoing->progress, mode_of(outgoing),
				 ferry_bitmap_count(outgoing->pending));
	return send_missing(push, error);
}

/* The link is gone, and the guest, or the right to it, is the destination's: RAM is kept for it.
 * Takes @cause over. */
static void pause_postcopy(FerryOutgoing *outgoing, GError *cause)
{
	FerrySource *source = outgoing->source;
	gboolean by_hand;

	ferry_outgoing_prefer_reason(outgoing, &cause);
	ferry_progress_describe(outgoing->progress, NULL);
	ferry_outgoing_hang_up(outgoing);
	g_mutex_lock(&source->lock);
	by_hand = source->pausing;
	source->pausing = FALSE;
	g_mutex_unlock(&source->lock);
	ferry_source_set_error(source, by_hand ? "paused by hand (migrate-pause)" : cause->message);
	ferry_progress_paused(outgoing->progress);
	ferry_source_enter(source, ferry_source_state(source), FERRY_STATE_POSTCOPY_PAUSED);
	g_error_free(cause);
	/* Deregistering memory takes its time, and nobody has to wait for it to know. */
	g_clear_pointer(&outgoing->link, ferry_fabric_link_free);
}

gboolean ferry_outgoing_postcopy(FerryOutgoing *outgoing)
{
	Push push = {
		.outgoing = outgoing,
		.sender = ferry_outgoing_sender(outgoing),
		.holes = ferry_holes_new(ferry_vm_ram(outgoing->vm)),
	};
	GError *cause = NULL;
	gboolean done = run_there(&push, &cause), freed = FALSE;

	while (!done && !freed) {
		pause_postcopy(outgoing, g_steal_pointer(&cause));
		freed = !ferry_outgoing_await_recovery(outgoing);
		done = !freed && go_on_there(&push, &cause);
	}
	ferry_holes_free(push.holes);
	return done;
}
