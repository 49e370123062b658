/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/settings.h>
#include "postcopy-ram.h"
#include "reply.h"

/*
 * The thread that stands behind a guest whose pages are missing: it asks the source for what the
 * guest waits for, or, over a carrier that pulls, fetches that and then all the rest, and says when
 * every page has come.
 */
typedef struct FerryFaults FerryFaults;

typedef struct {
	FerryPostcopyRam *postcopy;
	const FerryRam *ram;
	FerryReplies *replies;
	FerryCarrier *pulls; /* fetches; NULL: the source sends */
	/* whose max-postcopy-bandwidth holds for what is fetched and nobody waits for */
	FerrySettings *settings;
} FerryFaultsConfig;

/* What @config points to is borrowed until stop(). */
FerryFaults *ferry_faults_start(const FerryFaultsConfig *config);

/* Within 20 ms; from then on nobody asks, and the carrier is the caller's. NULL is allowed. */
void ferry_faults_stop(FerryFaults *faults);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryFaults, ferry_faults_stop)
