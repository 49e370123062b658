/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/transport.h>

/*
 * A transport "fake:URI" around another, with a fabric that is a copy inside this process. What the
 * source puts is copied when it puts it and lies in wait: nothing of it is in the destination's RAM
 * before await_fence() of a fence behind it. After a switch a run lands when it is put, or when the
 * destination, which fetched it, looks. One of them at a time in a process.
 */
typedef struct {
	/* What goes wrong; all 0: nothing. */
	gboolean unable;       /* the source's share_ram() fails at once */
	gboolean refuse;       /* the destination says no */
	gboolean hang;         /* the destination does not answer the offer */
	guint die_at;          /* the source's carrier dies with this run, counted from 1 */
	guint die_there_at;    /* the destination's dies when that many runs were put */
	gboolean die_in_fence; /* the source's dies behind settle(), on a thread of its own */
	guint close_ms;        /* both take so long to close */
	guint put_us;          /* a put takes so long */
	gint silent;           /* atomic: the channel swallows everything, both ways */
	gint busy_ms;          /* atomic: the next await_fence() takes so long */
	gboolean pulls;        /* after a switch the destination fetches */
	guint full_every;      /* each so many-th urgent() or fetch() finds no room */

	/* What happened; atomics. */
	gint puts;
	gint fences; /* awaited, and reached */
	gint quiesced;
	gint closed; /* carriers */
	gint late;   /* runs put after quiesce */
	gint urgent; /* runs that went, or were fetched, as urgent */
	gint unwanted;
} FakeFabric;

/* The table with "fake:" alone; @fabric is borrowed. */
const FerryTransport *const *fake_fabric_transports(FakeFabric *fabric);
