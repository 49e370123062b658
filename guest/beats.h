/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/*
 * When the heartbeats of one vCPU came, in the host's time: the guest's own view of how long it
 * stood still. Belongs to this side, and never travels. One thread writes, any thread reads, and
 * neither waits for the other: a sequence lock of atomics.
 */
typedef struct {
	guint64 heartbeat;   /* the last one's number, which goes on across migrations */
	guint64 count;       /* heartbeats that came on this side */
	gint64 first_ns;     /* CLOCK_REALTIME of the first of them; 0: none yet */
	gint64 last_ns;      /* and of the last */
	gint64 gap_us;       /* the longest time between two of them */
	gint64 gap_begin_ns; /* CLOCK_REALTIME of the one before it; 0: there were no two */
} FerryBeatTimes;

typedef struct {
	guint sequence; /* odd while a writer is at it */
	FerryBeatTimes times;
	gint64 last_us; /* g_get_monotonic_time() of the last; the writer's own: a gap is no change
			 * of the host's clock */
} FerryBeats;

/* Forgets what was: a guest came whose last heartbeat, elsewhere, was number @heartbeat. */
void ferry_beats_begin(FerryBeats *beats, guint64 heartbeat);

/* Heartbeat number @heartbeat came just now. */
void ferry_beats_add(FerryBeats *beats, guint64 heartbeat);

/* The same, at a time that the caller knows: CLOCK_REALTIME, and g_get_monotonic_time(). */
void ferry_beats_add_at(FerryBeats *beats, guint64 heartbeat, gint64 real_ns, gint64 now_us);

/* All of one moment. Any thread. */
FerryBeatTimes ferry_beats_read(const FerryBeats *beats);
