/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/vmstate.h>

#include "plan.h"
#include "vcpus.h"

/*
 * The clock device: answers the doorbells of the vCPUs (program.h), and thereby sets their pace,
 * and counts their heartbeats. Each line belongs to its vCPU's thread while the guest runs and to
 * the caller of ferry_clock_pause() and _resume() while it does not.
 */
#define FERRY_CLOCK_BEAT_NS 5000000 /* of running time from one heartbeat to the next */

typedef struct {
	/* device state */
	guint64 bursts; /* doorbells answered */
	guint64 beat;   /* the last heartbeat */
	guint64 breaks; /* heartbeats that went back or jumped */
	gint64 beat_in; /* ns of running time until the next; valid while paused */
	/* of this run alone; monotonic ns */
	gint64 beat_at;
	gint64 granted_at; /* when the last burst of pages began */
	gint64 due;        /* when the rate allows the next page */
	gint64 wake;       /* when the next burst may begin: rate and throttle */
	guint32 granted;   /* pages in the last answer */
	guint32 burst;     /* pages that take about a millisecond, as measured */
} FerryClockLine;

typedef struct {
	FerryClockLine lines[FERRY_VCPUS_MAX];
	gint throttle; /* percent; atomic */
} FerryClock;

extern const FerryVmstate ferry_clock_vmstate;

/* Between them no doorbell is answered. */
void ferry_clock_pause(FerryClock *clock);
void ferry_clock_resume(FerryClock *clock);

/* Slows all vCPUs down by @percent, 0 to 99; acts within a heartbeat. Any thread. */
void ferry_clock_throttle(FerryClock *clock, guint percent);

/* Sleeps until vCPU @vcpu has something to do, or until stopping; returns the doorbell's answer. */
guint32 ferry_clock_doorbell(FerryClock *clock, FerryVcpus *vcpus, const FerryPlan *plan,
			     guint vcpu);

/* Takes the low half of a heartbeat. */
void ferry_clock_beat(FerryClock *clock, guint vcpu, guint32 value);
