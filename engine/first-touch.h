/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/carrier.h>
#include <ferry/ram.h>

/*
 * Puts the stream's bytes into the destination's RAM, the cheap way where memory is touched for the
 * first time. A page of a memfd or tmpfs file that was never touched is written through the file:
 * the kernel then need not clear it first, nor take a fault for each page. Measured on fresh tmpfs
 * against reading straight into the mapping: 1.5 times the throughput for two thirds of the CPU
 * time; better too than populating the mapping first, in line or by a thread ahead. The guest's
 * page tables fill when it runs. Anonymous memory is populated a run at a time. Memory touched
 * before is read into directly.
 */
typedef struct FerryFirstTouch FerryFirstTouch;

/* @ram is borrowed until free, which writes what is still under way. Never fails. */
FerryFirstTouch *ferry_first_touch_new(const FerryRam *ram);
/* NULL is allowed. */
void ferry_first_touch_free(FerryFirstTouch *touch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryFirstTouch, ferry_first_touch_free)

/* Wants to know of each piece once it is in RAM: called in whichever thread wrote it. */
typedef void (*FerryLandedFunc)(gpointer user, const FerryRun *run);
void ferry_first_touch_on_landed(FerryFirstTouch *touch, FerryLandedFunc landed, gpointer user);

/* Reads exactly @len bytes with @read to @buf: what a carrier's receive() wants done. Until the
 * first ferry_first_touch_settle() long reads may land after it returned. @buf may be anywhere;
 * outside of RAM it is a plain read. The guest must not run. FERRY_ERROR_IO where the file has no
 * room for the page; else the error of @read. One thread at a time. */
gboolean ferry_first_touch_read(FerryFirstTouch *touch, void *buf, size_t len,
				FerryReadExactly read, gpointer user, GError **error);

/* Waits until everything that was read is in RAM; from then on reads land before they return. Fails
 * with the first error of a write that came after its read had returned. */
gboolean ferry_first_touch_settle(FerryFirstTouch *touch, GError **error);
