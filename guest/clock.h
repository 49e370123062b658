/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/vmstate.h>

#include "beats.h"
#include "plan.h"
#include "vcpus.h"

/*
 * The clock device: answers the doorbells of the vCPUs (program.h), and thereby sets their pace,
 * and counts their heartbeats. Each line belongs to its vCPU's thread while the guest runs and to
 * the caller of ferry_clock_pause() and _resume() while it does not.
 */
/* Of running time from one heartbeat to the next, unless set otherwise. */
#define FERRY_CLOCK_BEAT_US 5000u

typedef struct {
	/* device state */
	guint64 bursts; /* doorbells answered */
	guint64 beat;   /* the last heartbeat */
	guint64 breaks; /* heartbeats that went back or jumped */
	gint64 beat_in; /* ns of running time until the next; valid while paused */
	/* of this run alone; monotonic ns */
	gint64 beat_at;
	gint64 granted_at; /* when the last burst of pages began */
	gint64 read_at;    /* when @time was read last */
	gint64 wake;       /* when the next burst may begin: rate and throttle */
	/* the vCPU's own time, ns: passes more slowly by the share that the throttle takes away */
	gint64 time;
	gint64 due;      /* of @time: when the rate allows the next page */
	gint64 busy;     /* of @time: what its bursts took so far */
	guint32 granted; /* pages in the last answer */
	guint32 burst;   /* pages that take about a millisecond, as measured */
	guint64 pages;   /* written; atomic, since others read it */
	FerryBeats beats;
} FerryClockLine;

typedef struct {
	FerryClockLine lines[FERRY_VCPUS_MAX];
	/* millionths of its time that are taken away from each vCPU, and from all; atomics */
	gint taken[FERRY_VCPUS_MAX];
	gint taken_all;
	/* of this side alone */
	guint beat_us;    /* FERRY_CLOCK_BEAT_US or what was set; 0 is the former */
	gboolean arrived; /* since it last ran: its heartbeats came elsewhere */
	gint running;     /* atomic */
	gint vcpus;       /* that run or ran here; atomic */
} FerryClock;

extern const FerryVmstate ferry_clock_vmstate;

/* Between them no doorbell is answered. */
void ferry_clock_pause(FerryClock *clock);
void ferry_clock_resume(FerryClock *clock, guint vcpus);

/*
 * Takes @percent of its time, 0 to 99, away from each vCPU: one that writes as fast as it can, and
 * one that writes at a rate, both write that much less. Of the two throttles the stronger holds; a
 * change acts within a heartbeat. Any thread.
 */
void ferry_clock_throttle(FerryClock *clock, guint percent);
/* From one vCPU alone; up to 99.99, and fractions count. */
void ferry_clock_throttle_vcpu(FerryClock *clock, guint vcpu, double percent);

/* How many pages vCPU @vcpu wrote since the guest was made, wherever; each write counts, and a
 * burst that is under way comes when it ends. Any thread. */
guint64 ferry_clock_pages(const FerryClock *clock, guint vcpu);

/* While paused: the vCPU itself says how many. */
void ferry_clock_set_pages(FerryClock *clock, guint vcpu, guint64 pages);

/* us of running time from one heartbeat to the next. */
guint ferry_clock_beat_us(const FerryClock *clock);

/* Sleeps until vCPU @vcpu has something to do, or until stopping; returns the doorbell's answer. */
guint32 ferry_clock_doorbell(FerryClock *clock, FerryVcpus *vcpus, const FerryPlan *plan,
			     guint vcpu);

/* Takes the low half of a heartbeat. */
void ferry_clock_beat(FerryClock *clock, guint vcpu, guint32 value);
