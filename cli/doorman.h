/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ferry.h>

/*
 * Lets in whoever connects, from a thread of its own, and tells what each is by its first four
 * bytes: so one that says nothing holds nobody up.
 */
typedef struct FerryDoorman FerryDoorman;

/* A connection. Its first bytes were read; ferry_connection_read() gives them again. */
typedef struct {
	FerryChannel *channel;
	guint32 magic; /* its first four bytes */
	gsize reread;  /* of them */
	gboolean kept; /* the channel is now somebody else's to close; not so this struct */
} FerryConnection;

/* A FerryReadFunc; @connection: a FerryConnection. */
gssize ferry_connection_read(gpointer connection, const struct iovec *iov, int n, GError **error);

typedef struct {
	/* On the connection's own thread; its channel is hung up when it returns, unless kept. */
	void (*came)(gpointer user, FerryConnection *connection);
	/* Nobody else will come; takes @error. */
	void (*broke)(gpointer user, GError *error);
} FerryDoormanFuncs;

/* Takes @listener. At most @most connections are there at a time, others are hung up on. @funcs and
 * @user are borrowed. */
FerryDoorman *ferry_doorman_new(FerryListener *listener, guint most, const FerryDoormanFuncs *funcs,
				gpointer user);

/* Shuts down every connection, also kept ones, and waits for its thread. NULL is allowed. */
void ferry_doorman_free(FerryDoorman *doorman);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryDoorman, ferry_doorman_free)
