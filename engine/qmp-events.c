/* SPDX-License-Identifier: BSD-2-Clause */
#include "qmp-events.h"

typedef struct {
	JsonNode *node;
	gboolean optional; /* goes out only with the capability "events" */
} QueuedEvent;

struct FerryQmpEvents {
	FerryVm *vm;
	GMainContext *context;
	FerryQmpEventSink sink;
	gpointer user;
	guint notifier;
	gint incoming; /* atomic */
	GMutex lock;   /* guards what follows */
	GQueue queue;  /* of QueuedEvent */
	GSource *wake; /* attached, or NULL */
};

static void queued_event_free(gpointer data)
{
	QueuedEvent *event = data;

	json_node_unref(event->node);
	g_free(event);
}

static gboolean on_wake(gpointer user)
{
	ferry_qmp_events_drain(user);
	return G_SOURCE_REMOVE;
}

static JsonNode *event_node(const char *name, JsonNode *data)
{
	JsonObject *event = json_object_new(), *timestamp = json_object_new();
	JsonNode *node = json_node_init_object(json_node_alloc(), event);
	gint64 now = g_get_real_time();

	json_object_set_int_member(timestamp, "seconds", now / G_USEC_PER_SEC);
	json_object_set_int_member(timestamp, "microseconds", now % G_USEC_PER_SEC);
	json_object_set_object_member(event, "timestamp", timestamp);
	json_object_set_string_member(event, "event", name);
	if (data)
		json_object_set_member(event, "data", data);
	json_object_unref(event);
	return node;
}

static void push(FerryQmpEvents *events, const char *name, JsonNode *data, gboolean optional)
{
	QueuedEvent *event = g_new(QueuedEvent, 1);

	event->node = event_node(name, data);
	event->optional = optional;
	g_mutex_lock(&events->lock);
	g_queue_push_tail(&events->queue, event);
	if (!events->wake) {
		events->wake = g_idle_source_new();
		g_source_set_priority(events->wake, G_PRIORITY_DEFAULT);
		g_source_set_callback(events->wake, on_wake, events, NULL);
		g_source_attach(events->wake, events->context);
	}
	g_mutex_unlock(&events->lock);
}

void ferry_qmp_events_push(FerryQmpEvents *events, const char *name, JsonNode *data)
{
	push(events, name, data, FALSE);
}

static JsonNode *one_member(const char *name, JsonNode *value)
{
	JsonObject *object = json_object_new();
	JsonNode *node = json_node_init_object(json_node_alloc(), object);

	json_object_set_member(object, name, value);
	json_object_unref(object);
	return node;
}

static JsonNode *fallback_data(const FerryEvent *event)
{
	JsonNode *reason = json_node_init_string(json_node_alloc(), event->reason);
	JsonNode *node = one_member("reason", reason);

	json_object_set_string_member(json_node_get_object(node), "transport", event->transport);
	return node;
}

static void on_vm_event(const FerryEvent *event, gpointer user)
{
	FerryQmpEvents *events = user;
	JsonNode *value;

	switch (event->type) {
	case FERRY_EVENT_MIGRATION:
		g_atomic_int_set(&events->incoming, event->incoming);
		value = json_node_init_string(json_node_alloc(), ferry_state_name(event->state));
		push(events, "MIGRATION", one_member("status", value), TRUE);
		break;
	case FERRY_EVENT_MIGRATION_PASS:
		value = json_node_init_int(json_node_alloc(), event->pass);
		push(events, "MIGRATION_PASS", one_member("pass", value), TRUE);
		break;
	case FERRY_EVENT_STOP:
		push(events, "STOP", NULL, FALSE);
		break;
	case FERRY_EVENT_RESUME:
		push(events, "RESUME", NULL, FALSE);
		break;
	case FERRY_EVENT_FALLBACK:
		push(events, "FERRY_FALLBACK", fallback_data(event), FALSE);
		break;
	}
}

FerryQmpEvents *ferry_qmp_events_new(FerryVm *vm, GMainContext *context, FerryQmpEventSink sink,
				     gpointer user)
{
	FerryQmpEvents *events = g_new0(FerryQmpEvents, 1);

	events->vm = vm;
	events->context = g_main_context_ref(context);
	events->sink = sink;
	events->user = user;
	g_mutex_init(&events->lock);
	g_queue_init(&events->queue);
	events->notifier = ferry_vm_add_notifier(vm, on_vm_event, events);
	return events;
}

static void clear_wake(FerryQmpEvents *events)
{
	if (events->wake) {
		g_source_destroy(events->wake);
		g_clear_pointer(&events->wake, g_source_unref);
	}
}

void ferry_qmp_events_free(FerryQmpEvents *events)
{
	if (!events)
		return;
	ferry_vm_remove_notifier(events->vm, events->notifier);
	clear_wake(events);
	g_queue_clear_full(&events->queue, queued_event_free);
	g_mutex_clear(&events->lock);
	g_main_context_unref(events->context);
	g_free(events);
}

static QueuedEvent *pop(FerryQmpEvents *events)
{
	QueuedEvent *event;

	g_mutex_lock(&events->lock);
	event = g_queue_pop_head(&events->queue);
	if (!event)
		clear_wake(events);
	g_mutex_unlock(&events->lock);
	return event;
}

void ferry_qmp_events_drain(FerryQmpEvents *events)
{
	FerrySettings *settings = ferry_vm_settings(events->vm);
	QueuedEvent *event;

	while ((event = pop(events))) {
		if (!event->optional ||
		    ferry_settings_get_capability(settings, FERRY_CAPABILITY_EVENTS))
			events->sink(event->node, events->user);
		queued_event_free(event);
	}
}

gboolean ferry_qmp_events_last_was_incoming(FerryQmpEvents *events)
{
	return g_atomic_int_get(&events->incoming);
}
