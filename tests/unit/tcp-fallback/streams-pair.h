/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/transport.h>
#include "harness.h"
#include "tcp-fallback/streams.h"

#define PAIR_BLOCKS 3u

/* One side: its RAM, and a session that hears what the other says. */
typedef struct Side Side;
struct Side {
	FerryFabricSession session;
	FerryCarrier *carrier; /* owned */
	FerryRam ram;
	FerryRamBlock blocks[PAIR_BLOCKS];
	Side *other;
	gint no_room;     /* atomic: say() fails this many times first; -1: for ever */
	gint swallow;     /* atomic: say() goes nowhere */
	gint says, died;  /* atomic: how often */
	GByteArray *said; /* the payload of the last */
	guint16 said_type;
};

/* A source and a destination of one session in this process, whose say() goes right to the other's
 * hear(). */
typedef struct {
	FerryListener *listener;
	GCancellable *cancellable; /* of the source's session */
	Side source, destination;
	guint fds, threads; /* before all of it */
} Pair;

extern const guint8 pair_nonce[FERRY_NONCE_SIZE];

/* @uri: where the source connects; NULL: to the listener. Carriers are made, not connected. */
void pair_open(Pair *pair, guint streams, const char *uri);
/* The same where both sessions ask for postcopy. */
void pair_open_postcopy(Pair *pair, guint streams);
/* Both sides' share_ram(); FALSE is a failure of the case. */
gboolean pair_connect(Pair *pair);
/* Closes all, and finds descriptors and threads that were left behind. */
void pair_close(Pair *pair);

/* Puts all of @n runs, waiting as the engine does. The answer of the last put. */
FerryIo pair_put(Pair *pair, const FerryRun *runs, size_t n);
FerryIo pair_settle(Pair *pair, guint32 fence);
gboolean pair_await_fence(Pair *pair, guint32 fence);
gboolean pair_same_ram(const Pair *pair);

/* Waits until the side is dead, of the cause that @text is in: all of its operations say so, and
 * the cause is told once. */
void pair_check_source_dead(Pair *pair, const char *text);
void pair_check_destination_dead(Pair *pair, guint32 fence, int code, const char *text);

/* A source of the test's own: a socket connected to the listener, and one that was taken as stream
 * @index. */
int pair_raw(Pair *pair);
int pair_raw_stream(Pair *pair, guint32 index);
void raw_send(int fd, const void *data, size_t len);
/* A PAGES record of any numbers, without the pages. */
void raw_pages(int fd, guint16 type, guint32 block, guint64 first, guint64 pages);
void raw_fence(int fd, guint32 round);
/* TRUE once the peer closed; waits for that. */
gboolean raw_is_closed(int fd);
