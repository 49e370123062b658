/* SPDX-License-Identifier: BSD-2-Clause */
#include "source-private.h"

#include "digest.h"

/* For loading all devices, and the digest of all RAM, at the destination. */
#define READY_US (300 * G_TIME_SPAN_SECOND)
/* For making stale writes impossible and starting the vCPUs. */
#define RUNNING_US (20 * G_TIME_SPAN_SECOND)
/* For the farewell, on which nothing depends. */
#define SHUT_US (2 * G_TIME_SPAN_SECOND)
/* After a cut: for one try to reach the destination, and between two. */
#define ASK_MS 3000u
#define ASK_PAUSE_US (1 * G_TIME_SPAN_SECOND)

static gboolean send_record(FerryOutgoing *outgoing, const GByteArray *record, GError **error)
{
	ferry_stream_put_command(outgoing->out, FERRY_COMMAND_FERRY, record->data, record->len);
	return ferry_outgoing_flush(outgoing, error);
}

static gboolean send_nonce(FerryOutgoing *outgoing, guint16 type, GError **error)
{
	g_autoptr(GByteArray) record = g_byte_array_new();

	ferry_record_put_nonce(record, type, outgoing->nonce);
	return send_record(outgoing, record, error);
}

static void set_prepared(FerryOutgoing *outgoing)
{
	g_mutex_lock(&outgoing->source->lock);
	outgoing->source->prepared = TRUE;
	g_mutex_unlock(&outgoing->source->lock);
}

/* Compares the digests, if they were asked for. */
static gboolean verify(FerryOutgoing *outgoing, const FerryHandoverDigest *ours,
		       const FerryHandoverDigest *theirs, GError **error)
{
	if (!ours->has_digest)
		return TRUE;
	if (theirs->has_digest && theirs->digest == ours->digest) {
		ferry_progress_verified(outgoing->progress, FERRY_VERIFIED_YES);
		return TRUE;
	}
	ferry_progress_verified(outgoing->progress, FERRY_VERIFIED_NO);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_MISMATCH,
		    "verify-ram: the digest of RAM is %016" G_GINT64_MODIFIER
		    "x here and %016" G_GINT64_MODIFIER
		    "x at the destination: a page was lost on the way",
		    ours->digest, theirs->digest);
	return FALSE;
}

/* Of all blocks that go. */
static gboolean digest_ram(FerryOutgoing *outgoing, guint64 *value)
{
	const FerryRam *ram = ferry_vm_ram(outgoing->vm);
	g_autoptr(FerryDigest) digest = ferry_digest_new(ram);

	for (guint i = 0; i < ram->n_blocks; i++)
		if (ferry_vm_leaves_out(outgoing->vm, i))
			ferry_digest_leave_out(digest, i);
	return ferry_digest_finish(digest, &outgoing->source->cancel, value);
}

gboolean ferry_outgoing_prepare(FerryOutgoing *outgoing, gboolean verify_ram, GError **error)
{
	g_autoptr(GByteArray) record = g_byte_array_new();
	FerryHandoverDigest ours = { .has_digest = verify_ram };
	FerryReply reply;

	ferry_record_put_digest(record, FERRY_RECORD_HANDOVER_PREPARE, &ours);
	/* From set_prepared() on a cancel says ABORT instead of cutting the channel: it must hold
	 * before the first byte leaves, and what is sent after it must not block. */
	outgoing->channel->ops->wait_writable(outgoing->channel, -1);
	set_prepared(outgoing);
	if (!send_record(outgoing, record, error))
		return FALSE;
	if (ours.has_digest && !digest_ram(outgoing, &ours.digest)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED, "cancelled");
		return FALSE;
	}
	return ferry_return_path_wait(outgoing->path, FERRY_REPLY_READY, READY_US, &reply, error) &&
	       verify(outgoing, &ours, &reply.ready, error);
}

void ferry_outgoing_farewell(FerryOutgoing *outgoing)
{
	g_autoptr(GByteArray) done = g_byte_array_new();

	ferry_record_put_empty(done, FERRY_RECORD_HANDOVER_DONE);
	send_record(outgoing, done, NULL);
}

/* Phase two, on whichever connection: from the first byte of COMMIT on the guest is the
 * destination's. */
static gboolean commit(FerryOutgoing *outgoing, GError **error)
{
	FerryReply reply;

	if (!send_nonce(outgoing, FERRY_RECORD_HANDOVER_COMMIT, error) ||
	    !ferry_return_path_wait(outgoing->path, FERRY_REPLY_RUNNING, RUNNING_US, &reply, error))
		return FALSE;
	ferry_progress_resumed(outgoing->progress);
	ferry_progress_destination_cpu(outgoing->progress, reply.running.user_us / 1e6,
				       reply.running.system_us / 1e6);
	ferry_outgoing_farewell(outgoing);
	ferry_return_path_wait(outgoing->path, FERRY_REPLY_SHUT, SHUT_US, &reply, NULL);
	return TRUE;
}

/* ---- the hand-over in doubt ---- */

/* Asks the destination on a new connection what became of the guest. TRUE with the answer. */
static gboolean ask(FerryOutgoing *outgoing, FerryHandoverAnswer *answer, GError **error)
{
	FerryReply reply;

	if (!ferry_outgoing_greet(outgoing, ASK_MS, error))
		return FALSE;
	if (!outgoing->ferry_peer) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER, "%s is not a Ferry any more",
			    outgoing->uri);
		return FALSE;
	}
	if (!send_nonce(outgoing, FERRY_RECORD_HANDOVER_QUERY, error) ||
	    !ferry_return_path_wait(outgoing->path, FERRY_REPLY_STATE, RUNNING_US, &reply, error))
		return FALSE;
	*answer = reply.state;
	return TRUE;
}

typedef enum {
	DOUBT_REMAINS,
	DOUBT_MOVED,
	DOUBT_KEPT,
} Doubt;

/* One try to end the doubt; the reason why it remains is kept for the status. */
static Doubt ask_once(FerryOutgoing *outgoing)
{
	FerryHandoverAnswer answer = FERRY_HANDOVER_UNKNOWN;
	g_autoptr(GError) error = NULL;
	Doubt doubt = DOUBT_REMAINS;

	if (ask(outgoing, &answer, &error)) {
		if (answer == FERRY_HANDOVER_RUNS)
			doubt = DOUBT_MOVED;
		else if (answer == FERRY_HANDOVER_DISCARDED)
			doubt = DOUBT_KEPT;
		else if (answer == FERRY_HANDOVER_WAITING)
			doubt = commit(outgoing, &error) ? DOUBT_MOVED : DOUBT_REMAINS;
		else
			g_set_error(
				&error, FERRY_ERROR, FERRY_ERROR_PEER,
				"the Ferry at %s knows nothing of this guest: look where it runs, then "
				"use ferry-resolve",
				outgoing->uri);
	}
	if (answer == FERRY_HANDOVER_RUNS)
		ferry_outgoing_farewell(outgoing);
	ferry_outgoing_hang_up(outgoing);
	if (error)
		ferry_source_set_error(outgoing->source, error->message);
	return doubt;
}

/* Sleeps until it is time to ask again, or the operator decided. */
static Doubt wait_for_word(FerrySource *source, gint64 pause_us, gboolean *quit)
{
	gint64 deadline = g_get_monotonic_time() + pause_us;
	Doubt doubt = DOUBT_REMAINS;

	g_mutex_lock(&source->lock);
	while (!source->resolving && !source->quit &&
	       g_cond_wait_until(&source->changed, &source->lock, deadline))
		;
	if (source->resolving && source->resolve != FERRY_RESOLVE_RETRY)
		doubt = source->resolve == FERRY_RESOLVE_RUN_HERE ? DOUBT_KEPT : DOUBT_MOVED;
	source->resolving = FALSE;
	*quit = source->quit;
	g_mutex_unlock(&source->lock);
	return doubt;
}

static gboolean quitting(FerrySource *source)
{
	gboolean quit;

	g_mutex_lock(&source->lock);
	quit = source->quit;
	g_mutex_unlock(&source->lock);
	return quit;
}

/* The link died after COMMIT may have left: nobody here may run the guest until the destination
 * answers, or the operator decides. */
static Doubt in_doubt(FerryOutgoing *outgoing, const GError *cause)
{
	Doubt doubt = DOUBT_REMAINS;
	gboolean quit = quitting(outgoing->source);

	ferry_source_set_error(outgoing->source, cause->message);
	ferry_outgoing_hang_up(outgoing);
	ferry_source_enter(outgoing->source, FERRY_STATE_HANDOVER, FERRY_STATE_HANDOVER_LOST);
	/* It may last: the guest's memory need not stay registered meanwhile. */
	ferry_progress_describe(outgoing->progress, NULL);
	g_clear_pointer(&outgoing->link, ferry_fabric_link_free);
	while (doubt == DOUBT_REMAINS && !quit) {
		/* A descriptor or a command names one connection, which is gone. */
		if (outgoing->transport->names_place)
			doubt = ask_once(outgoing);
		if (doubt == DOUBT_REMAINS)
			doubt = wait_for_word(outgoing->source, ASK_PAUSE_US, &quit);
	}
	/* An object that is freed in doubt never runs the guest. */
	return quit ? DOUBT_MOVED : doubt;
}

/* ---- the ways to the end ---- */

static FerryHandoverResult two_phase(FerryOutgoing *outgoing, GError **error)
{
	FerrySettings *settings = ferry_vm_settings(outgoing->vm);
	g_autoptr(GError) cause = NULL;

	if (!ferry_outgoing_prepare(
		    outgoing, ferry_settings_get_capability(settings, FERRY_CAPABILITY_VERIFY_RAM),
		    error))
		return FERRY_KEPT;
	if (!ferry_source_enter(outgoing->source, FERRY_STATE_DEVICE, FERRY_STATE_HANDOVER)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED, "cancelled");
		return FERRY_KEPT;
	}
	if (commit(outgoing, &cause))
		return FERRY_HANDED_OVER;
	if (in_doubt(outgoing, cause) == DOUBT_MOVED) {
		ferry_source_set_error(outgoing->source, NULL);
		return FERRY_HANDED_OVER;
	}
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
		    "the hand-over did not take place, the guest stays here: %s", cause->message);
	return FERRY_KEPT;
}

/* A QEMU at the other end: it has the guest once it says SHUT 0. */
static FerryHandoverResult wait_for_shut(FerryOutgoing *outgoing, GError **error)
{
	FerryReply reply;

	if (!ferry_return_path_wait(outgoing->path, FERRY_REPLY_SHUT, READY_US, &reply, error))
		return FERRY_KEPT;
	if (reply.shut) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "the destination could not load the guest (SHUT %u): see its log",
			    reply.shut);
		return FERRY_KEPT;
	}
	return FERRY_HANDED_OVER;
}

/* Nobody answers: it is done when every byte is where it belongs, which can be checked if it is a
 * file. */
static FerryHandoverResult one_way(FerryOutgoing *outgoing, GError **error)
{
	FerrySettings *settings = ferry_vm_settings(outgoing->vm);

	if (!outgoing->channel->ops->finish(outgoing->channel, error))
		return FERRY_KEPT;
	if (!outgoing->transport->stores ||
	    !ferry_settings_get_capability(settings, FERRY_CAPABILITY_VERIFY_RAM))
		return FERRY_HANDED_OVER;
	if (!ferry_outgoing_read_back(outgoing, error)) {
		ferry_progress_verified(outgoing->progress, FERRY_VERIFIED_NO);
		return FERRY_KEPT;
	}
	ferry_progress_verified(outgoing->progress, FERRY_VERIFIED_YES);
	return FERRY_HANDED_OVER;
}

FerryHandoverResult ferry_outgoing_hand_over(FerryOutgoing *outgoing, FerryOutgoingFate *fate,
					     GError **error)
{
	FerryHandoverResult result;

	if (outgoing->ferry_peer)
		return two_phase(outgoing, error);
	if (outgoing->path) {
		result = wait_for_shut(outgoing, error);
	} else {
		*fate = FERRY_OUTGOING_COPIED;
		result = one_way(outgoing, error);
	}
	if (result == FERRY_HANDED_OVER)
		ferry_progress_resumed(outgoing->progress);
	return result;
}

void ferry_outgoing_abort(FerryOutgoing *outgoing)
{
	g_autoptr(GByteArray) record = NULL;
	g_autoptr(GByteArray) command = NULL;
	struct iovec iov;

	if (!outgoing->source->prepared || !outgoing->channel)
		return;
	record = g_byte_array_new();
	command = g_byte_array_new();
	ferry_record_put_empty(record, FERRY_RECORD_HANDOVER_ABORT);
	ferry_stream_put_command(command, FERRY_COMMAND_FERRY, record->data, record->len);
	iov = (struct iovec){ command->data, command->len };
	/* A few bytes fit, or the destination does not listen: it then holds the guest, stopped. */
	outgoing->channel->ops->try_write(outgoing->channel, &iov, 1, NULL);
}
