/* SPDX-License-Identifier: BSD-2-Clause */
#include "destination-private.h"

/* For what is still queued before SHUT. */
#define LAST_WORDS_US (1 * G_TIME_SPAN_SECOND)

/* ---- the commit ---- */

typedef enum {
	DECISION_RUN,
	DECISION_ABORT,
	DECISION_NONE, /* the link died, or it was something else */
} Decision;

static Decision read_decision(FerryIncoming *incoming, GError **error)
{
	FerryIncomingRecord record = { 0 };
	FerryStreamElement element;

	for (;;) {
		if (!ferry_stream_next(incoming->reader, &element, error))
			return DECISION_NONE;
		if (element.type != FERRY_SECTION_COMMAND)
			break;
		if (element.command == FERRY_COMMAND_POSTCOPY_RUN && !element.length)
			return DECISION_RUN;
		if (element.command != FERRY_COMMAND_FERRY)
			break;
		if (!ferry_incoming_read_record(incoming, &element, &record, error))
			return DECISION_NONE;
		if (record.type == FERRY_RECORD_HANDOVER_ABORT)
			return DECISION_ABORT;
		if (FERRY_RECORD_IS_FABRIC(record.type)) {
			if (!ferry_incoming_fabric_record(incoming, &record, error))
				return DECISION_NONE;
		} else if (record.type) {
			break;
		}
	}
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
		    element.type == FERRY_SECTION_EOF
			    ? "the source closed the connection"
			    : "the source sent element 0x%02x instead of a decision",
		    element.type);
	return DECISION_NONE;
}

void ferry_incoming_note_vcpus(FerryIncoming *incoming)
{
	gint32 ids[FERRY_VCPUS_MAX];

	ferry_postcopy_ram_set_vcpus(incoming->postcopy, ids,
				     ferry_vm_vcpu_threads(incoming->vm, ids, G_N_ELEMENTS(ids)));
}

void ferry_incoming_begin_faults(FerryIncoming *incoming)
{
	FerryDestination *destination = incoming->destination;
	FerryFaultsConfig config = {
		.postcopy = incoming->postcopy,
		.ram = ferry_vm_ram(incoming->vm),
		.replies = &incoming->replies,
		.settings = ferry_vm_settings(incoming->vm),
	};

	if (incoming->pulls)
		config.pulls = ferry_fabric_link_carrier(incoming->link);
	g_mutex_lock(&destination->lock);
	destination->mode = incoming->pulls                      ? "pull"
			    : ferry_incoming_is_beside(incoming) ? "push"
								 : "stream";
	g_mutex_unlock(&destination->lock);
	incoming->faults = ferry_faults_start(&config);
}

/* ---- what follows it ---- */

static gboolean take_element(FerryIncoming *incoming, const FerryStreamElement *element,
			     GError **error)
{
	FerryIncomingRecord record;

	if (element->type == FERRY_SECTION_END)
		return ferry_incoming_ram_section(incoming, element, error);
	if (element->type == FERRY_SECTION_COMMAND && element->command == FERRY_COMMAND_FERRY)
		return ferry_incoming_read_record(incoming, element, &record, error) &&
		       ferry_incoming_ram_record(incoming, &record, error);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "offset %" G_GUINT64_FORMAT ": element type 0x%02x does not belong here",
		    element->offset, element->type);
	return FALSE;
}

static gboolean take_pages(FerryIncoming *incoming, GError **error)
{
	FerryStreamElement element;

	for (;;) {
		if (!ferry_stream_next(incoming->reader, &element, error))
			return FALSE;
		if (element.type == FERRY_SECTION_EOF)
			break;
		if (!take_element(incoming, &element, error))
			return FALSE;
	}
	if (!element.length && incoming->ram_ended)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
		    "offset %" G_GUINT64_FORMAT
		    ": the source closed the connection, and pages are missing",
		    element.offset);
	return FALSE;
}

/* Nothing is missing: RAM is the guest's own again. */
static gboolean finish(FerryIncoming *incoming, GError **error)
{
	guint64 missing = ferry_postcopy_ram_missing(incoming->postcopy);

	if (missing) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "the source sent its last page, and %" G_GUINT64_FORMAT
			    " are missing here",
			    missing);
		return FALSE;
	}
	if (incoming->link) {
		FerryCarrier *carrier = ferry_fabric_link_carrier(incoming->link);

		carrier->ops->quiesce(carrier);
	}
	g_clear_pointer(&incoming->faults, ferry_faults_stop);
	if (!ferry_postcopy_ram_finish(incoming->postcopy, error))
		return FALSE;
	ferry_destination_unblock(incoming->destination);
	return TRUE;
}

FerryIncomingResult ferry_incoming_receive(FerryIncoming *incoming, GError **error)
{
	if (!take_pages(incoming, error) || (!incoming->over && !finish(incoming, error)))
		return FERRY_INCOMING_PAUSED;
	if (incoming->heartbeat)
		ferry_heartbeat_stop(incoming->heartbeat, LAST_WORDS_US);
	/* The event completed comes last: an embedder may leave as soon as it sees it. */
	ferry_reply_shut(&incoming->replies, 0, NULL);
	ferry_destination_enter(incoming->destination, FERRY_STATE_POSTCOPY_ACTIVE,
				FERRY_STATE_COMPLETED);
	return ferry_incoming_wait_for_done(incoming);
}

/* RUN came. */
static FerryIncomingResult run_here(FerryIncoming *incoming, GError **error)
{
	FerryDestination *destination = incoming->destination;
	FerryIncomingResult result;

	if (!ferry_destination_decide(destination, FERRY_HANDOVER_RUNS)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
			    "the operator decided before the source's commit came");
		return FERRY_INCOMING_ANSWERED;
	}
	ferry_faults_run(incoming->faults);
	if (ferry_incoming_take_over(destination, error)) {
		ferry_incoming_reply_running(incoming, NULL);
		ferry_incoming_note_vcpus(incoming);
		ferry_destination_enter(destination, FERRY_STATE_HANDOVER,
					FERRY_STATE_POSTCOPY_ACTIVE);
		result = ferry_incoming_receive(incoming, error);
	} else {
		result = FERRY_INCOMING_IN_DOUBT;
	}
	return result;
}

FerryIncomingResult ferry_incoming_switch(FerryIncoming *incoming, GError **error)
{
	if (!ferry_incoming_get_ready(incoming, error))
		return FERRY_INCOMING_FAILED;
	switch (read_decision(incoming, error)) {
	case DECISION_RUN:
		return run_here(incoming, error);
	case DECISION_ABORT:
		if (!ferry_destination_decide(incoming->destination, FERRY_HANDOVER_DISCARDED))
			break;
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED,
			    "the source took the guest back before the hand-over");
		return FERRY_INCOMING_FAILED;
	case DECISION_NONE:
		g_prefix_error(error, "the guest is loaded, but the link died before the source's "
				      "decision: ");
		break;
	}
	return FERRY_INCOMING_IN_DOUBT;
}
