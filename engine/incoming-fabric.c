/* SPDX-License-Identifier: BSD-2-Clause */
#include "destination-private.h"

gboolean ferry_incoming_is_beside(const FerryIncoming *incoming)
{
	return incoming->chosen && incoming->link;
}

/* Pages must not go another way than this side was told to take them. */
gboolean ferry_incoming_agrees_on_multifd(FerryIncoming *incoming, GError **error)
{
	gboolean on = ferry_fabric_features(incoming->fabric) & FERRY_FEATURE_MULTIFD;

	if (!on || incoming->over || incoming->fabrics_agreed & FERRY_FEATURE_MULTIFD)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_MISMATCH,
		    incoming->ferry_peer
			    ? "multifd is on at the destination and off at the source: "
			      "set it the same on both sides"
			    : "multifd is on at the destination, and the source is no "
			      "Ferry: switch it off");
	return FALSE;
}

/* A FerryFabricDeath: the source reads the reason, and so does the loading thread. */
static void mourn(gpointer user, GError *reason)
{
	FerryIncoming *incoming = user;
	g_autoptr(GByteArray) record = g_byte_array_new();

	ferry_record_put_error(record, reason->message);
	ferry_heartbeat_say(incoming->heartbeat, FERRY_RECORD_ERROR,
			    record->data + FERRY_RECORD_HEADER, record->len - FERRY_RECORD_HEADER);
	ferry_heartbeat_give_up(incoming->heartbeat, reason);
}

static void describe(FerryIncoming *incoming, FerryCarrier *carrier)
{
	g_mutex_lock(&incoming->destination->lock);
	incoming->destination->described = carrier;
	g_mutex_unlock(&incoming->destination->lock);
}

static gboolean open_link(FerryIncoming *incoming, FerryFabric *fabric, GError **error)
{
	FerryFabricSession session = {
		.nonce = incoming->nonce,
		.settings = ferry_vm_settings(incoming->vm),
		.postcopy = incoming->advised || incoming->postcopy,
		.cancellable = incoming->destination->cancellable,
	};
	FerryCarrier *carrier;

	ferry_heartbeat_start(incoming->heartbeat);
	incoming->link = ferry_fabric_link_open(fabric, &session, incoming->heartbeat, mourn,
						incoming);
	incoming->linked = fabric;
	carrier = ferry_fabric_link_carrier(incoming->link);
	if (!carrier->ops->share_ram(carrier, incoming->memory, error))
		return FALSE;
	describe(incoming, carrier);
	return TRUE;
}

gboolean ferry_incoming_fabric_record(FerryIncoming *incoming, const FerryIncomingRecord *record,
				      GError **error)
{
	FerryFabric *fabric = ferry_fabric_find(incoming->fabric, record->type);
	FerryCarrier *carrier;

	if (!fabric || !(incoming->fabrics_agreed & fabric->ops->feature) ||
	    (incoming->chosen && fabric != incoming->linked)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "offset %" G_GUINT64_FORMAT
			    ": record 0x%04x is for a carrier beside the stream, and there is none",
			    ferry_stream_reader_offset(incoming->reader), record->type);
		return FALSE;
	}
	if (fabric != incoming->linked) {
		ferry_incoming_close_fabric(incoming);
		if (!open_link(incoming, fabric, error))
			return FALSE;
	}
	carrier = ferry_fabric_link_carrier(incoming->link);
	if (carrier->ops->hear)
		return carrier->ops->hear(carrier, record->type, record->payload, record->length,
					  error);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "record 0x%04x is for a carrier that takes none", record->type);
	return FALSE;
}

void ferry_incoming_close_fabric(FerryIncoming *incoming)
{
	FerryDestination *destination = incoming->destination;
	FerryCarrier *carrier;
	GVariant *last = NULL;

	if (!incoming->link)
		return;
	carrier = ferry_fabric_link_carrier(incoming->link);
	if (carrier->ops->describe)
		last = g_variant_ref_sink(carrier->ops->describe(carrier));
	g_mutex_lock(&destination->lock);
	destination->described = NULL;
	g_clear_pointer(&destination->carrier, g_variant_unref);
	destination->carrier = last;
	g_mutex_unlock(&destination->lock);
	g_clear_pointer(&incoming->link, ferry_fabric_link_free);
	incoming->linked = NULL;
}

/* From here on pages land without passing this code: nothing can be done along with them. */
static gboolean go_beside(FerryIncoming *incoming, GError **error)
{
	FerryDestination *destination = incoming->destination;

	if (incoming->touch && !ferry_first_touch_settle(incoming->touch, error))
		return FALSE;
	if (incoming->touch)
		ferry_first_touch_on_landed(incoming->touch, NULL, NULL);
	g_clear_pointer(&incoming->digest, ferry_digest_free);
	g_mutex_lock(&destination->lock);
	g_free(destination->transport);
	destination->transport = g_strdup(incoming->linked->ops->name);
	g_mutex_unlock(&destination->lock);
	ferry_fabric_link_rely(incoming->link);
	return TRUE;
}

gboolean ferry_incoming_choose_carrier(FerryIncoming *incoming, const FerryIncomingRecord *record,
				       GError **error)
{
	gboolean beside;

	if (!ferry_record_get_carrier(record->payload, record->length, &beside, error))
		return FALSE;
	if (!incoming->fabrics_agreed || incoming->chosen || (beside && !incoming->link)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "offset %" G_GUINT64_FORMAT ": CARRIER %d does not belong here",
			    ferry_stream_reader_offset(incoming->reader), beside);
		return FALSE;
	}
	incoming->chosen = TRUE;
	if (beside)
		return go_beside(incoming, error);
	ferry_incoming_close_fabric(incoming);
	ferry_heartbeat_stop(incoming->heartbeat, G_TIME_SPAN_SECOND);
	return TRUE;
}
