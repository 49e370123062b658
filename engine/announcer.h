/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/destination.h>

/*
 * Tells the network, by the embedder's callback, that a guest is here: several times, at growing
 * intervals, since one may get lost. Its thread ends after the last time, when the guest leaves, or
 * with the object. Any thread.
 */
typedef struct FerryAnnouncer FerryAnnouncer;

FerryAnnouncer *ferry_announcer_new(FerryVm *vm); /* @vm is borrowed */
/* Waits for a call of the callback that is under way. */
void ferry_announcer_free(FerryAnnouncer *announcer);

/* The first time at once, in the announcer's thread. What is left of an earlier start is
 * dropped. */
void ferry_announcer_start(FerryAnnouncer *announcer, const FerryAnnouncement *times);

/* ms from announcement @n to the next, counted from 1. */
guint64 ferry_announcer_wait(const FerryAnnouncement *times, guint64 n);
