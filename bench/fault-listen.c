/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench-fault.h"
#include "control.h"
#include "fault-guest.h"
#include "fault-wire.h"
#include "raw-floor.h"

/* One peer, and what is being measured with it: one of the two, or none. */
typedef struct {
	GSocket *socket;
	GSocketAddress *local; /* where the peer reached us */
	guint64 ram_max;
	FerryBenchFloor *floor;
	FerryBenchFaultTaker *taker;
} Session;

static void session_end(Session *session)
{
	g_clear_pointer(&session->floor, ferry_bench_floor_free);
	g_clear_pointer(&session->taker, ferry_bench_fault_taker_free);
}

static void session_clear(Session *session)
{
	session_end(session);
	g_clear_object(&session->local);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Session, session_clear)

static JsonObject *do_hello(Session *session, JsonObject *request, GError **error)
{
	return ferry_bench_control_greet(request, session->ram_max, error);
}

static JsonObject *do_floor(Session *session, JsonObject *request, GError **error)
{
	struct sockaddr_storage local;
	FerryBenchFaultShape shape;
	JsonObject *answer;
	guint16 port;

	session_end(session);
	if (!ferry_bench_fault_shape_get(request, session->ram_max, &shape, error) ||
	    !g_socket_address_to_native(session->local, &local, sizeof(local), error))
		return NULL;
	session->floor = ferry_bench_floor_new((struct sockaddr *)&local, shape.ram, shape.faults,
					       &port, error);
	if (!session->floor)
		return NULL;
	answer = json_object_new();
	json_object_set_int_member(answer, "port", port);
	return answer;
}

static JsonObject *do_migration(Session *session, JsonObject *request, GError **error)
{
	g_autoptr(GSocketAddress) any = ferry_bench_address_with_port(session->local, 0);
	g_autofree char *uri = NULL, *real = NULL;
	FerryBenchFaultShape shape;
	JsonObject *answer;

	session_end(session);
	if (!ferry_bench_fault_shape_get(request, session->ram_max, &shape, error))
		return NULL;
	uri = ferry_bench_uri_print(ferry_bench_fault_scheme(shape.mode), any);
	session->taker = ferry_bench_fault_taker_new(uri, &shape, error);
	if (!session->taker)
		return NULL;
	real = ferry_bench_fault_taker_uri(session->taker);
	answer = json_object_new();
	json_object_set_string_member(answer, "uri", real);
	return answer;
}

static JsonObject *do_measure(Session *session, JsonObject *request, GError **error)
{
	FerryBenchLatency felt;
	JsonObject *answer;

	if (session->floor ? !ferry_bench_floor_measure(session->floor, &felt, error)
			   : !ferry_bench_fault_taker_measure(session->taker, &felt, error))
		return NULL;
	answer = json_object_new();
	ferry_bench_latency_put(answer, &felt);
	return answer;
}

static JsonObject *do_lift(Session *session, JsonObject *request, GError **error)
{
	if (session->taker)
		ferry_bench_fault_taker_lift(session->taker);
	return json_object_new();
}

static JsonObject *do_end(Session *session, JsonObject *request, GError **error)
{
	JsonObject *answer = json_object_new();

	if (session->taker) {
		g_auto(FerryMigrationStatus) status = { 0 };

		ferry_bench_fault_taker_get_status(session->taker, &status);
		ferry_bench_counts_put(answer, &status.postcopy);
	}
	session_end(session);
	return answer;
}

static const struct {
	const char *name;
	gboolean of_a_measurement; /* one must be there */
	JsonObject *(*answer)(Session *session, JsonObject *request, GError **error);
} requests[] = {
	{ "hello", FALSE, do_hello },
	{ "floor", FALSE, do_floor },
	{ "migration", FALSE, do_migration },
	{ "measure", TRUE, do_measure },
	{ "lift", TRUE, do_lift },
	{ "end", TRUE, do_end },
};

static JsonObject *answer_to(gpointer user, JsonObject *request)
{
	Session *session = user;
	const char *name = json_object_get_string_member_with_default(request, "do", "nothing");
	gboolean measuring = session->floor || session->taker;
	g_autoptr(GError) why = NULL;
	JsonObject *answer = NULL;

	for (guint i = 0; i < G_N_ELEMENTS(requests); i++)
		if (g_str_equal(requests[i].name, name) &&
		    (measuring || !requests[i].of_a_measurement))
			answer = requests[i].answer(session, request, &why);
	if (answer)
		return answer;
	answer = json_object_new();
	json_object_set_string_member(answer, "error",
				      why ? why->message : "I do not know that, or not now");
	return answer;
}

static gboolean before(gpointer user, int fd, GError **error)
{
	Session *session = user;

	return !session->floor || ferry_bench_floor_accept(session->floor, fd, error);
}

static void serve(GSocket *socket, gpointer user)
{
	g_auto(Session) session = { .socket = socket, .ram_max = *(const guint64 *)user };

	session.local = g_socket_get_local_address(socket, NULL);
	if (session.local)
		ferry_bench_control_serve(socket, before, answer_to, &session);
}

void ferry_bench_fault_listen(const char *uri, guint64 ram_max, void (*ready)(const char *uri),
			      GError **error)
{
	ferry_bench_control_listen(ferry_bench_scheme_of(uri), uri, ready, serve, &ram_max, error);
}
