/* SPDX-License-Identifier: BSD-2-Clause */
#include "destination-private.h"

#include "probes.h"

/* The digest follows the stream in steps of this many pages: 64 MiB. */
#define DIGEST_STEP (64u << (20 - FERRY_PAGE_SHIFT))

/* ---- the block list ---- */

/* Both lists in one message, for whoever has to find the difference. */
static char *describe_lists(const GArray *theirs, const FerryRam *ours)
{
	GString *text = g_string_new("source has");

	for (guint i = 0; i < theirs->len; i++) {
		const FerryStreamRamBlock *block = &g_array_index(theirs, FerryStreamRamBlock, i);

		g_string_append_printf(text, "%s '%s' of %" G_GUINT64_FORMAT " bytes", i ? "," : "",
				       block->name, block->size);
	}
	g_string_append(text, "; destination has");
	for (guint i = 0; i < ours->n_blocks; i++)
		g_string_append_printf(text, "%s '%s' of %" G_GUINT64_FORMAT " bytes", i ? "," : "",
				       ours->blocks[i].name, ours->blocks[i].size);
	return g_string_free(text, FALSE);
}

static gboolean same_lists(const GArray *theirs, const FerryRam *ours)
{
	if (theirs->len != ours->n_blocks)
		return FALSE;
	for (guint i = 0; i < theirs->len; i++) {
		const FerryStreamRamBlock *block = &g_array_index(theirs, FerryStreamRamBlock, i);

		if (strcmp(block->name, ours->blocks[i].name) != 0 ||
		    block->size != ours->blocks[i].size)
			return FALSE;
	}
	return TRUE;
}

/* A FerryLandedFunc over a FerryDigest. */
static void digest_landed(gpointer user, const FerryRun *run)
{
	ferry_digest_touched(user, run);
}

static gboolean takes_none(FerryIncoming *incoming, GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
		    "this destination takes no guest now: its migration is in state %s",
		    ferry_state_name(ferry_destination_state(incoming->destination)));
	return FALSE;
}

gboolean ferry_incoming_may_take(FerryIncoming *incoming, GError **error)
{
	return ferry_destination_state(incoming->destination) == FERRY_STATE_SETUP ||
	       takes_none(incoming, error);
}

static gboolean accept_list(FerryIncoming *incoming, GError **error)
{
	FerryDestination *destination = incoming->destination;
	FerryRam *ram = ferry_vm_ram(incoming->vm);
	FerryChannel *channel = incoming->channel;

	if (!same_lists(incoming->ram.blocks, ram)) {
		g_autofree char *lists = describe_lists(incoming->ram.blocks, ram);

		g_set_error(error, FERRY_ERROR, FERRY_ERROR_MISMATCH, "RAM differs: %s", lists);
		return FALSE;
	}
	if (!ferry_incoming_check_shared(incoming, error))
		return FALSE;
	/* The carrier that can receive; pages in QEMU's format are read here, but its zero pages go
	 * its way. */
	incoming->carrier = channel->ops->carrier(channel, FERRY_PAGE_FORMAT_RUNS);
	if (!incoming->carrier->ops->share_ram(incoming->carrier, incoming->memory, error))
		return FALSE;
	/* What a guest that is here already has loaded is not touched. */
	if (incoming->rehearses
		    ? !ferry_incoming_may_take(incoming, error)
		    : !ferry_destination_enter(destination, FERRY_STATE_SETUP, FERRY_STATE_ACTIVE))
		return incoming->rehearses ? FALSE : takes_none(incoming, error);
	incoming->listed = TRUE;
	incoming->touch = ferry_first_touch_new(incoming->memory);
	if (incoming->will_digest) {
		incoming->digest = ferry_incoming_new_digest(incoming);
		ferry_first_touch_on_landed(incoming->touch, digest_landed, incoming->digest);
	}
	ferry_vm_clear_loaded_run_state(incoming->vm);
	g_mutex_lock(&destination->lock);
	g_free(destination->transport);
	destination->transport = g_strdup(incoming->carrier->ops->name);
	g_clear_pointer(&destination->error_desc, g_free);
	g_mutex_unlock(&destination->lock);
	return ferry_incoming_load_places(incoming, error);
}

/* Page data from the stream into RAM, by the cheapest way: a FerryReadExactly over a
 * FerryIncoming. */
static gboolean read_pages(gpointer user, void *buf, size_t len, GError **error)
{
	FerryIncoming *incoming = user;

	return ferry_first_touch_read(incoming->touch, buf, len, ferry_stream_reader_read_exactly,
				      incoming->reader, error);
}

/* ---- pages in QEMU's format ---- */

static gboolean take_page(FerryIncoming *incoming, const FerryRamItem *item, GError **error)
{
	FerryRun run = { item->block, item->offset >> FERRY_PAGE_SHIFT, 1 };

	return read_pages(incoming, ferry_run_host(incoming->memory, &run), FERRY_PAGE_SIZE, error);
}

/* A zero page goes the carrier's way, which knows how to leave untouched memory alone. */
static gboolean take_zero(FerryIncoming *incoming, const FerryRamItem *item, GError **error)
{
	guint8 payload[20];
	FerryRun run;
	gboolean zero;

	ferry_store_be32(payload, item->block);
	ferry_store_be64(payload + 4, item->offset >> FERRY_PAGE_SHIFT);
	ferry_store_be64(payload + 12, 1);
	return incoming->carrier->ops->receive(incoming->carrier, FERRY_RECORD_ZERO_PAGES, payload,
					       sizeof(payload), read_pages, incoming, &run, &zero,
					       error);
}

static gboolean take_item(FerryIncoming *incoming, const FerryRamItem *item, GError **error)
{
	const FerryRun run = { item->block, item->offset >> FERRY_PAGE_SHIFT, 1 };

	if (!ferry_incoming_await_page(incoming, run.block, run.first, error))
		return FALSE;
	switch (item->type) {
	case FERRY_RAM_ITEM_PAGE:
		return take_page(incoming, item, error);
	case FERRY_RAM_ITEM_XBZRLE:
		return ferry_incoming_take_encoded(incoming, &run, FERRY_PAGE_FORM_XBZRLE,
						   item->length, error);
	case FERRY_RAM_ITEM_COMPRESSED:
		return ferry_incoming_take_encoded(incoming, &run, FERRY_PAGE_FORM_ZLIB,
						   item->length, error);
	default:
		return take_zero(incoming, item, error);
	}
}

/* One body, of START, PART or END. */
static gboolean read_body(FerryIncoming *incoming, gboolean start, GError **error)
{
	FerryRamItem item;
	gboolean ok = TRUE;

	while (ok) {
		if (!ferry_ram_reader_next(&incoming->ram, incoming->reader, &item, error))
			return FALSE;
		if (item.type == FERRY_RAM_ITEM_END)
			return ferry_incoming_await_inflated(incoming, error);
		if (incoming->postcopy) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
				    "offset %" G_GUINT64_FORMAT
				    ": section 'ram' brings pages to a guest that runs",
				    ferry_stream_reader_offset(incoming->reader));
			return FALSE;
		}
		if ((item.type == FERRY_RAM_ITEM_LIST) != start || (start && incoming->listed)) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_STREAM,
				    "offset %" G_GUINT64_FORMAT
				    ": section 'ram' has its block list in the wrong place",
				    ferry_stream_reader_offset(incoming->reader));
			return FALSE;
		}
		if (item.type == FERRY_RAM_ITEM_LIST)
			ok = accept_list(incoming, error);
		else
			ok = take_item(incoming, &item, error);
	}
	return FALSE;
}

static gboolean right_section(FerryIncoming *incoming, const FerryStreamElement *element,
			      GError **error)
{
	if (element->type == FERRY_SECTION_START) {
		if (strcmp(element->name, "ram") == 0 && element->instance_id == 0 &&
		    element->version_id == FERRY_RAM_SECTION_VERSION && !incoming->listed)
			return TRUE;
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STREAM,
			    "offset %" G_GUINT64_FORMAT
			    ": section '%s' (instance %u, version %u) is not "
			    "known here; expected 'ram' (instance 0, version %u), once",
			    element->offset, element->name, element->instance_id,
			    element->version_id, FERRY_RAM_SECTION_VERSION);
		return FALSE;
	}
	if (incoming->listed && !incoming->ram_ended &&
	    element->section_id == incoming->ram_section_id)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STREAM,
		    "offset %" G_GUINT64_FORMAT ": a part of section %u, which is not open here",
		    element->offset, element->section_id);
	return FALSE;
}

static gboolean acknowledge(FerryIncoming *incoming, const FerryRoundMark *mark, GError **error)
{
	g_autoptr(GByteArray) record = g_byte_array_new();

	ferry_record_put_round(record, FERRY_RECORD_ROUND_DONE, mark);
	return ferry_reply_record(&incoming->replies, record, error);
}

/* In files that both sides share. */
static guint64 unexpected_pages(FerryIncoming *incoming)
{
	guint64 bytes = ferry_vm_ram(incoming->vm)->total - ferry_vm_moving_bytes(incoming->vm);

	return bytes >> FERRY_PAGE_SHIFT;
}

gboolean ferry_incoming_ram_section(FerryIncoming *incoming, const FerryStreamElement *element,
				    GError **error)
{
	gboolean start = element->type == FERRY_SECTION_START;

	if (!right_section(incoming, element, error))
		return FALSE;
	if (start)
		incoming->ram_section_id = element->section_id;
	if (!read_body(incoming, start, error) ||
	    !ferry_stream_read_footer(incoming->reader, element->section_id, error))
		return FALSE;
	if (element->type == FERRY_SECTION_END) {
		if (incoming->touch && !ferry_first_touch_settle(incoming->touch, error))
			return FALSE;
		incoming->ram_ended = TRUE;
		/* Every page is here: what becomes of the carrier is all the same now. */
		if (incoming->link)
			ferry_fabric_link_ignore_death(incoming->link);
	}
	if (!incoming->listed) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STREAM,
			    "offset %" G_GUINT64_FORMAT
			    ": section 'ram' begins without a block list",
			    element->offset);
		return FALSE;
	}
	/* Round 0 is the list: the source sends no page before it is taken. */
	return !start || !incoming->ferry_peer ||
	       acknowledge(incoming, &(FerryRoundMark){ 0, unexpected_pages(incoming) }, error);
}

/* ---- rounds between Ferry peers ---- */

static gboolean begin_round(FerryIncoming *incoming, const FerryIncomingRecord *record,
			    GError **error)
{
	FerryRoundMark mark;

	if (!ferry_record_get_round(record->payload, record->length, &mark, error))
		return FALSE;
	if (incoming->fabrics_agreed && !incoming->chosen) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "round %u begins before the source said which carrier brings the pages",
			    mark.round);
		return FALSE;
	}
	incoming->round = mark.round;
	incoming->round_pages = 0;
	return TRUE;
}

/* Whether all of the round has come: in the stream it is counted; beside it the fence says so, and
 * the rest of the round is what did not come in the stream. */
static gboolean is_complete(FerryIncoming *incoming, const FerryRoundMark *mark)
{
	return mark->round == incoming->round &&
	       (ferry_incoming_is_beside(incoming) ? mark->pages >= incoming->round_pages
						   : mark->pages == incoming->round_pages);
}

static gboolean await_fence(FerryIncoming *incoming, guint32 fence, GError **error)
{
	FerryCarrier *carrier;
	gboolean ok;

	if (!ferry_incoming_is_beside(incoming) || incoming->pulls)
		return TRUE;
	carrier = ferry_fabric_link_carrier(incoming->link);
	ferry_probe_await_begin(fence);
	ok = !carrier->ops->await_fence || carrier->ops->await_fence(carrier, fence, error);
	ferry_probe_await_end(fence, ok);
	return ok;
}

/* In the stream pages come in order: at the end mark all of the round has been written into RAM. */
static gboolean end_round(FerryIncoming *incoming, const FerryIncomingRecord *record,
			  GError **error)
{
	FerryRoundMark mark;

	if (!ferry_record_get_round(record->payload, record->length, &mark, error))
		return FALSE;
	if (!is_complete(incoming, &mark)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "round %u was to bring %" G_GUINT64_FORMAT
			    " pages; here arrived %" G_GUINT64_FORMAT " in round %u",
			    mark.round, mark.pages, incoming->round_pages, incoming->round);
		return FALSE;
	}
	if (!await_fence(incoming, mark.round, error) ||
	    !ferry_incoming_await_inflated(incoming, error) ||
	    (incoming->touch && !ferry_first_touch_settle(incoming->touch, error)))
		return FALSE;
	if (incoming->digest)
		ferry_digest_catch_up(incoming->digest);
	return acknowledge(incoming, &mark, error);
}

static gboolean take_run(FerryIncoming *incoming, const FerryIncomingRecord *record, GError **error)
{
	gboolean zero;
	FerryRun run;

	if (ferry_incoming_is_beside(incoming) && record->type == FERRY_RECORD_PAGES) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "pages came in the stream, and the source had said that they come "
			    "beside it");
		return FALSE;
	}
	if (incoming->postcopy && record->type != FERRY_RECORD_ENCODED_PAGE)
		return ferry_incoming_land(incoming, record, error);
	if (record->type == FERRY_RECORD_ENCODED_PAGE) {
		zero = FALSE;
		if (!ferry_incoming_encoded_page(incoming, record, read_pages, &run, error))
			return FALSE;
	} else if (!incoming->carrier->ops->receive ||
		   !incoming->carrier->ops->receive(incoming->carrier, record->type,
						    record->payload, record->length, read_pages,
						    incoming, &run, &zero, error))
		return FALSE;
	incoming->round_pages += run.pages;
	if (!incoming->digest)
		return TRUE;
	if (zero)
		ferry_digest_touched(incoming->digest, &run);
	incoming->undigested += run.pages;
	if (incoming->undigested >= DIGEST_STEP) {
		incoming->undigested = 0;
		ferry_digest_catch_up(incoming->digest);
	}
	return TRUE;
}

gboolean ferry_incoming_ram_record(FerryIncoming *incoming, const FerryIncomingRecord *record,
				   GError **error)
{
	if (record->type == 0)
		return TRUE;
	if (incoming->ferry_peer && incoming->listed && !incoming->ram_ended) {
		if (FERRY_RECORD_IS_FABRIC(record->type))
			return ferry_incoming_fabric_record(incoming, record, error);
		if (record->type == FERRY_RECORD_CARRIER)
			return ferry_incoming_choose_carrier(incoming, record, error);
		if (FERRY_RECORD_IS_CARRIER(record->type))
			return take_run(incoming, record, error);
		if (record->type == FERRY_RECORD_ROUND_BEGIN)
			return begin_round(incoming, record, error);
		if (record->type == FERRY_RECORD_ROUND_END)
			return end_round(incoming, record, error);
	}
	/* A new migration shows its block list first. */
	if (incoming->ferry_peer && !incoming->listed && FERRY_RECORD_IS_FABRIC(record->type))
		return ferry_incoming_refuse_recovery(incoming, error);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "offset %" G_GUINT64_FORMAT ": record %s (0x%04x) does not belong here",
		    ferry_stream_reader_offset(incoming->reader),
		    ferry_record_name(record->type) ? ferry_record_name(record->type)
						    : "of a carrier",
		    record->type);
	return FALSE;
}
