/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmstate-place.h"

static void append_path(GString *path, const FerryPlace *place)
{
	if (place->up) {
		append_path(path, place->up);
		g_string_append_c(path, '/');
	}
	g_string_append(path, place->name);
	if (place->is_element)
		g_string_append_printf(path, "[%" G_GSIZE_FORMAT "]", place->index);
}

char *ferry_place_path(const FerryPlace *place)
{
	GString *path = g_string_new(NULL);

	append_path(path, place);
	return g_string_free(path, FALSE);
}

gboolean ferry_place_fail(const FerryPlace *place, guint64 offset, GError **error,
			  const char *format, ...)
{
	g_autofree char *message = NULL;
	va_list args;

	va_start(args, format);
	message = g_strdup_vprintf(format, args);
	va_end(args);
	g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_DEVICE, message);
	return ferry_place_prefix(place, offset, error);
}

gboolean ferry_place_prefix(const FerryPlace *place, guint64 offset, GError **error)
{
	g_autofree char *path = ferry_place_path(place);

	g_prefix_error(error, "%s at offset %" G_GUINT64_FORMAT ": ", path, offset);
	return FALSE;
}

gboolean ferry_place_hook_failed(const FerryPlace *place, guint64 offset, const char *hook,
				 GError *cause, GError **error)
{
	g_autoptr(GError) owned = cause;

	if (owned && owned->domain == FERRY_ERROR) {
		g_propagate_prefixed_error(error, g_steal_pointer(&owned), "%s: ", hook);
		return ferry_place_prefix(place, offset, error);
	}
	return ferry_place_fail(place, offset, error, "%s: %s", hook,
				owned ? owned->message : "failed and gave no reason");
}
