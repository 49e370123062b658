/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/vmstate.h>

#include "vmstate-place.h"

/* How a field of a checked description lies in memory and in the stream. */

/* Whether the field is part of version @version_id of the struct at @opaque. */
gboolean ferry_field_is_present(const FerryVmstateField *field, gconstpointer opaque,
				guint32 version_id);

/* A run of bytes whose length a member holds: one unit, however long. */
gboolean ferry_field_is_variable_buffer(const FerryVmstateField *field);

/* Bytes that an integer of @kind takes in the stream; 0 for the kinds that are no integer. */
gsize ferry_field_integer_width(FerryVmstateKind kind);

/* The bytes that an integer of @kind takes in the struct. */
gsize ferry_field_integer_size(FerryVmstateKind kind);

/* The kind's name in the JSON description: QEMU's. Static. */
const char *ferry_field_type(FerryVmstateKind kind);

/*
 * How many elements the field has now; bytes, for a variable buffer. FERRY_ERROR_DEVICE if a member
 * says more than the field's bound, or if there is no memory behind the pointer. @place and @offset
 * are the field's, for the message.
 */
gboolean ferry_field_get_count(const FerryVmstateField *field, gconstpointer opaque,
			       const FerryPlace *place, guint64 offset, gsize *count,
			       GError **error);

/* The address of element @index of the struct at @opaque; NULL where an array of pointers has NULL.
 */
gpointer ferry_field_element(const FerryVmstateField *field, gpointer opaque, gsize index);
