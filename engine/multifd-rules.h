/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/transport.h>

/* Whether pages are to go over connections of multifd's: the capability is on, and the pages do not
 * go to places in a file (mapped-ram). */
gboolean ferry_multifd_is_on(FerrySettings *settings);

/* FERRY_ERROR_INVALID where they are to, and @transport cannot give them; before anything is
 * connected. */
gboolean ferry_multifd_check_outgoing(FerrySettings *settings, const FerryTransport *transport,
				      GError **error);
/* The same of @listener. */
gboolean ferry_multifd_check_incoming(FerrySettings *settings, const FerryListener *listener,
				      GError **error);

/* The way beside the channels of @listener, as the settings are now; NULL: none. */
FerryFabric *ferry_multifd_listener_fabric(FerrySettings *settings, const FerryListener *listener);
