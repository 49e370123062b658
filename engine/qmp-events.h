/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <json-glib/json-glib.h>
#include <ferry/vm.h>

/*
 * Brings events from whichever thread they happen in to the thread of a main context, in the order
 * in which they happened, none lost.
 */
typedef struct FerryQmpEvents FerryQmpEvents;

/* Called in the main context's thread; @event is borrowed. */
typedef void (*FerryQmpEventSink)(JsonNode *event, gpointer user);

/* Listens to the events of @vm. @vm and @user are borrowed until ferry_qmp_events_free(). */
FerryQmpEvents *ferry_qmp_events_new(FerryVm *vm, GMainContext *context, FerryQmpEventSink sink,
				     gpointer user);
/* In the main context's thread. */
void ferry_qmp_events_free(FerryQmpEvents *events);

/* Queues the event @name; @data may be NULL and is taken over. Any thread. */
void ferry_qmp_events_push(FerryQmpEvents *events, const char *name, JsonNode *data);

/* Hands over what is queued now, so that what a command caused is told before its answer. In the
 * main context's thread. */
void ferry_qmp_events_drain(FerryQmpEvents *events);

/* Whether the migration that changed its state last was an incoming one. Any thread. */
gboolean ferry_qmp_events_last_was_incoming(FerryQmpEvents *events);
