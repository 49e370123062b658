/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>

/*
 * First touch of the destination's RAM, ahead of the stream, so that the receiver need not take a
 * page fault for each page. It only ever touches memory near data that really comes: a guest of
 * zeros stays unpopulated. A hint throughout: nothing depends on it for its result.
 */
typedef struct FerryPopulate FerryPopulate;

/* @ram is borrowed until ferry_populate_stop(). Never fails. */
FerryPopulate *ferry_populate_start(const FerryRam *ram);

/* The receiver is about to write the run. Never blocks for long. One thread at a time. */
void ferry_populate_need(FerryPopulate *populate, const FerryRun *run);

/* Ends it and frees; when it returns no thread of it touches RAM. NULL is allowed. */
void ferry_populate_stop(FerryPopulate *populate);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryPopulate, ferry_populate_stop)
