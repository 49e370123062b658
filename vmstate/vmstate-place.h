/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/error.h>

/*
 * Where in a description saving or loading is. Places live on the stack, each pointing at the one
 * around it; the path is spelled out only once something failed.
 */
typedef struct FerryPlace FerryPlace;
struct FerryPlace {
	const FerryPlace *up; /* NULL at the top */
	const char *name; /* of the description at the top, else of the field or the subsection */
	gboolean is_element;
	gsize index; /* of the element, where is_element */
};

/* The path as "vcpu/regs[3]/rip"; free with g_free(). */
char *ferry_place_path(const FerryPlace *place);

/* Sets FERRY_ERROR_DEVICE with a message behind the path and @offset (bytes in the stream). FALSE.
 */
gboolean ferry_place_fail(const FerryPlace *place, guint64 offset, GError **error,
			  const char *format, ...) G_GNUC_PRINTF(4, 5);

/* Puts the path and @offset before the message of @error, which is set. FALSE. */
gboolean ferry_place_prefix(const FerryPlace *place, guint64 offset, GError **error);

/*
 * Reports the failure of the embedder's function @hook. @cause is taken; it may be NULL. Ferry's
 * own codes stay, an error of another domain becomes FERRY_ERROR_DEVICE. FALSE.
 */
gboolean ferry_place_hook_failed(const FerryPlace *place, guint64 offset, const char *hook,
				 GError *cause, GError **error);
