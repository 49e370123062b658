/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <gio/gio.h>
#include <json-glib/json-glib.h>

/*
 * The conversation of the two processes of a bench: one TCP connection to the URI's host and port,
 * a JSON object a line. The measuring side asks, the listening one answers; what is measured goes
 * over ports that the listener finds free. What closes this connection ends a measurement.
 *
 * Of `ferry bench link`:
 *
 *   {"do": "hello", "version": 2}       {"host": {"hostname", ...}, "ram-max": BYTES, "no-rdma": WHY}
 *   {"do": "raw", "queue-pairs", "size", "depth"}          {"port": N}      listens by rdma_cm
 *   {"do": "tcp", "connections"}                           {"port": N}      listens for so many
 *   {"do": "migration", "ram", "rdma", "lanes", "pin-all"} {"uri": URI}     a destination listens
 *   {"do": "ib_write_bw", "queue-pairs", "size", "count"}  {"port": N}      its server runs
 *   {"do": "end"}                                          {}               of one of these four
 *
 * Of `ferry bench fault`, whose listener is the destination:
 *
 *   {"do": "hello", "version": 2}              as above
 *   {"do": "floor", and as the next}           {"port": N}           listens by rdma_cm
 *   {"do": "migration", "mode", "background", "ram", "faults"}       {"uri": URI}
 *   {"do": "measure"}                          {"faults", "p50-us", ...}   of one of these two
 *   {"do": "lift"}                             {}                    nothing is held back any more
 *   {"do": "end"}                              {} or a migration's {"mode", "requests", ...}
 *
 * {"error": WHY} in the place of any answer.
 */
#define FERRY_BENCH_CONTROL_VERSION 2

/* Listens on @uri, tells @ready the URI with the real port, and has @serve talk to one peer after
 * the other. Returns on an error only. */
void ferry_bench_control_listen(const char *scheme, const char *uri, void (*ready)(const char *uri),
				void (*serve)(GSocket *socket, gpointer user), gpointer user,
				GError **error);

/* Answers one peer's requests until it leaves; what goes wrong with it is printed, and ends it.
 * @before, in front of each request, does what the last one began, over the same connection's
 * descriptor. */
void ferry_bench_control_serve(GSocket *socket,
			       gboolean (*before)(gpointer user, int fd, GError **error),
			       JsonObject *(*answer)(gpointer user, JsonObject *request),
			       gpointer user);

/* Connects to the listener of `ferry bench @bench`, which may take @answer_s for an answer. */
GSocketConnection *ferry_bench_control_connect(const char *bench, const char *scheme,
					       const char *uri, guint answer_s, GError **error);

/* "tcp" of what begins with it, else "rdma"; static. */
const char *ferry_bench_scheme_of(const char *uri);

/* "SCHEME:HOST:PORT" in its parts; FERRY_ERROR_INVALID. */
GSocketConnectable *ferry_bench_uri_parse(const char *scheme, const char *uri, GError **error);
char *ferry_bench_uri_print(const char *scheme, GSocketAddress *address);

/* The same host with another port. */
GSocketAddress *ferry_bench_address_with_port(GSocketAddress *address, guint16 port);

/* Reads one line. NULL without an error: the peer closed the connection, if @end allows it. */
JsonObject *ferry_bench_control_read(GSocket *socket, gboolean *end, GError **error);

/* Writes it as one line, and takes @object over. */
gboolean ferry_bench_control_write(GSocket *socket, JsonObject *object, GError **error);

/* Asks, and waits for the answer; takes @request over. FERRY_ERROR_NOSUPP with the listener's own
 * words if it says an error. */
JsonObject *ferry_bench_control_ask(GSocket *socket, JsonObject *request, GError **error);

/* The answer to a greeting, also of another version's; @ram_max: the most RAM that is given.
 * FERRY_ERROR_PEER where @request speaks another version. */
JsonObject *ferry_bench_control_greet(JsonObject *request, guint64 ram_max, GError **error);

/* What a listener said of itself. */
typedef struct {
	JsonObject *host; /* as ferry_bench_host(); a reference */
	char *no_rdma;    /* why it has no RDMA; NULL: it has */
} FerryBenchGreeting;

void ferry_bench_greeting_clear(FerryBenchGreeting *greeting);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(FerryBenchGreeting, ferry_bench_greeting_clear)

/* Greets it; FERRY_ERROR_INVALID where it gives less than @ram. */
gboolean ferry_bench_control_hello(GSocket *socket, guint64 ram, FerryBenchGreeting *greeting,
				   GError **error);

/* The whole number called @name; FERRY_ERROR_PEER if it is not there or out of range. */
gboolean ferry_bench_control_number(JsonObject *object, const char *name, guint64 least,
				    guint64 most, guint64 *number, GError **error);
