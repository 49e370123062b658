/* SPDX-License-Identifier: BSD-2-Clause */
#include "destination-private.h"

#include <sys/resource.h>

/* For what is still queued before RUNNING. */
#define LAST_WORDS_US (1 * G_TIME_SPAN_SECOND)

/* ---- taking the guest over ---- */

gboolean ferry_incoming_take_over(FerryDestination *destination, GError **error)
{
	FerryRunState arrived = FERRY_RUN_STATE_PAUSED;
	g_autoptr(GError) cause = NULL;
	gboolean autostart;

	g_mutex_lock(&destination->lock);
	autostart = destination->autostart;
	g_mutex_unlock(&destination->lock);
	if (ferry_vm_loaded_run_state(destination->vm, &arrived, &cause) &&
	    ferry_vm_incoming_run(destination->vm, arrived, autostart, &cause)) {
		ferry_destination_arrived(destination);
		ferry_destination_set_error(destination, NULL);
		return TRUE;
	}
	/* The vCPUs did not start: nobody runs the guest, and the operator decides where it
	 * shall. */
	g_mutex_lock(&destination->lock);
	destination->answer = FERRY_HANDOVER_WAITING;
	g_cond_broadcast(&destination->changed);
	g_mutex_unlock(&destination->lock);
	ferry_destination_set_error(destination, cause->message);
	ferry_destination_enter(destination, FERRY_STATE_HANDOVER, FERRY_STATE_HANDOVER_LOST);
	g_propagate_error(error, g_steal_pointer(&cause));
	return FALSE;
}

gboolean ferry_incoming_reply_running(FerryIncoming *incoming, GError **error)
{
	g_autoptr(GByteArray) record = g_byte_array_new();
	FerryHandoverRunning running;
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	running.user_us = usage.ru_utime.tv_sec * G_USEC_PER_SEC + usage.ru_utime.tv_usec -
			  incoming->begin_user_us;
	running.system_us = usage.ru_stime.tv_sec * G_USEC_PER_SEC + usage.ru_stime.tv_usec -
			    incoming->begin_system_us;
	ferry_record_put_running(record, &running);
	return ferry_reply_record(&incoming->replies, record, error);
}

/* Reads the next record of the hand-over. */
static gboolean next_record(FerryIncoming *incoming, FerryIncomingRecord *record, GError **error)
{
	FerryStreamElement element;

	do {
		if (!ferry_stream_next(incoming->reader, &element, error))
			return FALSE;
		if (element.type != FERRY_SECTION_COMMAND ||
		    element.command != FERRY_COMMAND_FERRY) {
			g_set_error(
				error, FERRY_ERROR, FERRY_ERROR_LINK,
				element.type == FERRY_SECTION_EOF
					? "the source closed the connection"
					: "the source sent element 0x%02x instead of a decision",
				element.type);
			return FALSE;
		}
		if (!ferry_incoming_read_record(incoming, &element, record, error))
			return FALSE;
	} while (record->type == 0);
	return TRUE;
}

FerryIncomingResult ferry_incoming_wait_for_done(FerryIncoming *incoming)
{
	FerryIncomingRecord record;

	if (next_record(incoming, &record, NULL) && record.type == FERRY_RECORD_HANDOVER_DONE)
		return FERRY_INCOMING_CLOSED;
	return FERRY_INCOMING_COMPLETED;
}

/* On a connection that only asks there is no carrier: the migration's was closed with it. */
static void quiesce(FerryIncoming *incoming)
{
	if (incoming->link) {
		FerryCarrier *carrier = ferry_fabric_link_carrier(incoming->link);

		carrier->ops->quiesce(carrier);
	}
	if (incoming->carrier)
		incoming->carrier->ops->quiesce(incoming->carrier);
}

/* COMMIT came, on whichever connection. */
static FerryIncomingResult committed(FerryIncoming *incoming, GError **error)
{
	FerryDestination *destination = incoming->destination;
	FerryState from = ferry_destination_state(destination);
	gboolean told;

	if (!ferry_destination_decide(destination, FERRY_HANDOVER_RUNS)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
			    "the operator decided before the source's commit came");
		return FERRY_INCOMING_ANSWERED;
	}
	/* From here no write of the source can reach the guest's RAM. */
	quiesce(incoming);
	if (!ferry_incoming_take_over(destination, error))
		return FERRY_INCOMING_IN_DOUBT;
	/* The event completed comes last: an embedder may leave as soon as it sees it. */
	if (incoming->heartbeat)
		ferry_heartbeat_stop(incoming->heartbeat, LAST_WORDS_US);
	told = ferry_incoming_reply_running(incoming, NULL) &&
	       ferry_reply_shut(&incoming->replies, 0, NULL);
	ferry_destination_enter(destination, from, FERRY_STATE_COMPLETED);
	return told ? ferry_incoming_wait_for_done(incoming) : FERRY_INCOMING_COMPLETED;
}

static gboolean right_nonce(const FerryIncomingRecord *record, const guint8 *expected,
			    GError **error)
{
	guint8 nonce[FERRY_NONCE_SIZE];

	if (!ferry_record_get_nonce(record->payload, record->length, nonce, error))
		return FALSE;
	if (memcmp(nonce, expected, FERRY_NONCE_SIZE) == 0)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER, "the commit is for another session");
	return FALSE;
}

/* ---- the end of a migration ---- */

/* Everything is here: digests if asked, remembers the session, and says READY. */
gboolean ferry_incoming_get_ready(FerryIncoming *incoming, GError **error)
{
	FerryDestination *destination = incoming->destination;
	g_autoptr(GByteArray) answer = g_byte_array_new();
	FerryHandoverDigest digest;
	FerryIncomingRecord record;
	FerryRunState arrived;

	if (!next_record(incoming, &record, error) ||
	    !ferry_vm_loaded_run_state(incoming->vm, &arrived, error))
		return FALSE;
	if (record.type != FERRY_RECORD_HANDOVER_PREPARE) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "record 0x%04x came where HANDOVER_PREPARE belongs", record.type);
		return FALSE;
	}
	if (!ferry_record_get_digest(record.payload, record.length, &digest, error))
		return FALSE;
	if (digest.has_digest && incoming->postcopy) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "a digest of RAM is wanted, and pages are missing");
		return FALSE;
	}
	if (digest.has_digest && !incoming->digest)
		incoming->digest = ferry_incoming_new_digest(incoming);
	if (digest.has_digest)
		ferry_digest_finish(incoming->digest, NULL, &digest.digest);
	ferry_record_put_digest(answer, FERRY_RECORD_HANDOVER_READY, &digest);
	g_mutex_lock(&destination->lock);
	memcpy(destination->nonce, incoming->nonce, FERRY_NONCE_SIZE);
	destination->has_session = TRUE;
	destination->answer = FERRY_HANDOVER_WAITING;
	g_mutex_unlock(&destination->lock);
	ferry_destination_enter(destination, FERRY_STATE_ACTIVE, FERRY_STATE_HANDOVER);
	/* Whether it arrives or not: from here the source, or the operator, decides. */
	ferry_reply_record(&incoming->replies, answer, NULL);
	return TRUE;
}

static FerryIncomingResult two_phase(FerryIncoming *incoming, GError **error)
{
	FerryDestination *destination = incoming->destination;
	FerryIncomingRecord record;

	if (!ferry_incoming_get_ready(incoming, error))
		return FERRY_INCOMING_FAILED;
	if (!next_record(incoming, &record, error)) {
		g_prefix_error(
			error,
			"the guest is loaded, but the link died before the source's decision: ");
		return FERRY_INCOMING_IN_DOUBT;
	}
	if (record.type == FERRY_RECORD_HANDOVER_ABORT &&
	    ferry_destination_decide(destination, FERRY_HANDOVER_DISCARDED)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED,
			    "the source took the guest back before the hand-over");
		return FERRY_INCOMING_FAILED;
	}
	if (record.type == FERRY_RECORD_HANDOVER_COMMIT &&
	    right_nonce(&record, destination->nonce, error))
		return committed(incoming, error);
	if (error && !*error)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "record 0x%04x came where the source's decision belongs", record.type);
	return FERRY_INCOMING_IN_DOUBT;
}

/* A source that knows no hand-over: the guest runs here as soon as it is loaded. */
static FerryIncomingResult one_phase(FerryIncoming *incoming, GError **error)
{
	FerryDestination *destination = incoming->destination;
	FerryRunState arrived;
	gboolean autostart;

	g_mutex_lock(&destination->lock);
	autostart = destination->autostart;
	g_mutex_unlock(&destination->lock);
	quiesce(incoming);
	if (!ferry_vm_loaded_run_state(incoming->vm, &arrived, error) ||
	    !ferry_vm_incoming_run(incoming->vm, arrived, autostart, error))
		return FERRY_INCOMING_FAILED;
	ferry_destination_arrived(destination);
	ferry_reply_shut(&incoming->replies, 0, NULL);
	ferry_destination_enter(destination, FERRY_STATE_ACTIVE, FERRY_STATE_COMPLETED);
	return FERRY_INCOMING_CLOSED;
}

FerryIncomingResult ferry_incoming_hand_over(FerryIncoming *incoming, GError **error)
{
	return incoming->ferry_peer ? two_phase(incoming, error) : one_phase(incoming, error);
}

/* ---- questions after a cut ---- */

/* What to answer to a question about @nonce. RUNS only once it does run: an operator's run-here may
 * still fail. */
static FerryHandoverAnswer settled_answer(FerryDestination *destination, const guint8 *nonce)
{
	FerryHandoverAnswer answer = FERRY_HANDOVER_UNKNOWN;

	g_mutex_lock(&destination->lock);
	if (destination->has_session && memcmp(nonce, destination->nonce, FERRY_NONCE_SIZE) == 0) {
		while (destination->answer == FERRY_HANDOVER_RUNS &&
		       (destination->state == FERRY_STATE_HANDOVER ||
			destination->state == FERRY_STATE_HANDOVER_LOST) &&
		       !g_cancellable_is_cancelled(destination->cancellable))
			g_cond_wait(&destination->changed, &destination->lock);
		answer = destination->answer;
	}
	g_mutex_unlock(&destination->lock);
	return answer;
}

FerryIncomingResult ferry_incoming_query(FerryIncoming *incoming, const FerryIncomingRecord *record,
					 GError **error)
{
	FerryDestination *destination = incoming->destination;
	g_autoptr(GByteArray) reply = g_byte_array_new();
	FerryHandoverAnswer answer;
	guint8 nonce[FERRY_NONCE_SIZE];
	FerryIncomingRecord next;

	if (!ferry_record_get_nonce(record->payload, record->length, nonce, error))
		return FERRY_INCOMING_ANSWERED;
	answer = settled_answer(destination, nonce);
	ferry_record_put_answer(reply, answer);
	if (!ferry_reply_record(&incoming->replies, reply, error))
		return FERRY_INCOMING_ANSWERED;
	/* The answer can be lost like the RUNNING before it. */
	if (answer == FERRY_HANDOVER_RUNS)
		return ferry_incoming_wait_for_done(incoming);
	if (answer != FERRY_HANDOVER_WAITING || !next_record(incoming, &next, error) ||
	    next.type != FERRY_RECORD_HANDOVER_COMMIT || !right_nonce(&next, nonce, error))
		return FERRY_INCOMING_ANSWERED;
	return committed(incoming, error);
}
