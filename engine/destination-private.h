/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/carrier.h>
#include <ferry/destination.h>
#include "announcer.h"
#include "digest.h"
#include "fabric-link.h"
#include "first-touch.h"
#include "incoming-faults.h"
#include "page-workers.h"
#include "postcopy-ram.h"
#include "records.h"
#include "reply.h"
#include "vm-private.h"

struct FerryDestination {
	FerryVm *vm;
	const FerryTransport *const *transports;
	FerryAnnouncer *announcer;

	GMutex lock; /* guards the rest */
	GCond changed;
	FerryState state;
	char *error_desc; /* also of a connection that was refused while it goes on listening */
	char *uri;
	gboolean autostart;
	gboolean deferred;
	GThread *thread; /* listens and loads; joined by the next start, or by free */
	GCancellable *cancellable;
	FerryChannel *channel; /* published so that free can cut it */
	gint64 begin_us, end_us;
	char *transport;
	guint64 received;        /* bytes of the stream so far */
	FerryCarrier *described; /* beside the channel, while it is open; borrowed */
	GVariant *carrier;       /* what it said of itself last; NULL: there was none */

	/* from LISTEN to the last page, through every pause; the loading thread's to change, and
	 * whoever discards a guest that does not run */
	FerryPostcopyRam *postcopy;
	const char *mode;               /* static; NULL: not switched */
	FerryPostcopyStatus postcopied; /* its last word, when it is gone */
	guint blocker;                  /* while pages are missing: the guest cannot leave */
	gboolean pausing;               /* somebody wants this postcopy to pause */
	guint64 pauses;

	gboolean has_session;
	guint8 nonce[FERRY_NONCE_SIZE];
	/* of the session; WAITING changes once, and who changes it acts */
	FerryHandoverAnswer answer;
};

gboolean ferry_destination_enter(FerryDestination *destination, FerryState from, FerryState to);
void ferry_destination_set_error(FerryDestination *destination, const char *text);

/* With the lock held. */
gboolean ferry_destination_enter_locked(FerryDestination *destination, FerryState from,
					FerryState to);
/* Ends the listening thread, whatever it does. */
void ferry_destination_stop_thread(FerryDestination *destination);
/* Starts it; it takes @listener over. The lock is held, and no thread runs. */
void ferry_destination_listen_locked(FerryDestination *destination, FerryListener *listener);

/* ---- destination-postcopy.c ---- */

/* Whether the guest was to be switched over before its pages, and some are missing. */
gboolean ferry_destination_is_incomplete(FerryDestination *destination);
/* The link of a guest that was switched over is gone. One that was not started yet waits for its
 * source, or for the operator. */
void ferry_destination_paused(FerryDestination *destination, const GError *cause);
/* With the lock held. */
void ferry_destination_fill_postcopy(FerryDestination *destination, FerryPostcopyStatus *status);
/* Enters postcopy-recover, from postcopy-paused, or from handover-lost where nobody decided. */
gboolean ferry_destination_begin_recovery(FerryDestination *destination);

/* Takes the decision about a guest that is loaded and waits: FALSE if it was taken before. */
gboolean ferry_destination_decide(FerryDestination *destination, FerryHandoverAnswer answer);

/* While pages are missing the guest cannot leave again. Both may be called twice. */
void ferry_destination_block(FerryDestination *destination);
void ferry_destination_unblock(FerryDestination *destination);

/* Frees what RAM needed while pages were missing. No carrier uses it any more. */
void ferry_destination_drop_postcopy(FerryDestination *destination);

/* Begins to tell the network of the guest that arrived. */
void ferry_destination_arrived(FerryDestination *destination);

/* Runs the loaded guest, once decide(RUNS) returned TRUE; the state completed is the caller's to
 * enter. Where it cannot be started it waits again, in handover-lost. incoming-handover.c */
gboolean ferry_incoming_take_over(FerryDestination *destination, GError **error);

/* How a connection ended. */
typedef enum {
	FERRY_INCOMING_REFUSED,  /* nothing of the guest was touched: go on listening */
	FERRY_INCOMING_FAILED,   /* RAM or devices are half loaded */
	FERRY_INCOMING_IN_DOUBT, /* all is loaded, and the source is gone before it decided */
	FERRY_INCOMING_PAUSED,   /* the guest runs here, and the link died before its last page */
	/* the guest is here, but the source may not know: go on answering */
	FERRY_INCOMING_COMPLETED,
	FERRY_INCOMING_CLOSED,    /* the guest is here, and the source knows */
	FERRY_INCOMING_ANSWERED,  /* it was only a question */
	FERRY_INCOMING_REHEARSED, /* nothing was to be handed over: go on listening */
} FerryIncomingResult;

/* One connection, the loading thread's own. */
typedef struct {
	FerryDestination *destination;
	FerryVm *vm;
	FerryChannel *channel;
	FerryStreamReader *reader;
	FerryReplies replies;
	FerryCarrier *carrier;     /* the channel's own */
	FerryFabric *fabric;       /* a way for pages beside the channel; NULL: none */
	FerryHeartbeat *heartbeat; /* then around the channel */
	guint64 fabrics_agreed;    /* the features of those that the source has too */
	gboolean chosen;           /* CARRIER came */
	FerryFabricLink *link;     /* the carrier beside the channel; NULL: none */
	FerryFabric *linked;       /* whose carrier it is */
	FerryRamReader ram;
	FerryFirstTouch *touch;
	gboolean will_digest;        /* the source announced verify-ram */
	FerryDigest *digest;         /* then it follows the rounds; else NULL */
	FerryPageWorkers *inflaters; /* from the first deflated page on; else NULL */
	guint64 undigested;          /* pages since the digest was last told to catch up */
	gboolean may_rehearse;       /* the listener can take another connection after this one */
	gboolean rehearses;          /* both HELLOs have it */
	gboolean ferry_peer;
	guint8 nonce[FERRY_NONCE_SIZE];
	GError *misfit;  /* what of the configuration is not ours; owned, else NULL */
	gboolean listed; /* the block list fits: the state is active */
	guint32 ram_section_id;
	gboolean ram_ended;
	guint32 round;
	guint64 round_pages; /* that came in the stream */
	gint64 begin_user_us, begin_system_us;

	gboolean may_postcopy;      /* both HELLOs have it */
	gboolean may_encode;        /* likewise */
	const FerryRam *memory;     /* where pages go before LISTEN */
	FerryPostcopyRam *advised;  /* from ADVISE to LISTEN; else NULL */
	gboolean discarded;         /* RAM_DISCARD came */
	gboolean packaged;          /* PACKAGED came: the commit follows */
	FerryPostcopyRam *postcopy; /* from LISTEN on; the destination's */
	gboolean pulls;             /* then: the carrier beside the channel fetches */
	FerryFaults *faults;        /* while the guest may wait for pages */
	gboolean recovers;          /* HELLO named a session that was switched over to here */
	gboolean over; /* a session that is known here is complete: its source has to hear it */
} FerryIncoming;

/* Serves one connection, which @listener accepted, to its end; @fabric is the way beside it, or
 * NULL, and @heartbeat then around @channel, else NULL. @error says why for REFUSED, FAILED and
 * IN_DOUBT. incoming.c */
FerryIncomingResult ferry_incoming_run(FerryDestination *destination, FerryListener *listener,
				       FerryFabric *fabric, FerryChannel *channel,
				       FerryHeartbeat *heartbeat, GError **error);

/* A record read off the stream. incoming.c */
typedef struct {
	guint16 type;
	guint32 length;
	guint8 payload[FERRY_RETURN_DATA_MAX];
} FerryIncomingRecord;
/* Reads the data of a FERRY_COMMAND_FERRY element; type 0 is one that was skipped. */
gboolean ferry_incoming_read_record(FerryIncoming *incoming, const FerryStreamElement *element,
				    FerryIncomingRecord *record, GError **error);

/* Before the first byte is read: where in a file the stream begins. incoming-configuration.c */
gboolean ferry_incoming_open_stream(FerryIncoming *incoming, GError **error);
/* Reads it. What does not fit is kept in @misfit: the source cannot be told before the return path
 * is open. */
gboolean ferry_incoming_read_configuration(FerryIncoming *incoming, GError **error);

/* Of a list whose names and sizes are ours: that the blocks which do not come are the same, at the
 * same addresses. incoming-places.c */
gboolean ferry_incoming_check_shared(FerryIncoming *incoming, GError **error);
/* Of all blocks that come. */
FerryDigest *ferry_incoming_new_digest(FerryIncoming *incoming);
/* Gets the pages that have places in the file. */
gboolean ferry_incoming_load_places(FerryIncoming *incoming, GError **error);

/* The ram section and the pages. incoming-ram.c */
gboolean ferry_incoming_ram_section(FerryIncoming *incoming, const FerryStreamElement *element,
				    GError **error);
gboolean ferry_incoming_ram_record(FerryIncoming *incoming, const FerryIncomingRecord *record,
				   GError **error);

/* Pages in fewer bytes. incoming-encoded.c */
/* ENCODED_PAGE, before the switch: *@run is the page. What goes as it is goes by @read, a
 * FerryReadExactly over a FerryIncoming. */
gboolean ferry_incoming_encoded_page(FerryIncoming *incoming, const FerryIncomingRecord *record,
				     FerryReadExactly read, FerryRun *run, GError **error);
/* Reads @len bytes, which the caller has checked, of a page in XBZRLE or ZLIB. */
gboolean ferry_incoming_take_encoded(FerryIncoming *incoming, const FerryRun *run,
				     FerryPageForm form, guint32 len, GError **error);
/* Nothing of the page, or of any page, is still to land when they return. */
gboolean ferry_incoming_await_page(FerryIncoming *incoming, guint32 block, guint64 page,
				   GError **error);
gboolean ferry_incoming_await_inflated(FerryIncoming *incoming, GError **error);
/* Whether @element may come in what this connection is. incoming-rehearsal.c */
gboolean ferry_incoming_may_rehearse(FerryIncoming *incoming, const FerryStreamElement *element,
				     GError **error);
/* A rehearsal is over, and its connection closed: the next one begins anew. */
void ferry_destination_rehearsed(FerryDestination *destination);

/* The carrier beside the channel: a record of its own; the source's choice. incoming-fabric.c */
gboolean ferry_incoming_fabric_record(FerryIncoming *incoming, const FerryIncomingRecord *record,
				      GError **error);
gboolean ferry_incoming_choose_carrier(FerryIncoming *incoming, const FerryIncomingRecord *record,
				       GError **error);
/* Fails where multifd is on here and the source, whose HELLO came if it says one, has it not. */
gboolean ferry_incoming_agrees_on_multifd(FerryIncoming *incoming, GError **error);
/* Whether pages go beside the channel. */
gboolean ferry_incoming_is_beside(const FerryIncoming *incoming);
/* Closes the carrier; its description stays. */
void ferry_incoming_close_fabric(FerryIncoming *incoming);

/* Postcopy before the commit: ADVISE, RAM_DISCARD, PACKAGED. incoming-postcopy.c */
gboolean ferry_incoming_postcopy_command(FerryIncoming *incoming, const FerryStreamElement *element,
					 GError **error);
/* PAGES or ZERO_PAGES, from LISTEN on. */
gboolean ferry_incoming_land(FerryIncoming *incoming, const FerryIncomingRecord *record,
			     GError **error);
/* Tells the carrier beside the channel that pages come to a guest that runs. */
gboolean ferry_incoming_begin_beside(FerryIncoming *incoming, GError **error);
/* From PREPARE behind a package to the last page. incoming-switch.c */
FerryIncomingResult ferry_incoming_switch(FerryIncoming *incoming, GError **error);
/* Whoever waits for a page from here on is heard, until the faults are stopped. */
void ferry_incoming_begin_faults(FerryIncoming *incoming);
/* The vCPUs run: their waiting is counted. */
void ferry_incoming_note_vcpus(FerryIncoming *incoming);
/* Pages, to the end of this connection. */
FerryIncomingResult ferry_incoming_receive(FerryIncoming *incoming, GError **error);

/* At HELLO: whether it names a session whose guest was switched over to here; its RAM is then the
 * connection's. incoming-recover.c */
gboolean ferry_incoming_find_session(FerryIncoming *incoming);
/* Such a connection, to its end. */
FerryIncomingResult ferry_incoming_recover(FerryIncoming *incoming, GError **error);
/* There is no such session, and the source believes that there is. */
gboolean ferry_incoming_refuse_recovery(FerryIncoming *incoming, GError **error);
/* Whether this destination may take a guest now; the error has its state. incoming-ram.c */
gboolean ferry_incoming_may_take(FerryIncoming *incoming, GError **error);

/* Takes PREPARE, and says READY. incoming-handover.c */
gboolean ferry_incoming_get_ready(FerryIncoming *incoming, GError **error);
gboolean ferry_incoming_reply_running(FerryIncoming *incoming, GError **error);
/* The source knows that the guest runs here once it says so; till then it may ask again. */
FerryIncomingResult ferry_incoming_wait_for_done(FerryIncoming *incoming);

/* From PREPARE to the end; and the answer to a QUERY. incoming-handover.c */
FerryIncomingResult ferry_incoming_hand_over(FerryIncoming *incoming, GError **error);
FerryIncomingResult ferry_incoming_query(FerryIncoming *incoming, const FerryIncomingRecord *record,
					 GError **error);
