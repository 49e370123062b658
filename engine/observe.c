/* SPDX-License-Identifier: BSD-2-Clause */
#include "observe.h"

#include "probes.h"

#define DOMAIN "ferry"
#define FIELDS_MAX 12u
#define FIRST_FIELD 3u /* behind GLib's own */

/* A message under construction; strings are borrowed. */
typedef struct {
	GLogLevelFlags level;
	GLogField fields[FIELDS_MAX];
	guint n;
} Entry;

static const char *const side_names[] = {
	[FERRY_SIDE_SOURCE] = "source",
	[FERRY_SIDE_DESTINATION] = "destination",
};

/* syslog's number of a level, as journald wants it. */
static const char *priority_of(GLogLevelFlags level)
{
	switch (level) {
	case G_LOG_LEVEL_WARNING:
		return "4";
	case G_LOG_LEVEL_MESSAGE:
		return "5";
	case G_LOG_LEVEL_INFO:
		return "6";
	default:
		return "7";
	}
}

static Entry entry_begin(GLogLevelFlags level)
{
	return (Entry){ .level = level, .n = FIRST_FIELD };
}

/* A field without a value is left out. */
static void add(Entry *entry, const char *name, const char *value)
{
	if (value && entry->n < FIELDS_MAX)
		entry->fields[entry->n++] = (GLogField){ name, value, -1 };
}

static void entry_send(Entry *entry, const char *message)
{
	entry->fields[0] = (GLogField){ "MESSAGE", message, -1 };
	entry->fields[1] = (GLogField){ "PRIORITY", priority_of(entry->level), -1 };
	entry->fields[2] = (GLogField){ "GLIB_DOMAIN", DOMAIN, -1 };
	g_log_structured_array(entry->level, entry->fields, entry->n);
}

static gboolean is_end(FerryState state)
{
	return state == FERRY_STATE_COMPLETED || state == FERRY_STATE_FAILED ||
	       state == FERRY_STATE_CANCELLED;
}

/* Where somebody has to look, or to wait. */
static gboolean is_trouble(FerryState state)
{
	return state == FERRY_STATE_HANDOVER_LOST || state == FERRY_STATE_POSTCOPY_PAUSED;
}

void ferry_observe_state(FerrySide side, FerryState from, FerryState to, const char *uri,
			 const char *reason)
{
	Entry entry = entry_begin(is_trouble(to) ? G_LOG_LEVEL_WARNING
				  : is_end(to)   ? G_LOG_LEVEL_MESSAGE
						 : G_LOG_LEVEL_INFO);
	const char *why = to != FERRY_STATE_COMPLETED && (is_end(to) || is_trouble(to)) ? reason
											: NULL;
	g_autofree char *message = g_strdup_printf("%s: %s, was %s%s%s", side_names[side],
						   ferry_state_name(to), ferry_state_name(from),
						   why ? ": " : "", why ? why : "");

	ferry_probe_state(side, ferry_state_name(from), ferry_state_name(to));
	if (is_end(to))
		ferry_probe_end(side, ferry_state_name(to), why);
	add(&entry, "FERRY_EVENT", "state");
	add(&entry, "FERRY_SIDE", side_names[side]);
	add(&entry, "FERRY_STATE", ferry_state_name(to));
	add(&entry, "FERRY_OLD_STATE", ferry_state_name(from));
	add(&entry, "FERRY_URI", uri);
	add(&entry, "FERRY_REASON", why);
	entry_send(&entry, message);
}

void ferry_observe_round_begin(const FerryRound *round)
{
	Entry entry = entry_begin(G_LOG_LEVEL_DEBUG);
	g_autofree char *number = g_strdup_printf("%" G_GUINT64_FORMAT, round->round);
	g_autofree char *pages = g_strdup_printf("%" G_GUINT64_FORMAT, round->dirty_pages);
	g_autofree char *message = g_strdup_printf("source: round %s begins with %s pages", number,
						   pages);

	ferry_probe_round_begin(round->round, round->dirty_pages, round->collect_us);
	add(&entry, "FERRY_EVENT", "round-begin");
	add(&entry, "FERRY_SIDE", side_names[FERRY_SIDE_SOURCE]);
	add(&entry, "FERRY_ROUND", number);
	add(&entry, "FERRY_PAGES", pages);
	entry_send(&entry, message);
}

void ferry_observe_round_end(const FerryRound *round)
{
	Entry entry = entry_begin(G_LOG_LEVEL_DEBUG);
	g_autofree char *number = g_strdup_printf("%" G_GUINT64_FORMAT, round->round);
	g_autofree char *pages = g_strdup_printf("%" G_GUINT64_FORMAT,
						 round->normal + round->duplicate);
	g_autofree char *bytes = g_strdup_printf("%" G_GUINT64_FORMAT, round->bytes);
	g_autofree char *time = g_strdup_printf("%" G_GINT64_FORMAT, round->time_us);
	g_autofree char *message = g_strdup_printf(
		"source: round %s ends, %s pages (%" G_GUINT64_FORMAT " zero) in %s bytes, %s us",
		number, pages, round->duplicate, bytes, time);

	ferry_probe_round_end(round->round, round->normal, round->duplicate, round->bytes,
			      round->time_us);
	add(&entry, "FERRY_EVENT", "round-end");
	add(&entry, "FERRY_SIDE", side_names[FERRY_SIDE_SOURCE]);
	add(&entry, "FERRY_ROUND", number);
	add(&entry, "FERRY_PAGES", pages);
	add(&entry, "FERRY_BYTES", bytes);
	add(&entry, "FERRY_TIME_US", time);
	entry_send(&entry, message);
}

void ferry_observe_connected(FerrySide side, const char *uri)
{
	Entry entry = entry_begin(G_LOG_LEVEL_INFO);
	g_autofree char *message = g_strdup_printf(side == FERRY_SIDE_SOURCE
							   ? "source: connected to %s"
							   : "destination: a connection on %s",
						   uri);

	add(&entry, "FERRY_EVENT", "connected");
	add(&entry, "FERRY_SIDE", side_names[side]);
	add(&entry, "FERRY_URI", uri);
	entry_send(&entry, message);
}

void ferry_observe_rehearsed(const char *uri)
{
	Entry entry = entry_begin(G_LOG_LEVEL_INFO);
	g_autofree char *message = g_strdup_printf(
		"destination: a rehearsal on %s is over, nothing moved", uri);

	add(&entry, "FERRY_EVENT", "rehearsed");
	add(&entry, "FERRY_SIDE", side_names[FERRY_SIDE_DESTINATION]);
	add(&entry, "FERRY_URI", uri);
	entry_send(&entry, message);
}

void ferry_observe_refused(const char *uri, const char *reason)
{
	Entry entry = entry_begin(G_LOG_LEVEL_WARNING);
	g_autofree char *message = g_strdup_printf("destination: refused a connection on %s: %s",
						   uri, reason);

	add(&entry, "FERRY_EVENT", "refused");
	add(&entry, "FERRY_SIDE", side_names[FERRY_SIDE_DESTINATION]);
	add(&entry, "FERRY_URI", uri);
	add(&entry, "FERRY_REASON", reason);
	entry_send(&entry, message);
}

void ferry_observe_fallback(const char *uri, const char *transport, const char *reason)
{
	Entry entry = entry_begin(G_LOG_LEVEL_WARNING);
	g_autofree char *message = g_strdup_printf("source: the pages go by %s, not as %s asks: %s",
						   transport, uri, reason);

	add(&entry, "FERRY_EVENT", "fallback");
	add(&entry, "FERRY_SIDE", side_names[FERRY_SIDE_SOURCE]);
	add(&entry, "FERRY_TRANSPORT", transport);
	add(&entry, "FERRY_URI", uri);
	add(&entry, "FERRY_REASON", reason);
	entry_send(&entry, message);
}
