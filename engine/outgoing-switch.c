/* SPDX-License-Identifier: BSD-2-Clause */
#include "source-private.h"

#include "postcopy-wire.h"

/* For taking note of what is missing, and dropping it from the guest's page tables. */
#define LISTEN_US (60 * G_TIME_SPAN_SECOND)

static gboolean refuse(GError **error, const char *why)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
		    "postcopy-ram is on, and %s, or switch postcopy-ram off", why);
	return FALSE;
}

/* Loading a device needs a page there, and behind the devices there is no other way for it. */
static GError *make_stuck_error(void)
{
	return g_error_new(
		FERRY_ERROR, FERRY_ERROR_NOSUPP,
		"loading a device at the destination needs a page that is missing there, "
		"which over a single channel cannot come before the guest runs: use tcp: "
		"or rdma:, or let precopy go on longer");
}

/* A FerryPageRequests' asked: on the thread of the return path. */
static void asked(gpointer user)
{
	FerryOutgoing *outgoing = user;

	ferry_page_push_serve(outgoing->push);
	if (!ferry_outgoing_bulk(outgoing)->ops->urgent &&
	    ferry_source_state(outgoing->source) == FERRY_STATE_DEVICE)
		ferry_return_path_fail(outgoing->path, make_stuck_error());
}

gboolean ferry_outgoing_advise(FerryOutgoing *outgoing, GError **error)
{
	FerryRam *ram = ferry_vm_ram(outgoing->vm);

	if (!ferry_settings_get_capability(ferry_vm_settings(outgoing->vm),
					   FERRY_CAPABILITY_POSTCOPY_RAM))
		return TRUE;
	if (!outgoing->path)
		return refuse(error,
			      "the guest can only be followed by its pages where the destination "
			      "can ask for them: use tcp:, unix: or rdma: with return-path on");
	if (!outgoing->ferry_peer)
		return refuse(error, "the destination is no Ferry: use one");
	if (!(outgoing->features & FERRY_FEATURE_POSTCOPY))
		return refuse(error, "the Ferry at the destination is too old for it: use the same "
				     "release on both sides");
	outgoing->postcopy = TRUE;
	outgoing->requests = ferry_page_requests_new(ram, asked, outgoing);
	ferry_postcopy_put_advise(outgoing->out, ram);
	return ferry_outgoing_flush(outgoing, error);
}

/* The guest stands still: what it wrote last, and what never went, is missing there. Saving a
 * device can write RAM, hence two passes. */
static gboolean save_devices(FerryOutgoing *outgoing, GByteArray *devices, GError **error)
{
	g_autoptr(GString) json = g_string_new(NULL);
	gint64 collect_us;

	outgoing->stopped = TRUE;
	if (!ferry_outgoing_collect(outgoing, &collect_us, error))
		return FALSE;
	ferry_vm_save_run_state(outgoing->vm, ferry_vm_outgoing_run_state(outgoing->vm));
	return ferry_devices_save(ferry_vm_devices(outgoing->vm), FERRY_RAM_SECTION_ID + 1, devices,
				  json, error) &&
	       ferry_outgoing_collect(outgoing, &collect_us, error);
}

/* What is missing there; once the destination listens, pages can come. */
static gboolean send_missing(FerryOutgoing *outgoing, GError **error)
{
	FerryRam *ram = ferry_vm_ram(outgoing->vm);
	guint8 value[4];
	FerryReply reply;

	ferry_postcopy_widen(outgoing->pending, ram);
	ferry_postcopy_put_discards(outgoing->out, ram, outgoing->pending);
	ferry_stream_put_command(outgoing->out, FERRY_COMMAND_POSTCOPY_LISTEN, NULL, 0);
	ferry_store_be32(value, FERRY_COMMAND_POSTCOPY_LISTEN);
	ferry_stream_put_command(outgoing->out, FERRY_COMMAND_PING, value, sizeof(value));
	return ferry_outgoing_flush(outgoing, error) &&
	       ferry_return_path_wait(outgoing->path, FERRY_REPLY_PONG, LISTEN_US, &reply, error);
}

/* From here what is asked for goes at once, where the carrier has a way for it. */
static void serve(FerryOutgoing *outgoing)
{
	FerryCarrier *bulk = ferry_outgoing_bulk(outgoing);

	if (bulk->ops->switch_over)
		bulk->ops->switch_over(bulk);
	outgoing->push = ferry_page_push_new(ferry_vm_ram(outgoing->vm), outgoing->pending,
					     outgoing->requests, bulk);
	if (!ferry_outgoing_is_pulled(outgoing))
		ferry_return_path_set_requests(outgoing->path, outgoing->requests);
}

gboolean ferry_outgoing_switch(FerryOutgoing *outgoing, GError **error)
{
	g_autoptr(GByteArray) devices = g_byte_array_new();

	if (!ferry_outgoing_stop_guest(outgoing, error) ||
	    !save_devices(outgoing, devices, error) || !send_missing(outgoing, error))
		return FALSE;
	serve(outgoing);
	ferry_postcopy_put_packaged(outgoing->out, devices->len);
	g_byte_array_append(outgoing->out, devices->data, devices->len);
	/* A digest of RAM that is not there yet cannot be compared. */
	if (!ferry_outgoing_flush(outgoing, error) ||
	    !ferry_outgoing_prepare(outgoing, FALSE, error))
		return FALSE;
	/* From here it never comes back by itself. */
	if (ferry_source_enter(outgoing->source, FERRY_STATE_DEVICE, FERRY_STATE_POSTCOPY_ACTIVE))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED, "cancelled");
	return FALSE;
}
