/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include "receiver.h"

/* How long a source may take for the first byte of its return, and for pages asked for at the end.
 */
#define PATIENCE_S 10u
/* Ranges in one go of requests. */
#define REQUESTS_MAX 4096u
/* Bytes of one request at most: its length is a u32. */
#define REQUEST_MAX (1u << 30)

/* ---- one connection, to its end ---- */

/* The source said that it is through, yet pages are missing. */
static gboolean ask_for_missing(FerryReceiver *r, GError **error)
{
	g_autoptr(GByteArray) requests = g_byte_array_new();
	guint64 start = 0, length;
	guint block = 0, named = G_MAXUINT;

	for (guint n = 0; n < REQUESTS_MAX &&
			  ferry_missing_next(r->missing, &block, &start, &length, REQUEST_MAX);
	     n++) {
		const FerryCaptureBlock *of = &g_array_index(r->capture->blocks, FerryCaptureBlock,
							     block);

		ferry_return_put_request(requests, block == named ? NULL : of->name, start, length);
		named = block;
		start += length;
	}
	return ferry_channel_write_all(r->channel, requests->data, requests->len, error);
}

/* An EOF byte; *@over if it is the last. */
static gboolean take_eof(FerryReceiver *r, gboolean *asked, gboolean *over, GError **error)
{
	if (r->resuming)
		return ferry_receiver_fail(r->reader, error, "it ends before POSTCOPY_RESUME");
	*over = r->refused || !ferry_missing_pages(r->missing);
	if (*over)
		return TRUE;
	if (!*asked)
		ferry_cli_stopper_set_deadline(r->stopper, PATIENCE_S);
	*asked = TRUE;
	return ask_for_missing(r, error);
}

static gboolean take_element(FerryReceiver *r, const FerryStreamElement *element, GError **error)
{
	if (element->type == FERRY_SECTION_COMMAND)
		return element->command == FERRY_COMMAND_PING
			       ? ferry_receiver_take_ping(r, r->reader, element, error)
			       : ferry_receiver_take_postcopy_command(r, element, error);
	if (element->type != FERRY_SECTION_PART && element->type != FERRY_SECTION_END)
		return ferry_receiver_fail(r->reader, error,
					   "element type 0x%02x after the package, where only RAM "
					   "and commands can be",
					   element->type);
	if (r->resuming)
		return ferry_receiver_fail(r->reader, error, "RAM before POSTCOPY_RESUME");
	return ferry_receiver_take_section(r, element, error);
}

static gboolean take_elements(FerryReceiver *r, GError **error)
{
	gboolean asked = FALSE, over = FALSE;

	while (!over) {
		FerryStreamElement element;
		gboolean ok;

		if (!ferry_stream_next(r->reader, &element, error))
			return FALSE;
		if (element.type != FERRY_SECTION_EOF)
			ok = take_element(r, &element, error);
		else if (element.length)
			ok = ferry_receiver_refuse(error, FERRY_ERROR_LINK, "the source hung up");
		else
			ok = take_eof(r, &asked, &over, error);
		if (!ok)
			return FALSE;
	}
	return TRUE;
}

/* The source has sent all of it, and waits for SHUT. */
static gboolean conclude(FerryReceiver *r, GError **error)
{
	gboolean whole = !r->refused && ferry_capture_finish(r->capture, &r->refused);
	g_autoptr(GError) unheard = NULL;

	/* A source that does not hear SHUT 0 stays paused; the guest is safe here all the same. */
	if (ferry_receiver_answer(r, FERRY_RETURN_SHUT, whole ? 0 : 1, &unheard) &&
	    r->channel->ops->finish(r->channel, &unheard))
		return TRUE;
	if (!whole) {
		g_propagate_error(error, g_steal_pointer(&unheard));
		return FALSE;
	}
	g_printerr("ferry receive: warning: the guest is whole here, but the source could not be "
		   "told; end it: %s\n",
		   unheard->message);
	return TRUE;
}

static gboolean take_connection(FerryReceiver *r, GError **error)
{
	gboolean ok;

	if (ferry_cli_stopper_signals(r->stopper) != r->signals)
		return ferry_receiver_refuse(error, FERRY_ERROR_CANCELLED, "interrupted");
	ok = take_elements(r, error);
	if (ok || !ferry_cli_stopper_expired(r->stopper))
		return ok && conclude(r, error);
	g_clear_error(error);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "the source ended with %" G_GUINT64_FORMAT
		    " pages missing, and did not send them within %u s of being asked",
		    ferry_missing_pages(r->missing), PATIENCE_S);
	return FALSE;
}

/* ---- between two connections ---- */

static void announce_pause(const FerryReceiver *r, const GError *failure)
{
	g_print("paused with %" G_GUINT64_FORMAT " pages missing: %s\n"
		"To go on, in QEMU's monitor: migrate -r %s\n",
		ferry_missing_pages(r->missing), failure->message, r->listener->uri);
	fflush(stdout);
}

static void announce_return(const FerryReceiver *r)
{
	g_printerr(
		"ferry receive: %s\n"
		"The guest can go on at the source. If info migrate says postcopy-paused there:\n"
		"  migrate -r %s\n"
		"and in any case, once it says failed:\n"
		"  cont\n",
		r->refused->message, r->listener->uri);
}

/* @failure ended a connection: shall the source come and go on, or take the guest back? */
static void decide(FerryReceiver *r, const GError *failure)
{
	if (r->refused) {
		g_printerr("ferry receive: %s; waiting for the source again\n", failure->message);
		return;
	}
	if (r->switched && g_error_matches(failure, FERRY_ERROR, FERRY_ERROR_LINK)) {
		announce_pause(r, failure);
		return;
	}
	r->refused = g_error_copy(failure);
	announce_return(r);
}

/* @error: the first reason, and what became of the guest. */
static gboolean give_up(FerryReceiver *r, GError **error)
{
	g_propagate_prefixed_error(error, g_steal_pointer(&r->refused),
				   "the guest is lost here; its RAM is still at the source, "
				   "which keeps it stopped: ");
	return FALSE;
}

/* Deals with signals that came; FALSE with @error if it is over. */
static gboolean take_signals(FerryReceiver *r, GError **error)
{
	while (r->signals != ferry_cli_stopper_signals(r->stopper)) {
		r->signals++;
		if (r->refused)
			return give_up(r, error);
		r->refused = g_error_new_literal(FERRY_ERROR, FERRY_ERROR_CANCELLED, "interrupted");
		announce_return(r);
	}
	return TRUE;
}

/* Whether a new connection is that of a source which comes again. */
static gboolean is_return(FerryReceiver *r)
{
	int first;

	ferry_cli_stopper_watch(r->stopper, r->channel);
	ferry_cli_stopper_set_deadline(r->stopper, PATIENCE_S);
	first = ferry_stream_reader_peek(r->reader);
	ferry_cli_stopper_watch(r->stopper, r->channel);
	if (first == FERRY_SECTION_COMMAND)
		return TRUE;
	if (ferry_cli_stopper_signals(r->stopper) != r->signals)
		return FALSE;
	g_printerr("ferry receive: refused a connection: %s\n",
		   first == 'Q' ? "a new migration, which needs a receiver of its own"
		   : first < 0  ? "nothing came"
				: "it does not resume a migration");
	return FALSE;
}

/* Until the source is there again; FALSE if that is over. */
static gboolean await_return(FerryReceiver *r, GError **error)
{
	for (;;) {
		g_autoptr(GError) failure = NULL;

		ferry_cli_stopper_watch(r->stopper, NULL);
		if (!take_signals(r, error))
			return FALSE;
		ferry_receiver_set_channel(
			r, r->listener->ops->accept(r->listener,
						    ferry_cli_stopper_cancellable(r->stopper),
						    &failure));
		if (r->channel && is_return(r))
			break;
		ferry_cli_stopper_watch(r->stopper, NULL);
		ferry_receiver_set_channel(r, NULL);
		if (failure && !g_error_matches(failure, FERRY_ERROR, FERRY_ERROR_CANCELLED)) {
			g_propagate_error(error, g_steal_pointer(&failure));
			return FALSE;
		}
	}
	r->resuming = TRUE;
	r->ram.last = 0;
	return TRUE;
}

/* No source can come again. */
static gboolean fail_for_good(FerryReceiver *r, GError *failure, GError **error)
{
	if (!r->refused)
		r->refused = failure;
	else
		g_error_free(failure);
	return give_up(r, error);
}

gboolean ferry_receiver_take_rest(FerryReceiver *r, GError *failure, GError **error)
{
	while (failure || !take_connection(r, &failure)) {
		ferry_cli_stopper_watch(r->stopper, NULL);
		ferry_receiver_set_channel(r, NULL);
		if (!r->listener)
			return fail_for_good(r, failure, error);
		if (ferry_cli_stopper_signals(r->stopper) == r->signals)
			decide(r, failure);
		g_clear_error(&failure);
		if (!await_return(r, error))
			return FALSE;
	}
	if (!r->refused)
		return TRUE;
	g_printerr("ferry receive: the source has the guest back; cont lets it go on\n");
	g_propagate_error(error, g_steal_pointer(&r->refused));
	return FALSE;
}
