/* SPDX-License-Identifier: BSD-2-Clause */
#include "destination-private.h"

static gboolean names(const FerryStreamConfiguration *config, const char *name)
{
	for (guint i = 0; i < config->capabilities->len; i++)
		if (g_str_equal(config->capabilities->pdata[i], name))
			return TRUE;
	return FALSE;
}

static gboolean check_machine(FerryVm *vm, const FerryStreamConfiguration *config, GError **error)
{
	if (strcmp(config->machine, ferry_vm_machine(vm)) == 0)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_MISMATCH,
		    "the source's machine is '%s', the destination's is '%s'", config->machine,
		    ferry_vm_machine(vm));
	return FALSE;
}

/* What the source names has to be on here, whatever it is. */
static gboolean check_named(FerryVm *vm, const char *name, GError **error)
{
	int capability = ferry_capability_from_name(name);

	if (capability >= 0 && ferry_settings_get_capability(ferry_vm_settings(vm), capability))
		return TRUE;
	g_set_error(error, FERRY_ERROR, capability < 0 ? FERRY_ERROR_NOSUPP : FERRY_ERROR_MISMATCH,
		    "capability '%.64s' is on at the source, %s", name,
		    capability < 0 ? "and this destination does not know it: switch it off there"
				   : "and off at the destination: set it on both sides");
	return FALSE;
}

static gboolean check_capabilities(FerryVm *vm, const FerryStreamConfiguration *config,
				   GError **error)
{
	static const FerryCapability compared[] = { FERRY_COMPARED_CAPABILITIES };

	for (guint i = 0; i < config->capabilities->len; i++)
		if (!check_named(vm, config->capabilities->pdata[i], error))
			return FALSE;
	for (guint i = 0; i < G_N_ELEMENTS(compared); i++) {
		const char *name = ferry_capability_info(compared[i])->name;

		if (!ferry_settings_get_capability(ferry_vm_settings(vm), compared[i]) ||
		    names(config, name))
			continue;
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_MISMATCH,
			    "capability '%s' is off at the source, and on at the destination: set "
			    "it on both sides",
			    name);
		return FALSE;
	}
	return TRUE;
}

static char *uuid_text(const guint8 uuid[16])
{
	GString *text = g_string_new(NULL);

	for (guint i = 0; i < 16; i++)
		g_string_append_printf(text, "%s%02x",
				       i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
	return g_string_free(text, FALSE);
}

/* QEMU's rule: what came is compared, whatever is set here, unless this guest has none. */
static gboolean check_uuid(FerryVm *vm, const FerryStreamConfiguration *config, GError **error)
{
	const guint8 *ours = ferry_vm_uuid(vm);
	g_autofree char *theirs_text = NULL, *ours_text = NULL;

	if (!config->has_uuid || !ours || memcmp(ours, config->uuid, sizeof(config->uuid)) == 0)
		return TRUE;
	theirs_text = uuid_text(config->uuid);
	ours_text = uuid_text(ours);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_MISMATCH,
		    "validate-uuid: the source's guest is %s, the destination is for %s",
		    theirs_text, ours_text);
	return FALSE;
}

/* A file in which the pages have places has to be one. */
static gboolean find_places(FerryIncoming *incoming, GError **error)
{
	FerryChannel *channel = incoming->channel;

	if (channel->ops->places)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
		    "the stream has mapped-ram, whose pages have places in a file, and %s: is none",
		    channel->ops->name);
	return FALSE;
}

gboolean ferry_incoming_read_configuration(FerryIncoming *incoming, GError **error)
{
	g_auto(FerryStreamConfiguration) config = { 0 };

	if (ferry_stream_reader_peek(incoming->reader) != FERRY_SECTION_CONFIGURATION)
		return ferry_stream_reader_check(incoming->reader, error);
	if (!ferry_stream_read_configuration(incoming->reader, &config, error))
		return FALSE;
	ferry_ram_reader_follow(&incoming->ram, &config);
	if (check_machine(incoming->vm, &config, &incoming->misfit) &&
	    check_capabilities(incoming->vm, &config, &incoming->misfit) &&
	    check_uuid(incoming->vm, &config, &incoming->misfit) && incoming->ram.mapped)
		find_places(incoming, &incoming->misfit);
	return TRUE;
}

/* A FerrySkipFunc over a FerryIncoming. */
static gboolean skip(gpointer user, guint64 len, GError **error)
{
	FerryChannel *channel = ((FerryIncoming *)user)->channel;
	guint64 offset, size;

	return channel->ops->places->tell(channel, &offset, &size, error) &&
	       channel->ops->places->seek(channel, offset + len, error);
}

gboolean ferry_incoming_open_stream(FerryIncoming *incoming, GError **error)
{
	FerryChannel *channel = incoming->channel;

	if (!channel->ops->places)
		return TRUE;
	ferry_stream_reader_set_skip(incoming->reader, skip);
	return channel->ops->places->tell(channel, &incoming->ram.base, &incoming->ram.end, error);
}
