/* SPDX-License-Identifier: BSD-2-Clause */
#include "vm-private.h"

#include <string.h>

static char *known_schemes(const FerryTransport *const *transports)
{
	GString *list = g_string_new(NULL);

	for (; *transports; transports++)
		g_string_append_printf(list, "%s%s:", list->len ? ", " : "", (*transports)->scheme);
	return g_string_free(list, FALSE);
}

const FerryTransport *ferry_transport_find(const FerryTransport *const *transports, const char *uri,
					   GError **error)
{
	size_t len = strcspn(uri, ":");
	g_autofree char *known = NULL;

	for (guint i = 0; uri[len] == ':' && transports[i]; i++)
		if (strlen(transports[i]->scheme) == len &&
		    strncmp(transports[i]->scheme, uri, len) == 0)
			return transports[i];
	known = known_schemes(transports);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
		    "migration URI '%s' begins with no known transport; use one of %s", uri, known);
	return NULL;
}

gboolean ferry_vm_refuse_mapped(const char *uri, GError **error)
{
	g_set_error(
		error, FERRY_ERROR, FERRY_ERROR_INVALID,
		"mapped-ram gives each page a place in a file, and %s is none: use file:PATH, or "
		"switch mapped-ram off",
		uri);
	return FALSE;
}

gboolean ferry_vm_fits_transport(FerryVm *vm, const char *uri, const FerryTransport *transport,
				 GError **error)
{
	return transport->stores ||
	       !ferry_settings_get_capability(ferry_vm_settings(vm), FERRY_CAPABILITY_MAPPED_RAM) ||
	       ferry_vm_refuse_mapped(uri, error);
}
