/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/transport.h>

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
