/* SPDX-License-Identifier: BSD-2-Clause */
#include "source-private.h"

/* Why the fabric of the URI cannot serve, as far as the greeting tells; NULL if it may. */
static char *find_obstacle(FerryOutgoing *outgoing)
{
	const char *name = outgoing->fabric->ops->name;

	if (!outgoing->path)
		return g_strdup_printf("%s needs a destination that answers: switch return-path on",
				       name);
	if (!outgoing->ferry_peer)
		return g_strdup_printf("%s needs a Ferry at the destination, which is none", name);
	if (!outgoing->fabric_agreed)
		return g_strdup_printf(
			"the destination listens without %s: let it listen on %s:HOST:PORT", name,
			outgoing->transport->scheme);
	return NULL;
}

static gboolean refuse(FerryOutgoing *outgoing, FerryErrorCode code, const char *why,
		       GError **error)
{
	g_set_error(error, FERRY_ERROR, code, "%s is required (rdma-require): %s",
		    outgoing->fabric->ops->name, why);
	return FALSE;
}

static gboolean is_required(FerryOutgoing *outgoing)
{
	return ferry_settings_get_capability(ferry_vm_settings(outgoing->vm),
					     FERRY_CAPABILITY_RDMA_REQUIRE);
}

gboolean ferry_outgoing_check_fabric(FerryOutgoing *outgoing, GError **error)
{
	g_autofree char *why = NULL;

	if (!outgoing->fabric || !is_required(outgoing))
		return TRUE;
	why = find_obstacle(outgoing);
	return !why || refuse(outgoing, FERRY_ERROR_NOSUPP, why, error);
}

FerryCarrier *ferry_outgoing_bulk(FerryOutgoing *outgoing)
{
	return outgoing->link ? ferry_fabric_link_carrier(outgoing->link) : outgoing->carrier;
}

static gboolean say_choice(FerryOutgoing *outgoing, GError **error)
{
	g_autoptr(GByteArray) record = g_byte_array_new();

	ferry_record_put_carrier(record, outgoing->link != NULL);
	ferry_stream_put_command(outgoing->out, FERRY_COMMAND_FERRY, record->data, record->len);
	return ferry_outgoing_flush(outgoing, error);
}

/* A FerryFabricDeath: ends every wait for the destination. */
static void mourn(gpointer user, GError *reason)
{
	ferry_return_path_fail(user, reason);
}

/* Connects the carrier beside the channel. */
static gboolean connect_link(FerryOutgoing *outgoing, GError **error)
{
	FerryFabricSession session = {
		.source = TRUE,
		.nonce = outgoing->nonce,
		.settings = ferry_vm_settings(outgoing->vm),
		.cancellable = ferry_return_path_end(outgoing->path),
	};
	FerryCarrier *carrier;

	outgoing->link = ferry_fabric_link_open(outgoing->fabric, &session, outgoing->heartbeat,
						mourn, outgoing->path);
	carrier = ferry_fabric_link_carrier(outgoing->link);
	ferry_return_path_set_carrier(outgoing->path, carrier);
	ferry_heartbeat_start(outgoing->heartbeat);
	return carrier->ops->share_ram(carrier, ferry_vm_ram(outgoing->vm), error);
}

/* The pages go on the channel, and whoever watches is told why. */
static void fall_back(FerryOutgoing *outgoing, const char *why)
{
	ferry_progress_set_fallback(outgoing->progress, why);
	ferry_vm_emit(outgoing->vm, &(FerryEvent){ .type = FERRY_EVENT_FALLBACK,
						   .reason = why,
						   .transport = outgoing->carrier->ops->name });
}

/* Both sides have the fabric. */
static gboolean try_fabric(FerryOutgoing *outgoing, GError **error)
{
	g_autoptr(GError) cause = NULL;

	if (connect_link(outgoing, &cause)) {
		ferry_progress_set_transport(outgoing->progress, outgoing->fabric->ops->name);
		ferry_progress_describe(outgoing->progress, ferry_outgoing_bulk(outgoing));
		return say_choice(outgoing, error);
	}
	/* Cancelled, or there is no destination any more; closing can wait. */
	if (ferry_return_path_failed(outgoing->path, error))
		return FALSE;
	if (is_required(outgoing))
		return refuse(outgoing, cause->code, cause->message, error);
	ferry_return_path_set_carrier(outgoing->path, NULL);
	g_clear_pointer(&outgoing->link, ferry_fabric_link_free);
	if (!say_choice(outgoing, error))
		return FALSE;
	/* Pages on the channel are written from guest RAM, not through a queue. */
	ferry_heartbeat_stop(outgoing->heartbeat, G_TIME_SPAN_SECOND);
	fall_back(outgoing, cause->message);
	return TRUE;
}

gboolean ferry_outgoing_choose_carrier(FerryOutgoing *outgoing, GError **error)
{
	g_autofree char *why = outgoing->fabric ? find_obstacle(outgoing) : NULL;

	ferry_progress_set_transport(outgoing->progress, outgoing->carrier->ops->name);
	if (why)
		fall_back(outgoing, why);
	return why || !outgoing->fabric || try_fabric(outgoing, error);
}
