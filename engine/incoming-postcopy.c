/* SPDX-License-Identifier: BSD-2-Clause */
#include "destination-private.h"

#include "postcopy-wire.h"

/* Bytes of a package: the devices of a guest. */
#define PACKAGE_MAX (64u << 20)
/* It is taken in by pieces: nothing is allocated for bytes that did not come. */
#define PIECE (1u << 20)

static gboolean misplaced(FerryIncoming *incoming, const FerryStreamElement *element,
			  GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "offset %" G_GUINT64_FORMAT
		    ": command %u with %u bytes of data does not belong here%s",
		    element->offset, element->command, element->length,
		    incoming->may_postcopy ? ""
					   : " (postcopy: switch postcopy-ram off at the source)");
	return FALSE;
}

/* ---- before the switch ---- */

static gboolean advise(FerryIncoming *incoming, const guint8 *data, size_t len, GError **error)
{
	FerryRam *ram = ferry_vm_ram(incoming->vm);

	/* The RAM of a guest that is here already is not to be tried. */
	if (!ferry_incoming_may_take(incoming, error) ||
	    !ferry_postcopy_get_advise(ram, data, len, error))
		return FALSE;
	incoming->advised = ferry_postcopy_ram_new(ram, error);
	if (!incoming->advised) {
		g_prefix_error(error, "postcopy-ram is on at the source, and cannot be had here: ");
		return FALSE;
	}
	incoming->memory = ferry_postcopy_ram_view(incoming->advised);
	return TRUE;
}

/* A FerryDiscardFunc. */
static gboolean discard(gpointer user, const FerryRun *run, GError **error)
{
	return ferry_postcopy_ram_discard(user, run, error);
}

gboolean ferry_incoming_begin_beside(FerryIncoming *incoming, GError **error)
{
	FerryCarrier *carrier = ferry_fabric_link_carrier(incoming->link);
	FerryArrivals arrivals = ferry_postcopy_ram_arrivals(incoming->postcopy);

	if (!carrier->ops->begin_postcopy) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "%s brings no pages to a guest that runs", carrier->ops->name);
		return FALSE;
	}
	incoming->pulls = carrier->ops->pulls && carrier->ops->pulls(carrier);
	return carrier->ops->begin_postcopy(carrier, ferry_postcopy_ram_target(incoming->postcopy),
					    &arrivals, error);
}

/* LISTEN: from here nothing writes but into pages that are missing, and who needs one is heard:
 * loading a device may. */
static gboolean listen(FerryIncoming *incoming, GError **error)
{
	FerryDestination *destination = incoming->destination;

	if (!ferry_first_touch_settle(incoming->touch, error))
		return FALSE;
	g_clear_pointer(&incoming->touch, ferry_first_touch_free);
	g_clear_pointer(&incoming->digest, ferry_digest_free);
	if (!ferry_postcopy_ram_listen(incoming->advised, error))
		return FALSE;
	g_mutex_lock(&destination->lock);
	incoming->postcopy = destination->postcopy = g_steal_pointer(&incoming->advised);
	g_mutex_unlock(&destination->lock);
	ferry_destination_block(destination);
	if (ferry_incoming_is_beside(incoming) && !ferry_incoming_begin_beside(incoming, error))
		return FALSE;
	ferry_incoming_begin_faults(incoming);
	return TRUE;
}

static GByteArray *read_package(FerryIncoming *incoming, guint32 length, GError **error)
{
	g_autoptr(GByteArray) package = g_byte_array_new();

	while (package->len < length) {
		guint at = package->len;

		g_byte_array_set_size(package, MIN(length, at + PIECE));
		ferry_stream_reader_bytes(incoming->reader, package->data + at, package->len - at);
		if (!ferry_stream_reader_check(incoming->reader, error))
			return NULL;
	}
	return g_steal_pointer(&package);
}

/* Devices, and nothing else. */
static gboolean load_element(FerryIncoming *incoming, FerryStreamReader *reader,
			     const FerryStreamElement *element, GError **error)
{
	if (element->type == FERRY_SECTION_FULL)
		return ferry_devices_load(ferry_vm_devices(incoming->vm), reader, element, error);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "offset %" G_GUINT64_FORMAT ": element type 0x%02x does not belong here",
		    element->offset, element->type);
	return FALSE;
}

static gboolean load_package(FerryIncoming *incoming, guint32 length, GError **error)
{
	g_autoptr(FerryStreamReader) reader = NULL;
	g_autoptr(GByteArray) package = NULL;
	FerryStreamElement element;

	if (length > PACKAGE_MAX) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "a package of %u bytes; at most %u are taken", length, PACKAGE_MAX);
		return FALSE;
	}
	package = read_package(incoming, length, error);
	if (!package)
		return FALSE;
	reader = ferry_stream_reader_new_for_data(package->data, package->len);
	for (;;) {
		if (!ferry_stream_next(reader, &element, error))
			return g_prefix_error(error, "in the package: "), FALSE;
		if (element.type == FERRY_SECTION_EOF && element.length)
			return TRUE;
		if (!load_element(incoming, reader, &element, error))
			return g_prefix_error(error, "in the package: "), FALSE;
	}
}

static gboolean belongs(const FerryIncoming *incoming, guint16 command)
{
	switch (command) {
	case FERRY_COMMAND_POSTCOPY_ADVISE:
		return incoming->may_postcopy && !incoming->advised && !incoming->listed;
	case FERRY_COMMAND_POSTCOPY_RAM_DISCARD:
		return incoming->advised && incoming->listed && !incoming->ram_ended;
	case FERRY_COMMAND_POSTCOPY_LISTEN:
		return incoming->advised && incoming->discarded && !incoming->ram_ended;
	case FERRY_COMMAND_PACKAGED:
		return incoming->postcopy && !incoming->packaged;
	default:
		return FALSE;
	}
}

gboolean ferry_incoming_postcopy_command(FerryIncoming *incoming, const FerryStreamElement *element,
					 GError **error)
{
	g_autofree guint8 *data = NULL;
	guint32 length;

	if (!belongs(incoming, element->command) ||
	    (element->command == FERRY_COMMAND_POSTCOPY_LISTEN && element->length))
		return misplaced(incoming, element, error);
	if (element->command == FERRY_COMMAND_POSTCOPY_LISTEN)
		return listen(incoming, error);
	data = g_malloc(element->length);
	ferry_stream_reader_bytes(incoming->reader, data, element->length);
	if (!ferry_stream_reader_check(incoming->reader, error))
		return FALSE;
	if (element->command == FERRY_COMMAND_POSTCOPY_ADVISE)
		return advise(incoming, data, element->length, error);
	if (element->command == FERRY_COMMAND_POSTCOPY_RAM_DISCARD) {
		incoming->discarded = TRUE;
		return ferry_postcopy_get_discard(ferry_vm_ram(incoming->vm), data, element->length,
						  discard, incoming->advised, error);
	}
	incoming->packaged = TRUE;
	return ferry_postcopy_get_packaged(data, element->length, &length, error) &&
	       load_package(incoming, length, error);
}

/* ---- pages in the stream, once the guest may run ---- */

/* Only a run that lies inside of @ram leaves this function. */
static gboolean parse_run(const FerryRam *ram, const FerryIncomingRecord *record, FerryRun *run)
{
	FerryRun in;
	guint64 pages;

	if (record->length != 20)
		return FALSE;
	in.block = ferry_load_be32(record->payload);
	in.first = ferry_load_be64(record->payload + 4);
	in.pages = ferry_load_be64(record->payload + 12);
	if (in.block >= ram->n_blocks)
		return FALSE;
	pages = ferry_ram_block_pages(&ram->blocks[in.block]);
	if (in.first >= pages || !in.pages || in.pages > pages - in.first ||
	    in.pages > FERRY_PAGES_RUN_MAX >> FERRY_PAGE_SHIFT)
		return FALSE;
	*run = in;
	return TRUE;
}

static gboolean refuse_run(FerryIncoming *incoming, const FerryIncomingRecord *record,
			   const char *why, GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "offset %" G_GUINT64_FORMAT ": record 0x%04x of %u bytes: %s",
		    ferry_stream_reader_offset(incoming->reader), record->type, record->length,
		    why);
	return FALSE;
}

/* By pieces: the guest may wait for the first of them. */
static gboolean read_run(FerryIncoming *incoming, const FerryRun *run, GError **error)
{
	FerryArrivals arrivals = ferry_postcopy_ram_arrivals(incoming->postcopy);
	const FerryRam *target = ferry_postcopy_ram_target(incoming->postcopy);
	guint64 end = run->first + run->pages;
	FerryRun piece = *run;

	for (; piece.first < end; piece.first += piece.pages) {
		piece.pages = MIN(end - piece.first, FERRY_FETCH_MAX);
		ferry_stream_reader_bytes(incoming->reader, ferry_run_host(target, &piece),
					  ferry_run_bytes(&piece));
		if (!ferry_stream_reader_check(incoming->reader, error))
			return FALSE;
		arrivals.landed(arrivals.user, &piece);
	}
	return TRUE;
}

gboolean ferry_incoming_land(FerryIncoming *incoming, const FerryIncomingRecord *record,
			     GError **error)
{
	const FerryRam *ram = ferry_vm_ram(incoming->vm);
	FerryRun run;

	if (record->type != FERRY_RECORD_PAGES && record->type != FERRY_RECORD_ZERO_PAGES)
		return refuse_run(incoming, record, "it belongs to another carrier", error);
	if (incoming->pulls)
		return refuse_run(incoming, record, "pages are fetched here", error);
	if (!parse_run(ram, record, &run))
		return refuse_run(incoming, record, "it is no run of pages of this RAM", error);
	if (!ferry_postcopy_ram_wants(incoming->postcopy, &run)) {
		g_autofree char *why = g_strdup_printf(
			"%" G_GUINT64_FORMAT " pages from page %" G_GUINT64_FORMAT
			" of block '%s' on: not all of them are missing",
			run.pages, run.first, ram->blocks[run.block].name);

		return refuse_run(incoming, record, why, error);
	}
	incoming->round_pages += run.pages;
	if (record->type == FERRY_RECORD_PAGES)
		return read_run(incoming, &run, error);
	ferry_postcopy_ram_land_zero(incoming->postcopy, &run);
	return TRUE;
}
