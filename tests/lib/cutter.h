/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/transport.h>

/*
 * A transport "cut:" that wraps another for the source's side and breaks the link at a chosen byte:
 * every write up to it arrives, what the peer answered meanwhile may arrive, and then nothing does.
 * With a cut on the way back the source reads up to the byte and then sees the end.
 */
typedef enum {
	CUT_NOTHING,
	CUT_FORTH, /* after so many bytes from source to destination */
	CUT_BACK,  /* after so many bytes from destination to source */
} CutWhere;

typedef struct {
	CutWhere where;
	guint64 at;
	gint whole_from; /* connections from this number on, counted from 0, are whole; 0: none */
	guint64 later;   /* where connections after the first are cut */
	const FerryTransport *const *under; /* what is wrapped; NULL for ferry_transports() */
	void (*finished)(
		gpointer
			/* called when a one-way channel took the last byte; NULL for nothing */
			user);
	gpointer user;
	/* atomics, for the test to read */
	gint cuts; /* how often the cut happened */
	gint connections;
	guint64 forth; /* bytes of the last connection */
	guint64 back;
} Cutter;

/* The table for a source: "cut:URI". @cutter is borrowed; one at a time in a process. */
const FerryTransport *const *cutter_transports(Cutter *cutter);
