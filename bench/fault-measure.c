/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench-fault.h"
#include "control.h"
#include "fault-guest.h"
#include "fault-touch.h"
#include "fault-wire.h"
#include "raw-floor.h"

#include <ferry/rdma.h>

#define ANSWER_S 330u /* the longest is the touching of all pages */

/* Freed from the last field to the first. */
typedef struct {
	const FerryBenchFaultPlan *plan;
	void (*tell)(const char *line);
	GSocketConnection *connection;
	GSocket *socket; /* the connection's */
	GSocketAddress *local;
	GSocketAddress *peer;
	FerryBenchRam *ram;
	guint turn; /* 0 does not count */
} Run;

static void run_clear(Run *run)
{
	g_clear_pointer(&run->ram, ferry_bench_ram_free);
	g_clear_object(&run->peer);
	g_clear_object(&run->local);
	g_clear_object(&run->connection);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Run, run_clear)

static void tell(const Run *run, const FerryBenchFaultRow *row, const FerryBenchLatency *felt)
{
	g_autofree char *turn = run->turn ? g_strdup_printf("turn %u/%u", run->turn,
							    run->plan->repeat)
					  : g_strdup("warm-up");
	g_autofree char *line = g_strdup_printf(
		"%-10s %-8s %-10s %8" G_GUINT64_FORMAT " faults, p50 %9.1f us, p99 %9.1f us", turn,
		ferry_bench_fault_mode_name(row->mode), row->background ? "background" : "idle",
		felt->faults, felt->p50, felt->p99);

	if (run->tell)
		run->tell(line);
}

static JsonObject *ask(Run *run, JsonObject *request, const char *what, GError **error)
{
	json_object_set_string_member(request, "do", what);
	return ferry_bench_control_ask(run->socket, request, error);
}

static gboolean ask_figures(Run *run, FerryBenchLatency *felt, GError **error)
{
	g_autoptr(JsonObject) answer = ask(run, json_object_new(), "measure", error);

	return answer && ferry_bench_latency_get(answer, felt, error);
}

/* @request tells the shape. */
static gboolean measure_floor(Run *run, JsonObject *request, FerryBenchFaultTurn *turn,
			      GError **error)
{
	g_autoptr(JsonObject) answer = ask(run, request, "floor", error), end = NULL;
	g_autoptr(GSocketAddress) from = ferry_bench_address_with_port(run->local, 0);
	g_autoptr(GSocketAddress) to = NULL;
	g_autoptr(FerryBenchMemory) memory = NULL;
	struct sockaddr_storage local, peer;
	guint64 port;

	if (!answer || !ferry_bench_control_number(answer, "port", 1, G_MAXUINT16, &port, error))
		return FALSE;
	to = ferry_bench_address_with_port(run->peer, port);
	if (!g_socket_address_to_native(from, &local, sizeof(local), error) ||
	    !g_socket_address_to_native(to, &peer, sizeof(peer), error))
		return FALSE;
	memory = ferry_bench_memory_new((struct sockaddr *)&local, (struct sockaddr *)&peer,
					run->ram, error);
	if (!memory || !ask_figures(run, &turn->felt, error))
		return FALSE;
	end = ask(run, json_object_new(), "end", error);
	return end != NULL;
}

/* The destination's words, where it has some, say more than the source's. */
static gboolean measure_postcopy(Run *run, JsonObject *request, const FerryBenchFaultShape *shape,
				 FerryBenchFaultTurn *turn, GError **error)
{
	g_autoptr(JsonObject) answer = ask(run, request, "migration", error);
	g_autoptr(JsonObject) lifted = NULL, end = NULL;
	g_autoptr(FerryBenchFaultSender) sender = NULL;
	const char *uri;

	if (!answer)
		return FALSE;
	uri = json_object_get_string_member_with_default(answer, "uri", "");
	sender = ferry_bench_fault_sender_new(run->ram, uri, shape, error);
	if (!sender || !ask_figures(run, &turn->felt, error))
		return FALSE;
	lifted = ask(run, json_object_new(), "lift", error);
	if (!lifted)
		return FALSE;
	ferry_bench_fault_sender_lift(sender);
	if (!ferry_bench_fault_sender_finish(sender, error))
		return FALSE;
	end = ask(run, json_object_new(), "end", error);
	return end && ferry_bench_counts_get(end, shape->mode, turn, error);
}

static gboolean measure_row(Run *run, FerryBenchFaultRow *row, GError **error)
{
	const FerryBenchFaultShape shape = { row->mode, row->background, run->plan->ram,
					     run->plan->faults };
	JsonObject *request = json_object_new();
	FerryBenchFaultTurn turn = { 0 };

	ferry_bench_fault_shape_put(request, &shape);
	if (row->mode == FERRY_BENCH_FLOOR
		    ? !measure_floor(run, request, &turn, error)
		    : !measure_postcopy(run, request, &shape, &turn, error)) {
		g_prefix_error(error, "%s, %s: ", ferry_bench_fault_mode_name(row->mode),
			       row->background ? "background" : "idle");
		return FALSE;
	}
	tell(run, row, &turn.felt);
	if (run->turn)
		g_array_append_val(row->turns, turn);
	return TRUE;
}

static gboolean take_turns(Run *run, FerryBenchFaultReport *report, GError **error)
{
	for (run->turn = 0; run->turn <= run->plan->repeat; run->turn++)
		for (guint i = 0; i < report->rows->len; i++) {
			FerryBenchFaultRow *row = report->rows->pdata[i];

			if (!row->skipped && !measure_row(run, row, error))
				return FALSE;
		}
	return TRUE;
}

/* Why nothing goes by RDMA with this peer; NULL: it may. */
static char *find_no_rdma(const char *scheme, const FerryBenchGreeting *greeting)
{
	g_autofree char *why = NULL;
	g_autoptr(GPtrArray) ports = ferry_rdma_list_ports(&why);

	if (g_str_equal(scheme, "tcp"))
		return g_strdup("the listener's URI is tcp:; rdma:HOST:PORT measures it");
	if (greeting->no_rdma)
		return g_strdup_printf("at the listener: %s", greeting->no_rdma);
	return ports->len ? NULL : g_steal_pointer(&why);
}

static gboolean connect_to(Run *run, const char *scheme, const char *uri, GError **error)
{
	run->connection = ferry_bench_control_connect("fault", scheme, uri, ANSWER_S, error);
	if (!run->connection)
		return FALSE;
	run->socket = g_socket_connection_get_socket(run->connection);
	run->local = g_socket_get_local_address(run->socket, error);
	run->peer = run->local ? g_socket_get_remote_address(run->socket, error) : NULL;
	return run->peer != NULL;
}

FerryBenchRecord *ferry_bench_fault_measure(const char *uri, const FerryBenchFaultPlan *plan,
					    void (*tell_line)(const char *line), GError **error)
{
	const char *scheme = ferry_bench_scheme_of(uri);
	g_autoptr(FerryBenchRecord)
		record = ferry_bench_record_new("fault", "How long a guest waits for a page");
	g_auto(FerryBenchGreeting) greeting = { 0 };
	g_auto(Run) run = { .plan = plan, .tell = tell_line };
	g_autoptr(FerryBenchFaultReport) report = NULL;
	g_autofree char *no_rdma = NULL;

	if (!connect_to(&run, scheme, uri, error) ||
	    !ferry_bench_control_hello(run.socket, plan->ram, &greeting, error))
		return NULL;
	run.ram = ferry_bench_ram_new(plan->ram, TRUE, error);
	if (!run.ram)
		return NULL;
	ferry_bench_touch_mark(run.ram->host, run.ram->size);
	no_rdma = find_no_rdma(scheme, &greeting);
	report = ferry_bench_fault_report_new(plan, uri, no_rdma);
	if (!take_turns(&run, report, error))
		return NULL;
	ferry_bench_record_hosts(record, g_steal_pointer(&greeting.host));
	ferry_bench_fault_report_record(report, record);
	return g_steal_pointer(&record);
}
