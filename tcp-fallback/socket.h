/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <sys/socket.h>
#include <sys/stat.h>
#include <ferry/transport.h>

typedef struct {
	struct sockaddr_storage storage;
	socklen_t len;
} FerryAddress;

/* "192.0.2.1:4444", "[2001:db8::1]:4444" or the path; caller frees. */
char *ferry_address_to_string(const FerryAddress *address);

/*
 * Connects a new stream socket to @address before @deadline (monotonic). Returns the descriptor,
 * which is the caller's, or -1 with @error, whose message begins with the address.
 */
int ferry_socket_connect(const FerryAddress *address, gint64 deadline, GCancellable *cancellable,
			 GError **error);

/* The same to the first address that answers of @uri's HOST:PORT, whatever its scheme. */
int ferry_socket_connect_uri(const char *uri, gint64 deadline, GCancellable *cancellable,
			     GError **error);

/* Options of a connected socket of any family: what cannot be set is left as it is. */
void ferry_socket_tune(int fd);

/* Besides: lets little be under way at a time, so that nothing waits behind much. */
void ferry_socket_tune_urgent(int fd);

#define FERRY_LISTEN_MAX 16u

/* A listener over one or more listening sockets. Whoever makes it fills the fields after @base. */
typedef struct {
	FerryListener base;
	const FerryChannelOps *channel_ops; /* of the accepted channels */
	int fds[FERRY_LISTEN_MAX];          /* owned */
	guint n_fds;
	char *path;       /* socket file to remove at close; NULL for none */
	struct stat file; /* of @path when it was made */
} FerrySocketListener;

/* An empty listener that accepts channels with @channel_ops; free with ferry_listener_close(). */
FerrySocketListener *ferry_socket_listener_new(const FerryChannelOps *channel_ops);
