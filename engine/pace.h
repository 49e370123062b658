/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "cpu-wait.h"
#include "token-bucket.h"

/*
 * Keeps a round at max-bandwidth by the bytes that really leave, and measures what the link does
 * beyond it. A page is paid for when it may go; what it was on the wire, with its header or in
 * another form, is known once it left, and the difference is made good then. The last pages of a
 * round that was held back go at once, as much as the bucket can save up: how long they take is
 * what the link can do. Times are monotonic microseconds; the migration thread's alone.
 */
typedef struct {
	FerryTokenBucket bucket;
	guint64 allowed; /* bytes of pages paid for that have not been seen to leave */
	guint64 left;    /* pages of the round that have not been put */
	guint64 data;    /* of those that were, the ones put as data */
	gint64 held_us;  /* how long the round was held back */
	gint64 tail_us;  /* when its last pages began to go at once; 0: not */
	guint64 tail_data;
	FerryCpuWait tail_wait; /* since tail_us */
} FerryPace;

void ferry_pace_init(FerryPace *pace, gint64 now_us);
/* A round of @pages begins. */
void ferry_pace_begin(FerryPace *pace, guint64 pages);

/* How many of @bytes of pages may go now; 0: none before ferry_pace_delay_us() has passed. With
 * @bytes 0: 1 if anything may go. */
guint64 ferry_pace_allow(FerryPace *pace, gint64 now_us, guint64 bytes);
gint64 ferry_pace_delay_us(FerryPace *pace, gint64 now_us);
/* The round was held back for so long. */
void ferry_pace_held(FerryPace *pace, gint64 us);

/* @pages were put, as data or as zero. */
void ferry_pace_put(FerryPace *pace, guint64 pages, gboolean zero);
/* @bytes left; @all: nothing that was put is still here. */
void ferry_pace_left(FerryPace *pace, guint64 bytes, gboolean all);
