/* SPDX-License-Identifier: BSD-2-Clause */
#include "source-private.h"

#include "observe.h"

/* Why @fabric cannot serve, as far as the greeting tells; NULL if it may. */
static char *find_obstacle(FerryOutgoing *outgoing, const FerryFabric *fabric)
{
	const char *name = fabric->ops->name;

	if (!outgoing->path)
		return g_strdup_printf("%s needs a destination that answers: switch return-path on",
				       name);
	if (!outgoing->ferry_peer)
		return g_strdup_printf("%s needs a Ferry at the destination, which is none", name);
	if (outgoing->features & fabric->ops->feature)
		return NULL;
	if (fabric->ops->feature == FERRY_FEATURE_MULTIFD)
		return g_strdup("the destination has multifd off: switch it on at both sides");
	return g_strdup_printf("the destination listens without %s: let it listen on %s:HOST:PORT",
			       name, outgoing->transport->scheme);
}

static gboolean refuse(FerryOutgoing *outgoing, FerryErrorCode code, const char *why,
		       GError **error)
{
	if (outgoing->fabric->ops->feature == FERRY_FEATURE_MULTIFD)
		g_set_error(error, FERRY_ERROR, code, "multifd: %s", why);
	else
		g_set_error(error, FERRY_ERROR, code, "%s is required (rdma-require): %s",
			    outgoing->fabric->ops->name, why);
	return FALSE;
}

/* Pages go by the fabric, or not at all. */
static gboolean is_required(FerryOutgoing *outgoing)
{
	if (!outgoing->fabric)
		return FALSE;
	return outgoing->fabric->ops->feature == FERRY_FEATURE_MULTIFD ||
	       (outgoing->transport->prefers_fabric &&
		ferry_settings_get_capability(ferry_vm_settings(outgoing->vm),
					      FERRY_CAPABILITY_RDMA_REQUIRE));
}

gboolean ferry_outgoing_check_fabric(FerryOutgoing *outgoing, GError **error)
{
	g_autofree char *why = NULL;

	if (!is_required(outgoing))
		return TRUE;
	why = find_obstacle(outgoing, outgoing->fabric);
	return !why || refuse(outgoing, FERRY_ERROR_NOSUPP, why, error);
}

FerryCarrier *ferry_outgoing_bulk(FerryOutgoing *outgoing)
{
	return outgoing->link ? ferry_fabric_link_carrier(outgoing->link) : outgoing->carrier;
}

static gboolean say_choice(FerryOutgoing *outgoing, gboolean beside, GError **error)
{
	g_autoptr(GByteArray) record = g_byte_array_new();

	ferry_record_put_carrier(record, beside);
	ferry_stream_put_command(outgoing->out, FERRY_COMMAND_FERRY, record->data, record->len);
	return ferry_outgoing_flush(outgoing, error);
}

/* A FerryFabricDeath: ends every wait for the destination. */
static void mourn(gpointer user, GError *reason)
{
	ferry_return_path_fail(user, reason);
}

/* Connects a carrier of @fabric. */
static gboolean connect_link(FerryOutgoing *outgoing, FerryFabric *fabric, GError **error)
{
	FerryFabricSession session = {
		.source = TRUE,
		.nonce = outgoing->nonce,
		.settings = ferry_vm_settings(outgoing->vm),
		.postcopy = outgoing->postcopy,
		.cancellable = ferry_return_path_end(outgoing->path),
	};
	FerryCarrier *carrier;

	outgoing->link = ferry_fabric_link_open(fabric, &session, outgoing->heartbeat, mourn,
						outgoing->path);
	carrier = ferry_fabric_link_carrier(outgoing->link);
	ferry_return_path_set_carrier(outgoing->path, carrier);
	ferry_heartbeat_start(outgoing->heartbeat);
	if (!carrier->ops->share_ram(carrier, ferry_vm_ram(outgoing->vm), error))
		return FALSE;
	if (outgoing->postcopy && !carrier->ops->urgent && !carrier->ops->pulls) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "%s brings no pages to a guest that runs", carrier->ops->name);
		return FALSE;
	}
	ferry_fabric_link_rely(outgoing->link);
	return TRUE;
}

static void drop_link(FerryOutgoing *outgoing)
{
	ferry_return_path_set_carrier(outgoing->path, NULL);
	g_clear_pointer(&outgoing->link, ferry_fabric_link_free);
}

/* The pages do not go as the URI asks, and whoever watches is told why. */
static void fall_back(FerryOutgoing *outgoing, const char *why)
{
	ferry_progress_set_fallback(outgoing->progress, why);
	ferry_observe_fallback(outgoing->uri, ferry_outgoing_bulk(outgoing)->ops->name, why);
	ferry_vm_emit(outgoing->vm,
		      &(FerryEvent){ .type = FERRY_EVENT_FALLBACK,
				     .reason = why,
				     .transport = ferry_outgoing_bulk(outgoing)->ops->name });
}

/* Connects the first fabric of the chain that can serve; @why gets what is wrong with those before
 * it. FALSE where none can, or, with @error, where the migration is over. */
static gboolean find_link(FerryOutgoing *outgoing, GString *why, GError **error)
{
	for (FerryFabric *fabric = outgoing->fabric; fabric; fabric = fabric->next) {
		g_autofree char *obstacle = find_obstacle(outgoing, fabric);
		g_autoptr(GError) cause = NULL;

		if (!obstacle && connect_link(outgoing, fabric, &cause))
			return TRUE;
		/* Cancelled, or there is no destination any more; closing can wait. */
		if (cause && ferry_return_path_failed(outgoing->path, error))
			return FALSE;
		if (is_required(outgoing))
			return refuse(outgoing, cause ? cause->code : FERRY_ERROR_NOSUPP,
				      cause ? cause->message : obstacle, error);
		if (fabric == outgoing->fabric)
			g_string_assign(why, cause ? cause->message : obstacle);
		if (cause)
			drop_link(outgoing);
	}
	return FALSE;
}

gboolean ferry_outgoing_choose_carrier(FerryOutgoing *outgoing, GError **error)
{
	g_autoptr(GString) why = g_string_new(NULL);
	g_autoptr(GError) over = NULL;
	FerryCarrier *bulk;
	gboolean beside;

	ferry_progress_set_transport(outgoing->progress, outgoing->carrier->ops->name);
	beside = find_link(outgoing, why, &over);
	if (over) {
		g_propagate_error(error, g_steal_pointer(&over));
		return FALSE;
	}
	bulk = ferry_outgoing_bulk(outgoing);
	ferry_progress_set_transport(outgoing->progress, bulk->ops->name);
	if (beside)
		ferry_progress_describe(outgoing->progress, bulk);
	/* A scheme that did not ask for the fabric is as it was. */
	if (why->len && outgoing->transport->prefers_fabric)
		fall_back(outgoing, why->str);
	if (outgoing->features & ferry_fabric_features(outgoing->fabric) &&
	    !say_choice(outgoing, beside, error))
		return FALSE;
	if (beside)
		return TRUE;
	/* Pages on the channel are written from guest RAM, not through a queue. */
	if (outgoing->heartbeat)
		ferry_heartbeat_stop(outgoing->heartbeat, G_TIME_SPAN_SECOND);
	return TRUE;
}
