/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "capture.h"
#include "doorman.h"

/*
 * A migration over several connections: the stream's, and those of multifd, whose pages it puts
 * into the capture. Each of these has a thread of its own. Where a section of the stream ends they
 * all wait for each other, since the same page may come over another one next.
 */
typedef struct FerryChannelGroup FerryChannelGroup;

/*
 * Takes @listener, and lets in @n channels and, unless it is there already as @stream (borrowed),
 * the stream. With @n of 0 it is there to say what is wrong should one come. Nobody else is let
 * in. @capture is borrowed.
 */
FerryChannelGroup *ferry_channel_group_new(FerryListener *listener, guint n, FerryChannel *stream,
					   FerryCapture *capture);
/* Hangs up on all but the stream, which is shut down. NULL is allowed. */
void ferry_channel_group_free(FerryChannelGroup *group);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryChannelGroup, ferry_channel_group_free)

/* Waits for the connection of the stream. Its channel is the caller's to close, after the group;
 * the struct is the group's. */
FerryConnection *ferry_channel_group_await_stream(FerryChannelGroup *group, GError **error);

/* A section of the stream ended, the first one after the capture has its blocks: waits until every
 * channel brought what belongs to it. @last: no pages come after it. */
gboolean ferry_channel_group_end_section(FerryChannelGroup *group, gboolean last, GError **error);

/* FALSE if a channel failed, or one came that must not: whatever the stream said, it is not whole.
 * A stream that is being read is shut down then. */
gboolean ferry_channel_group_check(FerryChannelGroup *group, GError **error);

/* After a failure: shuts the stream down, and waits, for some seconds at most, until the source has
 * seen it and hung up on the channels. */
void ferry_channel_group_await_source(FerryChannelGroup *group);

/* Pages that came over the channels. */
guint64 ferry_channel_group_pages(FerryChannelGroup *group);
