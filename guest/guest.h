/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/vm.h>

#include "beats.h"

/*
 * A reference guest: RAM, devices, a dirty source and the FerryVm around them, for the command line
 * and the benches. An embedder of the public API and no more. Its RAM is self-checking:
 * ferry_guest_check() finds any page that is not what the guest last wrote there.
 */
typedef struct FerryGuest FerryGuest;

typedef enum {
	FERRY_GUEST_AUTO, /* KVM where it runs, else process */
	FERRY_GUEST_KVM,
	FERRY_GUEST_PROCESS,
} FerryGuestKind;

/* What RAM holds at first. */
typedef enum {
	FERRY_GUEST_FILL_PAGES,  /* self-checking pages */
	FERRY_GUEST_FILL_RANDOM, /* incompressible */
	FERRY_GUEST_FILL_ZERO,
	FERRY_GUEST_FILL_SPARSE, /* as PAGES; a write changes 64 bytes of a page */
	FERRY_GUEST_FILL_HOLES,  /* as ZERO, untouched where the backing is new */
} FerryGuestFill;

/* Zeroed but for ram_size it is a guest that idles. Strings are copied. */
typedef struct {
	guint64 ram_size; /* bytes; 1 MiB to 512 GiB, a multiple of the backing's page size */
	FerryGuestKind kind;
	guint vcpus;         /* 1 to 8; 0 is 1 */
	const char *backing; /* "memfd" (NULL), "anon", "hugetlb", or a file's path */
	gboolean prealloc;   /* memory is behind every page, and mapped, before anything else */
	/* "wp-async", "wp-fault", "soft-dirty"; "kvm-log" of a KVM guest; "auto" and NULL: kvm-log,
	 * or the best one of a process guest */
	const char *dirty_source;
	gboolean incoming; /* waits for a guest: touches no RAM, what follows comes too */
	FerryGuestFill fill;
	/* "idle" (NULL), "sweep[:RATE]", "random[:RATE]", "hotset:SIZE[:RATE]"; RATE in MiB/s, SIZE
	 * as 64M */
	const char *workload;
	guint64 seed;
	const guint8 *uuid; /* 16 bytes; NULL: none */
	guint beat_us;      /* from one heartbeat to the next, 500 to 1000000; 0: 5000 */
} FerryGuestConfig;

/*
 * Makes a guest that is stopped (run state prelaunch): ferry_vm_start() runs it. The two kinds
 * cannot load one another: their machines have different names. A KVM guest's vCPU threads use
 * SIGUSR1 among themselves, without a handler and without touching the process's disposition or
 * other threads. FERRY_ERROR_INVALID names the wrong setting; FERRY_ERROR_NOSUPP what the host
 * lacks; FERRY_ERROR_IO.
 */
FerryGuest *ferry_guest_new(const FerryGuestConfig *config, GError **error);

/* No source, destination or QMP of its FerryVm may be left. NULL is allowed. */
void ferry_guest_free(FerryGuest *guest);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryGuest, ferry_guest_free)

/* Owned by the guest. */
FerryVm *ferry_guest_vm(FerryGuest *guest);

/* "KVM guest", or "process guest" and, where KVM was asked for by AUTO and cannot run, why. */
const char *ferry_guest_kind_reason(FerryGuest *guest);

/* How often it was announced to the network since it was made. Any thread. */
guint ferry_guest_announced(FerryGuest *guest);

#define FERRY_GUEST_VCPUS_MAX 8u

/*
 * How the guest fares, as it goes: nothing is stopped, checked or waited for. All times are of this
 * side: what they say begins with the guest's start or arrival here, and stays when it has left.
 */
typedef struct {
	gboolean running;
	guint beat_us; /* of running time from one heartbeat to the next */
	/* Pages that the vCPUs wrote since the guest was made, wherever; each write counts. A burst
	 * of about a millisecond that is under way comes when it ends. 0 until the guest runs. */
	guint64 written;
	guint n_vcpus; /* 0 until the guest runs */
	FerryBeatTimes vcpus[FERRY_GUEST_VCPUS_MAX];
} FerryGuestPulse;

/* Any thread, at any time; takes some hundred nanoseconds. */
void ferry_guest_pulse(FerryGuest *guest, FerryGuestPulse *pulse);

/* FerryGuestPulse.written alone. */
guint64 ferry_guest_written(FerryGuest *guest);

#define FERRY_GUEST_FINDINGS_MAX 8u

typedef struct {
	gboolean passed; /* nothing at all was found */
	guint64 pages;   /* all of RAM */
	guint64 bad_pages;
	guint64 written;   /* pages that the vCPUs wrote since the guest was made */
	guint64 heartbeat; /* of vCPU 0 */
	guint64 faults;    /* what the guest's program itself found wrong while it ran */
	guint n_findings;  /* the first few, one line each: where and what */
	char findings[FERRY_GUEST_FINDINGS_MAX][200];
} FerryGuestReport;

/*
 * Compares all of RAM, the vCPUs and the devices with what they must be at the guest's progress.
 * Holds a running guest for as long as it takes; a switchover waits for it. Any thread.
 * TRUE if it could be carried out: @report->passed has the result. FERRY_ERROR_STATE while no guest
 * is here.
 */
gboolean ferry_guest_check(FerryGuest *guest, FerryGuestReport *report, GError **error);
