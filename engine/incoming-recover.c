/* SPDX-License-Identifier: BSD-2-Clause */
#include "destination-private.h"

#include "postcopy-wire.h"
#include "watchdog.h"

/* From HELLO to RESUME: carriers connect, and may register all RAM. */
#define RECOVERY_US (120 * G_TIME_SPAN_SECOND)

gboolean ferry_incoming_find_session(FerryIncoming *incoming)
{
	FerryDestination *destination = incoming->destination;

	g_mutex_lock(&destination->lock);
	if (destination->has_session && destination->postcopy &&
	    memcmp(destination->nonce, incoming->nonce, FERRY_NONCE_SIZE) == 0)
		incoming->postcopy = destination->postcopy;
	incoming->over = destination->state == FERRY_STATE_COMPLETED;
	g_mutex_unlock(&destination->lock);
	return incoming->postcopy != NULL;
}

gboolean ferry_incoming_refuse_recovery(FerryIncoming *incoming, GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
		    "the source wants to go on with a postcopy of which nothing is known here: the "
		    "state is %s; is it the right destination?",
		    ferry_state_name(ferry_destination_state(incoming->destination)));
	return FALSE;
}

/* Whoever comes first, the source or the operator's word on a guest that was not started yet. A
 * session that is over goes on as that. */
static gboolean enter(FerryIncoming *incoming, GError **error)
{
	FerryDestination *destination = incoming->destination;

	if (incoming->over || ferry_destination_begin_recovery(destination))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
		    "this guest cannot be recovered now: its migration is in state %s",
		    ferry_state_name(ferry_destination_state(destination)));
	return FALSE;
}

/* ---- until RESUME ---- */

static gboolean tell_received(FerryIncoming *incoming, const FerryStreamElement *element,
			      GError **error)
{
	const FerryRam *ram = ferry_vm_ram(incoming->vm);
	g_autoptr(GByteArray) message = g_byte_array_new();
	guint8 data[1 + FERRY_RAM_NAME_MAX];
	g_autofree guint64 *words = NULL;
	gsize n;
	guint block;

	ferry_stream_reader_bytes(incoming->reader, data, element->length);
	if (!ferry_stream_reader_check(incoming->reader, error) ||
	    !ferry_postcopy_get_ask(ram, data, element->length, &block, error))
		return FALSE;
	words = ferry_postcopy_ram_received(incoming->postcopy, block, &n);
	ferry_postcopy_put_received(message, ram, block, words);
	return ferry_reply_messages(&incoming->replies, message, error);
}

static gboolean take_record(FerryIncoming *incoming, const FerryStreamElement *element,
			    GError **error)
{
	FerryIncomingRecord record;

	if (!ferry_incoming_read_record(incoming, element, &record, error))
		return FALSE;
	if (record.type != FERRY_RECORD_CARRIER)
		return ferry_incoming_ram_record(incoming, &record, error);
	return ferry_incoming_choose_carrier(incoming, &record, error) &&
	       (!ferry_incoming_is_beside(incoming) ||
		ferry_incoming_begin_beside(incoming, error));
}

/* Everything before RESUME. Nothing of an older connection can land any more: its carrier was
 * closed with it. */
static gboolean agree(FerryIncoming *incoming, GError **error)
{
	FerryStreamElement element;

	for (;;) {
		gboolean ok = FALSE, command;

		if (!ferry_stream_next(incoming->reader, &element, error))
			return FALSE;
		command = element.type == FERRY_SECTION_COMMAND;
		if (command && element.command == FERRY_COMMAND_POSTCOPY_RESUME && !element.length)
			return TRUE;
		if (command && element.command == FERRY_COMMAND_FERRY)
			ok = take_record(incoming, &element, error);
		else if (command && element.command == FERRY_COMMAND_RECV_BITMAP &&
			 element.length <= 1 + FERRY_RAM_NAME_MAX)
			ok = tell_received(incoming, &element, error);
		else
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
				    element.type == FERRY_SECTION_EOF
					    ? "the source closed the connection"
					    : "offset %" G_GUINT64_FORMAT
					      ": element 0x%02x does not belong into a recovery",
				    element.offset, element.type);
		if (!ok)
			return FALSE;
	}
}

/* ---- from RESUME on ---- */

/* Nobody but the source decides in postcopy-recover. */
static gboolean is_waiting(FerryDestination *destination)
{
	gboolean waiting;

	g_mutex_lock(&destination->lock);
	waiting = destination->answer == FERRY_HANDOVER_WAITING;
	g_mutex_unlock(&destination->lock);
	return waiting;
}

/* Pages come again; RESUME is also the commit, where the one before it was lost. */
static gboolean resume(FerryIncoming *incoming, GError **error)
{
	FerryDestination *destination = incoming->destination;
	g_autoptr(GByteArray) ack = g_byte_array_new();

	ferry_postcopy_put_resume_ack(ack);
	if (!ferry_reply_messages(&incoming->replies, ack, error))
		return FALSE;
	if (!incoming->over) {
		ferry_postcopy_ram_tell_again(incoming->postcopy);
		ferry_incoming_begin_faults(incoming);
		ferry_faults_run(incoming->faults);
		if (is_waiting(destination) &&
		    ferry_destination_decide(destination, FERRY_HANDOVER_RUNS) &&
		    !ferry_incoming_take_over(destination, error))
			return FALSE;
		ferry_incoming_note_vcpus(incoming);
	}
	return ferry_incoming_reply_running(incoming, error);
}

/* The pages come in the stream, unless the source says otherwise. */
static void note_transport(FerryIncoming *incoming)
{
	FerryDestination *destination = incoming->destination;

	g_mutex_lock(&destination->lock);
	g_free(destination->transport);
	destination->transport = g_strdup(incoming->channel->ops->name);
	g_mutex_unlock(&destination->lock);
}

static FerryIncomingResult recover(FerryIncoming *incoming, GError **error)
{
	g_autoptr(FerryWatchdog) watchdog = ferry_watchdog_start(incoming->channel, RECOVERY_US);
	FerryIncomingResult result;

	if (!incoming->over)
		note_transport(incoming);
	incoming->memory = ferry_postcopy_ram_target(incoming->postcopy);
	/* As if the list had come: it is that of the first connection. */
	incoming->listed = TRUE;
	incoming->ram_section_id = FERRY_RAM_SECTION_ID;
	if (!agree(incoming, error))
		return FERRY_INCOMING_PAUSED;
	ferry_watchdog_calm(watchdog);
	if (resume(incoming, error)) {
		ferry_destination_set_error(incoming->destination, NULL);
		ferry_destination_enter(incoming->destination, FERRY_STATE_POSTCOPY_RECOVER,
					FERRY_STATE_POSTCOPY_ACTIVE);
		result = ferry_incoming_receive(incoming, error);
	} else {
		result = FERRY_INCOMING_PAUSED;
	}
	return result;
}

FerryIncomingResult ferry_incoming_recover(FerryIncoming *incoming, GError **error)
{
	FerryIncomingResult result;

	if (!enter(incoming, error))
		return FERRY_INCOMING_REFUSED;
	result = recover(incoming, error);
	/* The guest is whole, whatever becomes of its source. */
	return result == FERRY_INCOMING_PAUSED && incoming->over ? FERRY_INCOMING_COMPLETED
								 : result;
}
