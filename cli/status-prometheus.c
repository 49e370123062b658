/* SPDX-License-Identifier: BSD-2-Clause */
#include "status.h"

#include <math.h>
#include <string.h>
#include <ferry/state.h>

#define PREFIX "ferry_migration_"
#define MS 1e-3
#define US 1e-6

typedef enum {
	GAUGE,
	COUNTER,
} Kind;

/* A member of an answer that is one metric. Of neighbours with one name the first has the help. */
typedef struct {
	const char *name; /* without the prefix */
	Kind kind;
	const char *help;
	const char *path; /* "ram.total" */
	double scale;     /* to the base unit */
	const char *label;
	const char *value;
} Metric;

static const Metric of_migration[] = {
	{ "duration_seconds", GAUGE, "Time since the migration began, or its whole time.",
	  "total-time", MS },
	{ "setup_seconds", GAUGE, "Time until the first page.", "setup-time", MS },
	{ "downtime_seconds", GAUGE, "How long the guest stood still.", "downtime", MS },
	{ "expected_downtime_seconds", GAUGE, "How long it would stand still if stopped now.",
	  "expected-downtime", MS },
	{ "throttle_ratio", GAUGE, "Share of their time that is taken from the vCPUs.",
	  "cpu-throttle-percentage", 1e-2 },
	{ "group_members", GAUGE, "Migrations that share a budget and are sending.",
	  "bandwidth-group.members", 1 },
	{ "group_bytes_per_second", GAUGE, "This one's part of it.", "bandwidth-group.rate", 1 },
	{ "ram_bytes", GAUGE, "Memory of the guest.", "ram.total", 1 },
	{ "remaining_bytes", GAUGE, "Memory still to send.", "ram.remaining", 1 },
	{ "throughput_bytes_per_second", GAUGE, "Bytes on the wire.", "ram.mbps", 1e6 / 8 },
	{ "ram_transferred_bytes_total", COUNTER, "Bytes on the wire for memory.",
	  "ram.transferred", 1 },
	{ "phase_bytes_total", COUNTER, "Bytes on the wire for memory, by phase.",
	  "ram.precopy-bytes", 1, "phase", "precopy" },
	{ "phase_bytes_total", COUNTER, NULL, "ram.downtime-bytes", 1, "phase", "downtime" },
	{ "phase_bytes_total", COUNTER, NULL, "ram.postcopy-bytes", 1, "phase", "postcopy" },
	{ "pages_total", COUNTER, "Pages sent, by kind.", "ram.normal", 1, "kind", "normal" },
	{ "pages_total", COUNTER, NULL, "ram.duplicate", 1, "kind", "zero" },
	{ "pages_total", COUNTER, NULL, "ram.skipped", 1, "kind", "skipped" },
	{ "dirty_syncs_total", COUNTER, "Looks for written pages.", "ram.dirty-sync-count", 1 },
	{ "cpu_seconds_total", COUNTER, "CPU time of the processes, by side and mode.",
	  "cpu.source.user", 1, "side=\"source\",mode", "user" },
	{ "cpu_seconds_total", COUNTER, NULL, "cpu.source.system", 1, "side=\"source\",mode",
	  "system" },
	{ "cpu_seconds_total", COUNTER, NULL, "cpu.destination.user", 1,
	  "side=\"destination\",mode", "user" },
	{ "cpu_seconds_total", COUNTER, NULL, "cpu.destination.system", 1,
	  "side=\"destination\",mode", "system" },
	{ "verified", GAUGE, "1: the memory there equals the memory here; 0: it differs.",
	  "verified", 1 },
	{ "postcopy_missing_pages", GAUGE, "Pages that the guest there still lacks.",
	  "postcopy.missing-pages", 1 },
	{ "postcopy_requests_total", COUNTER, "Requests for pages that the guest waited for.",
	  "postcopy.requests", 1 },
	{ "postcopy_pages_total", COUNTER, "Pages after the switch, by why they went.",
	  "postcopy.urgent-pages", 1, "kind", "urgent" },
	{ "postcopy_pages_total", COUNTER, NULL, "postcopy.background-pages", 1, "kind",
	  "background" },
	{ "postcopy_pauses_total", COUNTER, "Times that postcopy was paused.", "postcopy.pauses",
	  1 },
	{ "postcopy_fault_seconds", GAUGE,
	  "From a fault on a missing page to the guest's going on.", "postcopy.latency-us.p50", US,
	  "statistic", "p50" },
	{ "postcopy_fault_seconds", GAUGE, NULL, "postcopy.latency-us.p90", US, "statistic",
	  "p90" },
	{ "postcopy_fault_seconds", GAUGE, NULL, "postcopy.latency-us.p99", US, "statistic",
	  "p99" },
	{ "postcopy_fault_seconds", GAUGE, NULL, "postcopy.latency-us.max", US, "statistic",
	  "max" },
};

static const Metric of_rdma[] = {
	{ "rdma_queue_pairs", GAUGE, "RDMA connections of the migration.", "queue-pairs", 1 },
	{ "rdma_registered_bytes", GAUGE, "Memory registered with the RDMA device now.",
	  "registered-bytes", 1 },
	{ "rdma_registered_bytes_total", COUNTER, "Memory registered so far.",
	  "registered-total-bytes", 1 },
	{ "rdma_registrations_total", COUNTER, "Memory regions registered.", "registrations", 1 },
	{ "rdma_releases_total", COUNTER, "Memory regions deregistered on the way.", "releases",
	  1 },
	{ "rdma_registration_seconds_total", COUNTER, "Time spent registering.", "registration-us",
	  US },
};

static void quote(GString *out, const char *text)
{
	g_string_append_c(out, '"');
	for (; *text; text++) {
		if (*text == '\n')
			g_string_append(out, "\\n");
		else if (*text == '"' || *text == '\\')
			g_string_append_printf(out, "\\%c", *text);
		else
			g_string_append_c(out, *text);
	}
	g_string_append_c(out, '"');
}

static void head(GString *out, const char *name, Kind kind, const char *help)
{
	g_string_append_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name,
			       kind == COUNTER ? "counter" : "gauge");
}

static void add_value(GString *out, double value)
{
	char text[G_ASCII_DTOSTR_BUF_SIZE];

	g_string_append_c(out, ' ');
	g_string_append(out, g_ascii_formatd(text, sizeof(text), "%.15g", value));
	g_string_append_c(out, '\n');
}

/* The number or truth at @path in @node; NAN where there is none. */
static double find(JsonNode *node, const char *path)
{
	g_auto(GStrv) names = g_strsplit(path, ".", -1);

	for (char **name = names; *name; name++) {
		if (!node || !JSON_NODE_HOLDS_OBJECT(node))
			return NAN;
		node = json_object_get_member(json_node_get_object(node), *name);
	}
	if (!node || !JSON_NODE_HOLDS_VALUE(node) ||
	    json_node_get_value_type(node) == G_TYPE_STRING)
		return NAN;
	if (json_node_get_value_type(node) == G_TYPE_BOOLEAN)
		return json_node_get_boolean(node);
	return json_node_get_double(node);
}

static void add_metrics(GString *out, JsonNode *answer, const Metric *metrics, guint n)
{
	const char *headed = NULL;
	const char *help = NULL;

	for (guint i = 0; i < n; i++) {
		const Metric *metric = &metrics[i];
		g_autofree char *name = g_strconcat(PREFIX, metric->name, NULL);
		double value = find(answer, metric->path) * metric->scale;

		if (metric->help)
			help = metric->help;
		if (!isfinite(value))
			continue;
		if (g_strcmp0(headed, metric->name) != 0)
			head(out, name, metric->kind, help);
		headed = metric->name;
		g_string_append(out, name);
		if (metric->label)
			g_string_append_printf(out, "{%s=\"%s\"}", metric->label, metric->value);
		add_value(out, value);
	}
}

static const char *text_of(JsonNode *node, const char *name, const char *otherwise)
{
	if (!node || !JSON_NODE_HOLDS_OBJECT(node))
		return otherwise;
	return json_object_get_string_member_with_default(json_node_get_object(node), name,
							  otherwise);
}

/* A series whose value is its labels: pairs of name and text, ended by NULL. */
static void add_info(GString *out, const char *name, const char *help, ...) G_GNUC_NULL_TERMINATED;

static void add_info(GString *out, const char *name, const char *help, ...)
{
	char separator = '{';
	const char *label;
	va_list labels;

	head(out, name, GAUGE, help);
	g_string_append(out, name);
	va_start(labels, help);
	while ((label = va_arg(labels, const char *))) {
		g_string_append_printf(out, "%c%s=", separator, label);
		quote(out, va_arg(labels, const char *));
		separator = ',';
	}
	va_end(labels);
	g_string_append_c(out, '}');
	add_value(out, 1);
}

static void add_guest(GString *out, JsonNode *guest)
{
	head(out, "ferry_guest_running", GAUGE, "1: the guest's vCPUs run here.");
	g_string_append(out, "ferry_guest_running");
	add_value(out, find(guest, "running") > 0);
	add_info(out, "ferry_guest_info", "The guest's run state.", "run_state",
		 text_of(guest, "status", "unknown"), NULL);
}

static void add_state(GString *out, const char *state)
{
	gboolean known = FALSE;

	head(out, PREFIX "state", GAUGE,
	     "1 for the state that the migration is in, 0 for the others.");
	for (guint i = 0; i < FERRY_STATE__N; i++) {
		gboolean is = g_str_equal(state, ferry_state_name(i));

		g_string_append_printf(out, PREFIX "state{state=\"%s\"}", ferry_state_name(i));
		add_value(out, is);
		known = known || is;
	}
	if (known)
		return;
	g_string_append(out, PREFIX "state{state=");
	quote(out, state);
	g_string_append_c(out, '}');
	add_value(out, 1);
}

static void add_wire(GString *out, JsonNode *migration)
{
	double bytes = find(migration, "wire-bytes");

	if (!isfinite(bytes))
		return;
	head(out, PREFIX "wire_bytes_total", COUNTER, "Everything that was sent.");
	g_string_append(out, PREFIX "wire_bytes_total{transport=");
	quote(out, text_of(migration, "transport", "unknown"));
	g_string_append_c(out, '}');
	add_value(out, bytes);
}

GString *ferry_cli_status_prometheus(const FerryCliStatus *status)
{
	const char *transport = text_of(status->migration, "transport", NULL);
	const char *fallback = text_of(status->migration, "fallback-reason", NULL);
	const char *error = text_of(status->migration, "error-desc", NULL);
	GString *out = g_string_new(NULL);
	double rate = find(status->migration, "ram.dirty-pages-rate");

	add_guest(out, status->guest);
	add_state(out, text_of(status->migration, "status", "none"));
	if (transport)
		add_info(out, PREFIX "info", "What carries the pages, and what finds them.",
			 "transport", transport, "dirty_source",
			 text_of(status->migration, "dirty-source", ""), NULL);
	if (fallback)
		add_info(out, PREFIX "fallback", "Why the pages do not go as the URI asks.",
			 "reason", fallback, NULL);
	if (error)
		add_info(out, PREFIX "error", "Why it failed, is paused or in doubt.", "reason",
			 error, NULL);
	add_metrics(out, status->migration, of_migration, G_N_ELEMENTS(of_migration));
	if (isfinite(rate)) {
		head(out, PREFIX "dirty_bytes_per_second", GAUGE, "Memory that the guest writes.");
		g_string_append(out, PREFIX "dirty_bytes_per_second");
		add_value(out, rate * MAX(find(status->migration, "ram.page-size"), 1));
	}
	add_wire(out, status->migration);
	if (status->rdma)
		add_metrics(out, status->rdma, of_rdma, G_N_ELEMENTS(of_rdma));
	return out;
}
