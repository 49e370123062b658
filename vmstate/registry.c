/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/vmstate.h>

#include "vmstate-body.h"
#include "vmstate-json.h"

typedef struct {
	const FerryVmstate *vmstate;
	guint32 instance_id;
	gpointer opaque;
} Device;

struct FerryDevices {
	GArray *list; /* of Device, in the order of saving */
};

FerryDevices *ferry_devices_new(void)
{
	FerryDevices *devices = g_new0(FerryDevices, 1);

	devices->list = g_array_new(FALSE, FALSE, sizeof(Device));
	return devices;
}

void ferry_devices_free(FerryDevices *devices)
{
	if (!devices)
		return;
	g_array_unref(devices->list);
	g_free(devices);
}

static const Device *device_at(const FerryDevices *devices, guint i)
{
	return &g_array_index(devices->list, Device, i);
}

static const Device *find_device(const FerryDevices *devices, const char *name, guint32 instance_id)
{
	for (guint i = 0; i < devices->list->len; i++) {
		const Device *d = device_at(devices, i);

		if (d->instance_id == instance_id && g_str_equal(d->vmstate->name, name))
			return d;
	}
	return NULL;
}

/* One above the highest of the name; FERRY_INSTANCE_ANY when there is none left. */
static guint32 next_instance(const FerryDevices *devices, const char *name)
{
	guint32 next = 0;

	for (guint i = 0; i < devices->list->len; i++) {
		const Device *d = device_at(devices, i);

		if (g_str_equal(d->vmstate->name, name))
			next = MAX(next, d->instance_id + 1);
	}
	return next;
}

/* Behind all of the same or a higher priority. */
static guint place_of(const FerryDevices *devices, int priority)
{
	guint i = 0;

	while (i < devices->list->len && device_at(devices, i)->vmstate->priority >= priority)
		i++;
	return i;
}

gboolean ferry_devices_register(FerryDevices *devices, const FerryVmstate *vmstate,
				guint32 instance_id, gpointer opaque, GError **error)
{
	Device device = { vmstate, instance_id, opaque };

	if (!ferry_vmstate_check(vmstate, error))
		return FALSE;
	if (instance_id == FERRY_INSTANCE_ANY)
		device.instance_id = next_instance(devices, vmstate->name);
	if (device.instance_id == FERRY_INSTANCE_ANY ||
	    find_device(devices, vmstate->name, device.instance_id)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "device \"%s\" instance %u is taken", vmstate->name,
			    device.instance_id);
		return FALSE;
	}
	g_array_insert_val(devices->list, place_of(devices, vmstate->priority), device);
	return TRUE;
}

void ferry_devices_unregister(FerryDevices *devices, const FerryVmstate *vmstate, gpointer opaque)
{
	for (guint i = 0; i < devices->list->len; i++) {
		const Device *d = device_at(devices, i);

		if (d->vmstate == vmstate && d->opaque == opaque) {
			g_array_remove_index(devices->list, i);
			return;
		}
	}
}

const char *ferry_devices_unmigratable(FerryDevices *devices)
{
	for (guint i = 0; i < devices->list->len; i++)
		if (device_at(devices, i)->vmstate->unmigratable)
			return device_at(devices, i)->vmstate->name;
	return NULL;
}

static gboolean save_device(const Device *d, guint32 section_id, GByteArray *out, GString *json,
			    GError **error)
{
	ferry_stream_put_section(out, FERRY_SECTION_FULL, section_id, d->vmstate->name,
				 d->instance_id, d->vmstate->version_id);
	ferry_json_open_object(json, NULL);
	ferry_json_put_string(json, "name", d->vmstate->name);
	ferry_json_put_number(json, "instance_id", d->instance_id);
	if (!ferry_vmstate_save_body(d->vmstate, d->opaque, out, json, error)) {
		g_prefix_error(error,
			       "cannot save section %u, device \"%s\" instance %u: ", section_id,
			       d->vmstate->name, d->instance_id);
		return FALSE;
	}
	ferry_json_close_object(json);
	ferry_stream_put_footer(out, section_id);
	return TRUE;
}

gboolean ferry_devices_save(FerryDevices *devices, guint32 first_section_id, GByteArray *out,
			    GString *json, GError **error)
{
	g_autoptr(GString) text = g_string_new(NULL);
	guint32 section_id = first_section_id;
	guint start = out->len;

	ferry_json_open_object(text, NULL);
	ferry_json_put_number(text, "page_size", FERRY_PAGE_SIZE);
	ferry_json_open_array(text, "devices");
	for (guint i = 0; i < devices->list->len; i++) {
		const Device *d = device_at(devices, i);

		if (d->vmstate->needed && !d->vmstate->needed(d->opaque))
			continue;
		if (!save_device(d, section_id++, out, text, error)) {
			g_byte_array_set_size(out, start);
			return FALSE;
		}
	}
	ferry_json_close_array(text);
	ferry_json_close_object(text);
	g_string_append_len(json, text->str, text->len);
	return TRUE;
}

/* A subsection that nobody took stands where the footer must. */
static gboolean check_nothing_left(FerryStreamReader *reader, const FerryVmstate *vmstate,
				   GError **error)
{
	FerryPlace place = { .name = vmstate->name };
	guint64 offset = ferry_stream_reader_offset(reader);
	char name[256];

	if (ferry_stream_reader_peek(reader) != FERRY_SECTION_SUBSECTION)
		return TRUE;
	ferry_stream_reader_u8(reader);
	ferry_stream_reader_name(reader, name);
	return ferry_stream_reader_check(reader, error) &&
	       ferry_place_fail(&place, offset, error,
				"subsection \"%s\" is not of this device: it does not begin with "
				"\"%s/\"",
				name, vmstate->name);
}

static gboolean load_section(const FerryDevices *devices, FerryStreamReader *reader,
			     const FerryStreamElement *element, GError **error)
{
	const Device *d = find_device(devices, element->name, element->instance_id);

	if (element->type != FERRY_SECTION_FULL) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_DEVICE,
			    "at offset %" G_GUINT64_FORMAT
			    ": a device comes in one full section, not "
			    "in parts (type %u)",
			    element->offset, element->type);
		return FALSE;
	}
	if (!d) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_DEVICE,
			    "at offset %" G_GUINT64_FORMAT
			    ": this side has no such device; both sides "
			    "must have the same",
			    element->offset);
		return FALSE;
	}
	return ferry_vmstate_load_body(d->vmstate, d->opaque, element->version_id, reader, error) &&
	       check_nothing_left(reader, d->vmstate, error) &&
	       ferry_stream_read_footer(reader, element->section_id, error);
}

gboolean ferry_devices_load(FerryDevices *devices, FerryStreamReader *reader,
			    const FerryStreamElement *element, GError **error)
{
	if (load_section(devices, reader, element, error))
		return TRUE;
	g_prefix_error(error,
		       "cannot load section %u, device \"%s\" instance %u: ", element->section_id,
		       element->name, element->instance_id);
	return FALSE;
}
