/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench-link.h"
#include "control.h"
#include "link-guest.h"
#include "perftest.h"
#include "raw-link.h"
#include "raw-tcp.h"

#include <ferry/rdma.h>

/* One peer, and what is being measured with it: one of the four, or none. */
typedef struct {
	GSocket *socket;
	GSocketAddress *local; /* where the peer reached us */
	guint64 ram_max;
	FerryBenchRawServer *raw;
	FerryBenchTcpServer *tcp;
	FerryBenchTaker *taker;
	GSubprocess *perftest;
} Session;

static void session_end(Session *session)
{
	g_clear_pointer(&session->raw, ferry_bench_raw_server_free);
	g_clear_pointer(&session->tcp, ferry_bench_tcp_server_free);
	g_clear_pointer(&session->taker, ferry_bench_taker_free);
	if (session->perftest)
		g_subprocess_force_exit(session->perftest);
	g_clear_object(&session->perftest);
}

static void session_clear(Session *session)
{
	session_end(session);
	g_clear_object(&session->local);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Session, session_clear)

static JsonObject *answer_port(guint16 port)
{
	JsonObject *answer = json_object_new();

	json_object_set_int_member(answer, "port", port);
	return answer;
}

static JsonObject *do_hello(Session *session, JsonObject *request, GError **error)
{
	return ferry_bench_control_greet(request, session->ram_max, error);
}

static gboolean read_shape(JsonObject *request, FerryBenchRawShape *shape, GError **error)
{
	guint64 queue_pairs, depth;

	if (!ferry_bench_control_number(request, "queue-pairs", 1, FERRY_BENCH_QUEUE_PAIRS_MAX,
					&queue_pairs, error) ||
	    !ferry_bench_control_number(request, "size", 1, FERRY_BENCH_SIZE_MAX, &shape->size,
					error) ||
	    !ferry_bench_control_number(request, "depth", 1, FERRY_BENCH_DEPTH_MAX, &depth, error))
		return FALSE;
	shape->queue_pairs = queue_pairs;
	shape->depth = depth;
	return TRUE;
}

static JsonObject *do_raw(Session *session, JsonObject *request, GError **error)
{
	struct sockaddr_storage local;
	FerryBenchRawShape shape;
	guint16 port;

	if (!read_shape(request, &shape, error))
		return NULL;
	if (ferry_bench_raw_bytes(&shape) > session->ram_max) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "a buffer of %" G_GUINT64_FORMAT
			    " MiB is beyond --ram here (%" G_GUINT64_FORMAT " MiB)",
			    ferry_bench_raw_bytes(&shape) >> 20, session->ram_max >> 20);
		return NULL;
	}
	if (!g_socket_address_to_native(session->local, &local, sizeof(local), error))
		return NULL;
	session->raw = ferry_bench_raw_server_new((struct sockaddr *)&local, &shape, &port, error);
	return session->raw ? answer_port(port) : NULL;
}

static JsonObject *do_tcp(Session *session, JsonObject *request, GError **error)
{
	struct sockaddr_storage local;
	guint64 connections;
	guint16 port;

	if (!ferry_bench_control_number(request, "connections", 1, FERRY_BENCH_CONNECTIONS_MAX,
					&connections, error) ||
	    !g_socket_address_to_native(session->local, &local, sizeof(local), error))
		return NULL;
	session->tcp = ferry_bench_tcp_server_new((struct sockaddr *)&local, connections, &port,
						  error);
	return session->tcp ? answer_port(port) : NULL;
}

static JsonObject *do_migration(Session *session, JsonObject *request, GError **error)
{
	FerryBenchLane lane = {
		.rdma = json_object_get_boolean_member_with_default(request, "rdma", FALSE),
		.pin_all = json_object_get_boolean_member_with_default(request, "pin-all", FALSE),
	};
	g_autoptr(GSocketAddress) any = ferry_bench_address_with_port(session->local, 0);
	g_autofree char *uri = ferry_bench_uri_print(lane.rdma ? "rdma" : "tcp", any);
	g_autofree char *real = NULL;
	JsonObject *answer;
	guint64 ram, lanes;

	if (!ferry_bench_control_number(request, "ram", 1 << 20, session->ram_max, &ram, error) ||
	    !ferry_bench_control_number(request, "lanes", 1, FERRY_BENCH_CONNECTIONS_MAX, &lanes,
					error))
		return NULL;
	lane.n = lanes;
	session->taker = ferry_bench_taker_new(uri, ram, &lane, error);
	if (!session->taker)
		return NULL;
	real = ferry_bench_taker_uri(session->taker);
	answer = json_object_new();
	json_object_set_string_member(answer, "uri", real);
	return answer;
}

static JsonObject *do_perftest(Session *session, JsonObject *request, GError **error)
{
	FerryBenchPerftest perftest = { .local = session->local };
	guint64 queue_pairs;
	guint16 port;

	if (!ferry_bench_control_number(request, "queue-pairs", 1, FERRY_BENCH_QUEUE_PAIRS_MAX,
					&queue_pairs, error) ||
	    !ferry_bench_control_number(request, "size", 1, FERRY_BENCH_SIZE_MAX, &perftest.size,
					error) ||
	    !ferry_bench_control_number(request, "count", 5, G_MAXINT32, &perftest.count, error))
		return NULL;
	perftest.queue_pairs = queue_pairs;
	session->perftest = ferry_bench_perftest_serve(&perftest, &port, error);
	return session->perftest ? answer_port(port) : NULL;
}

static JsonObject *do_end(Session *session, JsonObject *request, GError **error)
{
	session_end(session);
	return json_object_new();
}

static const struct {
	const char *name;
	JsonObject *(*answer)(Session *session, JsonObject *request, GError **error);
} requests[] = {
	{ "hello", do_hello },
	{ "raw", do_raw },
	{ "tcp", do_tcp },
	{ "migration", do_migration },
	{ "ib_write_bw", do_perftest },
	{ "end", do_end },
};

static JsonObject *answer_to(gpointer user, JsonObject *request)
{
	Session *session = user;
	const char *name = json_object_get_string_member_with_default(request, "do", "nothing");
	g_autoptr(GError) why = NULL;
	JsonObject *answer = NULL;

	for (guint i = 0; i < G_N_ELEMENTS(requests); i++) {
		if (!g_str_equal(requests[i].name, name))
			continue;
		session_end(session);
		answer = requests[i].answer(session, request, &why);
	}
	if (answer)
		return answer;
	answer = json_object_new();
	json_object_set_string_member(answer, "error", why ? why->message : "I do not know that");
	return answer;
}

static gboolean before(gpointer user, int fd, GError **error)
{
	Session *session = user;

	return !session->raw || ferry_bench_raw_server_run(session->raw, fd, error);
}

static void serve(GSocket *socket, gpointer user)
{
	g_auto(Session) session = { .socket = socket, .ram_max = *(const guint64 *)user };

	session.local = g_socket_get_local_address(socket, NULL);
	if (session.local)
		ferry_bench_control_serve(socket, before, answer_to, &session);
}

void ferry_bench_link_listen(const char *uri, guint64 ram_max, void (*ready)(const char *uri),
			     GError **error)
{
	const char *scheme = ferry_bench_scheme_of(uri);
	g_autofree char *why = NULL;
	g_autoptr(GPtrArray) ports = ferry_rdma_list_ports(&why);

	if (g_str_equal(scheme, "rdma") && !ports->len)
		g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, why);
	else
		ferry_bench_control_listen(scheme, uri, ready, serve, &ram_max, error);
}
