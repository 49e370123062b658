/* SPDX-License-Identifier: BSD-2-Clause */
#include "link-control.h"

#include <ferry/error.h>

#define LINE_MAX_BYTES 4096u

GSocketConnectable *ferry_bench_uri_parse(const char *uri, GError **error)
{
	g_autoptr(GError) why = NULL;
	GSocketConnectable *address = NULL;

	/* With a default port that none can have, one that was left out shows. */
	if (g_str_has_prefix(uri, "rdma:"))
		address = g_network_address_parse(uri + 5, 0, &why);
	if (address && strrchr(uri + 5, ':') && strlen(uri) > 6 &&
	    g_ascii_isdigit(uri[strlen(uri) - 1]))
		return address;
	g_clear_object(&address);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
		    "'%s' is not rdma:HOST:PORT%s%s; an IPv6 address goes in brackets", uri,
		    why ? ": " : "", why ? why->message : "");
	return NULL;
}

char *ferry_bench_uri_print(GSocketAddress *address)
{
	GInetSocketAddress *inet = G_INET_SOCKET_ADDRESS(address);
	g_autofree char *host = g_inet_address_to_string(g_inet_socket_address_get_address(inet));
	gboolean brackets = strchr(host, ':') != NULL;

	return g_strdup_printf("rdma:%s%s%s:%u", brackets ? "[" : "", host, brackets ? "]" : "",
			       g_inet_socket_address_get_port(inet));
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
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER, "the other ferry bench link %s", what);
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
			    "the other ferry bench link says %s %" G_GINT64_FORMAT
			    ", which is not within %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT,
			    name, value, least, most);
		return FALSE;
	}
	*number = value;
	return TRUE;
}
