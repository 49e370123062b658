/* SPDX-License-Identifier: BSD-2-Clause */
#include "qmp-client.h"

#include <errno.h>
#include <gio/gio.h>
#include <gio/gunixfdmessage.h>
#include <gio/gunixsocketaddress.h>
#include <poll.h>
#include <ferry/error.h>

/* An answer longer than this is none of a QMP server's. */
#define LINE_MAX_BYTES (64u << 20)

struct FerryQmpClient {
	GSocket *socket;
	char *address;
	GString *input;
	GQueue events; /* of JsonNode */
};

static gboolean lost(FerryQmpClient *client, GError **error, const char *why)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK, "QMP socket %s: %s", client->address,
		    why);
	return FALSE;
}

static gboolean connect_to(FerryQmpClient *client, GError **error)
{
	const char *path = client->address + strlen("unix:");
	g_autoptr(GSocketAddress) address = NULL;
	g_autoptr(GError) why = NULL;

	if (!g_str_has_prefix(client->address, "unix:") || !*path) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "QMP address '%s': expected unix:PATH", client->address);
		return FALSE;
	}
	address = g_unix_socket_address_new(path);
	client->socket = g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM,
				      G_SOCKET_PROTOCOL_DEFAULT, &why);
	if (!client->socket || !g_socket_connect(client->socket, address, NULL, &why))
		return lost(client, error, why->message);
	return TRUE;
}

static gboolean receive(FerryQmpClient *client, GError **error)
{
	char buffer[16384];
	g_autoptr(GError) why = NULL;
	gssize n = g_socket_receive(client->socket, buffer, sizeof(buffer), NULL, &why);

	if (n < 0)
		return lost(client, error, why->message);
	if (n == 0)
		return lost(client, error, "the monitor closed the connection");
	g_string_append_len(client->input, buffer, n);
	if (client->input->len > LINE_MAX_BYTES)
		return lost(client, error, "the monitor sent a line without end");
	return TRUE;
}

/* Takes the first whole line out of the input; NULL if there is none. */
static char *take_line(FerryQmpClient *client)
{
	const char *end = memchr(client->input->str, '\n', client->input->len);
	char *line;

	if (!end)
		return NULL;
	line = g_strndup(client->input->str, end - client->input->str);
	g_string_erase(client->input, 0, end - client->input->str + 1);
	return line;
}

static JsonNode *parse_line(FerryQmpClient *client, const char *line, GError **error)
{
	g_autoptr(JsonNode) node = json_from_string(line, NULL);

	if (node && JSON_NODE_HOLDS_OBJECT(node))
		return g_steal_pointer(&node);
	lost(client, error, "what answers there does not speak QMP");
	return NULL;
}

/* The next message; NULL without @error after @timeout_ms (-1 for none) or when a signal came. */
static JsonNode *next_message(FerryQmpClient *client, int timeout_ms, GError **error)
{
	g_autofree char *line = NULL;

	while (!(line = take_line(client))) {
		struct pollfd ready = { g_socket_get_fd(client->socket), POLLIN, 0 };
		int n = poll(&ready, 1, timeout_ms);

		if (n == 0 || (n < 0 && errno == EINTR && timeout_ms >= 0))
			return NULL;
		if (n > 0 && !receive(client, error))
			return NULL;
	}
	return parse_line(client, line, error);
}

static gboolean has(JsonNode *message, const char *member)
{
	return json_object_has_member(json_node_get_object(message), member);
}

/* The next message that is no event; events are kept. */
static JsonNode *next_answer(FerryQmpClient *client, GError **error)
{
	JsonNode *message;

	while ((message = next_message(client, -1, error)) && has(message, "event"))
		g_queue_push_tail(&client->events, message);
	return message;
}

static const char *error_desc(JsonNode *answer)
{
	JsonNode *error = json_object_get_member(json_node_get_object(answer), "error");
	JsonObject *object = error && JSON_NODE_HOLDS_OBJECT(error) ? json_node_get_object(error)
								    : NULL;

	return object ? json_object_get_string_member_with_default(object, "desc", "") : "";
}

/* The answer to the command that was just sent. */
static JsonNode *take_answer(FerryQmpClient *client, GError **error)
{
	g_autoptr(JsonNode) answer = next_answer(client, error);

	if (!answer)
		return NULL;
	if (has(answer, "return"))
		return json_object_dup_member(json_node_get_object(answer), "return");
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE, "%s", error_desc(answer));
	return NULL;
}

static JsonNode *request(const char *command, JsonObject *arguments)
{
	JsonObject *object = json_object_new();
	JsonNode *node = json_node_new(JSON_NODE_OBJECT);

	json_object_set_string_member(object, "execute", command);
	if (arguments)
		json_object_set_object_member(object, "arguments", arguments);
	json_node_take_object(node, object);
	return node;
}

/* Sends a line; the first byte carries @passed, which may be NULL. */
static gboolean send_request(FerryQmpClient *client, JsonNode *message,
			     GSocketControlMessage *passed, GError **error)
{
	g_autofree char *text = json_to_string(message, FALSE);
	g_autofree char *line = g_strconcat(text, "\n", NULL);
	size_t len = strlen(line), sent = 0;

	while (sent < len) {
		GOutputVector vector = { line + sent, len - sent };
		g_autoptr(GError) why = NULL;
		gssize n = g_socket_send_message(client->socket, NULL, &vector, 1, &passed,
						 passed && !sent ? 1 : 0, G_SOCKET_MSG_NONE, NULL,
						 &why);

		if (n < 0)
			return lost(client, error, why->message);
		sent += n;
	}
	return TRUE;
}

JsonNode *ferry_qmp_client_call(FerryQmpClient *client, const char *command, JsonObject *arguments,
				GError **error)
{
	g_autoptr(JsonNode) message = request(command, arguments);

	if (!send_request(client, message, NULL, error))
		return NULL;
	return take_answer(client, error);
}

gboolean ferry_qmp_client_pass_fd(FerryQmpClient *client, const char *name, int fd, GError **error)
{
	g_autoptr(GSocketControlMessage) passed = g_unix_fd_message_new();
	JsonObject *arguments = json_object_new();
	g_autoptr(JsonNode) message = request("getfd", arguments);
	g_autoptr(JsonNode) answer = NULL;
	g_autoptr(GError) why = NULL;

	json_object_set_string_member(arguments, "fdname", name);
	if (!g_unix_fd_message_append_fd(G_UNIX_FD_MESSAGE(passed), fd, &why)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID, "descriptor %d: %s", fd,
			    why->message);
		return FALSE;
	}
	if (!send_request(client, message, passed, error))
		return FALSE;
	answer = take_answer(client, error);
	return answer != NULL;
}

JsonNode *ferry_qmp_client_wait(FerryQmpClient *client, int timeout_ms, GError **error)
{
	JsonNode *message = g_queue_pop_head(&client->events);

	return message ? message : next_message(client, timeout_ms, error);
}

FerryQmpClient *ferry_qmp_client_new(const char *address, GError **error)
{
	g_autoptr(FerryQmpClient) client = g_new0(FerryQmpClient, 1);
	g_autoptr(JsonNode) greeting = NULL;
	g_autoptr(JsonNode) negotiated = NULL;

	client->address = g_strdup(address);
	client->input = g_string_new(NULL);
	g_queue_init(&client->events);
	if (!connect_to(client, error) || !(greeting = next_answer(client, error)))
		return NULL;
	if (!has(greeting, "QMP")) {
		lost(client, error, "what answers there does not speak QMP");
		return NULL;
	}
	negotiated = ferry_qmp_client_call(client, "qmp_capabilities", NULL, error);
	return negotiated ? g_steal_pointer(&client) : NULL;
}

void ferry_qmp_client_free(FerryQmpClient *client)
{
	if (!client)
		return;
	g_clear_object(&client->socket);
	g_queue_clear_full(&client->events, (GDestroyNotify)json_node_unref);
	g_string_free(client->input, TRUE);
	g_free(client->address);
	g_free(client);
}
