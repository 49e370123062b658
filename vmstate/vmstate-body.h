/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/vmstate.h>

#include "vmstate-place.h"

/*
 * A description put to work: what a section's body, a nested struct and a subsection have in
 * common. Saving and loading take a description that ferry_vmstate_check() has passed, nothing
 * else.
 */

/*
 * FERRY_ERROR_INVALID if the description, or one that it nests, contradicts itself or exceeds a
 * bound. Passing bounds the depth of recursion and the number of elements of everything that
 * follows.
 */
gboolean ferry_vmstate_check(const FerryVmstate *vmstate, GError **error);

/* Appends the body to @out, and to @json the members that describe it ("vmsd_name" to
 * "subsections"). On failure both hold a part. */
gboolean ferry_vmstate_save_body(const FerryVmstate *vmstate, gpointer opaque, GByteArray *out,
				 GString *json, GError **error);

/* Reads a body of version @version_id, which is checked against the description's range. */
gboolean ferry_vmstate_load_body(const FerryVmstate *vmstate, gpointer opaque, guint32 version_id,
				 FerryStreamReader *reader, GError **error);
