/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "capture.h"
#include "channel-group.h"
#include "missing.h"
#include "stopper.h"

/* Device state that is taken into memory at most, with its description. */
#define FERRY_RECEIVER_DEVICES_MAX (512u << 20)

/* A monitor's migration on its way into a capture. One thread uses it. */
typedef struct {
	FerryListener *listener; /* NULL once the source cannot come again; owned */
	FerryChannel *channel;   /* NULL while nobody is connected; owned */
	FerryStreamReader *reader;
	FerryCapture *capture; /* borrowed */
	FerryRamReader ram;
	gboolean return_path; /* the source opened it: it waits for SHUT */
	guint multifd;        /* channels that are to come */
	/* From the begin with @multifd, else from where nobody else may come; owns the listener
	 * then. NULL: nothing can come but the stream. */
	FerryChannelGroup *group;
	guint64 pages;
	guint64 zero_pages;
	guint64 xbzrle_pages;     /* of pages: came as differences */
	guint64 compressed_pages; /* of pages: came deflated */
	guint devices;            /* sections */

	/* postcopy */
	gboolean advised;
	/* NULL before the first RAM_DISCARD; with it the source is beyond its return by itself */
	FerryMissing *missing;
	gboolean switched;        /* the package is here */
	gboolean resuming;        /* RESUME has not come yet on this connection */
	GError *refused;          /* the guest is to go back to the source: why; or NULL */
	guint64 late_pages;       /* pages that came after the switch */
	FerryCliStopper *stopper; /* as long as missing */
	guint signals;            /* of the stopper's, dealt with */
} FerryReceiver;

/* Gives up what it owns, but the memory of @r. */
void ferry_receiver_clear(FerryReceiver *r);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(FerryReceiver, ferry_receiver_clear)

/* Takes @channel over, in the place of an earlier one; NULL: hangs up. */
void ferry_receiver_set_channel(FerryReceiver *r, FerryChannel *channel);

/* From the stream's first byte until the guest is whole on the disk and the source knows it. */
gboolean ferry_receiver_take_guest(FerryReceiver *r, GError **error);

/* ---- among its files ---- */

/* Of a channel over a file: where in it the stream begins. */
void ferry_receiver_find_begin(FerryReceiver *r);
/* Gets the pages that have places in the file (mapped-ram), once the blocks are made. */
gboolean ferry_receiver_take_places(FerryReceiver *r, GError **error);

/* Sets @error; FALSE. */
gboolean ferry_receiver_refuse(GError **error, FerryErrorCode code, const char *what);

/* Makes @reader fail, and says so in @error; FALSE. */
gboolean ferry_receiver_fail(FerryStreamReader *reader, GError **error, const char *format, ...)
	G_GNUC_PRINTF(3, 4);

/* SHUT, PONG or RESUME_ACK to the source. */
gboolean ferry_receiver_answer(FerryReceiver *r, FerryReturnType type, guint32 value,
			       GError **error);

/* A PING's data, and the PONG. @reader: the stream's or the package's. */
gboolean ferry_receiver_take_ping(FerryReceiver *r, FerryStreamReader *reader,
				  const FerryStreamElement *ping, GError **error);

/* A section of RAM behind its header, with its footer. */
gboolean ferry_receiver_take_section(FerryReceiver *r, const FerryStreamElement *element,
				     GError **error);

/* An XBZRLE or COMPRESSED page: its data, which is next in the stream, into the page at @page,
 * which has the version that was there before. */
gboolean ferry_receiver_take_encoded(FerryReceiver *r, const FerryRamItem *item, guint8 *page,
				     GError **error);

/* The device sections of precopy, the EOF byte and the description. */
gboolean ferry_receiver_take_devices(FerryReceiver *r, GError **error);

/* PACKAGED's data and the package. */
gboolean ferry_receiver_take_package(FerryReceiver *r, const FerryStreamElement *element,
				     GError **error);

/* The commands 3 to 10 of the main stream; others are refused by their number. */
gboolean ferry_receiver_take_postcopy_command(FerryReceiver *r, const FerryStreamElement *element,
					      GError **error);

/* A page that came after the first RAM_DISCARD; PAGE: its bytes are next in the stream. */
gboolean ferry_receiver_take_late_page(FerryReceiver *r, const FerryRamItem *item, GError **error);

/*
 * After the first RAM_DISCARD to the end, through cuts. @failure (taken, or NULL): what ended the
 * connection so far.
 */
gboolean ferry_receiver_take_rest(FerryReceiver *r, GError *failure, GError **error);
