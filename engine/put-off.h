/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "bitmap.h"

/*
 * Pages that are written all the time need not go in every round: what was written before each of
 * the last two collects waits for the next one, and in the end for the stop. One that was not
 * written again since goes with the next round. They stay pending: taken out of a round's bitmap,
 * and given back behind it. The migration thread's alone.
 */
typedef struct FerryPutOff FerryPutOff;

FerryPutOff *ferry_put_off_new(const FerryRam *ram);
/* NULL is allowed. */
void ferry_put_off_free(FerryPutOff *put_off);

/* A collect found @dirtied. */
void ferry_put_off_collected(FerryPutOff *put_off, const FerryBitmap *dirtied);

/* Takes at most @most pages out of @pending, which holds all that was collected; returns how many.
 * Each of them must be given back before the next collect. */
guint64 ferry_put_off_take(FerryPutOff *put_off, FerryBitmap *pending, guint64 most);
void ferry_put_off_give_back(FerryPutOff *put_off, FerryBitmap *pending);
