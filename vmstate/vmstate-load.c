/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmstate-body.h"

#include <string.h>

#include "vmstate-field.h"

static gboolean load_description(const FerryVmstate *vmstate, gpointer opaque, guint32 version_id,
				 const FerryPlace *place, FerryStreamReader *reader,
				 GError **error);

static gboolean check_reader(FerryStreamReader *reader, const FerryPlace *at, guint64 offset,
			     GError **error)
{
	if (ferry_stream_reader_check(reader, error))
		return TRUE;
	return ferry_place_prefix(at, offset, error);
}

static gboolean load_bool(gpointer element, const FerryPlace *at, FerryStreamReader *reader,
			  GError **error)
{
	guint64 offset = ferry_stream_reader_offset(reader);
	guint8 byte = ferry_stream_reader_u8(reader);
	gboolean flag = byte == 1;

	if (!check_reader(reader, at, offset, error))
		return FALSE;
	if (byte > 1)
		return ferry_place_fail(at, offset, error, "a boolean is 0 or 1, not %u", byte);
	memcpy(element, &flag, sizeof(flag));
	return TRUE;
}

static gboolean load_bytes(gpointer element, gsize size, const FerryPlace *at,
			   FerryStreamReader *reader, GError **error)
{
	guint64 offset = ferry_stream_reader_offset(reader);

	ferry_stream_reader_bytes(reader, element, size);
	return check_reader(reader, at, offset, error);
}

/* A struct's member changes only once all of its bytes are there. */
static gboolean load_integer(gpointer element, gsize width, const FerryPlace *at,
			     FerryStreamReader *reader, GError **error)
{
	guint64 offset = ferry_stream_reader_offset(reader);
	guint8 bytes[8];
	guint16 u16;
	guint32 u32;
	guint64 u64;

	ferry_stream_reader_bytes(reader, bytes, width);
	if (!check_reader(reader, at, offset, error))
		return FALSE;
	switch (width) {
	case 1:
		memcpy(element, bytes, 1);
		return TRUE;
	case 2:
		u16 = ferry_load_be16(bytes);
		memcpy(element, &u16, sizeof(u16));
		return TRUE;
	case 4:
		u32 = ferry_load_be32(bytes);
		memcpy(element, &u32, sizeof(u32));
		return TRUE;
	default:
		u64 = ferry_load_be64(bytes);
		memcpy(element, &u64, sizeof(u64));
		return TRUE;
	}
}

static gboolean load_padding(gsize size, const FerryPlace *at, FerryStreamReader *reader,
			     GError **error)
{
	guint64 offset = ferry_stream_reader_offset(reader);

	ferry_stream_reader_skip(reader, size);
	return check_reader(reader, at, offset, error);
}

static gboolean load_element(const FerryVmstateField *field, gpointer element, const FerryPlace *at,
			     FerryStreamReader *reader, GError **error)
{
	switch (field->kind) {
	case FERRY_VMSTATE_BOOL:
		return load_bool(element, at, reader, error);
	case FERRY_VMSTATE_BUFFER:
		return load_bytes(element, field->size, at, reader, error);
	case FERRY_VMSTATE_UNUSED:
		return load_padding(field->size, at, reader, error);
	case FERRY_VMSTATE_STRUCT:
		return load_description(field->vmstate, element, field->vmstate->version_id, at,
					reader, error);
	default:
		return load_integer(element, ferry_field_integer_width(field->kind), at, reader,
				    error);
	}
}

static gboolean load_field(const FerryVmstateField *field, gpointer opaque, const FerryPlace *up,
			   FerryStreamReader *reader, GError **error)
{
	FerryPlace at = { .up = up, .name = field->name };
	guint64 offset = ferry_stream_reader_offset(reader);
	gsize count;

	if (!ferry_field_get_count(field, opaque, &at, offset, &count, error))
		return FALSE;
	if (ferry_field_is_variable_buffer(field)) {
		if (!count)
			return TRUE;
		return load_bytes(ferry_field_element(field, opaque, 0), count, &at, reader, error);
	}
	at.is_element = field->shape != FERRY_VMSTATE_SINGLE;
	for (at.index = 0; at.index < count; at.index++) {
		gpointer element = ferry_field_element(field, opaque, at.index);

		if (!element)
			return ferry_place_fail(&at, ferry_stream_reader_offset(reader), error,
						"the pointer is NULL");
		if (!load_element(field, element, &at, reader, error))
			return FALSE;
	}
	return TRUE;
}

/*
 * Whether a subsection of this description follows: its type byte, a length, the description's name
 * and a slash. Behind a nested struct the same type byte may as well be the next field's first byte
 * or begin a subsection of the struct around it, so it is not enough. Looks at one byte at a time,
 * and at the next only if this one fits, so that it never waits for bytes that a live peer has no
 * reason to send.
 */
static gboolean subsection_follows(const FerryVmstate *vmstate, FerryStreamReader *reader)
{
	int len = strlen(vmstate->name);

	if (ferry_stream_reader_peek(reader) != FERRY_SECTION_SUBSECTION ||
	    ferry_stream_reader_peek_at(reader, 1) <= len)
		return FALSE;
	for (int i = 0; i < len; i++) {
		if (ferry_stream_reader_peek_at(reader, 2 + i) != (guint8)vmstate->name[i])
			return FALSE;
	}
	return ferry_stream_reader_peek_at(reader, 2 + len) == '/';
}

/* The index of the subsection @name, -1 if the description has none of that name. */
static int find_subsection(const FerryVmstate *vmstate, const char *name)
{
	for (int i = 0; vmstate->subsections && vmstate->subsections[i]; i++) {
		if (g_str_equal(vmstate->subsections[i]->name, name))
			return i;
	}
	return -1;
}

/* @seen: a bit for each of the description's subsections. */
static gboolean load_subsection(const FerryVmstate *vmstate, gpointer opaque, guint64 *seen,
				const FerryPlace *place, FerryStreamReader *reader, GError **error)
{
	guint64 offset = ferry_stream_reader_offset(reader);
	FerryPlace at = { .up = place };
	guint32 version_id;
	char name[256];
	int index;

	ferry_stream_reader_u8(reader);
	ferry_stream_reader_name(reader, name);
	version_id = ferry_stream_reader_be32(reader);
	if (!check_reader(reader, place, offset, error))
		return FALSE;
	index = find_subsection(vmstate, name);
	if (index < 0)
		return ferry_place_fail(place, offset, error,
					"unknown subsection \"%s\": the sender's \"%s\" has more "
					"than this one",
					name, vmstate->name);
	if (*seen & G_GUINT64_CONSTANT(1) << index)
		return ferry_place_fail(place, offset, error, "subsection \"%s\" comes twice",
					name);
	*seen |= G_GUINT64_CONSTANT(1) << index;
	at.name = name + strlen(vmstate->name) + 1;
	return load_description(vmstate->subsections[index], opaque, version_id, &at, reader,
				error);
}

static gboolean load_contents(const FerryVmstate *vmstate, gpointer opaque, guint32 version_id,
			      const FerryPlace *place, FerryStreamReader *reader, GError **error)
{
	guint64 seen = 0;

	for (const FerryVmstateField *f = vmstate->fields; f->name; f++) {
		if (ferry_field_is_present(f, opaque, version_id) &&
		    !load_field(f, opaque, place, reader, error))
			return FALSE;
	}
	while (subsection_follows(vmstate, reader)) {
		if (!load_subsection(vmstate, opaque, &seen, place, reader, error))
			return FALSE;
	}
	return check_reader(reader, place, ferry_stream_reader_offset(reader), error);
}

static gboolean load_description(const FerryVmstate *vmstate, gpointer opaque, guint32 version_id,
				 const FerryPlace *place, FerryStreamReader *reader, GError **error)
{
	g_autoptr(GError) cause = NULL;
	guint64 offset = ferry_stream_reader_offset(reader);

	if (version_id < vmstate->minimum_version_id || version_id > vmstate->version_id)
		return ferry_place_fail(
			place, offset, error, "version %u, but this side loads versions %u to %u",
			version_id, vmstate->minimum_version_id, vmstate->version_id);
	if (vmstate->pre_load && !vmstate->pre_load(opaque, &cause))
		return ferry_place_hook_failed(place, offset, "pre_load", g_steal_pointer(&cause),
					       error);
	if (!load_contents(vmstate, opaque, version_id, place, reader, error))
		return FALSE;
	if (vmstate->post_load && !vmstate->post_load(opaque, version_id, &cause))
		return ferry_place_hook_failed(place, ferry_stream_reader_offset(reader),
					       "post_load", g_steal_pointer(&cause), error);
	return TRUE;
}

gboolean ferry_vmstate_load_body(const FerryVmstate *vmstate, gpointer opaque, guint32 version_id,
				 FerryStreamReader *reader, GError **error)
{
	FerryPlace place = { .name = vmstate->name };

	return load_description(vmstate, opaque, version_id, &place, reader, error);
}

gboolean ferry_vmstate_load(const FerryVmstate *vmstate, gpointer opaque, guint32 version_id,
			    FerryStreamReader *reader, GError **error)
{
	return ferry_vmstate_check(vmstate, error) &&
	       ferry_vmstate_load_body(vmstate, opaque, version_id, reader, error);
}
