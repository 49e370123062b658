/* SPDX-License-Identifier: BSD-2-Clause */
#include "destination-private.h"

static const FerryStreamRamBlock *their_block(FerryIncoming *incoming, guint i)
{
	return &g_array_index(incoming->ram.blocks, FerryStreamRamBlock, i);
}

gboolean ferry_incoming_check_shared(FerryIncoming *incoming, GError **error)
{
	const FerryRam *ram = ferry_vm_ram(incoming->vm);

	for (guint i = 0; i < ram->n_blocks; i++) {
		const FerryStreamRamBlock *theirs = their_block(incoming, i);

		if (ferry_vm_leaves_out(incoming->vm, i)) {
			if (theirs->address == ram->blocks[i].guest_address)
				continue;
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_MISMATCH,
				    "x-ignore-shared: block '%s' is at guest address "
				    "0x%" G_GINT64_MODIFIER
				    "x at the source, at 0x%" G_GINT64_MODIFIER
				    "x at the destination",
				    theirs->name, theirs->address, ram->blocks[i].guest_address);
			return FALSE;
		}
		if (incoming->ram.mapped && !theirs->place.pages) {
			g_set_error(
				error, FERRY_ERROR, FERRY_ERROR_MISMATCH,
				"x-ignore-shared: block '%s' is not in the stream, and not in a "
				"shared file at the destination",
				theirs->name);
			return FALSE;
		}
	}
	return TRUE;
}

FerryDigest *ferry_incoming_new_digest(FerryIncoming *incoming)
{
	FerryDigest *digest = ferry_digest_new(incoming->memory);

	for (guint i = 0; i < incoming->memory->n_blocks; i++)
		if (ferry_vm_leaves_out(incoming->vm, i))
			ferry_digest_leave_out(digest, i);
	return digest;
}

/* A block that does not come may have a place all the same: QEMU before 10.2 gave it one. */
static FerryMappedPlace *copy_places(FerryIncoming *incoming)
{
	FerryMappedPlace *places = g_new0(FerryMappedPlace, incoming->ram.blocks->len);

	for (guint i = 0; i < incoming->ram.blocks->len; i++)
		if (!ferry_vm_leaves_out(incoming->vm, i))
			places[i] = their_block(incoming, i)->place;
	return places;
}

gboolean ferry_incoming_load_places(FerryIncoming *incoming, GError **error)
{
	FerryDestination *destination = incoming->destination;
	g_autofree FerryMappedPlace *places = NULL;
	g_autoptr(FerryCarrier) carrier = NULL;
	FerryCarrierStats stats;
	FerryMapping mapping;

	if (!incoming->ram.mapped)
		return TRUE;
	places = copy_places(incoming);
	mapping = ferry_vm_mapping(incoming->vm, places);
	carrier = incoming->channel->ops->places->carrier(incoming->channel, &mapping, error);
	if (!carrier || !carrier->ops->share_ram(carrier, incoming->memory, error) ||
	    !carrier->ops->load(carrier, NULL, NULL, error))
		return FALSE;
	carrier->ops->get_stats(carrier, &stats);
	g_mutex_lock(&destination->lock);
	destination->received += stats.bytes;
	g_mutex_unlock(&destination->lock);
	return TRUE;
}
