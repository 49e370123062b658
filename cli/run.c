/* SPDX-License-Identifier: BSD-2-Clause */
#include "commands.h"
#include "common.h"
#include "run-options.h"
#include "run-settings.h"

#include <gio/gio.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include <ferry/qmp.h>
#include <ferry/rdma.h>

/* A reference guest and all that hangs on it. Freed from the last field to the first. */
typedef struct {
	FerryGuest *guest;
	FerrySource *source;
	FerryDestination *destination;
	FerryQmp *qmp;
	GMainLoop *loop;
	guint notifier;
} Monitor;

static void monitor_clear(Monitor *monitor)
{
	if (monitor->notifier)
		ferry_vm_remove_notifier(ferry_guest_vm(monitor->guest), monitor->notifier);
	ferry_qmp_free(monitor->qmp);
	ferry_destination_free(monitor->destination);
	ferry_source_free(monitor->source);
	ferry_guest_free(monitor->guest);
	g_clear_pointer(&monitor->loop, g_main_loop_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Monitor, monitor_clear)

static void say(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* A line on stdout, at once: others wait for it. */
static void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

/* ---- what the migrations do, told on stdout ---- */

static void tell_incoming(Monitor *monitor, FerryState state)
{
	g_auto(FerryMigrationStatus) status = { 0 };
	g_autofree char *uri = ferry_destination_uri(monitor->destination);

	ferry_destination_get_status(monitor->destination, &status);
	if (state == FERRY_STATE_SETUP)
		say("listening on %s", uri);
	else if (state == FERRY_STATE_ACTIVE)
		say("a guest is coming in");
	else if (state == FERRY_STATE_COMPLETED)
		say("the guest arrived (%s)",
		    ferry_run_state_name(ferry_vm_run_state(ferry_guest_vm(monitor->guest))));
	else if (state == FERRY_STATE_FAILED)
		say("no guest came in: %s\nready for migrate-incoming", status.error_desc);
	else if (state == FERRY_STATE_HANDOVER_LOST)
		say("the hand-over is in doubt: %s", status.error_desc);
	else if (state == FERRY_STATE_POSTCOPY_ACTIVE)
		say("the guest runs here, its memory follows");
	else if (state == FERRY_STATE_POSTCOPY_PAUSED)
		say("memory of the guest is missing, and nobody brings it: %s", status.error_desc);
}

static void tell_outgoing(Monitor *monitor, FerryState state)
{
	g_auto(FerryMigrationStatus) status = { 0 };

	ferry_source_get_status(monitor->source, &status);
	if (state == FERRY_STATE_SETUP)
		say("the guest is leaving");
	else if (state == FERRY_STATE_COMPLETED)
		say("the guest is gone; quit ends this monitor");
	else if (state == FERRY_STATE_CANCELLED)
		say("the guest stays: cancelled");
	else if (state == FERRY_STATE_FAILED)
		say("the guest stays: %s", status.error_desc);
	else if (state == FERRY_STATE_HANDOVER_LOST)
		say("the hand-over is in doubt: %s", status.error_desc);
	else if (state == FERRY_STATE_POSTCOPY_ACTIVE)
		say("the guest is switched over, its memory follows");
	else if (state == FERRY_STATE_POSTCOPY_PAUSED)
		say("the guest is switched over, and its memory cannot follow: %s",
		    status.error_desc);
}

typedef struct {
	Monitor *monitor;
	FerryEvent event;
} Told;

static gboolean tell(gpointer user)
{
	Told *told = user;

	if (told->event.incoming)
		tell_incoming(told->monitor, told->event.state);
	else
		tell_outgoing(told->monitor, told->event.state);
	return G_SOURCE_REMOVE;
}

/* In the thread where it happens: the telling is left to the main loop. */
static void on_event(const FerryEvent *event, gpointer user)
{
	Told *told;

	if (event->type != FERRY_EVENT_MIGRATION)
		return;
	told = g_new(Told, 1);
	*told = (Told){ user, *event };
	g_idle_add_full(G_PRIORITY_DEFAULT, tell, told, g_free);
}

/* ---- commands that QMP has only here ---- */

static JsonNode *guest_check(JsonObject *arguments, gpointer user, GError **error)
{
	Monitor *monitor = user;
	FerryGuestReport report;
	JsonObject *object;
	JsonArray *findings;
	JsonNode *node;

	if (!ferry_guest_check(monitor->guest, &report, error))
		return NULL;
	object = json_object_new();
	findings = json_array_new();
	for (guint i = 0; i < report.n_findings; i++)
		json_array_add_string_element(findings, report.findings[i]);
	json_object_set_boolean_member(object, "passed", report.passed);
	json_object_set_int_member(object, "checked", report.pages);
	json_object_set_int_member(object, "bad", report.bad_pages);
	json_object_set_int_member(object, "written", report.written);
	json_object_set_int_member(object, "heartbeat", report.heartbeat);
	json_object_set_int_member(object, "faults", report.faults);
	json_object_set_int_member(object, "announced", ferry_guest_announced(monitor->guest));
	json_object_set_array_member(object, "first-bad", findings);
	node = json_node_new(JSON_NODE_OBJECT);
	json_node_take_object(node, object);
	return node;
}

static void describe_vcpu(JsonBuilder *builder, const FerryBeatTimes *times)
{
	const struct {
		const char *name;
		gint64 value;
	} members[] = {
		{ "heartbeat", (gint64)times->heartbeat },
		{ "beats", (gint64)times->count },
		{ "first-beat-ns", times->first_ns },
		{ "last-beat-ns", times->last_ns },
		{ "longest-gap-us", times->gap_us },
		{ "longest-gap-begin-ns", times->gap_begin_ns },
	};

	json_builder_begin_object(builder);
	for (guint i = 0; i < G_N_ELEMENTS(members); i++) {
		json_builder_set_member_name(builder, members[i].name);
		json_builder_add_int_value(builder, members[i].value);
	}
	json_builder_end_object(builder);
}

static JsonNode *query_guest(JsonObject *arguments, gpointer user, GError **error)
{
	g_autoptr(JsonBuilder) builder = json_builder_new();
	Monitor *monitor = user;
	FerryGuestPulse pulse;

	ferry_guest_pulse(monitor->guest, &pulse);
	json_builder_begin_object(builder);
	json_builder_set_member_name(builder, "running");
	json_builder_add_boolean_value(builder, pulse.running);
	json_builder_set_member_name(builder, "beat-interval-us");
	json_builder_add_int_value(builder, pulse.beat_us);
	json_builder_set_member_name(builder, "written");
	json_builder_add_int_value(builder, (gint64)pulse.written);
	json_builder_set_member_name(builder, "vcpus");
	json_builder_begin_array(builder);
	for (guint i = 0; i < pulse.n_vcpus; i++)
		describe_vcpu(builder, &pulse.vcpus[i]);
	json_builder_end_array(builder);
	json_builder_end_object(builder);
	return json_builder_get_root(builder);
}

static JsonNode *shutdown_event(const char *reason)
{
	JsonObject *data = json_object_new();
	JsonNode *node = json_node_new(JSON_NODE_OBJECT);

	json_object_set_boolean_member(data, "guest", FALSE);
	json_object_set_string_member(data, "reason", reason);
	json_node_take_object(node, data);
	return node;
}

static JsonNode *quit(JsonObject *arguments, gpointer user, GError **error)
{
	Monitor *monitor = user;

	ferry_qmp_send_event(monitor->qmp, "SHUTDOWN", shutdown_event("host-qmp-quit"));
	g_main_loop_quit(monitor->loop);
	return NULL;
}

static gboolean on_signal(gpointer user)
{
	Monitor *monitor = user;

	if (monitor->qmp)
		ferry_qmp_send_event(monitor->qmp, "SHUTDOWN", shutdown_event("host-signal"));
	g_main_loop_quit(monitor->loop);
	return G_SOURCE_CONTINUE;
}

/* ---- set-up ---- */

static gboolean apply_settings(FerrySettings *settings, char **options, GError **error)
{
	/* Reference guests are there to prove that nothing is lost. */
	return ferry_settings_set_capability(settings, FERRY_CAPABILITY_VERIFY_RAM, TRUE, error) &&
	       ferry_cli_set_all(settings, options, error);
}

static gboolean open_qmp(Monitor *monitor, const char *address, GError **error)
{
	monitor->qmp = ferry_qmp_new(ferry_guest_vm(monitor->guest), monitor->source,
				     monitor->destination);
	ferry_qmp_add_command(monitor->qmp, "guest-check", guest_check, monitor);
	ferry_qmp_add_command(monitor->qmp, "query-guest", query_guest, monitor);
	ferry_qmp_add_command(monitor->qmp, "quit", quit, monitor);
	if (!ferry_qmp_listen(monitor->qmp, address, error))
		return FALSE;
	say("QMP on %s", address);
	return TRUE;
}

static gboolean begin(Monitor *monitor, const FerryCliRunOptions *options, GError **error)
{
	FerryVm *vm = ferry_guest_vm(monitor->guest);

	if (options->incoming && options->paused)
		ferry_destination_set_autostart(monitor->destination, FALSE);
	if (options->incoming && g_str_equal(options->incoming, "defer"))
		return ferry_destination_defer(monitor->destination, error);
	if (options->incoming)
		return ferry_destination_start(monitor->destination, options->incoming, error);
	return options->paused || ferry_vm_start(vm, error);
}

static void describe(Monitor *monitor, const FerryCliRunOptions *options)
{
	g_autofree char *ram = ferry_cli_format_bytes(options->guest.ram_size);
	const char *dirty = ferry_vm_dirty_source_name(ferry_guest_vm(monitor->guest));

	say("%s", ferry_guest_kind_reason(monitor->guest));
	say("%s of memory, written pages found by %s, %s %s, process %d", ram,
	    dirty ? dirty : "nothing", options->incoming ? "incoming" : "workload",
	    options->incoming   ? options->incoming
	    : options->workload ? options->workload
				: "idle",
	    (int)getpid());
}

static gboolean set_up(Monitor *monitor, const FerryCliRunOptions *options, GError **error)
{
	FerryVm *vm;

	monitor->guest = ferry_guest_new(&options->guest, error);
	if (!monitor->guest)
		return FALSE;
	vm = ferry_guest_vm(monitor->guest);
	if (!apply_settings(ferry_vm_settings(vm), options->settings, error))
		return FALSE;
	monitor->source = ferry_source_new(vm, ferry_transports());
	monitor->destination = ferry_destination_new(vm, ferry_transports());
	monitor->notifier = ferry_vm_add_notifier(vm, on_event, monitor);
	describe(monitor, options);
	return (!options->qmp || open_qmp(monitor, options->qmp, error)) &&
	       begin(monitor, options, error);
}

static gpointer warm_up(gpointer unused)
{
	ferry_rdma_warm_up();
	return NULL;
}

int ferry_cli_run(int argc, char **argv)
{
	g_auto(FerryCliRunOptions) options = { 0 };
	g_auto(Monitor) monitor = { NULL };
	g_autoptr(GError) error = NULL;
	guint interrupt, terminate;

	if (!ferry_cli_run_options_parse(&options, argc, argv))
		return FERRY_EXIT_USAGE;
	/* A peer or client that goes away is an error of a write, not the end of the guest. */
	signal(SIGPIPE, SIG_IGN);
	monitor.loop = g_main_loop_new(NULL, FALSE);
	interrupt = g_unix_signal_add(SIGINT, on_signal, &monitor);
	terminate = g_unix_signal_add(SIGTERM, on_signal, &monitor);
	g_thread_unref(g_thread_new("ferry-warm-up", warm_up, NULL));
	if (set_up(&monitor, &options, &error))
		g_main_loop_run(monitor.loop);
	g_source_remove(interrupt);
	g_source_remove(terminate);
	if (g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID))
		return ferry_cli_usage("run", "%s", error->message);
	return error ? ferry_cli_fail("run", "%s", error->message) : FERRY_EXIT_DONE;
}
