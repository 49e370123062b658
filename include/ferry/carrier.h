/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/channel.h>
#include <ferry/protocol.h>
#include <ferry/ram.h>

G_BEGIN_DECLS

/*
 * A carrier moves pages from the source's RAM to the destination's. It is all that the engine knows
 * of sockets and RDMA. Back-pressure is a value: put() and progress() never block, allocate, log or
 * take a lock.
 */
typedef enum {
	FERRY_IO_OK,    /* taken; the pages stay borrowed until settle() returned OK */
	FERRY_IO_AGAIN, /* no room now: wait(), then offer the rest again */
	FERRY_IO_DEAD,  /* the link is gone; take_error() says why */
} FerryIo;

typedef struct {
	guint64 bytes;            /* on the wire, headers included */
	guint64 pages;            /* put as data */
	guint64 zero_pages;       /* put as zero */
	guint64 multifd_bytes;    /* of them over multifd's channels */
	guint64 zero_copy_copied; /* sends that the kernel copied although asked not to */
} FerryCarrierStats;

/* Reads exactly @len bytes of the control stream into @buf. */
typedef gboolean (*FerryReadExactly)(gpointer user, void *buf, size_t len, GError **error);

/*
 * Who wants to know of pages that arrive while the guest already runs. Both are called from any
 * thread of the carrier's, must be quick, and may be called for several runs at once.
 */
typedef struct {
	/* Whether every page of the run is still missing. A carrier that can look before it writes
	 * refuses a run that is not (FERRY_ERROR_PEER): the guest may have written there. */
	gboolean (*wanted)(gpointer user, const FerryRun *run);
	/* The run is in RAM, once: the guest may see it. */
	void (*landed)(gpointer user, const FerryRun *run);
	gpointer user;
} FerryArrivals;

/* Takes a run that load() found: @data is its bytes, valid during the call; NULL: it is zero. From
 * several threads at once. FALSE with @error ends the load. */
typedef gboolean (*FerryTakeRun)(gpointer user, const FerryRun *run, const guint8 *data,
				 GError **error);

/* The largest run of one fetch(), pages. */
#define FERRY_FETCH_MAX 64u

typedef struct {
	const char *name;

	/* Both sides, once, before any page: gives the carrier the RAM that it moves, whose block
	 * list both sides have compared. @ram is borrowed until close(). A carrier beside the
	 * channel connects here, at the source: it blocks, within deadlines of its own, and ends
	 * early when the session's cancellable is cancelled. */
	gboolean (*share_ram)(FerryCarrier *carrier, const FerryRam *ram, GError **error);

	/* Source: offers @n runs of dirty pages. *@taken is how many whole runs were taken, also
	 * when the answer is AGAIN. */
	FerryIo (*put)(FerryCarrier *carrier, const FerryRun *runs, size_t n, size_t *taken);

	/* Source: the same for runs whose every byte is zero. NULL: it carries none, the engine
	 * sends them with the channel's own carrier. */
	FerryIo (*put_zero)(FerryCarrier *carrier, const FerryRun *runs, size_t n, size_t *taken);

	/* Source: one page as the @len bytes at @data, in another form than guest RAM's; they are
	 * copied before it returns. OK: taken; AGAIN: not. NULL: it carries none, and pages go as
	 * they are. */
	FerryIo (*put_encoded)(FerryCarrier *carrier, guint32 block, guint64 page,
			       FerryPageForm form, const guint8 *data, size_t len);

	/* Source, and a destination that fetches: moves what can be moved without blocking. AGAIN
	 * while anything is left. */
	FerryIo (*progress)(FerryCarrier *carrier);

	/* Source: sleeps until progress() can do something, urgent() has room again or @timeout_us
	 * passed. The only one that blocks; returns early when the channel is shut down. */
	void (*wait)(FerryCarrier *carrier, gint64 timeout_us);

	/* Source: a fence. OK once every page put so far is on its way in an order that makes the
	 * destination see all of them before the fence record that the engine sends next; AGAIN
	 * until then. @fence is the number in that record. */
	FerryIo (*settle)(FerryCarrier *carrier, guint32 fence);

	/* Destination: a record of the control stream that belongs to the carrier (a type that
	 * FERRY_RECORD_IS_CARRIER() names). @payload is the record's own bytes; what follows it in
	 * the stream is read with @read. Every number is checked against the RAM before use. *@run
	 * is the run that was filled, @*zero whether with zeros. NULL where the carrier has
	 * none. */
	gboolean (*receive)(FerryCarrier *carrier, guint16 type, const guint8 *payload, size_t len,
			    FerryReadExactly read, gpointer user, FerryRun *run, gboolean *zero,
			    GError **error);

	/* A record of the carrier's own that the peer said (FERRY_RECORD_IS_FABRIC()). Every number
	 * is checked before use. Source: on the thread of the return path, while the migration
	 * thread is anywhere in this carrier; destination: on the loading thread. An error ends the
	 * migration; a carrier that only cannot serve says so to its peer and returns TRUE. NULL
	 * where there are none. */
	gboolean (*hear)(FerryCarrier *carrier, guint16 type, const guint8 *payload, size_t len,
			 GError **error);

	/* Destination: blocks until every page put before the source's settle(@fence) is visible
	 * here. NULL where pages come in the stream, whose order says it. */
	gboolean (*await_fence)(FerryCarrier *carrier, guint32 fence, GError **error);

	/*
	 * Postcopy. A carrier beside the channel has these where the session asked for it
	 * (FerryFabricSession.postcopy) and share_ram() succeeded; in the channel's own carrier
	 * they are NULL: there pages that the guest waits for go by put(), before others, and the
	 * engine places what comes in the stream.
	 */

	/* Whether the destination takes the pages itself, by fetch(), after the switch: the source
	 * then puts none. Both sides give the same answer once share_ram() returned (destination:
	 * once CARRIER came). NULL: no. */
	gboolean (*pulls)(FerryCarrier *carrier);

	/* Source, once, on the thread of put(): precopy is over. After the settle() of its last
	 * fence returned OK and the destination's begin_postcopy() is known to have returned, and
	 * before the first put() or urgent() behind it. Never blocks. NULL: nothing changes. */
	void (*switch_over)(FerryCarrier *carrier);

	/* Source, after the switch: one run that the guest waits for, of at most FERRY_FETCH_MAX
	 * pages, on a way of its own that put() does not fill. OK: it is on its way, and settle()
	 * covers it; AGAIN: nothing was taken, try later. Never blocks. From one thread at a time,
	 * beside the one of put(). NULL: put() it. */
	FerryIo (*urgent)(FerryCarrier *carrier, const FerryRun *run);

	/* Destination, after the last fence of precopy and before the guest runs: pages go into
	 * @ram from now on (borrowed until close(); block for block as in share_ram(), and the same
	 * memory where the block has a file), and each run that landed is told to @arrivals
	 * (copied). What a carrier that pulls tells, it tells in progress(). */
	gboolean (*begin_postcopy)(FerryCarrier *carrier, const FerryRam *ram,
				   const FerryArrivals *arrivals, GError **error);

	/* Destination of a carrier that pulls, all on one thread: asks for a run, of at most
	 * FERRY_FETCH_MAX pages in one host page or one fetch; @urgent: the guest waits for it.
	 * AGAIN: no room, or its memory at the source is not known yet. */
	FerryIo (*fetch)(FerryCarrier *carrier, const FerryRun *run, gboolean urgent);
	/* Sleeps until progress() can do something, fetch() may have room again, @fd is readable or
	 * @timeout_us passed (-1: for ever). */
	void (*wait_fetched)(FerryCarrier *carrier, int fd, gint64 timeout_us);

	/* Destination of pages that have places (ferry/mapped.h), after share_ram(): gets every
	 * page of RAM, in no order, into the RAM, or to @take where that is not NULL; pages that
	 * are not there are zero, and memory that is zero is left alone. Blocks; ends early when
	 * the channel is shut down. NULL where pages come by themselves. */
	gboolean (*load)(FerryCarrier *carrier, FerryTakeRun take, gpointer user, GError **error);

	/* Destination: when it returns no write of the peer can land any more. Quick: what takes
	 * time, such as deregistering memory, is left to close(). */
	void (*quiesce)(FerryCarrier *carrier);

	void (*get_stats)(FerryCarrier *carrier, FerryCarrierStats *stats); /* any thread */

	/* What was agreed with the peer, and counters, as a dictionary (a{sv}, floating; keys in
	 * QMP's style): query-rdma shows it. Any thread. NULL where there is nothing to tell. */
	GVariant *(*describe)(FerryCarrier *carrier);

	/* Why the carrier is DEAD, made where the cause was known; the caller owns it. NULL if it
	 * is not dead or the error was taken before. */
	GError *(*take_error)(FerryCarrier *carrier);

	void (*close)(FerryCarrier *carrier);
} FerryCarrierOps;

struct FerryCarrier {
	const FerryCarrierOps *ops;
};

/*
 * A carrier that puts its pages on @channel, between the control messages, through the channel's
 * try_write and wait_writable: what the channels of this library give in their `carrier` op, and
 * what a channel of an embedder's own can give. Never fails; the caller closes it before the
 * channel.
 */
FerryCarrier *ferry_page_carrier_new(FerryChannel *channel, FerryPageFormat format);

/* NULL is allowed. */
static inline void ferry_carrier_close(FerryCarrier *carrier)
{
	if (carrier)
		carrier->ops->close(carrier);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryCarrier, ferry_carrier_close)

G_END_DECLS
