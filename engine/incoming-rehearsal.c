/* SPDX-License-Identifier: BSD-2-Clause */
#include "destination-private.h"

/*
 * A rehearsal at the destination: its pages come into RAM as a migration's do, and everything that
 * would hand the guest over is refused. The state stays setup. What came is not taken out of RAM
 * again: a device may have it registered, and would go on with the pages that were cut out. The
 * next migration overwrites all of it, zero pages too.
 */

gboolean ferry_incoming_may_rehearse(FerryIncoming *incoming, const FerryStreamElement *element,
				     GError **error)
{
	if (!incoming->rehearses ||
	    (element->type != FERRY_SECTION_END && element->type != FERRY_SECTION_FULL))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "offset %" G_GUINT64_FORMAT
		    ": a rehearsal brings element type 0x%02x, which hands the guest over",
		    element->offset, element->type);
	return FALSE;
}

void ferry_destination_rehearsed(FerryDestination *destination)
{
	g_mutex_lock(&destination->lock);
	g_clear_pointer(&destination->transport, g_free);
	g_clear_pointer(&destination->carrier, g_variant_unref);
	destination->received = 0;
	g_mutex_unlock(&destination->lock);
}
