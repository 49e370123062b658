/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/destination.h>
#include <ferry/source.h>
#include "bench-fault.h"
#include "bench-ram.h"

/*
 * Whole postcopy migrations through the public interface, of a guest that has one block of RAM, no
 * devices and nobody who writes. It tells its dirty pages to be all of them, at all times: so all
 * of its RAM is missing at the switch, whatever went before it.
 */
typedef struct {
	FerryBenchFaultMode mode; /* not the floor */
	gboolean background;      /* else nothing comes that nobody waits for, until lift() */
	guint64 ram;              /* bytes */
	guint64 faults;           /* of an idle measurement */
} FerryBenchFaultShape;

/* "rdma" or "tcp": of the URI that the mode's destination listens on. */
const char *ferry_bench_fault_scheme(FerryBenchFaultMode mode);

/* ---- the source ---- */

typedef struct FerryBenchFaultSender FerryBenchFaultSender;

/* Migrates a guest of @ram to @uri, and returns once it has been switched over. @ram is
 * borrowed. */
FerryBenchFaultSender *ferry_bench_fault_sender_new(const FerryBenchRam *ram, const char *uri,
						    const FerryBenchFaultShape *shape,
						    GError **error);
void ferry_bench_fault_sender_lift(FerryBenchFaultSender *sender);
/* Waits for the end. */
gboolean ferry_bench_fault_sender_finish(FerryBenchFaultSender *sender, GError **error);
void ferry_bench_fault_sender_free(FerryBenchFaultSender *sender);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryBenchFaultSender, ferry_bench_fault_sender_free)

/* ---- the destination ---- */

typedef struct FerryBenchFaultTaker FerryBenchFaultTaker;

/* Listens on @uri. */
FerryBenchFaultTaker *ferry_bench_fault_taker_new(const char *uri,
						  const FerryBenchFaultShape *shape,
						  GError **error);
/* What a source must be given; free with g_free(). */
char *ferry_bench_fault_taker_uri(FerryBenchFaultTaker *taker);
/* Waits until the guest has touched its pages. */
gboolean ferry_bench_fault_taker_measure(FerryBenchFaultTaker *taker, FerryBenchLatency *felt,
					 GError **error);
void ferry_bench_fault_taker_lift(FerryBenchFaultTaker *taker);
void ferry_bench_fault_taker_get_status(FerryBenchFaultTaker *taker, FerryMigrationStatus *status);
void ferry_bench_fault_taker_free(FerryBenchFaultTaker *taker);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryBenchFaultTaker, ferry_bench_fault_taker_free)
