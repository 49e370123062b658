/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>
#include "bench-figure.h"

/*
 * The hot paths one by one, without a migration around them. It measures what is inside of the
 * library, and so sees it as the tests do; nothing else in bench/ does.
 */

/* What the cases work on: made once, only read, borrowed by all of them. */
typedef struct {
	gsize size;     /* bytes of each of the three, a multiple of FERRY_PAGE_SIZE */
	guint8 *zero;   /* zero, and populated */
	guint8 *random; /* no page has a zero byte at its begin */
	guint8 *late;   /* zero but for the last byte of each page */
	gsize cached;   /* bytes at the begin of each that fit into a core's cache */
	guint64 guest;  /* bytes of the RAM whose dirty bitmap is scanned */
	guint64 *scrap; /* where a result goes that nobody wants */
} FerryMicroMemory;

/* All of @size bytes of three kinds; 0 is what fits no cache. NULL where there is no memory. */
FerryMicroMemory *ferry_micro_memory_new(gsize size);
void ferry_micro_memory_free(FerryMicroMemory *memory);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryMicroMemory, ferry_micro_memory_free)

/* A hot path with one kind of input. */
typedef struct {
	const char *name; /* "zero-test/late"; NULL ends a table */
	/* @variant is the case's; what it returns is given to the others */
	gpointer (*begin)(const FerryMicroMemory *memory, guint variant);
	guint64 (*pass)(gpointer state); /* once over the input; pages that it dealt with */
	void (*end)(gpointer state);
	guint variant;
} FerryMicroCase;

extern const FerryMicroCase ferry_micro_scan_cases[];
extern const FerryMicroCase ferry_micro_zero_cases[];
extern const FerryMicroCase ferry_micro_codec_cases[];
extern const FerryMicroCase ferry_micro_frame_cases[];

/* How long it takes. */
typedef struct {
	guint runs;   /* of each case, in turn with the others' */
	guint run_us; /* at least, of processor time */
} FerryMicroPlan;

typedef struct {
	const FerryMicroCase *of;
	FerryBenchFigure bytes;        /* of guest RAM, a second */
	FerryBenchFigure ns;           /* a page */
	FerryBenchFigure instructions; /* a page; no runs where they are not counted */
} FerryMicroResult;

/* Those of @cases (of const FerryMicroCase *), in its order, as an array of FerryMicroResult; free
 * with g_array_unref(). *@why_uncounted (free it): why the processor's instructions could not be
 * counted, or NULL. */
GArray *ferry_micro_measure(const GPtrArray *cases, const FerryMicroMemory *memory,
			    const FerryMicroPlan *plan, char **why_uncounted);
