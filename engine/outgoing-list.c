/* SPDX-License-Identifier: BSD-2-Clause */
#include "source-private.h"

/* For the block list's answer: the destination compares it, no more. */
#define LIST_US (10 * G_TIME_SPAN_SECOND)

static gboolean is_on(FerryVm *vm, FerryCapability capability)
{
	return ferry_settings_get_capability(ferry_vm_settings(vm), capability);
}

void ferry_outgoing_put_configuration(FerryOutgoing *outgoing)
{
	static const FerryCapability named[] = { FERRY_COMPARED_CAPABILITIES };
	const char *names[G_N_ELEMENTS(named) + 1] = { NULL };
	const guint8 *uuid = ferry_vm_uuid(outgoing->vm);
	guint n = 0;

	for (guint i = 0; i < G_N_ELEMENTS(named); i++)
		if (is_on(outgoing->vm, named[i]))
			names[n++] = ferry_capability_info(named[i])->name;
	ferry_stream_put_configuration(outgoing->out, ferry_vm_machine(outgoing->vm), names);
	if (uuid && is_on(outgoing->vm, FERRY_CAPABILITY_VALIDATE_UUID))
		ferry_stream_put_uuid(outgoing->out, uuid);
}

/* The header of a block in the file, which has to know where it lies; what comes next lies behind
 * the pages. */
static gboolean put_place(FerryOutgoing *outgoing, const FerryRamBlock *block,
			  FerryMappedPlace *place, GError **error)
{
	FerryChannel *channel = outgoing->channel;
	guint64 offset, size;

	if (!ferry_outgoing_flush(outgoing, error) ||
	    !channel->ops->places->tell(channel, &offset, &size, error))
		return FALSE;
	*place = ferry_mapped_place(offset, block->size);
	ferry_stream_put_mapped_header(outgoing->out, place);
	return ferry_outgoing_flush(outgoing, error) &&
	       channel->ops->places->seek(channel, place->pages + block->size, error);
}

gboolean ferry_outgoing_put_list(FerryOutgoing *outgoing, GError **error)
{
	const FerryRam *ram = ferry_vm_ram(outgoing->vm);
	gboolean addresses = is_on(outgoing->vm, FERRY_CAPABILITY_X_IGNORE_SHARED);
	FerryMappedPlace *places = NULL;

	if (is_on(outgoing->vm, FERRY_CAPABILITY_MAPPED_RAM)) {
		if (!outgoing->channel->ops->places)
			return ferry_vm_refuse_mapped(outgoing->uri, error);
		places = outgoing->places = g_new0(FerryMappedPlace, ram->n_blocks);
	}
	ferry_stream_put_ram_total(outgoing->out, ram);
	for (guint i = 0; i < ram->n_blocks; i++) {
		ferry_stream_put_ram_block(outgoing->out, &ram->blocks[i], addresses);
		if (places && ferry_vm_leaves_out(outgoing->vm, i))
			ferry_stream_put_mapped_header(outgoing->out, &places[i]);
		else if (places && !put_place(outgoing, &ram->blocks[i], &places[i], error))
			return FALSE;
	}
	return TRUE;
}

gboolean ferry_outgoing_await_list(FerryOutgoing *outgoing, GError **error)
{
	guint64 ours = (ferry_vm_ram(outgoing->vm)->total - ferry_vm_moving_bytes(outgoing->vm)) >>
		       FERRY_PAGE_SHIFT;
	FerryReply reply;

	if (!outgoing->ferry_peer)
		return TRUE;
	if (!ferry_return_path_wait(outgoing->path, FERRY_REPLY_ROUND_DONE, LIST_US, &reply, error))
		return FALSE;
	if (reply.round.pages == ours)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_MISMATCH,
		    "x-ignore-shared: %" G_GUINT64_FORMAT
		    " pages are in files here that both sides share, %" G_GUINT64_FORMAT
		    " at the destination: map the same files on both sides",
		    ours, reply.round.pages);
	return FALSE;
}

gboolean ferry_outgoing_open_carrier(FerryOutgoing *outgoing, GError **error)
{
	FerryChannel *channel = outgoing->channel;
	FerryMapping mapping;

	if (outgoing->places) {
		mapping = ferry_vm_mapping(outgoing->vm, outgoing->places);
		outgoing->carrier = channel->ops->places->carrier(channel, &mapping, error);
	} else {
		outgoing->carrier = channel->ops->carrier(
			channel,
			outgoing->ferry_peer ? FERRY_PAGE_FORMAT_RUNS : FERRY_PAGE_FORMAT_QEMU);
	}
	return outgoing->carrier != NULL;
}

void ferry_outgoing_leave_out(FerryOutgoing *outgoing, FerryBitmap *bitmap)
{
	const FerryRam *ram = ferry_vm_ram(outgoing->vm);

	for (guint i = 0; i < ram->n_blocks; i++)
		if (ferry_vm_leaves_out(outgoing->vm, i))
			ferry_bitmap_clear_run(
				bitmap,
				&(FerryRun){ i, 0, ferry_ram_block_pages(&ram->blocks[i]) });
}
