/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/fabric.h>

G_BEGIN_DECLS

/*
 * A transport turns a migration URI into channels. The engine is handed a table of them and knows
 * none by name.
 */
typedef struct FerryListener FerryListener;

typedef struct {
	/* Waits for one connection, for ever; @cancellable ends the wait with
	 * FERRY_ERROR_CANCELLED. A listener of a file, fd or command gives its channel once and
	 * then fails with FERRY_ERROR_STATE. One thread at a time. */
	FerryChannel *(*accept)(FerryListener *listener, GCancellable *cancellable, GError **error);

	/* Closes and frees; removes the socket file that a unix: listener made. */
	void (*close)(FerryListener *listener);
} FerryListenerOps;

struct FerryListener {
	const FerryListenerOps *ops;
	char *uri;      /* what a source must be given to reach it: the real port in place of 0 */
	gboolean again; /* accept() can give a second connection (tcp:, unix:) */
	/* a way for pages beside the channels that accept() gives (ferry/fabric.h); the listener's
	 * own, closed with it; NULL where there is none */
	FerryFabric *fabric;
	/* the way for pages where the capability multifd is on, in place of @fabric; the
	 * listener's own; NULL: there is none */
	FerryFabric *multifd;
};

typedef struct {
	const char *scheme; /* "tcp", without the colon */
	/* a URI names a place that can be connected to again (tcp:, unix:), not one connection
	 * (fd:) or an action (exec:, file:) */
	gboolean names_place;
	/* what was written can be read back by listening on the same URI (file:) */
	gboolean stores;

	/* Connects; blocks until connected, @timeout_ms passed, or @cancellable. @uri is whole,
	 * with the scheme. Errors name the URI and the system's reason. */
	FerryChannel *(*connect)(const char *uri, guint timeout_ms, GCancellable *cancellable,
				 GError **error);

	/* the scheme asks for the fabric below (rdma:); else it is for others to fall back to */
	gboolean prefers_fabric;

	/* The way for pages beside the channel that connect() gave for @uri; the caller closes it,
	 * after its carriers. Does not block. NULL where the transport has none. */
	FerryFabric *(*fabric)(const char *uri);

	/* The same where the capability multifd is on: connections to the same place. NULL: the
	 * transport cannot. */
	FerryFabric *(*multifd)(const char *uri);
	/* multifd's connections can do without a copy (zero-copy-send) */
	gboolean zero_copy;

	/* Starts to listen; does not block but for name resolution. */
	FerryListener *(*listen)(const char *uri, GCancellable *cancellable, GError **error);
} FerryTransport;

/*
 * All transports of this build, NULL-terminated and static: the sockets' and rdma:.
 *   rdma:HOST:PORT  as tcp:, and the pages by RDMA where both sides can (ferry/fabric.h)
 */
const FerryTransport *const *ferry_transports(void);

/*
 * Those without RDMA, NULL-terminated and static:
 *   tcp:HOST:PORT   a name, an IPv4 address, or [IPv6%scope]; every address of a name is tried
 *   unix:PATH
 *   fd:N            a descriptor of this process; connect() takes it over, also where it fails
 *   exec:COMMAND    /bin/sh -c COMMAND with the stream on its stdin and stdout
 *   file:PATH[,offset=N]   save to, or load from, a file, from its byte N on; what lies before
 *                   stays
 */
const FerryTransport *const *ferry_socket_transports(void);

/* The transport for @uri in @transports by its scheme; FERRY_ERROR_INVALID names the known ones. */
const FerryTransport *ferry_transport_find(const FerryTransport *const *transports, const char *uri,
					   GError **error);

static inline void ferry_listener_close(FerryListener *listener)
{
	if (listener)
		listener->ops->close(listener);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryListener, ferry_listener_close)

G_END_DECLS
