/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/settings.h>
#include "postcopy-ram.h"
#include "reply.h"

/*
 * The thread that stands behind a guest whose pages are missing, from LISTEN on: loading a device
 * may need one. It asks the source for what somebody waits for, or fetches it, over a carrier that
 * pulls. Once the guest runs it also fetches all the rest there, and says when every page has come.
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

/* The guest runs: once. */
void ferry_faults_run(FerryFaults *faults);

/* Within 20 ms; from then on nobody asks, and the carrier is the caller's. NULL is allowed. */
void ferry_faults_stop(FerryFaults *faults);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryFaults, ferry_faults_stop)
