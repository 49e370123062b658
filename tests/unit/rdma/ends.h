/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <gio/gio.h>
#include "fake-verbs.h"
#include "rdma/carriers.h"

/*
 * A source's and a destination's carrier over the fake device, and in place of the control channel
 * an inbox with a thread for each: the test's thread is the migration thread, the source's inbox
 * the return path, the destination's the loading thread.
 */
#define ENDS_PORT 4444

typedef struct Ends Ends;

typedef struct {
	Ends *ends;
	FakeSide side;
	FerrySettings *settings;
	FerryRam *ram;
	FerryFabricSession session;
	FerryCarrier *carrier;
	GThread *thread;
	GAsyncQueue *inbox;
	int said;      /* atomic: calls of say() */
	GError *error; /* of hear(), share_ram() or await_fence(); guarded by ends->lock */
	gboolean died; /* the carrier said so; guarded by ends->lock */
	gint64 failed_us;
	gboolean shared; /* destination: share_ram() was called */
	gboolean deaf;   /* hears nothing */
} End;

struct Ends {
	FakeNic *nic;     /* NULL: real devices */
	const char *host; /* of the destination; a test over real devices sets it */
	GRand *random;
	guint8 nonce[FERRY_NONCE_SIZE];
	FerryRdmaAcceptor *acceptor;
	End source, destination;
	gboolean cancels_at_say; /* the source is cancelled when it says something */
	guint crowded;           /* of this many say() one has room; 0: all */
	GMutex lock;
	GCond changed;
	guint32 fence;    /* of the last round that was begun */
	guint32 compared; /* the last fence that the destination passed; guarded by lock */
	gboolean differs; /* RAM at that fence; guarded by lock */
	guint64 pages;    /* put so far */
	gint64 close_us;  /* what closing took */
	/* What a course does after its rounds; NULL: nothing. */
	gboolean (*then)(Ends *ends, GError **error);
	gpointer user;             /* of the test */
	struct Switched *switched; /* NULL: the guest was not; ends_close() stops and frees it */
};

/* @nic NULL: over the devices of this host, of which the destination's is at @host. Blocks of
 * @pages[] (ended by 0) pages on both sides, random at the source, 0xee elsewhere. Not
 * connected; settings can be changed and faults planned. */
void ends_open(Ends *ends, FakeNic *nic, const guint *pages);

/* Listens, makes both carriers, and shares the RAM, at the source in this thread. FALSE: pages
 * would go in the stream; @error says why. */
gboolean ends_connect(Ends *ends, GError **error);

/* Dirties about one page in @sparse, sends them in runs of at most @most pages, in any order if
 * @shuffle, and compares all RAM at the fence. FALSE: an end died, or the RAM differs: @error. The
 * first round sends every page. */
gboolean ends_round(Ends *ends, guint sparse, guint most, gboolean shuffle, GError **error);

gboolean ends_put_runs(Ends *ends, const FerryRun *runs, size_t n, GError **error);

/* Only the pages, without a fence. */
gboolean ends_put(Ends *ends, guint sparse, guint most, gboolean shuffle, GError **error);
gboolean ends_fence(Ends *ends, GError **error);

/* One step of the source's engine, whose carrier answered @io: sleeps on AGAIN. FALSE: an end is
 * dead, which says why, or @deadline (monotonic) passed. */
gboolean ends_step(Ends *ends, FerryIo io, gint64 deadline, GError **error);

/* The source's engine has nothing to send: TRUE once an end died, which says why; FALSE: none has
 * within @timeout_us. */
gboolean ends_linger(Ends *ends, gint64 timeout_us, GError **error);

/* Lets @to hear a record that its peer did not say. */
void ends_send(End *to, guint16 type, const guint8 *payload, size_t len);

/* Quiesces the destination, closes both. The nic stays. */
void ends_close(Ends *ends);

void ends_set(End *end, FerryParameter parameter, guint64 value);
void ends_enable(End *end, FerryCapability capability);
