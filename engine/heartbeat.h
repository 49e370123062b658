/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/channel.h>
#include <ferry/protocol.h>

/*
 * A channel around the control channel, for connections whose pages go beside it: there a peer that
 * is stopped or cut off shows by nothing else. Until started it passes everything through. From
 * then on a thread of its own writes: whole frames go into a queue, and it says HEARTBEAT where
 * nothing was written for a while. Reads pass through; a peer that says nothing for 1.5 s while our
 * reader waits for it is given up: every read and write then fails with the reason.
 *
 * While it is started any thread may write whole frames; else the rules of FerryChannel hold.
 */
typedef struct FerryHeartbeat FerryHeartbeat;

typedef enum {
	FERRY_HEARTBEAT_FORTH, /* at the source: records are data of commands */
	FERRY_HEARTBEAT_BACK,  /* at the destination: of messages */
} FerryHeartbeatWay;

/* Takes @inner over. Freed by closing its channel. */
FerryHeartbeat *ferry_heartbeat_new(FerryChannel *inner, FerryHeartbeatWay way);

/* What everybody uses in place of the inner channel. Its carriers write through it. */
FerryChannel *ferry_heartbeat_channel(FerryHeartbeat *heartbeat);

/* The thread that writes until now calls it, at a frame's edge. No effect where it is started. */
void ferry_heartbeat_start(FerryHeartbeat *heartbeat);

/* Writes out what is queued and passes through again; a channel that has not taken all of it within
 * @timeout_us is shut down. Nobody else may write meanwhile. No effect where it is not started. */
void ferry_heartbeat_stop(FerryHeartbeat *heartbeat, gint64 timeout_us);

/* Queues one record. Any thread; never blocks. FALSE: no room now, or not started, or at its
 * end. */
gboolean ferry_heartbeat_say(FerryHeartbeat *heartbeat, guint16 type, const void *payload,
			     size_t len);

/* Gives the connection up for @reason (taken over): what is queued is still written, then the
 * channel is shut down, and every read and write fails with @reason. Any thread; does not wait. The
 * first reason stays. */
void ferry_heartbeat_give_up(FerryHeartbeat *heartbeat, GError *reason);
