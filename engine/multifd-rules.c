/* SPDX-License-Identifier: BSD-2-Clause */
#include "multifd-rules.h"

gboolean ferry_multifd_is_on(FerrySettings *settings)
{
	return ferry_settings_get_capability(settings, FERRY_CAPABILITY_MULTIFD) &&
	       !ferry_settings_get_capability(settings, FERRY_CAPABILITY_MAPPED_RAM);
}

static gboolean no_connections(const char *where, GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
		    "%s: multifd needs connections of its own, which only tcp: and unix: give: "
		    "switch it off",
		    where);
	return FALSE;
}

gboolean ferry_multifd_check_outgoing(FerrySettings *settings, const FerryTransport *transport,
				      GError **error)
{
	if (!ferry_multifd_is_on(settings))
		return TRUE;
	if (!transport->multifd)
		return no_connections(transport->scheme, error);
	if (!ferry_settings_get_capability(settings, FERRY_CAPABILITY_RETURN_PATH)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "multifd needs a destination that answers: switch return-path on");
		return FALSE;
	}
	if (transport->zero_copy ||
	    !ferry_settings_get_capability(settings, FERRY_CAPABILITY_ZERO_COPY_SEND))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
		    "%s: zero-copy-send is for tcp: alone: switch it off", transport->scheme);
	return FALSE;
}

gboolean ferry_multifd_check_incoming(FerrySettings *settings, const FerryListener *listener,
				      GError **error)
{
	return !ferry_multifd_is_on(settings) || listener->multifd ||
	       no_connections(listener->uri, error);
}

FerryFabric *ferry_multifd_listener_fabric(FerrySettings *settings, const FerryListener *listener)
{
	return ferry_multifd_is_on(settings) ? listener->multifd : listener->fabric;
}
