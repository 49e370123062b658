/* SPDX-License-Identifier: BSD-2-Clause */
#include "beats.h"

#include <time.h>

/* Each store releases the odd number before it, so that a reader that sees one of them, which it
 * acquires, sees a changed number too. No fences: the thread sanitizer knows none. */
#define PUT(field, value) __atomic_store_n(&(field), value, __ATOMIC_RELEASE)
#define GET(field) __atomic_load_n(&(field), __ATOMIC_ACQUIRE)

static void write_times(FerryBeats *beats, const FerryBeatTimes *times)
{
	const guint sequence = beats->sequence;

	__atomic_store_n(&beats->sequence, sequence + 1, __ATOMIC_RELAXED);
	PUT(beats->times.heartbeat, times->heartbeat);
	PUT(beats->times.count, times->count);
	PUT(beats->times.first_ns, times->first_ns);
	PUT(beats->times.last_ns, times->last_ns);
	PUT(beats->times.gap_us, times->gap_us);
	PUT(beats->times.gap_begin_ns, times->gap_begin_ns);
	PUT(beats->sequence, sequence + 2);
}

void ferry_beats_begin(FerryBeats *beats, guint64 heartbeat)
{
	const FerryBeatTimes none = { .heartbeat = heartbeat };

	write_times(beats, &none);
}

void ferry_beats_add_at(FerryBeats *beats, guint64 heartbeat, gint64 real_ns, gint64 now_us)
{
	FerryBeatTimes times = beats->times;

	if (!times.count++) {
		times.first_ns = real_ns;
	} else if (now_us - beats->last_us > times.gap_us) {
		times.gap_us = now_us - beats->last_us;
		times.gap_begin_ns = times.last_ns;
	}
	times.heartbeat = heartbeat;
	times.last_ns = real_ns;
	beats->last_us = now_us;
	write_times(beats, &times);
}

void ferry_beats_add(FerryBeats *beats, guint64 heartbeat)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	ferry_beats_add_at(beats, heartbeat, now.tv_sec * 1000000000ll + now.tv_nsec,
			   g_get_monotonic_time());
}

FerryBeatTimes ferry_beats_read(const FerryBeats *beats)
{
	FerryBeatTimes times;
	guint before, after;

	do {
		before = GET(beats->sequence);
		times.heartbeat = GET(beats->times.heartbeat);
		times.count = GET(beats->times.count);
		times.first_ns = GET(beats->times.first_ns);
		times.last_ns = GET(beats->times.last_ns);
		times.gap_us = GET(beats->times.gap_us);
		times.gap_begin_ns = GET(beats->times.gap_begin_ns);
		after = __atomic_load_n(&beats->sequence, __ATOMIC_RELAXED);
	} while (before != after || before % 2);
	return times;
}
