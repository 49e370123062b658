/* SPDX-License-Identifier: BSD-2-Clause */
#include "control.h"

#include <ferry/error.h>

#define LINE_MAX_BYTES 32768u
#define CONNECT_S 10u
#define IDLE_S 600u /* a peer that says nothing for so long is gone */

const char *ferry_bench_scheme_of(const char *uri)
{
	return g_str_has_prefix(uri, "tcp:") ? "tcp" : "rdma";
}

GSocketConnectable *ferry_bench_uri_parse(const char *scheme, const char *uri, GError **error)
{
	size_t len = strlen(scheme) + 1;
	g_autoptr(GError) why = NULL;
	GSocketConnectable *address = NULL;

	/* With a default port that none can have, one that was left out shows. */
	if (g_str_has_prefix(uri, scheme) && uri[len - 1] == ':')
		address = g_network_address_parse(uri + len, 0, &why);
	if (address && strrchr(uri + len, ':') && strlen(uri) > len + 1 &&
	    g_ascii_isdigit(uri[strlen(uri) - 1]))
		return address;
	g_clear_object(&address);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
		    "'%s' is not %s:HOST:PORT%s%s; an IPv6 address goes in brackets", uri, scheme,
		    why ? ": " : "", why ? why->message : "");
	return NULL;
}

char *ferry_bench_uri_print(const char *scheme, GSocketAddress *address)
{
	GInetSocketAddress *inet = G_INET_SOCKET_ADDRESS(address);
	g_autofree char *host = g_inet_address_to_string(g_inet_socket_address_get_address(inet));
	gboolean brackets = strchr(host, ':') != NULL;

	return g_strdup_printf("%s:%s%s%s:%u", scheme, brackets ? "[" : "", host,
			       brackets ? "]" : "", g_inet_socket_address_get_port(inet));
}

GSocketAddress *ferry_bench_address_with_port(GSocketAddress *address, guint16 port)
{
	GInetSocketAddress *inet = G_INET_SOCKET_ADDRESS(address);

	if (g_socket_address_get_family(address) != G_SOCKET_FAMILY_IPV6)
		return g_inet_socket_address_new(g_inet_socket_address_get_address(inet), port);
	return g_object_new(G_TYPE_INET_SOCKET_ADDRESS, "address",
			    g_inet_socket_address_get_address(inet), "port", (guint)port,
			    "scope-id", g_inet_socket_address_get_scope_id(inet), NULL);
}

static gboolean broken(GError **error, const char *what)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER, "the other ferry bench %s", what);
	return FALSE;
}

/* A byte a call: lines are few, and nothing behind one may be swallowed. FALSE without an error
 * when the peer closes before the first byte. */
static gboolean read_line(GSocket *socket, GString *line, GError **error)
{
	for (;;) {
		char byte;
		gssize n = g_socket_receive(socket, &byte, 1, NULL, error);

		if (n < 0 || (n == 0 && !line->len))
			return FALSE;
		if (n == 0)
			return broken(error, "closed the connection in the middle of a line");
		if (byte == '\n')
			return TRUE;
		if (line->len == LINE_MAX_BYTES)
			return broken(error, "sent a line that is too long");
		g_string_append_c(line, byte);
	}
}

JsonObject *ferry_bench_control_read(GSocket *socket, gboolean *end, GError **error)
{
	g_autoptr(GString) line = g_string_new(NULL);
	g_autoptr(JsonNode) node = NULL;
	g_autoptr(GError) why = NULL;

	if (end)
		*end = FALSE;
	if (!read_line(socket, line, &why)) {
		if (why)
			g_propagate_error(error, g_steal_pointer(&why));
		else if (end)
			*end = TRUE;
		else
			broken(error, "closed the connection");
		return NULL;
	}
	node = json_from_string(line->str, NULL);
	if (!node || !JSON_NODE_HOLDS_OBJECT(node))
		return broken(error, "sent a line that is no JSON object"), NULL;
	return json_node_dup_object(node);
}

gboolean ferry_bench_control_write(GSocket *socket, JsonObject *object, GError **error)
{
	g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
	g_autofree char *text = NULL;
	g_autofree char *line = NULL;
	size_t done = 0;

	json_node_take_object(node, object);
	text = json_to_string(node, FALSE);
	line = g_strconcat(text, "\n", NULL);
	while (line[done]) {
		gssize n = g_socket_send(socket, line + done, strlen(line + done), NULL, error);

		if (n < 0)
			return FALSE;
		done += n;
	}
	return TRUE;
}

JsonObject *ferry_bench_control_ask(GSocket *socket, JsonObject *request, GError **error)
{
	g_autoptr(JsonObject) answer = NULL;
	const char *why;

	if (!ferry_bench_control_write(socket, request, error))
		return NULL;
	answer = ferry_bench_control_read(socket, NULL, error);
	if (!answer)
		return NULL;
	why = json_object_get_string_member_with_default(answer, "error", NULL);
	if (why) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "the listener says: %s", why);
		return NULL;
	}
	return g_steal_pointer(&answer);
}

gboolean ferry_bench_control_number(JsonObject *object, const char *name, guint64 least,
				    guint64 most, guint64 *number, GError **error)
{
	gint64 value = json_object_get_int_member_with_default(object, name, -1);

	if (value < 0 || (guint64)value < least || (guint64)value > most) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "the other ferry bench says %s %" G_GINT64_FORMAT
			    ", which is not within %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT,
			    name, value, least, most);
		return FALSE;
	}
	*number = value;
	return TRUE;
}

static GSocket *listen_on(const char *scheme, const char *uri, GError **error)
{
	g_autoptr(GSocketConnectable) name = ferry_bench_uri_parse(scheme, uri, error);
	g_autoptr(GSocketAddressEnumerator) all = name ? g_socket_connectable_enumerate(name)
						       : NULL;
	g_autoptr(GSocketAddress) address = all ? g_socket_address_enumerator_next(all, NULL, error)
						: NULL;
	g_autoptr(GSocket) socket = NULL;

	if (!address)
		return NULL;
	socket = g_socket_new(g_socket_address_get_family(address), G_SOCKET_TYPE_STREAM,
			      G_SOCKET_PROTOCOL_DEFAULT, error);
	if (!socket || !g_socket_bind(socket, address, TRUE, error) ||
	    !g_socket_listen(socket, error))
		return g_prefix_error(error, "%s: ", uri), NULL;
	return g_steal_pointer(&socket);
}

void ferry_bench_control_listen(const char *scheme, const char *uri, void (*ready)(const char *uri),
				void (*serve)(GSocket *socket, gpointer user), gpointer user,
				GError **error)
{
	g_autoptr(GSocket) listener = listen_on(scheme, uri, error);
	g_autoptr(GSocketAddress) address = listener ? g_socket_get_local_address(listener, error)
						     : NULL;
	g_autofree char *real = address ? ferry_bench_uri_print(scheme, address) : NULL;

	if (!real)
		return;
	ready(real);
	for (;;) {
		g_autoptr(GSocket) socket = g_socket_accept(listener, NULL, error);

		if (!socket)
			return;
		serve(socket, user);
	}
}

void ferry_bench_control_serve(GSocket *socket,
			       gboolean (*before)(gpointer user, int fd, GError **error),
			       JsonObject *(*answer)(gpointer user, JsonObject *request),
			       gpointer user)
{
	gboolean end;

	g_socket_set_timeout(socket, IDLE_S);
	for (;;) {
		g_autoptr(JsonObject) request = NULL;
		g_autoptr(GError) why = NULL;

		if (!before(user, g_socket_get_fd(socket), &why)) {
			g_printerr("ferry bench: %s\n", why->message);
			return;
		}
		request = ferry_bench_control_read(socket, &end, &why);
		if (request && ferry_bench_control_write(socket, answer(user, request), &why))
			continue;
		if (!end)
			g_printerr("ferry bench: a peer is gone: %s\n", why->message);
		return;
	}
}

GSocketConnection *ferry_bench_control_connect(const char *bench, const char *scheme,
					       const char *uri, guint answer_s, GError **error)
{
	g_autoptr(GSocketConnectable) name = ferry_bench_uri_parse(scheme, uri, error);
	g_autoptr(GSocketClient) client = g_socket_client_new();
	GSocketConnection *connection;

	if (!name)
		return NULL;
	g_socket_client_set_timeout(client, CONNECT_S);
	connection = g_socket_client_connect(client, name, NULL, error);
	if (connection)
		g_socket_set_timeout(g_socket_connection_get_socket(connection), answer_s);
	else
		g_prefix_error(error, "%s: does 'ferry bench %s --listen' run there? ", uri, bench);
	return connection;
}
