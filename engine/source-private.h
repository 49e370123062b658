/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/source.h>
#include "bitmap.h"
#include "fabric-link.h"
#include "forecast.h"
#include "holes.h"
#include "page-push.h"
#include "page-requests.h"
#include "progress.h"
#include "put-off.h"
#include "return-path.h"
#include "round.h"
#include "throttle.h"
#include "vm-private.h"

struct FerrySource {
	FerryVm *vm;
	const FerryTransport *const *transports;
	FerryProgress *progress;
	FerryThrottle *throttle;
	gint cancel;      /* atomic: somebody wants this migration to stop */
	gint switch_over; /* atomic: migrate-start-postcopy came */

	GMutex lock;   /* guards the rest */
	GCond changed; /* of any of it */
	FerryState state;
	char *error_desc;
	char *uri;                 /* of the last migration, as it was given */
	GThread *thread;           /* of the last migration; joined by the next, or by free */
	GCancellable *cancellable; /* of the present migration */
	FerryChannel *channel;     /* published for cancel; NULL outside of a migration */
	FerryReturnPath *path;
	/* the destination may be READY: cancel must not cut the channel, so that it can be told to
	 * discard */
	gboolean prepared;
	gboolean proceed; /* migrate-continue came */
	gboolean quit;    /* the object is being freed */
	gboolean resolving;
	FerryResolve resolve;
	gboolean pausing; /* somebody wants this postcopy to pause */
	/* where to recover it, taken by the migration thread; owned; NULL: not yet */
	char *recover_uri;
	const FerryTransport *recover_transport;
	FerryRehearsal rehearsal; /* of the last migration; zeros where it was none */
};

/* One migration, the migration thread's own. */
typedef struct {
	FerrySource *source;
	FerryVm *vm;
	FerryProgress *progress;
	char *uri;
	const FerryTransport *transport;
	GCancellable *cancellable;
	FerryFabric *fabric;       /* a way for pages beside the channel; NULL: none */
	FerryHeartbeat *heartbeat; /* then around the channel, and closed with it; else NULL */
	FerryChannel *channel;
	FerryReturnPath *path; /* NULL: one-way */
	gboolean ferry_peer;
	guint64 features; /* of HELLO that both sides have */
	guint8 nonce[FERRY_NONCE_SIZE];
	FerryCarrier *carrier;    /* the channel's own */
	FerryMappedPlace *places; /* mapped-ram: one a block; owned; else NULL */
	FerryFabricLink *link;    /* the pages go by its carrier; NULL: by @carrier */
	gboolean carrier_died;    /* the error is that of a carrier */
	FerryBitmap *pending;     /* to send */
	FerryBitmap *collected;   /* scratch */
	FerryHoles *holes;
	FerryPageEncoder *encoder; /* NULL: pages go as they are */
	FerryPace pace;
	FerryBandwidthGroup *group; /* that shares a budget, while precopy runs; else NULL */
	FerryForecast forecast;
	FerryForecastDowntime downtime; /* as of the last collect */
	gint64 collected_us;            /* when that was; 0: not yet */
	FerryPutOff *put_off;
	FerryBitmap *again;    /* what went in any round but the first */
	guint64 accounted;     /* bytes of the carrier that @progress knows of */
	gint64 bookkeeping_us; /* FerryRound's, since the last round was over */
	GThread *tracker; /* starts the dirty tracking; @tracking and @tracker_error are its own */
	GError *tracker_error;
	gboolean tracking;
	gboolean stopped;   /* precopy is over: the last pages go */
	gboolean rehearses; /* and moves nothing */
	gint64 rehearse_us; /* for how long */
	gint64 leave_us;    /* when to leave the round; 0: when it is over */
	guint32 round;
	gboolean postcopy;           /* ADVISE went: it may be switched over early */
	FerryPageRequests *requests; /* then what the destination asks for; else NULL */
	FerryPagePush *push;         /* from the switch on: what goes next; else NULL */
	GByteArray *out;             /* control bytes not yet written */
} FerryOutgoing;

/* Changes the state if it is @from and the table allows it, and sends the event. FALSE if somebody
 * else, such as cancel, moved it. */
gboolean ferry_source_enter(FerrySource *source, FerryState from, FerryState to);
/* The end of a migration that did not succeed: failed with @error, or cancelled. Takes @error
 * over. */
void ferry_source_fail(FerrySource *source, GError *error);
void ferry_source_set_error(FerrySource *source, const char *text);
/* What cancel has to cut. */
void ferry_source_publish(FerrySource *source, FerryChannel *channel, FerryReturnPath *path);

/* A rehearsal is over, with this result: state cancelling, from which it ends as a cancelled one.
 * FALSE if somebody cancelled it before. */
gboolean ferry_source_rehearsed(FerrySource *source, const FerryRehearsal *result, GError **error);

/* The migration thread; takes the FerryOutgoing over. outgoing.c */
gpointer ferry_outgoing_thread(gpointer data);

/* Writes what is in @out to the channel. outgoing.c */
gboolean ferry_outgoing_flush(FerryOutgoing *outgoing, GError **error);

/* Precopy is over: what it had of the group's budget is the others'. outgoing.c */
void ferry_outgoing_leave_group(FerryOutgoing *outgoing);
/* Whether pages are to be made smaller. outgoing.c */
gboolean ferry_outgoing_wants_encoder(FerryOutgoing *outgoing);
/* The way beside the channel that @uri has, where this migration wants one. outgoing.c */
void ferry_outgoing_open_fabric(FerryOutgoing *outgoing);
/* Makes a link's error the reason for which it broke: the carrier's, or the destination's words.
 * Before hanging up. */
void ferry_outgoing_prefer_reason(FerryOutgoing *outgoing, GError **error);

/* The configuration, with the capabilities that both sides must have, and the UUID.
 * outgoing-list.c */
void ferry_outgoing_put_configuration(FerryOutgoing *outgoing);
/* The block list, without EOS; with mapped-ram it gives each block its place. */
gboolean ferry_outgoing_put_list(FerryOutgoing *outgoing, GError **error);
/* A Ferry peer says that the list fits, and how many pages it does not expect, before the first
 * page goes. */
gboolean ferry_outgoing_await_list(FerryOutgoing *outgoing, GError **error);
/* The channel's own carrier. */
gboolean ferry_outgoing_open_carrier(FerryOutgoing *outgoing, GError **error);
/* Clears the pages that do not go (x-ignore-shared). */
void ferry_outgoing_leave_out(FerryOutgoing *outgoing, FerryBitmap *bitmap);

/* Connects, sends the stream's head and finds out who is there. greeting.c */
gboolean ferry_outgoing_greet(FerryOutgoing *outgoing, guint timeout_ms, GError **error);
/* Closes the connection and what hangs on it. */
void ferry_outgoing_hang_up(FerryOutgoing *outgoing);

/* Fails if RDMA is required and the destination, greeted by now, has none. outgoing-carrier.c */
gboolean ferry_outgoing_check_fabric(FerryOutgoing *outgoing, GError **error);
/* Both sides have compared the block list: takes the carrier beside the channel if there is one
 * that works, else the channel's own, and says so. */
gboolean ferry_outgoing_choose_carrier(FerryOutgoing *outgoing, GError **error);
/* The carrier of the pages. */
FerryCarrier *ferry_outgoing_bulk(FerryOutgoing *outgoing);

/* Fails where the destination, greeted by now, cannot take part in a rehearsal.
 * outgoing-rehearsal.c */
gboolean ferry_outgoing_check_rehearsal(FerryOutgoing *outgoing, GError **error);
/* The rehearsal, once everything is set up: its result is the source's. */
gboolean ferry_outgoing_rehearse(FerryOutgoing *outgoing, GError **error);

/* Precopy rounds until the rest fits in the downtime limit. precopy.c */
gboolean ferry_outgoing_precopy(FerryOutgoing *outgoing, GError **error);
/* One more collect and round while the guest is stopped. */
gboolean ferry_outgoing_last_pages(FerryOutgoing *outgoing, GError **error);
/* Begins dirty tracking, beside what else there is to set up: protecting much memory takes as long
 * as connecting a carrier. ferry_outgoing_precopy() waits for it, and tells its failure. */
void ferry_outgoing_track(FerryOutgoing *outgoing);
/* Ends dirty tracking. */
void ferry_outgoing_untrack(FerryOutgoing *outgoing);
/* Every write from here on is seen: pages may be read, and holes looked for. */
gboolean ferry_outgoing_await_tracking(FerryOutgoing *outgoing, GError **error);
/* Sends @pending; collecting it took @collect_us. */
gboolean ferry_outgoing_run_round(FerryOutgoing *outgoing, gint64 collect_us, GError **error);
/* Adds what was written since the last collect to @pending. Collect first, read the pages later: a
 * page written while it is sent is dirty again. */
gboolean ferry_outgoing_collect(FerryOutgoing *outgoing, gint64 *took_us, GError **error);
/* Whether migrate-start-postcopy came. */
gboolean ferry_outgoing_is_switching(FerryOutgoing *outgoing);
/* What sends this round's pages. */
FerryRoundSender ferry_outgoing_sender(FerryOutgoing *outgoing);
/* ROUND_BEGIN or ROUND_END of the present round. */
gboolean ferry_outgoing_send_mark(FerryOutgoing *outgoing, guint16 type, guint64 pages,
				  GError **error);
/* ROUND_END, behind the fence, and the destination's word that it has all of the round. */
gboolean ferry_outgoing_end_round(FerryOutgoing *outgoing, guint64 pages, GError **error);

/* Stops the guest for the switchover; it is in state device then. outgoing.c */
gboolean ferry_outgoing_stop_guest(FerryOutgoing *outgoing, GError **error);

/* Postcopy, until the commit: any error means that the guest stays here. outgoing-switch.c */
/* Offers it to a destination that was greeted; refuses one that cannot, where it is asked for. */
gboolean ferry_outgoing_advise(FerryOutgoing *outgoing, GError **error);
/* Stops the guest, and sends everything but the missing pages; returns at READY. */
gboolean ferry_outgoing_switch(FerryOutgoing *outgoing, GError **error);

/* Whether the destination takes the pages by itself after the commit: it then asks for none. */
gboolean ferry_outgoing_is_pulled(FerryOutgoing *outgoing);
/* From the commit of a switch to the last page, through any number of pauses; the guest never comes
 * back. FALSE: the object is freed before that. outgoing-postcopy.c */
gboolean ferry_outgoing_postcopy(FerryOutgoing *outgoing);

/* While the migration is in postcopy-recover: connects anew, makes @pending what is missing there,
 * and returns at the destination's word that it goes on. outgoing-recover.c */
gboolean ferry_outgoing_recover(FerryOutgoing *outgoing, GError **error);
/* Sleeps in postcopy-paused until somebody recovers it. FALSE: the object is freed. */
gboolean ferry_outgoing_await_recovery(FerryOutgoing *outgoing);

/* Tells the destination that it need not answer questions any more. handover.c */
void ferry_outgoing_farewell(FerryOutgoing *outgoing);

/* Phase one of both hand-overs: the destination has everything, and says so. Any error means that
 * the guest stays here. handover.c */
gboolean ferry_outgoing_prepare(FerryOutgoing *outgoing, gboolean verify_ram, GError **error);

/* From the complete stream to the end of the hand-over; decides who owns the guest. handover.c */
typedef enum {
	FERRY_HANDED_OVER, /* completed */
	FERRY_KEPT,        /* @error says why; the guest stays here */
} FerryHandoverResult;
FerryHandoverResult ferry_outgoing_hand_over(FerryOutgoing *outgoing, FerryOutgoingFate *fate,
					     GError **error);
/* Reads a stored stream back and compares it with RAM, which stands still: FERRY_ERROR_MISMATCH
 * names the first page that differs. read-back.c */
gboolean ferry_outgoing_read_back(FerryOutgoing *outgoing, GError **error);
/* Tells a destination that may be READY to give up, if it can be told. */
void ferry_outgoing_abort(FerryOutgoing *outgoing);
