/* SPDX-License-Identifier: BSD-2-Clause */
#include "source-private.h"

#include "postcopy-wire.h"

#define CONNECT_MS 30000u
/* For telling what is there of one block. */
#define BITMAP_US (30 * G_TIME_SPAN_SECOND)
/* For taking up the pages again; starting the vCPUs comes after it. */
#define ACK_US (20 * G_TIME_SPAN_SECOND)

gboolean ferry_outgoing_await_recovery(FerryOutgoing *outgoing)
{
	FerrySource *source = outgoing->source;
	gboolean go_on;

	g_mutex_lock(&source->lock);
	while (!source->quit && !source->recover_uri)
		g_cond_wait(&source->changed, &source->lock);
	go_on = !source->quit;
	if (go_on) {
		g_free(outgoing->uri);
		outgoing->uri = g_steal_pointer(&source->recover_uri);
		outgoing->transport = source->recover_transport;
	}
	g_mutex_unlock(&source->lock);
	return go_on;
}

/* Nothing is left of the last connection but what will still be sent. */
static gboolean connect_again(FerryOutgoing *outgoing, GError **error)
{
	g_clear_pointer(&outgoing->fabric, ferry_fabric_close);
	outgoing->ferry_peer = outgoing->carrier_died = FALSE;
	outgoing->features = outgoing->accounted = 0;
	ferry_page_requests_clear(outgoing->requests);
	ferry_outgoing_open_fabric(outgoing);
	if (!ferry_outgoing_greet(outgoing, CONNECT_MS, error))
		return FALSE;
	if (outgoing->ferry_peer && outgoing->features & FERRY_FEATURE_POSTCOPY)
		return ferry_outgoing_check_fabric(outgoing, error);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "%s: nobody answers there who can go on with a postcopy: give the URI on which "
		    "the Ferry listens that runs the guest",
		    outgoing->uri);
	return FALSE;
}

static gboolean find_carrier(FerryOutgoing *outgoing, GError **error)
{
	FerryChannel *channel = outgoing->channel;

	outgoing->carrier = channel->ops->carrier(channel, FERRY_PAGE_FORMAT_RUNS);
	return outgoing->carrier->ops->share_ram(outgoing->carrier, ferry_vm_ram(outgoing->vm),
						 error) &&
	       ferry_outgoing_choose_carrier(outgoing, error);
}

/* Makes the block's pages pending that are not there, and no others. */
static gboolean ask_for_missing(FerryOutgoing *outgoing, guint block, GError **error)
{
	const FerryRam *ram = ferry_vm_ram(outgoing->vm);
	guint64 *there = ferry_bitmap_block(outgoing->collected, block);
	guint64 *pending = ferry_bitmap_block(outgoing->pending, block);
	guint64 pages = ferry_ram_block_pages(&ram->blocks[block]);
	FerryReply reply;

	/* Nothing is collected any more; and an answer that is late finds it still there. */
	ferry_return_path_expect_bitmap(outgoing->path, ram, block, outgoing->collected);
	ferry_postcopy_put_ask(outgoing->out, ram, block);
	if (!ferry_outgoing_flush(outgoing, error) ||
	    !ferry_return_path_wait(outgoing->path, FERRY_REPLY_RECV_BITMAP, BITMAP_US, &reply,
				    error))
		return FALSE;
	for (guint64 w = 0; w < (pages + 63) / 64; w++)
		pending[w] &= ~there[w];
	return TRUE;
}

/* What was sent and what has come are two things: only the destination knows the second. */
static gboolean find_missing(FerryOutgoing *outgoing, GError **error)
{
	const FerryRam *ram = ferry_vm_ram(outgoing->vm);

	ferry_bitmap_set_all(outgoing->pending);
	for (guint i = 0; i < ram->n_blocks; i++)
		if (!ask_for_missing(outgoing, i, error))
			return FALSE;
	return TRUE;
}

/* The pages go on from here; what the guest waits for is asked for as soon as it is known there. */
static gboolean resume(FerryOutgoing *outgoing, GError **error)
{
	FerryCarrier *bulk = ferry_outgoing_bulk(outgoing);
	FerryReply reply;

	if (bulk->ops->switch_over)
		bulk->ops->switch_over(bulk);
	ferry_page_push_restart(outgoing->push, bulk);
	if (!ferry_outgoing_is_pulled(outgoing))
		ferry_return_path_set_requests(outgoing->path, outgoing->requests);
	ferry_stream_put_command(outgoing->out, FERRY_COMMAND_POSTCOPY_RESUME, NULL, 0);
	return ferry_outgoing_flush(outgoing, error) &&
	       ferry_return_path_wait(outgoing->path, FERRY_REPLY_RESUME_ACK, ACK_US, &reply,
				      error);
}

gboolean ferry_outgoing_recover(FerryOutgoing *outgoing, GError **error)
{
	if (!connect_again(outgoing, error) || !find_carrier(outgoing, error) ||
	    !find_missing(outgoing, error) || !resume(outgoing, error))
		return FALSE;
	ferry_source_set_error(outgoing->source, NULL);
	ferry_source_enter(outgoing->source, FERRY_STATE_POSTCOPY_RECOVER,
			   FERRY_STATE_POSTCOPY_ACTIVE);
	return TRUE;
}
