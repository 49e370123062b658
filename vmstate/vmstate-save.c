/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmstate-body.h"

#include <string.h>

#include "vmstate-field.h"
#include "vmstate-json.h"

static gboolean save_description(const FerryVmstate *vmstate, gpointer opaque,
				 const FerryPlace *place, GByteArray *out, GString *json,
				 GError **error);

static void put_zeros(GByteArray *out, gsize size)
{
	guint old = out->len;

	g_byte_array_set_size(out, old + size);
	memset(out->data + old, 0, size);
}

static void save_plain(const FerryVmstateField *field, gconstpointer element, GByteArray *out)
{
	guint16 u16;
	guint32 u32;
	guint64 u64;
	gboolean flag;

	switch (field->kind) {
	case FERRY_VMSTATE_BOOL:
		memcpy(&flag, element, sizeof(flag));
		ferry_put_u8(out, flag ? 1 : 0);
		return;
	case FERRY_VMSTATE_BUFFER:
		g_byte_array_append(out, element, field->size);
		return;
	case FERRY_VMSTATE_UNUSED:
		put_zeros(out, field->size);
		return;
	default:
		break;
	}
	switch (ferry_field_integer_width(field->kind)) {
	case 1:
		g_byte_array_append(out, element, 1);
		return;
	case 2:
		memcpy(&u16, element, sizeof(u16));
		ferry_put_be16(out, u16);
		return;
	case 4:
		memcpy(&u32, element, sizeof(u32));
		ferry_put_be32(out, u32);
		return;
	default:
		memcpy(&u64, element, sizeof(u64));
		ferry_put_be64(out, u64);
		return;
	}
}

/* The entry's start: the name, and of arrays either all elements' number or the one element's
 * index. */
static void open_entry(GString *json, const FerryVmstateField *field, const char *key, gsize value)
{
	ferry_json_open_object(json, NULL);
	ferry_json_put_string(json, "name", field->name);
	if (key)
		ferry_json_put_number(json, key, value);
	ferry_json_put_string(json, "type", ferry_field_type(field->kind));
}

static void describe_plain(const FerryVmstateField *field, gsize count, gsize size, GString *json)
{
	open_entry(json, field, count > 1 ? "array_len" : NULL, count);
	ferry_json_put_number(json, "size", size);
	ferry_json_close_object(json);
}

static gboolean null_element(const FerryPlace *at, const GByteArray *out, GError **error)
{
	return ferry_place_fail(at, out->len, error, "the pointer is NULL");
}

static gboolean save_plain_field(const FerryVmstateField *field, gpointer opaque, gsize count,
				 const FerryPlace *place, GByteArray *out, GString *json,
				 GError **error)
{
	gsize width = ferry_field_integer_width(field->kind);
	FerryPlace at = *place;

	if (ferry_field_is_variable_buffer(field)) {
		if (count)
			g_byte_array_append(out, ferry_field_element(field, opaque, 0), count);
		describe_plain(field, 1, count, json);
		return TRUE;
	}
	at.is_element = field->shape != FERRY_VMSTATE_SINGLE;
	for (at.index = 0; at.index < count; at.index++) {
		gconstpointer element = ferry_field_element(field, opaque, at.index);

		if (!element)
			return null_element(&at, out, error);
		save_plain(field, element, out);
	}
	if (count)
		describe_plain(field, count, width ? width : field->size, json);
	return TRUE;
}

/* One struct, and what its entry in the description says behind the type. NULL on failure. */
static GString *save_struct(const FerryVmstateField *field, gpointer opaque, const FerryPlace *at,
			    GByteArray *out, GError **error)
{
	gpointer element = ferry_field_element(field, opaque, at->index);
	GString *members;
	guint start = out->len;

	if (!element)
		return null_element(at, out, error), NULL;
	members = g_string_new(NULL);
	ferry_json_open_object(members, "struct");
	if (!save_description(field->vmstate, element, at, out, members, error)) {
		g_string_free(members, TRUE);
		return NULL;
	}
	ferry_json_close_object(members);
	ferry_json_put_number(members, "size", out->len - start);
	return members;
}

static void describe_struct(const FerryVmstateField *field, const char *key, gsize value,
			    const GString *members, GString *json)
{
	open_entry(json, field, key, value);
	ferry_json_put_members(json, members);
	ferry_json_close_object(json);
}

/*
 * Equal elements share one entry with their number. From the first that differs on, in size or in
 * what is present, each is listed with its index, the equal ones before it too: an entry may not
 * have both.
 */
static gboolean save_structs(const FerryVmstateField *field, gpointer opaque, gsize count,
			     const FerryPlace *place, GByteArray *out, GString *json,
			     GError **error)
{
	g_autoptr(GString) first = NULL;
	gboolean folded = TRUE;
	FerryPlace at = *place;

	at.is_element = field->shape != FERRY_VMSTATE_SINGLE;
	for (at.index = 0; at.index < count; at.index++) {
		g_autoptr(GString) members = save_struct(field, opaque, &at, out, error);

		if (!members)
			return FALSE;
		if (!first)
			first = g_string_new_len(members->str, members->len);
		if (folded && !g_string_equal(first, members)) {
			folded = FALSE;
			for (gsize i = 0; i < at.index; i++)
				describe_struct(field, "index", i, first, json);
		}
		if (!folded)
			describe_struct(field, "index", at.index, members, json);
	}
	if (first && folded)
		describe_struct(field, count > 1 ? "array_len" : NULL, count, first, json);
	return TRUE;
}

static gboolean save_field(const FerryVmstateField *field, gpointer opaque, const FerryPlace *up,
			   GByteArray *out, GString *json, GError **error)
{
	FerryPlace place = { .up = up, .name = field->name };
	gsize count;

	if (!ferry_field_get_count(field, opaque, &place, out->len, &count, error))
		return FALSE;
	if (field->kind == FERRY_VMSTATE_STRUCT)
		return save_structs(field, opaque, count, &place, out, json, error);
	return save_plain_field(field, opaque, count, &place, out, json, error);
}

static gboolean save_subsection(const FerryVmstate *subsection, const FerryVmstate *parent,
				gpointer opaque, const FerryPlace *up, GByteArray *out,
				GString *json, GError **error)
{
	FerryPlace place = { .up = up, .name = subsection->name + strlen(parent->name) + 1 };

	ferry_put_u8(out, FERRY_SECTION_SUBSECTION);
	ferry_put_u8(out, strlen(subsection->name));
	g_byte_array_append(out, (const guint8 *)subsection->name, strlen(subsection->name));
	ferry_put_be32(out, subsection->version_id);
	ferry_json_open_object(json, NULL);
	if (!save_description(subsection, opaque, &place, out, json, error))
		return FALSE;
	ferry_json_close_object(json);
	return TRUE;
}

static gboolean save_subsections(const FerryVmstate *vmstate, gpointer opaque,
				 const FerryPlace *place, GByteArray *out, GString *json,
				 GError **error)
{
	gboolean any = FALSE;

	for (const FerryVmstate *const *s = vmstate->subsections; s && *s; s++) {
		if ((*s)->needed && !(*s)->needed(opaque))
			continue;
		if (!any)
			ferry_json_open_array(json, "subsections");
		any = TRUE;
		if (!save_subsection(*s, vmstate, opaque, place, out, json, error))
			return FALSE;
	}
	if (any)
		ferry_json_close_array(json);
	return TRUE;
}

static gboolean save_contents(const FerryVmstate *vmstate, gpointer opaque, const FerryPlace *place,
			      GByteArray *out, GString *json, GError **error)
{
	ferry_json_put_string(json, "vmsd_name", vmstate->name);
	ferry_json_put_number(json, "version", vmstate->version_id);
	ferry_json_open_array(json, "fields");
	for (const FerryVmstateField *f = vmstate->fields; f->name; f++) {
		if (ferry_field_is_present(f, opaque, vmstate->version_id) &&
		    !save_field(f, opaque, place, out, json, error))
			return FALSE;
	}
	ferry_json_close_array(json);
	return save_subsections(vmstate, opaque, place, out, json, error);
}

/* What pre_save set up, post_save takes down, whatever happened in between; the first error counts.
 */
static gboolean save_description(const FerryVmstate *vmstate, gpointer opaque,
				 const FerryPlace *place, GByteArray *out, GString *json,
				 GError **error)
{
	g_autoptr(GError) cause = NULL;
	guint start = out->len;
	gboolean saved;

	if (vmstate->pre_save && !vmstate->pre_save(opaque, &cause))
		return ferry_place_hook_failed(place, start, "pre_save", g_steal_pointer(&cause),
					       error);
	saved = save_contents(vmstate, opaque, place, out, json, error);
	if (!vmstate->post_save || vmstate->post_save(opaque, &cause) || !saved)
		return saved;
	return ferry_place_hook_failed(place, start, "post_save", g_steal_pointer(&cause), error);
}

gboolean ferry_vmstate_save_body(const FerryVmstate *vmstate, gpointer opaque, GByteArray *out,
				 GString *json, GError **error)
{
	FerryPlace place = { .name = vmstate->name };

	return save_description(vmstate, opaque, &place, out, json, error);
}

gboolean ferry_vmstate_save(const FerryVmstate *vmstate, gpointer opaque, GByteArray *out,
			    GError **error)
{
	g_autoptr(GString) json = g_string_new(NULL);
	guint start = out->len;

	if (!ferry_vmstate_check(vmstate, error))
		return FALSE;
	if (!ferry_vmstate_save_body(vmstate, opaque, out, json, error)) {
		g_byte_array_set_size(out, start);
		return FALSE;
	}
	return TRUE;
}
