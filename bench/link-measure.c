/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench-link.h"
#include "control.h"
#include "link-guest.h"
#include "link-tally.h"
#include "perftest.h"
#include "raw-link.h"

#include <ferry/rdma.h>

#define PERFTEST_S 30u /* beside four times what is wanted */
#define ANSWER_S 60u   /* the longest is deregistering and freeing RAM */

/* Freed from the last field to the first. */
typedef struct {
	const FerryBenchLinkPlan *plan;
	void (*tell)(const char *line);
	GSocketConnection *connection;
	GSocket *socket; /* the connection's */
	GSocketAddress *local;
	GSocketAddress *peer;
	FerryBenchRam *ram;
	FerryBenchTally *tally;
	guint turn; /* 0 does not count */
} Run;

static void run_clear(Run *run)
{
	g_clear_pointer(&run->tally, ferry_bench_tally_free);
	g_clear_pointer(&run->ram, ferry_bench_ram_free);
	g_clear_object(&run->peer);
	g_clear_object(&run->local);
	g_clear_object(&run->connection);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Run, run_clear)

static void tell(const Run *run, guint queue_pairs, const char *what, double rate)
{
	g_autofree char *turn = run->turn ? g_strdup_printf("turn %u/%u", run->turn,
							    run->plan->repeat)
					  : g_strdup("warm-up");
	g_autofree char *line = g_strdup_printf("%-10s %2u queue pairs  %-18s %10.1f MiB/s", turn,
						queue_pairs, what, rate / (1 << 20));

	if (run->tell)
		run->tell(line);
}

static JsonObject *request_new(const char *what, guint queue_pairs)
{
	JsonObject *request = json_object_new();

	json_object_set_string_member(request, "do", what);
	json_object_set_int_member(request, "queue-pairs", queue_pairs);
	return request;
}

static gboolean end_measurement(Run *run, GError **error)
{
	JsonObject *request = json_object_new();
	g_autoptr(JsonObject) answer = NULL;

	json_object_set_string_member(request, "do", "end");
	answer = ferry_bench_control_ask(run->socket, request, error);
	return answer != NULL;
}

static gboolean ask_port(Run *run, JsonObject *request, guint16 *port, GError **error)
{
	g_autoptr(JsonObject) answer = ferry_bench_control_ask(run->socket, request, error);
	guint64 number;

	if (!answer || !ferry_bench_control_number(answer, "port", 1, G_MAXUINT16, &number, error))
		return FALSE;
	*port = number;
	return TRUE;
}

static gboolean measure_raw(Run *run, const FerryBenchRawShape *shape, double *rate, GError **error)
{
	JsonObject *request = request_new("raw", shape->queue_pairs);
	struct sockaddr_storage local, peer;
	g_autoptr(GSocketAddress) from = ferry_bench_address_with_port(run->local, 0);
	g_autoptr(GSocketAddress) to = NULL;
	guint16 port;

	json_object_set_int_member(request, "size", shape->size);
	json_object_set_int_member(request, "depth", shape->depth);
	if (!ask_port(run, request, &port, error))
		return FALSE;
	to = ferry_bench_address_with_port(run->peer, port);
	return g_socket_address_to_native(from, &local, sizeof(local), error) &&
	       g_socket_address_to_native(to, &peer, sizeof(peer), error) &&
	       ferry_bench_raw_measure((struct sockaddr *)&local, (struct sockaddr *)&peer, shape,
				       run->plan->seconds, rate, error) &&
	       end_measurement(run, error);
}

/* For about as long as the raw writes took, whose @guess is the rate. */
static gboolean measure_perftest(Run *run, const FerryBenchRawShape *shape, double guess,
				 double *rate, GError **error)
{
	FerryBenchPerftest perftest = {
		.queue_pairs = shape->queue_pairs,
		.size = shape->size,
		.count = CLAMP(guess * run->plan->seconds / shape->size / shape->queue_pairs, 20,
			       10000000),
		.limit_s = PERFTEST_S + 4 * run->plan->seconds,
		.local = run->local,
	};
	JsonObject *request = request_new("ib_write_bw", shape->queue_pairs);
	g_autoptr(GError) why = NULL;
	guint16 port;

	json_object_set_int_member(request, "size", shape->size);
	json_object_set_int_member(request, "count", perftest.count);
	if (!ask_port(run, request, &port, error))
		return FALSE;
	/* It is there for comparison: the measuring goes on without it. */
	*rate = 0;
	if (!ferry_bench_perftest_measure(&perftest, run->peer, port, rate, &why) && run->tell)
		run->tell(why->message);
	return end_measurement(run, error);
}

static guint depth_of(const FerryBenchLinkPlan *plan, guint64 size)
{
	return plan->depth ? plan->depth : CLAMP((1 << 20) / size, 4, 64);
}

static gboolean measure_sizes(Run *run, guint queue_pairs, GError **error)
{
	for (guint i = 0; i < run->plan->n_sizes; i++) {
		FerryBenchRawShape shape = { queue_pairs, run->plan->sizes[i],
					     depth_of(run->plan, run->plan->sizes[i]) };
		g_autofree char *size = shape.size % 1024
						? g_strdup_printf("%u", (guint)shape.size)
						: g_strdup_printf("%uK", (guint)shape.size / 1024);
		g_autofree char *raw = g_strdup_printf("raw %s", size);
		g_autofree char *perftest = g_strdup_printf("ib_write_bw %s", size);
		double rate, theirs;

		if (!measure_raw(run, &shape, &rate, error))
			return FALSE;
		tell(run, queue_pairs, raw, rate);
		if (run->turn)
			ferry_bench_tally_raw(run->tally, &shape, rate);
		if (!run->plan->perftest)
			continue;
		if (!measure_perftest(run, &shape, rate, &theirs, error))
			return FALSE;
		if (theirs > 0)
			tell(run, queue_pairs, perftest, theirs);
		if (run->turn && theirs > 0)
			ferry_bench_tally_perftest(run->tally, &shape, theirs);
	}
	return TRUE;
}

static gboolean measure_migration(Run *run, guint queue_pairs, GError **error)
{
	JsonObject *request = request_new("migration", queue_pairs);
	g_auto(FerryMigrationStatus) status = { 0 };
	g_autoptr(JsonObject) answer = NULL;
	const char *uri;

	json_object_set_int_member(request, "ram", run->plan->ram);
	json_object_set_boolean_member(request, "pin-all", run->plan->pin_all);
	answer = ferry_bench_control_ask(run->socket, request, error);
	if (!answer)
		return FALSE;
	uri = json_object_get_string_member_with_default(answer, "uri", "");
	if (!ferry_bench_guest_send(run->ram, uri, queue_pairs, run->plan->pin_all, &status,
				    error) ||
	    !end_measurement(run, error))
		return FALSE;
	tell(run, queue_pairs, "migration, bulk", ferry_bench_bulk_rate(&status));
	if (run->turn)
		ferry_bench_tally_migration(run->tally, queue_pairs, &status);
	return TRUE;
}

static gboolean say_hello(Run *run, GError **error)
{
	JsonObject *request = json_object_new();
	g_autoptr(JsonObject) answer = NULL;
	guint64 most;

	json_object_set_string_member(request, "do", "hello");
	json_object_set_int_member(request, "version", FERRY_BENCH_CONTROL_VERSION);
	answer = ferry_bench_control_ask(run->socket, request, error);
	if (!answer || !ferry_bench_control_number(answer, "ram-max", 0, G_MAXINT64, &most, error))
		return FALSE;
	if (run->plan->ram <= most)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
		    "the listener gives %" G_GUINT64_FORMAT " MiB and not %" G_GUINT64_FORMAT
		    ": say --ram to it too",
		    most >> 20, run->plan->ram >> 20);
	return FALSE;
}

static gboolean connect_to(Run *run, const char *uri, GError **error)
{
	run->connection = ferry_bench_control_connect("link", "rdma", uri, ANSWER_S, error);
	if (!run->connection)
		return FALSE;
	run->socket = g_socket_connection_get_socket(run->connection);
	run->local = g_socket_get_local_address(run->socket, error);
	run->peer = g_socket_get_remote_address(run->socket, error);
	return run->local && run->peer && say_hello(run, error);
}

static gboolean take_turns(Run *run, GError **error)
{
	for (run->turn = 0; run->turn <= run->plan->repeat; run->turn++)
		for (guint i = 0; i < run->plan->n_queue_pairs; i++)
			if (!measure_sizes(run, run->plan->queue_pairs[i], error) ||
			    !measure_migration(run, run->plan->queue_pairs[i], error))
				return FALSE;
	return TRUE;
}

FerryBenchLinkReport *ferry_bench_link_measure(const char *uri, const FerryBenchLinkPlan *plan,
					       void (*tell_line)(const char *line), GError **error)
{
	g_auto(Run) run = { .plan = plan, .tell = tell_line };
	g_autofree char *why = NULL;
	g_autoptr(GPtrArray) ports = ferry_rdma_list_ports(&why);

	if (!ports->len) {
		g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, why);
		return NULL;
	}
	if (!connect_to(&run, uri, error))
		return NULL;
	run.ram = ferry_bench_ram_new(plan->ram, TRUE, error);
	if (!run.ram)
		return NULL;
	run.tally = ferry_bench_tally_new(plan);
	return take_turns(&run, error) ? ferry_bench_tally_report(run.tally, uri) : NULL;
}
