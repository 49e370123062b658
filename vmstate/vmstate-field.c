/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmstate-field.h"

#include <string.h>

static const struct {
	const char *type;
	guint8 width; /* in the stream, bytes; 0: not an integer */
	guint8 size;  /* in the struct, bytes */
} kinds[] = {
	[FERRY_VMSTATE_U8] = { "uint8", 1, 1 },
	[FERRY_VMSTATE_U16] = { "uint16", 2, 2 },
	[FERRY_VMSTATE_U32] = { "uint32", 4, 4 },
	[FERRY_VMSTATE_U64] = { "uint64", 8, 8 },
	[FERRY_VMSTATE_S8] = { "int8", 1, 1 },
	[FERRY_VMSTATE_S16] = { "int16", 2, 2 },
	[FERRY_VMSTATE_S32] = { "int32", 4, 4 },
	[FERRY_VMSTATE_S64] = { "int64", 8, 8 },
	[FERRY_VMSTATE_BOOL] = { "bool", 1, sizeof(gboolean) },
	[FERRY_VMSTATE_TIMER] = { "timer", 8, 8 },
	[FERRY_VMSTATE_BUFFER] = { "buffer", 0, 0 },
	[FERRY_VMSTATE_UNUSED] = { "unused_buffer", 0, 0 },
	[FERRY_VMSTATE_STRUCT] = { "struct", 0, 0 },
};

gboolean ferry_field_is_present(const FerryVmstateField *field, gconstpointer opaque,
				guint32 version_id)
{
	if (version_id < field->version)
		return FALSE;
	return !field->exists || field->exists(opaque, version_id);
}

gboolean ferry_field_is_variable_buffer(const FerryVmstateField *field)
{
	return field->kind == FERRY_VMSTATE_BUFFER && field->shape == FERRY_VMSTATE_VARRAY;
}

gsize ferry_field_integer_width(FerryVmstateKind kind)
{
	return kinds[kind].width;
}

gsize ferry_field_integer_size(FerryVmstateKind kind)
{
	return kinds[kind].size;
}

const char *ferry_field_type(FerryVmstateKind kind)
{
	return kinds[kind].type;
}

/* An unsigned integer in host order. A negative count thereby exceeds every bound. */
static guint64 load_member(const void *member, gsize size)
{
	guint8 u8;
	guint16 u16;
	guint32 u32;
	guint64 u64;

	switch (size) {
	case 1:
		memcpy(&u8, member, sizeof(u8));
		return u8;
	case 2:
		memcpy(&u16, member, sizeof(u16));
		return u16;
	case 4:
		memcpy(&u32, member, sizeof(u32));
		return u32;
	default:
		memcpy(&u64, member, sizeof(u64));
		return u64;
	}
}

static gpointer load_pointer(const void *member)
{
	gpointer p;

	memcpy(&p, member, sizeof(p));
	return p;
}

gboolean ferry_field_get_count(const FerryVmstateField *field, gconstpointer opaque,
			       const FerryPlace *place, guint64 offset, gsize *count,
			       GError **error)
{
	const guint8 *base = opaque;
	guint64 n;

	if (field->shape != FERRY_VMSTATE_VARRAY) {
		*count = field->shape == FERRY_VMSTATE_SINGLE ? 1 : field->count;
		return TRUE;
	}
	n = load_member(base + field->count_offset, field->count_size);
	if (n > field->count)
		return ferry_place_fail(
			place, offset, error,
			"%" G_GUINT64_FORMAT " %s, but at most %" G_GSIZE_FORMAT " fit here", n,
			ferry_field_is_variable_buffer(field) ? "bytes" : "elements", field->count);
	if (n > 0 && !load_pointer(base + field->offset))
		return ferry_place_fail(place, offset, error,
					"NULL instead of memory for %" G_GUINT64_FORMAT " elements",
					n);
	*count = n;
	return TRUE;
}

gpointer ferry_field_element(const FerryVmstateField *field, gpointer opaque, gsize index)
{
	guint8 *member = (guint8 *)opaque + field->offset;

	switch (field->shape) {
	case FERRY_VMSTATE_VARRAY:
		return (guint8 *)load_pointer(member) + index * field->size;
	case FERRY_VMSTATE_POINTER_ARRAY:
		return load_pointer(member + index * sizeof(gpointer));
	default:
		return member + index * field->size;
	}
}
