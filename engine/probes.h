/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/*
 * Static probes (USDT) of provider `ferry`, for bpftrace, perf and SystemTap: a nop each while
 * nobody is attached, and nothing at all where the library is built without them (-Dprobes). Names
 * and arguments are an interface: docs/observability.md has the table, and a test compares it with
 * the library. Strings are valid for the time of the probe. None is hit for each page that moves;
 * page_request and page_fault are, for each page that a guest waits for after an early switch.
 */
#ifdef FERRY_HAVE_PROBES
#include <sys/sdt.h>
#define FERRY_PROBE1(name, a) STAP_PROBE1(ferry, name, a)
#define FERRY_PROBE2(name, a, b) STAP_PROBE2(ferry, name, a, b)
#define FERRY_PROBE3(name, a, b, c) STAP_PROBE3(ferry, name, a, b, c)
#define FERRY_PROBE5(name, a, b, c, d, e) STAP_PROBE5(ferry, name, a, b, c, d, e)
#else
#define FERRY_PROBE1(name, a) ((void)(a))
#define FERRY_PROBE2(name, a, b) ((void)(a), (void)(b))
#define FERRY_PROBE3(name, a, b, c) ((void)(a), (void)(b), (void)(c))
#define FERRY_PROBE5(name, a, b, c, d, e) ((void)(a), (void)(b), (void)(c), (void)(d), (void)(e))
#endif

/* The migration at @side (0 source, 1 destination) changed its state; the names are QMP's. */
static inline void ferry_probe_state(guint32 side, const char *from, const char *to)
{
	FERRY_PROBE3(state, side, from, to);
}

/* It is over, in state @state; @reason is NULL where it completed. */
static inline void ferry_probe_end(guint32 side, const char *state, const char *reason)
{
	FERRY_PROBE3(end, side, state, reason);
}

static inline void ferry_probe_round_begin(guint64 round, guint64 pages, gint64 collect_us)
{
	FERRY_PROBE3(round_begin, round, pages, collect_us);
}

static inline void ferry_probe_round_end(guint64 round, guint64 normal, guint64 zero, guint64 bytes,
					 gint64 time_us)
{
	FERRY_PROBE5(round_end, round, normal, zero, bytes, time_us);
}

/* The source waits until the fence is on its way behind every page. */
static inline void ferry_probe_settle_begin(guint32 fence)
{
	FERRY_PROBE1(settle_begin, fence);
}

static inline void ferry_probe_settle_end(guint32 fence, gint32 ok)
{
	FERRY_PROBE2(settle_end, fence, ok);
}

/* The destination waits until every page before the fence is in its memory. */
static inline void ferry_probe_await_begin(guint32 fence)
{
	FERRY_PROBE1(await_begin, fence);
}

static inline void ferry_probe_await_end(guint32 fence, gint32 ok)
{
	FERRY_PROBE2(await_end, fence, ok);
}

/* At the destination: the guest waits for missing pages. */
static inline void ferry_probe_page_fault(guint32 block, guint64 first, guint64 pages)
{
	FERRY_PROBE3(page_fault, block, first, pages);
}

/* At the source: the destination asks for pages. */
static inline void ferry_probe_page_request(guint32 block, guint64 first, guint64 pages)
{
	FERRY_PROBE3(page_request, block, first, pages);
}
