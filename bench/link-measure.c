/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench-link.h"
#include "control.h"
#include "link-guest.h"
#include "link-tally.h"
#include "perftest.h"
#include "raw-link.h"
#include "raw-register.h"
#include "raw-tcp.h"

#include <ferry/rdma.h>

#define PERFTEST_S 30u /* beside four times what is wanted */
#define ANSWER_S 60u   /* the longest is deregistering and freeing RAM */
#define REGISTER_BYTES (256u << 20)

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
	FerryBenchRegistrar *registrar; /* NULL: nothing goes by RDMA */
	guint turn;                     /* 0 does not count */
} Run;

static void run_clear(Run *run)
{
	g_clear_pointer(&run->registrar, ferry_bench_registrar_free);
	g_clear_pointer(&run->tally, ferry_bench_tally_free);
	g_clear_pointer(&run->ram, ferry_bench_ram_free);
	g_clear_object(&run->peer);
	g_clear_object(&run->local);
	g_clear_object(&run->connection);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Run, run_clear)

static void tell(const Run *run, const FerryBenchLane *lane, const char *what, double rate)
{
	g_autofree char *lanes = ferry_bench_lane_name(lane);
	g_autofree char *turn = run->turn ? g_strdup_printf("turn %u/%u", run->turn,
							    run->plan->repeat)
					  : g_strdup("warm-up");
	g_autofree char *line = g_strdup_printf("%-10s %-15s %-18s %10.1f MiB/s", turn, lanes, what,
						rate / (1 << 20));

	if (run->tell)
		run->tell(line);
}

static JsonObject *request_new(const char *what)
{
	JsonObject *request = json_object_new();

	json_object_set_string_member(request, "do", what);
	return request;
}

static gboolean end_measurement(Run *run, GError **error)
{
	g_autoptr(JsonObject)
		answer = ferry_bench_control_ask(run->socket, request_new("end"), error);

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
	JsonObject *request = request_new("raw");
	struct sockaddr_storage local, peer;
	g_autoptr(GSocketAddress) from = ferry_bench_address_with_port(run->local, 0);
	g_autoptr(GSocketAddress) to = NULL;
	guint16 port;

	json_object_set_int_member(request, "queue-pairs", shape->queue_pairs);
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
	JsonObject *request = request_new("ib_write_bw");
	g_autoptr(GError) why = NULL;
	guint16 port;

	json_object_set_int_member(request, "queue-pairs", shape->queue_pairs);
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

static gboolean measure_shape(Run *run, const FerryBenchRawShape *shape, GError **error)
{
	const FerryBenchLane lane = { .rdma = TRUE, .n = shape->queue_pairs };
	g_autofree char *size = shape->size % 1024
					? g_strdup_printf("%u", (guint)shape->size)
					: g_strdup_printf("%uK", (guint)shape->size / 1024);
	g_autofree char *raw = g_strdup_printf("raw %s, %u deep", size, shape->depth);
	g_autofree char *perftest = g_strdup_printf("ib_write_bw %s", size);
	double rate, theirs = 0;

	if (!measure_raw(run, shape, &rate, error))
		return FALSE;
	tell(run, &lane, raw, rate);
	if (run->turn)
		ferry_bench_tally_raw(run->tally, shape, rate);
	if (run->plan->perftest && !measure_perftest(run, shape, rate, &theirs, error))
		return FALSE;
	if (theirs > 0)
		tell(run, &lane, perftest, theirs);
	if (run->turn && theirs > 0)
		ferry_bench_tally_perftest(run->tally, shape, theirs);
	return TRUE;
}

static gboolean measure_shapes(Run *run, guint queue_pairs, GError **error)
{
	const FerryBenchLinkPlan *plan = run->plan;

	for (guint i = 0; i < plan->sizes.n; i++)
		for (guint k = 0; k < MAX(plan->depths.n, 1); k++) {
			guint64 size = plan->sizes.at[i];
			const FerryBenchRawShape shape = { queue_pairs, size,
							   plan->depths.n
								   ? plan->depths.at[k]
								   : FERRY_BENCH_DEPTH(size) };

			if (!measure_shape(run, &shape, error))
				return FALSE;
		}
	return TRUE;
}

static gboolean measure_tcp(Run *run, guint connections, GError **error)
{
	const FerryBenchLane lane = { .n = connections };
	JsonObject *request = request_new("tcp");
	g_autoptr(GSocketAddress) to = NULL;
	struct sockaddr_storage peer;
	guint16 port;
	double rate;

	json_object_set_int_member(request, "connections", connections);
	if (!ask_port(run, request, &port, error))
		return FALSE;
	to = ferry_bench_address_with_port(run->peer, port);
	if (!g_socket_address_to_native(to, &peer, sizeof(peer), error) ||
	    !ferry_bench_tcp_measure((struct sockaddr *)&peer, connections, run->plan->seconds,
				     &rate, error) ||
	    !end_measurement(run, error))
		return FALSE;
	tell(run, &lane, "raw sockets", rate);
	if (run->turn)
		ferry_bench_tally_tcp(run->tally, connections, rate);
	return TRUE;
}

static gboolean measure_migration(Run *run, const FerryBenchLane *lane, GError **error)
{
	JsonObject *request = request_new("migration");
	g_auto(FerryMigrationStatus) status = { 0 };
	g_autoptr(JsonObject) answer = NULL;
	const char *uri;

	json_object_set_int_member(request, "ram", run->plan->ram);
	json_object_set_boolean_member(request, "rdma", lane->rdma);
	json_object_set_int_member(request, "lanes", lane->n);
	json_object_set_boolean_member(request, "pin-all", lane->pin_all);
	answer = ferry_bench_control_ask(run->socket, request, error);
	if (!answer)
		return FALSE;
	uri = json_object_get_string_member_with_default(answer, "uri", "");
	if (!ferry_bench_guest_send(run->ram, uri, lane, &status, error) ||
	    !end_measurement(run, error))
		return FALSE;
	tell(run, lane, "migration, bulk", ferry_bench_bulk_rate(&status));
	if (run->turn)
		ferry_bench_tally_migration(run->tally, lane, &status);
	return TRUE;
}

/* Memory that there is not is left out, and says why. */
static gboolean measure_registering(Run *run, GError **error)
{
	const guint64 bytes = MIN(REGISTER_BYTES, run->plan->ram);

	for (FerryBenchPages pages = 0; pages < FERRY_BENCH_PAGES__N; pages++) {
		g_autoptr(GError) why = NULL;
		double on_us, off_us;

		if (ferry_bench_registrar_measure(run->registrar, pages, bytes, &on_us, &off_us,
						  &why)) {
			if (run->turn)
				ferry_bench_tally_pages(run->tally, pages, bytes, on_us, off_us);
		} else if (g_error_matches(why, FERRY_ERROR, FERRY_ERROR_NOSUPP)) {
			ferry_bench_tally_pages_skipped(run->tally, pages, why->message);
		} else {
			g_propagate_error(error, g_steal_pointer(&why));
			return FALSE;
		}
	}
	return TRUE;
}

static gboolean take_turn(Run *run, GError **error)
{
	const FerryBenchLinkPlan *plan = run->plan;

	for (guint i = 0; run->registrar && i < plan->queue_pairs.n; i++) {
		const FerryBenchLane lane = { TRUE, plan->queue_pairs.at[i], plan->pin_all };

		if (!measure_shapes(run, lane.n, error) || !measure_migration(run, &lane, error))
			return FALSE;
	}
	for (guint i = 0; i < plan->connections.n; i++) {
		const FerryBenchLane lane = { .n = plan->connections.at[i] };

		if (!measure_tcp(run, lane.n, error) || !measure_migration(run, &lane, error))
			return FALSE;
	}
	return !run->registrar || measure_registering(run, error);
}

/* *@no_rdma: why nothing goes by RDMA, though nobody asked for it; NULL: it does. */
static gboolean prepare(Run *run, const char *scheme, const FerryBenchGreeting *greeting,
			char **no_rdma, GError **error)
{
	g_autofree char *why = NULL;
	g_autoptr(GPtrArray) ports = ferry_rdma_list_ports(&why);
	struct sockaddr_storage local;
	g_autoptr(GSocketAddress) from = ferry_bench_address_with_port(run->local, 0);

	if (g_str_equal(scheme, "tcp")) {
		*no_rdma = ports->len ? g_strdup("the URI is tcp:; rdma:HOST:PORT measures it")
				      : g_steal_pointer(&why);
		return TRUE;
	}
	if (!ports->len || greeting->no_rdma) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "%s%s",
			    ports->len ? "at the listener: " : "",
			    ports->len ? greeting->no_rdma : why);
		return FALSE;
	}
	if (!g_socket_address_to_native(from, &local, sizeof(local), error))
		return FALSE;
	run->registrar = ferry_bench_registrar_new((struct sockaddr *)&local, error);
	return run->registrar != NULL;
}

static gboolean connect_to(Run *run, const char *scheme, const char *uri, GError **error)
{
	run->connection = ferry_bench_control_connect("link", scheme, uri, ANSWER_S, error);
	if (!run->connection)
		return FALSE;
	run->socket = g_socket_connection_get_socket(run->connection);
	run->local = g_socket_get_local_address(run->socket, error);
	run->peer = run->local ? g_socket_get_remote_address(run->socket, error) : NULL;
	return run->peer != NULL;
}

FerryBenchRecord *ferry_bench_link_measure(const char *uri, const FerryBenchLinkPlan *plan,
					   void (*tell_line)(const char *line), GError **error)
{
	const char *scheme = ferry_bench_scheme_of(uri);
	g_autoptr(FerryBenchRecord)
		record = ferry_bench_record_new("link", "A network, and migrations over it");
	g_auto(FerryBenchGreeting) greeting = { 0 };
	g_auto(Run) run = { .plan = plan, .tell = tell_line };
	g_autofree char *no_rdma = NULL;

	if (!connect_to(&run, scheme, uri, error) ||
	    !ferry_bench_control_hello(run.socket, plan->ram, &greeting, error) ||
	    !prepare(&run, scheme, &greeting, &no_rdma, error))
		return NULL;
	run.ram = ferry_bench_ram_new(plan->ram, TRUE, error);
	if (!run.ram)
		return NULL;
	run.tally = ferry_bench_tally_new(plan);
	for (run.turn = 0; run.turn <= plan->repeat; run.turn++)
		if (!take_turn(&run, error))
			return NULL;
	ferry_bench_record_hosts(record, g_steal_pointer(&greeting.host));
	if (no_rdma)
		ferry_bench_record_skip(record, "RDMA", no_rdma);
	ferry_bench_tally_record(run.tally, uri, record);
	return g_steal_pointer(&record);
}
