/* SPDX-License-Identifier: BSD-2-Clause */
#include "source-private.h"

#include "postcopy-wire.h"

static gboolean refuse(GError **error, const char *why)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
		    "postcopy-ram is on, and %s, or switch postcopy-ram off", why);
	return FALSE;
}

/* A FerryPageRequests' asked: on the thread of the return path. */
static void asked(gpointer user)
{
	FerryOutgoing *outgoing = user;

	ferry_page_push_serve(outgoing->push);
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

/* LISTEN and every device, in the one command that carries them. */
static void put_package(FerryOutgoing *outgoing, const GByteArray *devices)
{
	g_autoptr(GByteArray) package = g_byte_array_new();

	ferry_stream_put_command(package, FERRY_COMMAND_POSTCOPY_LISTEN, NULL, 0);
	g_byte_array_append(package, devices->data, devices->len);
	ferry_postcopy_put_packaged(outgoing->out, package->len);
	g_byte_array_append(outgoing->out, package->data, package->len);
}

/* The guest stands still: what it wrote last, and what never went, is missing there. Saving a
 * device can write RAM, hence two passes. */
static gboolean send_all_but_pages(FerryOutgoing *outgoing, GError **error)
{
	g_autoptr(GByteArray) devices = g_byte_array_new();
	g_autoptr(GString) json = g_string_new(NULL);
	FerryRam *ram = ferry_vm_ram(outgoing->vm);
	gint64 collect_us;

	outgoing->stopped = TRUE;
	if (!ferry_outgoing_collect(outgoing, &collect_us, error))
		return FALSE;
	ferry_vm_save_run_state(outgoing->vm, ferry_vm_outgoing_run_state(outgoing->vm));
	if (!ferry_devices_save(ferry_vm_devices(outgoing->vm), FERRY_RAM_SECTION_ID + 1, devices,
				json, error) ||
	    !ferry_outgoing_collect(outgoing, &collect_us, error))
		return FALSE;
	ferry_postcopy_widen(outgoing->pending, ram);
	ferry_postcopy_put_discards(outgoing->out, ram, outgoing->pending);
	put_package(outgoing, devices);
	return ferry_outgoing_flush(outgoing, error);
}

gboolean ferry_outgoing_switch(FerryOutgoing *outgoing, GError **error)
{
	FerryCarrier *bulk = ferry_outgoing_bulk(outgoing);

	/* A digest of RAM that is not there yet cannot be compared. */
	if (!ferry_outgoing_stop_guest(outgoing, error) || !send_all_but_pages(outgoing, error) ||
	    !ferry_outgoing_prepare(outgoing, FALSE, error))
		return FALSE;
	if (bulk->ops->switch_over)
		bulk->ops->switch_over(bulk);
	outgoing->push = ferry_page_push_new(ferry_vm_ram(outgoing->vm), outgoing->pending,
					     outgoing->requests, bulk);
	if (!ferry_outgoing_is_pulled(outgoing))
		ferry_return_path_set_requests(outgoing->path, outgoing->requests);
	/* From here it never comes back by itself. */
	if (ferry_source_enter(outgoing->source, FERRY_STATE_DEVICE, FERRY_STATE_POSTCOPY_ACTIVE))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_CANCELLED, "cancelled");
	return FALSE;
}
